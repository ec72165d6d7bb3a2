#!/usr/bin/env bash
# check-library.sh PREFIX: is the installed library as promised? Checks the exported symbols, the SONAME, that it is never
# unloaded, that it has no text relocations, and its size.
set -euo pipefail
prefix=${1:?check-library.sh: expected the prefix that the library is installed in}
library=$prefix/lib/liblocalai_parentwatch.so
header=$prefix/include/localai_parentwatch.h
failed=0

expect() { # what, expected, found
  if [[ $2 == "$3" ]]; then
    printf 'ok    %s: %s\n' "$1" "${3//$'\n'/ }"
  else
    printf 'wrong %s\n  expected: %s\n  found:    %s\n' "$1" "${2//$'\n'/ }" "${3//$'\n'/ }"
    failed=1
  fi
}

documented=$(sed -nE '/^static/d; s/^[a-z].*[ *]([a-z_]+)\(.*/\1/p' "$header" | grep -v '_t$' | sort)
[[ $(wc -l <<<"$documented") -ge 11 ]] || { echo "wrong: found only these functions in the header: $documented"; exit 1; }
expect 'exported symbols are the documented ones' "$documented" \
  "$(nm -D --defined-only "$library" | awk '{ print $3 }' | sort)"

dynamic=$(readelf -dW "$library")
expect SONAME 'liblocalai_parentwatch.so.0' "$(sed -nE 's/.*\(SONAME\).*\[(.*)\]/\1/p' <<<"$dynamic")"
expect 'never unloaded (-z nodelete)' 'NODELETE' "$(grep -o NODELETE <<<"$dynamic")"
expect 'no text relocations' '' "$(grep TEXTREL <<<"$dynamic" || true)"
expect 'no executable stack' '' "$(readelf -lW "$library" | grep GNU_STACK | grep RWE || true)"
expect 'stripped' '' "$(readelf -SW "$library" | grep -E ' \.(symtab|debug_info) ' || true)"

limit=$((400 * 1024))
size=$(stat -L -c %s "$library")
expect "at most $limit bytes ($size)" yes "$([[ $size -le $limit ]] && echo yes || echo no)"

libraries=$(scripts/native-static-libs.sh)
pc=$prefix/lib/pkgconfig/localai_parentwatch.pc
expect 'pkg-config --static names what rustc names' "$libraries" \
  "$(sed -n 's/^Libs.private: //p' "$pc")"
moved=$(mktemp -d)
trap 'rm -rf "$moved"' EXIT
cp -a "$prefix" "$moved/elsewhere"
expect 'the pkg-config file follows a moved prefix' "$moved/elsewhere/include" \
  "$(PKG_CONFIG_PATH=$moved/elsewhere/lib/pkgconfig pkg-config --cflags-only-I localai_parentwatch |
    sed 's/^-I//; s/ *$//' | xargs realpath)"

# Every linker must accept the archive. The check must notice relocations of .eh_frame that are out of order.
archive=$(realpath "$prefix/lib/liblocalai_parentwatch.a")
scripts/check-archive.sh "$archive" "$library" "$libraries" || failed=1
(cd "$moved" && ar x "$archive")
object=$(ls "$moved"/*.o)
read -r offset entry < <(readelf -SW "$object" |
  sed -nE 's/.* \.rela\.eh_frame +RELA +[0-9a-f]+ ([0-9a-f]+) [0-9a-f]+ ([0-9a-f]+) .*/\1 \2/p')
offset=$((16#$offset)) entry=$((16#$entry))
# Swap the first two.
dd if="$object" of="$moved/two" bs=1 skip="$offset" count=$((2 * entry)) status=none
cat <(tail -c "$entry" "$moved/two") <(head -c "$entry" "$moved/two") |
  dd of="$object" bs=1 seek="$offset" conv=notrunc status=none
ar crsD "$moved/swapped.a" "$object"
expect 'an archive with a disordered .rela.eh_frame is refused' 'expected that the offsets in .rela.eh_frame rise' \
  "$(scripts/check-archive.sh "$moved/swapped.a" "$library" "$libraries" 2>&1 | grep -o 'expected that the offsets in .rela.eh_frame rise' || true)"
exit $failed
