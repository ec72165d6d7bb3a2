"""Reports a run as text or as JSON."""

import os
import platform
import statistics
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass

from soak.outcome import FAILURES, MOST_BROKEN, Detection, Outcome, slowest

_LEFT = ("processes", "descriptors", "/dev/shm entries")
_LOG_LINES = 40


@dataclass(frozen=True)
class Run:
    """A run and its outcome."""

    seed: int
    seconds: float
    lanes: int
    workers: list[str]
    outcome: Outcome

    def as_json(self) -> dict:
        outcome = self.outcome
        groups = {f"{worker}, {tier}": found for (worker, tier), found in self._by_worker().items()}
        return {
            "seed": self.seed,
            "seconds": round(self.seconds, 1),
            "lanes": self.lanes,
            "workers": self.workers,
            "machine": machine(),
            "trees": dict(sorted(outcome.trees.items())),
            "deaths": {"caused": outcome.caused, "seen": outcome.seen},
            "events": dict(sorted(outcome.events.items())),
            "chances": dict(sorted(outcome.chances.items())),
            "failures": {what: outcome.count(what) for what in FAILURES},
            "left": {what: outcome.left[what] for what in _LEFT},
            "detection_seconds": {name: _statistics(found) for name, found in groups.items()},
            "failed": [asdict(failure) for failure in outcome.failures],
        }

    def as_text(self) -> str:
        outcome = self.outcome
        lines = [
            f"seed {self.seed}, {self.seconds:.0f} s, {self.lanes} trees at once, {machine()}",
            f"trees            {_sum(outcome.trees)}",
            f"deaths           {outcome.caused} caused, {outcome.seen} seen, "
            f"{outcome.count('missed')} missed, {outcome.count('wrong exit')} with a wrong exit",
            f"false kills      {outcome.count('false kill')} at {outcome.chances.total()} chances "
            f"(an event, times the workers that it concerned)",
            f"  chances        {_list(outcome.chances)}",
            f"  events         {_sum(outcome.events)}",
            "left             " + ", ".join(f"{what} {outcome.left[what]}" for what in _LEFT),
            f"errors           {outcome.count('error')}: of the soak, or the machine",
            f"broken           {outcome.count('broken')} workers that never served "
            f"(more than {MOST_BROKEN} fail the run)",
            "from the death until the driver saw the worker gone, ms:",
            f"  {'worker':<13}{'tier':<7}{'deaths':>7}{'median':>10}{'slowest':>10}",
        ]
        for (worker, tier), found in self._by_worker().items():
            numbers = _statistics(found)
            lines.append(
                f"  {worker:<13}{tier:<7}{numbers['deaths']:>7}{numbers['median'] * 1e3:>10.2f}"
                f"{numbers['slowest'] * 1e3:>10.2f}"
            )
        for tier in ("event", "poll"):
            if last := slowest(found for found in outcome.detections if found.tier == tier):
                lines.append(f"slowest, {tier} tier: {last.seconds * 1e3:.2f} ms ({last.entry})")
        return "\n".join(lines)

    def failures_as_text(self, most: int) -> str:
        """The first failures. Each has the end of its tree's log, and the seed and tree number with
        which it can be played again."""
        lines = []
        for failure in self.outcome.failures[:most]:
            lines += [
                f"FAILED, {failure.what}, seed {self.seed}, {failure.entry}:",
                failure.text.rstrip(),
            ]
            # The text of the driver's failures already has the log.
            if failure.log not in failure.text:
                lines += failure.log.splitlines()[-_LOG_LINES:]
        if (more := len(self.outcome.failures) - most) > 0:
            lines.append(f"and {more} more")
        return "\n".join(lines)

    def _by_worker(self) -> dict[tuple[str, str], list[Detection]]:
        groups: dict[tuple[str, str], list[Detection]] = {}
        for found in self.outcome.detections:
            groups.setdefault((found.worker, found.tier), []).append(found)
        ordered = sorted(groups, key=lambda key: (key[1], self.workers.index(key[0])))
        return {key: groups[key] for key in ordered}


def machine() -> str:
    return f"{len(os.sched_getaffinity(0))} processors, Linux {platform.release()}"


def _statistics(found: Iterable[Detection]) -> dict[str, float]:
    seconds = [detection.seconds for detection in found]
    return {"deaths": len(seconds), "median": statistics.median(seconds), "slowest": max(seconds)}


def _list(counts: Counter[str]) -> str:
    return "; ".join(f"{name}: {number}" for name, number in sorted(counts.items()))


def _sum(counts: Counter[str]) -> str:
    return f"{counts.total()} ({_list(counts)})"
