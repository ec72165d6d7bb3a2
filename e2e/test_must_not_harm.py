"""H01 to H10: arming does not harm the program, whatever its state."""

import resource
import signal
from pathlib import Path

import pytest

from driver import procfs
from driver.deadline import Deadline, wait_until
from driver.limits import TaskLimit
from driver.programs import Programs
from driver.roles import NOBODY, SHELL_WRAPPER, Supervisor, Worker
from driver.seccomp import Listener
from driver.stderr import STDERR_KINDS, Stderr
from driver.tree import INTERVAL, REPORT_FD, Tree

limited = pytest.mark.parametrize("task_limit", ["rlimit", "cgroup"], indirect=True)


@pytest.mark.needs("root")
@pytest.mark.fails_with("poller", because="it ends the server if it cannot create a thread")
@limited
def test_h01_no_thread(tree: Tree, supervisor: Supervisor, task_limit: TaskLimit) -> None:
    """driver ── supervisor ── worker, a user at RLIMIT_NPROC, or root in a full pids cgroup"""
    worker = supervisor.worker(arm="request", steps=task_limit.steps)
    task_limit.leave(worker, 0)
    threads = procfs.threads(worker.pid)
    assert worker.arm() == "exhausted"
    assert worker.arm() == "exhausted"
    worker.assert_serving()
    assert worker.info()["state"] == "exhausted"
    assert not worker.pidfds()
    assert procfs.threads(worker.pid) == threads
    assert tree.log_lines()
    # Without the limit, a later call arms.
    task_limit.lift(worker)
    assert worker.arm() == "armed"
    supervisor.kill()
    worker.assert_gone()


@pytest.mark.needs("root")
@limited
def test_h01_one_warning(tree: Tree, supervisor: Supervisor, task_limit: TaskLimit) -> None:
    """driver ── supervisor ── worker, cannot create a thread, calls start once"""
    worker = supervisor.worker(arm="request", steps=task_limit.steps)
    task_limit.leave(worker, 0)
    assert worker.arm() == "exhausted"
    assert len(tree.log_lines()) == 1, tree.log()


@pytest.mark.needs("root")
@pytest.mark.not_for("go-native", because="Go has no hook")
@limited
def test_h01_no_second_thread(supervisor: Supervisor, task_limit: TaskLimit) -> None:
    """driver ── supervisor ── worker, with a hook: it can create one thread, and needs two"""
    worker = supervisor.worker(arm="request", steps=task_limit.steps, arguments=["--hook", "return"])
    task_limit.leave(worker, 1)
    assert worker.arm() == "exhausted"
    wait_until(lambda: len(procfs.threads(worker.pid)) == 1, "the hook's thread has ended")
    assert not worker.pidfds()
    task_limit.lift(worker)
    assert worker.arm() == "armed"
    supervisor.kill()
    worker.assert_gone()


@pytest.mark.not_for("go-native", because="its runtime creates its own threads with the same call")
def test_h01_no_thread_by_seccomp(programs: Programs, tree: Tree, supervisor: Supervisor) -> None:
    """driver ── supervisor ── worker, clone3 fails with EPERM: the C library has no fallback"""
    worker = supervisor.worker(arm="request", steps=["--refuse", programs.thread_call, "EPERM"])
    assert worker.arm() == "exhausted"
    worker.assert_serving()
    assert worker.info()["state"] == "exhausted"
    assert not worker.pidfds()
    assert tree.log_lines()


@pytest.mark.parametrize("tier", ["event", "poll"])
def test_h02_armed_from_16_threads_at_once(tree: Tree, supervisor: Supervisor, tier: str) -> None:
    """driver ── supervisor ── worker, 16 threads of it call start"""
    worker = supervisor.worker(arm="request")
    statuses = worker.ask("arm-from-threads")["statuses"]
    # A call that waited 1 s for the arming thread returns not_started.
    assert len(statuses) == 16
    assert "armed" in statuses
    assert set(statuses) <= {"armed", "not_started"}
    assert worker.arm() == "armed"
    assert len(worker.pidfds()) == (tree.pidfds_of_a_watch if tier == "event" else 0)
    worker.assert_armed(watched=[supervisor.pid])
    supervisor.kill()
    worker.assert_gone()
    worker.assert_death_line(supervisor)


