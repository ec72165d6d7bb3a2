"""Drop-in for LocalAI's backend/python/common/parent_watch.py: the same names, the native watcher."""

from . import _native
from ._native import ENV_PARENT_WATCH, ENV_PARENT_WATCH_INTERVAL

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["ENV_PARENT_WATCH", "ENV_PARENT_WATCH_INTERVAL", "start_parent_death_watcher"]


def _enabled() -> bool:
    """Whether the environment leaves the watcher on."""
    return _native.enabled()


def _interval_seconds() -> float:
    """The polling interval in seconds."""
    return _native.interval()


def _parent_died(orig_ppid: int) -> bool:
    """Whether orig_ppid is no longer this process's parent, or the parent is PID 1."""
    return _native.parent_died(orig_ppid)


def _watch(orig_ppid: int, interval: float, on_death: "Callable[[], object]") -> None:
    """Blocks until orig_ppid is no longer this process's parent, then calls on_death once.

    It sleeps until the kernel wakes it. Where the kernel cannot, it polls every interval. If orig_ppid
    is PID 1, it returns at once without calling on_death.
    """
    if _native.wait_for_exit(orig_ppid, interval):
        on_death()


def start_parent_death_watcher() -> None:
    """Starts the watcher with the settings in the environment. Never raises."""
    _native.start()
