"""Deadlines: every wait has one, and nothing sleeps for a guessed time."""

import time
from collections.abc import Callable

PATIENCE = 10.0
"""Seconds that anything may take on a loaded machine before it counts as "never"."""

_PAUSE = 0.002


class Deadline:
    """A moment after which waiting is over."""

    def __init__(self, seconds: float = PATIENCE) -> None:
        self._end = time.monotonic() + seconds

    def left(self) -> float:
        return max(0.0, self._end - time.monotonic())

    def left_ms(self) -> int:
        return int(self.left() * 1000)

    def passed(self) -> bool:
        return self.left() == 0.0


def wait_until(
    condition: Callable[[], object],
    what: str,
    deadline: Deadline | None = None,
    failure: type[Exception] = TimeoutError,
) -> None:
    """Looks at a condition that has no descriptor to wait on, until it holds."""
    deadline = deadline or Deadline()
    while True:
        # The last look begins after the deadline: a driver that did not run meanwhile has not looked.
        is_last = deadline.passed()
        if condition():
            return
        if is_last:
            raise failure(f"not in time: {what}")
        time.sleep(_PAUSE)
