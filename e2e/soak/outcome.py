"""The outcome of one tree or of many."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

FAILURES = ("missed", "false kill", "wrong exit", "leak", "error", "broken")
"""The kinds of failures:

missed: a process that must end still lives at the deadline.
false kill: a process that must live has ended.
wrong exit: a process has ended in another way than the contract says.
leak: the tree has left something behind.
error: the soak itself or the machine has failed. That is no fault of the watcher.
broken: a worker could not serve and ended by itself. That is no fault of the watcher either.
"""

MOST_BROKEN = 5
"""How many broken workers a run may have. More fail the run."""


@dataclass(frozen=True)
class Failure:
    """A failure, with the log of its tree."""

    what: str
    entry: str
    text: str
    log: str


@dataclass(frozen=True)
class Detection:
    """The end of one worker: how many seconds after the death the driver saw it."""

    seconds: float
    worker: str
    tier: str
    entry: str


@dataclass
class Outcome:
    """The counts and the failures."""

    trees: Counter[str] = field(default_factory=Counter)
    """The number of trees, by play."""
    caused: int = 0
    """How many processes had to end: workers and their helpers."""
    seen: int = 0
    events: Counter[str] = field(default_factory=Counter)
    """The number of events in the lives of supervisors, by scenario."""
    chances: Counter[str] = field(default_factory=Counter)
    """The events, each counted once for every worker that it could have misled and that lived on."""
    detections: list[Detection] = field(default_factory=list)
    left: Counter[str] = field(default_factory=Counter)
    """The number of processes, descriptors and /dev/shm entries that were left behind."""
    failures: list[Failure] = field(default_factory=list)

    def add(self, other: "Outcome") -> None:
        self.trees += other.trees
        self.caused += other.caused
        self.seen += other.seen
        self.events += other.events
        self.chances += other.chances
        self.detections += other.detections
        self.left += other.left
        self.failures += other.failures

    @property
    def is_good(self) -> bool:
        broken = self.count("broken")
        return broken == len(self.failures) and broken <= MOST_BROKEN

    def count(self, what: str) -> int:
        return sum(failure.what == what for failure in self.failures)


def slowest(detections: Iterable[Detection]) -> Detection | None:
    return max(detections, key=lambda detection: detection.seconds, default=None)
