from collections.abc import Callable
from datetime import timedelta
from typing import Final, NoReturn

__all__ = [
    "ENV_PARENT_PID",
    "ENV_PARENT_WATCH",
    "ENV_PARENT_WATCH_GRACE",
    "ENV_PARENT_WATCH_INTERVAL",
    "ENV_PARENT_WATCH_SCOPE",
    "__version__",
    "doctor",
    "enabled",
    "exec",
    "interval",
    "parent_died",
    "start",
    "status",
    "token",
    "wait_for_exit",
]

__version__: Final[str]
ENV_PARENT_WATCH: Final[str]
ENV_PARENT_WATCH_GRACE: Final[str]
ENV_PARENT_WATCH_INTERVAL: Final[str]
ENV_PARENT_WATCH_SCOPE: Final[str]
ENV_PARENT_PID: Final[str]

def start(
    on_death: Callable[[], object] | None = None,
    grace: float | timedelta | str | None = None,
    scope: str | None = None,
    interval: float | timedelta | str | None = None,
    parent: int | str | None = None,
) -> int: ...
def exec(
    argv: list[bytes],
    env: list[bytes] | None = None,
    grace: float | timedelta | str | None = None,
    scope: str | None = None,
    parent: int | str | None = None,
    cgroup: bool = False,
    verbose: bool = False,
) -> NoReturn: ...
def status() -> tuple[int, str, tuple[int, ...], float, str, float | None]: ...
def doctor(json: bool, end: list[int], styled: bool) -> tuple[str, int]: ...
def enabled() -> bool: ...
def interval() -> float: ...
def token() -> str: ...
def parent_died(pid: int) -> bool: ...
def wait_for_exit(pid: int, interval: float | timedelta | str) -> bool: ...
