#!/usr/bin/env bash
# notices.sh FILE: writes the licences of all code that a release links into FILE: the crates of the library, the program
# and the Python module, Rust's standard library, musl, and what zig adds. Without the toolchain of cross.sh it prints one
# line that begins with SKIPPED:, and the exit status is 77.
set -euo pipefail
file=$(realpath "${1:?notices.sh: expected a file to write}")
cd "$(dirname "$0")/.."
scripts/cross.sh env true
scripts/cargo-tool.sh cargo-about 0.9.3 --features cli
scripts/install-packages.sh jq
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
tools=${PARENTWATCH_CROSS_TOOLCHAIN:-$PWD/target/cross-toolchain}

# about NAME [OPTION...]
about() {
  target/tools/bin/cargo-about generate --locked --fail --format json --config about.toml --output-file "$work/$1.json" "${@:2}" \
    >"$work/said" 2>&1 || { cat "$work/said" >&2 && exit 1; }
}
for crate in capi cli python; do about "$crate" --manifest-path "crates/parentwatch-$crate/Cargo.toml"; done
# The features are cargo's default for -Zbuild-std. Windows is left out: a crate of the library itself, windows-link, names
# no licence there.
rust=("$tools"/root/usr/src/rustc-*)
RUSTC_BOOTSTRAP=1 about std --manifest-path "${rust[0]}/library/std/Cargo.toml" --features 'backtrace panic-unwind' \
  --target x86_64-unknown-linux-gnu --target aarch64-unknown-linux-musl --target aarch64-apple-darwin
zig=("$tools"/zig/lib/python*/site-packages/ziglang)
jq --slurp --raw-output --arg rust "${rust[0]##*-}" --rawfile musl "${zig[0]}/lib/libc/musl/COPYRIGHT" \
  --rawfile zig "${zig[0]}/LICENSE" -f scripts/notices.jq "$work"/*.json >"$work/notices"
if grep -nE '<(year|copyright holders?)>' "$work/notices"; then
  echo 'notices.sh: a crate has no licence file: cargo-about printed the blank form above' >&2
  exit 1
fi
cp "$work/notices" "$file"
