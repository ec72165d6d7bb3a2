#!/usr/bin/env bash
# check-archive.sh ARCHIVE: does a C++ exception still find its handler in a program that links ARCHIVE first? Unwind
# information that is out of order ends every exception in std::terminate.
set -euo pipefail
archive=${1:?check-archive.sh: expected an archive}
compiler=${CXX:-c++}
command -v "$compiler" >/dev/null || { echo "SKIPPED: a C++ exception beside $archive: there is no C++ compiler"; exit 0; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

cat >"$work/throws.cpp" <<'SOURCE'
#include <stdexcept>
extern "C" int start_parent_death_watcher(void);
int main(int count, char **) {
    int status = start_parent_death_watcher();
    try {
        if (count > 0) throw std::runtime_error("caught");
    } catch (const std::runtime_error &) {
        return status == 1 ? 0 : 2; // switched off
    }
    return 3;
}
SOURCE
read -ra libraries < <("$(dirname "$0")/native-static-libs.sh")
"$compiler" -c "$work/throws.cpp" -o "$work/throws.o"
said=$("$compiler" -Wl,--undefined=start_parent_death_watcher "$archive" "$work/throws.o" "${libraries[@]}" -o "$work/throws" 2>&1) ||
  { echo "check-archive: $compiler failed: $said" >&2; exit 1; }
# A linker that gives up on the unwind information prints that, and ends with 0.
[[ -z $said ]] || { echo "check-archive: expected $compiler to say nothing, it said: $said" >&2; exit 1; }
status=0
LOCALAI_BACKEND_PARENT_WATCH=off "$work/throws" || status=$?
if ((status != 0)); then
  echo "check-archive: expected a C++ program that links $archive first to catch its exception, found status $status" >&2
  exit 1
fi
