#!/usr/bin/env bash
# system_libraries_test.sh RUSTC PREFIX LIBRARIES: do CMake (LIBRARIES, separated by semicolons) and pkg-config name the
# system libraries that rustc lists for programs that link the static library?
set -euo pipefail
rustc=$1 prefix=$2 by_cmake=${3//;/ }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
: >"$work/empty.rs"
wanted=$("$rustc" --crate-type staticlib --print native-static-libs -o "$work/empty.a" "$work/empty.rs" 2>&1 |
  sed -n 's/^note: native-static-libs: //p')
[[ -n $wanted ]] || { echo "rustc does not tell"; exit 1; }
by_pkg_config=$(PKG_CONFIG_PATH=$prefix/lib/pkgconfig pkg-config --static --libs-only-l localai_parentwatch)
by_pkg_config=$(sed -e 's/-llocalai_parentwatch *//' -e 's/ *$//' <<<"$by_pkg_config")
printf 'rustc:      %s\nCMake:      %s\npkg-config: %s\n' "$wanted" "$by_cmake" "$by_pkg_config"
[[ $wanted == "$by_cmake" && $wanted == "$by_pkg_config" ]]
