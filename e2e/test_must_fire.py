"""F01 to F28: the supervisor dies, so the worker and its helpers must end, and its port must be free.

In the pictures, † marks the process that dies, and the process in (brackets) adopts the orphan.
"""

import contextlib
import fcntl
import os
import resource
import signal
import struct
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from driver import procfs
from driver.cgroups import VERSIONS, Cgroup
from driver.deadline import PATIENCE, Deadline, wait_until
from driver.failures import DiedByMistake, StillAlive
from driver.limits import TaskLimit
from driver.pidfd import Exit
from driver.programs import Programs
from driver.roles import NOBODY, SHELL_WRAPPER, TRACKER, Supervisor, Worker
from driver.seccomp import Listener
from driver.stderr import STDERR_FD, STDERR_KINDS, Stderr
from driver.tree import GRACE, INTERVAL, REPORT_FD, SCOPE, Tree

PID_NAMESPACE = ["unshare", "--pid", "--fork", "--mount-proc"]
EVENT_SECONDS = 1.0
"""The limit of the event tier in the contract, far above the usual time."""

GRACE_MS = 300
"""The grace of a hook in tests that wait for its end."""

ANOTHER_USER = NOBODY - 1
TWO_GIB = 2 << 30

both_tiers = pytest.mark.parametrize("tier", ["event", "poll"])
either_freezer = pytest.mark.parametrize("freezer", VERSIONS, indirect=True)
limited = pytest.mark.parametrize("task_limit", ["rlimit", "cgroup"], indirect=True)
reaped_or_zombie = pytest.mark.parametrize("remains", ["reaped", "zombie"])


@pytest.fixture
def shared_memory() -> Iterator[Path]:
    """A free name in /dev/shm, which must be free again afterwards."""
    path = Path(f"/dev/shm/parentwatch-e2e-{os.getpid()}")
    path.unlink(missing_ok=True)
    yield path
    path.unlink(missing_ok=True)


def assert_goes_in_time(
    tree: Tree, inherit: dict[int, int] | None = None, steps: list[str] | None = None
) -> None:
    """A worker loses its supervisor, and is gone within the time of the contract. The driver measures,
    and may be delayed itself: so one of three times is enough."""
    times = []
    for number in range(3):
        supervisor = tree.supervisor(f"supervisor-{number}", inherit=inherit)
        worker = supervisor.worker(f"worker-{number}", steps=steps)
        worker.assert_armed(watched=[supervisor.pid])
        supervisor.kill()
        worker.assert_gone()
        times.append(worker.gone_after)
        if times[-1] < EVENT_SECONDS:
            return
    raise StillAlive(f"no worker was gone within {EVENT_SECONDS} s: {times}")


# -- F01 to F04: how the supervisor dies, and who adopts the worker --------------------------------


def test_f01_supervisor_sigkilled(supervisor: Supervisor, worker: Worker) -> None:
    """(driver) ── supervisor † ── worker"""
    supervisor.kill()
    worker.assert_gone()
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
def test_f01_worker_that_resists(supervisor: Supervisor, helpers: str) -> None:
    """(driver) ── supervisor † ── worker, hangs in exit handlers and in that of SIGTERM [── helper]"""
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


@pytest.mark.not_for("exec", because="it may no longer look at its guardian")
@pytest.mark.needs("root")
@pytest.mark.fails_with(
    "pdeathsig",
    because="it is lost when the worker changes its user, and not sent where signals are not permitted",
    who=["worker-after-arming", "supervisor"],
    tier=["event"],
)
@pytest.mark.parametrize("who", ["worker-before-arming", "worker-after-arming", "supervisor"])
@both_tiers
def test_f01_user_dropped(named_supervisor: Supervisor, who: str, tier: str) -> None:
    """(driver) ── supervisor † ── worker, one of them is no longer root"""
    worker = named_supervisor.worker(arm="request")
    if who == "worker-before-arming":
        worker.change_user(NOBODY)
    assert worker.arm() == "armed"
    if who == "worker-after-arming":
        worker.change_user(NOBODY)
    elif who == "supervisor":
        named_supervisor.change_user(ANOTHER_USER)
    worker.assert_armed(watched=[named_supervisor.pid])
    worker.assert_lives_on()
    named_supervisor.kill()
    worker.assert_gone()


@pytest.mark.not_for("exec", because="it may no longer look at its guardian")
@pytest.mark.needs("root")
@pytest.mark.not_for("go-degraded", because="it watches only the wrapper")
@both_tiers
def test_f01_user_dropped_below_a_wrapper(named_supervisor: Supervisor, tier: str) -> None:
    """driver ── supervisor, user 65533 † ── wrapper, root ── worker, user 65534, may signal neither"""
    _wrapper, worker = named_supervisor.wrapped_worker()
    worker.change_user(NOBODY)
    named_supervisor.change_user(ANOTHER_USER)
    worker.assert_lives_on()
    named_supervisor.kill()
    worker.assert_gone()


@pytest.mark.needs("memory")
@pytest.mark.only_for("c")
def test_f01_supervisor_with_two_gibibytes(
    supervisor: Supervisor,
    worker: Worker,
    record_property: Callable[[str, object], None],
) -> None:
    """(driver) ── supervisor, 2 GiB resident † ── worker

    No worker can notice the death before the kernel has freed the memory. The test records how long
    that takes, and what the worker adds. It limits neither."""
    supervisor.ask("fill", TWO_GIB)
    wait_until(
        lambda: procfs.resident_kib(supervisor.pid) >= TWO_GIB >> 10,
        "every page is there",
        Deadline(4 * PATIENCE),
    )
    killed = time.monotonic()
    supervisor.pidfd.send(signal.SIGKILL)
    assert supervisor.pidfd.wait_ended(Deadline())
    supervisor_gone = time.monotonic()
    worker.pidfd.wait_ended(Deadline())
    worker_gone = time.monotonic()
    worker.assert_gone()
    for who, gone in (("supervisor", supervisor_gone), ("worker", worker_gone)):
        milliseconds = round((gone - killed) * 1e3, 1)
        print(f"{who} gone {milliseconds} ms after the SIGKILL")
        record_property(f"{who}_gone_after_ms", milliseconds)


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


@both_tiers
def test_f04_inner_subreaper_dies_first(tree: Tree, tier: str) -> None:
    """(driver) ── (subreaper) ── (subreaper) †, first ── supervisor †, then ── worker"""
    outer = tree.supervisor("outer-subreaper", subreaper=True)
    inner = outer.supervisor("inner-subreaper", subreaper=True)
    supervisor = inner.supervisor("supervisor")
    worker = supervisor.worker()
    inner.kill()
    supervisor.await_adoption(inner.pid)
    assert supervisor.parent() == outer.pid
    worker.assert_lives_on()
    supervisor.kill()
    worker.assert_gone()
    outer.assert_serving()


