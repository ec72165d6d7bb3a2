#!/usr/bin/env bash
# check-packages.sh FOLDER: are the packages in it what was promised? Their files, modes and owners; what they ask for,
# against what is in them; the package for this machine's processor installed, used and removed on Debian 11, which has
# no Rust; the one for Fedora unpacked and built with; and the list of crates against cargo's own.
# One line that begins with SKIPPED: and status 77 where there is no such Debian to be had.
set -euo pipefail
folder=$(realpath "${1:?check-packages.sh: expected a folder}")
cd "$(dirname "$0")/.."
source=$PWD
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
skipped=''

ok() { printf 'ok    %s\n' "$1"; }
wrong() {
  printf 'wrong %s\n' "$1"
  exit 1
}
# same WHAT WANTED FOUND
same() { [[ $2 == "$3" ]] || { diff <(echo "$2") <(echo "$3") || true; wrong "$1"; }; }

scripts/install-packages.sh binutils cmake cpio gcc jq libc6-dev make pkg-config rpm

# files LIBDIR GZ LICENCES...: every file with its mode.
files() {
  local page
  {
    printf -- '-rw-r--r-- %s\n' "${@:3}"
    for page in crates/parentwatch-cli/pages/*.1; do echo "-rw-r--r-- share/man/man1/$(basename "$page")$2"; done
    cat <<FILES
-rwxr-xr-x bin/localai-parentwatch
-rw-r--r-- include/localai_parentwatch.h
-rw-r--r-- include/parent_watch.h
-rw-r--r-- $1/cmake/localai_parentwatch/localai_parentwatch-config-version.cmake
-rw-r--r-- $1/cmake/localai_parentwatch/localai_parentwatch-config.cmake
-rw-r--r-- $1/liblocalai_parentwatch.a
lrwxrwxrwx $1/liblocalai_parentwatch.so
lrwxrwxrwx $1/liblocalai_parentwatch.so.0
-rwxr-xr-x $1/liblocalai_parentwatch.so.$version
-rw-r--r-- $1/pkgconfig/localai_parentwatch.pc
-rw-r--r-- share/bash-completion/completions/localai-parentwatch
-rw-r--r-- share/fish/vendor_completions.d/localai-parentwatch.fish
-rw-r--r-- share/zsh/site-functions/_localai-parentwatch
FILES
  } | LC_ALL=C sort -k 2
}

# contents NAME ROOT LIBDIR LICENCE NOTICES MACHINE: what was unpacked.
contents() {
  local library=$2/usr/$3/liblocalai_parentwatch.so file needs
  cmp -s LICENSE "$2/usr/$4" || wrong "$1: the licence"
  cmp -s THIRD-PARTY-LICENSES "$2/usr/$5" || wrong "$1: the licences of others"
  if grep -rlF -e "$source" -e "$HOME/" "$2"; then wrong "$1: these files tell where they have been built"; fi
  # By way of the links.
  for file in "$library.0" "$library" "$2/usr/bin/localai-parentwatch"; do
    readelf -h "$file" | grep -q "Machine: .*$6" || wrong "$1: $file is not for $6"
  done
  needs=$(readelf --version-info "$library" | grep -oE 'GLIBC_[0-9.]+' | sort -uV | tail -n 1)
  [[ $(printf '%s\n' "${needs#GLIBC_}" 2.17 | sort -V | tail -n 1) == 2.17 ]] ||
    wrong "$1: the library needs glibc ${needs#GLIBC_}, 2.17 was promised"
  if readelf -dW "$library" | grep NEEDED | grep -vE '\[(libc\.so\.6|libdl\.so\.2|libpthread\.so\.0|ld-linux-.*)\]'; then
    wrong "$1: the library needs more than glibc"
  fi
}

check_deb() {
  local deb=$folder/localai-parentwatch_$version-1_$1.deb
  local licences=(share/doc/localai-parentwatch/{copyright,THIRD-PARTY-LICENSES})
  [[ -e $deb ]] || wrong "there is no $deb"
  same "$1.deb: the fields" "localai-parentwatch $version-1 $1 libc6 (>= 2.17)" \
    "$(for field in Package Version Architecture Depends; do dpkg-deb -f "$deb" "$field"; done | paste -s -d ' ')"
  dpkg-deb --fsys-tarfile "$deb" | tar --numeric-owner -tv >"$work/list"
  same "$1.deb: the files" "$(files lib .gz "${licences[@]}")" \
    "$(sed -nE 's|^([^d][^ ]+) 0/0 .* \./usr/([^ ]+)( -> .*)?$|\1 \2|p' "$work/list" | LC_ALL=C sort -k 2)"
  if grep -vE '^[^ ]+ 0/0 .* \./' "$work/list"; then wrong "$1.deb: these are not root's"; fi
  if grep '^d' "$work/list" | grep -v '^drwxr-xr-x'; then wrong "$1.deb: the modes of these folders"; fi
  dpkg-deb --extract "$deb" "$work/$1"
  contents "$1.deb" "$work/$1" lib "${licences[@]}" "$2"
  ok "$(basename "$deb"): $(grep -vc '^d' "$work/list") files, $(stat -c %s "$deb") bytes"
}

check_rpm() {
  local rpm=$folder/localai-parentwatch-$version-1.$1.rpm
  local licences=(share/licenses/localai-parentwatch/{LICENSE,THIRD-PARTY-LICENSES})
  [[ -e $rpm ]] || wrong "there is no $rpm"
  rpm -K --nosignature "$rpm" >"$work/said" || wrong "$1.rpm: $(cat "$work/said")"
  same "$1.rpm: the tags" "localai-parentwatch $version-1 $1 localhost" \
    "$(rpm -qp --qf '%{NAME} %{VERSION}-%{RELEASE} %{ARCH} %{BUILDHOST}' "$rpm")"
  rpm -qp --qf '[%{FILEMODES:perms} %{FILEUSERNAME}/%{FILEGROUPNAME} %{FILENAMES}\n]' "$rpm" >"$work/list"
  same "$1.rpm: the files" "$(files lib64 '' "${licences[@]}")" \
    "$(sed -nE 's|^([^d][^ ]+) root/root /usr/(.*)|\1 \2|p' "$work/list" | LC_ALL=C sort -k 2)"
  if grep -v ' root/root /' "$work/list"; then wrong "$1.rpm: these are not root's"; fi
  if grep '^d' "$work/list" | grep -v '^drwxr-xr-x'; then wrong "$1.rpm: the modes of these folders"; fi
  same "$1.rpm: what it gives" "liblocalai_parentwatch.so.0()(64bit)" "$(rpm -qp --provides "$rpm" | grep '^lib')"
  # glibc's libraries, ldconfig, and what rpm itself must know.
  if rpm -qp --requires "$rpm" | grep -vE '^(libc|libdl|libpthread)\.so\.|^ld-linux-|^/sbin/ldconfig$|^rpmlib\('; then
    wrong "$1.rpm: it asks for more than glibc"
  fi
  mkdir "$work/$1"
  rpm2cpio "$rpm" | cpio --quiet -idm -D "$work/$1"
  contents "$1.rpm" "$work/$1" lib64 "${licences[@]}" "$2"
  ok "$(basename "$rpm"): $(grep -vc '^d' "$work/list") files, $(stat -c %s "$rpm") bytes"
}

# A program says which library it has found, and starts the watcher.
cat >"$work/program.c" <<'SOURCE'
#include <localai_parentwatch.h>
#include <stdio.h>
int main(void) {
    const int32_t status = start_parent_death_watcher();
    puts(localai_parentwatch_version());
    return LOCALAI_PARENTWATCH_IS_ERROR(status);
}
SOURCE

# The package for Fedora has its libraries elsewhere: pkg-config and CMake find them.
build_from_rpm() {
  local prefix=$work/$1/usr flags kind
  read -ra flags <<<"$(PKG_CONFIG_PATH=$prefix/lib64/pkgconfig pkg-config --cflags --libs localai_parentwatch)"
  gcc "$work/program.c" -o "$work/program" "${flags[@]}"
  same "$1.rpm: a program that pkg-config built" "$version" "$(LD_LIBRARY_PATH=$prefix/lib64 "$work/program")"
  cat >"$work/CMakeLists.txt" <<'CMAKE'
cmake_minimum_required(VERSION 3.15)
project(program C)
find_package(localai_parentwatch CONFIG REQUIRED)
foreach(kind static shared)
  add_executable(${kind} program.c)
  target_link_libraries(${kind} PRIVATE localai_parentwatch::${kind})
endforeach()
CMAKE
  # Its folder is named, because Debian's CMake does not look into lib64.
  { cmake -S "$work" -B "$work/cmake" -Dlocalai_parentwatch_DIR="$prefix/lib64/cmake/localai_parentwatch" &&
    cmake --build "$work/cmake"; } >"$work/said" 2>&1 || { cat "$work/said" && wrong "$1.rpm: CMake"; }
  for kind in static shared; do
    same "$1.rpm: a program that CMake built" "$version" "$("$work/cmake/$kind")"
  done
  ok "$1.rpm: programs are built with it by pkg-config and CMake"
}

# Below a folder, and without its scripts, which need a Fedora.
remove_rpm() {
  local root=$work/removed
  mkdir "$root"
  rpm --root "$root" -i --nodeps --noscripts "$folder/localai-parentwatch-$version-1.$1.rpm" >"$work/said" 2>&1 ||
    { cat "$work/said" && wrong "$1.rpm: it cannot be installed"; }
  [[ -x $root/usr/bin/localai-parentwatch ]] || wrong "$1.rpm: it installed no program"
  rpm --root "$root" -e --nodeps --noscripts localai-parentwatch >"$work/said" 2>&1 ||
    { cat "$work/said" && wrong "$1.rpm: it cannot be removed"; }
  # Every system has these.
  same "$1.rpm: removed" "$(printf '%s\n' bin include lib64 share share/licenses share/man share/man/man1)" \
    "$(cd "$root/usr" && find . -mindepth 1 | sed 's|^\./||' | LC_ALL=C sort)"
  ok "$1.rpm: removed, it leaves nothing"
}

install_deb() {
  local root
  root=$(scripts/another-debian.sh bullseye) || { local status=$?; echo "$root"; ((status == 77)) && skipped=1 && return; exit 1; }
  rm -rf "$root/try"
  mkdir "$root/try"
  cp "$work/program.c" "$folder/localai-parentwatch_$version-1_$1.deb" "$root/try/"
  cat >"$root/try/run" <<'RUN'
set -euo pipefail
wrong() { echo "wrong $1.deb: $2" && exit 1; }
everything() { find / -xdev -path /try -prune -o ! -path '/var/lib/dpkg/*' ! -path '/var/log/*' -print | LC_ALL=C sort; }
arch=$1 version=$2
# From an earlier run that was cut off.
! dpkg -s localai-parentwatch >/dev/null 2>&1 || dpkg --purge localai-parentwatch >/dev/null
everything >/try/before
dpkg --install /try/*.deb >/try/said 2>&1 || { cat /try/said; wrong "$arch" 'it cannot be installed'; }
ldconfig -p | grep -E 'liblocalai_parentwatch\.so\.0 .*=> (/usr)?/lib/' >/dev/null ||
  wrong "$arch" 'ldconfig does not know the library: the trigger'
[[ -z $(dpkg --verify localai-parentwatch) ]] || wrong "$arch" 'dpkg --verify'
[[ $(localai-parentwatch --version) == "localai-parentwatch $version" ]] || wrong "$arch" 'the program'
status=0; localai-parentwatch exec -- sh -c 'exit 7' || status=$?
((status == 7)) || wrong "$arch" "exec: status $status"
read -ra flags <<<"$(pkg-config --cflags --libs localai_parentwatch)"
gcc /try/program.c -o /try/program "${flags[@]}"
[[ $(/try/program) == "$version" ]] || wrong "$arch" 'a program with the shared library'
dpkg --purge localai-parentwatch >/try/said 2>&1 || { cat /try/said; wrong "$arch" 'it cannot be removed'; }
everything | diff /try/before - || wrong "$arch" 'removed, it leaves these'
. /etc/os-release
echo "ok    $arch.deb: $PRETTY_NAME installs it, runs it, builds with it, and removes all of it"
RUN
  # shellcheck disable=SC2016 # for the other shell
  unshare --mount --pid --fork --kill-child bash -euc \
    'mount -t proc proc "$1/proc"; mount --rbind /dev "$1/dev"; exec chroot "$1" bash /try/run "$2" "$3"' - "$root" "$1" "$version"
}

check_sbom() {
  local sbom=$folder/localai-parentwatch-$version.cdx.json target
  if grep -nF -e "$source" -e "$HOME/" -e file: -e serialNumber "$sbom"; then wrong 'the SBOM: these lines'; fi
  for target in {x86_64,aarch64}-unknown-linux-gnu; do
    same "the SBOM: the crates for $target" \
      "$(cargo tree --locked -p parentwatch-capi -p parentwatch-cli -e normal --target "$target" --prefix none --format '{p}' |
        cut -d ' ' -f 1,2 | sed '/^$/d' | LC_ALL=C sort -u)" "$(jq -r '.components[] | "\(.name) v\(.version)"' "$sbom" | LC_ALL=C sort)"
  done
  # Every one with a licence, and all but ours with a checksum; no dependency on what is not listed.
  jq -r '.components[] | select(
    (.licenses | length == 0) or (.hashes == null and (.name | startswith("parentwatch") | not))) | .name' "$sbom" >"$work/list"
  same 'the SBOM: what lacks a licence or a checksum' '' "$(cat "$work/list")"
  jq -r '[.components[]."bom-ref", .metadata.component."bom-ref"] as $known
    | .dependencies[] | .ref, .dependsOn[]? | select(IN($known[]) | not)' "$sbom" >"$work/list"
  same 'the SBOM: references to nothing' '' "$(cat "$work/list")"
  ok "$(basename "$sbom"): $(jq '.components | length' "$sbom") crates, each with its licence"
}

arch=$(dpkg --print-architecture)
machine=$(uname -m)
# What could not be made has said why: see packages.sh.
if ! compgen -G "$folder/*.deb" >/dev/null; then
  echo 'SKIPPED: .deb: there is none to check'
  skipped=1
else
  check_deb amd64 X86-64
  check_deb arm64 AArch64
  install_deb "$arch"
fi
check_rpm x86_64 X86-64
check_rpm aarch64 AArch64
build_from_rpm "$machine"
if ((EUID == 0)); then remove_rpm "$machine"; else
  echo "SKIPPED: $machine.rpm: to install it below a folder needs root"
  skipped=1
fi
if [[ -e $folder/localai-parentwatch-$version.cdx.json ]]; then check_sbom; else
  echo 'SKIPPED: SBOM: there is none to check'
  skipped=1
fi
[[ ! $skipped ]] || exit 77
