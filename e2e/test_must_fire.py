"""F01 to F21: the supervisor is gone, so the worker, its port and its helpers must go.

In the pictures, † is what dies, and a name in (brackets) is what adopts the orphan.
"""

import contextlib
import fcntl
import os
import resource
import signal
import struct
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from driver import procfs
from driver.deadline import Deadline, wait_until
from driver.failures import DiedByMistake
from driver.pidfd import Exit
from driver.roles import NOBODY, SHELL_WRAPPER, Supervisor, Worker
from driver.seccomp import Listener
from driver.stderr import STDERR_FD, STDERR_KINDS, Stderr
from driver.tree import INTERVAL, REPORT_FD, Tree

PID_NAMESPACE = ["unshare", "--pid", "--fork", "--mount-proc"]
EVENT_SECONDS = 1.0
"""The contract of the event tier, far above what it takes."""

both_tiers = pytest.mark.parametrize("tier", ["event", "poll"])
reaped_or_zombie = pytest.mark.parametrize("remains", ["reaped", "zombie"])


@pytest.fixture
def shared_memory() -> Iterator[Path]:
    """A name in /dev/shm that is free, and that is free again afterwards."""
    path = Path(f"/dev/shm/parentwatch-e2e-{os.getpid()}")
    path.unlink(missing_ok=True)
    yield path
    path.unlink(missing_ok=True)


# -- F01 to F04: how the supervisor dies, and who adopts the worker --------------------------------


def test_f01_supervisor_sigkilled(supervisor: Supervisor, worker: Worker) -> None:
    """(driver) ── supervisor † ── worker"""
    supervisor.kill()
    worker.assert_gone(seconds=EVENT_SECONDS)
    worker.assert_death_line(supervisor)


def test_f01_supervisor_sigkilled_poll_tier(tree: Tree) -> None:
    """(driver) ── supervisor † ── worker, pidfd_open refused"""
    tree.tier = "poll"
    supervisor = tree.supervisor()
    worker = supervisor.worker()
    worker.assert_armed()
    worker.await_looks()
    supervisor.kill()
    worker.assert_gone()
    worker.assert_death_line(supervisor)


@reaped_or_zombie
def test_f01_named_supervisor_sigkilled(named_supervisor: Supervisor, remains: str) -> None:
    """(driver) ── supervisor, names itself † ── worker"""
    worker = named_supervisor.worker()
    worker.assert_armed(watched=[named_supervisor.pid])
    named_supervisor.kill(reap=remains == "reaped")
    worker.assert_gone()
    worker.assert_death_line(named_supervisor)


@pytest.mark.fails_with("poller", because="its exit runs the exit handlers", helpers=["alone"])
@pytest.mark.parametrize("helpers", ["alone", "with-helper", "session-leader-with-helper"])
def test_f01_worker_that_does_not_want_to_end(supervisor: Supervisor, helpers: str) -> None:
    """(driver) ── supervisor † ── worker, hangs in exit handlers and in SIGTERM's [── helper]"""
    if helpers == "session-leader-with-helper":
        worker = supervisor.worker(steps=["--setsid"], request="spawn-in-group")
    else:
        worker = supervisor.worker()
    worker.ask("resist")
    if helpers != "alone":
        worker.start_helper("helper")
    supervisor.kill()
    worker.assert_gone()


@pytest.mark.needs("adopting-init")
def test_f01_orphan_goes_to_init(tree: Tree, supervisor: Supervisor, worker: Worker) -> None:
    """(PID 1) … driver ── supervisor † ── worker"""
    with tree.adopted_by_init():
        supervisor.kill()
        worker.assert_gone()


def test_f02_supervisor_exits_cleanly(supervisor: Supervisor, worker: Worker) -> None:
    """(driver) ── supervisor, exit(0) † ── worker"""
    supervisor.exit_cleanly()
    worker.assert_gone()
    worker.assert_death_line(supervisor)