# -- F05: the supervisor died before the worker armed ----------------------------------------------


def arm_without_reply(worker: Worker) -> None:
    """Asks the worker to arm. It may die of that."""
    with worker.session() as session:
        session.send("arm")
        with contextlib.suppress(DiedByMistake, TimeoutError):
            session.reply()


@pytest.mark.fails_with("poller", because="it takes the adopter for its parent")
@pytest.mark.fails_with(
    "poller-python", because="it takes the adopter for its parent", remains=["reaped"], tier=["event"]
)
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


@both_tiers
def test_f05_died_before_arming_below_nested_subreapers(tree: Tree, tier: str) -> None:
    """driver ── subreaper ── (subreaper) ── supervisor, names itself † ── worker, arms afterwards"""
    inner = tree.supervisor("outer-subreaper", subreaper=True).supervisor("inner", subreaper=True)
    supervisor = inner.supervisor("supervisor", names_itself="token")
    worker = supervisor.worker(arm="request")
    supervisor.kill()
    worker.await_adoption(supervisor.pid)
    assert worker.parent() == inner.pid
    arm_without_reply(worker)
    worker.assert_gone()
    inner.assert_serving()


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
def test_f05_died_before_arming_and_its_pid_is_reused(tree: Tree) -> None:
    """driver ── [ (init) ─┬─ supervisor, names itself † ── worker, arms afterwards
    └─ stranger, has the supervisor's process id ]"""
    init = tree.supervisor("init", via=PID_NAMESPACE)
    supervisor = init.supervisor("supervisor", names_itself="token")
    number = supervisor.ask("ping")["pid"]
    worker = supervisor.worker(arm="request")
    supervisor.await_later_tick()
    supervisor.kill()
    worker.await_adoption(supervisor.pid)
    init.set_next_pid(number)
    assert init.supervisor("stranger").ask("ping")["pid"] == number
    arm_without_reply(worker)
    worker.assert_gone()


def test_f05_token_of_the_library_names_the_process(tree: Tree, supervisor: Supervisor) -> None:
    """driver ── supervisor ── worker: the token of the library is the one that a child would compute"""
    worker = supervisor.worker()
    assert worker.ask("token")["token"] == procfs.token(worker.pid)


# -- F06: the race while arming --------------------------------------------------------------------


@contextlib.contextmanager
def listener_of(tree: Tree) -> Iterator[Listener]:
    """The listener of the filter that a step `--notify` of the tree installed."""
    listener = Listener(tree.await_report("launch", "listener").descriptors[0])
    try:
        yield listener
    finally:
        listener.close()


@reaped_or_zombie
def test_f06_supervisor_dies_before_the_handle(
    tree: Tree, supervisor: Supervisor, remains: str
) -> None:
    """(driver) ── supervisor † ── worker, held by seccomp in pidfd_open(supervisor)"""
    worker = supervisor.worker(arm="request", steps=["--notify", "pidfd_open", str(REPORT_FD)])
    with listener_of(tree) as listener, worker.session() as session:
        session.send("arm")
        held = listener.next_call(Deadline())
        while held.arguments[0] != supervisor.pid:
            listener.allow(held)
            held = listener.next_call(Deadline())
        supervisor.kill(reap=remains == "reaped")
        worker.await_adoption(supervisor.pid)
        listener.allow(held)
        listener.allow_calls_until_ready(worker.pidfd, Deadline())
        worker.assert_gone()


@pytest.mark.not_for(
    "go-native", "go-degraded", because="its runtime creates its own threads with the same call"
)
def test_f06_supervisor_dies_before_the_thread(
    programs: Programs, tree: Tree, supervisor: Supervisor
) -> None:
    """(driver) ── supervisor † ── worker, held by seccomp while it creates the watcher's thread"""
    steps = ["--notify", programs.thread_call, str(REPORT_FD)]
    worker = supervisor.worker(arm="request", steps=steps)
    with listener_of(tree) as listener, worker.session() as session:
        session.send("arm")
        held = listener.next_call(Deadline())
        supervisor.kill()
        worker.await_adoption(supervisor.pid)
        listener.allow(held)
        listener.allow_calls_until_ready(worker.pidfd, Deadline())
        worker.assert_gone()


# -- F07, F08: a wrapper between supervisor and worker ---------------------------------------------


@pytest.mark.fails_with("poller", because="it watches only the wrapper, which lives", tier=["event"])
@pytest.mark.fails_with(
    "poller-python",
    because="it watches only the wrapper, which lives",
    remains=["reaped"],
    tier=["event"],
)
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
def test_f07_named_by_plain_pid(tree: Tree, tier: str) -> None:
    """driver ── supervisor, names itself by its process id † ── wrapper ── worker"""
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


# The worker first has time to end by itself. A short grace keeps the tests fast.
SOON = {GRACE: "300ms"}


@both_tiers
def test_f08_wrapper_dies_below_a_subreaper(tree: Tree, tier: str) -> None:
    """driver ── (supervisor), names itself, adopts its orphans ── wrapper † ── worker"""
    supervisor = tree.supervisor(names_itself="token", subreaper=True)
    wrapper, worker = supervisor.wrapped_worker(env=SOON)
    worker.assert_armed(watched=[supervisor.pid, wrapper.pid])
    wrapper.kill()
    worker.assert_gone(tree.without_handler)
    supervisor.assert_serving()


@both_tiers
def test_f08_wrapper_dies(tree: Tree, named_supervisor: Supervisor, tier: str) -> None:
    """(driver) ── supervisor, names itself ── wrapper † ── worker"""
    wrapper, worker = named_supervisor.wrapped_worker(env=SOON)
    worker.assert_armed(watched=[named_supervisor.pid, wrapper.pid])
    wrapper.kill()
    worker.assert_gone(tree.without_handler)
    if tree.without_handler == Exit(status=1):
        worker.assert_death_line(wrapper)
    named_supervisor.assert_serving()


@pytest.mark.not_for("exec", because="it gets SIGTERM at the end of the grace")
@pytest.mark.not_for("go-degraded", because="it gives no grace, as the package says")
def test_f08_wrapper_dies_and_no_grace_is_set(named_supervisor: Supervisor) -> None:
    """(driver) ── supervisor, names itself ── wrapper † ── worker, left alone for 5 s"""
    wrapper, worker = named_supervisor.wrapped_worker()
    worker.ask("drain", 0)
    wrapper.kill()
    worker.assert_gone()
    assert worker.gone_after >= 5
    worker.assert_death_line(wrapper)


