#!/usr/bin/env bash
# test.sh NAME COMMAND [NAME COMMAND ...]: runs every command, even after a failure. Then prints what passed, failed and
# was skipped, and how long it took. It counts and repeats the lines "SKIPPED: why" in a command's output, and pytest's
# "SKIPPED [n] where: why". The exit status is 1 if anything failed.
set -uo pipefail
cd "$(dirname "$0")/.." || exit
log=$(mktemp)
trap 'rm -f "$log"' EXIT
summary=() skips=() passed=0 failed=0

while (($# >= 2)); do
  name=$1 command=$2
  shift 2
  printf '\n== %s: %s\n' "$name" "$command"
  began=$SECONDS
  if bash -euo pipefail -c "$command" </dev/null 2>&1 | tee "$log"; then
    outcome=passed passed=$((passed + 1))
  else
    outcome=FAILED failed=$((failed + 1))
  fi
  while IFS= read -r line; do skips+=("$name: ${line#SKIPPED}"); done < <(grep -aE '^SKIPPED(:| \[)' "$log")
  summary+=("$(printf '  %-6s %-18s %4d s' "$outcome" "$name" $((SECONDS - began)))")
done

printf '\nWhat ran:\n'
printf '%s\n' "${summary[@]}"
if ((${#skips[@]})); then
  printf 'What was skipped, and why:\n'
  printf '  %s\n' "${skips[@]}"
else
  printf 'Nothing was skipped.\n'
fi
printf '%d s in all\n%d passed, %d failed, %d skipped\n' "$SECONDS" "$passed" "$failed" "${#skips[@]}"
((failed == 0))
