#!/usr/bin/env bash
# check-gvisor.sh C_TEST: runs a C test in gVisor, where there are no pidfds: every worker polls, lives as long as its
# supervisor, and goes after it.
set -euo pipefail
cd "$(dirname "$0")/.."
test=$(realpath "${1:?check-gvisor.sh: expected a C test}")
if ! scripts/install-packages.sh runsc || ! runsc --platform=ptrace --network=none 'do' true >/dev/null 2>&1; then
  echo 'SKIPPED: gVisor: runsc cannot be installed, or cannot run here'
  exit 0
fi
# Through a pipe: runsc writes at the beginning of a file.
said=$(timeout 300 runsc --platform=ptrace --network=none 'do' "$test" 2>&1 | cat) || { echo "$said"; exit 1; }
echo "$said"
[[ $said == *'(poll)'* && $said != *'(event)'* ]] || { echo 'check-gvisor: expected every worker to poll' >&2; exit 1; }
