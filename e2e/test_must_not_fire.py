"""N01 to N18: events that are not the death of the supervisor, so the worker must live on.

At the end, every test kills the supervisor and checks that the worker goes: a worker whose watcher is
broken would live through everything else, too. In the pictures, † marks the process that dies, and the
process in (brackets) adopts the orphan.
"""

import os
import resource
import signal
import subprocess

import pytest

from driver import procfs
from driver.cgroups import VERSIONS, Cgroup
from driver.deadline import wait_until
from driver.debugger import Debugger
from driver.pidfd import Exit
from driver.roles import NOBODY, SHELL_WRAPPER, Process, Supervisor, Worker
from driver.tree import GRACE, INTERVAL, SCOPE, Tree

PARENT_PID = "LOCALAI_BACKEND_PARENT_PID"
PID_NAMESPACE = ["unshare", "--pid", "--fork"]
PID_NAMESPACE_WITH_PROC = [*PID_NAMESPACE, "--mount-proc"]

both_tiers = pytest.mark.parametrize("tier", ["event", "poll"])
either_freezer = pytest.mark.parametrize("freezer", VERSIONS, indirect=True)
reaped_or_zombie = pytest.mark.parametrize("remains", ["reaped", "zombie"])
however_named = pytest.mark.parametrize("name", [None, "pid", "token"], ids=["unnamed", "pid", "token"])
by_number_or_token = pytest.mark.parametrize("name", ["pid", "token"])


def assert_warned_of(tree: Tree, variable: str) -> None:
    """Checks that there is one line about the variable, however many calls read it."""

    def lines() -> list[str]:
        return [line for line in tree.log_lines() if f" {variable}=" in line]

    if not tree.is_control:
        # In the degraded mode, Go does not wait long for its line to be written.
        wait_until(lines, f"a warning of {variable}")
        assert len(lines()) == 1, tree.log()


def assert_not_warned(tree: Tree) -> None:
    assert not [line for line in tree.log_lines() if PARENT_PID in line], tree.log()


# -- N01 to N03: what a living supervisor does -----------------------------------------------------


@pytest.mark.fails_with("setpriv", because="the thread that spawned the worker ends", tier=["event"])
@pytest.mark.fails_with(
    "pdeathsig", because="it follows the thread that spawned the worker", tier=["event"]
)
@both_tiers
def test_n01_spawning_thread_exits(supervisor: Supervisor, tier: str) -> None:
    """driver ── supervisor, one thread of it † ── worker"""
    worker = supervisor.worker(request="spawn-from-thread")
    worker.assert_armed(watched=[supervisor.pid])
    supervisor.end_spawning_thread()
    worker.assert_lives_on()
    supervisor.kill()
    worker.assert_gone()


@pytest.mark.fails_with(
    "setpriv",
    because="the thread that spawned the worker ends when another one execs",
    tier=["event"],
    request_to_exec=["exec-from-thread"],
)
@pytest.mark.fails_with(
    "pdeathsig",
    because="the thread that spawned the worker ends when another one execs",
    tier=["event"],
    request_to_exec=["exec-from-thread"],
)
@pytest.mark.parametrize("request_to_exec", ["exec", "exec-from-thread"])
@both_tiers
def test_n02_supervisor_execs(named_supervisor: Supervisor, request_to_exec: str, tier: str) -> None:
    """driver ── supervisor, execs another program ── worker"""
    worker = named_supervisor.worker()
    worker.assert_armed(watched=[named_supervisor.pid])
    named_supervisor.become("sleep", "3600", request=request_to_exec)
    worker.assert_lives_on()
    named_supervisor.kill()
    worker.assert_gone()


@pytest.mark.not_for("go-degraded", because="it watches only the wrapper")
@both_tiers
def test_n02_supervisor_execs_above_a_wrapper(named_supervisor: Supervisor, tier: str) -> None:
    """driver ── supervisor, execs another program ── wrapper ── worker"""
    _wrapper, worker = named_supervisor.wrapped_worker()
    named_supervisor.become("sleep", "3600", request="exec-from-thread")
    worker.assert_lives_on()
    named_supervisor.kill()
    worker.assert_gone()


@both_tiers
def test_n03_supervisor_stopped_and_continued(supervisor: Supervisor, tier: str) -> None:
    """driver ── supervisor, SIGSTOP, SIGCONT ── worker"""
    worker = supervisor.worker()
    supervisor.stop()
    worker.assert_lives_on()
    supervisor.resume()
    worker.assert_lives_on()
    supervisor.assert_serving()
    supervisor.kill()
    worker.assert_gone()


