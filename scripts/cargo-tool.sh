#!/usr/bin/env bash
# cargo-tool.sh CRATE VERSION [OPTION...]: installs the programs of a crate from crates.io into target/tools/bin, once.
# OPTION is for cargo install. If it fails, it prints one line that begins with SKIPPED:, and the exit status is 77.
set -euo pipefail
crate=${1:?cargo-tool.sh: expected a crate}
version=${2:?cargo-tool.sh: expected its version}
shift 2
cd "$(dirname "$0")/.."
tools=$PWD/target/tools
# The program does not tell its version: this file does.
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
