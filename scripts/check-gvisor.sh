#!/usr/bin/env bash
# check-gvisor.sh PROGRAM...: runs C tests in gVisor, each as the first process of a sandbox, because only that one may
# adopt orphans there. gVisor has no pidfd: a test also fails if it reports another tier than poll.
set -euo pipefail
cd "$(dirname "$0")/.."
sandbox=(runsc --platform=ptrace --network=none 'do')

skip() {
  echo "SKIPPED: gVisor: $1"
  exit 0
}

scripts/install-packages.sh runsc || skip 'runsc cannot be installed'
command -v runsc >/dev/null || skip 'runsc is not installed'
# Through a pipe: runsc would overwrite the contents of a file.
said=$("${sandbox[@]}" true 2>&1 </dev/null | cat) || skip "runsc cannot run a program: $(head -n 1 <<<"$said")"

failed=0
for program; do
  status=0
  said=$(timeout 300 "${sandbox[@]}" "$PWD/$program" 2>&1 </dev/null | cat) || status=$?
  printf '%s\n' "$said"
  if ((status == 0)) && [[ $said == *poll* && $said != *event* ]]; then
    echo "ok     ${program##*/}, gVisor"
  else
    echo "FAILED ${program##*/}, gVisor: status $status; expected 0 and the poll tier"
    failed=1
  fi
done
exit "$failed"
