"""Runs trees in parallel lanes. Each lane is a process that plays its share of the schedule, one tree
after the other. It is the subreaper of what it starts, so lanes do not see each other's processes."""

import contextlib
import multiprocessing
import os
import shutil
import time
import traceback
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from multiprocessing.connection import Connection, wait
from pathlib import Path

from driver import procfs
from driver.failures import DiedByMistake, LeftBehind, NeverServed, StillAlive, WrongExit
from driver.pidfd import set_subreaper
from driver.programs import Programs
from driver.roles import CONTROL_PATIENCE
from driver.tree import Tree, kill_descendants
from soak.outcome import Failure, Outcome
from soak.plays import PATIENCE, Stage, shared_memory_prefix
from soak.schedule import Entry, Schedule

_STUCK_SECONDS = 180.0
"""How many seconds a lane may still take for its last tree once the time is over."""

_KINDS = (
    (StillAlive, "missed"),
    (DiedByMistake, "false kill"),
    (WrongExit, "wrong exit"),
    (LeftBehind, "leak"),
    (NeverServed, "broken"),
)


@dataclass(frozen=True)
class Soak:
    """What to play, with which programs, and until when (`end`, by `time.monotonic`)."""

    schedule: Schedule
    programs: Programs
    folder: Path
    lanes: int
    end: float
    only: Sequence[int] = ()
    """If set, plays just these trees, however long they take."""

    def share(self, lane: int) -> Iterator[int]:
        indices: Iterable[int] = self.only[lane :: self.lanes] if self.only else count(lane, self.lanes)
        for index in indices:
            if not self.only and time.monotonic() >= self.end:
                return
            yield index


def play(soak: Soak, entry: Entry) -> Outcome:
    """Plays one tree, from its start until nothing of it is left."""
    folder = soak.folder / str(entry.index)
    folder.mkdir()
    descriptors = len(os.listdir("/proc/self/fd"))
    tree = Tree(soak.programs, entry.worker, folder / "stderr.log")
    tree.tier = entry.tier
    tree.patience = CONTROL_PATIENCE if tree.is_control else PATIENCE
    stage = Stage(tree, entry.random, folder, str(entry))
    stage.outcome.trees[entry.play] += 1
    with _failures_recorded(stage):
        soak.schedule.plays[entry.play].run(stage)
    with _failures_recorded(stage):
        try:
            tree.close(failed=bool(stage.outcome.failures))
        except LeftBehind:
            stage.outcome.left["processes"] += 1
            raise
    for entry_left in Path("/dev/shm").glob(f"{shared_memory_prefix()}*"):
        entry_left.unlink()
        stage.outcome.left["/dev/shm entries"] += 1
        stage.fails("leak", f"{entry_left} is left")
    if (more := len(os.listdir("/proc/self/fd")) - descriptors) != 0:
        stage.outcome.left["descriptors"] += abs(more)
        stage.fails("leak", f"the driver has {more:+} descriptors")
    shutil.rmtree(folder)
    return stage.outcome


@contextlib.contextmanager
def _failures_recorded(stage: Stage) -> Iterator[None]:
    """Turns an exception into a failure of this tree, so that the lane can go on."""
    try:
        yield
    except Exception as error:
        for kind, what in _KINDS:
            if isinstance(error, kind):
                stage.fails(what, error)
                return
        stage.fails("error", traceback.format_exc())


def _play_lane(soak: Soak, lane: int, results: Connection) -> None:
    set_subreaper(True)
    above = os.getppid()
    for index in soak.share(lane):
        if os.getppid() != above:
            return
        entry = soak.schedule.entry(index)
        results.send(str(entry))
        results.send(play(soak, entry))
    results.close()


def run(soak: Soak) -> Outcome:
    """Plays the schedule in all lanes. Returns the sum of their outcomes."""
    # This process adopts what a broken lane leaves behind.
    set_subreaper(True)
    total = Outcome()
    try:
        lanes = [_Lane(soak, number) for number in range(soak.lanes)]
        running = {lane.results: lane for lane in lanes}
        stuck_at = max(soak.end, time.monotonic()) + _STUCK_SECONDS
        while running and (ready := wait(running, max(0.0, stuck_at - time.monotonic()))):
            for results in ready:
                try:
                    running[results].take(total)
                except EOFError:
                    del running[results]
        for lane in lanes:
            lane.end(total, stuck=lane in running.values())
        if below := procfs.descendants(os.getpid()):
            lines = {pid: procfs.command_line(pid) for pid in below}
            total.left["processes"] += len(below)
            total.failures.append(Failure("leak", "all lanes", f"processes left: {lines}", ""))
    finally:
        kill_descendants()
    return total


class _Lane:
    """A lane, as the main process sees it."""

    def __init__(self, soak: Soak, number: int) -> None:
        context = multiprocessing.get_context("fork")
        self.results, results = context.Pipe(duplex=False)
        self._process = context.Process(target=_play_lane, args=(soak, number, results))
        self._process.start()
        results.close()
        self._last = "before the first tree"

    def take(self, total: Outcome) -> None:
        """Receives an outcome, or the name of the tree that has just begun."""
        message = self.results.recv()
        if isinstance(message, Outcome):
            total.add(message)
        else:
            self._last = message

    def end(self, total: Outcome, *, stuck: bool) -> None:
        if stuck:
            self._process.kill()
        self._process.join()
        self.results.close()
        if self._process.exitcode != 0:
            text = "stuck" if stuck else f"ended with status {self._process.exitcode}"
            total.failures.append(Failure("error", self._last, f"the lane: {text}", ""))