@pytest.mark.not_for("go-degraded", because="it watches only the wrapper")
@both_tiers
def test_n03_supervisor_above_a_wrapper_stopped_and_continued(
    named_supervisor: Supervisor, tier: str
) -> None:
    """driver ── supervisor, SIGSTOP, SIGCONT ── wrapper ── worker"""
    _wrapper, worker = named_supervisor.wrapped_worker()
    named_supervisor.stop()
    worker.assert_lives_on()
    named_supervisor.resume()
    worker.assert_lives_on()
    named_supervisor.kill()
    worker.assert_gone()


@either_freezer
@pytest.mark.parametrize("frozen", ["supervisor", "worker"])
def test_n03_frozen_and_thawed(
    supervisor: Supervisor, worker: Worker, frozen: str, freezer: Cgroup
) -> None:
    """driver ── supervisor ── worker, one of them in a cgroup that is frozen, then thawed"""
    freezer.add(supervisor if frozen == "supervisor" else worker)
    freezer.freeze()
    if frozen == "supervisor":
        worker.assert_lives_on()
    freezer.thaw()
    worker.assert_lives_on()
    supervisor.assert_serving()
    supervisor.kill()
    worker.assert_gone()


# -- N04 to N06: nothing to watch ------------------------------------------------------------------


@pytest.mark.fails_with("naive", because="it takes PID 1 for an adopter", tier=["event"], name=[None])
@pytest.mark.needs("pid-namespace")
@however_named
@both_tiers
def test_n04_supervisor_is_pid_1(tree: Tree, name: str | None, tier: str) -> None:
    """driver ── [ supervisor, PID 1 ── worker ]: the namespace ends with its PID 1"""
    supervisor = tree.supervisor(names_itself=name, via=PID_NAMESPACE_WITH_PROC)
    worker = supervisor.worker()
    assert worker.ask("ping")["ppid"] == 1
    if name is None:
        assert worker.status_at_start == ("armed" if tree.is_guarded else "no_parent")
    worker.assert_lives_on()
    assert_not_warned(tree)
    supervisor.kill()
    worker.assert_gone(None)


@pytest.mark.fails_with("naive", because="it takes PID 1 for an adopter")
@pytest.mark.needs("pid-namespace")
def test_n05_started_by_pid_1(tree: Tree) -> None:
    """driver ── [ init, PID 1 ─┬─ worker
    └─ another child † ]"""
    init = tree.supervisor("init", via=PID_NAMESPACE_WITH_PROC)
    worker = init.worker()
    other = init.supervisor("other-child")
    assert worker.status_at_start == "no_parent"
    other.kill()
    worker.assert_lives_on()
    init.kill()
    worker.assert_gone(None)


@pytest.mark.fails_with("naive", because="it takes PID 1 for an adopter")
@pytest.mark.needs("adopting-init")
def test_n05_started_by_the_real_pid_1(tree: Tree, supervisor: Supervisor) -> None:
    """(PID 1) … driver ── supervisor † ── worker, arms afterwards, as if PID 1 had started it"""
    worker = supervisor.worker(arm="request")
    with tree.adopted_by_init():
        supervisor.kill()
        worker.await_adoption(supervisor.pid)
        assert worker.arm() == "no_parent"
        worker.assert_lives_on()
        worker.kill()


@pytest.mark.parametrize("value", ["false", "0", "no", "off", " OFF\t", "False"])
def test_n06_switched_off(tree: Tree, supervisor: Supervisor, value: str) -> None:
    """(driver) ── supervisor † ─┬─ worker, switched off
    └─ sibling, not switched off: goes"""
    worker = supervisor.worker(env={"LOCALAI_BACKEND_PARENT_WATCH": value})
    sibling = supervisor.worker("sibling")
    assert worker.status_at_start == "disabled" or tree.is_control
    supervisor.kill()
    sibling.assert_gone()
    assert worker.parent() == os.getpid()
    worker.assert_lives_on()
    assert not [line for line in tree.log_lines() if f" {worker.pid} " in line]


# -- N07 to N09: neighbours ------------------------------------------------------------------------