@pytest.mark.not_for("go-degraded", because="it gives no grace, as the package says")
def test_f08_the_grace_of_the_wrapper_ends_with_the_supervisor(named_supervisor: Supervisor) -> None:
    """driver ── supervisor, names itself † ── wrapper † ── worker, which would have an hour"""
    wrapper, worker = named_supervisor.wrapped_worker(env={GRACE: "1h", SCOPE: "process"})
    wrapper.kill()
    worker.assert_lives_on()
    worker.ask("drain", 0)
    named_supervisor.kill()
    worker.assert_gone(Exit(status=9))


# -- F09, F10: an interpreter that blocks every other thread ---------------------------------------


def hold_gil(worker: Worker) -> None:
    """Makes a C call of the worker hold the interpreter lock for a minute. There is no reply
    meanwhile."""
    with worker.session() as session:
        session.send("hold-gil")
        worker.tree.await_report("worker", "holding")


@pytest.mark.fails_with("poller-python", because="it needs the lock to poll", tier=["event"])
@both_tiers
def test_f09_c_call_holds_the_gil(supervisor: Supervisor, tier: str) -> None:
    """(driver) ── supervisor † ── worker, whose C call holds the GIL for 60 s"""
    worker = supervisor.worker()
    worker.assert_armed()
    hold_gil(worker)
    supervisor.kill()
    worker.assert_gone()
    worker.assert_death_line(supervisor)


def test_f09_hook_waits_for_the_gil(supervisor: Supervisor) -> None:
    """(driver) ── supervisor † ── worker, with a hook: gone at the end of the grace, hook not called"""
    worker = supervisor.worker(arguments=["--hook", "return", "--grace", str(GRACE_MS)])
    hold_gil(worker)
    killed = time.monotonic()
    supervisor.kill()
    worker.assert_gone()
    assert time.monotonic() - killed >= GRACE_MS / 1000


def finalize(worker: Worker, how: str) -> None:
    """Ends the interpreter, and waits until it hangs."""
    with worker.session() as session:
        session.send("finalize", how)
        worker.tree.await_report("worker", "finalizing")


@pytest.mark.fails_with(
    "poller-python",
    because="a thread that wants the lock is ended once finalization has begun",
    how=["destructor"],
    tier=["event"],
)
@pytest.mark.parametrize("how", ["thread", "atexit", "destructor"])
@both_tiers
def test_f10_interpreter_hangs_in_finalization(supervisor: Supervisor, how: str, tier: str) -> None:
    """(driver) ── supervisor † ── worker, its interpreter hangs; the test's parameter says where"""
    worker = supervisor.worker()
    worker.assert_armed()
    finalize(worker, how)
    assert not worker.port_is_free()
    supervisor.kill()
    worker.assert_gone()
    worker.assert_death_line(supervisor)


def test_f10_hook_has_no_interpreter(supervisor: Supervisor) -> None:
    """(driver) ── supervisor † ── worker, with a hook, its interpreter hangs: hook not called"""
    worker = supervisor.worker(arguments=["--hook", "hang", "--grace", "60000"])
    finalize(worker, "destructor")
    supervisor.kill()
    worker.assert_gone()


# -- F11: whatever stderr is -----------------------------------------------------------------------


@pytest.mark.fails_with(
    "poller",
    because="its log line blocks or raises SIGPIPE (closed: the port has descriptor 2)",
    stderr=["closed", "broken-pipe", "full-pipe", "full-fifo", "full-socket", "stopped-terminal"],
)
@pytest.mark.fails_with(
    "poller-python",
    because="its log line blocks, or raises an exception and ends its thread",
    stderr=["full-device", "broken-pipe-ignored", "full-pipe"],
)
@pytest.mark.parametrize("stderr", STDERR_KINDS, indirect=True)
def test_f11_stderr(tree: Tree, stderr: Stderr) -> None:
    """driver ── supervisor † ── worker, its stderr of the kind in the test's parameter"""
    assert_goes_in_time(tree, inherit=stderr.inherit, steps=stderr.steps)


@pytest.mark.parametrize("stderr", ["full-pipe", "full-socket"], indirect=True)
def test_f11_stderr_on_an_older_kernel(tree: Tree, stderr: Stderr) -> None:
    """driver ── supervisor † ── worker, pwritev2 fails by seccomp, its stderr is full"""
    supervisor = tree.supervisor(inherit=stderr.inherit)
    worker = supervisor.worker(steps=[*stderr.steps, "--refuse", "pwritev2", "ENOSYS"])
    supervisor.kill()
    worker.assert_gone()


@pytest.mark.fails_with("poller", because="its log line raises SIGXFSZ before it exits")
@pytest.mark.fails_with("poller-python", because="its log line raises an exception and ends its thread")
def test_f11_file_at_its_size_limit(supervisor: Supervisor) -> None:
    """driver ── supervisor † ── worker, its stderr is a file at the size limit"""
    worker = supervisor.worker()
    worker.assert_armed()
    resource.prlimit(worker.pid, resource.RLIMIT_FSIZE, (0, 0))
    supervisor.kill()
    worker.assert_gone()


def unread_bytes(descriptor: int) -> int:
    return struct.unpack("i", fcntl.ioctl(descriptor, termios.FIONREAD, b"\0" * 4))[0]


def is_full(descriptor: int, writer: Worker) -> bool:
    """Whether a thread of the writer waits for room in the pipe. If the kernel does not show that, the
    number of bytes in the pipe must do, although a full pipe may still have some room."""
    if unread_bytes(descriptor) <= 60000:
        return False
    waits = {procfs.waits_in(writer.pid, tid) for tid in procfs.threads(writer.pid)}
    return waits == {""} or any("pipe_write" in function for function in waits)


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
    wait_until(lambda: is_full(read_end, worker), "the pipe is full")
    supervisor.pidfd.send(signal.SIGKILL)
    deadline = Deadline()
    while reader == "slow" and not worker.pidfd.has_ended() and not deadline.passed():
        os.read(read_end, 4096)
    worker.assert_gone()
    os.close(read_end)


@pytest.mark.only_for("c", "cpp")
@both_tiers
def test_f11_main_thread_has_ended(supervisor: Supervisor, tier: str) -> None:
    """(driver) ── supervisor † ── worker, whose main thread † before: that has no stderr any more"""
    worker = supervisor.worker()
    worker.ask("leave-main-thread")
    wait_until(lambda: procfs.state(worker.pid) == "Z", "the main thread has ended")
    worker.assert_serving()
    supervisor.kill()
    worker.assert_gone()
    worker.assert_death_line(supervisor)


# -- F12, F13: no handle can be opened -------------------------------------------------------------


FAST = {INTERVAL: "50ms"}


no_library = pytest.mark.not_for("go-native", because="loading the library takes a descriptor")


