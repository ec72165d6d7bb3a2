from collections import namedtuple
from enum import IntEnum

# Not typing.NamedTuple at run time: that module takes longer to import than all the rest.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NamedTuple


class Status(IntEnum):
    """What came of starting the watcher. The words and numbers are those of every language.

    str() is the word, such as "armed"; int() is the number.
    """

    ARMED = 0
    """The supervisor is being watched."""
    DISABLED = 1
    """Switched off by LOCALAI_BACKEND_PARENT_WATCH."""
    NO_PARENT = 2
    """Nothing to watch: started by PID 1, or from outside the PID namespace."""
    UNSUPPORTED = 3
    """Not on this operating system."""
    NOT_STARTED = 4
    """Nobody started it in this process."""
    EXHAUSTED = -1
    """No thread to be had; one warning line was written. Call again later."""
    INVALID = -2
    """An option out of range, or armed with other options. In Python it is a ValueError."""
    INTERNAL = -127
    """A bug of the library, kept from the program."""

    # What IntEnum makes of these two depends on the release.
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

    state: what came of the last attempt to start the watcher, a Status.
    tier: "event": the kernel wakes the watcher; "poll": it looks every interval; "none": no watch.
    watched: the process ids: the parent, then the supervisor further up, if there is one.
    interval: seconds between two looks of the poll tier: the armed interval, else the environment's.
    scope: "tree", "group" or "process": once armed what will be acted on ("process" for "group" in a
        process that leads no group), else the environment's.
    grace: seconds that the worker may take to end by itself; None: nothing was asked for, and there is
        no on_death.
    """

    __slots__ = ()


# As if they were defined where users find them: for repr, pickle and help.
Status.__module__ = Info.__module__ = "localai_parentwatch"
