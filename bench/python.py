#!/usr/bin/env python3
"""What the Python package costs: its size, importing it, starting the watcher. Standard library alone.

Every sample is an interpreter of its own, those of one kind and another in turn. It is run by an
interpreter that has the package: `make bench-python`.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path

WHEEL_KIB = 400
IMPORT_MS = 3.0
ARMING_US = 150.0

NOTHING = "pass"
IMPORT = "import localai_parentwatch"
# Prints the nanoseconds that a statement took.
TIMED = """
import time
{before}
began = time.perf_counter_ns()
{statement}
print(time.perf_counter_ns() - began)
"""
START = "localai_parentwatch.start_parent_death_watcher()"
ARMED = f"import localai_parentwatch\nif {START}: raise SystemExit('not armed')"
# What a program has imported before: most have enum, by way of socket, signal or re.
ARMING = {
    "start, enum there": f"import enum\n{IMPORT}",
    "start, with a hook": f"import enum\n{IMPORT}",
    "start, enum not there": IMPORT,
    "drop-in": "from localai_parentwatch import parent_watch",
}
STATEMENT = {
    "start, with a hook": "localai_parentwatch.start_parent_death_watcher(on_death=print)",
    "drop-in": "parent_watch.start_parent_death_watcher()",
}


def run(code: str) -> str:
    ended = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, check=True)
    return ended.stdout


def wall_ms(code: str) -> float:
    began = time.perf_counter_ns()
    run(code)
    return (time.perf_counter_ns() - began) / 1e6


def inside_us(before: str, statement: str) -> float:
    return int(run(TIMED.format(before=before, statement=statement))) / 1e3


def figures(samples: int) -> dict[str, list[float]]:
    run(ARMED)
    taken: dict[str, list[float]] = {"import, added to the process, ms": [], "import, inside, ms": []}
    taken |= {f"{name}, µs": [] for name in ARMING}
    for _ in range(samples):
        added = -wall_ms(NOTHING) + wall_ms(IMPORT)
        taken["import, added to the process, ms"].append(added)
        taken["import, inside, ms"].append(inside_us("", IMPORT) / 1e3)
        for name, before in ARMING.items():
            taken[f"{name}, µs"].append(inside_us(before, STATEMENT.get(name, START)))
    return taken


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--wheel", type=Path, required=True)
    parser.add_argument("--samples", type=int, default=100)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()

    wheel_kib = options.wheel.stat().st_size / 1024
    targets = {
        "import, added to the process, ms": IMPORT_MS,
        "import, inside, ms": IMPORT_MS,
        "start, enum there, µs": ARMING_US,
        "drop-in, µs": ARMING_US,
    }
    rows: dict[str, dict[str, float | None]] = {
        name: {
            "median": statistics.median(samples),
            "p95": statistics.quantiles(samples, n=20)[-1],
            "target": targets.get(name),
        }
        for name, samples in figures(options.samples).items()
    }
    rows["wheel, KiB"] = {"median": wheel_kib, "p95": None, "target": WHEEL_KIB}
    missed = [name for name, row in rows.items() if row["target"] and row["median"] > row["target"]]
    if options.json:
        print(json.dumps({"python": platform.python_version(), "rows": rows, "missed": missed}))
    else:
        print(f"Python {platform.python_version()}, {options.samples} interpreters each")
        for name, row in rows.items():
            p95 = "" if row["p95"] is None else f"p95 {row['p95']:9.2f}"
            target = "" if row["target"] is None else f"target {row['target']:g}"
            verdict = "MISSED" if name in missed else ""
            print(f"  {name:34}{row['median']:9.2f}  {p95:13}  {target:10}  {verdict}".rstrip())
        own = rows["drop-in, µs"]["median"]
        print(f"  enum not there: the watch has begun in {own:.0f} µs (drop-in); then enum is imported")


if __name__ == "__main__":
    main()