@pytest.mark.needs("debugger")
@pytest.mark.parametrize("target", ["worker", "supervisor"])
@both_tiers
def test_n07_debugger_attaches(
    tree: Tree, named_supervisor: Supervisor, target: str, tier: str
) -> None:
    """driver ─┬─ supervisor ── worker
    └─ gdb, attached to one of them"""
    worker = named_supervisor.worker()
    debugger = Debugger(worker if target == "worker" else named_supervisor)
    debugger.resume()
    worker.assert_lives_on()
    debugger.interrupt()
    debugger.detach()
    worker.assert_lives_on()
    named_supervisor.kill()
    worker.assert_gone()


@pytest.mark.needs("debugger")
@both_tiers
def test_n07_debugged_supervisor_dies(supervisor: Supervisor, tier: str) -> None:
    """
    (driver) ─┬─ supervisor †, nobody reaps it as long as gdb does not ── worker
              └─ gdb, attached to the supervisor
    """
    worker = supervisor.worker()
    debugger = Debugger(supervisor)
    supervisor.kill(reap=False)
    worker.assert_gone()
    debugger.quit()


@pytest.mark.needs("debugger")
def test_n07_supervisor_of_a_debugged_worker_dies(supervisor: Supervisor, worker: Worker) -> None:
    """
    (driver) ─┬─ supervisor † ── worker: goes when the debugger lets it
              └─ gdb, attached to the worker
    """
    debugger = Debugger(worker)
    supervisor.kill()
    worker.assert_alive()
    debugger.detach()
    worker.assert_gone()


@both_tiers
def test_n08_sibling_dies(supervisor: Supervisor, tier: str) -> None:
    """driver ── supervisor ─┬─ worker
    └─ sibling †"""
    worker = supervisor.worker()
    sibling = supervisor.worker("sibling")
    sibling.kill()
    worker.assert_lives_on()
    supervisor.assert_serving()
    supervisor.kill()
    worker.assert_gone()


@pytest.mark.fails_with("naive", because="it ends the group, whoever leads it")
@however_named
def test_n09_worker_in_the_group_of_a_neighbour(tree: Tree, name: str | None) -> None:
    """driver ── neighbour, leads the group ── supervisor † ── worker, scope group: only it goes"""
    neighbour = tree.supervisor("neighbour")
    supervisor = neighbour.supervisor("supervisor", names_itself=name, request="spawn-in-group")
    worker = supervisor.worker(request="spawn-in-group", env={SCOPE: "group"})
    asked = not tree.is_control and not tree.is_guarded
    assert not asked or worker.info()["scope"] == "process", "what will be acted on"
    helper = worker.start_helper("helper")
    assert os.getpgid(worker.pid) == os.getpgid(helper.pid) == neighbour.pid
    supervisor.kill()
    worker.assert_gone(with_helpers=False)
    tree.wait_for_strangers_to_end()
    neighbour.assert_serving()
    helper.assert_alive()


@pytest.mark.fails_with("naive", because="it ends the group, whoever leads it")
@however_named
def test_n09_worker_in_the_group_of_its_supervisor(tree: Tree, name: str | None) -> None:
    """driver ── supervisor, leads the group † ─┬─ worker: only it goes
    └─ neighbour"""
    supervisor = tree.supervisor(names_itself=name)
    neighbour = supervisor.supervisor("neighbour", request="spawn-in-group")
    worker = supervisor.worker(request="spawn-in-group")
    assert os.getpgid(worker.pid) == os.getpgid(neighbour.pid) == supervisor.pid
    supervisor.kill()
    worker.assert_gone()
    tree.wait_for_strangers_to_end()
    neighbour.assert_serving()


@pytest.mark.fails_with("naive", because="it ends the group, whoever leads it")
def test_n09_wrapper_leads_and_nothing_is_named(tree: Tree, supervisor: Supervisor) -> None:
    """driver ── supervisor ── wrapper, leads the group † ─┬─ worker: only it goes
    └─ neighbour"""
    wrapper = supervisor.supervisor("wrapper")
    neighbour = wrapper.supervisor("neighbour", request="spawn-in-group")
    worker = wrapper.worker(request="spawn-in-group")
    wrapper.kill()
    worker.assert_gone()
    tree.wait_for_strangers_to_end()
    neighbour.assert_serving()
    supervisor.assert_serving()


def test_n09_worker_in_the_group_of_a_sibling(tree: Tree, supervisor: Supervisor) -> None:
    """(driver) ── supervisor † ─┬─ sibling, leads the group
    └─ worker, has joined it: only it goes"""
    sibling = supervisor.supervisor("sibling")
    worker = supervisor.worker(steps=["--group", str(sibling.pid)], request="spawn-in-group")
    assert os.getpgid(worker.pid) == sibling.pid
    supervisor.kill()
    worker.assert_gone()
    tree.wait_for_strangers_to_end()
    sibling.assert_serving()


