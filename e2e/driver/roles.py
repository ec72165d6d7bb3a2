"""The roles of the processes in a tree: supervisor, worker, helper and others."""

import contextlib
import errno
import json
import math
import os
import select
import signal
import socket
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from driver import procfs
from driver.deadline import PATIENCE, Deadline, wait_until
from driver.failures import DiedByMistake, StillAlive, WrongExit
from driver.pidfd import Exit, Pidfd

if TYPE_CHECKING:
    from driver.tree import Tree

BY_THE_WATCHER = Exit(status=1)
"""How a worker ends when its supervisor is gone."""

BY_THE_GUARDIAN = (Exit(signal=signal.SIGTERM), Exit(signal=signal.SIGKILL))
"""How a worker that exec runs may end: its guardian signals it."""

NOBODY = 65534
"""A user without rights. RLIMIT_NPROC limits it; it does not limit root."""

HELPER_GRACE = 1.0
"""How many seconds the reaper gives the helpers. It has closed all its descriptors before."""

CONTROL_PATIENCE = 1.5
"""How many seconds the driver waits for a control. Mostly it waits for something that never comes."""

_LOOKS = 3
_SEPARATOR = b"\x1f"

TRACKER = "resource_tracker import main"
"""The name of a helper whose command line the reaper takes for Python's resource tracker. It gets 5 s
more than other helpers to end."""

SHELL_WRAPPER = ["/bin/sh", "-c", '"$@"; exit "$?"', "sh"]
"""A shell that stays alive between the supervisor and its child, and exits with the child's status."""


class Session:
    """A connection to a process of the tree, for any number of requests."""

    def __init__(self, process: "Endpoint") -> None:
        self._process = process
        try:
            self._connection = socket.create_connection(("127.0.0.1", process.port), PATIENCE)
        except TimeoutError:  # Slow, not dead. Comes first, since it is an OSError too.
            raise
        except OSError as error:
            raise DiedByMistake(f"{process} does not serve: {error}") from error
        self._lines = self._connection.makefile("rb")

    def fileno(self) -> int:
        """The descriptor. It is readable once a reply has come."""
        return self._connection.fileno()

    def close(self) -> None:
        self._lines.close()
        self._connection.close()

    def send(self, *words: str | bytes | int) -> None:
        encoded = [word if isinstance(word, bytes) else os.fsencode(str(word)) for word in words]
        try:
            self._connection.sendall(_SEPARATOR.join(encoded) + b"\n")
        except TimeoutError:
            raise
        except OSError as error:
            raise DiedByMistake(f"{self._process} hung up: {error}") from error

    def reply(self) -> dict:
        try:
            line = self._lines.readline()
        except TimeoutError:
            raise
        except OSError as error:
            raise DiedByMistake(f"{self._process} does not answer: {error}") from error
        if not line:
            raise DiedByMistake(f"{self._process} hung up; the log:\n{self._process.tree.log()}")
        return json.loads(line)

    def ask(self, *words: str | bytes | int) -> dict:
        self.send(*words)
        return self.reply()


