#!/usr/bin/env bash
# What the install.sh and run.sh of every backend source.
set -euo pipefail

USE_PIP=${USE_PIP:-false}
BACKEND_DIR=$(realpath "$(dirname "$0")")
EDIR=$BACKEND_DIR

function ensureVenv() {
    if [ ! -d "$EDIR/venv" ]; then
        if [ "$USE_PIP" == true ]; then
            python3 -m venv "$EDIR/venv"
        else
            uv venv "$EDIR/venv"
        fi
    fi
    export VIRTUAL_ENV=$EDIR/venv PATH=$EDIR/venv/bin:$PATH
}

# snippet: install-wheel

function runProtogen() {
    echo "generated"
}

function installRequirements() {
    ensureVenv
    for file in "$EDIR/requirements.txt" "$EDIR/requirements-after.txt"; do
        [ ! -f "$file" ] || pip install --requirement "$file"
    done
# snippet: install-call
    runProtogen
}

# snippet: worker-python

function startBackend() {
    ensureVenv
# snippet: worker-call
    if [ -n "${BACKEND_FILE:-}" ]; then
        exec "${python[@]}" "$BACKEND_FILE" "$@"
    else
        exec "${python[@]}" "$BACKEND_DIR/backend.py" "$@"
    fi
}
