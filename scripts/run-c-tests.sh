#!/usr/bin/env bash
# run-c-tests.sh PROGRAM...: runs each of the C tests. Exit status 0 means passed, 77 skipped (the test has printed why),
# any other failed. If a test failed, the exit status of this script is 1.
set -uo pipefail
(($#)) || { echo 'run-c-tests.sh: expected the programs to run' >&2; exit 2; }
failed=0
for program; do
  status=0
  "$program" || status=$?
  case $status in
    0) echo "ok     ${program##*/}" ;;
    77) ;;
    *) echo "FAILED ${program##*/}: status $status" && failed=1 ;;
  esac
done
exit "$failed"
