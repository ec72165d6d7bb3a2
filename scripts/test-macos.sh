#!/usr/bin/env bash
# test-macos.sh: the tests for a Mac: those of the crates, the C ABI, and a process tree whose supervisor is killed. It
# also runs on Linux, so that the script itself is tested. It uses only Bash 3.2 and BSD tools.
set -euo pipefail
cd "$(dirname "$0")/.."
target=${CARGO_TARGET_DIR:-target}
work=$(mktemp -d)
pids=()
end() {
  for pid in ${pids[@]+"${pids[@]}"}; do kill -9 "$pid" 2>/dev/null || true; done
  rm -rf "$work"
}
trap end EXIT
wrong() {
  printf 'wrong %s\n' "$1"
  exit 1
}

cargo test --locked -p parentwatch -p parentwatch-capi
cargo build --quiet --locked -p parentwatch-capi -p parentwatch-cli
"$target/debug/localai-parentwatch" --version
# shellcheck disable=SC2046 # a list
compile() {
  cc -std=gnu11 -Wall -Wextra -I include -o "$work/$1" "$2" "$target/debug/liblocalai_parentwatch.a" \
    $(scripts/native-static-libs.sh)
}
compile abi crates/parentwatch-capi/tests/c/abi.c
scripts/run-c-tests.sh "$work/abi"

# A supervisor, a worker, and a helper of the worker. The second worker has no watcher, and must stay.
cat >"$work/worker.c" <<'END'
#include <localai_parentwatch.h>
#include <stdio.h>
#include <unistd.h>

int main(void) {
    int status = start_parent_death_watcher();
    pid_t helper = fork();
    if (helper != 0) {
        printf("%d %ld %ld\n", status, (long)getpid(), (long)helper);
        fflush(stdout);
    }
    for (;;)
        pause();
}
END
compile worker "$work/worker.c"
# until_true COMMAND...: waits until it succeeds, at most ten seconds.
until_true() {
  local deadline=$((SECONDS + 10))
  until "$@"; do
    ((SECONDS < deadline)) || return 1
    sleep 0.05
  done
}
gone() { ! kill -0 "$1" 2>/dev/null; }

for watch in off on; do
  LOCALAI_BACKEND_PARENT_WATCH=$watch \
    bash -c '"$0" >"$1" & wait' "$work/worker" "$work/$watch" &
  supervisor=$!
  pids+=("$supervisor")
  until_true grep -qs . "$work/$watch" || wrong "the worker ($watch) does not start"
  read -r status worker helper <"$work/$watch"
  pids+=("$worker" "$helper")
  kill -9 "$supervisor"
  if [[ $watch == on ]]; then
    [[ $status == 0 ]] || wrong "the watcher's status is $status"
    until_true gone "$worker" || wrong 'the worker outlives its supervisor'
    until_true gone "$helper" || wrong 'the helper outlives the supervisor'
    echo "ok     a worker and its helper end with their supervisor"
  else
    unwatched=$worker
  fi
done
if gone "$unwatched"; then wrong 'the worker that is switched off is gone too'; fi
echo "ok     a worker that is switched off stays"