def test_h02_armed_while_another_thread_is_stuck_in_it(tree: Tree, supervisor: Supervisor) -> None:
    """driver ── supervisor ── worker, one thread hangs while it arms, the other does not"""
    worker = supervisor.worker(arm="request", steps=["--notify", "pidfd_open", str(REPORT_FD)])
    listener = Listener(tree.await_report("launch", "listener").descriptors[0])
    worker.ask("arm-in-thread")
    held = listener.next_call(Deadline())
    # The watcher's thread hangs, and no caller waits longer than 1 s for it.
    assert worker.arm() == ("not_started" if tree.is_degraded else "armed")
    assert worker.info()["tier"] == "none"
    worker.assert_serving()
    listener.allow(held)

    def has_armed() -> bool:
        listener.allow_waiting_calls()
        return worker.info()["tier"] == "event"

    wait_until(has_armed, "the held thread has armed")
    assert worker.arm() == "armed"
    worker.assert_armed(watched=[supervisor.pid])
    supervisor.kill()
    listener.allow_calls_until_ready(worker.pidfd, Deadline())
    worker.assert_gone()
    listener.close()


NEVER_BLOCKED = {
    # The kernel does not allow to block these.
    signal.SIGKILL,
    signal.SIGSTOP,
    # The thread itself raises these: a handler of the program must run there.
    signal.SIGILL,
    signal.SIGTRAP,
    signal.SIGBUS,
    signal.SIGFPE,
    signal.SIGSEGV,
    signal.SIGSYS,
}


def signal_state(worker: Worker) -> dict[str, str]:
    """The signals that the main thread blocks, and that the process ignores and handles, without the
    two signals of the C library."""
    status = procfs.thread_status(worker.pid, worker.pid)
    return {key: status[key][8:] for key in ("SigBlk", "SigIgn", "SigCgt")}


@pytest.mark.needs("root")
@pytest.mark.parametrize("order", ["handlers-first", "arming-first"])
def test_h03_signals_and_setuid(tree: Tree, supervisor: Supervisor, order: str) -> None:
    """driver ── supervisor † ── worker, with a handler, a sigwait thread, and a change of user"""
    worker = supervisor.worker(arm="request")
    if order == "handlers-first":
        worker.ask("handle")
    before = signal_state(worker)
    worker.arm()
    assert signal_state(worker) == before
    if order == "arming-first":
        worker.ask("handle")
    worker.pidfd.send(signal.SIGUSR1)
    tree.await_report("worker", "handled")
    worker.pidfd.send(signal.SIGUSR2)
    tree.await_report("worker", "waited")

    worker.change_user(NOBODY)
    assert worker.has_threads_only_of(NOBODY)
    worker.assert_serving()
    supervisor.kill()
    worker.assert_gone()


@pytest.mark.not_for("exec", because="its guardian is another process")
@pytest.mark.not_for("go-degraded", because="it has no thread")
def test_h03_watcher_gets_no_signal(supervisor: Supervisor, worker: Worker) -> None:
    """driver ── supervisor ── worker, whose watcher blocks all signals that can be blocked"""
    blocked = int(procfs.thread_status(worker.pid, worker.watcher())["SigBlk"], 16)
    for number in set(signal.Signals) - NEVER_BLOCKED:
        assert blocked & 1 << number - 1, number
    supervisor.kill()
    worker.assert_gone()


def test_h04_unloaded_while_armed(tree: Tree, supervisor: Supervisor) -> None:
    """driver ── supervisor † ── worker: dlopen, arm, dlclose, and it runs on"""
    library = ["--library", tree.programs.shared_library]
    worker = supervisor.worker(arguments=library)
    worker.assert_armed(watched=[supervisor.pid])
    worker.ask("unload")
    worker.assert_serving()
    worker.watcher()
    worker.ask("reload")
    worker.assert_armed(watched=[supervisor.pid])
    worker.ask("unload")
    tree.see_a_death()
    worker.assert_serving()
    supervisor.kill()
    worker.assert_gone()
    worker.assert_death_line(supervisor)


def test_h05_descriptor_is_private(tree: Tree, supervisor: Supervisor) -> None:
    """driver ── supervisor † ── worker, started with descriptor 0 closed ── helper"""
    worker = supervisor.worker(steps=["--close", "0"])
    worker.assert_armed()
    pidfds = worker.pidfds()
    assert len(pidfds) == tree.pidfds_of_a_watch
    assert all(pidfd.number > 2 and pidfd.close_on_exec for pidfd in pidfds)
    helper = worker.start_helper("helper")
    assert not [found for found in procfs.descriptors(helper.pid) if found.is_pidfd()]
    supervisor.kill()
    worker.assert_gone()
    if not tree.is_degraded:
        helper.assert_gone(None)


