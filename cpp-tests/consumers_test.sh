#!/usr/bin/env bash
# consumers_test.sh PREFIX TREE_TEST WORK CMAKE...: builds a worker with PREFIX in every way that the docs describe, and
# checks that each of them dies with its supervisor. CC and CXX are the compilers.
set -euo pipefail
prefix=$1 tree_test=$2 work=$3
shift 3
here=$(cd "$(dirname "$0")" && pwd)
rm -rf "$work"
mkdir -p "$work"

# Remove the caller's own settings.
unset CMAKE_PREFIX_PATH PKG_CONFIG_PATH CPATH LIBRARY_PATH LD_LIBRARY_PATH
unset MAKEFLAGS MFLAGS MAKELEVEL

# step WHAT COMMAND...
step() {
  local what=$1
  shift
  if "$@" >"$work/log" 2>&1; then
    printf 'ok     %s\n' "$what"
  else
    printf 'FAILED %s: %s\n' "$what" "$*"
    cat "$work/log"
    exit 1
  fi
}

# dies WHAT PROGRAM LINKAGE: checks that the program is linked in that way, and ends with its supervisor.
dies() {
  local needed=no wanted=no
  [[ $3 == shared ]] && wanted=yes
  readelf -d "$2" | grep -q 'NEEDED.*liblocalai_parentwatch\.so\.0\]' && needed=yes
  [[ $needed == "$wanted" ]] || { echo "FAILED $1: depends on the shared library: $needed, expected $wanted"; exit 1; }
  step "$1 dies with its supervisor" "$tree_test" "$2" F01
}

# by_cmake NAME CMAKE LINKAGE LANGUAGE SOURCE ARGUMENT...
by_cmake() {
  local name=$1 cmake=$2 linkage=$3 language=$4 source=$5
  shift 5
  step "$name: configured" "$cmake" -S "$here/consumer" -B "$work/$name" -DLINKAGE="$linkage" \
    -DLANGUAGE="$language" -DSOURCE="$here/src/$source" "$@"
  step "$name: built" "$cmake" --build "$work/$name"
  dies "$name" "$work/$name/consumer" "$linkage"
}

number=0
for cmake; do
  number=$((number + 1))
  echo "with $("$cmake" --version | head -n 1)"
  by_cmake "cmake$number-static" "$cmake" static CXX worker.cpp -DCMAKE_PREFIX_PATH="$prefix"
  by_cmake "cmake$number-shared" "$cmake" shared C worker.c -DCMAKE_PREFIX_PATH="$prefix"
  step "cmake$number: versions" "$cmake" -S "$here/versions" -B "$work/versions$number" -DCMAKE_PREFIX_PATH="$prefix"
done
cmake=$1

# A prefix below another one. CMake finds it through that one, because it has the package's name.
mkdir -p "$work/larger"
cp -a "$prefix" "$work/larger/localai_parentwatch-0"
by_cmake subfolder "$cmake" static C worker.c -DCMAKE_PREFIX_PATH="$work/larger"
# Through a link to its lib folder, like /lib -> /usr/lib.
mkdir -p "$work/merged/usr"
cp -a "$prefix/." "$work/merged/usr/"
ln -s usr/lib "$work/merged/lib"
by_cmake linked "$cmake" static C worker.c -Dlocalai_parentwatch_DIR="$work/merged/lib/cmake/localai_parentwatch"

# pkg-config: -l would link the shared library, so name the file of the archive.
export PKG_CONFIG_PATH=$prefix/lib/pkgconfig
read -ra cflags < <(pkg-config --cflags localai_parentwatch)
read -ra libs < <(pkg-config --libs localai_parentwatch)
read -ra static_libs < <(pkg-config --static --libs localai_parentwatch | sed 's/-llocalai_parentwatch/-l:liblocalai_parentwatch.a/')
libdir=$(pkg-config --variable=libdir localai_parentwatch)
step 'pkg-config, shared: built' "$CC" "$here/src/worker.c" -o "$work/pkg-shared" "${cflags[@]}" "${libs[@]}" -Wl,-rpath,"$libdir"
dies 'pkg-config, shared' "$work/pkg-shared" shared
step 'pkg-config, static: built' "$CXX" -std=c++17 "$here/src/worker.cpp" -o "$work/pkg-static" "${cflags[@]}" "${static_libs[@]}"
dies 'pkg-config, static' "$work/pkg-static" static
unset PKG_CONFIG_PATH

# The compilers' own variables.
export CPATH=$prefix/include LIBRARY_PATH=$prefix/lib LD_LIBRARY_PATH=$prefix/lib
step 'CPATH and LIBRARY_PATH: built' "$CXX" -std=c++17 "$here/src/worker.cpp" -o "$work/path" -llocalai_parentwatch
dies 'CPATH and LIBRARY_PATH' "$work/path" shared
unset CPATH LIBRARY_PATH LD_LIBRARY_PATH

# As LocalAI ships its servers: the loader and the libraries are beside the program.
bundle=$work/bundle
mkdir -p "$bundle/lib"
loader=$(readelf -lW "$work/pkg-static" | sed -n 's/.*interpreter: \(.*\)].*/\1/p')
cp -L "$loader" "$bundle/lib/ld.so"
ldd "$work/pkg-static" | sed -n 's/.* => \([^ ]*\) .*/\1/p' | xargs -I {} cp -L {} "$bundle/lib/"
cp "$work/pkg-static" "$bundle/server"
cat >"$bundle/run.sh" <<'SCRIPT'
#!/bin/sh
here=$(dirname "$0")
LD_LIBRARY_PATH=$here/lib exec "$here/lib/ld.so" "$here/server" "$@"
SCRIPT
chmod +x "$bundle/run.sh"
step 'under a bundled ld.so: dies with its supervisor' "$tree_test" "$bundle/run.sh" F01 F16

# Two Rust libraries can be in one program only if at least one of them hides its internal symbols.
if ! diff <(nm -D --defined-only "$prefix/lib/liblocalai_parentwatch.so" | awk '{ print $3 }' | sort) \
  <(nm -g --defined-only "$prefix/lib/liblocalai_parentwatch.a" | awk 'NF == 3 { print $3 }' | sort); then
  echo 'FAILED the archive defines other names than the shared library'
  exit 1
fi
echo 'ok     both libraries define the same names'

# No installed file contains the path of the build or of the installation.
if grep -rlE "(prefix|DIRECTORIES|LOCATION)[^$]*[= \"]/[a-z]" "$prefix/lib/cmake" "$prefix/lib/pkgconfig"; then
  echo 'FAILED the package has absolute paths in it'
  exit 1
fi
echo 'ok     no absolute paths'
