#!/usr/bin/env python3
"""Runs the driver and makes tables of its samples. Standard library alone; see README.md."""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

# A load above this is told.
BUSY = 0.5
PAGE_KIB = os.sysconf("SC_PAGESIZE") // 1024

OTHERS = {"thread": "bare thread", "exec": "by exec"}
BASELINE = "pdeathsig"
# Situation of the worker: what it is called, and what the library may add, in µs. None: reported.
SITUATIONS: dict[str, tuple[str, float | None]] = {
    "alone": ("alone", 80),
    "leader": ("leader of a group, never had a child", 80),
    "leader,had-child": ("leader that had a child", 200),
    "leader,helper": ("leader, a helper in its group", None),
    "leader,session-helper": ("leader, a helper in a session of its own", None),
    "session": ("leader of a session", None),
}
CROWD_RATIO = 1.6
ARMING_US = 150
NAMED = {"unnamed": "nothing set", "named": "supervisor named by its token"}
# In the order of the driver's words. Threads and descriptors are exact, the rest is at most that.
ADDED: list[tuple[str, float | None]] = [
    ("threads", 1),
    ("descriptors of the program", 0),
    ("memory written to, KiB", 64),
    ("resident, shared pages included, KiB", None),
    ("address space, KiB", 1024),
]
EXACT = {"threads", "descriptors of the program"}
LIBRARY_KIB = 400
PROGRAM_KIB = 1536
GUARDIAN_KIB = 512

Runs = dict[int, list[float]]


def runs() -> Runs:
    return defaultdict(list)


def percentile(samples: Iterable[float], percent: float) -> float:
    """The smallest sample that at least so many percent of all do not exceed."""
    ordered = sorted(samples)
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]


def medians(samples: Runs) -> list[float]:
    return [median(run) for run in samples.values()]


def spread(figures: list[float], form: str) -> str:
    """The median of the runs, and from where to where they go."""
    low, high = min(figures), max(figures)
    if low == math.inf:
        return "never"
    if low == high:
        return format(low, form)
    return f"{median(figures):{form}} [{low:{form}}..{high:{form}}]"


def verdict(figures: list[float], target: float, exact: bool) -> str:
    """The median of the runs decides; runs that missed the target are told."""
    if exact:
        return "ok" if set(figures) == {target} else "MISSED"
    met = sum(figure <= target for figure in figures)
    if median(figures) > target:
        return "MISSED"
    return "ok" if met == len(figures) else f"ok in {met} of {len(figures)} runs"


