#!/usr/bin/env bash
# check-elsewhere.sh SUITE FILE...: do the files of a release work on another Debian, SUITE, with gcc and Python but
# without Rust? Unpacks a tarball there, builds the C tests with its shared library and with its archive, and runs them;
# for a tarball for musl it uses musl-gcc. With a wheel, a worker must end. Without such a Debian it prints one line that
# begins with SKIPPED:, and the exit status is 77.
set -euo pipefail
suite=${1:?check-elsewhere.sh: expected the name of a release of Debian}
shift
(($#)) || { echo 'check-elsewhere.sh: expected files of a release' >&2; exit 2; }
mapfile -t files < <(realpath "$@")
cd "$(dirname "$0")/.."
root=$(scripts/another-debian.sh "$suite") || { status=$?; echo "$root"; exit "$status"; }

rm -rf "${root:?}/try"
mkdir "$root/try"
cp -r crates/parentwatch-capi/tests/c scripts/run-c-tests.sh python/tests/anywhere.py "$root/try/"
for file in "${files[@]}"; do
  case $file in
    *.tar.gz) tar -C "$root/try" -xzf "$file" ;;
    *.whl) python3 -m zipfile -e "$file" "$root/try/wheel" ;;
    *) echo "check-elsewhere.sh: expected a tarball or a wheel, not $file" >&2 && exit 2 ;;
  esac
done
cat >"$root/try/run" <<'RUN'
set -euo pipefail
cd /try
. /etc/os-release
! command -v rustc || exit 1
failed=0
for prefix in localai-parentwatch-*; do
  echo "$PRETTY_NAME: $prefix"
  export PKG_CONFIG_PATH=/try/$prefix/lib/pkgconfig
  read -ra flags <<<"$(pkg-config --cflags --libs localai_parentwatch) -pthread"
  read -ra static <<<"$(pkg-config --static --cflags --libs localai_parentwatch) -pthread"
  static=("${static[@]/#-llocalai_parentwatch/-l:liblocalai_parentwatch.a}")
  compiler=(gcc)
  # musl-gcc does not find the headers of Linux by itself.
  [[ $prefix != *-musl ]] || compiler=(musl-gcc -idirafter /usr/include -idirafter "/usr/include/$(uname -m)-linux-gnu")
  mkdir -p "tests/$prefix"
  for test in c/*.c; do
    name=tests/$prefix/$(basename "$test" .c)
    "${compiler[@]}" -std=gnu11 "$test" -o "$name-shared" "${flags[@]}" "-Wl,-rpath,/try/$prefix/lib"
    [[ $prefix != *-musl ]] || static+=(-static)
    "${compiler[@]}" -std=gnu11 "$test" -o "$name-static" "${static[@]}"
  done
  ./run-c-tests.sh "tests/$prefix"/* || failed=1
  [[ $("$prefix/bin/localai-parentwatch" exec -- sh -c 'exit 7' || echo $?) == 7 ]] || failed=1
done
[[ ! -d wheel ]] || PYTHONPATH=wheel python3 anywhere.py || failed=1
exit "$failed"
RUN
# It has its own /proc, and all its processes end with it.
# shellcheck disable=SC2016 # for the other shell
unshare --mount --pid --fork --kill-child bash -euc \
  'mount -t proc proc "$1/proc"; mount --rbind /dev "$1/dev"; exec chroot "$1" bash /try/run' - "$root"
