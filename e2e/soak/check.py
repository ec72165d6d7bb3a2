"""Does the soak see what is wrong? Watchers that are known to be wrong must be found out, and so must
trees that leave something behind. Exit status 1 when one is not."""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from driver.programs import Programs
from soak.lanes import Soak, run
from soak.outcome import Outcome
from soak.plays import Play, Stage, Vigil, shared_memory_prefix
from soak.schedule import Schedule

TARGET = Path(__file__).parent.parent.parent / "target"
LANES = 6
SEED = 1

# What each is found out by, in so many trees, however long they take: the naive one looks every 50 ms,
# and what it takes for a death is there for less.
CONTROLS = {
    "poller": ("missed", 24),
    "poller-python": ("missed", 24),
    "pdeathsig": ("false kill", 24),
    "naive": ("false kill", 120),
}

_HIGH_DESCRIPTOR = 90


def leave_process(stage: Stage) -> None:
    """driver ── sh † ── sleep, of which the driver knows nothing"""
    subprocess.run(["sh", "-c", "sleep 3600 &"], check=True)


def leave_descriptor(stage: Stage) -> None:
    """driver, opens something"""
    os.dup(0)


def leave_shared_memory(stage: Stage) -> None:
    """driver, or a helper that did not clean up"""
    Path("/dev/shm", f"{shared_memory_prefix()}left").touch()


def never_serve(stage: Stage) -> None:
    """driver ── supervisor ── worker †, ends before it serves: broken, and not killed"""
    stage.tree.supervisor().worker(via=["false"])


class ForgetfulVigil(Vigil):
    """A vigil over workers that open something on the way."""

    def _prove(self) -> None:
        for worker in self.workers:
            worker.ask("replace", _HIGH_DESCRIPTOR)
        super()._prove()


LEAKS = {
    "processes": leave_process,
    "descriptors": leave_descriptor,
    "/dev/shm entries": leave_shared_memory,
    "descriptors of a worker": lambda stage: ForgetfulVigil(stage).run(),
}


def main() -> int:
    programs = Programs(TARGET / "e2e", TARGET / "prefix")
    wrong = 0

    def soak(schedule: Schedule, only: list[int]) -> Outcome:
        with tempfile.TemporaryDirectory(prefix="parentwatch-soak-") as folder:
            return run(Soak(schedule, programs, Path(folder), LANES, time.monotonic(), only))

    def tell(name: str, what: str, outcome: Outcome) -> int:
        found = [failure for failure in outcome.failures if failure.what == what]
        if not found:
            print(f"wrong {name}: no {what} in {outcome.trees.total()} trees")
            return 1
        print(f"ok    {name}: {what}, {len(found)} times in {outcome.trees.total()} trees", flush=True)
        return 0

    for control, (what, trees) in CONTROLS.items():
        wrong += tell(control, what, soak(Schedule(SEED, [control]), list(range(trees))))
    for name, play in LEAKS.items():
        wrong += tell(name, "leak", soak(Schedule(SEED, ["c"], {name: Play(play)}), [0]))
    plays = {"never serves": Play(never_serve)}
    wrong += tell("never serves", "broken", soak(Schedule(SEED, ["c"], plays), [0]))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
