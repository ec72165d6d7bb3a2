#!/usr/bin/env bash
# another-debian.sh SUITE [NAME PACKAGES]: installs another Debian, SUITE, once, and prints its folder: target/NAME/SUITE,
# with PACKAGES. By default it is target/elsewhere/SUITE, with gcc and Python but without Rust. If it cannot be installed,
# the script prints one line that begins with SKIPPED:, and the exit status is 77.
set -euo pipefail
suite=${1:?another-debian.sh: expected the name of a release of Debian}
cd "$(dirname "$0")/.."
root=$PWD/target/${2:-elsewhere}/$suite
packages=${3:-gcc,libc6-dev,musl-tools,pkg-config,python3}

skip() {
  echo "SKIPPED: on Debian $suite: $*"
  exit 77
}

((EUID == 0)) || skip 'debootstrap and chroot need root'
scripts/install-packages.sh debootstrap || skip 'there is no debootstrap'
# The file marks it as complete.
if [[ $(cat "$root/.ready" 2>/dev/null) != "$packages" ]]; then
  rm -rf "$root"
  mkdir -p "$root"
  debootstrap --variant=minbase --include="$packages" "$suite" "$root" >"$root.log" 2>&1 ||
    skip "debootstrap: $(grep -m 1 '^E:' "$root.log" || tail -n 1 "$root.log")"
  echo "$packages" >"$root/.ready"
fi
echo "$root"
