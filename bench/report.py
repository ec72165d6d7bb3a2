#!/usr/bin/env python3
"""Runs the driver and makes tables of its samples. Standard library alone; see README.md."""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import statistics
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# Targets, in the units of their rows.
ADDED_US = {"alone": 150.0, "leader": 250.0}
ARMING_US = 150.0
ADDED_THREADS = 1
ADDED_DESCRIPTORS = 1
ADDED_KIB = 64
LIBRARY_KIB = 400
# A load above this is told.
BUSY = 0.5

BASELINE = "pdeathsig"
SITUATIONS = {
    "alone": "alone",
    "leader": "leader of a group",
    "leader+helper": "leader, one helper",
    "session": "leader of a session",
}
GUARDS = {"pdeathsig": "PDEATHSIG", "watch": "parentwatch"}


def percentile(samples: Iterable[float], percent: float) -> float:
    """The smallest sample that at least so many percent of all do not exceed."""
    ordered = sorted(samples)
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]


@dataclass
class Samples:
    """What the driver measured, in microseconds unless the name says otherwise."""

    latency: dict[tuple[str, str], dict[int, list[float]]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(list))
    )
    helper: list[float] = field(default_factory=list)
    polled: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    arming: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    faults: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    added: list[tuple[int, int, int]] = field(default_factory=list)
    idle: dict[str, tuple[float, int, int, int]] = field(default_factory=dict)

    def take(self, line: str) -> None:
        match line.split():
            case ["run", _]:
                pass
            case ["latency", run, situation, guard, ns]:
                self.latency[situation, guard][int(run)].append(int(ns) / 1e3)
            case ["helper", _, ns]:
                self.helper.append(int(ns) / 1e3)
            case ["polled", _, guard, ns]:
                self.polled[guard].append(int(ns) / 1e3)
            case ["arming", named, ns, faults]:
                self.arming[named].append(int(ns) / 1e3)
                self.faults[named].append(int(faults))
            case ["added", threads, descriptors, kib]:
                self.added.append((int(threads), int(descriptors), int(kib)))
            case ["idle", guard, ns, voluntary, involuntary, cpu_ns]:
                self.idle[guard] = (int(ns) / 1e9, int(voluntary), int(involuntary), int(cpu_ns))
            case _:
                raise ValueError(f"not a sample: {line!r}")


@dataclass
class Spread:
    """One figure of every run: the median of the runs, and from where to where they go."""

    runs: list[float]

    @property
    def median(self) -> float:
        return statistics.median(self.runs)

    def text(self, form: str) -> str:
        low, high = min(self.runs), max(self.runs)
        if len(self.runs) == 1:
            return format(low, form)
        return f"{self.median:{form}} [{low:{form}}..{high:{form}}]"

    def as_json(self) -> dict[str, object]:
        return {"median": self.median, "runs": self.runs}


def verdict(runs: list[float], target: float) -> str:
    """The median of the runs decides; runs that missed the target are told."""
    met = sum(run <= target for run in runs)
    if statistics.median(runs) > target:
        return "MISSED"
    return "ok" if met == len(runs) else f"ok in {met} of {len(runs)} runs"


