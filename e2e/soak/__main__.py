"""Runs a seeded schedule of scenarios in many trees at once, until the time is over. Exits with
status 1 if a death was missed, a worker was killed by mistake, or anything was left behind."""

import argparse
import json
import random
import signal
import sys
import tempfile
import time
from pathlib import Path

from driver.cells import Cells
from driver.programs import Programs
from soak.lanes import Soak, run
from soak.report import Run
from soak.schedule import Schedule

HERE = Path(__file__).parent.parent
TARGET = HERE.parent / "target"
LANES = 12
MOST_FAILURES_TOLD = 10


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument(
        "--seed", type=int, help="the seed of the schedule; by default it is random, and printed"
    )
    parser.add_argument("--lanes", type=int, default=LANES, help="how many trees run at once")
    parser.add_argument(
        "--worker",
        action="append",
        metavar="NAME",
        help="use only this worker or control (repeatable); the default is all workers and no control",
    )
    parser.add_argument(
        "--only",
        type=int,
        action="append",
        metavar="N",
        help="run only the tree with this number (repeatable)",
    )
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    parser.add_argument("--build", type=Path, default=TARGET / "e2e", help="the suite's programs")
    parser.add_argument("--prefix", type=Path, default=TARGET / "prefix", help="the installed library")
    return parser.parse_args()


def main() -> int:
    options = arguments()
    programs = Programs(options.build, options.prefix)
    workers = options.worker or Cells(HERE).workers
    if unknown := set(workers) - set(programs.workers):
        print(f"soak: no such worker: {', '.join(sorted(unknown))}", file=sys.stderr)
        return 2
    seed = random.SystemRandom().randrange(1 << 31) if options.seed is None else options.seed
    print(f"seed {seed}", file=sys.stderr, flush=True)
    # SIGTERM then also ends all processes that were started.
    signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="parentwatch-soak-") as folder:
        soak = Soak(
            schedule=Schedule(seed, workers),
            programs=programs,
            folder=Path(folder),
            lanes=options.lanes,
            end=began + options.minutes * 60,
            only=options.only or (),
        )
        outcome = run(soak)
    result = Run(seed, time.monotonic() - began, options.lanes, workers, outcome)
    if options.json:
        print(json.dumps(result.as_json(), indent=2))
    else:
        print(result.as_text())
        if outcome.failures:
            print(result.failures_as_text(MOST_FAILURES_TOLD))
    return 0 if outcome.is_good else 1


if __name__ == "__main__":
    sys.exit(main())