@pytest.mark.not_for("exec", because="without a descriptor there is no guardian")
@no_library
def test_f12_no_descriptor_left(tree: Tree, supervisor: Supervisor) -> None:
    """(driver) ── supervisor † ── worker, at its RLIMIT_NOFILE when it arms and when it dies"""
    worker = supervisor.worker(arm="request", env=FAST)
    with worker.session() as session:
        session.ask("ping")
        # 0, 1 and 2 are in use, and no higher number is allowed.
        resource.prlimit(worker.pid, resource.RLIMIT_NOFILE, (3, 3))
        assert session.ask("arm")["status"] == "armed"
        # The watcher has its own table.
        expected = "poll" if tree.is_degraded else "event"
        assert session.ask("info")["tier"] == expected
        supervisor.kill()
        worker.assert_gone()


@no_library
@pytest.mark.not_for("go-degraded", because="it ends only the process itself")
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


@pytest.mark.only_for("go-native")
@pytest.mark.parametrize("library", ["loaded", "not-loaded"])
def test_f12_no_descriptor_left_for_the_library(supervisor: Supervisor, library: str) -> None:
    """(driver) ── supervisor † ── worker, at its RLIMIT_NOFILE when it arms, or loads the library"""
    worker = supervisor.worker(arm="request", env=FAST)
    with worker.session() as session:
        if library == "loaded":
            assert session.ask("info")["native"]
        else:
            session.ask("ping")
        resource.prlimit(worker.pid, resource.RLIMIT_NOFILE, (3, 3))
        assert session.ask("arm")["status"] == "armed"
        info = session.ask("info")
        is_loaded = library == "loaded"
        assert (info["tier"], info["native"]) == ("event" if is_loaded else "poll", is_loaded)
        supervisor.kill()
        worker.assert_gone()


@pytest.mark.parametrize("error", ["ENOSYS", "EPERM"])
def test_f13_pidfd_open_refused(supervisor: Supervisor, error: str) -> None:
    """(driver) ── supervisor † ── worker, pidfd_open fails by seccomp"""
    worker = supervisor.worker(steps=["--refuse", "pidfd_open", error], env=FAST)
    worker.assert_armed("poll")
    worker.await_looks()
    supervisor.kill()
    worker.assert_gone()


@pytest.mark.not_for("go-degraded", because="it makes none of these calls")
@pytest.mark.parametrize(
    "steps",
    [
        ["--refuse", "pidfd_send_signal", "ENOSYS"],
        ["--refuse", "pidfd_send_signal", "EPERM"],
        ["--refuse", "close_range", "ENOSYS"],
        ["--refuse", "close_range", "EPERM"],
        # Systemd's filter `@system-service` kills for these.
        ["--forbid", "mincore", "--forbid", "pidfd_getfd"],
    ],
    ids=lambda steps: "-".join(word for word in steps if not word.startswith("--")),
)
def test_f13_calls_refused(tree: Tree, supervisor: Supervisor, steps: list[str]) -> None:
    """(driver) ── supervisor † ── worker, system calls fail or kill by seccomp ── helper, ignores
    SIGTERM"""
    worker = supervisor.worker(steps=steps)
    helper = worker.start_helper("helper", "--ignores-term")
    worker.assert_armed()
    supervisor.kill()
    worker.assert_gone_before(helper)
    helper.assert_gone(Exit(signal=signal.SIGKILL))
    tree.wait_for_strangers_to_end()


def test_f13_clone3_refused(programs: Programs, supervisor: Supervisor) -> None:
    """(driver) ── supervisor † ── worker, clone3 fails with ENOSYS: the C library falls back to
    clone"""
    if programs.thread_call != "clone3":
        pytest.skip("needs a C library that calls clone3")
    worker = supervisor.worker(steps=["--refuse", "clone3", "ENOSYS"])
    worker.assert_armed(watched=[supervisor.pid])
    supervisor.kill()
    worker.assert_gone()


# -- F14: a forked child ---------------------------------------------------------------------------


def fork(worker: Worker) -> Worker:
    worker.ask("fork")
    return worker.tree.await_worker("child")


@pytest.mark.not_for("exec", because="it does not contain the library")
@pytest.mark.fails_with(
    "poller", because="its thread is lost in a fork, its flag is not", parent=["armed"]
)
@pytest.mark.parametrize("parent", ["armed", "unarmed"])
def test_f14_forked_child_starts_its_own(tree: Tree, supervisor: Supervisor, parent: str) -> None:
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


@pytest.mark.not_for("exec", because="it does not contain the library")
def test_f14_forked_while_another_thread_arms(tree: Tree, supervisor: Supervisor) -> None:
    """(driver) ── supervisor ── worker, one thread held while it arms † ── child, forked, arms"""
    worker = supervisor.worker(arm="request", steps=["--notify", "pidfd_open", str(REPORT_FD)])
    with listener_of(tree) as listener:
        worker.ask("arm-in-thread")
        held = listener.next_call(Deadline())
        child = fork(worker)
        with child.session() as session:
            session.send("arm")
            listener.allow_calls_until_ready(session, Deadline())
            assert session.reply()["status"] == "armed"
        listener.allow(held)
        child.assert_armed(watched=[worker.pid])
        worker.kill()
        listener.allow_calls_until_ready(child.pidfd, Deadline())
        child.assert_gone()


@pytest.mark.only_for("python")
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_f14_child_of_multiprocessing_starts_its_own(
    tree: Tree, supervisor: Supervisor, worker: Worker, method: str
) -> None:
    """(driver) ── supervisor ── worker, armed † ── child of multiprocessing, arms"""
    worker.ask("multiprocessing", method)
    child = tree.await_worker("child")
    assert child.info()["state"] == "not_started"
    assert child.arm() == "armed"
    child.assert_armed(watched=[worker.pid])
    worker.kill()
    child.assert_gone()
    child.assert_death_line(worker)


# -- F15: helpers ----------------------------------------------------------------------------------


@pytest.mark.fails_with("poller", because="it leaves the helpers behind", tier=["event"])
@pytest.mark.fails_with("poller-python", because="it leaves the helpers behind", tier=["event"])
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
    tracker = worker.start_helper(TRACKER, "--tracks", shared_memory.name)
    assert shared_memory.exists()
    supervisor.kill()
    worker.assert_gone_before(stubborn)
    plain.assert_gone(Exit(signal=signal.SIGTERM))
    tracker.assert_gone(Exit(status=0))
    assert not shared_memory.exists()
    stubborn.assert_gone(Exit(signal=signal.SIGKILL))
    tree.wait_for_strangers_to_end()