def test_f03_supervisor_dies_of_sigsegv(supervisor: Supervisor, worker: Worker) -> None:
    """(driver) ── supervisor, SIGSEGV † ── worker"""
    supervisor.crash()
    worker.assert_gone()
    worker.assert_death_line(supervisor)


@both_tiers
def test_f04_orphan_goes_to_subreaper(tree: Tree, tier: str) -> None:
    """driver ── subreaper ── (subreaper) ── supervisor † ── worker"""
    outer = tree.supervisor("outer-subreaper", subreaper=True)
    inner = outer.supervisor("inner-subreaper", subreaper=True)
    supervisor = inner.supervisor("supervisor")
    worker = supervisor.worker()
    worker.assert_armed(watched=[supervisor.pid])
    supervisor.kill()
    worker.assert_gone()
    inner.assert_serving()


# -- F05: the supervisor died before the worker armed ----------------------------------------------


def arm_without_reply(worker: Worker) -> None:
    """Asks the worker to arm, and leaves open whether it survives that."""
    with worker.session() as session:
        session.send("arm")
        with contextlib.suppress(DiedByMistake):
            session.reply()


@pytest.mark.fails_with("poller", because="it takes the adopter for its parent")
@reaped_or_zombie
@both_tiers
def test_f05_died_before_arming_adopted_by_subreaper(
    named_supervisor: Supervisor, remains: str, tier: str
) -> None:
    """(driver) ── supervisor, names itself † ── worker, arms afterwards"""
    worker = named_supervisor.worker(arm="request")
    named_supervisor.kill(reap=remains == "reaped")
    worker.await_adoption(named_supervisor.pid)
    arm_without_reply(worker)
    worker.assert_gone()


@pytest.mark.needs("pid-namespace")
@pytest.mark.fails_with("poller", because="under PID 1 it has no parent to watch")
@reaped_or_zombie
def test_f05_died_before_arming_adopted_by_init(tree: Tree, remains: str) -> None:
    """driver ── [ (init) ── keeper ── supervisor, names itself † ── worker, arms afterwards ]"""
    init = tree.supervisor("init", via=PID_NAMESPACE)
    keeper = init.supervisor("keeper", leaves_zombies=remains == "zombie")
    supervisor = keeper.supervisor("supervisor", names_itself="token")
    worker = supervisor.worker(arm="request")
    supervisor.kill(reap=remains == "reaped")
    worker.await_adoption(supervisor.pid)
    arm_without_reply(worker)
    worker.assert_gone()


@pytest.mark.needs("adopting-init", "initial-pid-namespace")
@pytest.mark.fails_with(
    "poller", because="under PID 1 it has no parent to watch", name=["pid"], remains=["reaped"]
)
@pytest.mark.parametrize(
    ("name", "remains"), [("pid", "reaped"), ("pid", "zombie"), ("token", "reaped")]
)
def test_f05_died_before_arming_adopted_by_the_real_init(tree: Tree, name: str, remains: str) -> None:
    """(PID 1) … driver ── supervisor, names itself † ── worker, arms afterwards"""
    supervisor = tree.supervisor(names_itself=name)
    worker = supervisor.worker(arm="request")
    with tree.adopted_by_init():
        supervisor.kill(reap=remains == "reaped")
        worker.await_adoption(supervisor.pid)
        arm_without_reply(worker)
        worker.assert_gone()


@pytest.mark.needs("pid-namespace")
def test_f05_died_before_arming_and_its_number_is_reused(tree: Tree) -> None:
    """driver ── [ (init) ─┬─ supervisor, names itself † ── worker, arms afterwards
    └─ stranger, has the supervisor's number ]"""
    init = tree.supervisor("init", via=PID_NAMESPACE)
    supervisor = init.supervisor("supervisor", names_itself="token")
    number = supervisor.ask("ping")["pid"]
    worker = supervisor.worker(arm="request")
    supervisor.await_later_tick()
    supervisor.kill()
    worker.await_adoption(supervisor.pid)
    init.let_next_pid_be(number)
    assert init.supervisor("stranger").ask("ping")["pid"] == number
    arm_without_reply(worker)
    worker.assert_gone()