@pytest.mark.not_for("go-degraded", because="it watches only the parent")
def test_n09_process_in_between_dies(tree: Tree, named_supervisor: Supervisor) -> None:
    """driver ── supervisor, names itself ── leader of the group ── between † ── worker: only it goes"""
    leader = named_supervisor.supervisor("leader")
    between = leader.supervisor("between", request="spawn-in-group")
    worker = between.worker(request="spawn-in-group")
    assert os.getpgid(worker.pid) == leader.pid
    worker.assert_armed(watched=[named_supervisor.pid, between.pid])
    between.kill()
    worker.assert_gone()
    tree.wait_for_strangers_to_end()
    leader.assert_serving()
    named_supervisor.assert_serving()


# -- N10, N11: nothing can be proven ---------------------------------------------------------------


@pytest.mark.fails_with("naive", because="it takes hidden processes for dead", tier=["event"])
@pytest.mark.needs("pid-namespace")
@pytest.mark.parametrize(
    "namespace", [PID_NAMESPACE, PID_NAMESPACE_WITH_PROC], ids=["outer-proc", "own-proc"]
)
@by_number_or_token
@both_tiers
def test_n10_named_from_another_pid_namespace(
    tree: Tree, name: str, namespace: list[str], tier: str
) -> None:
    """driver ── supervisor, names itself ── unshare ── [ init ── inner supervisor ── worker ]"""
    outer = tree.supervisor("outer-supervisor", names_itself=name)
    init = outer.supervisor("init", via=namespace)
    inner = init.supervisor("inner-supervisor")
    worker = inner.worker()
    worker.assert_armed()
    assert_warned_of(tree, PARENT_PID)
    worker.assert_lives_on()
    inner.kill()
    worker.assert_gone()
    init.assert_serving()


@pytest.mark.needs("pid-namespace")
@pytest.mark.parametrize("wrapped", [False, True], ids=["direct", "wrapped"])
@by_number_or_token
@both_tiers
def test_n10_named_where_proc_is_another_namespace_s(
    tree: Tree, name: str, wrapped: bool, tier: str
) -> None:
    """driver ─┬─ [ init ── supervisor, names itself ── [wrapper ──] worker ]
    └─ strangers: in the worker's /proc, they have the process ids of the others"""
    stranger = tree.supervisor("stranger")
    other_stranger = tree.supervisor("other-stranger")
    other_stranger.await_later_tick()
    init = tree.supervisor("init", via=PID_NAMESPACE)
    init.set_next_pid(stranger.pid)
    supervisor = init.supervisor("supervisor", names_itself=name)
    init.set_next_pid(other_stranger.pid)
    worker = supervisor.worker(via=SHELL_WRAPPER if wrapped else None)
    parent = Process(tree, "wrapper", worker.parent()) if wrapped else supervisor
    worker.assert_armed()
    worker.assert_lives_on()
    parent.kill()
    worker.assert_gone()


@pytest.mark.not_for(
    "exec", because="its guardian is a child of that namespace's PID 1"
)
@pytest.mark.fails_with("naive", because="it takes hidden processes for dead")
@pytest.mark.needs("pid-namespace")
@pytest.mark.parametrize(
    "namespace", [PID_NAMESPACE, PID_NAMESPACE_WITH_PROC], ids=["outer-proc", "own-proc"]
)
@pytest.mark.parametrize("place", ["pid-1", "child-of-pid-1"])
@however_named
def test_n10_worker_at_the_top_of_another_pid_namespace(
    tree: Tree, name: str | None, place: str, namespace: list[str]
) -> None:
    """driver ── supervisor, names itself ── unshare ── [ worker ] or [ wrapper ── worker ]"""
    supervisor = tree.supervisor(names_itself=name)
    wrapper = [] if place == "pid-1" else SHELL_WRAPPER
    worker = supervisor.worker(via=[*namespace, *wrapper])
    top = worker if place == "pid-1" else Process(tree, "wrapper", worker.parent())
    assert worker.ask("ping")["ppid"] == (0 if place == "pid-1" else 1)
    assert worker.status_at_start == "no_parent"
    worker.assert_lives_on()
    # The supervisor outside cannot be seen from here. The namespace ends with its PID 1.
    supervisor.kill()
    worker.assert_lives_on()
    top.kill()
    worker.assert_gone(None)