def columns(rows: list[list[str]]) -> Iterator[str]:
    """Aligned: the first column to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for first, *others in rows:
        cells = [cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True)]
        yield f"  {first:{widths[0]}}  {'  '.join(cells)}".rstrip()


def by_guard() -> dict[str, Runs]:
    return defaultdict(runs)


class Samples:
    """What the driver measured: times in microseconds, by what was measured, guard and run."""

    def __init__(self, program: Path) -> None:
        self.program = program
        self.latency: dict[str, dict[str, Runs]] = defaultdict(by_guard)
        self.helper: dict[str, dict[str, Runs]] = defaultdict(by_guard)
        self.crowd: dict[int, dict[str, Runs]] = defaultdict(by_guard)
        self.arming: dict[str, dict[str, Runs]] = defaultdict(by_guard)
        self.faults: dict[str, dict[str, Runs]] = defaultdict(by_guard)
        self.added: dict[str, dict[str, Runs]] = defaultdict(by_guard)
        self.polled: dict[str, list[float]] = defaultdict(list)
        self.idle: dict[str, tuple[float, int, int, int]] = {}
        self.start: dict[str, Runs] = by_guard()
        self.guardian: Runs = runs()

    def take(self, line: str) -> None:
        match line.split():
            case ["run", _]:
                pass
            case ["latency", run, situation, guard, ns]:
                self.latency[situation][guard][int(run)].append(int(ns) / 1e3)
            case ["helper", run, situation, guard, ns]:
                self.helper[situation][guard][int(run)].append(
                    math.inf if ns == "never" else int(ns) / 1e3
                )
            case ["crowd", run, workers, guard, ns]:
                self.crowd[int(workers)][guard][int(run)].append(int(ns) / 1e3)
            case ["arming", run, guard, named, ns, faults]:
                self.arming[named][guard][int(run)].append(int(ns) / 1e3)
                self.faults[named][guard][int(run)].append(int(faults) * PAGE_KIB)
            case ["added", run, guard, *values]:
                for (what, _), value in zip(ADDED, values, strict=True):
                    self.added[what][guard][int(run)].append(int(value))
            case ["start", run, how, ns]:
                self.start[how][int(run)].append(int(ns) / 1e3)
            case ["guardian", rss]:
                self.guardian[1].append(int(rss))
            case ["polled", _, guard, ns]:
                self.polled[guard].append(int(ns) / 1e3)
            case ["idle", who, ns, voluntary, involuntary, cpu_ns]:
                self.idle[who] = (int(ns) / 1e9, int(voluntary), int(involuntary), int(cpu_ns))
            case _:
                raise ValueError(f"not a sample: {line!r}")


class Report:
    """Text for people and the same figures for programs."""

    def __init__(self, libraries: list[str]) -> None:
        self.libraries = libraries
        self.lines: list[str] = []
        self.figures: dict[str, Any] = defaultdict(dict)
        self.missed: list[str] = []
        self.rows: list[list[str]] = []

    def table(self, title: str, head: list[str]) -> None:
        self.lines += ["", title]
        self.rows = [head]

    def end_table(self) -> None:
        self.lines += columns(self.rows)

    def judge(
        self, name: str, figures: list[float], target: float | None, exact: bool = False
    ) -> list[str]:
        """The last two cells of a row."""
        if target is None:
            return ["", ""]
        answer = verdict(figures, target, exact)
        if answer == "MISSED":
            self.missed.append(name)
        return [f"{'' if exact else '<= '}{target:g}", answer]

    def compare(
        self,
        section: str,
        rows: list[tuple[str, dict[str, Runs], float | None]],
        unit: str,
        form: str = ".0f",
        to_baseline: Callable[[float, float], float] | None = None,
        scale: float = 1,
        others: tuple[str, ...] = (),
    ) -> None:
        """A row for each figure, a column for each library, and before them for each of the `others`.

        `to_baseline` makes a library's figure of its median and the baseline's in the same run."""
        compared = [*others, *self.libraries]
        names = [OTHERS.get(guard, guard) for guard in compared]
        head = [unit, *(["PDEATHSIG"] if to_baseline else []), *names, "target", ""]
        self.table(section, head)
        for name, guards, target in rows:
            row, judged = [name], []
            figure: dict[str, Any] = {"target": target}
            baseline = guards.get(BASELINE, {})
            if to_baseline:
                row.append(spread([value * scale for value in medians(baseline)], ".0f"))
            for guard in [BASELINE, *compared]:
                if guard not in guards:
                    continue
                everything = [sample for run in guards[guard].values() for sample in run]
                figure[guard] = {
                    "samples": len(everything),
                    "medians": medians(guards[guard]),
                    **{f"p{percent}": percentile(everything, percent) for percent in (95, 99, 100)},
                }
            for library in compared:
                figures = medians(guards[library])
                if to_baseline:
                    figures = [
                        to_baseline(median(run), median(baseline[number]))
                        for number, run in guards[library].items()
                    ]
                    figure[library]["to_baseline"] = figures
                else:
                    figures = [value * scale for value in figures]
                row.append(spread(figures, form))
                judged = figures
            answer = self.judge(name, judged, target, name in EXACT)
            figure["verdict"] = answer[1]
            self.rows.append(row + answer)
            self.figures[section][name] = figure
        self.end_table()

    def polled(self, samples: Samples) -> None:
        event = [x for run in samples.latency["alone"]["now"].values() for x in run]
        self.table(
            "The same where somebody polls every 2 s, worker alone",
            ["ms", "median", "max", "to the event tier"],
        )
        for guard, name in (
            ("now", "this library, pidfd_open refused"),
            ("poller", "plain getppid() poller"),
        ):
            values = samples.polled[guard]
            ratio = f"{median(values) / median(event):.0f} x" if event else ""
            self.rows.append([name, f"{median(values) / 1e3:.0f}", f"{max(values) / 1e3:.0f}", ratio])
            self.figures["polled"][guard] = values
        self.end_table()

    def idle(self, samples: Samples) -> None:
        names = {
            "event": "this library, event tier",
            "poll": "this library, poll tier every 2 s",
            "poller": "plain getppid() poller every 2 s",
            "guardian": "the guardian of exec, event tier",
        }
        head = ["the watching thread", "slept", "wakeups", "preempted", "CPU µs", "target", ""]
        self.table("Idle", head)
        for who, (seconds, *use) in samples.idle.items():
            # a CPU time below 0 is unknown
            used = float(sum(max(0, figure) for figure in use))
            answer = self.judge("idle", [used], 0 if who in ("event", "guardian") else None, exact=True)
            cpu = "unknown" if use[2] < 0 else f"{use[2] / 1e3:.0f}"
            self.rows.append([names[who], f"{seconds:.0f} s", *map(str, use[:2]), cpu, *answer])
            self.figures["idle"][who] = {"seconds": seconds, "switches": use[:2], "cpu_ns": use[2]}
        self.end_table()

    def program(self, samples: Samples) -> None:
        """`localai-parentwatch exec`: what it costs."""
        bare, guarded = (medians(samples.start[how]) for how in ("true", "exec"))
        size = samples.program.stat().st_size / 1024
        rows: list[tuple[str, list[float], str, float | None]] = [
            ("start and end of `true`, µs", bare, ".0f", None),
            ("start and end of `localai-parentwatch exec -- true`, µs", guarded, ".0f", None),
            ("the program, static, KiB", [size], ".0f", PROGRAM_KIB),
        ]
        if samples.guardian:
            resident = samples.guardian[1]
            rows.append(("a guardian, resident, KiB", resident, ".0f", GUARDIAN_KIB))
        self.table("localai-parentwatch exec", ["", "", "target", ""])
        for name, figures, form, target in rows:
            answer = self.judge(name, figures, target, exact=False)
            self.rows.append([name, spread(figures, form), *answer])
            self.figures["exec"][name] = {"medians": figures, "target": target}
        self.end_table()


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


def run_driver(command: list[str], keep: Path, program: Path) -> Samples:
    samples = Samples(program)
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
    parser.add_argument("--program", type=Path, required=True, help=argparse.SUPPRESS)
    parser.add_argument("--json", action="store_true", help="also write result.json into the folder")
    parser.add_argument(
        "--against",
        type=Path,
        metavar="PREFIX",
        help="compare with the library installed there, in the same run",
    )
    parser.add_argument("--runs", type=int, default=5, help="default: %(default)s")
    parser.add_argument("--rounds", type=int, default=100, help="per run; default: %(default)s")
    parser.add_argument(
        "--helpers",
        type=int,
        default=1,
        help="per run, how often a helper is waited for (1 to 3 s each)",
    )
    parser.add_argument("--crowds", type=int, default=3, help="per run, crowds of each size")
    parser.add_argument("--polled", type=int, default=10, help="per run, samples of what polls")
    parser.add_argument("--arming", type=int, default=60, help="per run, processes that arm")
    parser.add_argument("--idle", type=int, default=30, help="seconds; 0 leaves it out")
    parser.add_argument("--settle-us", type=int, default=2000, help="from ready to the kill")
    parser.add_argument("--mib", type=int, default=0, help="memory that every worker holds")
    return parser.parse_args()


def make_report(arguments: argparse.Namespace, about: dict[str, Any], samples: Samples) -> Report:
    sizes = {"now": arguments.shared_library}
    if arguments.against:
        sizes = {"before": arguments.against / "lib" / arguments.shared_library.name, **sizes}
    report = Report(list(sizes))
    report.lines.append(
        f"Linux {about['kernel']}, {about['processors']} x {about['model']},"
        f" load {about['load_1min']:.1f}; {arguments.runs} runs of {arguments.rounds} rounds."
        " Medians; in brackets: the range over the runs."
    )
    if about["load_1min"] > BUSY:
        report.lines.append("The machine was busy when this began: expect less of a quiet one.")
    if samples.latency:
        report.compare(
            "Supervisor killed until worker reaped: added to PDEATHSIG",
            [(title, samples.latency[name], target) for name, (title, target) in SITUATIONS.items()],
            "µs",
            "+.0f",
            lambda library, baseline: library - baseline,
            others=("exec",),
        )
    if samples.crowd:
        report.compare(
            "Workers of one supervisor, leaders that never had a child, until the last is gone",
            [
                (f"{workers}, times PDEATHSIG", crowds, CROWD_RATIO)
                for workers, crowds in samples.crowd.items()
            ],
            "ms for PDEATHSIG",
            ".2f",
            lambda library, baseline: library / baseline,
            scale=1e-3,
            others=("thread",),
        )
    if samples.helper:
        report.compare(
            "Supervisor killed until a helper that ignores SIGTERM is gone",
            [(SITUATIONS[name][0], helpers, None) for name, helpers in sorted(samples.helper.items())],
            "ms",
            scale=1e-3,
            others=("exec",),
        )
    if samples.polled:
        report.polled(samples)
    if samples.arming:
        report.compare(
            "Arming from C, in a program just executed",
            [(NAMED[named], samples.arming[named], ARMING_US) for named in NAMED],
            "µs",
        )
        rows = [(what, samples.added[what], target) for what, target in ADDED]
        rows += [(f"page faults, KiB, {NAMED[named]}", samples.faults[named], None) for named in NAMED]
        report.compare("What arming adds", rows, "")
    if samples.idle:
        report.idle(samples)
    if samples.start:
        report.program(samples)
    report.compare(
        "Size",
        [
            (
                f"{arguments.shared_library.name}, stripped",
                {name: {1: [path.stat().st_size / 1024]} for name, path in sizes.items()},
                LIBRARY_KIB,
            ),
        ],
        "KiB",
    )
    report.lines += ["", f"Missed: {'; '.join(report.missed)}" if report.missed else "All targets met."]
    return report


def main() -> None:
    arguments = parse_arguments()
    about = machine()
    command = [str(arguments.folder / "driver"), "--program", str(arguments.program)]
    names = "runs", "rounds", "helpers", "crowds", "polled", "arming", "idle", "settle_us", "mib"
    for name in names:
        command += [f"--{name.replace('_', '-')}", str(getattr(arguments, name))]
    if arguments.against:
        command += ["--against", str(arguments.against / "lib")]
    samples = run_driver(command, arguments.folder / "samples.txt", arguments.program)
    report = make_report(arguments, about, samples)
    print("\n".join(report.lines))

    if arguments.json:
        result = {
            "machine": about,
            "options": {name: getattr(arguments, name) for name in names},
            **report.figures,
            "missed": report.missed,
        }
        target = arguments.folder / "result.json"
        # JSON has no infinity: a helper that never was gone is null.
        plain = json.loads(json.dumps(result), parse_constant=lambda _: None)
        target.write_text(json.dumps(plain, indent=2) + "\n")
        print(f"The figures are in {os.path.relpath(target)}")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