@pytest.mark.only_for("python")
@pytest.mark.fails_with("poller-python", because="it leaves the children behind", tier=["event"])
@both_tiers
def test_f15_shared_memory_and_children_of_multiprocessing(
    tree: Tree, supervisor: Supervisor, shared_memory: Path, tier: str
) -> None:
    """
    (driver) ── supervisor † ── worker ─┬─ forked
                                        ├─ spawned
                                        ├─ stubborn, ignores SIGTERM
                                        └─ resource tracker, ignores SIGTERM, cleans /dev/shm
    """
    worker = supervisor.worker()
    worker.ask("share", shared_memory.name)
    children = []
    for method in ("fork", "spawn"):
        worker.ask("multiprocessing", method)
        children.append(tree.await_worker("child"))
    stubborn = worker.start_helper("stubborn", "--ignores-term")
    assert shared_memory.exists()
    supervisor.kill()
    worker.assert_gone()
    for child in children:
        child.assert_gone(Exit(signal=signal.SIGTERM))
    wait_until(lambda: not shared_memory.exists(), "the resource tracker cleans /dev/shm")
    stubborn.assert_gone(Exit(signal=signal.SIGKILL))
    tree.wait_for_strangers_to_end()


@pytest.mark.only_for("python")
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_f15_shared_memory_and_a_child_that_resists(
    tree: Tree, supervisor: Supervisor, shared_memory: Path, method: str
) -> None:
    """
    (driver) ── supervisor † ── worker ─┬─ child, hangs in SIGTERM's handler, holds the tracker's pipe
                                        └─ resource tracker, ignores SIGTERM, cleans /dev/shm
    """
    worker = supervisor.worker()
    worker.ask("share", shared_memory.name)
    worker.ask("multiprocessing", method)
    child = tree.await_worker("child")
    child.ask("resist")
    supervisor.kill()
    worker.assert_gone_before(child)
    child.assert_gone(Exit(signal=signal.SIGKILL))
    tree.wait_for_strangers_to_end()
    assert not shared_memory.exists(), "the resource tracker is the last to go"


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
    """(driver) ── supervisor † ── worker ── helper, named as Python's tracker, so the reaper stays"""
    helper = worker.start_helper(TRACKER, "--ignores-term")
    assert procfs.large_mappings(worker.pid), "a worker has 4 MiB"
    supervisor.kill()
    worker.assert_gone_before(helper)
    known = {process.pid for process in tree.processes}
    reapers: list[int] = []

    def is_one() -> bool:
        # The child by which the worker left its group may not have ended yet.
        below = procfs.descendants(os.getpid()).items()
        reapers[:] = [pid for pid, state in below if pid not in known and state not in "ZX"]
        return len(reapers) == 1

    wait_until(is_one, "one process more, the reaper")
    (reaper,) = reapers
    assert procfs.command_name(reaper) == procfs.WATCHER_THREAD

    def holds_nothing() -> bool:
        held = None
        with contextlib.suppress(ProcessLookupError, FileNotFoundError):
            held = procfs.large_mappings(reaper)
        # A process that has ended holds nothing either.
        assert procfs.state(reaper) not in "ZX", "the reaper has ended, and held it until then"
        return held == []

    wait_until(holds_nothing, "the reaper lets go of the worker's memory")
    helper.kill()
    helper.assert_gone(Exit(signal=signal.SIGKILL))
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
@limited
def test_f15_fork_fails(tree: Tree, task_limit: TaskLimit) -> None:
    """driver ── outer ── session leader ── (supervisor) † ── worker, cannot fork ── helper"""
    leader = tree.supervisor("outer").supervisor("leader", leads_session=True)
    supervisor = leader.supervisor("supervisor")
    worker = supervisor.worker(steps=task_limit.steps)
    helper = worker.start_helper("helper")
    task_limit.leave(worker, 0)
    supervisor.kill()
    worker.assert_gone()
    helper.assert_gone()
    leader.assert_serving()


@pytest.mark.not_for("exec", because="without a process there is no guardian")
@pytest.mark.needs("root", "pid-namespace")
@limited
def test_f15_fork_fails_and_the_session_leader_is_outside(tree: Tree, task_limit: TaskLimit) -> None:
    """session leader … driver ── [ init ── supervisor † ── worker, cannot fork ── helper ]"""
    supervisor = tree.supervisor("init", via=PID_NAMESPACE).supervisor("supervisor")
    worker = supervisor.worker(steps=task_limit.steps)
    helper = worker.start_helper("helper")
    task_limit.leave(worker, 0)
    supervisor.kill()
    # The worker cannot leave its group, so the last resort ends the group, the worker included.
    worker.assert_gone(Exit(signal=signal.SIGKILL))
    helper.assert_gone(Exit(signal=signal.SIGKILL))


@pytest.mark.not_for("exec", because="its guardian makes no group")
def test_f15_setpgid_fails(supervisor: Supervisor) -> None:
    """(driver) ── supervisor † ── worker, setpgid fails by seccomp ── helper, ignores SIGTERM"""
    worker = supervisor.worker(steps=["--refuse", "setpgid", "EPERM"])
    helper = worker.start_helper("helper", "--ignores-term")
    supervisor.kill()
    # The last resort, as above.
    worker.assert_gone(Exit(signal=signal.SIGKILL))
    helper.assert_gone(Exit(signal=signal.SIGKILL))


@pytest.mark.not_for("exec", because="its guardian keeps its user")
@pytest.mark.needs("root")
def test_f15_helper_of_another_user(
    tree: Tree, supervisor: Supervisor, worker: Worker
) -> None:
    """(driver) ── supervisor † ── worker, now user 65534 ── helper, still root: lives on"""
    helper = worker.start_helper("helper")
    worker.change_user(NOBODY)
    supervisor.kill()
    worker.assert_gone(with_helpers=False)
    tree.wait_for_strangers_to_end()
    helper.assert_alive()


def test_f15_scope_process_leaves_the_helpers(tree: Tree, supervisor: Supervisor) -> None:
    """(driver) ── supervisor † ── worker, scope process ── helper, lives on"""
    worker = supervisor.worker(env={"LOCALAI_BACKEND_PARENT_WATCH_SCOPE": "process"})
    helper = worker.start_helper("helper")
    supervisor.kill()
    worker.assert_gone(with_helpers=False)
    tree.wait_for_strangers_to_end()
    helper.assert_alive()


# -- F16: the hook ---------------------------------------------------------------------------------


@pytest.mark.not_for("exec", because="it has no hook")
def test_f16_hook_hangs(tree: Tree, supervisor: Supervisor) -> None:
    """(driver) ── supervisor † ── worker, its hook hangs"""
    # Longer than elsewhere: the test must see the hook, and its thread may be scheduled late.
    grace_ms = 3000
    worker = supervisor.worker(arguments=["--hook", "hang", "--grace", str(grace_ms)])
    worker.assert_armed()
    killed = time.monotonic()
    supervisor.kill()
    tree.await_report("worker", "hook")
    worker.assert_gone()
    assert time.monotonic() - killed >= grace_ms / 1000


