#!/usr/bin/env bash
# seal-archive.sh ARCHIVE SHARED OUT LIBRARIES [MORE...]: links Rust's static library ARCHIVE, and the objects that it
# needs from the archives MORE, into one object in the archive OUT. That object defines only the functions that the shared
# library SHARED exports. A program links it with LIBRARIES, a list of flags. BINUTILS is the prefix of the binutils of
# another processor.
#
# Rust's archive contains the standard library with its symbols. A program that links a second Rust library, built by
# another release of rustc, would have `rust_eh_personality` twice, and would not link.
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

# Some objects also contain LLVM bitcode, on which binutils' plugins would fail.
cp "$archive" "$work/clean.a"
"${binutils}objcopy" --strip-debug --remove-section=.llvmbc --remove-section=.llvmcmd "$work/clean.a"
# The LTO object has everything that the functions use from all crates. The few compiler routines that it still needs are
# separate members. So --gc-sections would remove nothing, and it would harm: with it, `ld -r` of binutils 2.38 and older
# leaves the relocations of .eh_frame out of order.
# Without section groups: even a group with a local name would be merged with the group of that name in another library.
"${binutils}ld" -r --force-group-allocation "${roots[@]}" "$work/clean.a" "${@:5}" -o "$work/linked.o"
# --strip-unneeded: an undefined symbol without references would turn another library's weak reference into a strong one.
# Defined symbols stay, for debuggers and valgrind.
"${binutils}nm" --defined-only "$work/linked.o" | awk '{ print $3 }' >"$work/defined"
"${binutils}objcopy" --keep-global-symbols="$work/names" --strip-unneeded --keep-symbols="$work/defined" \
  "$work/linked.o" "$work/localai_parentwatch.o"

"${binutils}ar" crsD "$work/sealed.a" "$work/localai_parentwatch.o"
"$(dirname "$0")/check-archive.sh" "$work/sealed.a" "$shared" "$libraries"
# Replace it in one step, because another process may read it meanwhile.
cp "$work/sealed.a" "$out.new"
mv "$out.new" "$out"
