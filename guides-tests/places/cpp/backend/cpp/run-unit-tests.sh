#!/bin/bash
# Compiles every unit test below this folder alone, with its own folder to include from, and runs it.
set -uo pipefail

here=$(cd "$(dirname "$0")" && pwd)
failed=0 count=0
while read -r test; do
    count=$((count + 1))
    program=$(mktemp)
    if ! g++ -std=c++17 -Wall -Wextra -pthread -I"$(dirname "$test")" "$test" -o "$program" || ! "$program"; then
        echo "FAILED: $test" >&2
        failed=1
    fi
    rm -f "$program"
done < <(find "$here" -name '*_test.cpp' -not -path '*/llama.cpp/*' | sort)
echo "$count unit tests"
exit "$failed"
