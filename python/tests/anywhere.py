"""Does the package work on this machine? For machines without pytest: it needs only the standard
library.

    PYTHONPATH=FOLDER_OF_THE_PACKAGE python3 anywhere.py

A worker starts the watcher, and its supervisor is killed. Prints one line. The exit status is 1 if the
worker does not end as it must.
"""

import os
import platform
import select
import signal
import subprocess
import sys

WORKER = """
import localai_parentwatch as parentwatch, signal
print(parentwatch.start_parent_death_watcher(), flush=True)
signal.pause()
"""
SUPERVISOR = """
import subprocess, sys
subprocess.Popen([sys.executable, "-c", sys.argv[1]])
sys.stdin.read()
"""
PATIENCE = 60.0

# All are in one group, which is ended as a whole if the worker does not end in time.
if os.getpgrp() != os.getpid():
    os.setpgrp()
ended, says = os.pipe()
supervisor = subprocess.Popen(
    [sys.executable, "-c", SUPERVISOR, WORKER], stdin=subprocess.PIPE, stdout=says, stderr=says
)
os.close(says)


def said() -> bytes:
    """The next output; empty when every writer has ended."""
    if not select.select([ended], [], [], PATIENCE)[0]:
        print("FAILED the worker is still there", flush=True)
        os.killpg(0, signal.SIGKILL)
    return os.read(ended, 4096)


armed = said()
supervisor.kill()
text = b""
while part := said():
    text += part
supervisor.wait()
good = b"is gone, worker" in text
where = f"Python {platform.python_version()}, {platform.machine()}, {' '.join(platform.libc_ver())}"
what = f"{armed.decode().strip()}: {text.decode().strip()}"
print("ok    " if good else "FAILED", f"the wheel, {where}: {what}")
sys.exit(not good)
