"""The parts that a process of a tree can play."""

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
"""How a worker ends whose supervisor is gone, whatever else happens."""

BY_THE_GUARDIAN = (Exit(signal=signal.SIGTERM), Exit(signal=signal.SIGKILL))
"""How one ends that is run by exec: it is not asked."""

NOBODY = 65534
"""A user whom RLIMIT_NPROC limits, as it does not limit root."""

HELPER_GRACE = 1.0
"""Seconds that a reaper leaves to the helpers; it has let go of every descriptor before."""

CONTROL_PATIENCE = 1.5
"""Seconds that a control is waited for: most of what is looked for there never comes."""

_LOOKS = 3
_SEPARATOR = b"\x1f"

TRACKER = "resource_tracker import main"
"""The name of a helper that the reaper takes for Python's resource tracker, by the command line: it has
5 s more than others to end."""

SHELL_WRAPPER = ["/bin/sh", "-c", '"$@"; exit "$?"', "sh"]
"""A shell that stays alive between the supervisor and what it starts, and ends as that did."""


class Session:
    """One connection to a process of the tree, for any number of requests."""

    def __init__(self, process: "Endpoint") -> None:
        self._process = process
        try:
            self._connection = socket.create_connection(("127.0.0.1", process.port), PATIENCE)
        except TimeoutError:  # Slow, not dead; an OSError, too.
            raise
        except OSError as error:
            raise DiedByMistake(f"{process} does not serve: {error}") from error
        self._lines = self._connection.makefile("rb")

    def fileno(self) -> int:
        """Readable when a reply has come."""
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
    """How what it starts is told who it is, if it is."""

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
        """Ends the process by a signal and sees that it has ended; without `reap` a zombie stays,
        if it is the driver's child."""
        self.tree.note_death()
        self.pidfd.send(number)
        self.await_end(reap=reap)

    def await_end(self, *, reap: bool = True) -> None:
        """For what no watcher has to end: if it stays, that is the machine's fault."""
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
        except OSError:  # It, or a thread of it, has gone on the way.
            return False

    def await_later_tick(self) -> None:
        """Waits until a process that starts from now on has a later start time than this one: it
        is told in ticks."""
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
        """Waits for the end of the process; false at the deadline. `gone_after` then tells how many
        seconds after the last death of the tree (`Tree.note_death`) the driver saw this one."""
        ended = self.pidfd.wait_ended(deadline)
        if ended and self.gone_after is None:
            self.gone_after = self.tree.seconds_since_death()
        return ended

    def assert_ended(self, seconds: float | None = None) -> None:
        """The process ends. It may be left as a zombie."""
        if not self.sees_end(Deadline(seconds or self._patience())):
            raise StillAlive(f"{self} is still alive; the log:\n{self.tree.log()}")

    def assert_gone(
        self, expected: Exit | tuple[Exit, ...] | None = None, seconds: float | None = None
    ) -> None:
        """The process ends, is reaped, and has ended as expected (None: however)."""
        self.assert_ended(seconds)
        ended = self.pidfd.reap(Deadline()) or self.tree.reported_exit(self.name)
        allowed = expected if isinstance(expected, tuple) else (expected,)
        if expected is not None and ended is not None and ended not in allowed:
            raise WrongExit(f"{self}: {ended}, not {expected}; the log:\n{self.tree.log()}")

    def _patience(self) -> float:
        # The naive control errs by dying, and that takes its time.
        stays = self.tree.is_control and self.tree.language != "naive"
        return CONTROL_PATIENCE if stays else self.tree.patience


class Endpoint(Process):
    """A process that answers requests on its port."""

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
        """The process is alive, and accepts and answers."""
        self.assert_alive()
        self.ask("ping")
        self.assert_alive()


class Supervisor(Endpoint):
    """A process that starts workers, and dies in the ways that a supervisor can."""

    def spawn(self, *command: str | bytes, request: str = "spawn") -> int:
        """Starts a child; its number, in the PID namespace of this process."""
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
        """Starts a worker (below `via`, if given) and waits until it serves."""
        command = self.tree.worker_command(name, arm=arm, steps=steps, env=env, arguments=arguments)
        pid = self.spawn(*(via or []), *command, request=request)
        return self.tree.await_worker(name, (self.name, pid))

    def wrapped_worker(self, **options) -> tuple[Process, "Worker"]:
        """Starts a shell, which starts a worker and stays alive above it."""
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
            # A leader of a group cannot make a session (setsid(2)).
            via, request = [self.tree.programs.launch, "--setsid", "--"], "spawn-in-group"
        self.spawn(*(via or []), *command, request=request)
        return self.tree.await_supervisor(name)

    def let_next_pid_be(self, number: int) -> None:
        """Gives that number to the next process of this PID namespace."""
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
            # While it execs from another thread than its main one, a look at its number may fail.
            with contextlib.suppress(OSError):
                return procfs.command_name(self.pid) == name
            return False

        wait_until(has_become, f"{self} has become {name}")

    def start_anew(self, request: str = "exec") -> None:
        """Execs its own program: the same process with the same children, on another port."""
        self.ask(request, *self.tree.supervisor_command(self.name))
        self.port = self.tree.await_report(self.name, "serving").content["port"]

    def end_spawning_thread(self) -> None:
        before = len(procfs.threads(self.pid))
        self.ask("end-spawning-thread")
        wait_until(lambda: len(procfs.threads(self.pid)) < before, "the spawning thread is gone")

    def leave_main_thread(self) -> None:
        """The main thread ends, another serves on: from outside, the state is that of a zombie."""
        self.ask("leave-main-thread")
        wait_until(lambda: procfs.state(self.pid) == "Z", f"the main thread of {self} is gone")