def test_f05_token_of_the_library_names_the_process(tree: Tree, supervisor: Supervisor) -> None:
    """driver ── supervisor ── worker: what the library calls itself is what a child would verify"""
    worker = supervisor.worker()
    assert worker.ask("token")["token"] == procfs.token(worker.pid)


# -- F06: the race while arming --------------------------------------------------------------------


@contextlib.contextmanager
def listener_of(tree: Tree) -> Iterator[Listener]:
    """The listener of the filter that a step `--notify` of the tree has installed."""
    listener = Listener(tree.await_report("launch", "listener").descriptors[0])
    try:
        yield listener
    finally:
        listener.close()


@reaped_or_zombie
def test_f06_supervisor_dies_before_the_handle(
    tree: Tree, supervisor: Supervisor, remains: str
) -> None:
    """(driver) ── supervisor † ── worker, held by seccomp inside pidfd_open(supervisor)"""
    worker = supervisor.worker(arm="request", steps=["--notify", "pidfd_open", str(REPORT_FD)])
    with listener_of(tree) as listener, worker.session() as session:
        session.send("arm")
        held = listener.next_call(Deadline())
        while held.arguments[0] != supervisor.pid:
            listener.let_go(held)
            held = listener.next_call(Deadline())
        supervisor.kill(reap=remains == "reaped")
        worker.await_adoption(supervisor.pid)
        listener.let_go(held)
        listener.let_all_go_until_ended(worker.pidfd, Deadline())
        worker.assert_gone()


def test_f06_supervisor_dies_before_the_thread(tree: Tree, supervisor: Supervisor) -> None:
    """(driver) ── supervisor † ── worker, held by seccomp in the making of its watcher thread"""
    worker = supervisor.worker(arm="request", steps=["--notify", "clone3", str(REPORT_FD)])
    with listener_of(tree) as listener, worker.session() as session:
        session.send("arm")
        held = listener.next_call(Deadline())
        supervisor.kill()
        worker.await_adoption(supervisor.pid)
        listener.let_go(held)
        listener.let_all_go_until_ended(worker.pidfd, Deadline())
        worker.assert_gone()


# -- F07, F08: a wrapper between supervisor and worker ---------------------------------------------


@pytest.mark.fails_with("poller", because="its parent is the wrapper, which lives", tier=["event"])
@reaped_or_zombie
@both_tiers
def test_f07_wrapper_stays_alive(named_supervisor: Supervisor, remains: str, tier: str) -> None:
    """driver ── supervisor, names itself † ── wrapper ── worker"""
    wrapper, worker = named_supervisor.wrapped_worker()
    worker.assert_armed(watched=[named_supervisor.pid, wrapper.pid])
    named_supervisor.kill(reap=remains == "reaped")
    worker.assert_gone()
    worker.assert_death_line(named_supervisor)
    wrapper.assert_gone()


@both_tiers
def test_f07_named_by_plain_number(tree: Tree, tier: str) -> None:
    """driver ── supervisor, names its number † ── wrapper ── worker"""
    supervisor = tree.supervisor(names_itself="pid")
    wrapper, worker = supervisor.wrapped_worker()
    worker.assert_armed(watched=[supervisor.pid, wrapper.pid])
    supervisor.kill()
    worker.assert_gone()


@both_tiers
def test_f07_two_wrappers_stay_alive(named_supervisor: Supervisor, tier: str) -> None:
    """driver ── supervisor, names itself † ── wrapper ── wrapper ── worker"""
    worker = named_supervisor.worker(via=SHELL_WRAPPER * 2)
    worker.assert_armed(watched=[named_supervisor.pid, worker.parent()])
    named_supervisor.kill()
    worker.assert_gone()


