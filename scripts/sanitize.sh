#!/usr/bin/env bash
# sanitize.sh PREFIX: runs the C programs, with the static library in PREFIX, and the core's own tests under sanitizers
# and valgrind, which find memory and thread errors. Prints one line for each check. The exit status is 1 if one failed.
#
# The library is the shipped one. In the C programs the sanitizers see only what it allocates, frees and writes through
# libc; valgrind sees everything. The core under ThreadSanitizer would need a rebuilt standard library (-Zbuild-std).
# shellcheck disable=SC2317  # the functions are called through check
set -uo pipefail
cd "$(dirname "$0")/.." || exit
prefix=$(realpath "${1:?sanitize.sh: expected the prefix that the library is installed in}")
sources=crates/parentwatch-capi/tests/c
programs=(abi threads dying)
out=target/sanitize
mkdir -p "$out"
failed=0

# The caller's environment must not influence the tests.
unset "${!LOCALAI_BACKEND_PARENT_@}"
# A worker that ends correctly has status 1, so sanitizers need another one. A process that calls _exit writes no
# summary, so the first finding must end it.
export ASAN_OPTIONS=exitcode=99:detect_leaks=1
export UBSAN_OPTIONS=exitcode=99:print_stacktrace=1
# abi.c forks while it has threads, and the child arms again.
export TSAN_OPTIONS=exitcode=99:halt_on_error=1:die_after_fork=0
findings='ERROR: AddressSanitizer|ERROR: LeakSanitizer|WARNING: ThreadSanitizer|runtime error:|Invalid (read|write)'

# Older sanitizer runtimes fail with the address randomisation of newer kernels.
plainly=()
if setarch -R true 2>/dev/null; then plainly=(setarch -R); fi

# check NAME COMMAND...: a finding in any process of a tree is a failure, even if no process checks its exit status.
check() {
  local name=$1 log status
  log=$out/$(tr -cs '[:alnum:]\n' - <<<"$name").log
  shift
  "$@" </dev/null >"$log" 2>&1
  status=$?
  if ((status == 0)) && ! grep -qE "$findings" "$log"; then
    echo "ok      $name"
  else
    echo "FAILED  $name: status $status; the end of $log:"
    tail -n 40 "$log" | sed 's/^/        /'
    failed=1
  fi
}

skipped() { echo "skipped $1: $2"; }

# compile NAME PROGRAM FLAG...
compile() {
  local name=$1 program=$2
  shift 2
  local libraries
  read -ra libraries < <(sed -n 's/^Libs.private: //p' "$prefix/lib/pkgconfig/localai_parentwatch.pc")
  gcc -std=gnu11 -Wall -Wextra -g -O1 -fno-omit-frame-pointer "$@" -I"$prefix/include" \
    -o "$out/$name" "$sources/$program.c" "$prefix/lib/liblocalai_parentwatch.a" "${libraries[@]}"
}

compile_and_run() { # SANITIZERS PROGRAM
  compile "$2-$1" "$2" "-fsanitize=$1" -fno-sanitize-recover=all &&
    timeout -k 5 300 "${plainly[@]}" "$out/$2-$1"
}

compile_and_valgrind() { # PROGRAM
  local options=(--error-exitcode=9 --leak-check=full --show-leak-kinds=definite
    --errors-for-leak-kinds=definite "--suppressions=$sources/valgrind.supp")
  compile "$1-plain" "$1" && timeout -k 5 300 valgrind "${options[@]}" "$out/$1-plain"
}

core() { # TARGET_DIR ARGUMENT...
  local target=$1
  shift
  cargo test --locked -p parentwatch --lib --tests --target-dir "$target" "$@" 2>&1 | tee "$out/core-ran"
  ((PIPESTATUS[0] == 0)) && grep -qE '^test result: ok\. [1-9]' "$out/core-ran"
}

core_with_address() {
  # The skipped test unmaps the memory of a forked child, also that of AddressSanitizer, which the test's code uses.
  RUSTC_BOOTSTRAP=1 RUSTFLAGS=-Zsanitizer=address core "$out/core-address" --target "$host" \
    -- --skip memory_around_a_stack_is_released
}

core_with_poll() { RUSTFLAGS='--cfg parentwatch_force_poll' core target/force-poll; }

for program in "${programs[@]}"; do
  check "$program, AddressSanitizer and UndefinedBehaviorSanitizer" compile_and_run address,undefined "$program"
  check "$program, ThreadSanitizer" compile_and_run thread "$program"
done

scripts/install-packages.sh valgrind >"$out/valgrind-install.log" 2>&1 || true
for program in "${programs[@]}"; do
  if command -v valgrind >/dev/null; then
    check "$program, valgrind" compile_and_valgrind "$program"
  else
    skipped "$program, valgrind" 'valgrind is not installed, and could not be'
  fi
done

host=$(rustc -vV | sed -n 's/^host: //p')
case $host in
  x86_64-unknown-linux-gnu | aarch64-unknown-linux-gnu)
    check 'core, AddressSanitizer' core_with_address ;;
  *) skipped 'core, AddressSanitizer' "rustc has none for $host" ;;
esac
check 'core, poll tier' core_with_poll
exit $failed
