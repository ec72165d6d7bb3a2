"""Ends this process when its supervisor dies. A native thread watches, without the interpreter lock.

Call it first thing in the program, before slow imports:

    import localai_parentwatch
    localai_parentwatch.start_parent_death_watcher()

It is a safety net: the program runs on, whatever it returns. The import itself starts nothing, opens
nothing and reads no environment variable.

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

# Type checkers assume that it is true. Importing typing takes longer than all the rest.
TYPE_CHECKING = False
if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Mapping, Sequence
    from datetime import timedelta
    from typing import Literal, NoReturn

# These need enum, which is slow to import too. If it is not loaded yet, __getattr__ imports them.
if TYPE_CHECKING or "enum" in sys.modules:
    from ._types import Info, Status

# Without exec: "import *" would hide the built-in function.
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
    """Starts the watcher of this process. Any thread may call it, any number of times.

    An option that is not given comes from the environment, then from the defaults. If the environment
    switches the watcher off, it stays off. If the supervisor is proven to have died already, the
    process exits here.

    on_death: the hook, called without arguments when the supervisor has died, before the process exits
        with status 1. It runs on its own thread, with the interpreter lock. If it does not get the lock
        or does not return, the process exits at the end of the grace all the same. If it raises,
        sys.unraisablehook is called and the process exits at once. A hook may end the process itself:
        the exit status is then its own, and the helpers still end. The hook is not called once Python
        shuts down. The hook is kept for the life of the interpreter. A later call with the same object
        agrees with the first one. A bound method is a new object at each access: keep it in a variable.
    grace: the time to exit once the supervisor has died, at most 1 h. This process has it for on_death.
        Without on_death it gets SIGTERM and has that time for its own graceful stop, if something
        handles the signal. After that, the helpers have it between SIGTERM and SIGKILL. Default: 5 s
        for on_death, no time without on_death, 1 s for helpers. With 0 nobody has any time, and
        on_death is not called.
    scope: what ends. "tree": this process, its process group if it leads that, and all its
        descendants. "group": the same without descendants in other groups. "process": only this
        process. Default: "tree".
    interval: the polling interval where the kernel sends no event, from 10 ms to 1 h. Default: 2 s.
    parent: the supervisor, a process id or its `token()`. Default: the parent process.

    Times are seconds, a timedelta, or a text such as "500ms" or "1m30s".

    Raises ValueError for a value out of range and if the watcher is already armed with other options,
    TypeError for a wrong type, and RuntimeError if on_death is given and Py_AtExit has no room (it
    takes 32 functions). Nothing is changed then. If the thread cannot be created, it returns
    Status.EXHAUSTED and raises nothing. If enum cannot be imported because no descriptor is left, the
    watcher is started and the plain number is returned.
    """
    outcome = _native.start(on_death, grace, scope, interval, parent)
    try:
        from ._types import Status
    except (ImportError, OSError):
        # No descriptor is left, or the package's files are gone. Code that uses Status has it already.
        return outcome  # type: ignore[return-value]
    return Status(outcome)


def status() -> "Info":
    """Tells how this process is being watched. A forked child has its own status.

    Raises OSError if enum was not imported yet and no descriptor is left to import it.
    """
    from ._types import Info, Status

    state, tier, watched, interval, scope, grace = _native.status()
    return Info(Status(state), tier, watched, interval, scope, grace)


def enabled() -> bool:
    """Whether the environment leaves the watcher on."""
    return _native.enabled()


def interval() -> float:
    """The polling interval in the environment, in seconds: 2 unless set."""
    return _native.interval()


def token() -> str:
    """The text that names this process in a worker's LOCALAI_BACKEND_PARENT_PID.

    It is `PID@STARTTIME@PIDNS`, since a process id alone can be reused. It is the process id alone
    where the system does not give the rest. A forked child has its own token.
    """
    return _native.token()


def child_env(env: "Mapping[str, str] | None" = None) -> "dict[str, str]":
    """The environment for a worker that this process starts: a copy of env, or of os.environ, in which
    LOCALAI_BACKEND_PARENT_PID names this process.

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
    """Executes the program argv[0] under a guardian, as `localai-parentwatch exec` does.

    The program replaces this process and keeps its process id, parent, process group and inheritable
    descriptors. When the supervisor dies, the guardian ends the program. When the program dies, the
    guardian ends the processes that it left behind. The program is looked up in the PATH of its
    environment. As with os.execvp(), nothing is flushed, no exit handler runs, and other threads end.
    SIGPIPE and SIGXFSZ, which Python ignores, have their default action in the program.

    env: the environment of the program. Default: that of this process.
    grace: the time between SIGTERM and SIGKILL, at most 1 h: seconds, a timedelta, or a text such as
        "500ms". Default: 1 s.
    scope: "tree" (the default), "group" or "process".
    parent: the supervisor, a process id or a token. Default: LOCALAI_BACKEND_PARENT_PID, then the
        parent.
    cgroup: run the program in its own control group, if one can be created.
    verbose: print to stderr which process guards which.

    It never returns. It raises OSError if the program cannot be executed, and ValueError or TypeError
    for a bad argument; this process is then unchanged. If the supervisor is proven to have died
    already, the process exits.
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


# Hidden from type checkers: they would assume that every name exists.
if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        if name in ("Info", "Status"):
            from . import _types

            return getattr(_types, name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> "list[str]":
    return sorted({*globals(), *__all__})
