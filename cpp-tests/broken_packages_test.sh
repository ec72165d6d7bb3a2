#!/usr/bin/env bash
# broken_packages_test.sh PREFIX WORK CMAKE: do the tests notice broken packages, such as a library that lacks a function,
# or a header of another ABI version? Makes such prefixes from PREFIX, and runs the tests on them.
set -euo pipefail
prefix=$1 work=$2 cmake=$3
here=$(cd "$(dirname "$0")" && pwd)
rm -rf "$work"
mkdir -p "$work"
unset CMAKE_PREFIX_PATH MAKEFLAGS MFLAGS MAKELEVEL

# attempt NAME: runs the tests on the prefix NAME.
attempt() {
  "$cmake" -S "$here" -B "$work/$1/build" -DCMAKE_PREFIX_PATH="$work/$1" -DPARENTWATCH_ABI_ONLY=ON \
    -Wno-dev && "$cmake" --build "$work/$1/build" &&
    "$work/$1/build/abi-shared" && "$work/$1/build/abi-static"
}

# fails NAME WHY: checks that the tests fail, and print WHY.
fails() {
  if attempt "$1" >"$work/$1/log" 2>&1; then
    echo "FAILED the tests pass with the prefix $1"
    exit 1
  fi
  grep -qE "$2" "$work/$1/log" || { echo "FAILED the prefix $1 was refused, and not because of $2:"; cat "$work/$1/log"; exit 1; }
  echo "ok     refused: $1 ($(grep -m 1 -oE "$2" "$work/$1/log"))"
}

copy() { cp -a "$prefix" "$work/$1"; }
header() { echo "$work/$1/include/localai_parentwatch.h"; }

copy whole
attempt whole >"$work/log" 2>&1 || { echo 'FAILED the unchanged copy is refused'; cat "$work/log"; exit 1; }
echo 'ok     the unchanged copy'

# A shared library that lacks one function. It need not work.
copy shared-without-a-function
library=$(readlink -f "$prefix/lib/liblocalai_parentwatch.so")
nm -D --defined-only "$library" | awk '$3 != "localai_parentwatch_token" { print "int " $3 "(void) { return 0; }" }' >"$work/stub.c"
"$CC" -fno-builtin -shared -fPIC -Wl,-soname,liblocalai_parentwatch.so.0 "$work/stub.c" \
  -o "$work/shared-without-a-function/lib/$(basename "$library")"
fails shared-without-a-function "undefined reference to .localai_parentwatch_token"

copy static-without-a-function
objcopy --localize-symbol=localai_parentwatch_token "$work/static-without-a-function/lib/liblocalai_parentwatch.a"
fails static-without-a-function "undefined reference to .localai_parentwatch_token"

# The opposite: a header that declares a function that no library has yet.
copy library-older-than-the-header
sed -i 's/^uint32_t localai_parentwatch_abi_version(void);/&\nint32_t localai_parentwatch_later(void);/' "$(header library-older-than-the-header)"
fails library-older-than-the-header "undefined reference to .localai_parentwatch_later"

copy header-without-a-function
sed -i '/^int32_t localai_parentwatch_parent_died(/d' "$(header header-without-a-function)"
fails header-without-a-function "localai_parentwatch_parent_died.? undeclared|use of undeclared identifier 'localai_parentwatch_parent_died'"

copy header-of-another-abi
sed -i 's/^#define LOCALAI_PARENTWATCH_ABI_VERSION .*/#define LOCALAI_PARENTWATCH_ABI_VERSION 0/' "$(header header-of-another-abi)"
fails header-of-another-abi "these tests are for ABI version 1"

# The library has another version than the header.
copy library-of-another-abi
sed 's/int localai_parentwatch_abi_version(void) { return 0; }/int localai_parentwatch_abi_version(void) { return 2; }/' "$work/stub.c" >"$work/stub2.c"
echo 'int localai_parentwatch_token(void) { return 0; }' >>"$work/stub2.c"
sed -i 's/int localai_parentwatch_version(void) { return 0; }/const char *localai_parentwatch_version(void) { return ""; }/' "$work/stub2.c"
"$CC" -fno-builtin -shared -fPIC -Wl,-soname,liblocalai_parentwatch.so.0 "$work/stub2.c" \
  -o "$work/library-of-another-abi/lib/$(basename "$library")"
fails library-of-another-abi "the header has ABI version 1, the library has 2"

copy header-with-other-structs
sed -i '/^  uint32_t flags;/d' "$(header header-with-other-structs)"
fails header-with-other-structs "[Ss]tatic.assert|no member named .flags"

copy without-the-archive
rm "$work/without-the-archive/lib/liblocalai_parentwatch.a"
fails without-the-archive "/without-the-archive/lib/liblocalai_parentwatch\.a$"

copy of-another-version
sed -i 's/set(PACKAGE_VERSION "[0-9.]*")/set(PACKAGE_VERSION "0.0.9")/' "$work"/of-another-version/lib/cmake/*/*-version.cmake
fails of-another-version "the CMake package has version 0.0.9"
