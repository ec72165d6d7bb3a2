#!/usr/bin/env bash
# check-kernels.sh PREFIX PYTHON [SCENARIOS [WORKER...]]: the C tests, and the scenarios of e2e that match SCENARIOS (an
# expression for pytest's -k; everything without one), on Debian's own kernel under QEMU. PYTHON has the requirements
# of e2e; the library is installed in PREFIX. Ends with 1 when anything failed there.
set -euo pipefail
cd "$(dirname "$0")/.."
prefix=$(realpath "${1:?check-kernels.sh: expected the prefix that the library is installed in}")
python=${2:?check-kernels.sh: expected the interpreter that has the requirements of e2e}
scenarios=${3-}
workers=("${@:4}")
((${#workers[@]})) || workers=(c)

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work"/{tests,build,prefix}
cp target/c-abi/*-static "$work/tests/"
cp -r e2e "$work/e2e"
for program in supervisor helper launch file_server worker-c worker-cpp worker-rust worker-go-native worker-go-degraded \
  worker-poller worker-pdeathsig worker-naive; do
  [[ ! -e target/e2e/$program ]] || cp target/e2e/$program "$work/build/"
done
cp -rL "$prefix/lib" "$work/prefix/lib"
cp -rL "$prefix/lib" "$work/build/lib"
# What is in there is Python all through: the machine's Python runs it.
cp -r "$("$python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')" "$work/site"
rm -rf "$work"/site/{pip,setuptools,pkg_resources}

cat >"$work/run" <<'RUN'
echo "Linux $(uname -r)"
passed=0 failed=0
for test in /tests/*; do
  status=0
  "$test" >/tmp/said 2>&1 || status=$?
  case $status in
    0) echo "ok     ${test##*/}" && passed=$((passed + 1)) ;;
    77) grep SKIPPED /tmp/said ;;
    *) tail -n 20 /tmp/said && echo "FAILED ${test##*/}: status $status" && failed=$((failed + 1)) ;;
  esac
done
echo "$passed C tests passed, $failed failed"
status=0
PYTHONPATH=/site python3 -m pytest -c /e2e/pytest.ini --rootdir /e2e -n 2 -q --build /build --prefix /prefix "$@" /e2e || status=$?
((status == 0 && failed == 0))
RUN
status=0
scripts/boot.sh "$work" bash /run ${scenarios:+-k "$scenarios"} "${workers[@]/#/--worker=}" || status=$?
# With 77 there was nothing to boot, and boot.sh has said why.
((status == 77)) || exit "$status"
