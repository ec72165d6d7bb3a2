"""X01 to X12: a program that `localai-parentwatch exec` runs. Only in X12 it uses the library.

Its guardian is no child of any process in the tree: the pictures do not show it.
"""

import contextlib
import json
import os
import pty
import select
import signal
import subprocess
import sys
import termios
from collections.abc import Iterator
from pathlib import Path

import pytest

from driver import procfs
from driver.deadline import PATIENCE, Deadline, wait_until
from driver.failures import StillAlive
from driver.pidfd import Exit, Pidfd
from driver.programs import Programs
from driver.roles import BY_THE_GUARDIAN, Process, Supervisor, Worker
from driver.tree import SCOPE, Tree

KILLED = Exit(signal=signal.SIGKILL)


def guardians(of: int | None = None) -> list[int]:
    """The guardians below the driver, or those of one process."""
    title = "localai-parentwatch: guarding "
    wanted = title if of is None else f"{title}{of}"
    found = []
    for pid in procfs.descendants(os.getpid()):
        line = procfs.command_line(pid).rstrip()
        if line.startswith(title) and (of is None or line.split(" for ")[0] == wanted):
            found.append(pid)
    return found


def assert_no_guardian(of: int | None = None) -> None:
    wait_until(lambda: not guardians(of), "no guardian is left", failure=StillAlive)
    reap_orphans()


