#!/usr/bin/env bash
# check-kernels.sh PREFIX PROGRAMS PYTHON TESTS [SCENARIOS [WORKER...]]: runs the C tests (static programs, in one
# argument) and the scenarios of e2e that match SCENARIOS (an expression for pytest's -k; without it, all) on Debian's own
# kernel under QEMU. The programs of e2e are in the folder PROGRAMS, PYTHON has its requirements, and the library is
# installed in PREFIX. ARCH is as for boot.sh. The exit status is 1 if anything failed.
set -euo pipefail
cd "$(dirname "$0")/.."
prefix=$(realpath "${1:?check-kernels.sh: expected the prefix that the library is installed in}")
programs=${2:?check-kernels.sh: expected the folder of the programs of e2e}
python=${3:?check-kernels.sh: expected the interpreter that has the requirements of e2e}
read -ra tests <<<"${4:?check-kernels.sh: expected the C tests}"
scenarios=${5-}
workers=("${@:6}")
((${#workers[@]})) || workers=(c exec)

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work"/{tests,build,prefix}
cp "${tests[@]}" scripts/run-c-tests.sh "$work/tests/"
cp -r e2e "$work/e2e"
for program in supervisor helper launch file_server worker-c worker-cpp worker-rust worker-go-native worker-go-degraded \
  worker-poller worker-pdeathsig worker-naive worker-exec localai-parentwatch; do
  [[ ! -e $programs/$program ]] || cp "$programs/$program" "$work/build/"
done
cp -rL "$prefix/lib" "$work/prefix/lib"
cp -rL "$prefix/lib" "$work/build/lib"
# These packages are pure Python: the Python of the machine runs them.
cp -r "$("$python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')" "$work/site"
rm -rf "$work"/site/{pip,setuptools,pkg_resources}

cat >"$work/run" <<'RUN'
echo "Linux $(uname -r)"
failed=0
/tests/run-c-tests.sh /tests/*-static || failed=1
PYTHONPATH=/site python3 -m pytest -c /e2e/pytest.ini --rootdir /e2e -n 2 -q --build /build --prefix /prefix \
  "$@" /e2e || failed=1
exit "$failed"
RUN
status=0
scripts/boot.sh "$work" bash /run ${scenarios:+-k "$scenarios"} "${workers[@]/#/--worker=}" || status=$?
# 77: there was nothing to boot, and boot.sh has printed why.
((status == 77)) || exit "$status"
