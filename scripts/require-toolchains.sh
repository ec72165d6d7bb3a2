#!/usr/bin/env bash
# require-toolchains.sh [rust] [go] [python]
#
# Checks the toolchains that no target installs by itself: those that are named, or all three. Each must be at least as
# new as the project requires. For each that is missing or too old it prints one line with the command that installs it,
# and the exit status is 1.
set -euo pipefail
wanted=" ${*:-rust go python} "
cd "$(dirname "$0")/.."

rust_wanted=$(sed -n 's/^rust-version = "\(.*\)"$/\1/p' Cargo.toml)
go_wanted=$(sed -n 's/^go \(.*\)$/\1/p' go/native/go.mod)
python_wanted=3.10

case $(uname -m) in
    aarch64 | arm64) arch=arm64 ;;
    *) arch=amd64 ;;
esac
os=$(uname -s | tr '[:upper:]' '[:lower:]')
if command -v rustup >/dev/null; then
    rust_install="rustup update stable && rustup default stable"
else
    rust_install="curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh"
fi
# A new Go must not be unpacked over an old one: remove the old one first.
go_install="sudo rm -rf /usr/local/go && curl -fsSL https://go.dev/dl/go$go_wanted.$os-$arch.tar.gz | sudo tar -C /usr/local -xz && export PATH=/usr/local/go/bin:\$PATH"
python_install="sudo apt-get install -y python3 python3-venv"

missing=0

# require TOOL FOUND WANTED COMMAND: FOUND is empty if the tool does not print its version.
require() {
    local tool=$1 found=$2 wanted=$3 command=$4
    if [[ -z $found ]]; then
        found=$(command -v "$tool" >/dev/null && echo "found, but does not run" || echo "not found")
    elif [[ $(printf '%s\n' "$wanted" "$found" | sort -V | head -n 1) == "$wanted" ]]; then
        return
    else
        found="$found is too old"
    fi
    echo "$tool: $found, wanted: $wanted or newer; install it with: $command" >&2
    missing=1
}

# The first version number in a program's output, without a suffix such as "-nightly" or "rc1".
version_of() {
    { "$@" 2>/dev/null || true; } | grep -oE '[0-9]+\.[0-9]+(\.[0-9]+)?' | head -n 1 || true
}

if [[ $wanted == *" rust "* ]]; then
    require rustc "$(version_of rustc --version)" "$rust_wanted" "$rust_install"
    require cargo "$(version_of cargo --version)" "$rust_wanted" "$rust_install"
fi
if [[ $wanted == *" go "* ]]; then
    # The version of the installed Go, not of one that it would download.
    require go "$(GOTOOLCHAIN=local version_of go version)" "$go_wanted" "$go_install"
fi
if [[ $wanted == *" python "* ]]; then
    require python3 "$(version_of python3 --version)" "$python_wanted" "$python_install"
fi
exit "$missing"