@pytest.mark.not_for("exec", because="it is guarded from the start: nothing of it arms later")
@pytest.mark.fails_with("naive", because="it takes hidden processes for dead")
@pytest.mark.needs("pid-namespace")
@pytest.mark.parametrize("proc", ["outer-proc", "own-proc"])
@however_named
def test_n10_worker_enters_another_pid_namespace(tree: Tree, name: str | None, proc: str) -> None:
    """driver ─┬─ supervisor ── nsenter ── [ worker, as `docker exec` starts one ]
    └─ [ init: the same namespace ]"""
    init = tree.supervisor("init", via=PID_NAMESPACE_WITH_PROC)
    supervisor = tree.supervisor(names_itself=name)
    namespaces = {"outer-proc": ["--pid"], "own-proc": ["--pid", "--mount"]}[proc]
    worker = supervisor.worker(via=["nsenter", "--target", str(init.pid), *namespaces])
    assert worker.ask("ping")["ppid"] == 0
    assert worker.status_at_start == "no_parent"
    worker.assert_lives_on()
    supervisor.kill()
    worker.assert_lives_on()
    init.kill()
    worker.assert_gone(None)


HIDDEN_PROC = "mount -t proc -o hidepid=2 proc /proc"
NO_PROC = "mount -t tmpfs tmpfs /proc"


def with_proc(mount: str) -> list[str]:
    """A command prefix that runs a program in a mount namespace with another /proc."""
    return ["unshare", "--mount", "sh", "-c", f'{mount} && exec "$@"', "sh"]


@pytest.mark.not_for("exec", because="it looks for its guardian in /proc", mount=[NO_PROC])
@pytest.mark.fails_with(
    "naive", because="it takes hidden processes for dead", tier=["event"], name=["pid", "token"]
)
@pytest.mark.needs("private-proc")
@pytest.mark.parametrize("mount", [HIDDEN_PROC, NO_PROC], ids=["hidepid", "no-proc"])
@however_named
@both_tiers
def test_n11_proc_hidden(tree: Tree, name: str | None, mount: str, tier: str) -> None:
    """driver ── supervisor ── worker, user 65534, cannot see the supervisor in /proc"""
    supervisor = tree.supervisor(names_itself=name)
    worker = supervisor.worker(via=with_proc(mount), steps=["--user", str(NOBODY)])
    worker.assert_armed()
    worker.assert_lives_on()
    supervisor.kill()
    worker.assert_gone()


@pytest.mark.not_for("exec", because="it looks for its guardian in /proc", mount=[NO_PROC])
@pytest.mark.fails_with("naive", because="it takes hidden processes for dead", tier=["event"])
@pytest.mark.needs("private-proc")
@pytest.mark.parametrize("mount", [HIDDEN_PROC, NO_PROC], ids=["hidepid", "no-proc"])
@by_number_or_token
@both_tiers
def test_n11_proc_hidden_with_wrapper(tree: Tree, name: str, mount: str, tier: str) -> None:
    """driver ── supervisor, names itself ── wrapper † ── worker, user 65534, cannot see others in
    /proc"""
    supervisor = tree.supervisor(names_itself=name)
    wrapper = supervisor.supervisor("wrapper")
    worker = wrapper.worker(via=with_proc(mount), steps=["--user", str(NOBODY)])
    worker.assert_armed()
    worker.assert_lives_on()
    wrapper.kill()
    worker.assert_gone()
    supervisor.assert_serving()


@pytest.mark.not_for("go-degraded", because="it watches only the wrapper")
@pytest.mark.parametrize("tier", ["poll"])
def test_n11_no_descriptor_to_read_proc(named_supervisor: Supervisor, tier: str) -> None:
    """driver ── supervisor, names itself ── wrapper ── worker, at its RLIMIT_NOFILE once armed"""
    _wrapper, worker = named_supervisor.wrapped_worker()
    worker.assert_armed()
    with worker.session() as session:
        session.ask("ping")
        # 0, 1 and 2 are in use, and no higher number is allowed: no file of /proc can be opened.
        resource.prlimit(worker.pid, resource.RLIMIT_NOFILE, (3, 3))
        worker.await_looks()
        session.ask("ping")
        named_supervisor.kill()
        worker.assert_gone()