@pytest.mark.not_for("go-degraded", because="it watches only the wrapper", wrapped=[True])
@pytest.mark.parametrize("wrapped", [False, True], ids=["direct", "wrapped"])
def test_h05_every_standard_descriptor_closed(
    tree: Tree, named_supervisor: Supervisor, wrapped: bool
) -> None:
    """driver ── supervisor † ── [wrapper ──] worker, started with descriptors 0, 1 and 2 closed"""
    worker = named_supervisor.worker(
        via=SHELL_WRAPPER if wrapped else None, steps=["--close", "0", "--close", "1", "--close", "2"]
    )
    worker.assert_armed()
    pidfds = worker.pidfds()
    assert len(pidfds) == tree.pidfds_of_a_watch * (2 if wrapped else 1)
    assert all(pidfd.number > 2 and pidfd.close_on_exec for pidfd in pidfds)
    named_supervisor.kill()
    worker.assert_gone()


PREFIX = "localai-parentwatch: LOCALAI_BACKEND_PARENT_"


@pytest.mark.parametrize(
    "value",
    [
        "banana",
        "-1s",
        "0",
        "1e400",
        "9999999999h",
        "5 s",
        pytest.param("\udcff", id="not-utf-8"),
        pytest.param("x" * 3000, id="long"),
    ],
)
def test_h06_bad_values(tree: Tree, supervisor: Supervisor, value: str) -> None:
    """driver ── supervisor † ── worker, with a bad value in every variable that can have one"""
    variables = {
        INTERVAL: value,
        "LOCALAI_BACKEND_PARENT_WATCH_SCOPE": value,
        "LOCALAI_BACKEND_PARENT_PID": value,
    }
    if value != "0":  # a valid grace: no time
        variables["LOCALAI_BACKEND_PARENT_WATCH_GRACE"] = value
    worker = supervisor.worker(env=variables)
    worker.assert_armed(watched=[supervisor.pid])
    assert worker.arm() == "armed"
    info = worker.info()
    # A guardian answers no requests.
    assert info["interval_ns"] == 2_000_000_000 or tree.is_guarded
    assert info["scope"] == ("process" if tree.is_degraded else "tree")
    assert info["grace_ns"] == 0
    # In the degraded mode, Go does not wait long for its lines to be written.
    wait_until(lambda: len(tree.log_lines()) >= len(variables), "the warnings")
    lines = tree.log_lines()
    for variable in variables:
        of_variable = [line for line in lines if f" {variable}=" in line]
        assert len(of_variable) == 1, tree.log()
        assert ": expected " in of_variable[0]
        assert "; using " in of_variable[0]
    assert len(lines) == len(variables), tree.log()
    supervisor.kill()
    worker.assert_gone()


@pytest.mark.parametrize("stderr", STDERR_KINDS, indirect=True)
def test_h06_warning_that_cannot_be_written(tree: Tree, stderr: Stderr) -> None:
    """driver ── supervisor † ── worker, warns while it arms, to the stderr in the test's parameter"""
    supervisor = tree.supervisor(inherit=stderr.inherit)
    worker = supervisor.worker(
        steps=stderr.steps,
        env={"LOCALAI_BACKEND_PARENT_WATCH_SCOPE": "banana", "LOCALAI_BACKEND_PARENT_PID": "0"},
    )
    worker.assert_armed(watched=[supervisor.pid])
    worker.assert_serving()
    supervisor.kill()
    worker.assert_gone()


@pytest.mark.not_for("exec", because="its guardian answers no requests")
@pytest.mark.parametrize(("value", "interval_ns"), [("1ns", 10_000_000), ("2h", 3_600_000_000_000)])
def test_h06_clamped_interval(tree: Tree, supervisor: Supervisor, value: str, interval_ns: int) -> None:
    """driver ── supervisor ── worker, with an interval out of range: one warning"""
    worker = supervisor.worker(env={INTERVAL: value})
    assert worker.info()["interval_ns"] == interval_ns
    wait_until(tree.log_lines, "the warning")
    assert len(tree.log_lines()) == 1, tree.log()


def test_h06_bad_values_while_switched_off(tree: Tree, supervisor: Supervisor) -> None:
    """driver ── supervisor ── worker, switched off, with bad values: no warning"""
    worker = supervisor.worker(
        env={
            "LOCALAI_BACKEND_PARENT_WATCH": "off",
            INTERVAL: "banana",
            "LOCALAI_BACKEND_PARENT_WATCH_SCOPE": "banana",
            "LOCALAI_BACKEND_PARENT_WATCH_GRACE": "banana",
            "LOCALAI_BACKEND_PARENT_PID": "banana",
        }
    )
    assert worker.status_at_start == "disabled"
    worker.info()
    assert not tree.log_lines()


