#!/usr/bin/env bash
# install-packages.sh PACKAGE...: installs the Debian packages that are not installed yet.
# If all are installed, it prints nothing, and needs neither root nor the network.
set -euo pipefail

fail() {
    echo "install-packages: $*" >&2
    exit 1
}

if ! command -v dpkg-query >/dev/null; then
    echo "install-packages: not a Debian or Ubuntu; these packages, or what they are called here, are needed: $*" >&2
    exit 0
fi

missing=()
for package in "$@"; do
    status=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)
    # There is one "installed" for each architecture.
    [[ $status == *installed* && $status != *not-installed* ]] || missing+=("$package")
done
((${#missing[@]})) || exit 0

install=(apt-get install -y --no-install-recommends -o DPkg::Lock::Timeout=300 "${missing[@]}")
root=()
if ((EUID != 0)); then
    # Without a terminal, sudo would wait for a password for ever.
    if ! command -v sudo >/dev/null || { ! sudo -n true 2>/dev/null && [[ ! -t 0 ]]; }; then
        fail "packages are missing, and this is not root; install them with: sudo apt-get update && sudo apt-get install -y --no-install-recommends ${missing[*]}"
    fi
    root=(sudo)
fi
root+=(env DEBIAN_FRONTEND=noninteractive)

log=$(mktemp)
trap 'rm -f "$log"' EXIT
# run COMMAND...: runs it as root. Its output is shown only if the whole script fails.
run() {
    "${root[@]}" "$@" </dev/null >>"$log" 2>&1
}

echo "installing packages: ${missing[*]}" >&2
# The package lists may be missing (a fresh container) or old (404): then fetch them.
if ! run "${install[@]}" && ! { run apt-get update && run "${install[@]}"; }; then
    cat "$log" >&2
    fail "cannot install ${missing[*]}; apt-get's words are above"
fi
