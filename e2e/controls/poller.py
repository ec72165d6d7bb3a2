"""Negative control in Python: LocalAI's present watcher, behind the library's functions. A thread polls
getppid() every interval (2 s by default, else LOCALAI_BACKEND_PARENT_WATCH_INTERVAL in whole
milliseconds). When the parent has changed, it prints a line and exits.

    poller.py WORKER.PY …       runs that worker with this watcher
"""

import enum
import os
import runpy
import sys
import threading
import time
import types

OFF = ("false", "0", "no", "off")


class Status(enum.IntEnum):
    ARMED = 0
    DISABLED = 1
    NO_PARENT = 2
    NOT_STARTED = 4


armed_for = 0


def interval() -> float:
    milliseconds = os.environ.get("LOCALAI_BACKEND_PARENT_WATCH_INTERVAL", "").removesuffix("ms")
    return int(milliseconds) / 1000 if milliseconds.isdecimal() else 2.0


def watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(interval())
    print(f"parent {parent} is gone, exiting", file=sys.stderr, flush=True)
    os._exit(1)


def start_parent_death_watcher(**_options: object) -> Status:
    global armed_for
    if os.environ.get("LOCALAI_BACKEND_PARENT_WATCH", "").strip().lower() in OFF:
        return Status.DISABLED
    # Wrong in a forked child, which does not have the thread.
    if armed_for:
        return Status.ARMED
    parent = os.getppid()
    if parent <= 1:
        return Status.NO_PARENT
    threading.Thread(target=watch, args=(parent,), name="parent-watch", daemon=True).start()
    armed_for = parent
    return Status.ARMED


def status() -> types.SimpleNamespace:
    return types.SimpleNamespace(
        state=Status.ARMED if armed_for else Status.NOT_STARTED,
        tier="poll" if armed_for else "none",
        watched=(armed_for, 0),
        scope="process",
        interval=interval(),
        grace=0.0,
    )


def token() -> str:
    return str(os.getpid())


if __name__ == "__main__":
    sys.modules["localai_parentwatch"] = sys.modules["__main__"]
    sys.argv = sys.argv[1:]
    runpy.run_path(sys.argv[0], run_name="__main__")