class FileServer(Process):
    """A process that answers for a file system with one file, and can stop doing so."""

    takedown_order = 0
    """Whoever waits for it cannot be killed before it answers or is gone."""

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
    """A process that arms the watcher and serves on its port."""

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
        """The process whose thread the watcher is: this one, or its guardian."""
        if not self.tree.is_guarded:
            return self.pid
        title = f"localai-parentwatch: guarding {self.tree.inner_pid(self.name)}"
        return next(
            (pid for pid in procfs.descendants(os.getpid()) if procfs.is_titled(pid, title)), self.pid
        )

    def watcher_threads(self) -> list[int]:
        return procfs.watcher_threads(self.watcher_process())

    def watcher(self) -> int:
        """The one watcher thread. It gives itself its name, which may be after arming has returned;
        until then a thread bears that of the process."""
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
        """The watcher runs, in the tree's tier (or the one given), on the processes given."""
        info = self.info()
        assert info["state"] == "armed", info
        if self.tree.is_control:
            return
        assert info["tier"] == (tier or self.tree.tier), info
        # What a guardian polls nobody can see.
        if watched is not None and not (self.tree.is_guarded and info["tier"] == "poll"):
            watched = [self.parent()] if self.tree.is_degraded else watched
            assert sorted(filter(None, info["watched"])) == sorted(watched), info
        if not self.tree.is_degraded:
            self.watcher()

    def await_looks(self, looks: int = _LOOKS) -> None:
        """Waits until a watcher that polls has looked so many times from now on."""
        if self.tree.is_degraded:
            # No thread of it can be watched. A worker that starts now lives for one look at least.
            self.tree.see_a_death()
            return
        try:
            watcher, process = self.watcher(), self.watcher_process()
            # The end of a look that is under way counts for one; the others are whole.
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
        """The worker was not killed by what happened before this call: its watcher has looked
        again where it polls, and otherwise (also where nothing is watched) a worker whose
        supervisor really died afterwards has gone meanwhile."""
        self.assert_alive()
        if self.info()["tier"] == "poll":
            self.await_looks()
        else:
            self.tree.see_a_death()
        self.assert_serving()

    def assert_gone_before(self, helper: Process) -> None:
        """The worker does not wait for its helper, and nothing holds the worker's port for as long
        as the helper lives."""
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
                # A helper is killed no sooner than a second after the reaper has closed its
                # descriptors: a look in the last half of it proves that they were not closed. A
                # driver that did not run meanwhile has not looked then.
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
        """The worker has ended by itself, with status 1; it is reaped; its port is free; and its
        helpers have ended, unless they are to stay, or it is one that ends alone by design."""
        if expected is BY_THE_WATCHER and self.tree.language in ("pdeathsig", "setpriv"):
            expected = Exit(signal=signal.SIGKILL)
        if expected is BY_THE_WATCHER and self.tree.is_guarded:
            expected = BY_THE_GUARDIAN
        super().assert_gone(expected, seconds)
        deadline = Deadline(self._patience())
        try:
            wait_until(self.port_is_free, f"port {self.port} is free", deadline, StillAlive)
        except StillAlive:
            # Who had it may have let go of it between the two looks.
            if not self._port_was_given_away() and not self.port_is_free():
                raise
        if with_helpers and not self.tree.is_degraded:
            deadline = Deadline(self._patience())
            for helper in self._helpers:
                if not helper.pidfd.wait_ended(deadline):
                    raise StillAlive(f"{self} is gone without {helper}; the log:\n{self.tree.log()}")

    def _port_was_given_away(self) -> bool:
        """The port was free, and the kernel gave it to a process that is none of this driver's."""
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
        """The one line that the library leaves behind: who is gone, who exits, by which tier."""
        if self.tree.is_control:
            return
        who = "supervisor" if supervisor.names_itself else "parent"
        line = (
            f"localai-parentwatch: {who} {supervisor.pid} is gone, "
            f"worker {self.pid} exits ({self.tree.tier})"
        )
        count = self.tree.log_lines().count(line)
        # Without the core, Go does not wait long for its line to be written before it ends.
        assert count == 1 or (self.tree.is_degraded and count == 0), self.tree.log()

    def has_threads_only_of(self, user: int) -> bool:
        """Every thread, the watcher included, has this user as real, effective and saved."""
        return all(
            procfs.thread_status(self.pid, tid)["Uid"].split()[:3] == [str(user)] * 3
            for tid in procfs.threads(self.pid)
        )
