"""Deadlines. Every wait has one, and no test sleeps for a guessed time."""

import time
from collections.abc import Callable

PATIENCE = 10.0
"""How many seconds anything may take, on a loaded machine too, before it counts as "never"."""

_PAUSE = 0.002


class Deadline:
    """The moment at which a wait is over."""

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
    """Polls a condition until it holds, for conditions without a descriptor to wait on."""
    deadline = deadline or Deadline()
    while True:
        # The last look comes after the deadline, in case the driver could not run before.
        is_last = deadline.passed()
        if condition():
            return
        if is_last:
            raise failure(f"not in time: {what}")
        time.sleep(_PAUSE)
