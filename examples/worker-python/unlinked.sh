#!/bin/sh
# Starts the worker that is not linked with the library, as run.sh does the other one.
folder=$(dirname "$(realpath "$0")")
exec "$folder/venv/bin/python" "$folder/unlinked.py" "$@"
