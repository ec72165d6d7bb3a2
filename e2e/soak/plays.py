"""The plays: what happens in a tree, and what must come of it. They are the scenarios of the suite,
drawn at random, mixed and repeated.

In the pictures, † marks the process that dies, and (brackets) the process that adopts the orphans.
"""

import contextlib
import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

from driver import procfs
from driver.deadline import Deadline, wait_until
from driver.failures import DiedByMistake, LeftBehind, StillAlive, WrongExit
from driver.pidfd import Exit
from driver.programs import DEGRADED, GUARDED
from driver.roles import BY_THE_WATCHER, SHELL_WRAPPER, TRACKER, Process, Supervisor, Worker
from driver.stderr import STDERR_KINDS, Stderr
from driver.tree import GRACE, INTERVAL, Tree
from soak.outcome import Detection, Failure, Outcome

PATIENCE = 30.0
"""How many seconds a process that must end may still live. More than in a test, since the machine is
busier."""

BY_ITSELF = Exit(status=9)
"""How a worker exits that completes its graceful stop."""

_MOST_WORKERS = 3
_MOST_SPAWNING_THREADS = 2
_ROUNDS = (20, 60)
_START_SECONDS = {"python": 0.08}
_START_SECONDS_ELSE = 0.02


class Stage:
    """A tree, the source of its random choices, and its outcome."""

    def __init__(self, tree: Tree, random: Random, folder: Path, entry: str) -> None:
        self.tree = tree
        self.random = random
        self.folder = folder
        self.outcome = Outcome()
        self._entry = entry

    def fails(self, what: str, text: object) -> None:
        self.outcome.failures.append(Failure(what, self._entry, str(text), self.tree.log()))

    def must_go(self, *processes: Process, expected: Exit | None = None) -> None:
        """Asserts that each process ends as expected. None expects of a worker what the contract
        says, and any end of another process."""
        self.outcome.caused += len(processes)
        deadline = Deadline(self.tree.patience)
        for process in processes:
            process.sees_end(deadline)
        for process in processes:
            try:
                is_as_ever = isinstance(process, Worker) and expected is None
                how = {} if is_as_ever else {"expected": expected}
                process.assert_gone(seconds=deadline.left() + 1, **how)
            except StillAlive as error:
                self.fails("missed", error)
            except WrongExit as error:
                self.fails("wrong exit", error)
            else:
                self.outcome.seen += 1
        self.outcome.detections += [
            Detection(process.gone_after, self.tree.language, self.tree.tier, self._entry)
            for process in processes
            if isinstance(process, Worker) and process.gone_after is not None
        ]

    def adopter(self) -> Supervisor | None:
        """The adopter above the supervisor: sometimes a subreaper, otherwise None for the driver."""
        if self.random.random() < 0.25:
            return self.tree.supervisor("subreaper", subreaper=True)
        return None

    def supervisor(self, below: Supervisor | None = None, *, named: bool | None = None) -> Supervisor:
        named = self.random.random() < 0.5 if named is None else named
        options = {"names_itself": "token" if named else None}
        if below is None:
            return self.tree.supervisor(**options)
        return below.supervisor("supervisor", **options)

    def ends(self, supervisor: Supervisor) -> None:
        """Ends the supervisor in one of several ways (F01, F02, F03, F17)."""
        way = self.random.choice(["killed", "killed", "zombie", "exits", "crashes", "stopped"])
        if way == "exits":
            supervisor.exit_cleanly()
        elif way == "crashes":
            supervisor.crash()
        else:
            if way == "stopped":
                supervisor.stop()
            supervisor.kill(reap=way != "zombie")


def shared_memory_prefix() -> str:
    """The prefix of all names that the trees of this lane use in /dev/shm."""
    return f"parentwatch-soak-{os.getpid()}-"


# -- what must fire ----------------------------------------------------------------------------------


def supervisor_dies(stage: Stage) -> None:
    """(driver or subreaper) ── supervisor † ─┬─ worker …"""
    supervisor = stage.supervisor(stage.adopter())
    count = stage.random.randint(1, _MOST_WORKERS)
    workers = [supervisor.worker(f"worker-{number}") for number in range(count)]
    stage.ends(supervisor)
    stage.must_go(*workers)


