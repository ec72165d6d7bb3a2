#!/usr/bin/env bash
# check-macos.sh: links the library and the program for macOS, with zig's list of the symbols in libSystem, and checks
# which symbols they need. It runs none of them. Prints one line for each check. If they cannot be built here, it prints a
# line that begins with SKIPPED:, and the exit status is 77.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/install-packages.sh llvm >/dev/null
# The cross toolchain has no strip.
export CARGO_PROFILE_RELEASE_LIBRARY_STRIP=none CARGO_PROFILE_RELEASE_PROGRAM_STRIP=none
failed=0

expect() { # what, expected, found
  if [[ $2 == "$3" ]]; then
    printf 'ok    %s\n' "$1"
  else
    printf 'wrong %s\n  expected: %s\n  found:    %s\n' "$1" "${2//$'\n'/ }" "${3//$'\n'/ }"
    failed=1
  fi
}

build() { # what scripts/cross.sh is to do
  local status=0
  scripts/cross.sh "$@" --locked --quiet >target/check-macos.log 2>&1 || status=$?
  if ((status)); then
    cat target/check-macos.log
    exit "$status"
  fi
}

mkdir -p target
documented=$(sed -nE '/^static/d; s/^[a-z].*[ *]([a-z_]+)\(.*/_\1/p' include/localai_parentwatch.h | grep -v '_t$' | sort)
# What macOS's module is made of.
wanted=$(printf '_%s\n' fork kevent kqueue minherit proc_listpids proc_pidinfo pthread_setname_np sysctl | sort)

for target in aarch64-apple-darwin x86_64-apple-darwin; do
  build rustc "$target" -p parentwatch-capi --profile release-library --crate-type cdylib
  build build "$target" -p parentwatch-cli --profile release-program
  library=target/cross/$target/release-library/liblocalai_parentwatch.dylib
  program=target/cross/$target/release-program/localai-parentwatch
  expect "$target: exported symbols are the documented ones" "$documented" \
    "$(llvm-nm -g --defined-only "$library" | sed -n 's/.* T //p' | grep -v '^_rust_eh_personality$' | sort)"
  expect "$target: its name has no folder of this machine" '@rpath/liblocalai_parentwatch.0.dylib' \
    "$(llvm-objdump --macho --dylib-id "$library" | tail -n 1)"
  for file in "$library" "$program"; do
    needed=$(llvm-objdump --macho --dylibs-used "$file" | sed -nE 's/^\s+(\S+) \(.*/\1/p' | grep -v '^@rpath' | sort)
    expect "$target: ${file##*/} needs what every macOS has" \
      $'/usr/lib/libSystem.B.dylib\n/usr/lib/libcharset.1.dylib\n/usr/lib/libiconv.2.dylib' "$needed"
  done
  # On macOS the program has no guardian, so it watches no process.
  expect "$target: the library asks for what the module is made of" "$wanted" \
    "$(llvm-nm -u --format=just-symbols "$library" | sort -u | comm -12 - <(echo "$wanted"))"
done
exit $failed
