#!/usr/bin/env bash
# static-size.sh PREFIX: prints how much the static library in PREFIX adds to a stripped C++ program that makes the one
# call, for each compiler. The exit status is 1 if it is more than promised with -Wl,--gc-sections.
set -euo pipefail
prefix=${1:?static-size.sh: expected the prefix that the library is installed in}
limit=$((450 * 1024))
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

cat >"$work/without.cpp" <<'SOURCE'
#include <iostream>
int main() { std::cout << "serving\n"; }
SOURCE
cat >"$work/with.cpp" <<'SOURCE'
#include <localai_parentwatch.h>
#include <iostream>
int main() {
    start_parent_death_watcher();
    std::cout << "serving\n";
}
SOURCE
read -ra libraries < <(sed -n 's/^Libs.private: //p' "$prefix/lib/pkgconfig/localai_parentwatch.pc")

# size COMPILER NAME FLAG...: prints the size of the stripped program.
size() {
  local compiler=$1 name=$2
  shift 2
  local link=()
  [[ $name == with ]] && link=(-I"$prefix/include" "$prefix/lib/liblocalai_parentwatch.a" "${libraries[@]}")
  "$compiler" -std=c++17 -O2 "$work/$name.cpp" -o "$work/$name" "$@" "${link[@]}"
  strip "$work/$name"
  stat -c %s "$work/$name"
}

too_much=0
for compiler in g++ clang++; do
  command -v "$compiler" >/dev/null || continue
  for flag in -Wl,--gc-sections ''; do
    without=$(size "$compiler" without ${flag:+"$flag"})
    with=$(size "$compiler" with ${flag:+"$flag"})
    added=$((with - without))
    printf '%-8s %-18s %7d - %6d = %6d bytes added, %d.%d KiB' "$compiler" "$flag" "$with" "$without" "$added" \
      $((added / 1024)) $((added % 1024 * 10 / 1024))
    if [[ -n $flag ]]; then
      printf ' (at most %d KiB)' $((limit / 1024))
      ((added <= limit)) || too_much=1
    fi
    echo
  done
done
exit $too_much
