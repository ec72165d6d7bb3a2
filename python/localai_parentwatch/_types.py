from collections import namedtuple
from enum import IntEnum

# Not typing.NamedTuple at run time: importing typing takes longer than all the rest.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NamedTuple


class Status(IntEnum):
    """The outcome of starting the watcher. Words and numbers are the same in every language.

    str() returns the word, such as "armed"; int() returns the number.
    """

    ARMED = 0
    """The supervisor is being watched."""
    DISABLED = 1
    """Switched off by LOCALAI_BACKEND_PARENT_WATCH."""
    NO_PARENT = 2
    """There is nothing to watch: the parent is PID 1, or is outside the PID namespace."""
    UNSUPPORTED = 3
    """This operating system is not supported."""
    NOT_STARTED = 4
    """The watcher was not started in this process."""
    EXHAUSTED = -1
    """The thread could not be created; one warning was printed. Call again later."""
    INVALID = -2
    """An option is out of range, or the watcher is armed with other options. A ValueError in Python."""
    INTERNAL = -127
    """A bug in the library. It was caught; the program runs on."""

    # IntEnum's own versions of these two differ between releases.
    def __str__(self) -> str:
        return self.name.lower()

    def __format__(self, form: str) -> str:
        return format(str(self), form)


if TYPE_CHECKING:

    class _Fields(NamedTuple):
        state: Status
        tier: str
        watched: tuple[int, ...]
        interval: float
        scope: str
        grace: "float | None"

else:
    _Fields = namedtuple("_Fields", ("state", "tier", "watched", "interval", "scope", "grace"))


class Info(_Fields):
    """How a process is being watched.

    state: the outcome of the last attempt to start the watcher, a Status.
    tier: "event": the kernel wakes the watcher; "poll": it polls every interval; "none": no watch.
    watched: the process ids of the parent and of the supervisor, if that is not the parent.
    interval: the polling interval in seconds. Once armed, the one in use, else that in the environment.
    scope: "tree", "group" or "process". Once armed, the scope in effect ("process" for "group" in a
        process that leads no group), else that in the environment.
    grace: the seconds that the worker has to exit. None: no grace was set, and there is no on_death.
    """

    __slots__ = ()


# Where users find them: for repr, pickle and help.
Status.__module__ = Info.__module__ = "localai_parentwatch"