def supervisor_dies_while_worker_starts(stage: Stage) -> None:
    """(driver) ── supervisor, names itself † ── worker, at a random moment of its start"""
    supervisor = stage.supervisor(named=True)
    # A random moment, not a condition.
    moment = stage.random.random() * _START_SECONDS.get(stage.tree.language, _START_SECONDS_ELSE)
    started = supervisor.spawn(*stage.tree.worker_command("worker"))
    worker = Process(stage.tree, "starting worker", started)
    time.sleep(moment)
    supervisor.kill(reap=stage.random.random() < 0.5)
    # With exec, the program may not run yet, or may end by SIGTERM.
    anyhow = stage.tree.is_control or stage.tree.is_guarded
    stage.must_go(worker, expected=None if anyhow else BY_THE_WATCHER)


def worker_arms_late(stage: Stage) -> None:
    """(driver) ── supervisor, names itself † ── worker, arms afterwards"""
    supervisor = stage.supervisor(named=True)
    worker = supervisor.worker(arm="request")
    supervisor.kill(reap=stage.random.random() < 0.5)
    worker.await_adoption(supervisor.pid)
    with worker.session() as session:
        stage.tree.note_death()
        session.send("arm")
        with contextlib.suppress(DiedByMistake, TimeoutError):
            session.reply()
    stage.must_go(worker)


def supervisor_above_wrapper_dies(stage: Stage) -> None:
    """driver ── supervisor, names itself † ── wrapper ── worker"""
    supervisor = stage.supervisor(named=True)
    wrapper, worker = supervisor.wrapped_worker()
    stage.ends(supervisor)
    stage.must_go(worker, wrapper)


def wrapper_dies(stage: Stage) -> None:
    """(driver) ── supervisor, names itself ── wrapper † ── worker, without a grace"""
    supervisor = stage.supervisor(named=True)
    wrapper, worker = supervisor.wrapped_worker(env={GRACE: "0"})
    wrapper.kill()
    stage.must_go(worker)
    supervisor.assert_serving()


def group_is_sent_sigterm(stage: Stage) -> None:
    """driver ── supervisor, named, sends SIGTERM to the whole group ── wrapper † ── worker, drains"""
    supervisor = stage.supervisor(named=True)
    wrapper, worker = supervisor.wrapped_worker()
    worker.ask("drain", stage.random.randint(0, 500))
    stage.tree.note_death()
    os.killpg(wrapper.pid, signal.SIGTERM)
    stage.must_go(worker, expected=BY_ITSELF)
    supervisor.assert_serving()


def worker_drains(stage: Stage) -> None:
    """(driver) ── supervisor † ── worker, drains at SIGTERM ── helper, in its own session"""
    supervisor = stage.supervisor()
    worker = supervisor.worker(env={GRACE: "20s"})
    helper = worker.start_helper("helper", via=stage.tree.launch("--setsid"))
    worker.ask("drain", stage.random.randint(0, 500))
    stage.ends(supervisor)
    stage.must_go(worker, expected=BY_ITSELF)
    stage.must_go(helper, expected=Exit(signal=signal.SIGTERM))


def stderr_is_no_good(stage: Stage) -> None:
    """(driver) ── supervisor † ── worker, its stderr closed, full, or without a reader"""
    with contextlib.closing(Stderr(stage.random.choice(STDERR_KINDS), stage.folder)) as stderr:
        supervisor = stage.tree.supervisor(inherit=stderr.inherit)
        worker = supervisor.worker(steps=stderr.steps)
        stage.ends(supervisor)
        stage.must_go(worker)


def forking_worker_dies(stage: Stage) -> None:
    """(driver) ── supervisor ── worker † ── child, forked, arms, without a grace"""
    worker = stage.supervisor().worker(env={GRACE: "0"})
    worker.ask("fork")
    child = stage.tree.await_worker("child")
    child.arm()
    worker.kill()
    stage.must_go(child)


def worker_has_helpers(stage: Stage) -> None:
    """
    (driver) ── supervisor † ── worker [, setsid] ─┬─ plain
                                                   ├─ stubborn, ignores SIGTERM
                                                   └─ tracker, cleans /dev/shm when the worker is gone
    """
    supervisor = stage.supervisor()
    if stage.random.random() < 0.3:
        worker = supervisor.worker(steps=["--setsid"], request="spawn-in-group")
    else:
        worker = supervisor.worker()
    shared = f"{shared_memory_prefix()}tracked"
    helpers = [
        worker.start_helper("plain"),
        worker.start_helper("stubborn", "--ignores-term"),
        worker.start_helper(TRACKER, "--tracks", shared),
    ]
    stage.ends(supervisor)
    stage.must_go(worker, *helpers)


