#!/usr/bin/env bash
# check-wheel.sh DIST: are the Python packages in the folder as promised? Checks their files and sizes, what the native
# module exports and needs, and that the source distribution builds by itself, and works.
set -euo pipefail
dist=$(realpath "${1:?check-wheel.sh: expected the folder that the packages are in}")
source=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# As in check-dist.sh: a library linked on a newer system needs the thread functions in libc itself.
glibc_limit=2.34
size_limit=$((400 * 1024))

ok() { printf 'ok    %s\n' "$1"; }
wrong() {
  printf 'wrong %s\n' "$1"
  exit 1
}

wheel=$(echo "$dist"/localai_parentwatch-*.whl)
sdist=$(echo "$dist"/localai_parentwatch-*.tar.gz)
name=$(basename "$sdist" .tar.gz)
python3 -m zipfile -e "$wheel" "$work/wheel"
tar -C "$work" -xzf "$sdist"

[[ $wheel == *"/$name-cp310-abi3-manylinux_2_"*"_$(uname -m).whl" ]] || wrong "the tag of $(basename "$wheel")"
size=$(stat -c %s "$wheel")
[[ $size -le $size_limit ]] || wrong "the wheel has $size bytes, at most $size_limit were promised"
ok "$(basename "$wheel"), $size bytes"

modules=$(cd "$source/python/localai_parentwatch" && find . -name __pycache__ -prune -o -type f -print | sed 's|^\./||')
wanted=$(printf '%s\n' _native.abi3.so "$modules" | LC_ALL=C sort)
found=$(cd "$work/wheel/localai_parentwatch" && find . -type f | sed 's|^\./||' | LC_ALL=C sort)
[[ $found == "$wanted" ]] || { diff <(echo "$wanted") <(echo "$found") || true; wrong 'the modules in the wheel'; }
others=$(find "$work/wheel" -mindepth 1 -maxdepth 1 ! -name localai_parentwatch ! -name "$name.dist-info")
[[ -z $others ]] || wrong "more than the package is in the wheel: $others"
for file in LICENSE THIRD-PARTY-LICENSES; do
  cmp "$source/$file" "$work/wheel/$name.dist-info/licenses/$file" || wrong "$file in the wheel"
done
if grep -q '^Requires-Dist' "$work/wheel/$name.dist-info/METADATA"; then wrong 'the wheel asks for other packages'; fi
python3 "$source/scripts/check_links.py" --published "$work/wheel/$name.dist-info/METADATA" ||
  wrong 'the links that PyPI shows'
ok "$(wc -l <<<"$wanted") files of the package, which needs no other"

native=$work/wheel/localai_parentwatch/_native.abi3.so
exported=$(nm -D --defined-only "$native" | awk '{ print $3 }')
[[ $exported == PyInit__native ]] || wrong "the native module exports $exported"
if readelf -SW "$native" | grep -qE ' \.(symtab|debug_info) '; then wrong 'the native module is not stripped'; fi
if readelf -dW "$native" | grep -q 'NEEDED.*python'; then wrong 'the native module is linked to a libpython'; fi
glibc=$(objdump -T "$native" | grep -oE 'GLIBC_[0-9.]+' | sort -uV | tail -n 1)
glibc=${glibc#GLIBC_}
[[ $(printf '%s\n' "$glibc" "$glibc_limit" | sort -V | tail -n 1) == "$glibc_limit" ]] ||
  wrong "the native module needs glibc $glibc, at most $glibc_limit was promised"
if grep -rlF -e "$source" -e "$HOME/" "$work/wheel"; then wrong 'these files tell where they have been built'; fi
ok "the native module exports its one function, is stripped, needs glibc $glibc, and tells no path"

wanted='Cargo\.(toml|lock)|LICENSE|THIRD-PARTY-LICENSES|PKG-INFO|pyproject\.toml|crates/parentwatch/(LICENSE|README\.md)'
wanted+='|crates/parentwatch(-python)?/(Cargo\.toml|src/.*\.rs)|python/README\.md|python/localai_parentwatch/[^/]*'
found=$(find "$work/$name" -type f -printf '%P\n')
unexpected=$(grep -vxE "$wanted" <<<"$found" || true)
[[ -z $unexpected ]] || wrong "in the source distribution, but not needed to build: $unexpected"
python3 -m venv "$work/venv"
PIP_CONSTRAINT=$source/python/requirements-build.txt CARGO_TARGET_DIR=$source/target/sdist \
  "$work/venv/bin/pip" install --quiet --disable-pip-version-check "$sdist"
started=$(cd / && "$work/venv/bin/python" -c '
import localai_parentwatch
print(localai_parentwatch.__version__, localai_parentwatch.start_parent_death_watcher() >= 0)')
[[ localai_parentwatch-$started == "$name True" ]] || wrong "built from the source distribution: $started"
ok "$(basename "$sdist"), $(stat -c %s "$sdist") bytes, builds from itself"
