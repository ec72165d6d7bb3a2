"""Starts a process tree, receives its reports, and ends it."""

import array
import contextlib
import fcntl
import json
import os
import select
import signal
import socket
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from driver import procfs
from driver.deadline import PATIENCE, Deadline, wait_until
from driver.failures import DiedByMistake, LeftBehind, NeverServed
from driver.pidfd import Exit, Pidfd, set_subreaper
from driver.programs import CONTROLS, DEGRADED, GUARDED, POLLERS, Programs
from driver.roles import BY_THE_GUARDIAN, FileServer, Process, Supervisor, Worker

REPORT_FD = 60
"""The descriptor of the report socket in every process of a tree."""

INTERVAL = "LOCALAI_BACKEND_PARENT_WATCH_INTERVAL"
SCOPE = "LOCALAI_BACKEND_PARENT_WATCH_SCOPE"
GRACE = "LOCALAI_BACKEND_PARENT_WATCH_GRACE"

CANNOT_GO_ON = Exit(status=2)
"""How a program of the suite exits when it fails itself."""

_SAFE_FD = 200
_UCRED = struct.Struct("iii")
_REAPER_GRACE = 10.0


@dataclass(frozen=True)
class Report:
    """One packet that a process of the tree has sent."""

    name: str
    event: str
    sender: int
    """The sender's pid in the driver's PID namespace."""
    content: dict
    descriptors: tuple[int, ...]