def test_f07_descriptor_closed(named_supervisor: Supervisor) -> None:
    """(driver) ── supervisor, names itself † ── wrapper ── worker, has closed the descriptor on it

    The sleeping wait goes on. What it then says proves nothing, and the next look is an hour away."""
    _wrapper, worker = named_supervisor.wrapped_worker()
    # The supervisor's was opened first. No request may follow: its connection would take the number.
    first = min(worker.pidfds(), key=lambda pidfd: pidfd.number)
    watcher = worker.watcher()
    wait_until(
        lambda: procfs.thread_status(worker.pid, watcher)["State"].startswith("S"), "the watcher sleeps"
    )
    worker.ask("close", first.number)
    named_supervisor.kill()
    worker.assert_gone()


@both_tiers
def test_f08_wrapper_dies_below_a_subreaper(tree: Tree, tier: str) -> None:
    """driver ── (supervisor), names itself, adopts its orphans ── wrapper † ── worker"""
    supervisor = tree.supervisor(names_itself="token", subreaper=True)
    wrapper, worker = supervisor.wrapped_worker()
    worker.assert_armed(watched=[supervisor.pid, wrapper.pid])
    wrapper.kill()
    worker.assert_gone()
    supervisor.assert_serving()


@both_tiers
def test_f08_wrapper_dies(named_supervisor: Supervisor, tier: str) -> None:
    """(driver) ── supervisor, names itself ── wrapper † ── worker"""
    wrapper, worker = named_supervisor.wrapped_worker()
    worker.assert_armed(watched=[named_supervisor.pid, wrapper.pid])
    wrapper.kill()
    worker.assert_gone()
    worker.assert_death_line(wrapper)
    named_supervisor.assert_serving()


# -- F11: whatever stderr is -----------------------------------------------------------------------


@pytest.mark.fails_with(
    "poller",
    because="its log line blocks or raises SIGPIPE (closed: the port has taken number 2)",
    stderr=["closed", "broken-pipe", "full-pipe", "full-fifo", "full-socket", "stopped-terminal"],
)
@pytest.mark.parametrize("stderr", STDERR_KINDS, indirect=True)
def test_f11_stderr(tree: Tree, stderr: Stderr) -> None:
    """driver ── supervisor † ── worker, its stderr of the kind that the test is named after"""
    supervisor = tree.supervisor(inherit=stderr.inherit)
    worker = supervisor.worker(steps=stderr.steps)
    worker.assert_armed()
    supervisor.kill()
    worker.assert_gone(seconds=None if tree.is_control else EVENT_SECONDS)


@pytest.mark.fails_with("poller", because="its log line raises SIGXFSZ before it exits")
def test_f11_file_at_its_size_limit(supervisor: Supervisor) -> None:
    """driver ── supervisor † ── worker, its stderr a file that it may not write to any further"""
    worker = supervisor.worker()
    worker.assert_armed()
    resource.prlimit(worker.pid, resource.RLIMIT_FSIZE, (0, 0))
    supervisor.kill()
    worker.assert_gone()


def unread_bytes(descriptor: int) -> int:
    return struct.unpack("i", fcntl.ioctl(descriptor, termios.FIONREAD, b"\0" * 4))[0]


@pytest.mark.fails_with(
    "poller", because="it waits for the lock of the stderr that others write to", reader=["absent"]
)
@pytest.mark.parametrize("reader", ["absent", "slow"])
def test_f11_pipe_kept_full_by_other_threads(tree: Tree, reader: str) -> None:
    """driver, reads nothing or little ── supervisor † ── worker, four threads flood its stderr"""
    read_end, write_end = os.pipe()
    supervisor = tree.supervisor(inherit={STDERR_FD: write_end})
    os.close(write_end)
    worker = supervisor.worker(steps=["--dup2", str(STDERR_FD), "2", "--close", str(STDERR_FD)])
    worker.ask("flood")
    wait_until(lambda: unread_bytes(read_end) > 60000, "the pipe is full")
    supervisor.pidfd.send(signal.SIGKILL)
    deadline = Deadline()
    while reader == "slow" and not worker.pidfd.has_ended() and not deadline.passed():
        os.read(read_end, 4096)
    worker.assert_gone()
    os.close(read_end)


