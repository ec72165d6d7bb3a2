"""Decides what the n-th tree is. That depends only on the seed and n."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from random import Random

from driver.programs import CONTROLS
from soak.plays import PLAYS, Play

_POLL_SHARE = 0.25


@dataclass(frozen=True)
class Entry:
    """One tree of the schedule."""

    index: int
    play: str
    worker: str
    tier: str
    random: Random = field(repr=False, compare=False)
    """The source of the play's own random choices."""

    def __str__(self) -> str:
        return f"tree {self.index}: {self.play}, {self.worker}, {self.tier} tier"


@dataclass(frozen=True)
class Schedule:
    """An endless sequence of trees."""

    seed: int
    workers: Sequence[str]
    plays: Mapping[str, Play] = field(default_factory=lambda: PLAYS)

    def entry(self, index: int) -> Entry:
        # Random hashes a text, so the choices of neighbouring trees are independent.
        drawn = Random(f"{self.seed}/{index}")
        worker = drawn.choice(self.workers)
        fitting = [name for name, play in self.plays.items() if play.fits(worker)]
        (play,) = drawn.choices(fitting, [self.plays[name].weight for name in fitting])
        # A control has no tiers.
        polls = drawn.random() < _POLL_SHARE and worker not in CONTROLS
        return Entry(index, play, worker, "poll" if polls else "event", drawn)