@pytest.mark.not_for("exec", because="it has no hook")
def test_f16_hook_returns(tree: Tree, supervisor: Supervisor) -> None:
    """(driver) ── supervisor † ── worker, its hook returns long before the grace ends"""
    worker = supervisor.worker(arguments=["--hook", "return", "--grace", "60000"])
    supervisor.kill()
    tree.await_report("worker", "hook")
    worker.assert_gone()


@pytest.mark.only_for("python")
@pytest.mark.parametrize("hook", ["raise", "exit"])
def test_f16_hook_raises(tree: Tree, supervisor: Supervisor, hook: str) -> None:
    """(driver) ── supervisor † ── worker, its hook raises an exception, or SystemExit"""
    worker = supervisor.worker(arguments=["--hook", hook, "--grace", "60000"])
    supervisor.kill()
    tree.await_report("worker", "hook")
    worker.assert_gone()
    assert {"raise": "ZeroDivisionError", "exit": "SystemExit"}[hook] in tree.log()


@pytest.mark.not_for("exec", because="it has no hook")
@pytest.mark.parametrize("leader", ["group", "session"])
@pytest.mark.parametrize("way", ["leave", "crash"])
def test_f16_hook_ends_the_process(tree: Tree, supervisor: Supervisor, way: str, leader: str) -> None:
    """(driver) ── supervisor † ── worker, its hook ends it ─┬─ plain
    └─ stubborn, ignores SIGTERM"""
    session = {"steps": ["--setsid"], "request": "spawn-in-group"} if leader == "session" else {}
    worker = supervisor.worker(arguments=["--hook", way], **session)
    plain = worker.start_helper("plain")
    stubborn = worker.start_helper("stubborn", "--ignores-term")
    supervisor.kill()
    tree.await_report("worker", "hook")
    worker.assert_gone(Exit(status=7) if way == "leave" else Exit(signal=signal.SIGABRT))
    plain.assert_gone(Exit(signal=signal.SIGTERM))
    stubborn.assert_gone(Exit(signal=signal.SIGKILL))
    tree.wait_for_strangers_to_end()


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


@either_freezer
def test_f17_supervisor_frozen_then_killed(
    supervisor: Supervisor, worker: Worker, freezer: Cgroup
) -> None:
    """(driver) ── supervisor, in a cgroup that is frozen, then † ── worker"""
    freezer.add(supervisor)
    freezer.freeze()
    worker.assert_lives_on()
    supervisor.pidfd.send(signal.SIGKILL)
    if freezer.holds_the_killed:
        worker.assert_lives_on()
        freezer.thaw()
    supervisor.await_end()
    worker.assert_gone()


@both_tiers
def test_f17_worker_stopped_meanwhile(supervisor: Supervisor, tier: str) -> None:
    """(driver) ── supervisor † ── worker, SIGSTOP before, SIGCONT afterwards"""
    worker = supervisor.worker()
    worker.assert_armed()
    worker.stop()
    supervisor.kill()
    worker.await_adoption(supervisor.pid)
    worker.assert_alive()
    worker.resume()
    worker.assert_gone()


@pytest.mark.not_for("exec", because="its guardian kills it while it is frozen", freezer=["v2"])
@either_freezer
def test_f17_worker_frozen_meanwhile(supervisor: Supervisor, worker: Worker, freezer: Cgroup) -> None:
    """(driver) ── supervisor † ── worker, in a cgroup that is frozen before and thawed afterwards"""
    freezer.add(worker)
    freezer.freeze()
    supervisor.kill()
    worker.await_adoption(supervisor.pid)
    worker.assert_alive()
    freezer.thaw()
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
@pytest.mark.not_for("go-degraded", because="it watches only the wrapper")
@pytest.mark.fails_with("poller", because="it watches only the wrapper, which lives", tier=["event"])
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
LONG_SECONDS = 600
"""Seconds for a test with a thousand processes, instead of the usual minute."""


@pytest.fixture
def many_descriptors() -> Iterator[None]:
    """Raises the descriptor limit to the hard limit: the driver holds a pidfd for each process."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 2 * WORKERS:
        pytest.skip(f"needs {2 * WORKERS} descriptors, and the hard limit is {hard}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.timeout(LONG_SECONDS)
@pytest.mark.not_for("python", because="a thousand interpreters need more than a minute and 8 GB")
def test_f19_a_thousand_workers(many_descriptors: None, supervisor: Supervisor) -> None:
    """(driver) ── supervisor † ── worker, a thousand times"""
    workers = [supervisor.worker(f"worker-{number}") for number in range(WORKERS)]
    supervisor.kill()
    for worker in workers:
        worker.assert_gone()


@pytest.mark.timeout(LONG_SECONDS)
@pytest.mark.only_for("python")
def test_f19_a_thousand_forked_workers(many_descriptors: None, supervisor: Supervisor) -> None:
    """(driver) ── supervisor ── worker † ── child, forked, arms, a thousand times"""
    worker = supervisor.worker(env={"LOCALAI_BACKEND_PARENT_WATCH_SCOPE": "process"})
    children = [fork(worker) for _ in range(WORKERS)]
    for child in children:
        assert child.arm() == "armed"
    worker.kill()
    for child in children:
        child.assert_gone()


def test_f20_processors_overloaded(tree: Tree) -> None:
    """(driver) ─┬─ supervisor † ── worker
    └─ four spinning processes per processor"""
    for number in range(4 * len(os.sched_getaffinity(0))):
        tree.start(tree.helper_command(f"spinner-{number}", "--spins"))
        tree.await_helper(f"spinner-{number}")
    assert_goes_in_time(tree)


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
    tracker = worker.start_helper(TRACKER, "--tracks", shared_memory.name)
    supervisor.kill()
    worker.assert_gone_before(stubborn)
    plain.assert_gone(Exit(signal=signal.SIGTERM))
    tracker.assert_gone(Exit(status=0))
    assert not shared_memory.exists()
    stubborn.assert_gone(Exit(signal=signal.SIGKILL))
    tree.wait_for_strangers_to_end()


# -- F22, F23: helpers outside the worker's group --------------------------------------------------

ends_alone = pytest.mark.not_for("go-degraded", because="it ends only the process itself")
WAITS = ["/bin/sh", "-c", '"$@" & wait', "sh"]
"""A shell that waits for what it starts."""


def outside(tree: Tree, where: str) -> list[str]:
    session = tree.launch("--setsid")
    return {
        "session": session,
        "group": tree.launch("--group", "0"),
        "two-sessions": [*WAITS, *session, *WAITS, *session],
    }[where]


@pytest.mark.fails_with(
    "setpriv", because="it leaves the helpers behind", where=["session"], tier=["event"]
)
@ends_alone
@pytest.mark.fails_with(
    "poller", because="it leaves the helpers behind", where=["session"], tier=["event"]
)
@pytest.mark.parametrize("where", ["session", "group", "two-sessions"])
@both_tiers
def test_f22_helper_outside_the_group(
    tree: Tree, supervisor: Supervisor, where: str, tier: str
) -> None:
    """(driver) ── supervisor † ── worker ── helper, in its own group or session"""
    worker = supervisor.worker()
    helper = worker.start_helper("helper", via=outside(tree, where))
    assert os.getpgid(helper.pid) != os.getpgid(worker.pid)
    assert worker.info()["scope"] == "tree" or tree.is_control
    supervisor.kill()
    worker.assert_gone()
    helper.assert_gone(Exit(signal=signal.SIGTERM))
    tree.wait_for_strangers_to_end()


@ends_alone
@pytest.mark.parametrize("kind", ["ignores-term", "stopped", "hides", "threads"])
@both_tiers
def test_f22_stubborn_helper(tree: Tree, supervisor: Supervisor, kind: str, tier: str) -> None:
    """(driver) ── supervisor † ── worker ── helper in its own session, hard to find or to end"""
    worker = supervisor.worker()
    options = [] if kind == "stopped" else [f"--{kind}"]
    helper = worker.start_helper("helper", *options, via=outside(tree, "session"))
    if kind == "stopped":
        helper.stop()
    supervisor.kill()
    worker.assert_gone()
    ended_by = signal.SIGKILL if kind in ("ignores-term", "stopped") else signal.SIGTERM
    helper.assert_gone(Exit(signal=ended_by))
    tree.wait_for_strangers_to_end()


@ends_alone
def test_f22_worker_has_many_threads(tree: Tree, supervisor: Supervisor) -> None:
    """(driver) ── supervisor † ── worker with 200 threads ── helper, in its own session"""
    worker = supervisor.worker()
    worker.ask("threads", 100)
    helper = worker.start_helper("helper", via=outside(tree, "session"))
    worker.ask("threads", 100)
    assert len(procfs.threads(worker.pid)) > 200
    supervisor.kill()
    worker.assert_gone()
    helper.assert_gone(Exit(signal=signal.SIGTERM))


@ends_alone
@pytest.mark.fails_with("poller", because="it leaves the helpers behind", tier=["event"])
@both_tiers
def test_f22_orphan_in_the_group(tree: Tree, supervisor: Supervisor, tier: str) -> None:
    """(driver) ─┬─ supervisor † ── worker
    └─ helper, in the worker's group, left by the shell that started it"""
    worker = supervisor.worker()
    helper = worker.start_helper("helper", via=["/bin/sh", "-c", '"$@" &', "sh"])
    wait_until(lambda: helper.parent() == os.getpid(), "the shell has ended")
    assert os.getpgid(helper.pid) == worker.pid
    supervisor.kill()
    worker.assert_gone()
    helper.assert_gone(Exit(signal=signal.SIGTERM))


