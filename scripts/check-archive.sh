#!/usr/bin/env bash
# check-archive.sh ARCHIVE SHARED LIBRARIES: can every program link the sealed archive ARCHIVE? It must define only the
# functions of the shared library SHARED, and its unwind information must be in order. A C++ exception must reach its
# handler in a program that links the archive first. For each fault it prints one line to stderr, and the exit status
# is 1. For another processor, CXX is its compiler, BINUTILS the prefix of its binutils, and EMULATOR runs its programs.
set -euo pipefail
archive=${1:?check-archive.sh: expected an archive}
shared=${2:?check-archive.sh: expected the shared library}
libraries=${3:?check-archive.sh: expected the libraries that a program links it with}
binutils=${BINUTILS:-}
export LC_ALL=C
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

fail() {
  echo "check-archive: $archive: $*" >&2
  exit 1
}

wanted=$("${binutils}nm" -D --defined-only "$shared" | awk '{ print $3 }' | sort)
defined=$("${binutils}nm" -g --defined-only "$archive" | awk 'NF == 3 { print $3 }' | sort)
[[ -n $wanted ]] || fail "$shared exports nothing"
[[ $defined == "$wanted" ]] || fail "expected the names of $shared alone, found: ${defined//$'\n'/ }"

# Linkers read .eh_frame and its relocations in parallel. If the relocations are out of order, the whole program gets no
# table of its unwind information.
"${binutils}readelf" -rW "$archive" >"$work/relocations"
awk '/^Relocation section/ { here = /\.rela?\.eh_frame/ }
     # Compare as text: awk would read 0000e100 as a number with an exponent.
     here && $1 ~ /^[0-9a-f]+$/ { count++; if (("x" $1) < last) { wrong = 1; exit } last = "x" $1 }
     END { exit wrong || !count }' "$work/relocations" ||
  fail 'expected that the offsets in .rela.eh_frame rise; exceptions of the whole program would not be caught'
warnings=$("${binutils}readelf" --debug-dump=frames "$archive" 2>&1 >/dev/null)
[[ -z $warnings ]] || fail "expected an .eh_frame that readelf can read; it says: $warnings"

read -ra compiler <<<"${CXX:-c++}"
if ! command -v "${compiler[0]}" >/dev/null; then
  echo "SKIPPED: a C++ exception beside the archive: there is no ${compiler[0]}"
  exit 0
fi
cat >"$work/throws.cpp" <<'SOURCE'
#include <stdexcept>
int main() {
    try {
        throw std::runtime_error("on purpose");
    } catch (const std::exception &) {
        return 0;
    }
}
SOURCE
"${compiler[@]}" -c "$work/throws.cpp" -o "$work/throws.o"
linked=0
# -u: otherwise the linker takes nothing from an archive that comes before the objects that need it.
# shellcheck disable=SC2086 # a list of flags
"${compiler[@]}" "-Wl,-u,${wanted%%$'\n'*}" "$archive" "$work/throws.o" $libraries -o "$work/throws" 2>"$work/said" || linked=$?
cat "$work/said" >&2
((linked == 0)) || fail "${compiler[*]} does not link a C++ program with it"
# GNU's linker exits with 0 after "error in ...(.eh_frame); no .eh_frame_hdr table will be created".
! grep -q eh_frame "$work/said" || fail "${compiler[*]} does not understand its .eh_frame"
${EMULATOR:-} "$work/throws" || fail "expected that a C++ exception is caught in a program that has it first; exit status $?"
