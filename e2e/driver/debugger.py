"""A debugger in a few lines: attached to every thread of a process, as gdb attaches."""

import contextlib
import ctypes
import os
import signal

from driver import procfs
from driver.roles import Process

_PTRACE_CONT = 7
_PTRACE_ATTACH = 16
_PTRACE_DETACH = 17
_WALL = 0x40000000

_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.argtypes = (ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p)
_libc.ptrace.restype = ctypes.c_long


def _ptrace(request: int, tid: int) -> None:
    if _libc.ptrace(request, tid, None, None) < 0:
        raise OSError(ctypes.get_errno(), f"ptrace({request}, {tid})")


class Debugger:
    """Attached from construction on; the process stands still until it is continued."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._tids = procfs.threads(process.pid)
        for tid in self._tids:
            _ptrace(_PTRACE_ATTACH, tid)
            self._await_stop(tid)

    def resume(self) -> None:
        for tid in self._tids:
            _ptrace(_PTRACE_CONT, tid)

    def interrupt(self) -> None:
        """Stops every thread again."""
        for tid in self._tids:
            if _libc.tgkill(self._process.pid, tid, signal.SIGSTOP.value) < 0:
                raise OSError(ctypes.get_errno(), "tgkill")
            self._await_stop(tid)

    def detach(self) -> None:
        """Leaves the process, which has to be stopped, and which then runs on."""
        for tid in self._tids:
            with contextlib.suppress(ProcessLookupError):
                _ptrace(_PTRACE_DETACH, tid)

    def _await_stop(self, tid: int) -> None:
        os.waitpid(tid, _WALL)
