#!/usr/bin/env bash
# version.sh: checks that all files name the same version, and prints it.
# version.sh NEW: sets the version in all files, and moves the unreleased part of the changelog to it. Regenerates the
# lock files and man pages.
set -euo pipefail
cd "$(dirname "$0")/.."
new=${1:-}
number='[0-9]+\.[0-9]+\.[0-9]+'
[[ -z $new || $new =~ ^$number$ ]] || {
  echo "version.sh: expected MAJOR.MINOR.PATCH, not $new" >&2
  exit 2
}
current=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)

# Each file, and the text before the version in it.
places() {
  echo 'Cargo.toml|^version = "'
  echo 'Cargo.toml|^parentwatch = \{ path = "crates/parentwatch", version = "'
  echo 'docs/integration-cpp.md|localai-parentwatch-'
  echo 'docs/integration-localai.md|localai-parentwatch(/go v|-)'
  echo 'docs/integration-go.md|localai-parentwatch/go/native v'
  echo 'docs/integration-rust.md|^parentwatch = "'
  # The two Go modules that are released. Within the repository a replace has their folders instead.
  local go='mudler/localai-parentwatch/go(/native)? v'
  git grep -lE "$go" -- '*go.mod' | sed "s#\$#|$go#"
}

status=0
while IFS='|' read -r file before; do
  if [[ $new ]]; then
    sed -E -i "s#($before)$number#\1$new#" "$file"
  fi
  found=$(grep -oE -- "$before$number" "$file") || found=nothing
  if other=$(grep -vE -- "[^0-9]${new:-$current}\$" <<<"$found"); then
    echo "$file: $other, instead of ${new:-$current}" >&2
    status=1
  fi
done < <(places)

if [[ $new ]]; then
  grep -q "^## \[$new\]" CHANGELOG.md || sed -i "s/^## \[Unreleased\]\$/&\n\n## [$new] - $(date -u +%F)/" CHANGELOG.md
  cargo update --quiet --workspace
  cargo update --quiet --workspace --manifest-path fuzz/Cargo.toml
  make --no-print-directory pages
fi
echo "${new:-$current}"
exit "$status"