# -- F12, F13: no handle to be had -----------------------------------------------------------------


FAST = {INTERVAL: "50ms"}


def test_f12_no_descriptor_left(supervisor: Supervisor) -> None:
    """(driver) ── supervisor † ── worker, at its RLIMIT_NOFILE when it arms and when it dies"""
    worker = supervisor.worker(arm="request", env=FAST)
    with worker.session() as session:
        session.ask("ping")
        # 0, 1 and 2 are taken, and no number above is allowed.
        resource.prlimit(worker.pid, resource.RLIMIT_NOFILE, (3, 3))
        assert session.ask("arm")["status"] == "armed"
        assert session.ask("info")["tier"] in ("poll",)
        worker.await_looks()
        supervisor.kill()
        worker.assert_gone()


def test_f12_no_descriptor_left_with_helpers(supervisor: Supervisor) -> None:
    """(driver) ── supervisor † ── worker, at its RLIMIT_NOFILE ── helper, ignores SIGTERM"""
    worker = supervisor.worker(arm="request", env=FAST)
    helper = worker.start_helper("helper", "--ignores-term")
    with worker.session() as session:
        session.ask("ping")
        resource.prlimit(worker.pid, resource.RLIMIT_NOFILE, (3, 3))
        session.ask("arm")
        supervisor.kill()
        worker.assert_gone()
    helper.assert_gone(Exit(signal=signal.SIGKILL))


@pytest.mark.parametrize("error", ["ENOSYS", "EPERM"])
def test_f13_pidfd_open_refused(supervisor: Supervisor, error: str) -> None:
    """(driver) ── supervisor † ── worker, pidfd_open fails by seccomp"""
    worker = supervisor.worker(steps=["--refuse", "pidfd_open", error], env=FAST)
    worker.assert_armed("poll")
    worker.await_looks()
    supervisor.kill()
    worker.assert_gone()


# -- F14: a forked child ---------------------------------------------------------------------------


def fork(worker: Worker) -> Worker:
    worker.ask("fork")
    return worker.tree.await_worker("child")


@pytest.mark.fails_with(
    "poller", because="its thread is lost in a fork, its flag is not", parent=["armed"]
)
@pytest.mark.parametrize("parent", ["armed", "unarmed"])
def test_f14_forked_child_arms_for_itself(tree: Tree, supervisor: Supervisor, parent: str) -> None:
    """(driver) ── supervisor ── worker † ── child, forked, arms"""
    worker = supervisor.worker(arm="first" if parent == "armed" else "request")
    child = fork(worker)
    assert child.info()["state"] == "not_started" or tree.is_control
    assert child.arm() == "armed"
    child.assert_armed(watched=[worker.pid])
    worker.kill()
    child.assert_gone()
    child.assert_death_line(worker)


def test_f14_forked_child_of_a_dead_supervisor(supervisor: Supervisor, worker: Worker) -> None:
    """(driver) ── supervisor † ── worker ── child, forked, arms: both go, one after the other"""
    child = fork(worker)
    child.arm()
    supervisor.kill()
    worker.assert_gone()
    child.assert_gone(None)


def test_f14_forked_while_another_thread_arms(tree: Tree, supervisor: Supervisor) -> None:
    """(driver) ── supervisor ── worker, one thread held while it arms † ── child, forked, arms"""
    worker = supervisor.worker(arm="request", steps=["--notify", "pidfd_open", str(REPORT_FD)])
    with listener_of(tree) as listener:
        worker.ask("arm-in-thread")
        held = listener.next_call(Deadline())
        child = fork(worker)
        with child.session() as session:
            session.send("arm")
            listener.let_go(listener.next_call(Deadline()))
            assert session.reply()["status"] == "armed"
        listener.let_go(held)
        child.assert_armed(watched=[worker.pid])
        worker.kill()
        listener.let_all_go_until_ended(child.pidfd, Deadline())
        child.assert_gone()


