"""The outcome of one tree, or of many."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

FAILURES = ("missed", "false kill", "wrong exit", "leak", "error", "broken")
"""Still alive at the deadline; gone by mistake; ended in another way than the contract says; left
behind by the tree. The last two say nothing about the watcher: an error of the soak or of the machine,
and a worker that could not serve and ended by itself."""

MOST_BROKEN = 5
"""If more workers never served, the run fails."""


@dataclass(frozen=True)
class Failure:
    """A failure, with the log of its tree."""

    what: str
    entry: str
    text: str
    log: str


@dataclass(frozen=True)
class Detection:
    """One worker that went, and the seconds from the death until the driver saw it."""

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
    """The processes that had to end: workers and their helpers."""
    seen: int = 0
    events: Counter[str] = field(default_factory=Counter)
    """The events of living supervisors, by scenario."""
    chances: Counter[str] = field(default_factory=Counter)
    """The events, once for each worker that each could have misled and that lived on."""
    detections: list[Detection] = field(default_factory=list)
    left: Counter[str] = field(default_factory=Counter)
    """What was left: processes, descriptors, and entries of /dev/shm."""
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
