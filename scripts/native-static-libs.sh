#!/usr/bin/env bash
# Prints the system libraries that a program needs if it links the static library.
set -euo pipefail
cd "$(dirname "$0")/.."
# rustc prints them in a note, once per compilation. The list is the same for every crate, so compile an empty one.
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
: >"$work/empty.rs"
note=$(rustc --crate-type staticlib --print native-static-libs -o "$work/empty.a" "$work/empty.rs" 2>&1)
list=$(sed -n 's/^note: native-static-libs: //p' <<<"$note")
[[ -n $list ]] || { echo "native-static-libs: rustc did not tell the list; it said: $note" >&2; exit 1; }
echo "$list"
