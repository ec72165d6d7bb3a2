#!/usr/bin/env bash
# mutations.sh PYTHON: does the suite notice the faults in e2e/mutations? Applies each patch to a copy of the sources, and
# checks that the scenario that it names fails. Without a patch, those scenarios must pass.
set -euo pipefail
cd "$(dirname "$0")/.."
python=$(realpath -s "${1:?mutations.sh: expected the interpreter that has the requirements of e2e}")
source=$PWD
copy=$source/target/mutations
programs=(supervisor helper file_server launch worker-c worker-exec localai-parentwatch)

# The copy keeps its build folder and the times of unchanged files, so only patched files are rebuilt.
copy_sources() {
  mkdir -p "$copy"
  comm -z -23 <(git ls-files -z --cached --others --exclude-standard | LC_ALL=C sort -zu) \
    <(git ls-files -z --deleted | LC_ALL=C sort -zu) |
    rsync --archive --checksum --from0 --files-from=- "$source/" "$copy/"
}

build() {
  env -u MAKEFLAGS -u MAKELEVEL CARGO_TARGET_DIR="$copy/target" PREFIX_TEST="$copy/target/prefix" \
    make --no-print-directory -s -C "$copy" "${programs[@]/#/target/e2e/}" >"$copy/build.log" 2>&1 || {
    cat "$copy/build.log" >&2
    exit 2
  }
}

# run SCENARIO: returns pytest's exit status; 0 is green, 1 is red.
run() {
  "$python" -m pytest -c e2e/pytest.ini --rootdir e2e -p no:cacheprovider -q -n 2 e2e -k "$1" --worker c --worker exec \
    --build "$copy/target/e2e" --prefix "$copy/target/prefix" >"$copy/pytest.log" 2>&1
}

copy_sources
build
failed=0
for patch in e2e/mutations/*.patch; do
  scenario=$(sed -n 's/^Turns red: //p' "$patch")
  status=0
  run "$scenario" || status=$?
  if [[ $status -ne 0 ]]; then
    cat "$copy/pytest.log"
    echo "wrong $scenario: not green to begin with"
    exit 1
  fi
done
for patch in e2e/mutations/*.patch; do
  scenario=$(sed -n 's/^Turns red: //p' "$patch")
  patch --quiet --directory="$copy" --strip=1 <"$patch"
  build
  status=0
  run "$scenario" || status=$?
  tests=$(tail -n 1 "$copy/pytest.log" | tr -d '=')
  case $status in
    0) echo "wrong $(basename "$patch" .patch): $scenario stays green" && failed=1 ;;
    1) echo "ok    $(basename "$patch" .patch) turns $scenario red:$tests" ;;
    *) cat "$copy/pytest.log" && exit 2 ;;
  esac
  copy_sources
done
exit $failed
