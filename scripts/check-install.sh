#!/usr/bin/env bash
# Does `make install` install the right files, only below DESTDIR, and does `make uninstall` remove exactly those?
set -euo pipefail
cd "$(dirname "$0")/.."
unset MAKEFLAGS MFLAGS MAKELEVEL DESTDIR PREFIX
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

pages="share/bash-completion/completions/localai-parentwatch
share/fish/vendor_completions.d/localai-parentwatch.fish
$(cd "crates/parentwatch-cli/pages" && printf 'share/man/man1/%s\n' *.1 | LC_ALL=C sort)
share/zsh/site-functions/_localai-parentwatch"
wanted="bin/localai-parentwatch
include/localai_parentwatch.h
include/parent_watch.h
lib/cmake/localai_parentwatch/localai_parentwatch-config-version.cmake
lib/cmake/localai_parentwatch/localai_parentwatch-config.cmake
lib/liblocalai_parentwatch.a
lib/liblocalai_parentwatch.so
lib/liblocalai_parentwatch.so.0
lib/liblocalai_parentwatch.so.$version
lib/pkgconfig/localai_parentwatch.pc
$pages"

# expect WHAT EXPECTED FOUND
expect() {
  if [[ $2 != "$3" ]]; then
    printf 'wrong %s\n' "$1"
    diff <(echo "$2") <(echo "$3") || true
    exit 1
  fi
  printf 'ok    %s\n' "$1"
}

stage=$work/stage
make -s install DESTDIR="$stage" PREFIX=/opt/here
expect 'installed, below DESTDIR alone' "$wanted" "$(cd "$stage" && find . ! -type d | sed 's|^\./opt/here/||' | LC_ALL=C sort)"
make -s uninstall DESTDIR="$stage" PREFIX=/opt/here >/dev/null
expect 'uninstalled, with the folders' "./opt/here" "$(cd "$stage" && find . | sort | tail -n +3)"

# Other packages have files there too.
theirs=$work/theirs
mkdir -p "$theirs"/{include,lib/cmake/other,lib/pkgconfig}
touch "$theirs"/{include/other.h,lib/cmake/other/other-config.cmake,lib/pkgconfig/other.pc}
before=$(cd "$theirs" && find . | sort)
make -s install PREFIX="$theirs"
make -s install PREFIX="$theirs"
make -s uninstall PREFIX="$theirs" >/dev/null
expect 'files of others stay' "$before" "$(cd "$theirs" && find . | sort)"
make -s uninstall PREFIX="$theirs" >/dev/null
expect 'uninstalled twice' "$before" "$(cd "$theirs" && find . | sort)"
