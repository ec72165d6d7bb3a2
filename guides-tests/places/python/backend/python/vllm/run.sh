#!/bin/bash
source "$(dirname "$0")/../common/libbackend.sh"
if [ "${1:-}" = serve ]; then
    ensureVenv
# snippet: vllm-serve
fi
startBackend "$@"