def worker_has_helpers_elsewhere(stage: Stage) -> None:
    """
    (driver) ── supervisor † ── worker ─┬─ plain
                                        ├─ stubborn, ignores SIGTERM
                                        ├─ parent, with threads, one of which has a child
                                        └─ launcher ══ children, one every 300 µs, setsid
    """
    supervisor = stage.supervisor()
    worker = supervisor.worker()
    elsewhere = [stage.tree.launch("--setsid"), stage.tree.launch("--group", "0")]
    kinds = {"stubborn": ["--ignores-term"], "parent": ["--threads"], "launcher": ["--forks"]}
    helpers = [
        worker.start_helper(name, *options, via=stage.random.choice(elsewhere))
        for name, options in {"plain": [], **kinds}.items()
        if name == "plain" or stage.random.random() < 0.5
    ]
    stage.ends(supervisor)
    stage.must_go(worker, *helpers)


def guarded_program_dies(stage: Stage) -> None:
    """
    driver ── supervisor ── worker, by exec † ┄┬┄ plain, in the group
                                               ├┄ stubborn, in its own session, ignores SIGTERM
                                               └┄ detached, forked twice
    """
    supervisor = stage.supervisor(stage.adopter())
    worker = supervisor.worker()
    session = stage.tree.launch("--setsid")
    helpers = [
        worker.start_helper("plain"),
        worker.start_helper("stubborn", "--ignores-term", via=session),
        worker.start_helper("detached", via=["/bin/sh", "-c", '"$@" & exit', "sh", *session]),
    ]
    worker.kill(stage.random.choice([signal.SIGKILL, signal.SIGSEGV, signal.SIGTERM]))
    stage.must_go(*helpers)
    supervisor.assert_serving()


# -- what must not -----------------------------------------------------------------------------------


