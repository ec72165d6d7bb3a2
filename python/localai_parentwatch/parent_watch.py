"""Drop-in for LocalAI's backend/python/common/parent_watch.py: its names over the native watcher."""

from . import _native
from ._native import ENV_PARENT_WATCH, ENV_PARENT_WATCH_INTERVAL

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["ENV_PARENT_WATCH", "ENV_PARENT_WATCH_INTERVAL", "start_parent_death_watcher"]


def _enabled() -> bool:
    """Whether the watcher may run in this process."""
    return _native.enabled()


def _interval_seconds() -> float:
    """How often the poll tier looks, in seconds."""
    return _native.interval()


def _parent_died(orig_ppid: int) -> bool:
    """Whether orig_ppid is no longer this process's parent, or PID 1 has adopted it."""
    return _native.parent_died(orig_ppid)


def _watch(orig_ppid: int, interval: float, on_death: "Callable[[], object]") -> None:
    """Blocks until orig_ppid is no longer this process's parent, then calls on_death once.

    The kernel wakes it where it can, else it looks every interval. For PID 1, which nobody outlives, it
    returns at once and calls nothing.
    """
    if _native.wait_for_exit(orig_ppid, interval):
        on_death()


def start_parent_death_watcher() -> None:
    """Starts the watcher as the environment asks for it, once; never raises."""
    _native.start()
