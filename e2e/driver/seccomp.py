"""Answers the system calls that the kernel passes to the driver (seccomp user notification)."""

import contextlib
import fcntl
import os
import select
import struct
from dataclasses import dataclass

from driver.deadline import Deadline
from driver.pidfd import Pidfd
from driver.roles import Session

_NOTIF_RECV = 0xC0502100
_NOTIF_SEND = 0xC0182101
_CONTINUE = 1
_NOTIFICATION = struct.Struct("=QIIiIQ6Q")
_ANSWER = struct.Struct("=QqiI")


@dataclass(frozen=True)
class HeldCall:
    """A system call whose thread is blocked until the driver answers."""

    identifier: int
    arguments: tuple[int, ...]


class Listener:
    """The listener of a filter that `launch --notify` has installed."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def close(self) -> None:
        """Closes the listener. From here on the system call fails with ENOSYS."""
        os.close(self._fd)

    def next_call(self, deadline: Deadline) -> HeldCall:
        poller = select.poll()
        poller.register(self._fd, select.POLLIN)
        if not poller.poll(deadline.left_ms()):
            raise TimeoutError("the system call was never made")
        buffer = bytearray(_NOTIFICATION.size)
        fcntl.ioctl(self._fd, _NOTIF_RECV, buffer)
        identifier, _pid, _flags, _number, _arch, _ip, *arguments = _NOTIFICATION.unpack(buffer)
        return HeldCall(identifier, tuple(arguments))

    def allow(self, call: HeldCall) -> None:
        """Lets the kernel make the call."""
        answer = bytearray(_ANSWER.pack(call.identifier, 0, 0, _CONTINUE))
        with contextlib.suppress(FileNotFoundError):  # The thread was killed meanwhile.
            fcntl.ioctl(self._fd, _NOTIF_SEND, answer)

    def allow_waiting_calls(self) -> None:
        """Lets the kernel make all calls that are waiting now."""
        poller = select.poll()
        poller.register(self._fd, select.POLLIN)
        while poller.poll(0):
            self.allow(self.next_call(Deadline()))

    def allow_calls_until_ready(self, awaited: Pidfd | Session, deadline: Deadline) -> None:
        """Lets the kernel make all calls until the process has ended or the reply has come."""
        poller = select.poll()
        poller.register(awaited, select.POLLIN)
        poller.register(self._fd, select.POLLIN)
        while not deadline.passed():
            ready = dict(poller.poll(deadline.left_ms()))
            if awaited.fileno() in ready:
                return
            if ready.get(self._fd, 0) & select.POLLIN:
                try:
                    self.allow(self.next_call(deadline))
                except FileNotFoundError:
                    continue
            elif self._fd in ready:
                poller.unregister(self._fd)
