#!/usr/bin/env bash
# packages.sh TARGET...: a package for Debian (.deb) and one for Fedora and its kind (.rpm) for each of Rust's targets for
# Linux, and the list of the crates in them (an SBOM, CycloneDX), into dist/. They hold what `make install` installs.
# SOURCE_DATE_EPOCH is the time in all of them: the same sources make the same bytes.
set -euo pipefail
(($#)) || { echo 'packages.sh: expected targets' >&2; exit 2; }
export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:?packages.sh: expected the time of the sources}
cd "$(dirname "$0")/.."
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
tools=$PWD/target/tools
work=$PWD/target/packages
# Cargo.toml names it to cargo-deb.
tree=$work/root

deb() {
  "$tools/bin/cargo-deb" --quiet --offline --locked -p parentwatch-cli --no-build --no-strip --target "${1%%.*}" -o dist/ \
    >"$work/deb.log"
}

# By rpmbuild: cargo-generate-rpm 0.21 packages no symbolic links, but the library three times.
rpm() {
  # xz, because the rpm of the oldest systems with this glibc knows no zstd.
  rpmbuild -bb --target "${1%%-*}-linux" --define "_topdir $work/rpm" --define "_rpmdir $PWD/dist" \
    --define '_build_name_fmt %%{NAME}-%%{VERSION}-%%{RELEASE}.%%{ARCH}.rpm' --define '_binary_payload w6.xzdio' \
    --define '_buildhost localhost' --define 'use_source_date_epoch_as_buildtime 1' \
    --define 'clamp_mtime_to_source_date_epoch 1' --define "release_version $version" --define "tree $tree" \
    --define "sources $PWD" packaging/localai-parentwatch.spec >"$work/rpm.log" 2>&1 || { cat "$work/rpm.log" >&2 && exit 1; }
}

# cargo-cyclonedx writes beside each Cargo.toml: that is done in a copy of our crates that are shipped.
sbom() {
  local copy=$work/sbom shipped
  rm -rf "$copy"
  mkdir -p "$copy"
  cp -r --parents Cargo.{toml,lock} crates examples/worker-rust e2e/workers/rust "$copy/"
  shipped=$(cargo tree --locked -p parentwatch-capi -p parentwatch-cli -e normal --target "${1%%.*}" --prefix none \
    --format '{p}' | cut -d ' ' -f 1,2 | sort -u)
  (cd "$copy" && "$tools/bin/cargo-cyclonedx" cyclonedx --quiet --format json --all --no-build-deps --spec-version 1.5 \
    --target "${1%%.*}")
  jq --slurp --arg version "$version" --arg shipped "$shipped" -f scripts/sbom.jq \
    "$copy"/crates/parentwatch-{capi,cli}/*.cdx.json >"dist/localai-parentwatch-$version.cdx.json"
}

scripts/install-packages.sh jq rpm
mkdir -p dist
rm -rf "$work" dist/localai-parentwatch*.{deb,rpm,cdx.json}
mkdir -p "$work"
with_deb=''
! scripts/cargo-tool.sh cargo-deb 3.8.0 || with_deb=1
for target in "$@"; do
  rm -rf "$tree"
  make --no-print-directory -s install TARGET="$target" DESTDIR="$tree" PREFIX=/usr
  [[ ! $with_deb ]] || deb "$target"
  rpm "$target"
done
# The crates are the same for all of them.
! scripts/cargo-tool.sh cargo-cyclonedx 0.5.9 || sbom "$1"
