#!/usr/bin/env bash
# seal-archive.sh ARCHIVE SHARED OUT: makes of Rust's static library ARCHIVE one object in the archive OUT
# that defines the functions which the shared library SHARED exports, and nothing else.
#
# Rust's archive brings all of its standard library along, with the names of that. A program that links a
# second Rust library, made by another release of rustc, would have `rust_eh_personality` twice and not
# link. So the object keeps those names to itself.
#
# It is one unit made by LTO, with nothing in it that nobody calls. `ld -r --gc-sections` would do the same for many
# objects, but that of binutils 2.38 leaves .eh_frame unsorted: then no C++ exception finds its handler, anywhere in
# the program.
set -euo pipefail
archive=${1:?seal-archive.sh: expected an archive}
shared=${2:?seal-archive.sh: expected the shared library}
out=${3:?seal-archive.sh: expected the archive to write}

if [[ $(uname -s) != Linux ]]; then
  # The steps below are GNU's and ELF's.
  cp "$archive" "$out"
  exit 0
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
nm -D --defined-only "$shared" | awk '{ print $3 }' >"$work/names"
[[ -s $work/names ]] || { echo "seal-archive: $shared exports nothing" >&2; exit 1; }
mapfile -t roots < <(sed 's/^/--undefined=/' "$work/names")

# The standard library's objects hold LLVM bitcode too: binutils' plugins stumble over what is left of it.
cp "$archive" "$work/clean.a"
objcopy --strip-debug --remove-section=.llvmbc --remove-section=.llvmcmd "$work/clean.a"
# The members that the roots reach. Without the groups: a group whose name is local would still be merged, by that
# name, with the one of another library.
# A linker that only prints what is wrong ends with 0.
said=$(ld -r --force-group-allocation "${roots[@]}" "$work/clean.a" -o "$work/linked.o" 2>&1) ||
  { echo "seal-archive: ld failed: $said" >&2; exit 1; }
[[ -z $said ]] || { echo "seal-archive: expected ld to say nothing, it said: $said" >&2; exit 1; }
# --strip-unneeded: an undefined name that nothing refers to any more must not turn another library's weak
# reference into a strong one. The defined ones stay, for debuggers and valgrind.
nm --defined-only "$work/linked.o" | awk '{ print $3 }' >"$work/defined"
objcopy --keep-global-symbols="$work/names" --strip-unneeded --keep-symbols="$work/defined" \
  "$work/linked.o" "$work/localai_parentwatch.o"

defined=$(nm -g --defined-only "$work/localai_parentwatch.o" | awk '{ print $3 }' | sort)
[[ $defined == "$(sort "$work/names")" ]] ||
  { echo "seal-archive: expected the names of $shared alone, found: ${defined//$'\n'/ }" >&2; exit 1; }
# What the linker makes depends on its release: checked on the spot.
readelf -rW "$work/localai_parentwatch.o" |
  awk '/^Relocation section/ { in_frames = /\.rela?\.eh_frame/ } in_frames && /^[0-9a-f]+ / { print $1 }' >"$work/frames"
[[ -s $work/frames ]] || { echo "seal-archive: expected unwind information (.eh_frame), found none" >&2; exit 1; }
LC_ALL=C sort --check "$work/frames" 2>/dev/null || {
  echo "seal-archive: expected .eh_frame in order, found it unsorted: $(ld --version | head -n 1) broke it" >&2
  exit 1
}
# In one step, for whoever reads it meanwhile.
ar crsD "$work/sealed.a" "$work/localai_parentwatch.o"
cp "$work/sealed.a" "$out.new"
mv "$out.new" "$out"