class Process:
    """Any process of a tree."""

    takedown_order = 2
    names_itself: str | None = None
    """How the process names itself as supervisor to its children. None if it does not."""

    def __init__(self, tree: "Tree", name: str, pid: int) -> None:
        self.tree = tree
        self.name = name
        self.pid = pid
        self.pidfd = Pidfd(pid)
        self.gone_after: float | None = None
        tree.processes.append(self)

    def __str__(self) -> str:
        return f"{self.name} ({self.pid})"

    def close(self) -> None:
        self.pidfd.close()

    def token(self) -> str:
        return procfs.token(self.pid)

    def parent(self) -> int:
        return procfs.parent(self.pid)

    def kill(self, number: int = signal.SIGKILL, *, reap: bool = True) -> None:
        """Kills the process by a signal and waits for its end. Without `reap` it stays a zombie, if it
        is the driver's child."""
        self.tree.note_death()
        self.pidfd.send(number)
        self.await_end(reap=reap)

    def await_end(self, *, reap: bool = True) -> None:
        """Waits for an end that no watcher causes. A timeout is no fault of the watcher."""
        if not self.pidfd.wait_ended(Deadline()):
            raise TimeoutError(f"{self} does not end")
        if reap:
            self.pidfd.reap(Deadline(), TimeoutError)

    def stop(self) -> None:
        self.pidfd.send(signal.SIGSTOP)
        wait_until(self._every_thread_stopped, f"{self} is stopped")

    def resume(self) -> None:
        self.pidfd.send(signal.SIGCONT)
        wait_until(lambda: procfs.state(self.pid) != "T", f"{self} goes on")

    def _every_thread_stopped(self) -> bool:
        self.assert_alive()
        try:
            return all(
                procfs.thread_status(self.pid, tid)["State"].startswith("T")
                for tid in procfs.threads(self.pid)
            )
        except OSError:  # The process, or a thread of it, has just ended.
            return False

    def await_later_tick(self) -> None:
        """Waits until a new process gets a later start time than this one. Start times are counted in
        clock ticks."""
        hertz = os.sysconf("SC_CLK_TCK")
        started = procfs.start_time(self.pid)
        wait_until(lambda: procfs.uptime() * hertz > started + 2, "the clock ticks")

    def await_adoption(self, old_parent: int) -> None:
        """Waits until the process has another parent than `old_parent`."""
        wait_until(lambda: self.parent() != old_parent, f"{self} is adopted")

    def assert_alive(self) -> None:
        if self.pidfd.has_ended():
            raise DiedByMistake(f"{self} is gone; the log:\n{self.tree.log()}")

    def sees_end(self, deadline: Deadline) -> bool:
        """Waits for the end of the process. Returns False at the deadline. Sets `gone_after` to the
        seconds between the last noted death (`Tree.note_death`) and this end."""
        ended = self.pidfd.wait_ended(deadline)
        if ended and self.gone_after is None:
            self.gone_after = self.tree.seconds_since_death()
        return ended

    def assert_ended(self, seconds: float | None = None) -> None:
        """Asserts that the process ends. It may stay a zombie."""
        if not self.sees_end(Deadline(seconds or self._patience())):
            raise StillAlive(f"{self} is still alive; the log:\n{self.tree.log()}")

    def assert_gone(
        self, expected: Exit | tuple[Exit, ...] | None = None, seconds: float | None = None
    ) -> None:
        """Asserts that the process ends as expected and is reaped. None expects any end."""
        self.assert_ended(seconds)
        ended = self.pidfd.reap(Deadline()) or self.tree.reported_exit(self.name)
        allowed = expected if isinstance(expected, tuple) else (expected,)
        if expected is not None and ended is not None and ended not in allowed:
            raise WrongExit(f"{self}: {ended}, not {expected}; the log:\n{self.tree.log()}")

    def _patience(self) -> float:
        # Other controls fail by staying alive. The naive control fails by dying, so wait for that.
        stays = self.tree.is_control and self.tree.language != "naive"
        return CONTROL_PATIENCE if stays else self.tree.patience


class Endpoint(Process):
    """A process that answers requests on a TCP port."""

    def __init__(self, tree: "Tree", name: str, pid: int, port: int) -> None:
        super().__init__(tree, name, pid)
        self.port = port

    @contextlib.contextmanager
    def session(self) -> Iterator[Session]:
        session = Session(self)
        try:
            yield session
        finally:
            session.close()

    def ask(self, *words: str | bytes | int) -> dict:
        with self.session() as session:
            return session.ask(*words)

    def change_user(self, user: int) -> None:
        assert self.ask("setuid", user)["result"] == 0

    def assert_serving(self) -> None:
        """Asserts that the process is alive, accepts connections and answers."""
        self.assert_alive()
        self.ask("ping")
        self.assert_alive()