def test_h07_idle(tree: Tree, supervisor: Supervisor) -> None:
    """driver ── supervisor ── worker, idle while twenty intervals of another worker pass"""
    env = {INTERVAL: "100ms"}
    worker = supervisor.worker(env=env)
    worker.assert_armed("event")
    clock = supervisor.worker("clock", steps=["--refuse", "pidfd_open", "ENOSYS"], env=env)
    clock.assert_armed("poll")

    def threads_of(watching: Worker) -> list[int]:
        """The threads that watch. In the degraded mode it may be any thread of the Go runtime."""
        return procfs.threads(watching.pid) if tree.is_degraded else [watching.watcher()]

    def switches(watching: Worker) -> int:
        process = watching.watcher_process()
        return sum(procfs.voluntary_switches(process, tid) for tid in threads_of(watching))

    def footprint() -> tuple[int, int, int, int]:
        return (
            switches(worker),
            sum(procfs.cpu_time_ns(worker.watcher_process(), tid) for tid in threads_of(worker)),
            len(procfs.descriptors(worker.watcher_process())),
            procfs.resident_kib(worker.watcher_process()),
        )

    def is_idle() -> bool:
        before, then = footprint(), switches(clock)
        # In Go, one poll wakes several threads.
        wait_until(lambda: switches(clock) > then + (60 if tree.is_degraded else 20), "twenty looks")
        return footprint() == before

    # The first one may include work that was left after the last request.
    assert is_idle() or is_idle()
    supervisor.kill()
    worker.assert_gone()
    clock.assert_gone()
    wait_until(lambda: supervisor.pidfd.has_ended(), "the supervisor has ended")


# -- H08, H09: the program's descriptors -----------------------------------------------------------


@pytest.mark.not_for("go-degraded", because="its descriptors are in the program's table")
@pytest.mark.not_for("exec", because="it looks for its guardian", limit=["none-left"])
@pytest.mark.parametrize("limit", ["no-limit", "none-left"])
@pytest.mark.parametrize("closed", [[], ["0"], ["0", "1", "2"]], ids=["none", "stdin", "all"])
def test_h08_descriptors_are_unchanged(
    named_supervisor: Supervisor, closed: list[str], limit: str
) -> None:
    """(driver) ── supervisor, names itself † ── wrapper ── worker, its descriptors before and after"""
    steps = [word for number in closed for word in ("--close", number)]
    worker = named_supervisor.worker(arm="request", via=SHELL_WRAPPER, steps=steps)
    with worker.session() as session:
        # Go loads the library through this.
        session.ask("info")
        if limit == "none-left":
            # As many as the watcher needs for its own table.
            resource.prlimit(worker.pid, resource.RLIMIT_NOFILE, (3, 3))
        before = procfs.descriptors(worker.pid)
        assert session.ask("arm")["status"] == "armed"
        assert session.ask("info")["tier"] == "event"
        assert procfs.descriptors(worker.pid) == before
    named_supervisor.kill()
    worker.assert_gone()


@pytest.mark.not_for("go-degraded", because="it makes none of these calls")
@pytest.mark.parametrize(
    ("refused", "tier"), [(["close_range"], "event"), (["close_range", "unshare"], "poll")]
)
@pytest.mark.parametrize("error", ["ENOSYS", "EPERM"])
def test_h09_no_separate_table(
    supervisor: Supervisor, refused: list[str], tier: str, error: str
) -> None:
    """(driver) ── supervisor † ── worker, seccomp refuses the calls for a separate table ── helper"""
    steps = [word for call in refused for word in ("--refuse", call, error)]
    worker = supervisor.worker(steps=steps, env={INTERVAL: "50ms"})
    worker.assert_armed(tier)
    assert not worker.pidfds()
    helper = worker.start_helper("helper", "--ignores-term")
    supervisor.kill()
    worker.assert_gone_before(helper)
    helper.assert_gone(None)


@pytest.mark.not_for("go-degraded", because="it makes none of these calls")
def test_h09_a_filter_that_kills(supervisor: Supervisor) -> None:
    """(driver) ── supervisor † ── worker, its stderr is a socket, pidfd_getfd kills"""
    worker = supervisor.worker(steps=["--dup2", str(REPORT_FD), "2", "--forbid", "pidfd_getfd"])
    supervisor.kill()
    worker.assert_gone()


# -- H10: a descriptor that the watcher closes hangs -----------------------------------------------


@pytest.mark.needs("fuse")
def test_h10_armed_while_a_file_system_hangs(tree: Tree, tmp_path: Path) -> None:
    """driver ── … ── supervisor † ── worker, arms with an open file on a hung file system"""
    server, supervisor = tree.below_file_server(tmp_path)
    worker = supervisor.worker(arm="request", steps=["--stderr", server.file])
    # Go loads the library through this.
    worker.info()
    server.hang()
    assert worker.arm() == "armed"
    assert worker.info()["tier"] == "none"
    worker.assert_serving()
    server.answer()
    wait_until(lambda: worker.info()["tier"] == "event", "the watch has begun")
    worker.assert_armed(watched=[supervisor.pid])
    supervisor.kill()
    worker.assert_gone()