@ends_alone
@both_tiers
def test_f22_worker_leads_no_group(tree: Tree, supervisor: Supervisor, tier: str) -> None:
    """(driver) ── supervisor, leads the group † ── worker ─┬─ helper in the same group
    └─ helper in its own session"""
    worker = supervisor.worker(request="spawn-in-group")
    worker.start_helper("near")
    worker.start_helper("far", via=outside(tree, "session"))
    supervisor.kill()
    worker.assert_gone()
    tree.wait_for_strangers_to_end()


@both_tiers
def test_f22_scope_group_leaves_other_groups(tree: Tree, supervisor: Supervisor, tier: str) -> None:
    """(driver) ── supervisor † ── worker, scope group ── helper in its own session: stays"""
    worker = supervisor.worker(env={SCOPE: "group"})
    helper = worker.start_helper("helper", via=outside(tree, "session"))
    supervisor.kill()
    worker.assert_gone(with_helpers=False)
    tree.wait_for_strangers_to_end()
    helper.assert_alive()


@ends_alone
@pytest.mark.fails_with("poller", because="it leaves the helpers behind", kind=["plain"])
@pytest.mark.parametrize("kind", ["plain", "ignores-term"])
def test_f23_helper_forks_in_a_loop(tree: Tree, supervisor: Supervisor, kind: str) -> None:
    """(driver) ── supervisor † ── worker ── launcher ══ children, one every 300 µs, setsid"""
    worker = supervisor.worker()
    options = ["--ignores-term"] if kind == "ignores-term" else []
    worker.start_helper("launcher", *options, "--forks", via=outside(tree, "session"))
    supervisor.kill()
    worker.assert_gone()
    # The reaper's last search may take 10 s of processor time.
    tree.wait_for_strangers_to_end(30)


@ends_alone
@pytest.mark.fails_with("poller", because="it leaves the helpers behind")
def test_f23_parents_die_during_the_walk(tree: Tree, supervisor: Supervisor) -> None:
    """(driver) ── supervisor † ── worker ══ shell, dies of SIGTERM ── helper, setsid, ignores it"""
    worker = supervisor.worker()
    for number in range(10):
        worker.start_helper(f"helper-{number}", "--ignores-term", via=outside(tree, "two-sessions"))
    supervisor.kill()
    worker.assert_gone()
    tree.wait_for_strangers_to_end()


# -- F24: the grace --------------------------------------------------------------------------------

no_grace = pytest.mark.not_for("go-degraded", because="it gives no grace, as the package says")
BY_ITSELF = Exit(status=9)


@pytest.mark.not_for("exec", because="its helpers get SIGTERM at the same time, as the contract says")
@no_grace
@pytest.mark.fails_with("poller", because="it gives the worker no time", tier=["event"])
@both_tiers
def test_f24_worker_drains(tree: Tree, supervisor: Supervisor, tier: str) -> None:
    """(driver) ── supervisor † ── worker, drains at SIGTERM ── helper, lives until then"""
    worker = supervisor.worker(env={GRACE: "30s"})
    helper = worker.start_helper("helper", via=outside(tree, "session"))
    worker.ask("drain", 1500)
    supervisor.kill()
    while not worker.pidfd.has_ended():
        lives = not helper.pidfd.has_ended()
        assert lives or worker.pidfd.has_ended(), "the helper lives as long as the worker"
        time.sleep(0.01)
    worker.assert_gone(BY_ITSELF)
    assert worker.gone_after >= 1.5
    helper.assert_gone(Exit(signal=signal.SIGTERM))
    tree.wait_for_strangers_to_end()


@no_grace
def test_f24_worker_ignores_sigterm(supervisor: Supervisor) -> None:
    """(driver) ── supervisor † ── worker, ignores SIGTERM: gone at the end of the grace"""
    worker = supervisor.worker(env={GRACE: "700ms"})
    worker.ask("drain", -1)
    supervisor.kill()
    worker.assert_gone()
    assert worker.gone_after >= 0.7


