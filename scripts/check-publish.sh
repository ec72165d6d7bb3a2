#!/usr/bin/env bash
# check-publish.sh CRATE...: are the crates ready for crates.io? Packs each, builds it from its package only, and runs
# cargo publish without an upload.
set -euo pipefail
cd "$(dirname "$0")/.."
wrong() {
  printf 'wrong %s\n' "$1"
  exit 1
}

# cargo can publish several crates that depend on each other at once since 1.90.
minor=$(cargo --version | sed -n 's/^cargo 1\.\([0-9]*\).*/\1/p')
if ((minor < 90)); then
  echo "SKIPPED: publishing: cargo 1.$minor cannot publish crates that depend on each other; 1.90 can"
  exit 0
fi

packages=()
for crate in "$@"; do packages+=(--package "$crate"); done
log=$(mktemp)
trap 'rm -f "$log"' EXIT
cargo publish --dry-run --allow-dirty --locked "${packages[@]}" >"$log" 2>&1 || { cat "$log"; wrong 'cargo publish'; }
# Cargo warns about missing fields. Only one warning is allowed: that nothing was uploaded.
warnings=$(grep '^warning' "$log" | grep -vx 'warning: aborting upload due to dry run' || true)
[[ -z $warnings ]] || wrong "cargo publish warns: $warnings"

version=$(scripts/version.sh)
for crate in "$@"; do
  package=target/package/$crate-$version
  cmp LICENSE "$package/LICENSE" || wrong "the licence of $crate"
  for field in description license readme repository keywords categories rust-version; do
    grep -q "^$field = " "$package/Cargo.toml" || wrong "$crate has no $field"
  done
  python3 scripts/check_links.py --published "$package/README.md" || wrong "the links of $crate"
  echo "ok    $crate $version, $(find "$package" -type f -printf . | wc -c) files"
done
