"""Makes the kinds of stderr that a worker can have."""

import os
import signal
import socket
import termios
from pathlib import Path

STDERR_FD = 70
"""The descriptor number under which a tree inherits the worker's stderr."""

STDERR_KINDS = [
    "closed",
    "full-device",
    "broken-pipe",
    "broken-pipe-ignored",
    "full-pipe",
    "full-fifo",
    "full-socket",
    "stopped-terminal",
]


def fill(descriptor: int) -> None:
    """Writes until the descriptor is full. The descriptor is blocking afterwards."""
    os.set_blocking(descriptor, False)
    for size in (4096, 1):
        try:
            while True:
                os.write(descriptor, b"x" * size)
        except BlockingIOError:
            pass
    os.set_blocking(descriptor, True)


class Stderr:
    """A stderr of the given kind: steps for the launcher, and a descriptor for the tree."""

    def __init__(self, kind: str, directory: Path) -> None:
        self.steps = ["--dup2", str(STDERR_FD), "2", "--close", str(STDERR_FD)]
        self.inherit: dict[int, int] = {}
        self._opened: list[int] = []
        getattr(self, f"_{kind.replace('-', '_')}")(directory)

    def close(self) -> None:
        for descriptor in self._opened:
            os.close(descriptor)

    def _give(self, descriptor: int, *others: int) -> None:
        self.inherit = {STDERR_FD: descriptor}
        self._opened += [descriptor, *others]

    def _closed(self, directory: Path) -> None:
        self.steps = ["--close", "2"]

    def _full_device(self, directory: Path) -> None:
        self.steps = ["--stderr", "/dev/full"]

    def _broken_pipe(self, directory: Path) -> None:
        read_end, write_end = os.pipe()
        os.close(read_end)
        self._give(write_end)
        self.steps += ["--default", str(signal.SIGPIPE.value)]

    def _broken_pipe_ignored(self, directory: Path) -> None:
        self._broken_pipe(directory)
        self.steps += ["--ignore", str(signal.SIGPIPE.value)]

    def _full_pipe(self, directory: Path) -> None:
        read_end, write_end = os.pipe()
        fill(write_end)
        self._give(write_end, read_end)

    def _full_fifo(self, directory: Path) -> None:
        os.mkfifo(directory / "fifo")
        read_end = os.open(directory / "fifo", os.O_RDONLY | os.O_NONBLOCK)
        write_end = os.open(directory / "fifo", os.O_WRONLY)
        fill(write_end)
        self._give(write_end, read_end)

    def _full_socket(self, directory: Path) -> None:
        ours, theirs = socket.socketpair()
        fill(theirs.fileno())
        self._give(theirs.detach(), ours.detach())

    def _stopped_terminal(self, directory: Path) -> None:
        terminal, line = os.openpty()
        termios.tcflow(line, termios.TCOOFF)
        self._give(line, terminal)