class Tree:
    """All processes of one test. They are descendants of the driver."""

    def __init__(self, programs: Programs, language: str, log: Path) -> None:
        self.programs = programs
        self.language = language
        self.tier = "event"
        self.patience = PATIENCE
        """How many seconds a process that must end may still live."""
        self.processes: list[Process] = []
        self._log = log
        self._reports: list[Report] = []
        self._receiver, self._sender = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._receiver.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self._inner_pids: dict[str, int] = {}
        self._deaths = 0
        self._last_death: float | None = None

    # -- starting ---------------------------------------------------------------------------

    def start(self, command: list[str], inherit: dict[int, int] | None = None) -> int:
        """Starts a child of the driver in a new process group. Its stderr is the tree's log; the whole
        tree inherits that. `inherit` has further descriptors, by their numbers in the child."""
        log = os.open(self._log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        wanted = {1: log, 2: log, REPORT_FD: self._sender.fileno(), **(inherit or {})}
        sources = {
            target: fcntl.fcntl(source, fcntl.F_DUPFD_CLOEXEC, _SAFE_FD)
            for target, source in wanted.items()
        }
        os.close(log)
        actions: list[tuple] = [(os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0)]
        actions += [(os.POSIX_SPAWN_DUP2, source, target) for target, source in sources.items()]
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith("LOCALAI_")
        }
        try:
            return os.posix_spawnp(
                command[0],
                command,
                environment,
                file_actions=actions,
                setpgroup=0,
                setsigmask=[],
                setsigdef=[signal.SIGPIPE, signal.SIGXFSZ],
            )
        finally:
            for source in sources.values():
                os.close(source)

    def supervisor(
        self,
        name: str = "supervisor",
        *,
        names_itself: str | None = None,
        via: list[str] | None = None,
        inherit: dict[int, int] | None = None,
        subreaper: bool = False,
    ) -> Supervisor:
        """Starts a supervisor as a child of the driver. With `via`, that command is the child, and the
        supervisor is below it."""
        command = self.supervisor_command(name, names_itself=names_itself, subreaper=subreaper)
        pid = self.start([*(via or []), *command], inherit)
        if via:
            Process(self, via[0], pid)
        supervisor = self.await_supervisor(name)
        supervisor.names_itself = names_itself
        return supervisor

    def below_file_server(self, directory: Path, **options) -> tuple[FileServer, Supervisor]:
        """Starts a supervisor in a new mount namespace, in which `directory` is a file system whose
        server can stop answering. The mount ends with the namespace."""
        outside = self.supervisor("outside")
        inside = outside.supervisor("inside", via=["unshare", "--mount"])
        name = "file-server"
        command = [self.programs.file_server, "--report", str(REPORT_FD), "--name", name]
        inside.spawn(*command, "--mount", str(directory))
        pid = self.await_report(name, "ready").sender
        server = FileServer(self, name, pid, str(directory / "log"))
        return server, inside.supervisor("supervisor", **options)

    def supervisor_command(
        self,
        name: str,
        *,
        names_itself: str | None = None,
        subreaper: bool = False,
        leaves_zombies: bool = False,
    ) -> list[str]:
        command = [self.programs.supervisor, "--report", str(REPORT_FD), "--name", name]
        if names_itself:
            command += ["--names-itself", names_itself]
        if subreaper:
            command += ["--subreaper"]
        if leaves_zombies:
            command += ["--leaves-zombies"]
        return command

    def worker_command(
        self,
        name: str,
        *,
        arm: str = "first",
        steps: list[str] | None = None,
        env: dict[str, str] | None = None,
        arguments: list[str] | None = None,
    ) -> list[str]:
        """The command line of a worker of this tree's language, in this tree's tier."""
        steps = list(steps or [])
        env = dict(env or {})
        # In the event tier nothing may depend on polling: an interval of 1 h is never reached.
        env.setdefault(INTERVAL, "50ms" if self.tier == "poll" else "1h")
        if self.tier == "poll":
            steps += ["--refuse", "pidfd_open", "ENOSYS"]
        if self.language in POLLERS:
            env[INTERVAL] = "100ms"
        if self.language == "go-native":
            # Without /proc, go-native cannot find the library in its own folder.
            env["LD_LIBRARY_PATH"] = str(self.programs.prefix / "lib")
        for variable, value in env.items():
            steps += ["--env", f"{variable}={value}"]
        launch = [self.programs.launch, *steps, "--"] if steps else []
        program = self.programs.workers[self.language]
        options = ["--report", str(REPORT_FD), "--name", name, "--arm", arm, *(arguments or [])]
        return [*launch, *program, *options]

    def launch(self, *steps: str) -> list[str]:
        """The beginning of a command line: the launcher takes these steps and runs the rest."""
        return [self.programs.launch, *steps, "--"]

    def helper_command(self, name: str, *options: str) -> list[str]:
        return [self.programs.helper, "--report", str(REPORT_FD), "--name", name, *options]

    # -- reports ----------------------------------------------------------------------------

    def await_report(self, name: str, event: str, spawned: tuple[str, int] | None = None) -> Report:
        """Waits for the first report with that name and event, and takes it. `spawned` has the name
        of the process that started this one, and the pid that it reported. With that an early end is
        noticed."""
        deadline = Deadline()
        while True:
            for report in self._reports:
                if (report.name, report.event) == (name, event):
                    self._reports.remove(report)
                    return report
            for report in self._reports:
                if report.event == "reaped" and (report.name, report.content["pid"]) == spawned:
                    ended = Exit.from_wait_status(report.content["status"])
                    failure = NeverServed if ended == CANNOT_GO_ON else DiedByMistake
                    raise failure(f"{name} ended before it served, {ended}; the log:\n{self.log()}")
            if not self._receive(deadline):
                raise TimeoutError(f"no report {event!r} of {name!r}; the log:\n{self.log()}")

    def has_reported(self, name: str, event: str) -> bool:
        """Whether such a report has arrived."""
        while self._receive(Deadline(0)):
            pass
        return any((report.name, report.event) == (name, event) for report in self._reports)

    def await_supervisor(self, name: str) -> Supervisor:
        report = self.await_report(name, "serving")
        return Supervisor(self, name, report.sender, report.content["port"])

    def await_worker(self, name: str, spawned: tuple[str, int] | None = None) -> Worker:
        report = self.await_report(name, "serving", spawned)
        worker = Worker(self, name, report.sender, report.content["port"])
        worker.status_at_start = report.content["status"]
        return worker

    def await_helper(self, name: str) -> Process:
        return Process(self, name, self.await_report(name, "ready").sender)

    def _receive(self, deadline: Deadline) -> bool:
        poller = select.poll()
        poller.register(self._receiver, select.POLLIN)
        if not poller.poll(deadline.left_ms()):
            return False
        space = socket.CMSG_SPACE(_UCRED.size) + socket.CMSG_SPACE(4)
        packet, ancillary, _flags, _address = self._receiver.recvmsg(8192, space)
        sender = 0
        descriptors = array.array("i")
        for level, kind, data in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_CREDENTIALS:
                sender = _UCRED.unpack(data)[0]
            elif level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                descriptors.frombytes(data)
        content = json.loads(packet)
        if content["event"] in ("serving", "ready"):
            self._inner_pids[content["name"]] = content["pid"]
        self._reports.append(
            Report(content["name"], content["event"], sender, content, tuple(descriptors))
        )
        return True

    def reported_exit(self, name: str) -> Exit | None:
        """How a process has ended that another process of the tree has reaped. None if that was not
        reported. Reports name it by its pid in their PID namespace."""
        while self._receive(Deadline(0)):
            pass
        for report in self._reports:
            if report.event == "reaped" and report.content["pid"] == self._inner_pids.get(name):
                return Exit.from_wait_status(report.content["status"])
        return None

    def log(self) -> str:
        """All that the tree has written to stderr."""
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    def log_lines(self) -> list[str]:
        """The lines of the log that the library has written."""
        return [line for line in self.log().splitlines() if line.startswith("localai-parentwatch:")]

    # -- what a test needs of the tree as a whole --------------------------------------------

    @property
    def is_control(self) -> bool:
        return self.language in CONTROLS

    @property
    def without_handler(self) -> Exit | tuple[Exit, ...]:
        """How a worker ends that has a grace but no handler for SIGTERM: the watcher ends it. Go
        handles every signal, and ends the program by a signal that it does not ask for."""
        if self.is_guarded:
            return BY_THE_GUARDIAN
        return Exit(signal=signal.SIGTERM) if self.language == "go-native" else Exit(status=1)

    @property
    def is_degraded(self) -> bool:
        return self.language in DEGRADED

    @property
    def is_guarded(self) -> bool:
        return self.language in GUARDED

    def inner_pid(self, name: str) -> int:
        """The pid of a process in its own PID namespace."""
        return self._inner_pids[name]

    @property
    def pidfds_of_a_watch(self) -> int:
        """How many of the worker's descriptors the watcher uses for each watched process, in the
        event tier. None with the core library, which has its own descriptor table."""
        return 2 if self.is_degraded else 0

    def note_death(self) -> None:
        """Notes the time of a death. From now on a worker can notice it."""
        self._last_death = time.monotonic()

    def seconds_since_death(self) -> float | None:
        return None if self._last_death is None else time.monotonic() - self._last_death

    def workers_gone_after(self) -> list[float]:
        """For each worker whose end was seen: the seconds between the death and that end."""
        return [
            process.gone_after
            for process in self.processes
            if isinstance(process, Worker) and process.gone_after is not None
        ]

    def see_a_death(self) -> None:
        """Starts a second worker of the same kind, kills its supervisor, and waits for its end. So
        another watcher has had as much time to react to what happened before this call."""
        self._deaths += 1
        supervisor = self.supervisor(f"doomed-supervisor-{self._deaths}")
        worker = supervisor.worker(f"doomed-worker-{self._deaths}")
        supervisor.kill()
        # A control too sees this death, so it gets the same patience.
        worker.assert_gone(seconds=self.patience)

    def wait_for_strangers_to_end(self, seconds: float = _REAPER_GRACE) -> None:
        """Waits until the tree has only processes that the test knows. Above all, the reaper of a
        group must have ended."""
        strangers: dict[int, str] = {}

        def none_left() -> bool:
            strangers.clear()
            known = {process.pid for process in self.processes}
            for pid, state in procfs.descendants(os.getpid()).items():
                if pid in known:
                    continue
                # Its parent may be another process, and may have reaped the zombie meanwhile.
                try:
                    if state == "Z" and procfs.parent(pid) == os.getpid():
                        os.waitpid(pid, os.WNOHANG)
                        continue
                except OSError:
                    continue
                strangers[pid] = procfs.command_line(pid)
            return not strangers

        try:
            wait_until(none_left, "the tree is empty", Deadline(seconds))
        except TimeoutError:
            raise LeftBehind(f"processes that nobody ended: {strangers}") from None

    @contextlib.contextmanager
    def adopted_by_init(self) -> Iterator[None]:
        """Within this context the driver adopts no orphans. PID 1 adopts them, or a subreaper above
        the driver."""
        set_subreaper(False)
        try:
            yield
        finally:
            set_subreaper(True)

    # -- the end ------------------------------------------------------------------------------

    def close(self, *, failed: bool) -> None:
        """Kills and reaps all processes. If the test has not failed before, processes that it does not
        know must end by themselves. Otherwise it fails now."""
        try:
            # Workers before supervisors: a worker that loses its supervisor would begin to die.
            for process in sorted(self.processes, key=lambda process: process.takedown_order):
                process.pidfd.send(signal.SIGKILL)
            for process in self.processes:
                with contextlib.suppress(AssertionError):
                    process.pidfd.reap(Deadline(_REAPER_GRACE))
            self.wait_for_strangers_to_end(0.0 if failed else _REAPER_GRACE)
        except LeftBehind:
            kill_descendants()
            if not failed:
                raise
        finally:
            for process in self.processes:
                process.close()
            for report in self._reports:
                for descriptor in report.descriptors:
                    os.close(descriptor)
            self._receiver.close()
            self._sender.close()


def kill_descendants() -> None:
    """Kills and reaps all descendants of the driver."""
    deadline = Deadline()
    while (below := procfs.descendants(os.getpid())) and not deadline.passed():
        held = []
        for pid in below:
            with contextlib.suppress(ProcessLookupError):
                held.append(Pidfd(pid))
        # Look again, now that the pidfds are open: a pid may have been reused before that.
        still_below = procfs.descendants(os.getpid())
        for process in held:
            if process.pid in still_below:
                process.send(signal.SIGKILL)
            process.close()
            with contextlib.suppress(ChildProcessError):
                os.waitpid(process.pid, os.WNOHANG)