def columns(rows: list[list[str]]) -> Iterator[str]:
    """Aligned: the first column to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for first, *others in rows:
        cells = [cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True)]
        yield f"  {first:{widths[0]}}  {'  '.join(cells)}".rstrip()


class Report:
    """Text for people and the same figures for programs."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.figures: dict[str, object] = {}
        self.missed: list[str] = []

    def section(self, title: str, rows: list[list[str]]) -> None:
        self.lines += ["", title, *columns(rows)]

    def judge(self, name: str, runs: list[float], target: float) -> str:
        answer = verdict(runs, target)
        if answer == "MISSED":
            self.missed.append(name)
        return answer

    def latency(self, samples: Samples) -> None:
        rows = [["µs", "median", "p95", "p99", "max", "added to PDEATHSIG", "target", ""]]
        figures: dict[str, object] = {}
        for (situation, guard), runs in sorted(
            samples.latency.items(),
            key=lambda item: (list(SITUATIONS).index(item[0][0]), list(GUARDS).index(item[0][1])),
        ):
            everything = [sample for run in runs.values() for sample in run]
            medians = Spread([statistics.median(run) for run in runs.values()])
            figure: dict[str, object] = {
                "samples": len(everything),
                "median_us": medians.as_json(),
                "p95_us": percentile(everything, 95),
                "p99_us": percentile(everything, 99),
                "max_us": max(everything),
            }
            row = [
                f"{SITUATIONS[situation]}: {GUARDS[guard]}",
                medians.text(".0f"),
                *(f"{percentile(everything, percent):.0f}" for percent in (95, 99, 100)),
            ]
            baseline = samples.latency[situation, BASELINE]
            if guard == BASELINE or not baseline:
                row += ["", "", ""]
            else:
                added = Spread(
                    [statistics.median(runs[run]) - statistics.median(baseline[run]) for run in runs]
                )
                figure["added_us"] = added.as_json()
                row.append(added.text("+.0f"))
                if situation in ADDED_US:
                    target = ADDED_US[situation]
                    figure["target_us"] = target
                    figure["verdict"] = self.judge(f"latency, {situation}", added.runs, target)
                    row += [f"{target:.0f}", str(figure["verdict"])]
                else:
                    row += ["", "reported"]
            rows.append(row)
            figures[f"{situation}/{guard}"] = figure
        self.section("Supervisor killed until worker reaped", rows)
        self.figures["latency"] = figures

        if samples.helper:
            low, high = min(samples.helper) / 1e3, max(samples.helper) / 1e3
            self.lines.append(
                "  A helper that ignores SIGTERM was gone "
                f"{statistics.median(samples.helper) / 1e3:.0f} ms [{low:.0f}..{high:.0f}]"
                f" after its supervisor ({len(samples.helper)} samples)."
            )
            self.figures["helper_us"] = samples.helper

    def polled(self, samples: Samples) -> None:
        names = {
            "watch": "parentwatch, pidfd_open refused (poll tier)",
            "poller": "plain getppid() poller",
        }
        rows = [["ms, looking every 2 s", "median", "p95", "p99", "max", "to the event tier"]]
        event = [x for run in samples.latency["alone", "watch"].values() for x in run]
        figures: dict[str, object] = {}
        for guard, values in samples.polled.items():
            median = statistics.median(values)
            figure = {
                "samples": len(values),
                "median_us": median,
                "p95_us": percentile(values, 95),
                "p99_us": percentile(values, 99),
                "max_us": max(values),
            }
            ratio = ""
            if event:
                figure["ratio_to_event"] = median / statistics.median(event)
                ratio = f"{figure['ratio_to_event']:.0f} x"
            figures[guard] = figure
            rows.append(
                [
                    names[guard],
                    f"{median / 1e3:.0f}",
                    *(f"{percentile(values, percent) / 1e3:.0f}" for percent in (95, 99, 100)),
                    ratio,
                ]
            )
        self.section("The same where somebody polls, worker alone", rows)
        self.figures["polled"] = figures

    def arming(self, samples: Samples) -> None:
        page_kib = os.sysconf("SC_PAGESIZE") // 1024
        names = {"unnamed": "nothing set", "named": "supervisor named by its token"}
        rows = [["µs", "median", "p95", "p99", "max", "target", ""]]
        figures: dict[str, object] = {}
        for named, values in samples.arming.items():
            median = statistics.median(values)
            answer = self.judge(f"arming, {names[named]}", [median], ARMING_US)
            rows.append(
                [
                    names[named],
                    f"{median:.0f}",
                    *(f"{percentile(values, percent):.0f}" for percent in (95, 99, 100)),
                    f"{ARMING_US:.0f}",
                    answer,
                ]
            )
            figures[named] = {
                "samples": len(values),
                "median_us": median,
                "p95_us": percentile(values, 95),
                "p99_us": percentile(values, 99),
                "max_us": max(values),
                "minor_faults": statistics.median(samples.faults[named]),
                "target_us": ARMING_US,
                "verdict": answer,
            }
        self.section("Arming from C, in a program just executed", rows)
        self.figures["arming"] = figures

        rows = [["added by arming", "median", "max", "target", ""]]
        costs: list[tuple[str, list[int], int]] = []
        if samples.added:
            threads, descriptors, kib = (list(column) for column in zip(*samples.added, strict=True))
            costs += [
                ("threads", threads, ADDED_THREADS),
                ("descriptors", descriptors, ADDED_DESCRIPTORS),
                ("private memory, KiB", kib, ADDED_KIB),
            ]
        for named, faults in samples.faults.items():
            what = f"minor page faults, KiB ({names[named]})"
            costs.append((what, [count * page_kib for count in faults], ADDED_KIB))
        figures = {}
        for what, values, target in costs:
            median = statistics.median(values)
            # exactly so many threads and descriptors; at most so much memory
            exact = "KiB" not in what
            met = set(values) == {target} if exact else median <= target
            answer = "ok" if met else "MISSED"
            if not met:
                self.missed.append(what)
            rows.append(
                [what, f"{median:.0f}", f"{max(values)}", f"{'' if exact else '<= '}{target}", answer]
            )
            figures[what] = {
                "median": median,
                "max": max(values),
                "target": target,
                "verdict": answer,
            }
        self.section("What it takes", rows)
        self.figures["added"] = figures

    def idle(self, samples: Samples) -> None:
        names = {
            "event": "parentwatch, event tier",
            "poll": "parentwatch, poll tier every 2 s",
            "poller": "plain getppid() poller every 2 s",
        }
        rows = [["the watching thread", "slept", "wakeups", "preempted", "CPU µs", "target", ""]]
        figures: dict[str, object] = {}
        for guard, (seconds, voluntary, involuntary, cpu_ns) in samples.idle.items():
            figure: dict[str, object] = {
                "seconds": seconds,
                "voluntary_switches": voluntary,
                "involuntary_switches": involuntary,
                "cpu_ns": None if cpu_ns < 0 else cpu_ns,
            }
            target, answer = "", "reported"
            if guard == "event":
                target = "0, 0, 0"
                answer = "ok" if voluntary == involuntary == 0 and cpu_ns <= 0 else "MISSED"
                figure["verdict"] = answer
                if answer == "MISSED":
                    self.missed.append("idle")
            rows.append(
                [
                    names[guard],
                    f"{seconds:.0f} s",
                    str(voluntary),
                    str(involuntary),
                    "unknown" if cpu_ns < 0 else f"{cpu_ns / 1e3:.0f}",
                    target,
                    answer,
                ]
            )
            figures[guard] = figure
        self.section("Idle", rows)
        self.figures["idle"] = figures

    def size(self, library: Path) -> None:
        kib = library.stat().st_size / 1024
        answer = self.judge("size", [kib], LIBRARY_KIB)
        self.section(
            "Size",
            [
                ["KiB", "", "target", ""],
                [f"{library.name}, stripped", f"{kib:.0f}", f"{LIBRARY_KIB}", answer],
            ],
        )
        self.figures["size"] = {"kib": kib, "target_kib": LIBRARY_KIB, "verdict": answer}