@pytest.mark.not_for("go-degraded", because="it watches only the wrapper")
@pytest.mark.needs("private-proc", "pid-namespace")
@pytest.mark.parametrize("proc", ["none", "another-namespace-s"])
@pytest.mark.parametrize("tier", ["poll"])
def test_n11_proc_changes_once_armed(tree: Tree, proc: str, tier: str) -> None:
    """driver ─┬─ supervisor, names itself ── wrapper ── worker, its /proc changes
    └─ [ init ── stranger, has the supervisor's process id there ]"""
    supervisor = tree.supervisor(names_itself="token")
    worker = supervisor.worker(via=[*SHELL_WRAPPER, *with_proc("true")])
    worker.assert_armed()
    mount = ["nsenter", "--target", str(worker.pid), "--mount", "mount"]
    if proc == "none":
        subprocess.run([*mount, "-t", "tmpfs", "tmpfs", "/proc"], check=True)
    else:
        init = tree.supervisor("init", via=PID_NAMESPACE_WITH_PROC)
        init.set_next_pid(supervisor.pid)
        assert init.supervisor("stranger").ask("ping")["pid"] == supervisor.pid
        inside = ["nsenter", "--target", str(init.pid), "--pid"]
        subprocess.run([*inside, *mount, "-t", "proc", "proc", "/proc"], check=True)
    worker.await_looks()
    worker.assert_serving()
    supervisor.kill()
    worker.assert_gone()


# -- N12, N13, N16: the wrong process is named -----------------------------------------------------


@pytest.mark.fails_with("naive", because="a process is not its own ancestor", tier=["event"])
@by_number_or_token
@both_tiers
def test_n12_worker_is_named_itself(tree: Tree, supervisor: Supervisor, name: str, tier: str) -> None:
    """driver ── supervisor ── worker, named as its own supervisor"""
    worker = supervisor.worker(steps=["--names-itself", name])
    worker.assert_armed(watched=[supervisor.pid])
    assert_warned_of(tree, PARENT_PID)
    worker.assert_lives_on()
    supervisor.kill()
    worker.assert_gone()


@pytest.mark.fails_with("naive", because="a stranger is no ancestor", tier=["event"])
@pytest.mark.parametrize("name", ["pid", "token-of-older"])
@both_tiers
def test_n12_pid_belongs_to_a_stranger(
    tree: Tree, supervisor: Supervisor, name: str, tier: str
) -> None:
    """driver ─┬─ supervisor ── worker
    └─ stranger †, named as the supervisor, or has the process id of a dead one"""
    stranger = tree.supervisor("stranger")
    namespace = procfs.pid_namespace(stranger.pid)
    value = {
        "pid": str(stranger.pid),
        "token-of-older": f"{stranger.pid}@1@{namespace}",
    }[name]
    worker = supervisor.worker(env={PARENT_PID: value})
    worker.assert_armed(watched=[supervisor.pid])
    assert_warned_of(tree, PARENT_PID)
    stranger.kill()
    worker.assert_lives_on()
    supervisor.kill()
    worker.assert_gone()


@pytest.mark.not_for("go-degraded", because="it watches only the parent")
@pytest.mark.parametrize("dies", ["stranger", "supervisor"])
@both_tiers
def test_n12_stranger_is_named_by_its_token(tree: Tree, dies: str, tier: str) -> None:
    """driver ─┬─ supervisor, younger ── worker
    └─ stranger, named by its full token: either may be the supervisor, so both are watched"""
    stranger = tree.supervisor("stranger")
    stranger.await_later_tick()
    supervisor = tree.supervisor()
    worker = supervisor.worker(env={PARENT_PID: stranger.token(), GRACE: "0"})
    worker.assert_armed(watched=[supervisor.pid, stranger.pid])
    assert_not_warned(tree)
    worker.assert_lives_on()
    (stranger if dies == "stranger" else supervisor).kill()
    worker.assert_gone()


@both_tiers
def test_n12_ancestor_is_named_with_another_start_time(
    tree: Tree, supervisor: Supervisor, tier: str
) -> None:
    """driver ── supervisor, named by a token of another clock ── wrapper, older than that ── worker"""
    number, start, namespace = supervisor.token().split("@")
    worker_env = {PARENT_PID: f"{number}@{int(start) + 100_000}@{namespace}"}
    wrapper, worker = supervisor.wrapped_worker(env=worker_env)
    worker.assert_armed(watched=[wrapper.pid])
    assert_warned_of(tree, PARENT_PID)
    worker.assert_lives_on()
    wrapper.kill()
    worker.assert_gone()


