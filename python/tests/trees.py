"""Real processes that use the installed package: programs that run to their end, and trees whose
supervisor is killed. Every wait has a deadline, and nothing sleeps for a guessed time.

The process that runs the tests is a subreaper: it adopts the orphans, and so learns their exit
status."""

import contextlib
import ctypes
import json
import os
import platform
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

PATIENCE = 60.0
"""Seconds that anything may take on a loaded machine before it counts as "never"."""

ENV_PARENT_WATCH = "LOCALAI_BACKEND_PARENT_WATCH"
ENV_PARENT_WATCH_INTERVAL = "LOCALAI_BACKEND_PARENT_WATCH_INTERVAL"
ENV_PARENT_WATCH_SCOPE = "LOCALAI_BACKEND_PARENT_WATCH_SCOPE"
ENV_PARENT_WATCH_GRACE = "LOCALAI_BACKEND_PARENT_WATCH_GRACE"
ENV_PARENT_PID = "LOCALAI_BACKEND_PARENT_PID"

WATCHER_THREAD = "parent-watch"
HOOK_THREAD = "parent-hook"

Environment = Mapping[str, str] | Mapping[bytes, bytes] | None

_PR_SET_CHILD_SUBREAPER = 36
_PAUSE = 0.005
_CALLS = {
    "x86_64": {"7": "poll", "271": "poll", "202": "futex"},
    "aarch64": {"73": "poll", "98": "futex"},
}[platform.machine()]

# LocalAI starts every worker as the leader of its own process group.
_SUPERVISOR = """
import os, subprocess, sys
worker = subprocess.Popen(sys.argv[2:], stdout=int(sys.argv[1]), preexec_fn=os.setpgrp)
os.close(int(sys.argv[1]))
print(worker.pid, flush=True)
sys.stdin.read()
"""


def wait_until(condition: Callable[[], object], what: str, seconds: float = PATIENCE) -> None:
    """Polls a condition until it holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not in time: {what}"
        time.sleep(_PAUSE)


def become_subreaper() -> None:
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "PR_SET_CHILD_SUBREAPER")


def environment(changes: Environment = None) -> dict[bytes, bytes]:
    """The environment of the tests, without variables for the watcher or Python, with these changes."""
    env = {
        name: value
        for name, value in os.environb.items()
        if not name.startswith((b"LOCALAI_BACKEND_", b"PYTHON"))
    }
    env.update((os.fsencode(name), os.fsencode(value)) for name, value in (changes or {}).items())
    return env


def command(source: str, *arguments: object) -> list[str]:
    """The command that runs a program with the interpreter of the tests. It sees only the installed
    package."""
    # Later releases warn about programs that fork while they have threads, as workers do.
    fork_warning = ["-W", "ignore:This process:DeprecationWarning"]
    return [sys.executable, "-I", *fork_warning, "-c", source, *map(str, arguments)]


def run(command: list[str], *, env: Environment = None, **options: Any) -> subprocess.CompletedProcess:
    """Runs a command to its end. Its parent is the process that runs the tests."""
    return subprocess.run(
        command,
        env=environment(env),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="backslashreplace",
        timeout=2 * PATIENCE,
        **options,
    )


@contextlib.contextmanager
def started(command: list[str], **options: Any) -> Iterator[subprocess.Popen]:
    """A child of the process that runs the tests. It does not outlive its test."""
    with subprocess.Popen(
        command, env=environment(), stdout=subprocess.PIPE, text=True, **options
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def answer(source: str, *arguments: object, env: Environment = None) -> Any:
    """The JSON that a program prints. It must succeed, and print nothing to stderr."""
    ran = run(command(source, *arguments), env=env)
    assert (ran.returncode, ran.stderr) == (0, "")
    return json.loads(ran.stdout)


def threads(pid: int) -> list[str]:
    """The names of a process's threads, without those that end meanwhile."""
    names = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(OSError):
            names.append((task / "comm").read_text().strip())
    return sorted(names)


def sleeps(pid: int) -> dict[int, str]:
    """The system call that each thread of a process sleeps in: "poll", "futex", or "" for any other."""
    calls = {}
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(OSError):
            calls[int(task.name)] = _CALLS.get((task / "syscall").read_text().split()[0], "")
    return calls


def children() -> list[int]:
    """The children of this process, adopted orphans included."""
    found: list[int] = []
    for task in Path("/proc/self/task").iterdir():
        found += map(int, (task / "children").read_text().split())
    return found


class Worker:
    """The program under test. Its supervisor is an interpreter that only waits."""

    def __init__(self, command: list[str], env: Environment, log: Path) -> None:
        self.log = log
        self._buffer = b""
        self._output, write_end = os.pipe()
        with log.open("ab") as stderr:
            self.supervisor = subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", _SUPERVISOR, str(write_end), *command],
                env=environment(env),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                pass_fds=[write_end],
            )
        os.close(write_end)
        assert self.supervisor.stdout is not None
        self.pid = int(self.supervisor.stdout.readline())

    def line(self) -> str:
        """The next line that it prints; "" when every writer has ended."""
        end = time.monotonic() + PATIENCE
        while b"\n" not in self._buffer:
            left = max(0.0, end - time.monotonic())
            assert select.select([self._output], [], [], left)[0], f"nothing printed; {self.said()!r}"
            got = os.read(self._output, 4096)
            if not got:
                return ""
            self._buffer += got
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line.decode()

    def report(self) -> Any:
        """The next line, read as JSON."""
        line = self.line()
        assert line, self.said()
        return json.loads(line)

    def said(self) -> str:
        """What the tree has printed to stderr so far."""
        return self.log.read_text(errors="backslashreplace")

    def death_line(self, tier: str = "event") -> str:
        """The library's last line, for a supervisor that was not named."""
        return (
            f"localai-parentwatch: parent {self.supervisor.pid} is gone, "
            f"worker {self.pid} exits ({tier})\n"
        )

    def kill_supervisor(self) -> None:
        self.supervisor.kill()
        self.supervisor.wait()

    def ended(self) -> int:
        """Waits for its end and reaps it. Returns the exit status, or the negative signal number."""
        found: list[int] = []

        def reap() -> bool:
            # It is not our child until it is adopted.
            with contextlib.suppress(ChildProcessError):
                pid, status = os.waitpid(self.pid, os.WNOHANG)
                if pid:
                    found.append(os.waitstatus_to_exitcode(status))
            return bool(found)

        wait_until(reap, f"worker {self.pid} has ended; stderr: {self.said()!r}")
        return found[0]

    def close(self) -> None:
        """Kills the supervisor and closes the pipes."""
        if self.supervisor.poll() is None:
            self.kill_supervisor()
        for pipe in (self.supervisor.stdin, self.supervisor.stdout):
            if pipe is not None:
                pipe.close()
        os.close(self._output)


def leave_nobody() -> list[int]:
    """Waits until this process has no children. Kills those that do not end, and returns them."""
    end = time.monotonic() + PATIENCE / 2
    left: set[int] = set()
    while True:
        try:
            while os.waitpid(-1, os.WNOHANG) != (0, 0):
                pass
        except ChildProcessError:
            return sorted(left)
        if time.monotonic() > end:
            for pid in children():
                left.add(pid)
                os.kill(pid, signal.SIGKILL)
        time.sleep(_PAUSE)
