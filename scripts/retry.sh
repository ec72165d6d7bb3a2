#!/usr/bin/env bash
# retry.sh COMMAND...: runs a command that fetches from a registry and, unlike pip and cargo, gives up at the first
# network failure. If it fails without output on stdout, it runs again, at most three times. Every failure is reported.
set -euo pipefail
for pause in 2 10 30 ''; do
    status=0
    said=$("$@") || status=$?
    [[ -z $said ]] || printf '%s\n' "$said"
    if ((status == 0)) || [[ -n $said || -z $pause ]]; then
        exit "$status"
    fi
    echo "retry: status $status from $*; once more in $pause s" >&2
    sleep "$pause"
done