@pytest.mark.fails_with("naive", because="it takes the process id for the process")
@pytest.mark.parametrize("number", ["free", "taken-by-a-thread"])
def test_n12_pid_belongs_to_no_process(tree: Tree, supervisor: Supervisor, number: str) -> None:
    """driver ── supervisor ── worker, with a plain process id that no process has"""
    if number == "free":
        dead = tree.supervisor("dead")
        dead.kill()
        value = dead.pid
    else:
        sleeper = supervisor.spawn("sleep", "3600", request="spawn-from-thread")
        Process(tree, "sleeper", sleeper)
        (value,) = set(procfs.threads(supervisor.pid)) - {supervisor.pid}
    worker = supervisor.worker(env={PARENT_PID: str(value)})
    worker.assert_armed(watched=[supervisor.pid])
    assert_warned_of(tree, PARENT_PID)
    worker.assert_lives_on()
    supervisor.kill()
    worker.assert_gone()


@pytest.mark.fails_with("naive", because="the supervisor is no longer an ancestor", tier=["event"])
@both_tiers
def test_n13_detached_helper_arms_late(tree: Tree, tier: str) -> None:
    """driver ── (subreaper) ── supervisor, named by its process id ── launcher † ── worker, arms
    then"""
    subreaper = tree.supervisor("subreaper", subreaper=True)
    supervisor = subreaper.supervisor("supervisor", names_itself="pid")
    launcher = supervisor.supervisor("launcher")
    worker = launcher.worker(arm="request")
    launcher.exit_cleanly()
    worker.await_adoption(launcher.pid)
    assert worker.arm() == "armed"
    worker.assert_armed(watched=[subreaper.pid])
    assert_warned_of(tree, PARENT_PID)
    worker.assert_lives_on()
    supervisor.assert_serving()
    subreaper.kill()
    worker.assert_gone()


@by_number_or_token
@both_tiers
def test_n13_detached_helper_adopted_by_the_supervisor(tree: Tree, name: str, tier: str) -> None:
    """driver ── (supervisor), names itself, adopts its orphans ── launcher † ── worker, arms then"""
    supervisor = tree.supervisor(names_itself=name, subreaper=True)
    launcher = supervisor.supervisor("launcher")
    worker = launcher.worker(arm="request")
    launcher.exit_cleanly()
    worker.await_adoption(launcher.pid)
    assert worker.arm() == "armed"
    worker.assert_armed(watched=[supervisor.pid])
    assert_not_warned(tree)
    worker.assert_lives_on()
    supervisor.kill()
    worker.assert_gone()


@pytest.mark.fails_with("naive", because="it takes the dead supervisor for its own", tier=["event"])
@reaped_or_zombie
@by_number_or_token
@both_tiers
def test_n16_supervisor_inherited_a_dead_one(tree: Tree, name: str, remains: str, tier: str) -> None:
    """(driver) ── old supervisor, names itself † ── supervisor, inherits the token ── worker"""
    old = tree.supervisor("old-supervisor", names_itself=name)
    old.await_later_tick()
    supervisor = old.supervisor("supervisor")
    old.kill(reap=remains == "reaped")
    supervisor.await_adoption(old.pid)
    worker = supervisor.worker()
    worker.assert_armed(watched=[supervisor.pid])
    assert_warned_of(tree, PARENT_PID)
    worker.assert_lives_on()
    supervisor.kill()
    worker.assert_gone()


# -- N14, N15: what looks like a death -------------------------------------------------------------


@pytest.mark.fails_with("naive", because="it takes the state of a zombie for a death", tier=["event"])
@pytest.mark.fails_with(
    "pdeathsig",
    because="the thread that spawned the worker ends",
    tier=["event"],
    arms=["before"],
    wrapped=[False],
)
@pytest.mark.not_for("go-degraded", because="it watches only the wrapper", wrapped=[True])
@pytest.mark.parametrize("arms", ["before", "after"])
@pytest.mark.parametrize("wrapped", [False, True], ids=["direct", "wrapped"])
@both_tiers
def test_n14_main_thread_exits(
    tree: Tree, named_supervisor: Supervisor, wrapped: bool, arms: str, tier: str
) -> None:
    """driver ── supervisor, its main thread † ── [wrapper ──] worker: /proc shows a zombie"""
    worker = named_supervisor.worker(
        arm="first" if arms == "before" else "request", via=SHELL_WRAPPER if wrapped else None
    )
    watched = sorted({named_supervisor.pid, worker.parent()})
    named_supervisor.leave_main_thread()
    if arms == "after":
        assert worker.arm() == "armed"
    worker.assert_armed(watched=watched)
    worker.assert_lives_on()
    named_supervisor.assert_serving()
    named_supervisor.kill(reap=False)
    worker.assert_gone()


