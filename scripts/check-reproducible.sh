#!/usr/bin/env bash
# check-reproducible.sh GOALS...: do the same sources make the same bytes in another folder? Each of GOALS is what make is
# to do in a copy of this tree. What that writes into its dist/ is compared with the files in ours.
# SOURCE_DATE_EPOCH is the time of the sources.
set -euo pipefail
(($#)) || { echo 'check-reproducible.sh: expected what make is to do' >&2; exit 2; }
export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:?check-reproducible.sh: expected the time of the sources}
cd "$(dirname "$0")/.."
work=$PWD/target/again
copy=$work/a-copy-of-the-sources
trap 'rm -rf "$work"' EXIT
rm -rf "$work"
mkdir -p "$copy/target"
# What git knows or would add: with what is not committed yet.
git ls-files -z --cached --others --exclude-standard | tar --null --files-from - -c | tar -C "$copy" -x
# What was fetched and built once. cargo has the place of the compiler's library in the names of functions, unless that is
# below the sources.
for kept in cross-toolchain tools; do
  [[ ! -e target/$kept ]] || cp -al "target/$kept" "$copy/target/"
done

for goals in "$@"; do
  # shellcheck disable=SC2086 # a list
  env -u MAKEFLAGS -u MAKELEVEL make --no-print-directory -s -C "$copy" $goals
done
failed=0
for file in "$copy"/dist/*; do
  name=${file##*/}
  if cmp "dist/$name" "$file"; then
    echo "ok    $name, built twice: sha256 $(sha256sum "$file" | cut -c 1-16)…"
    continue
  fi
  failed=1
  echo "wrong $name, built twice: other bytes"
  [[ $name == *.tar.gz ]] || continue
  mkdir -p "$work/first" "$work/second"
  tar -C "$work/first" -xzf "dist/$name"
  tar -C "$work/second" -xzf "$file"
  diff -rq "$work/first" "$work/second" || true
done
exit "$failed"
