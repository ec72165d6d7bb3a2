"""Ends this process when its supervisor is gone: a native thread that needs no interpreter lock.

    import localai_parentwatch
    localai_parentwatch.start_parent_death_watcher()

first thing in the program, before what is slow to import. It is a safety net: whatever it returns, the
program runs on. Importing starts nothing, opens nothing and reads no environment variable.

A forked child has no watcher until it starts its own.
"""

import sys

from . import _native
from ._native import (
    ENV_PARENT_PID,
    ENV_PARENT_WATCH,
    ENV_PARENT_WATCH_GRACE,
    ENV_PARENT_WATCH_INTERVAL,
    ENV_PARENT_WATCH_SCOPE,
    __version__,
)

# Type checkers take it for true. To import typing takes longer than all of this.
TYPE_CHECKING = False
if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Mapping, Sequence
    from datetime import timedelta
    from typing import Literal, NoReturn

# Where nobody has enum yet, which is slow to import too, they wait until they are asked for.
if TYPE_CHECKING or "enum" in sys.modules:
    from ._types import Info, Status

# Without exec: "import *" would hide the built-in one.
__all__ = [
    "ENV_PARENT_PID",
    "ENV_PARENT_WATCH",
    "ENV_PARENT_WATCH_GRACE",
    "ENV_PARENT_WATCH_INTERVAL",
    "ENV_PARENT_WATCH_SCOPE",
    "Info",
    "Status",
    "__version__",
    "child_env",
    "enabled",
    "interval",
    "start_parent_death_watcher",
    "status",
    "token",
]


def start_parent_death_watcher(
    *,
    on_death: "Callable[[], object] | None" = None,
    grace: "float | timedelta | str | None" = None,
    scope: "Literal['tree', 'group', 'process'] | None" = None,
    interval: "float | timedelta | str | None" = None,
    parent: "int | str | None" = None,
) -> "Status":
    """Starts the watcher of this process, once; from any thread, any number of times.

    What is not given comes from the environment, then from the defaults. A watcher that the environment
    switches off stays off. If the supervisor is proven to have died already, the process exits here.

    on_death: called without arguments when the supervisor is gone, before the process exits with status
        1; on a thread of its own, with the interpreter lock. If the lock cannot be had, or it does not
        return, the process exits at the end of the grace all the same. If it raises,
        sys.unraisablehook is told, and the process exits at once. A hook that ends the process itself
        ends it its own way, with its own status; the helpers go all the same. Once Python shuts down it
        is not called. It is kept for the life of the interpreter. The same object again is no other
        option; a bound method is a new object at every access: keep it in a variable.
    grace: how long this process, and after it its helpers, may take to end by themselves, at most an
        hour. This process has that time for on_death; without on_death it gets SIGTERM and has that
        time for its own graceful stop, unless nothing handles the signal. The helpers have it between
        SIGTERM and SIGKILL. Default: 5 s for on_death, none without it, 1 s for helpers. 0: nobody has
        any time, and on_death is not called.
    scope: what ends. "tree": this process, its process group if it leads that, and all its
        descendants. "group": without the descendants in other groups. "process": this process alone.
        Default: "tree".
    interval: how often to look where the kernel cannot tell, from 10 ms to an hour. Default: 2 s.
    parent: who the supervisor is, a process id or its `token()`. Default: the parent process.

    Times are seconds, a timedelta, or a text such as "500ms" or "1m30s".

    Raises ValueError for a value out of range and when the watcher is armed with other options,
    TypeError for a wrong type, RuntimeError if on_death is given and 32 libraries have used up
    Py_AtExit; nothing is changed then. That there is no thread to be had is Status.EXHAUSTED, and no
    exception. With no descriptor left to import enum with, it starts the watcher and returns the plain
    number.
    """
    outcome = _native.start(on_death, grace, scope, interval, parent)
    try:
        from ._types import Status
    except (ImportError, OSError):
        # No descriptor left, or no way to the library any more. Whoever says Status has it already.
        return outcome  # type: ignore[return-value]
    return Status(outcome)


def status() -> "Info":
    """How this process is being watched, as it stands. A forked child has a status of its own.

    Raises OSError if enum has yet to be imported and no descriptor is left for that.
    """
    from ._types import Info, Status

    state, tier, watched, interval, scope, grace = _native.status()
    return Info(Status(state), tier, watched, interval, scope, grace)


def enabled() -> bool:
    """Whether the environment leaves the watcher on."""
    return _native.enabled()


def interval() -> float:
    """How often the poll tier looks, in seconds: 2, unless the environment says otherwise."""
    return _native.interval()


def token() -> str:
    """Names this process to the workers that it starts, in their LOCALAI_BACKEND_PARENT_PID.

    It is `PID@STARTTIME@PIDNS`, since a process id can be reused, or the process id where the system
    cannot tell the rest. A forked child has its own.
    """
    return _native.token()


def child_env(env: "Mapping[str, str] | None" = None) -> "dict[str, str]":
    """The environment for a worker that this process starts: a copy of env, or of os.environ, that
    names this process as the supervisor.

        subprocess.Popen(["./worker"], env=localai_parentwatch.child_env())
    """
    import os

    return {**(os.environ if env is None else env), ENV_PARENT_PID: token()}


def exec(
    argv: "Sequence[str | bytes | os.PathLike[str]]",
    *,
    env: "Mapping[str, str] | None" = None,
    grace: "float | timedelta | str | None" = None,
    scope: "Literal['tree', 'group', 'process'] | None" = None,
    parent: "int | str | None" = None,
    cgroup: bool = False,
    verbose: bool = False,
) -> "NoReturn":
    """Becomes the program argv[0] under a guardian, as `localai-parentwatch exec` does.

    It is looked for in the PATH of its environment. It keeps the process id, the parent, the process
    group and the descriptors that are inherited. It ends with its supervisor, and what it leaves behind
    ends with it. As os.execvp() this flushes nothing and runs no exit handler. SIGPIPE and SIGXFSZ,
    which Python ignores for itself, have their default in the program. Other threads end.

    env: the environment of the program; that of this process unless given.
    grace: the time between SIGTERM and SIGKILL: seconds, a timedelta, or a text such as "500ms"; at
        most 1 h. 1 s unless set.
    scope: "tree" (the default), "group" or "process".
    parent: the supervisor, a process id or a token. Else LOCALAI_BACKEND_PARENT_PID, else the parent.
    cgroup: begin in a control group of its own, where one can be had.
    verbose: say on stderr who guards whom.

    Never returns. Raises OSError when the program cannot be run, ValueError or TypeError for a bad
    argument; then this process is as it was. If the supervisor is proven to have died, the process
    exits.
    """
    import os

    if isinstance(argv, (str, bytes)):
        raise TypeError(f"argv: expected a sequence of arguments, not {type(argv).__name__}")
    command = [os.fsencode(argument) for argument in argv]
    variables = None
    if env is not None:
        if bad := [name for name in env if not name or "=" in name]:
            raise ValueError(f"env: expected a name without '=', not {bad[0]!r}")
        variables = [os.fsencode(name) + b"=" + os.fsencode(value) for name, value in env.items()]
    _native.exec(command, variables, grace, scope, parent, cgroup, verbose)


# Type checkers would take it that there is everything.
if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        if name in ("Info", "Status"):
            from . import _types

            return getattr(_types, name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> "list[str]":
    return sorted({*globals(), *__all__})