# -- F15: helpers ----------------------------------------------------------------------------------


@pytest.mark.fails_with("poller", because="it leaves the helpers behind", tier=["event"])
@both_tiers
def test_f15_helpers_go_too(tree: Tree, supervisor: Supervisor, shared_memory: Path, tier: str) -> None:
    """
    (driver) ── supervisor † ── worker ─┬─ plain
                                        ├─ stubborn, ignores SIGTERM
                                        └─ tracker, cleans /dev/shm when the worker is gone
    """
    worker = supervisor.worker()
    plain = worker.start_helper("plain")
    stubborn = worker.start_helper("stubborn", "--ignores-term")
    tracker = worker.start_helper("tracker", "--tracks", shared_memory.name)
    assert shared_memory.exists()
    supervisor.kill()
    worker.assert_gone_before(stubborn)
    plain.assert_gone(Exit(signal=signal.SIGTERM))
    tracker.assert_gone(Exit(status=0))
    assert not shared_memory.exists()
    stubborn.assert_gone(Exit(signal=signal.SIGKILL))
    tree.wait_for_strangers_to_end()


def test_f15_helpers_in_the_group_of_a_wrapper(tree: Tree, named_supervisor: Supervisor) -> None:
    """
    driver ── supervisor, names itself † ── wrapper, leads the group ── worker ─┬─ plain
                                                                                └─ stubborn
    """
    wrapper, worker = named_supervisor.wrapped_worker()
    plain = worker.start_helper("plain")
    stubborn = worker.start_helper("stubborn", "--ignores-term")
    assert os.getpgid(worker.pid) == wrapper.pid
    named_supervisor.kill()
    worker.assert_gone()
    plain.assert_gone(Exit(signal=signal.SIGTERM))
    stubborn.assert_gone(Exit(signal=signal.SIGKILL))
    wrapper.assert_gone()
    tree.wait_for_strangers_to_end()


def test_f15_helpers_in_the_group_of_a_wrapper_that_dies(
    tree: Tree, named_supervisor: Supervisor
) -> None:
    """
    (driver) ── supervisor, names itself ── wrapper, leads the group † ── worker ─┬─ plain
                                                                                  └─ stubborn
    """
    wrapper, worker = named_supervisor.wrapped_worker()
    plain = worker.start_helper("plain")
    stubborn = worker.start_helper("stubborn", "--ignores-term")
    wrapper.kill()
    worker.assert_gone_before(stubborn)
    plain.assert_gone(Exit(signal=signal.SIGTERM))
    stubborn.assert_gone(Exit(signal=signal.SIGKILL))
    named_supervisor.assert_serving()
    tree.wait_for_strangers_to_end()


def test_f15_reaper_holds_nothing_of_the_worker(
    tree: Tree, supervisor: Supervisor, worker: Worker
) -> None:
    """(driver) ── supervisor † ── worker ── helper, ignores SIGTERM, so that the reaper stays"""
    helper = worker.start_helper("helper", "--ignores-term")
    assert procfs.large_mappings(worker.pid), "a worker has an arena per thread"
    supervisor.kill()
    worker.assert_gone_before(helper)
    known = {process.pid for process in tree.processes}
    (reaper,) = (pid for pid in procfs.descendants(os.getpid()) if pid not in known)
    assert procfs.command_name(reaper) == procfs.WATCHER_THREAD

    def holds_nothing() -> bool:
        held = procfs.large_mappings(reaper)
        # One that has ended holds nothing either.
        assert procfs.state(reaper) not in "ZX", "the reaper has ended, and held it until then"
        return not held

    wait_until(holds_nothing, "the reaper lets go of the worker's memory")
    helper.assert_gone()
    tree.wait_for_strangers_to_end()


