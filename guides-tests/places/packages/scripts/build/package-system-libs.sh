#!/bin/bash
# Copies what every program needs into the folder of a package's libraries. Sourced by the package.sh of backends.
set -e

DEST="${1:?missing folder}"
mkdir -p "$DEST"
for library in libc.so.6 libgcc_s.so.1 libm.so.6; do
    cp -arfLv "$(gcc -print-file-name=$library)" "$DEST/$library"
done
# snippet: package-sh
