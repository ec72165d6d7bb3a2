#!/bin/sh
# Starts the worker by the interpreter of its own virtual environment, as LocalAI's run.sh do. By exec: the
# process that the supervisor has started becomes the worker.
folder=$(dirname "$(realpath "$0")")
exec "$folder/venv/bin/python" "$folder/worker.py" "$@"
