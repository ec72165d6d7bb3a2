#!/usr/bin/env bash
# test-windows.sh [SCENARIO...]: builds the library and the program for Windows, and runs the core's own tests and the
# process trees of windows-tests/scenarios.c, under Wine, or on Windows itself in a shell with a mingw-w64 compiler in its
# PATH.
set -euo pipefail
cd "$(dirname "$0")/.."
target=x86_64-pc-windows-gnu
out=target/windows-tests
mkdir -p "$out"

if [[ ${OS:-} == Windows_NT ]]; then
  built=target/$target/debug
  compiler=gcc
  in_toolchain=(env)
  run=()
else
  scripts/install-packages.sh gcc-mingw-w64-x86-64 wine wine64 || {
    echo 'SKIPPED: test-windows: no Wine, or no compiler for Windows'
    exit 0
  }
  built=target/cross/$target/debug
  compiler=x86_64-w64-mingw32-gcc
  in_toolchain=(scripts/cross.sh env)
  run=(scripts/cross.sh run-windows)
fi

# One line and exit status 77: the toolchain cannot be fetched here.
build() {
  local status=0
  "${in_toolchain[@]}" cargo "$@" --quiet --locked --target "$target" || status=$?
  ((status != 77)) || exit 0
  ((status == 0)) || exit "$status"
}
build build -p parentwatch-capi
build build -p parentwatch-cli
build test -p parentwatch --lib --no-run

"$compiler" -std=gnu11 -Wall -Wextra -Werror -O1 -I include -o "$out/scenarios.exe" windows-tests/scenarios.c \
  -L "$built" -l:liblocalai_parentwatch.dll.a
install -C "$built/localai_parentwatch.dll" "$built/localai-parentwatch.exe" "$out/"
# The newest one: older builds may be there too.
unit_tests=$(find "$built/deps" -name 'parentwatch-*.exe' -printf '%T@ %p\n' | sort -n | tail -n 1 | cut -d ' ' -f 2)
if (($# == 0)); then
  # Tests that are not about Windows, and take a minute there, run only on Linux.
  "${run[@]}" "$unit_tests" --quiet --skip explored
fi
exec "${run[@]}" "$out/scenarios.exe" "$@"
