#!/usr/bin/env bash
# seal-archive.sh ARCHIVE SHARED OUT LIBRARIES [MORE...]: makes of Rust's static library ARCHIVE, and what it needs of
# the archives MORE, one object in the archive OUT that defines the functions which the shared library SHARED exports,
# and nothing else. A program links it with LIBRARIES, a list of flags. BINUTILS is the prefix of the binutils of
# another processor.
#
# Rust's archive brings its standard library along, with the names of that. A program that links a second
# Rust library, made by another release of rustc, would have `rust_eh_personality` twice and not link.
set -euo pipefail
archive=${1:?seal-archive.sh: expected an archive}
shared=${2:?seal-archive.sh: expected the shared library}
out=${3:?seal-archive.sh: expected the archive to write}
libraries=${4:?seal-archive.sh: expected the libraries that a program links it with}
binutils=${BINUTILS:-}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${binutils}nm" -D --defined-only "$shared" | awk '{ print $3 }' >"$work/names"
mapfile -t roots < <(sed 's/^/--undefined=/' "$work/names")

# Some objects hold LLVM bitcode too: binutils' plugins stumble over what is left of it.
cp "$archive" "$work/clean.a"
"${binutils}objcopy" --strip-debug --remove-section=.llvmbc --remove-section=.llvmcmd "$work/clean.a"
# The object that LTO made holds what the functions reach of all crates. The few routines for the compiler
# that it still needs are members of their own. There is nothing left to collect, which is as well: with
# --gc-sections `ld -r` of binutils 2.38 and before leaves the relocations of .eh_frame out of order.
# Without the groups: a group whose name is local would still be merged, by that name, with the one of
# another library.
"${binutils}ld" -r --force-group-allocation "${roots[@]}" "$work/clean.a" "${@:5}" -o "$work/linked.o"
# --strip-unneeded: an undefined name that nothing refers to any more must not turn another library's weak
# reference into a strong one. The defined ones stay, for debuggers and valgrind.
"${binutils}nm" --defined-only "$work/linked.o" | awk '{ print $3 }' >"$work/defined"
"${binutils}objcopy" --keep-global-symbols="$work/names" --strip-unneeded --keep-symbols="$work/defined" \
  "$work/linked.o" "$work/localai_parentwatch.o"

"${binutils}ar" crsD "$work/sealed.a" "$work/localai_parentwatch.o"
"$(dirname "$0")/check-archive.sh" "$work/sealed.a" "$shared" "$libraries"
# In one step, for whoever reads it meanwhile.
cp "$work/sealed.a" "$out.new"
mv "$out.new" "$out"
