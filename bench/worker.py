"""The worker in Python: the report of worker.c, and its words.

watch        this package
time-arming  reports how long starting the watcher took, and importing the package; ends
psutil       a thread in psutil's Process.wait()
ipykernel    ipykernel's own poller, as its kernels start it
"""

import enum  # noqa: F401 - most programs have it, by way of signal or re
import os
import struct
import sys
import threading
import time

# struct report of bench.h, and two of its kinds.
REPORT = struct.Struct("@iiii5q")
WORKER_READY, ARMED_ONCE = 1, 3
TIER_EVENT = 1


def report(kind: int, status: int, *values: int) -> None:
    padded = (*values, 0, 0, 0, 0, 0)[:5]
    os.write(1, REPORT.pack(kind, os.getpid(), status, TIER_EVENT, *padded))


def time_arming() -> None:
    began = time.perf_counter_ns()
    import localai_parentwatch

    imported = time.perf_counter_ns()
    status = localai_parentwatch.start_parent_death_watcher()
    armed = time.perf_counter_ns()
    report(ARMED_ONCE, status, armed - imported, imported - began)


def wait_by_psutil() -> None:
    import psutil

    parent = psutil.Process(os.getppid())

    def wait() -> None:
        parent.wait()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def main() -> None:
    status = 0
    match sys.argv[1]:
        case "time-arming":
            time_arming()
            return
        case "watch":
            import localai_parentwatch

            status = localai_parentwatch.start_parent_death_watcher()
        case "psutil":
            wait_by_psutil()
        case "ipykernel":
            from ipykernel.parentpoller import ParentPollerUnix

            ParentPollerUnix(parent_pid=os.getppid()).start()
        case guard:
            sys.exit(f"bench: {guard}: unknown")
    report(WORKER_READY, status)
    # Until the driver is gone.
    os.read(0, 1)


main()
