#!/bin/bash
set -e

CURDIR=$(dirname "$(realpath "$0")")
mkdir -p "$CURDIR/package/lib"
cp -avf "$CURDIR/local-store" "$CURDIR/package/"
source "$CURDIR/../../../scripts/build/package-system-libs.sh" "$CURDIR/package/lib"
echo "packaged local-store"
