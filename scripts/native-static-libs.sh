#!/usr/bin/env bash
# The system libraries that a program linking the static library needs, as rustc tells them.
set -euo pipefail
cd "$(dirname "$0")/.."
# rustc says it in a note, once per compilation: an empty crate has the same list as any.
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
: >"$work/empty.rs"
note=$(rustc --crate-type staticlib --print native-static-libs -o "$work/empty.a" "$work/empty.rs" 2>&1)
list=$(sed -n 's/^note: native-static-libs: //p' <<<"$note")
[[ -n $list ]] || { echo "native-static-libs: rustc did not tell the list; it said: $note" >&2; exit 1; }
echo "$list"