class Vigil:
    """Workers that live through many events. A wrong watcher takes each of these for the death of the
    supervisor. In the end, an event counts as a chance for every worker that it could have misled, if
    that worker still serves. By then another worker has noticed a later death, and watchers in the poll
    tier have polled again."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        wraps = stage.tree.language not in DEGRADED and stage.random.random() < 0.25
        self._via = SHELL_WRAPPER if wraps else []
        # In the poll tier, poll often enough to do so during the events.
        self._env = {INTERVAL: "10ms"} if stage.tree.tier == "poll" else {}
        self._supervisor = stage.supervisor(stage.adopter(), named=True if wraps else None)
        self._unproven: dict[Worker, Counter[str]] = {}
        self._descriptors: dict[Worker, int] = {}
        self._spawning_threads = 0
        for _ in range(stage.random.randint(1, _MOST_WORKERS)):
            self._start_worker("spawn")

    def run(self) -> None:
        for _ in range(self._stage.random.randint(*_ROUNDS)):
            self._stage.random.choice(self._EVENTS)(self)
            self._drop_dead_workers()
            if not self._unproven:
                return
        self._prove()
        self._stage.ends(self._supervisor)
        self._stage.must_go(*self.workers)

    @property
    def workers(self) -> list[Worker]:
        """The workers that live."""
        return list(self._unproven)

    def _start_worker(self, request: str) -> Worker:
        worker = self._supervisor.worker(
            f"worker-{len(self._unproven)}", via=self._via, env=self._env, request=request
        )
        self._unproven[worker] = Counter()
        self._descriptors[worker] = descriptors_while_asked(worker)
        return worker

    def _chance(self, event: str, workers: Sequence[Worker] | None = None) -> None:
        self._stage.outcome.events[event] += 1
        for worker in self.workers if workers is None else workers:
            self._unproven[worker][event] += 1

    def _drop_dead_workers(self) -> None:
        for worker in [worker for worker in self.workers if worker.pidfd.has_ended()]:
            last = list(self._unproven.pop(worker))
            self._stage.fails("false kill", f"{worker} is gone; it had lived through {last}")

    def _let_look(self) -> None:
        """In the poll tier, waits until every watcher has polled in the present state."""
        if self._stage.tree.tier == "poll":
            for worker in self.workers:
                try:
                    worker.await_looks(1)
                except DiedByMistake:
                    # It has not polled. If the worker lives, it has no watcher: that is a failure.
                    if not worker.pidfd.has_ended():
                        raise
            self._drop_dead_workers()

    def _prove(self) -> None:
        self._stage.outcome.caused += 1
        self._stage.tree.see_a_death()
        self._stage.outcome.seen += 1
        for worker, chances in list(self._unproven.items()):
            try:
                if self._stage.tree.tier == "poll":
                    worker.await_looks()
                worker.assert_serving()
            except DiedByMistake as error:
                del self._unproven[worker]
                self._stage.fails("false kill", error)
                continue
            self._stage.outcome.chances += chances
            if (grown := descriptors_while_asked(worker) - self._descriptors[worker]) != 0:
                self._stage.outcome.left["descriptors"] += abs(grown)
                self._stage.fails("leak", f"{worker} has {grown:+} descriptors")

    def _spawning_thread_exits(self) -> None:
        if self._spawning_threads < _MOST_SPAWNING_THREADS:
            self._spawning_threads += 1
            worker = self._start_worker("spawn-from-thread")
            self._supervisor.end_spawning_thread()
            self._chance("N01", [worker])

    def _supervisor_execs(self) -> None:
        self._supervisor.exec_itself()
        self._chance("N02")

    def _supervisor_execs_from_a_thread(self) -> None:
        self._supervisor.exec_itself("exec-from-thread")
        self._chance("N02, from a second thread")

    def _supervisor_is_stopped(self) -> None:
        self._supervisor.stop()
        self._let_look()
        self._supervisor.resume()
        self._chance("N03")

    def _sibling_dies(self) -> None:
        sibling = self._supervisor.worker("sibling")
        sibling.kill()
        self._chance("N08")

    def _main_thread_exits(self) -> None:
        self._supervisor.leave_main_thread()
        self._let_look()
        self._chance("N14")
        # Now another thread answers. By an exec it becomes the main thread.
        self._supervisor.exec_itself()
        self._chance("N02, from a second thread")

    _EVENTS = (
        _spawning_thread_exits,
        _supervisor_execs,
        _supervisor_execs_from_a_thread,
        _supervisor_is_stopped,
        _sibling_dies,
        _main_thread_exits,
    )


def descriptors_while_asked(worker: Worker) -> int:
    """How many descriptors the worker has while it serves a connection. It serves one at a time."""
    found: list[procfs.Descriptor] = []

    def settled() -> bool:
        """Whether no file of /proc is open: a watcher in the poll tier opens them for an instant."""
        found[:] = procfs.descriptors(worker.pid)
        return not any(descriptor.target.startswith("/proc/") for descriptor in found)

    with worker.session() as session:
        session.ask("ping")
        wait_until(settled, f"{worker} has nothing of /proc open", failure=LeftBehind)
    return len(found)


def supervisor_lives(stage: Stage) -> None:
    """driver ── [subreaper ──] supervisor ─┬─ [wrapper ──] worker …
    └─ sibling †"""
    Vigil(stage).run()


# -- all of them -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Play:
    """A kind of tree: how often it is drawn, and which workers can play it (see scenarios.toml)."""

    run: Callable[[Stage], None]
    weight: int = 1
    never_over: Sequence[str] = ()
    only_over: Sequence[str] = ()

    def fits(self, worker: str) -> bool:
        return worker not in self.never_over and worker in (self.only_over or [worker])


PLAYS = {
    "supervisor dies": Play(supervisor_dies, weight=5),
    "supervisor dies while the worker starts": Play(
        supervisor_dies_while_worker_starts, weight=5, never_over=DEGRADED
    ),
    "worker arms late": Play(worker_arms_late, weight=2, never_over=(*DEGRADED, *GUARDED)),
    "supervisor above a wrapper dies": Play(
        supervisor_above_wrapper_dies, weight=2, never_over=DEGRADED
    ),
    "wrapper dies": Play(wrapper_dies, never_over=DEGRADED),
    "stderr is no good": Play(stderr_is_no_good, weight=2),
    "forking worker dies": Play(forking_worker_dies, never_over=("go-native", "go-degraded", *GUARDED)),
    "worker has helpers": Play(worker_has_helpers, weight=2, never_over=DEGRADED),
    "worker has helpers elsewhere": Play(worker_has_helpers_elsewhere, weight=2, never_over=DEGRADED),
    "worker drains": Play(worker_drains, never_over=DEGRADED),
    "group is sent SIGTERM": Play(group_is_sent_sigterm, never_over=DEGRADED),
    "guarded program dies": Play(guarded_program_dies, weight=2, only_over=GUARDED),
    "supervisor lives": Play(supervisor_lives, weight=8),
}