@no_grace
def test_f24_sigterm_is_the_default(tree: Tree, supervisor: Supervisor) -> None:
    """(driver) ── supervisor † ── worker, does not handle SIGTERM: gone at once, with its line"""
    worker = supervisor.worker(env={GRACE: "1h"})
    supervisor.kill()
    worker.assert_gone(tree.without_handler)
    if tree.without_handler == Exit(status=1):
        worker.assert_death_line(supervisor)


@pytest.mark.not_for(
    "exec", because="its helpers have the whole grace, 1 s unless set, at the same time as it"
)
@no_grace
@pytest.mark.parametrize(
    ("grace", "expected"), [("10s", Exit(status=8)), (None, Exit(signal=signal.SIGKILL))]
)
def test_f24_helper_cleans_up(
    tree: Tree, supervisor: Supervisor, grace: str | None, expected: Exit
) -> None:
    """(driver) ── supervisor † ── worker ── helper, which cleans up for 3 s at SIGTERM"""
    worker = supervisor.worker(env={GRACE: grace} if grace else None)
    helper = worker.start_helper("helper", "--cleans", "3000")
    supervisor.kill()
    worker.assert_gone(tree.without_handler if grace else Exit(status=1), with_helpers=False)
    helper.assert_gone(expected)


@no_grace
def test_f24_a_grace_of_zero(tree: Tree, supervisor: Supervisor) -> None:
    """(driver) ── supervisor † ── worker, would drain ── helper, would clean up: both end at once"""
    worker = supervisor.worker(env={GRACE: "0"})
    helper = worker.start_helper("helper", "--ignores-term")
    worker.ask("drain", 3_600_000)
    supervisor.kill()
    worker.assert_gone()
    helper.assert_gone(Exit(signal=signal.SIGKILL))
    tree.wait_for_strangers_to_end()


@pytest.mark.not_for("exec", because="it has no hook")
@no_grace
@pytest.mark.not_for("go-native", because="Go has no hook")
@pytest.mark.parametrize("grace", ["0", "700ms"])
def test_f24_hook(tree: Tree, supervisor: Supervisor, grace: str) -> None:
    """(driver) ── supervisor † ── worker, its hook hangs: it has the grace; with 0 it is not called"""
    worker = supervisor.worker(env={GRACE: grace}, arguments=["--hook", "hang"])
    supervisor.kill()
    worker.assert_gone()
    assert tree.has_reported("worker", "hook") == (grace != "0")
    assert worker.gone_after >= (0 if grace == "0" else 0.7)


# -- F25, F26: a launcher that exits ---------------------------------------------------------------


@pytest.mark.not_for("go-degraded", because="it watches only the parent")
@pytest.mark.fails_with("poller", because="it takes the adopter for its parent", tier=["event"])
@both_tiers
def test_f25_launcher_exits_before_arming(tree: Tree, tier: str) -> None:
    """driver ── (subreaper) ── supervisor, names itself † ── launcher † ── worker, arms then"""
    subreaper = tree.supervisor("subreaper", subreaper=True)
    subreaper.await_later_tick()
    supervisor = subreaper.supervisor("supervisor", names_itself="token")
    launcher = supervisor.supervisor("launcher")
    worker = launcher.worker(arm="request")
    launcher.exit_cleanly()
    worker.await_adoption(launcher.pid)
    assert worker.arm() == "armed"
    worker.assert_armed(watched=[supervisor.pid])
    worker.assert_lives_on()
    supervisor.kill()
    worker.assert_gone()
    subreaper.assert_serving()


@both_tiers
def test_f26_launcher_exits_after_arming(tree: Tree, named_supervisor: Supervisor, tier: str) -> None:
    """driver ── supervisor, names itself ── launcher † ── worker, has armed: gone after its grace"""
    launcher = named_supervisor.supervisor("launcher")
    worker = launcher.worker(env=SOON)
    launcher.exit_cleanly()
    worker.assert_gone(tree.without_handler)
    named_supervisor.assert_serving()


# -- F27: stderr hangs -----------------------------------------------------------------------------


@pytest.mark.needs("fuse")
@pytest.mark.fails_with("poller", because="it leaves the helpers behind")
def test_f27_stderr_on_a_file_system_that_hangs(tree: Tree, tmp_path: Path) -> None:
    """driver ── … ── supervisor † ── worker, its last line hangs in a file system ── helper"""
    server, supervisor = tree.below_file_server(tmp_path)
    worker = supervisor.worker(steps=["--stderr", server.file])
    # The helper's own stderr is on another file system.
    helper = worker.start_helper("helper", via=tree.launch("--dup2", "1", "2"))
    server.hang()
    supervisor.kill()
    helper.assert_ended()
    server.answer()
    worker.assert_gone()
    helper.assert_gone(Exit(signal=signal.SIGTERM))


# -- F28: two copies of the library ----------------------------------------------------------------

COPIES_TREES = 5
"""The two copies race, so one tree proves little."""


def arm_two_copies(tree: Tree, supervisor: Supervisor, arms_first: str, **options) -> Worker:
    worker = supervisor.worker(arm="request", **options)
    arm_copy = ["arm-copy", tree.programs.shared_library]
    requests = [["arm"], arm_copy] if arms_first == "linked" else [arm_copy, ["arm"]]
    assert [worker.ask(*request)["status"] for request in requests] == ["armed", "armed"]
    return worker


arms_first = pytest.mark.parametrize("arms_first", ["linked", "loaded"])


@arms_first
def test_f28_no_helper_is_left(tree: Tree, arms_first: str) -> None:
    """(driver) ── supervisor † ── worker, two copies of the library ─┬─ near, ignores SIGTERM
    └─ far, in its own session"""
    for number in range(COPIES_TREES):
        supervisor = tree.supervisor(f"supervisor-{number}")
        worker = arm_two_copies(tree, supervisor, arms_first, name=f"worker-{number}")
        near = worker.start_helper(f"near-{number}", "--ignores-term")
        far = worker.start_helper(f"far-{number}", via=outside(tree, "session"))
        supervisor.kill()
        worker.assert_gone()
        near.assert_gone(Exit(signal=signal.SIGKILL))
        far.assert_gone(Exit(signal=signal.SIGTERM))
    tree.wait_for_strangers_to_end()


@arms_first
def test_f28_hook_is_not_interrupted(tree: Tree, supervisor: Supervisor, arms_first: str) -> None:
    """(driver) ── supervisor † ── worker, two copies of the library, one with a hook that hangs"""
    grace_ms = 1500
    hook = ["--hook", "hang", "--grace", str(grace_ms)]
    worker = arm_two_copies(tree, supervisor, arms_first, arguments=hook)
    helper = worker.start_helper("helper", "--ignores-term")
    supervisor.kill()
    tree.await_report("worker", "hook")
    worker.assert_gone()
    assert worker.gone_after >= grace_ms / 1000
    helper.assert_gone(Exit(signal=signal.SIGKILL))