def test_f15_stopped_helper(tree: Tree, supervisor: Supervisor, worker: Worker) -> None:
    """(driver) ── supervisor † ── worker ── helper, stopped"""
    helper = worker.start_helper("helper", "--ignores-term")
    helper.stop()
    supervisor.kill()
    worker.assert_gone()
    helper.assert_gone()
    tree.wait_for_strangers_to_end()


@pytest.mark.needs("root")
def test_f15_no_process_to_be_had(tree: Tree) -> None:
    """driver ── outer ── session leader ── (supervisor) † ── worker, at its RLIMIT_NPROC ── helper"""
    leader = tree.supervisor("outer").supervisor("leader", leads_session=True)
    supervisor = leader.supervisor("supervisor")
    worker = supervisor.worker(steps=["--user", str(NOBODY)])
    helper = worker.start_helper("helper")
    worker.limit_processes(1)
    supervisor.kill()
    worker.assert_gone()
    helper.assert_gone()
    leader.assert_serving()


@pytest.mark.needs("root", "pid-namespace")
def test_f15_no_process_to_be_had_and_no_session_to_be_seen(tree: Tree) -> None:
    """session leader … driver ── [ init ── supervisor † ── worker, at its RLIMIT_NPROC ── helper ]"""
    supervisor = tree.supervisor("init", via=PID_NAMESPACE).supervisor("supervisor")
    worker = supervisor.worker(steps=["--user", str(NOBODY)])
    helper = worker.start_helper("helper")
    worker.limit_processes(1)
    supervisor.kill()
    # No group to step into, and no process to make one: the last resort, for the worker as well.
    worker.assert_gone(Exit(signal=signal.SIGKILL))
    helper.assert_gone(Exit(signal=signal.SIGKILL))


def test_f15_scope_process_leaves_the_helpers(tree: Tree, supervisor: Supervisor) -> None:
    """(driver) ── supervisor † ── worker, scope process ── helper, lives on"""
    worker = supervisor.worker(env={"LOCALAI_BACKEND_PARENT_WATCH_SCOPE": "process"})
    helper = worker.start_helper("helper")
    supervisor.kill()
    worker.assert_gone()
    tree.wait_for_strangers_to_end()
    helper.assert_alive()


# -- F16: the hook ---------------------------------------------------------------------------------


GRACE_MS = 300


def test_f16_hook_hangs(tree: Tree, supervisor: Supervisor) -> None:
    """(driver) ── supervisor † ── worker, its hook hangs"""
    worker = supervisor.worker(arguments=["--hook", "hang", "--grace", str(GRACE_MS)])
    worker.assert_armed()
    killed = time.monotonic()
    supervisor.kill()
    tree.await_report("worker", "hook")
    worker.assert_gone()
    assert time.monotonic() - killed >= GRACE_MS / 1000


def test_f16_hook_returns(tree: Tree, supervisor: Supervisor) -> None:
    """(driver) ── supervisor † ── worker, its hook returns long before the grace ends"""
    worker = supervisor.worker(arguments=["--hook", "return", "--grace", "60000"])
    supervisor.kill()
    tree.await_report("worker", "hook")
    worker.assert_gone()


def test_f16_hook_hangs_with_helpers(supervisor: Supervisor) -> None:
    """(driver) ── supervisor † ── worker, its hook hangs ── helper, ignores SIGTERM"""
    worker = supervisor.worker(arguments=["--hook", "hang", "--grace", str(GRACE_MS)])
    helper = worker.start_helper("helper", "--ignores-term")
    supervisor.kill()
    worker.assert_gone()
    helper.assert_gone(Exit(signal=signal.SIGKILL))


# -- F17, F18: stopped, and contained --------------------------------------------------------------


