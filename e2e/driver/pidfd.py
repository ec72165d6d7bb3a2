"""Processes by their pidfds. A pid could be reused; a pidfd cannot."""

import ctypes
import errno
import fcntl
import os
import select
import signal
import struct
from dataclasses import dataclass

from driver.deadline import Deadline, wait_until
from driver.failures import StillAlive

_PR_SET_CHILD_SUBREAPER = 36
_PIDFD_GET_INFO = 0xC040FF0B
_PIDFD_INFO_EXIT = 1 << 3

_libc = ctypes.CDLL(None, use_errno=True)


def set_subreaper(on: bool) -> None:
    """Makes this process adopt the orphans below it, or stops that."""
    if _libc.prctl(_PR_SET_CHILD_SUBREAPER, ctypes.c_long(on), 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "PR_SET_CHILD_SUBREAPER")


@dataclass(frozen=True)
class Exit:
    """How a process has ended: with an exit status, or by a signal."""

    status: int | None = None
    signal: int | None = None

    @classmethod
    def from_wait_status(cls, wait_status: int) -> "Exit":
        if os.WIFSIGNALED(wait_status):
            return cls(signal=os.WTERMSIG(wait_status))
        return cls(status=os.WEXITSTATUS(wait_status))

    def __str__(self) -> str:
        if self.signal is not None:
            return f"killed by {signal.Signals(self.signal).name}"
        return f"exit status {self.status}"


class Pidfd:
    """An open pidfd. Waits for its process, signals it, and reaps it."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.fd = os.pidfd_open(pid)

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def fileno(self) -> int:
        return self.fd

    def wait_ended(self, deadline: Deadline) -> bool:
        """Waits until the process has ended, reaped or not. Returns False at the deadline."""
        poller = select.poll()
        poller.register(self.fd, select.POLLIN)
        while True:
            if poller.poll(deadline.left_ms()):
                return True
            if deadline.passed():
                return False

    def has_ended(self) -> bool:
        return self.wait_ended(Deadline(0))

    def send(self, number: int) -> bool:
        """Sends a signal. Returns False if the process has been reaped."""
        try:
            signal.pidfd_send_signal(self.fd, number)
        except ProcessLookupError:
            return False
        return True

    def reap(self, deadline: Deadline, failure: type[Exception] = StillAlive) -> Exit | None:
        """Waits until the process has been reaped, and reaps it if it is the driver's child.

        If another process reaps it, Linux 6.15 and later still report how it ended. Before, the result
        is None: not known.
        """
        ended: list[Exit] = []

        def gone() -> bool:
            try:
                result = os.waitid(os.P_PIDFD, self.fd, os.WEXITED | os.WNOHANG)
            except ChildProcessError:
                return not self.send(0)
            if result is None:
                return False
            if result.si_code == os.CLD_EXITED:
                ended.append(Exit(status=result.si_status))
            else:
                ended.append(Exit(signal=result.si_status))
            return True

        wait_until(gone, f"process {self.pid} is reaped", deadline, failure)
        return ended[0] if ended else self._exit_from_kernel()

    def _exit_from_kernel(self) -> Exit | None:
        information = bytearray(struct.pack("=Q56x", _PIDFD_INFO_EXIT))
        try:
            fcntl.ioctl(self.fd, _PIDFD_GET_INFO, information)
        except OSError as error:
            if error.errno in (errno.ENOTTY, errno.EINVAL, errno.ESRCH):
                return None
            raise
        mask, wait_status = struct.unpack("=Q52xi", information)
        return Exit.from_wait_status(wait_status) if mask & _PIDFD_INFO_EXIT else None