def reap_orphans() -> None:
    """The adopted children of the driver that the test does not know: guardians that have ended."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG) != (0, 0):
            pass


def run(programs: Programs, *command: str, **options) -> subprocess.CompletedProcess:
    """Runs a command by exec. Its supervisor is the driver."""
    return subprocess.run(
        [programs.program, "exec", *command],
        env=without_ours(),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        **options,
    )


def without_ours() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("LOCALAI_")}


# -- X01, X02: CMD's own end -----------------------------------------------------------------------

WAITS = ["/bin/sh", "-c", '"$@" & wait', "sh"]
LEAVES = ["/bin/sh", "-c", '"$@" & exit', "sh"]


def helper(tree: Tree, worker: Worker, where: str) -> Process:
    """Starts a helper of the worker, in that place."""
    session = tree.launch("--setsid")
    via, options = {
        "group": ([], []),
        "session": (session, []),
        "forked-twice": ([*LEAVES, *session, *LEAVES, *session], []),
        "ignores-term": (session, ["--ignores-term"]),
        "hides": (session, ["--hides"]),
        "empty-environment": (["/usr/bin/env", "-i", *session], []),
        "forks-in-a-loop": (session, ["--forks"]),
    }[where]
    return worker.start_helper("helper", *options, via=via)


PLACES = [
    "group",
    "session",
    "forked-twice",
    "ignores-term",
    "hides",
    "empty-environment",
    "forks-in-a-loop",
]


@pytest.mark.fails_with(
    "setpriv", because="it does not see the program die", place=["session"], end=[signal.SIGKILL]
)
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGSEGV], ids=["killed", "crashed"])
def test_x01_program_dies(
    tree: Tree, supervisor: Supervisor, worker: Worker, place: str, end: signal.Signals
) -> None:
    """driver ── supervisor ── worker † ┄ helper"""
    gone = helper(tree, worker, place)
    worker.kill(end)
    gone.assert_ended()
    worker.assert_gone(Exit(signal=end))
    tree.wait_for_strangers_to_end()
    supervisor.assert_serving()


@pytest.mark.parametrize("place", ["session", "forked-twice"])
def test_x01_program_exits(tree: Tree, supervisor: Supervisor, worker: Worker, place: str) -> None:
    """driver ── supervisor ── worker, exits with status 9 ┄ helper"""
    worker.ask("drain", 0)
    gone = helper(tree, worker, place)
    worker.kill(signal.SIGTERM)
    gone.assert_ended()
    worker.assert_gone(Exit(status=9))
    tree.wait_for_strangers_to_end()


def test_x01_program_dies_poll_tier(tree: Tree) -> None:
    """driver ── supervisor ── worker †, pidfd_open refused ┄ helper"""
    tree.tier = "poll"
    worker = tree.supervisor().worker()
    worker.assert_armed()
    gone = helper(tree, worker, "forked-twice")
    worker.kill()
    gone.assert_ended()
    tree.wait_for_strangers_to_end()


@pytest.mark.parametrize(("scope", "stays"), [("group", True), ("process", True), ("tree", False)])
def test_x01_scope(tree: Tree, supervisor: Supervisor, scope: str, stays: bool) -> None:
    """driver ── supervisor ── worker † ┄ helper in its own session: the scope decides whether it
    goes"""
    worker = supervisor.worker(env={SCOPE: scope})
    left = helper(tree, worker, "session")
    worker.kill()
    # The guardian has finished.
    assert_no_guardian(tree.inner_pid("worker"))
    assert left.pidfd.has_ended() == (not stays)


@pytest.mark.needs("pid-namespace")
@pytest.mark.fails_with("setpriv", because="it does not see the program die")
def test_x01_program_of_pid_1_dies(tree: Tree) -> None:
    """driver ── [ init, PID 1 ── worker † ┄ helper ]: there is no supervisor to watch"""
    init = tree.supervisor("init", via=["unshare", "--pid", "--fork", "--mount-proc"])
    worker = init.worker()
    gone = helper(tree, worker, "forked-twice")
    worker.kill(reap=False)
    gone.assert_ended()
    init.assert_serving()


@pytest.mark.parametrize("victim", ["supervisor", "outer", "inner"])
def test_x02_nested(tree: Tree, supervisor: Supervisor, victim: str) -> None:
    """driver ── supervisor ── shell, by exec ── worker, by exec ┄ helper"""
    shell = ["/bin/sh", "-c", '"$@"; exit $?', "sh"]
    worker = supervisor.worker(via=[tree.programs.program, "exec", "--", *shell])
    outer = Process(tree, "outer", worker.parent())
    gone = helper(tree, worker, "forked-twice")
    assert len(guardians(tree.inner_pid("worker"))) == 1
    assert len(guardians(outer.pid)) == 1
    {"supervisor": supervisor, "outer": outer, "inner": worker}[victim].kill()
    gone.assert_ended()
    outer.assert_ended()
    worker.assert_gone((KILLED, *BY_THE_GUARDIAN))
    assert_no_guardian()


# -- X03, X04: the program is the same as without exec ---------------------------------------------

# What a process can find out about itself, except what must differ.
PROBE = r"""
import json, os, resource, signal, sys
status = dict(line.split(":\t", 1) for line in open("/proc/self/status").read().splitlines())
fields = open("/proc/self/stat").read().rpartition(")")[2].split()
print(json.dumps({
    "process": os.getpid(), "parent": os.getppid(),
    "group": "own" if os.getpgid(0) == os.getpid() else os.getpgid(0),
    "session": os.getsid(0), "tty": fields[4],
    "descriptors": {fd: os.readlink(f"/proc/self/fd/{fd}").split(":")[0]
                    for fd in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{fd}")},
    "status": {name: status[name] for name in (
        "Uid", "Gid", "Groups", "SigBlk", "SigIgn", "SigCgt", "SigPnd", "ShdPnd", "CapInh", "CapPrm",
        "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp", "Umask", "Cpus_allowed", "Threads")},
    "nice": os.getpriority(os.PRIO_PROCESS, 0), "folder": os.getcwd(),
    "oom": open("/proc/self/oom_score_adj").read(), "cgroup": open("/proc/self/cgroup").read(),
    "limits": {n: resource.getrlimit(getattr(resource, n)) for n in dir(resource)
               if n.startswith("RLIMIT_") and n != "RLIMIT_RTTIME"},
    "environment": dict(os.environ), "arguments": sys.argv[1:],
}, sort_keys=True))
"""


@pytest.mark.parametrize("how", ["plain", "strange"])
def test_x03_what_a_program_inherits(tree: Tree, tmp_path: Path, how: str) -> None:
    """driver ── probe, once by exec and once without"""
    # Python itself changes signals, so the probe is another program.
    look = ["/bin/sh", "-c", "grep -E 'Sig[BICP]|Shd' /proc/self/status; ls /proc/self/fd"]
    steps = [] if how == "plain" else ["nice", "-n", "5", "setsid"]
    started = tmp_path / "started"

    def before() -> None:
        started.write_text(str(os.getpid()))
        if how == "strange":
            os.umask(0o27)
            signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1, signal.SIGTERM])
            signal.signal(signal.SIGPIPE, signal.SIG_IGN)
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            os.close(0)

    def seen(*prefix: str) -> tuple[dict, str]:
        def output(command: list[str]) -> str:
            said = subprocess.run(
                [*steps, *prefix, *command],
                env={**without_ours(), "A": "b", "EMPTY": ""},
                stdout=subprocess.PIPE,
                cwd=tmp_path,
                preexec_fn=before,
                restore_signals=False,
                check=True,
                timeout=PATIENCE,
                text=True,
            ).stdout
            # It differs from run to run: the program has the process id of the process that was
            # started.
            return said.replace(f'"process": {started.read_text()},', '"process": "the same",')

        probe = json.loads(output([sys.executable, "-I", "-S", "-c", PROBE, "-x", "--", "a b", ""]))
        probe["session"] = probe["session"] if how == "plain" else "its own"
        return probe, output(look)

    guarded, bare = seen(tree.programs.program, "exec", "--"), seen()
    different = {
        name: (guarded[0][name], bare[0][name]) for name in bare[0] if guarded[0][name] != bare[0][name]
    }
    assert not different
    assert guarded[1] == bare[1]
    assert_no_guardian()


@pytest.mark.parametrize("status", [0, 1, 7, 255])
def test_x04_status(programs: Programs, tree: Tree, status: int) -> None:
    """driver ── sh, ends by itself"""
    ran = run(programs, "--", "sh", "-c", f"exit {status}")
    assert (ran.returncode, ran.stdout, ran.stderr) == (status, "", "")
    assert_no_guardian()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGABRT])
def test_x04_signal(programs: Programs, tree: Tree, number: signal.Signals) -> None:
    """driver ── sh, ends by a signal"""
    ran = run(programs, "--", "sh", "-c", f"kill -{int(number)} $$")
    assert (ran.returncode, ran.stderr) == (-number, "")
    assert_no_guardian()


@pytest.mark.parametrize(
    ("arguments", "status", "line"),
    [
        (["--", "no-such-program"], 127, "no-such-program: No such file or directory"),
        (["--", "/proc/version"], 126, "/proc/version: Permission denied"),
        (["--grace", "soon", "true"], 2, "invalid value 'soon' for '--grace <DURATION>'"),
        (["--wrong", "true"], 2, "unexpected argument '--wrong' found; usage: "),
        ([], 2, "the following required arguments were not provided: <CMD>...; usage: "),
    ],
)
def test_x04_usage_errors(
    programs: Programs, tree: Tree, arguments: list[str], status: int, line: str
) -> None:
    """driver ── nobody"""
    ran = run(programs, *arguments)
    assert (ran.returncode, ran.stdout) == (status, "")
    assert ran.stderr.startswith(f"localai-parentwatch: {line}")
    assert len(ran.stderr.splitlines()) == 1
    usage = "; usage: localai-parentwatch exec [OPTIONS] [--] CMD [ARG]..."
    assert ran.stderr.endswith(f"{usage}\n") == (status == 2)
    assert_no_guardian()


# -- X05, X06: shells ------------------------------------------------------------------------------


class Terminal:
    """An interactive shell on its own terminal."""

    def __init__(self, tree: Tree, log: Path) -> None:
        pid, self._fd = pty.fork()
        if pid == 0:
            os.environ.update(PS1="", TERM="dumb")
            # A shell makes its background jobs ignore this signal, and every job here would inherit
            # that.
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            os.execvp("bash", ["bash", "--norc", "--noprofile", "-i"])
        self.shell = Process(tree, "shell", pid)
        self.said = b""
        attributes = termios.tcgetattr(self._fd)
        attributes[3] &= ~termios.ECHO
        termios.tcsetattr(self._fd, termios.TCSANOW, attributes)

    def type(self, text: str) -> None:
        os.write(self._fd, text.encode())

    def await_text(self, text: str) -> None:
        deadline = Deadline()
        while text.encode() not in self.said:
            assert not deadline.passed(), f"{text!r} was never said: {self.said!r}"
            if select.select([self._fd], [], [], 0.1)[0]:
                self.said += os.read(self._fd, 4096)
        self.said = self.said.partition(text.encode())[2]

    def close(self) -> None:
        os.close(self._fd)


@pytest.fixture
def terminal(tree: Tree, tmp_path: Path) -> Iterator[Terminal]:
    terminal = Terminal(tree, tmp_path / "terminal.log")
    yield terminal
    terminal.shell.kill()
    terminal.close()


def test_x05_job_control(tree: Tree, terminal: Terminal) -> None:
    """terminal ── bash ── program, by exec: stopped, continued, interrupted"""
    program = [tree.programs.program, "exec", "--", "sh", "-c"]
    quoted = " ".join(program) + " 'echo begun $$; read line; echo got $line; exec sleep 1000'\n"
    terminal.type(quoted)
    terminal.await_text("begun ")
    terminal.type("\x1a")  # Ctrl-Z
    terminal.await_text("Stopped")
    terminal.type("fg\n")
    terminal.await_text("exec")
    terminal.type("hello\n")
    terminal.await_text("got hello")
    terminal.type("\x03")  # Ctrl-C
    # The program has ended. The terminal may discard what is typed before that.
    assert_no_guardian()
    terminal.type("echo status $?\n")
    terminal.await_text("status 130")


def test_x06_pipeline(programs: Programs, tree: Tree) -> None:
    """driver ── bash ══ seq, by exec │ sort │ tail: the script goes on"""
    script = f"""
        set -o pipefail
        {programs.program} exec -- seq 1 1000000 | sort -n | tail -n 1
        {programs.program} exec -- yes | head -n 1
        echo "and yes: ${{PIPESTATUS[0]}}"
        echo on
    """
    ran = subprocess.run(
        ["bash", "-c", script],
        env=without_ours(),
        stdout=subprocess.PIPE,
        timeout=PATIENCE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGPIPE, signal.SIG_DFL),
    )
    assert ran.stdout.splitlines() == ["1000000", "y", "and yes: 141", "on"]
    assert_no_guardian()


@pytest.mark.parametrize("job_control", [True, False], ids=["job-control", "script"])
def test_x06_neighbour_in_the_pipeline_lives_on(tree: Tree, job_control: bool) -> None:
    """driver ── bash ══ true, by exec, leads the group under job control │ neighbour: reads on"""
    held, hold = os.pipe()
    program = f"{tree.programs.program} exec -- true"
    neighbour = f"{{ cat; echo neighbour waits; read -u {held}; echo neighbour goes on; }}"
    set_m = "set -m; " if job_control else ""
    with (
        subprocess.Popen(
            ["bash", "-c", f"{set_m}{program} | {neighbour}; echo script goes on"],
            env=without_ours(),
            stdout=subprocess.PIPE,
            pass_fds=[held],
            start_new_session=True,
            text=True,
        ) as shell,
        open(hold, "wb") as held_open,
    ):
        os.close(held)
        known = Process(tree, "shell", shell.pid)
        assert shell.stdout
        assert shell.stdout.readline() == "neighbour waits\n"
        # The program and its guardian have ended, so nothing more happens to the group.
        wait_until(lambda: len(procfs.descendants(shell.pid)) == 1, "the program is reaped")
        assert_no_guardian()
        (waiting,) = procfs.descendants(shell.pid)
        assert (os.getpgid(waiting) != shell.pid) == job_control
        known.assert_alive()
        held_open.close()
        said, _ = shell.communicate(timeout=PATIENCE)
    assert said.splitlines() == ["neighbour goes on", "script goes on"]


def test_x06_reader_sees_the_end_of_the_pipe(programs: Programs, tree: Tree) -> None:
    """driver ── cat, by exec: the guardian holds none of its pipes"""
    command = [programs.program, "exec", "--", "cat"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as program:
        assert program.stdin
        assert program.stdout
        wait_until(lambda: guardians(program.pid), "it is guarded")
        (guardian,) = guardians(program.pid)

        def held() -> set[str]:
            with contextlib.suppress(FileNotFoundError):
                return {os.readlink(link) for link in Path(f"/proc/{guardian}/fd").iterdir()}
            return set()

        # It first answers through a pipe of its own.
        wait_until(lambda: held() == {"anon_inode:[pidfd]"}, "it holds pidfds only")
        program.stdin.close()
        assert program.stdout.read() == b""
    assert program.returncode == 0
    assert_no_guardian()


# -- X07 to X11 ------------------------------------------------------------------------------------


def test_x07_program_waits_for_all_children(programs: Programs, tree: Tree) -> None:
    """driver ── program, by exec, waits until it has no child"""
    # __WALL also waits for a child that sends no SIGCHLD.
    source = (
        "import os\ntry:\n    while True: os.waitpid(-1, 0x40000000)\n"
        "except ChildProcessError: print('none')"
    )
    ran = run(programs, "--", sys.executable, "-I", "-c", source)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "none\n", "")
    ran = run(programs, "--", "sh", "-c", "true & wait; echo none")
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "none\n", "")
    assert_no_guardian()


def test_x08_two_hundred_at_once(tree: Tree, supervisor: Supervisor) -> None:
    """(driver) ── supervisor † ══ 200 programs, by exec"""
    command = [tree.programs.program, "exec", "--", "sleep", "1000"]
    programs = []
    for _ in range(200):
        programs.append(Process(tree, "program", supervisor.spawn(*command)))
    wait_until(lambda: len(guardians()) == len(programs), "all are guarded")
    supervisor.kill()
    for program in programs:
        program.assert_gone(BY_THE_GUARDIAN)
    tree.wait_for_strangers_to_end(PATIENCE)


@pytest.mark.parametrize("wrapped", [False, True], ids=["direct", "wrapped"])
def test_x09_guardian_has_a_title(tree: Tree, named_supervisor: Supervisor, wrapped: bool) -> None:
    """driver ── supervisor, names itself ── [wrapper ──] worker: how ps shows its guardian"""
    worker = named_supervisor.wrapped_worker()[1] if wrapped else named_supervisor.worker()
    (guardian,) = guardians(worker.pid)
    title = f"localai-parentwatch: guarding {worker.pid} for {named_supervisor.pid}"
    assert procfs.command_line(guardian).rstrip() == title
    assert procfs.command_name(guardian) == procfs.WATCHER_THREAD


def test_x09_guardian_is_killed(tree: Tree, supervisor: Supervisor, worker: Worker) -> None:
    """driver ── supervisor ── worker, its guardian †"""
    (guardian,) = guardians(tree.inner_pid("worker"))
    held = Pidfd(guardian)
    held.send(signal.SIGKILL)
    assert held.wait_ended(Deadline())
    held.close()
    reap_orphans()
    worker.assert_serving()
    supervisor.kill()
    tree.see_a_death()
    worker.assert_serving()


def test_x09_guardian_ignores_signals(
    tree: Tree, supervisor: Supervisor, worker: Worker
) -> None:
    """(driver) ── supervisor † ── worker, whose guardian got SIGTERM, SIGHUP, SIGINT and SIGUSR1"""
    (guardian,) = guardians(tree.inner_pid("worker"))
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGUSR1):
        os.kill(guardian, number)
    assert os.getsid(guardian) == guardian
    assert os.readlink(f"/proc/{guardian}/cwd") == "/"
    assert not Path(f"/proc/{guardian}/environ").read_bytes().strip(b"\0")
    wait_until(lambda: procfs.resident_kib(guardian) <= 512, "it is small")
    supervisor.kill()
    worker.assert_gone()


def test_x09_stopped_program_ends(tree: Tree, supervisor: Supervisor, worker: Worker) -> None:
    """(driver) ── supervisor † ── worker, stopped"""
    worker.stop()
    supervisor.kill()
    worker.assert_gone(KILLED)


def test_x09_switched_off(tree: Tree, supervisor: Supervisor) -> None:
    """driver ── supervisor ── worker, without a guardian"""
    worker = supervisor.worker(env={"LOCALAI_BACKEND_PARENT_WATCH": "off"})
    assert worker.status_at_start == "disabled"
    assert not guardians()


@pytest.mark.parametrize("tier", ["event", "poll"])
def test_x10_supervisor_died_before(tree: Tree, supervisor: Supervisor, tier: str) -> None:
    """driver, adopts ── program, by exec, with the token of a dead supervisor"""
    token = supervisor.token()
    supervisor.kill()
    steps = ["--env", f"LOCALAI_BACKEND_PARENT_PID={token}"]
    if tier == "poll":
        steps += ["--refuse", "pidfd_open", "ENOSYS"]
    ran = subprocess.run(
        [*tree.launch(*steps), tree.programs.program, "exec", "--", "echo", "ran"],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert (ran.returncode, ran.stdout) == (1, "")
    line = f"localai-parentwatch: supervisor {supervisor.pid} is gone, worker "
    assert ran.stderr.startswith(line)
    assert ran.stderr.endswith(" exits (arming)\n")
    assert_no_guardian()


# An emulated processor takes more than a minute.
@pytest.mark.timeout(300)
def test_x11_no_zombie_is_left(programs: Programs, tree: Tree) -> None:
    """driver, a subreaper that reaps ══ 200 programs, one after another, stopped by SIGTERM"""
    for _ in range(200):
        command = [programs.program, "exec", "--", "sleep", "1000"]
        program = subprocess.Popen(command, process_group=0, env=without_ours())
        wait_until(lambda pid=program.pid: guardians(pid), "it is guarded")
        os.killpg(program.pid, signal.SIGTERM)
        assert program.wait(PATIENCE) == -signal.SIGTERM
    tree.wait_for_strangers_to_end()


def test_x11_adopter_that_does_not_reap(tree: Tree, supervisor: Supervisor) -> None:
    """driver ── supervisor ── adopter, does not reap ── worker † : its guardian stays a zombie"""
    adopter = supervisor.supervisor("adopter", subreaper=True, leaves_zombies=True)
    worker = adopter.worker()
    (guardian,) = guardians(tree.inner_pid("worker"))
    assert procfs.parent(guardian) == adopter.pid
    worker.kill(reap=False)
    wait_until(lambda: procfs.state(guardian) == "Z", "the guardian has ended")
    adopter.assert_serving()


@pytest.mark.parametrize(
    ("options", "in_cgroup"),
    [([], False), (["--cgroup"], True), (["--cgroup", "--scope", "process"], False)],
    ids=["mark", "cgroup", "cgroup-scope-process"],
)
def test_x01_helper_without_the_mark(
    tree: Tree, supervisor: Supervisor, options: list[str], in_cgroup: bool
) -> None:
    """driver ── supervisor ── worker † ┄ helper, forked twice, has set another RLIMIT_RTTIME"""
    command = tree.worker_command("worker")
    after = command.index("exec") + 1
    command[after:after] = options
    worker = tree.await_worker("worker", (supervisor.name, supervisor.spawn(*command)))
    if in_cgroup and "cannot create a control group" in tree.log():
        pytest.skip("needs a cgroup v2 in which one may be made")
    cgroup = Path(f"/proc/{worker.pid}/cgroup").read_text().split("0::", 1)[1].strip()
    own = f"localai-parentwatch.{tree.inner_pid('worker')}"
    assert cgroup.endswith(f"/{own}") == in_cgroup
    unmarked = ["prlimit", "--rttime=1000000:unlimited"]
    left = worker.start_helper("helper", via=[*LEAVES, *unmarked, *tree.launch("--setsid")])
    worker.kill()
    assert_no_guardian(tree.inner_pid("worker"))
    # Without a control group it is not found, as docs/limits.md says.
    assert left.pidfd.has_ended() == in_cgroup
    # Other tests remove their groups meanwhile, which os.walk ignores.
    assert not any(own in folders for _, folders, _ in os.walk("/sys/fs/cgroup"))


# -- X12: a program that uses the library too ------------------------------------------------------


@pytest.fixture
def linked(tree: Tree, supervisor: Supervisor) -> Worker:
    """The C worker, which arms, run by exec."""
    (*_, guarded), (own,) = tree.programs.workers["exec"], tree.programs.workers["c"]
    command = [own if word == guarded else word for word in tree.worker_command("worker")]
    worker = tree.await_worker("worker", (supervisor.name, supervisor.spawn(*command)))
    assert worker.status_at_start == "armed"
    assert len(guardians(worker.pid)) == 1
    return worker


def test_x12_supervisor_dies(tree: Tree, supervisor: Supervisor, linked: Worker) -> None:
    """(driver) ── supervisor † ── worker, armed ┄ helpers: it ends by itself, one line is written"""
    near = linked.start_helper("near", "--ignores-term")
    far = linked.start_helper("far", via=[*LEAVES, *tree.launch("--setsid")])
    supervisor.kill()
    linked.assert_gone(Exit(status=1))
    near.assert_gone(KILLED)
    far.assert_gone(Exit(signal=signal.SIGTERM))
    tree.wait_for_strangers_to_end()
    linked.assert_death_line(supervisor)
    assert len(tree.log_lines()) == 1, tree.log()


def test_x12_program_dies(tree: Tree, supervisor: Supervisor, linked: Worker) -> None:
    """driver ── supervisor ── worker, armed † ┄ helper"""
    gone = helper(tree, linked, "forked-twice")
    linked.kill()
    gone.assert_ended()
    tree.wait_for_strangers_to_end()
    supervisor.assert_serving()
