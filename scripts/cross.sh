#!/usr/bin/env bash
# cross.sh: builds for another system or processor.
#
#   cross.sh check aarch64-apple-darwin -p parentwatch            cargo check
#   cross.sh build x86_64-pc-windows-gnu -p parentwatch-cli       cargo build
#   cross.sh rustc aarch64-unknown-linux-gnu.2.17 -p …            cargo rustc
#   cross.sh env COMMAND [ARGUMENT...]                            any command, with the toolchain in its environment
#   cross.sh run-windows PROGRAM.exe [ARGUMENT...]                runs a program for Windows under Wine
#
# The results are in target/cross/TARGET/PROFILE. A glibc target may end in the oldest glibc release.
#
# The compiler is Debian's rustc-web, because Debian has the source of its standard library, which is compiled with the
# program (-Zbuild-std). zig, from PyPI, links for Linux and macOS; mingw, from Debian, for Windows. All of them are kept
# in target/cross-toolchain. If they cannot be fetched, it prints one line that begins with SKIPPED:, and the exit status
# is 77.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
tools=${PARENTWATCH_CROSS_TOOLCHAIN:-$root/target/cross-toolchain}

skip() {
  echo "SKIPPED: building for another system: $*"
  exit 77
}

# Debian's packages: the compiler, its libraries, and the source of the standard library of the same release.
unpack_compiler() {
  local packages=(rustc-web rust-web-src libstd-rust-web-dev) library deb
  # The lists of packages may be missing or old.
  apt-cache show rust-web-src || apt-get update
  # Two of them have the release in their names.
  for library in 'libstd-rust-web-[0-9.]+' 'libllvm[0-9]+'; do
    packages+=("$(apt-cache depends "${packages[-1]}" | sed -nE "s/.*Depends: ($library)$/\\1/p" | head -n 1)")
  done
  (cd "$tools" && apt-get -qq download "${packages[@]}") || return
  for deb in "$tools"/*.deb; do dpkg-deb --extract "$deb" "$tools/root" || return; done
  rm "$tools"/*.deb
}

install_linker() {
  python3 -m venv "$tools/zig" &&
    "$tools/zig/bin/pip" install --quiet --disable-pip-version-check -r "$root/scripts/cross-requirements.txt"
}

made_by() { declare -f unpack_compiler install_linker && cat "$root/scripts/cross-requirements.txt"; }

fetch() {
  # Start afresh: the folder may be from another version of this script, or incomplete.
  made_by | cmp -s - "$tools/.made-by" && return
  [[ $(dpkg --print-architecture 2>&1) == amd64 && $(cat /etc/debian_version) == 12.* ]] ||
    skip 'the compiler for it is only in Debian 12 for x86-64'
  echo 'cross: fetching a compiler and a linker (once)' >&2
  rm -rf "$tools"
  mkdir -p "$tools"
  if ! { unpack_compiler && install_linker; } >"$tools/log" 2>&1; then
    skip "$(grep -m 1 '^E:' "$tools/log" || tail -n 1 "$tools/log")"
  fi
  made_by >"$tools/.made-by"
}

environment() {
  fetch >&3
  export RUSTC=$tools/root/usr/bin/rustc LD_LIBRARY_PATH=$tools/root/usr/lib/x86_64-linux-gnu
  # Allows the unstable features that compile the standard library.
  export RUSTC_BOOTSTRAP=1 CARGO_UNSTABLE_BUILD_STD=std,panic_abort
  export CARGO_TARGET_DIR=$root/target/cross PATH=$tools/zig/bin:$PATH
  export ZIG_GLOBAL_CACHE_DIR=$root/target/cross/zig ZIG_LOCAL_CACHE_DIR=$root/target/cross/zig
  export CARGO_TARGET_X86_64_PC_WINDOWS_GNU_LINKER=x86_64-w64-mingw32-gcc
  # Replace the paths of the sources, so that the same sources give the same bytes on every machine. The last match
  # counts. cargo uses relative paths for files below the workspace.
  export RUSTFLAGS="${RUSTFLAGS:-} --remap-path-prefix=$root=. --remap-path-prefix=$tools/root/usr=rust --remap-path-prefix=${tools#"$root/"}/root/usr=rust --remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}=cargo"
  unset RUSTC_WRAPPER
}

exec 3>&1
verb=${1:?cross.sh: expected check, build, rustc, env or run-windows}
shift
case $verb in
  check)
    environment
    exec cargo check --target "$@"
    ;;
  build | rustc)
    target=${1:?cross.sh: expected a target}
    environment
    if [[ $target == *-windows-* ]]; then
      "$root/scripts/install-packages.sh" gcc-mingw-w64-x86-64
      exec cargo "$verb" --target "$@"
    fi
    [[ $verb == rustc ]] || verb=zigbuild
    exec cargo-zigbuild "$verb" --target "$@"
    ;;
  env)
    environment
    exec "$@"
    ;;
  run-windows)
    program=${1:?cross.sh: expected a program}
    shift
    "$root/scripts/install-packages.sh" gcc-mingw-w64-x86-64 wine wine64 || skip 'there is no Wine'
    # Debian 12's Wine lacks one function that Rust's standard library calls: put it beside the program.
    shim=$(dirname "$program")/bcryptprimitives.dll
    if [[ ! -e $shim ]]; then
      x86_64-w64-mingw32-gcc -shared -o "$shim" -x c - -ladvapi32 <<'C'
#include <windows.h>
BOOLEAN NTAPI SystemFunction036(PVOID, ULONG);
__declspec(dllexport) BOOL WINAPI ProcessPrng(PBYTE out, SIZE_T n) { return SystemFunction036(out, (ULONG)n); }
C
    fi
    export WINEDEBUG=${WINEDEBUG:--all} WINEPREFIX=${WINEPREFIX:-$root/target/wine}
    exec /usr/lib/wine/wine64 "$program" "$@"
    ;;
  *)
    echo "cross.sh: expected check, build, rustc, env or run-windows, not '$verb'" >&2
    exit 2
    ;;
esac
