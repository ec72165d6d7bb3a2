#!/usr/bin/env bash
# check-dist.sh TARBALL [TARGET]: is the tarball as promised? Checks its checksum, its files, which glibc the libraries
# need, and that a program builds with it and starts the watcher. It is for this machine, or for TARGET.
set -euo pipefail
tarball=$(realpath "${1:?check-dist.sh: expected a tarball}")
target=${2:-}
source=$(cd "$(dirname "$0")/.." && pwd)
name=$(basename "$tarball" .tar.gz)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

cc=(gcc) binutils='' emulator=()
if [[ $target ]]; then
  arch=${target%%-*}
  # For glibc it links only with the functions of the oldest release.
  cc=("$source/scripts/cross.sh" env python-zig cc -target "${target/-unknown/}")
  binutils=$arch-linux-gnu-
  [[ $arch == "$(uname -m)" ]] || emulator=("qemu-$arch-static" -L "/usr/$arch-linux-gnu")
fi

# The newest glibc that the shared library may need: 2.34 moved the thread functions into libc itself, and a library
# linked on a newer glibc needs them there.
shared_limit=2.34
[[ $target != *-gnu.* ]] || shared_limit=${target##*-gnu.}
# The archive has no symbol versions. All the functions that it needs exist since this release (weak ones may be missing).
static_limit=2.26

ok() { printf 'ok    %s\n' "$1"; }
wrong() {
  printf 'wrong %s\n' "$1"
  exit 1
}
# at_most VERSION LIMIT
at_most() { [[ $(printf '%s\n' "$1" "$2" | sort -V | tail -n 1) == "$2" ]]; }

(cd "$(dirname "$tarball")" && sha256sum --quiet -c "$(basename "$tarball").sha256") || wrong 'the checksum'
ok "sha256 $(cut -c 1-16 "$tarball.sha256")…"
tar -C "$work" -xzf "$tarball"
prefix=$work/$name
version=$(sed -n 's/^Version: //p' "$prefix/lib/pkgconfig/localai_parentwatch.pc")
pages="share/bash-completion/completions/localai-parentwatch
share/fish/vendor_completions.d/localai-parentwatch.fish
$(cd "$source/crates/parentwatch-cli/pages" && printf 'share/man/man1/%s\n' *.1 | LC_ALL=C sort)
share/zsh/site-functions/_localai-parentwatch"
wanted="LICENSE
THIRD-PARTY-LICENSES
bin/localai-parentwatch
include/localai_parentwatch.h
include/parent_watch.h
lib/cmake/localai_parentwatch/localai_parentwatch-config-version.cmake
lib/cmake/localai_parentwatch/localai_parentwatch-config.cmake
lib/liblocalai_parentwatch.a
lib/liblocalai_parentwatch.so
lib/liblocalai_parentwatch.so.0
lib/liblocalai_parentwatch.so.$version
lib/pkgconfig/localai_parentwatch.pc
$pages"
found=$(cd "$prefix" && find . ! -type d | sed 's|^\./||' | LC_ALL=C sort)
[[ $found == "$wanted" ]] || { diff <(echo "$wanted") <(echo "$found") || true; wrong 'the files'; }
[[ $name == *"-$version-"* ]] || wrong "the name says another version than $version"
ok "$(wc -l <<<"$wanted") files, $(stat -c %s "$tarball") bytes"
if grep -rlF -e "$source" -e "$HOME/" "$prefix"; then wrong 'these files tell where they have been built'; fi
ok 'no path of the machine that built it'

# The program is small, and needs no other file.
program=$prefix/bin/localai-parentwatch
program_limit=$((1536 * 1024))
size=$(stat -c %s "$program")
((size <= program_limit)) || wrong "the program has $size bytes, at most $program_limit were promised"
if "${binutils}readelf" -lW "$program" | grep -q INTERP; then wrong 'the program asks for a dynamic linker'; fi
mkdir "$work/alone"
cp "$program" "$work/alone/"
if ((${#emulator[@]})); then
  cp "$(command -v "${emulator[0]}")" "$work/alone/emulator"
  said=$(unshare --map-root-user chroot "$work/alone" /emulator /localai-parentwatch --version) || wrong 'the program does not run alone'
else
  said=$(unshare --map-root-user chroot "$work/alone" /localai-parentwatch --version) || wrong 'the program does not run alone'
fi
[[ $said == "localai-parentwatch $version" ]] || wrong "the program says $said"
ok "the program, static, $size bytes, runs in an empty folder"

if [[ $target == *-musl ]]; then
  asked=$("${binutils}objdump" -T "$prefix/lib/liblocalai_parentwatch.so" | grep -c GLIBC_ || true)
  ((asked == 0)) || wrong 'the shared library asks for glibc'
  ok 'the shared library asks for no glibc'
else
  shared=$("${binutils}objdump" -T "$prefix/lib/liblocalai_parentwatch.so" | grep -oE 'GLIBC_[0-9.]+' | sort -uV | tail -n 1)
  shared=${shared#GLIBC_}
  [[ -n $shared ]] || wrong 'the shared library asks for no version of glibc, which cannot be'
  at_most "$shared" "$shared_limit" || wrong "the shared library needs glibc $shared, at most $shared_limit was promised"
  ok "the shared library needs glibc $shared or later"
fi

if [[ -z $target ]]; then
  # The release that introduced each name that the archive needs. Before 2.33, stat and similar functions were in the
  # static part of libc, without symbols.
  for library in libc.so.6 libm.so.6 "$(basename "$(sed -n 's/.*interpreter: \(.*\)].*/\1/p' < <(readelf -lW "$(command -v sh)"))")"; do
    objdump -T "$(gcc -print-file-name="$library")"
  done | sed -nE 's/.*[ (]GLIBC_([0-9.]+)\)? +([^ ]+)$/\2 \1/p' | sort -k 1,1 -k 2,2V | awk '!seen[$1]++' >"$work/known"
  nm -u "$prefix/lib/liblocalai_parentwatch.a" | awk '$1 == "U" { print $2 }' | grep -vxE 'f?stat(64)?|_Unwind_.*' | sort >"$work/asked"
  join -v 1 "$work/asked" "$work/known" >"$work/unknown"
  [[ ! -s $work/unknown ]] || wrong "neither libc nor libgcc has $(tr '\n' ' ' <"$work/unknown")"
  static=$(join "$work/asked" "$work/known" | sort -k 2,2V | tail -n 1)
  at_most "${static#* }" "$static_limit" || wrong "the archive needs glibc ${static#* } for ${static% *}, at most $static_limit was promised"
  ok "the archive needs glibc ${static#* } or later (${static% *})"
fi

cat >"$work/program.c" <<'SOURCE'
#include <localai_parentwatch.h>
#include <stdio.h>
int main(void) {
    const int32_t status = start_parent_death_watcher();
    printf("%s %s\n", localai_parentwatch_version(), localai_parentwatch_status_text(status));
    return LOCALAI_PARENTWATCH_IS_ERROR(status);
}
SOURCE
flags=$(PKG_CONFIG_PATH=$prefix/lib/pkgconfig pkg-config --static --cflags --libs localai_parentwatch)
read -ra shared_flags <<<"$flags"
read -ra static_flags <<<"${flags/-llocalai_parentwatch/$prefix/lib/liblocalai_parentwatch.a}"
"${cc[@]}" "$work/program.c" -o "$work/program" "${static_flags[@]}"
[[ $("${emulator[@]}" "$work/program") == "$version "* ]] || wrong 'a program that links the archive'
ok 'a program links the archive and starts the watcher'
# A program for musl with a shared library would need musl on this machine: link it, but do not run it.
dynamic=()
[[ $target != *-musl ]] || dynamic=(-dynamic)
"${cc[@]}" "${dynamic[@]}" "$work/program.c" -o "$work/program" "${shared_flags[@]}" "-Wl,-rpath,$prefix/lib"
if [[ $target != *-musl ]]; then
  [[ $("${emulator[@]}" "$work/program") == "$version "* ]] || wrong 'a program that links the shared library'
  ok 'a program links the shared library and starts the watcher'
fi

# The one for this processor that other systems get: used by everything in cpp-tests, from where it is unpacked.
if [[ $target == "$(uname -m)"-*-gnu.* ]]; then
  env -u MAKEFLAGS -u MAKELEVEL make --no-print-directory -C "$source" check-cpp-unpacked CPP_PREFIX="$prefix"
  ok 'cpp-tests, with what was unpacked elsewhere'
fi