class Supervisor(Endpoint):
    """A process that starts workers and can die in several ways."""

    def spawn(self, *command: str | bytes, request: str = "spawn") -> int:
        """Starts a child. Returns its pid in the PID namespace of this process."""
        return self.ask(request, *command)["pid"]

    def worker(
        self,
        name: str = "worker",
        *,
        arm: str = "first",
        via: list[str] | None = None,
        steps: list[str] | None = None,
        env: dict[str, str] | None = None,
        arguments: list[str] | None = None,
        request: str = "spawn",
    ) -> "Worker":
        """Starts a worker, below `via` if that is given, and waits until it serves."""
        command = self.tree.worker_command(name, arm=arm, steps=steps, env=env, arguments=arguments)
        pid = self.spawn(*(via or []), *command, request=request)
        return self.tree.await_worker(name, (self.name, pid))

    def wrapped_worker(self, **options) -> tuple[Process, "Worker"]:
        """Starts a shell that starts a worker and stays alive as its parent."""
        worker = self.worker(via=SHELL_WRAPPER, **options)
        return Process(self.tree, "wrapper", worker.parent()), worker

    def supervisor(
        self,
        name: str,
        *,
        via: list[str] | None = None,
        request: str = "spawn",
        leads_session: bool = False,
        **options,
    ) -> "Supervisor":
        """Starts another supervisor below this one."""
        command = self.tree.supervisor_command(name, **options)
        if leads_session:
            # A group leader cannot make a session (setsid(2)).
            via, request = [self.tree.programs.launch, "--setsid", "--"], "spawn-in-group"
        self.spawn(*(via or []), *command, request=request)
        return self.tree.await_supervisor(name)

    def set_next_pid(self, number: int) -> None:
        """Makes the next process of this PID namespace get that pid."""
        shell = self.spawn("sh", "-c", f"echo {number - 1} >/proc/sys/kernel/ns_last_pid")
        while self.tree.await_report(self.name, "reaped").content["pid"] != shell:
            pass

    def exit_cleanly(self) -> None:
        self.tree.note_death()
        self.ask("exit")
        self.await_end(reap=False)
        self.assert_gone(Exit(status=0))

    def crash(self) -> None:
        self.tree.note_death()
        self.ask("crash")
        self.await_end(reap=False)
        self.assert_gone(Exit(signal=signal.SIGSEGV))

    def become(self, *command: str, request: str = "exec") -> None:
        """Execs another program, and waits until it runs."""
        self.ask(request, *command)
        name = command[0].rpartition("/")[2]

        def has_become() -> bool:
            # During an exec from a thread that is not the main thread, reading /proc may fail.
            with contextlib.suppress(OSError):
                return procfs.command_name(self.pid) == name
            return False

        wait_until(has_become, f"{self} has become {name}")

    def exec_itself(self, request: str = "exec") -> None:
        """Execs its own program again. The process keeps its children and gets another port."""
        self.ask(request, *self.tree.supervisor_command(self.name))
        self.port = self.tree.await_report(self.name, "serving").content["port"]

    def end_spawning_thread(self) -> None:
        before = len(procfs.threads(self.pid))
        self.ask("end-spawning-thread")
        wait_until(lambda: len(procfs.threads(self.pid)) < before, "the spawning thread is gone")

    def leave_main_thread(self) -> None:
        """Ends the main thread. Another thread goes on serving. The process then shows state Z."""
        self.ask("leave-main-thread")
        wait_until(lambda: procfs.state(self.pid) == "Z", f"the main thread of {self} is gone")


class FileServer(Process):
    """The server of a file system with one file. It can stop answering."""

    takedown_order = 0
    """First: a process that waits for this server cannot be killed until the server has ended."""

    def __init__(self, tree: "Tree", name: str, pid: int, file: str) -> None:
        super().__init__(tree, name, pid)
        self.file = file

    def hang(self) -> None:
        self.pidfd.send(signal.SIGUSR1)
        self.tree.await_report(self.name, "hangs")

    def answer(self) -> None:
        self.pidfd.send(signal.SIGUSR2)
        self.tree.await_report(self.name, "answers")