@both_tiers
def test_f17_supervisor_stopped_then_killed(supervisor: Supervisor, tier: str) -> None:
    """(driver) ── supervisor, SIGSTOP, then † ── worker"""
    worker = supervisor.worker()
    worker.assert_armed()
    supervisor.stop()
    worker.assert_lives_on()
    supervisor.kill()
    worker.assert_gone()


@pytest.mark.needs("pid-namespace")
@pytest.mark.parametrize("name", [None, "pid", "token"], ids=["unnamed", "pid", "token"])
@both_tiers
def test_f18_nested_pid_namespace(tree: Tree, name: str | None, tier: str) -> None:
    """driver ── [ (init) ── supervisor † ── worker ]"""
    init = tree.supervisor("init", via=PID_NAMESPACE)
    supervisor = init.supervisor("supervisor", names_itself=name)
    worker = supervisor.worker()
    worker.assert_armed()
    supervisor.kill()
    worker.assert_gone()
    init.assert_serving()


@pytest.mark.needs("pid-namespace")
@pytest.mark.fails_with("poller", because="its parent is the wrapper, which lives", tier=["event"])
@both_tiers
def test_f18_nested_pid_namespace_with_wrapper(tree: Tree, tier: str) -> None:
    """driver ── [ init ── supervisor, names itself † ── wrapper ── worker ]"""
    init = tree.supervisor("init", via=PID_NAMESPACE)
    supervisor = init.supervisor("supervisor", names_itself="token")
    wrapper, worker = supervisor.wrapped_worker()
    worker.assert_armed()
    supervisor.kill()
    worker.assert_gone()
    wrapper.assert_gone()
    init.assert_serving()


# -- F19 to F21 --------------------------------------------------------------------------------------


WORKERS = 1000


@pytest.fixture
def many_descriptors() -> Iterator[None]:
    """As many descriptors as the hard limit allows: one pidfd for each of many processes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 2 * WORKERS:
        pytest.skip(f"needs {2 * WORKERS} descriptors, and the hard limit is {hard}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_f19_a_thousand_workers(many_descriptors: None, supervisor: Supervisor) -> None:
    """(driver) ── supervisor † ── worker, a thousand times"""
    workers = [supervisor.worker(f"worker-{number}") for number in range(WORKERS)]
    supervisor.kill()
    for worker in workers:
        worker.assert_gone()


def test_f20_processors_overloaded(tree: Tree, supervisor: Supervisor, worker: Worker) -> None:
    """(driver) ─┬─ supervisor † ── worker
    └─ four spinning processes per processor"""
    for number in range(4 * len(os.sched_getaffinity(0))):
        tree.start(tree.helper_command(f"spinner-{number}", "--spins"))
        tree.await_helper(f"spinner-{number}")
    supervisor.kill()
    worker.assert_gone(seconds=EVENT_SECONDS)


@pytest.mark.fails_with("poller", because="it leaves the helpers behind", tier=["event"])
@both_tiers
def test_f21_session_leader_with_helpers(
    tree: Tree, supervisor: Supervisor, shared_memory: Path, tier: str
) -> None:
    """
    (driver) ── supervisor † ── worker, setsid ─┬─ plain
                                                ├─ stubborn, ignores SIGTERM
                                                └─ tracker, cleans /dev/shm
    """
    worker = supervisor.worker(steps=["--setsid"], request="spawn-in-group")
    assert os.getsid(worker.pid) == worker.pid
    plain = worker.start_helper("plain")
    stubborn = worker.start_helper("stubborn", "--ignores-term")
    tracker = worker.start_helper("tracker", "--tracks", shared_memory.name)
    supervisor.kill()
    worker.assert_gone_before(stubborn)
    plain.assert_gone(Exit(signal=signal.SIGTERM))
    tracker.assert_gone(Exit(status=0))
    assert not shared_memory.exists()
    stubborn.assert_gone(Exit(signal=signal.SIGKILL))
    tree.wait_for_strangers_to_end()