def machine() -> dict[str, Any]:
    model = "unknown processor"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    return {
        "kernel": platform.release(),
        "processors": len(os.sched_getaffinity(0)),
        "model": model,
        "load_1min": os.getloadavg()[0],
    }


def run_driver(command: list[str], keep: Path) -> Samples:
    samples = Samples()
    terminal = sys.stderr.isatty()
    # Its processes end with it, and it ends with us: see `lifeline` in bench.h.
    with (
        keep.open("w") as copy,
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as driver,
    ):
        assert driver.stdout is not None
        step = ""
        for line in driver.stdout:
            copy.write(line)
            samples.take(line)
            now = line.strip() if line.startswith("run ") else line.split()[0]
            if terminal and now != step and now not in ("latency", "helper"):
                print(f"\r\033[K{now}", end="", file=sys.stderr, flush=True)
                step = now
    if terminal:
        print("\r\033[K", end="", file=sys.stderr, flush=True)
    if driver.returncode != 0:
        sys.exit(f"bench: the driver ended with {driver.returncode}")
    return samples


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="make bench",
        description='Latency, arming, idling and size of the library. Give options as ARGS="...".',
    )
    parser.add_argument("--folder", type=Path, required=True, help=argparse.SUPPRESS)
    parser.add_argument(
        "--library", dest="shared_library", type=Path, required=True, help=argparse.SUPPRESS
    )
    parser.add_argument("--json", action="store_true", help="also write result.json into the folder")
    parser.add_argument("--runs", type=int, default=5, help="default: %(default)s")
    parser.add_argument("--rounds", type=int, default=150, help="per run; default: %(default)s")
    parser.add_argument(
        "--helpers", type=int, default=2, help="per run, how often a helper is waited for (1 s each)"
    )
    parser.add_argument("--polled", type=int, default=10, help="per run, samples of what polls")
    parser.add_argument("--arming", type=int, default=300, help="processes that arm")
    parser.add_argument("--idle", type=int, default=30, help="seconds; 0 leaves it out")
    parser.add_argument("--settle-us", type=int, default=2000, help="from ready to the kill")
    parser.add_argument("--mib", type=int, default=0, help="memory that every worker holds")
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    about = machine()
    command = [str(arguments.folder / "driver")]
    for name in ("runs", "rounds", "helpers", "polled", "arming", "idle", "settle_us", "mib"):
        command += [f"--{name.replace('_', '-')}", str(getattr(arguments, name))]
    samples = run_driver(command, arguments.folder / "samples.txt")

    report = Report()
    report.lines.append(
        f"Linux {about['kernel']}, {about['processors']} x {about['model']},"
        f" load {about['load_1min']:.1f}; {arguments.runs} runs of {arguments.rounds} rounds;"
        " in brackets: the range over the runs"
    )
    if about["load_1min"] > BUSY:
        report.lines.append("The machine was busy when this began: expect less of a quiet one.")
    if samples.latency:
        report.latency(samples)
    if samples.polled:
        report.polled(samples)
    if samples.arming:
        report.arming(samples)
    if samples.idle:
        report.idle(samples)
    report.size(arguments.shared_library)
    report.lines += ["", f"Missed: {'; '.join(report.missed)}" if report.missed else "All targets met."]
    print("\n".join(report.lines))

    if arguments.json:
        result = {
            "machine": about,
            "options": {
                name: value
                for name, value in vars(arguments).items()
                if name not in ("folder", "shared_library", "json")
            },
            **report.figures,
            "missed": report.missed,
        }
        target = arguments.folder / "result.json"
        target.write_text(json.dumps(result, indent=2) + "\n")
        print(f"The figures are in {os.path.relpath(target)}")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
