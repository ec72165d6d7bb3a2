#!/usr/bin/env bash
# cargo-tool.sh CRATE VERSION [OPTION...]: has the programs of a crate of crates.io in target/tools/bin. They are built once,
# by cargo install with OPTION. One line that begins with SKIPPED: and status 77 where that cannot be done.
set -euo pipefail
crate=${1:?cargo-tool.sh: expected a crate}
version=${2:?cargo-tool.sh: expected its version}
shift 2
cd "$(dirname "$0")/.."
tools=$PWD/target/tools
# What is there may be of another version.
[[ ! -e $tools/$crate-$version ]] || exit 0
echo "building $crate (once, takes minutes)" >&2
mkdir -p "$tools"
if ! CARGO_TARGET_DIR=$tools/build RUSTFLAGS='' cargo install --locked --force --root "$tools" "$@" "$crate@$version" \
  >"$tools/log" 2>&1; then
  echo "SKIPPED: $crate cannot be built: $(grep -m 1 '^error' "$tools/log" || tail -n 1 "$tools/log")"
  exit 77
fi
rm -rf "$tools/build" "$tools/$crate"-[0-9]*
touch "$tools/$crate-$version"
