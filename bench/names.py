"""What people call the driver's words."""

from __future__ import annotations

import math

GUARDS = {
    "pdeathsig": "PR_SET_PDEATHSIG(SIGKILL)",
    "pipe": "death pipe, a thread reads",
    "thread": "a bare thread on a pidfd",
    "psutil": "psutil {psutil}, Process.wait()",
    "c-shared": "this library, C, shared",
    "c-static": "this library, C, static",
    "go": "this library, Go",
    "python": "this library, Python",
    "exec": "localai-parentwatch exec",
    "before": "the library of --against",
    "poll-tier": "this library, poll tier (2 s)",
    "getppid-2s": "getppid() every 2 s",
    "getppid-100ms": "getppid() every 100 ms",
    "ipykernel": "ipykernel {ipykernel}, poller (1 s)",
    "nothing": "no watcher",
    # bench-gpu's
    "watch": "this library",
    "poll-2s": "getppid() every 2 s",
}
SITUATIONS = {
    "alone": "leads nothing",
    "leader": "leads a group, never had a child",
    "had-child": "leads a group, had a child",
    "helper": "leads a group, a helper in it",
    "session-helper": "leads a group, a helper in a session of its own",
    "session": "leads a session",
}


def time_text(microseconds: float) -> str:
    """Three digits, in the unit that fits."""
    if math.isinf(microseconds):
        return "never"
    for unit, size in (("s", 1e6), ("ms", 1e3)):
        if abs(microseconds) >= size * 0.9995:
            return f"{three(microseconds / size)} {unit}"
    return f"{microseconds:.0f} µs"


def three(value: float) -> str:
    """Three digits, without zeros after the point."""
    digits = max(0, 2 - math.floor(math.log10(abs(value)))) if value else 0
    text = f"{value:.{digits}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
