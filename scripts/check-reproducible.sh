#!/usr/bin/env bash
# check-reproducible.sh GOALS...: do the same sources make the same bytes in another folder? Runs make with each of GOALS, a
# list, in a copy of this tree, and compares the files in the dist/ of the copy with those in ours.
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
# The files in git, with changes that are not committed yet.
git ls-files -z --cached --others --exclude-standard | tar --null --files-from - -c | tar -C "$copy" -x
# Compilers and tools are not fetched again. They lie below the copy, as in a fresh clone.
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