class Worker(Endpoint):
    """A process that arms the watcher and serves on a TCP port."""

    takedown_order = 1
    status_at_start = ""

    def __init__(self, tree: "Tree", name: str, pid: int, port: int) -> None:
        super().__init__(tree, name, pid, port)
        self._helpers: list[Process] = []

    def info(self) -> dict:
        return self.ask("info")

    def arm(self) -> str:
        return self.ask("arm")["status"]

    def start_helper(
        self, name: str = "helper", *options: str, via: list[str] | None = None
    ) -> Process:
        """Starts a helper in the worker's own process group, or below `via`."""
        self.ask("start", *(via or []), *self.tree.helper_command(name, *options))
        self._helpers.append(self.tree.await_helper(name))
        return self._helpers[-1]

    def watcher_process(self) -> int:
        """The pid of the process that has the watcher thread: this one, or its guardian."""
        if not self.tree.is_guarded:
            return self.pid
        title = f"localai-parentwatch: guarding {self.tree.inner_pid(self.name)}"
        return next(
            (pid for pid in procfs.descendants(os.getpid()) if procfs.is_titled(pid, title)), self.pid
        )

    def watcher_threads(self) -> list[int]:
        return procfs.watcher_threads(self.watcher_process())

    def watcher(self) -> int:
        """The id of the one watcher thread. Waits until the thread has set its name, which may happen
        after arming has returned."""
        found: list[int] = []

        def is_one() -> bool:
            self.assert_alive()
            found[:] = self.watcher_threads()
            return len(found) == 1

        wait_until(is_one, f"one watcher of {self}", failure=DiedByMistake)
        return found[0]

    def watcher_cpu_time_ns(self) -> int:
        try:
            return procfs.cpu_time_ns(self.watcher_process(), self.watcher())
        except OSError as error:
            raise DiedByMistake(f"{self} has no watcher; the log:\n{self.tree.log()}") from error

    def pidfds(self) -> list[procfs.Descriptor]:
        try:
            return [found for found in procfs.descriptors(self.pid) if found.is_pidfd()]
        except (FileNotFoundError, ProcessLookupError) as error:
            raise DiedByMistake(f"{self} is gone; the log:\n{self.tree.log()}") from error

    def assert_armed(self, tier: str | None = None, watched: list[int] | None = None) -> None:
        """Asserts that the watcher runs in the given tier (the tree's, if None), and that it watches
        the given processes."""
        info = self.info()
        assert info["state"] == "armed", info
        if self.tree.is_control:
            return
        # `start` returns after 1 s even if the watcher's thread has not run.
        deadline = Deadline()
        while info["tier"] == "none" and not deadline.passed():
            info = self.info()
        assert info["tier"] == (tier or self.tree.tier), info
        # Which processes a guardian polls is not visible from outside.
        if watched is not None and not (self.tree.is_guarded and info["tier"] == "poll"):
            watched = [self.parent()] if self.tree.is_degraded else watched
            assert sorted(filter(None, info["watched"])) == sorted(watched), info
        if not self.tree.is_degraded:
            self.watcher()

    def await_looks(self, looks: int = _LOOKS) -> None:
        """Waits until a watcher in the poll tier has polled that many times from now on."""
        if self.tree.is_degraded:
            # It has no watcher thread to observe. A worker that starts now lives for at least one poll.
            self.tree.see_a_death()
            return
        try:
            watcher, process = self.watcher(), self.watcher_process()
            # One more, since a poll may be under way now.
            wanted = procfs.voluntary_switches(process, watcher) + looks + 1
            wait_until(
                lambda: procfs.voluntary_switches(process, watcher) >= wanted,
                f"the watcher of {self} looks {looks} times",
            )
        except TimeoutError:
            raise
        except (OSError, KeyError, ValueError) as error:
            raise DiedByMistake(
                f"{self} has no watcher any more ({error}); the log:\n{self.tree.log()}"
            ) from error

    def assert_lives_on(self) -> None:
        """Asserts that what happened before this call did not kill the worker. In the poll tier, waits
        until its watcher has polled again. Otherwise, waits until a second worker has ended whose
        supervisor died after this call."""
        self.assert_alive()
        if self.info()["tier"] == "poll":
            self.await_looks()
        else:
            self.tree.see_a_death()
        self.assert_serving()

    def assert_gone_before(self, helper: Process) -> None:
        """Asserts that the worker does not wait for its helper, and that its port is free before the
        helper ends."""
        poller = select.poll()
        poller.register(self.pidfd.fd, select.POLLIN)
        poller.register(helper.pidfd.fd, select.POLLIN)
        if self.pidfd.fd not in dict(poller.poll(Deadline().left_ms())):
            raise StillAlive(f"{self} is still alive, and {helper} is not")
        held = -math.inf
        while True:
            looked = time.monotonic()
            is_free = self.port_is_free()
            if is_free and procfs.has_descriptors(helper.pid):
                break
            if not is_free:
                held = looked
            if helper.pidfd.has_ended():
                # The reaper closes its descriptors at least 1 s before it kills a helper. If the port
                # was still held in the last half second, they were not closed. If the driver did not
                # run in that time, it knows nothing.
                looked_in_time = time.monotonic() - held < HELPER_GRACE / 2
                if looked_in_time and not self._port_was_given_away():
                    raise StillAlive(f"the port of {self} was held as long as {helper} was alive")
                break
        self.assert_gone(with_helpers=False)

    def assert_gone(
        self,
        expected: Exit | tuple[Exit, ...] | None = BY_THE_WATCHER,
        seconds: float | None = None,
        *,
        with_helpers: bool = True,
    ) -> None:
        """Asserts that the worker has ended as expected (by default with status 1) and is reaped, that
        its port is free, and that its helpers have ended. Helpers may stay if `with_helpers` is
        False, or if the worker ends alone by design."""
        if expected is BY_THE_WATCHER and self.tree.language in ("pdeathsig", "setpriv"):
            expected = Exit(signal=signal.SIGKILL)
        if expected is BY_THE_WATCHER and self.tree.is_guarded:
            expected = BY_THE_GUARDIAN
        super().assert_gone(expected, seconds)
        deadline = Deadline(self._patience())
        try:
            wait_until(self.port_is_free, f"port {self.port} is free", deadline, StillAlive)
        except StillAlive:
            # Its holder may have closed it between these two looks.
            if not self._port_was_given_away() and not self.port_is_free():
                raise
        if with_helpers and not self.tree.is_degraded:
            deadline = Deadline(self._patience())
            for helper in self._helpers:
                if not helper.pidfd.wait_ended(deadline):
                    raise StillAlive(f"{self} is gone without {helper}; the log:\n{self.tree.log()}")

    def _port_was_given_away(self) -> bool:
        """Whether the kernel has given the port to a process outside of the driver's tree."""
        holders = procfs.holders_of_port(self.port)
        return bool(holders) and holders.isdisjoint({os.getpid(), *procfs.descendants(os.getpid())})

    def port_is_free(self) -> bool:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", self.port))
                probe.listen()
            except OSError as error:
                if error.errno == errno.EADDRINUSE:
                    return False
                raise
        return True

    def assert_death_line(self, supervisor: Process) -> None:
        """Asserts that the library has written its one line: which process is gone, which worker
        exits, and in which tier."""
        if self.tree.is_control:
            return
        who = "supervisor" if supervisor.names_itself else "parent"
        line = (
            f"localai-parentwatch: {who} {supervisor.pid} is gone, "
            f"worker {self.pid} exits ({self.tree.tier})"
        )
        count = self.tree.log_lines().count(line)
        # Without the core library, Go may end before its line is written.
        assert count == 1 or (self.tree.is_degraded and count == 0), self.tree.log()

    def has_threads_only_of(self, user: int) -> bool:
        """Whether all threads, including the watcher, have this real, effective and saved user id."""
        return all(
            procfs.thread_status(self.pid, tid)["Uid"].split()[:3] == [str(user)] * 3
            for tid in procfs.threads(self.pid)
        )