BUSY_NS = 100_000_000
FAST = {INTERVAL: "50ms"}


@pytest.mark.only_for("go-degraded")
@pytest.mark.parametrize("which", [0, 1], ids=["first", "second"])
@pytest.mark.parametrize("how", ["closed", "replaced", "replaced-by-another-pidfd"])
def test_n15_one_descriptor_of_two(tree: Tree, supervisor: Supervisor, how: str, which: int) -> None:
    """driver ── supervisor ── worker, closes or replaces a descriptor ── helper †"""
    worker = supervisor.worker()
    pidfds = worker.pidfds()
    assert len(pidfds) == tree.pidfds_of_a_watch
    helper = worker.start_helper("helper")
    over = [helper.pid] if how == "replaced-by-another-pidfd" else []
    worker.ask("close" if how == "closed" else "replace", pidfds[which].number, *over)
    worker.stop()
    worker.resume()
    helper.kill(reap=False)
    worker.assert_lives_on()
    supervisor.kill()
    worker.assert_gone()
    worker.assert_death_line(supervisor)


@pytest.mark.not_for("go-degraded", because="its descriptors are in the program's table")
@pytest.mark.fails_with("naive", because="it takes a readable descriptor for a death", over=["pipe"])
@pytest.mark.parametrize("over", ["pipe", "pidfd", "nothing"])
def test_n15_host_uses_the_same_numbers(tree: Tree, named_supervisor: Supervisor, over: str) -> None:
    """driver ── supervisor, names itself ── wrapper ── worker, has other files at all low descriptors

    The watcher's descriptors have low numbers too, in its own table."""
    _wrapper, worker = named_supervisor.wrapped_worker()
    watchers = [pidfd.number for pidfd in worker.pidfds()]
    assert not watchers or tree.is_control
    helper = worker.start_helper("helper")
    for number in [0, *watchers, *([] if over == "nothing" else range(200, 220))]:
        match over:
            case "pipe":
                worker.ask("replace", number)
            case "pidfd":
                worker.ask("replace", number, helper.pid)
            case "nothing":
                worker.ask("close", number)
    worker.stop()
    worker.resume()
    helper.kill(reap=False)
    worker.assert_lives_on()
    worker.assert_armed("event")
    if over == "pidfd":
        assert len(worker.pidfds()) >= 10, "the worker's own are still open"
    named_supervisor.kill()
    worker.assert_gone()
    worker.assert_death_line(named_supervisor)


# -- N17, N18: a graceful stop, and neighbours -----------------------------------------------------


@pytest.mark.not_for("go-degraded", because="it gives no grace, as the package says")
@pytest.mark.fails_with("poller", because="it cuts off the graceful stop", grace=[None], tier=["event"])
@pytest.mark.parametrize("grace", [None, "10s"])
@both_tiers
def test_n17_group_is_sent_sigterm(
    tree: Tree, named_supervisor: Supervisor, grace: str | None, tier: str
) -> None:
    """driver ── supervisor, named, sends SIGTERM to the whole group ── wrapper † ── worker, drains"""
    wrapper, worker = named_supervisor.wrapped_worker(env={GRACE: grace} if grace else None)
    worker.ask("drain", 500)
    tree.note_death()
    os.killpg(wrapper.pid, signal.SIGTERM)
    wrapper.await_end()
    worker.assert_gone(Exit(status=9))
    named_supervisor.assert_serving()


@both_tiers
def test_n18_neighbours_of_the_tree(tree: Tree, supervisor: Supervisor, tier: str) -> None:
    """driver ─┬─ (supervisor) † ─┬─ worker ── helper, in its own session
    │                  └─ sibling, leads its group ── its child
    └─ stranger"""
    stranger = tree.supervisor("stranger")
    sibling = supervisor.supervisor("sibling")
    child = sibling.supervisor("child", request="spawn-in-group")
    worker = supervisor.worker()
    worker.start_helper("helper", via=tree.launch("--setsid"))
    supervisor.kill()
    worker.assert_gone(with_helpers=not tree.is_degraded)
    for neighbour in (stranger, sibling, child):
        neighbour.assert_serving()
