"""What came of one tree, or of many."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

FAILURES = ("missed", "false kill", "wrong exit", "leak", "error", "broken")
"""Still there at the deadline; gone by mistake; gone otherwise than the contract says; left behind by
the tree. What says nothing about the watcher: an error of the soak itself, or of the machine; and a
worker that could not serve, and ended by itself."""

MOST_BROKEN = 5
"""More workers that never served fail the run."""


@dataclass(frozen=True)
class Failure:
    """Something that must not be, with the log of its tree."""

    what: str
    entry: str
    text: str
    log: str


@dataclass(frozen=True)
class Detection:
    """One worker that went: how long after the death the driver saw that, in seconds."""

    seconds: float
    worker: str
    tier: str
    entry: str


@dataclass
class Outcome:
    """Counts, and what failed."""

    trees: Counter[str] = field(default_factory=Counter)
    """By play."""
    caused: int = 0
    """Processes that had to go: workers, and their helpers."""
    seen: int = 0
    events: Counter[str] = field(default_factory=Counter)
    """What happened to living supervisors, by scenario."""
    chances: Counter[str] = field(default_factory=Counter)
    """Every event, once for each worker that it could have misled and that lived on."""
    detections: list[Detection] = field(default_factory=list)
    left: Counter[str] = field(default_factory=Counter)
    """Processes, descriptors, and entries of /dev/shm."""
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
