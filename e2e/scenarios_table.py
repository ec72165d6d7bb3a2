"""Writes docs/scenarios.md from scenarios.toml and one run of the suite, or checks that they agree."""

import argparse
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

from driver.cells import Cells
from driver.programs import CONTROLS

HERE = Path(__file__).parent
ROOT = HERE.parent

CHAPTERS = {
    "F": "Must fire: the worker and its port are gone",
    "N": "Must not fire: the worker serves on, and goes when its supervisor is killed after all",
    "H": "Must not harm the host",
    "X": "By exec: a program that is not linked with the library",
}
PREAMBLE = """\
# Scenarios

`make scenarios` writes this page from `e2e/scenarios.toml` and one run of the suite.
`make check-scenarios` fails if that table and this page disagree. The suite's
[README](https://github.com/mudler/localai-parentwatch/blob/main/e2e/README.md) explains the words.

A cell has the number of tests that passed, each with a process tree of its own. The time is the median
from the death of the supervisor until the test saw the worker gone. It includes what the test did in
between (a hook, a late start), and the wait for a processor: several trees run at once. If a cell has
trees of both tiers, the time is that of the event tier. "In" is how long the tests took: those in which
no worker loses its supervisor.

A control is a watcher that is known to be wrong. Tests run over it too, and must fail.
[What the controls fail at](#what-the-controls-fail-at) lists how.
"""
NO_BREAK_SPACE = "\N{NO-BREAK SPACE}"
ROW = re.compile(r"\| ([FNHX]\d\d) \| (.*?) \|(.*)\|")
FOOTNOTE = re.compile(r"\[\^(\d+)\]: (.*)")
NOT_RUN = re.compile(r"n/a\[\^(\d+)\]")


@dataclass(frozen=True)
class Test:
    """One test of the run, over one worker or control."""

    scenario: str
    worker: str
    tier: str
    outcome: str
    """passed, failed, skipped, or xfailed: a control that failed, as it must."""
    because: str
    seconds: float
    gone_after: list[float]


def read_run(path: Path) -> list[Test]:
    """Reads the tests from a file that pytest's --junit-xml wrote."""
    return [_read_test(case) for case in ET.parse(path).iter("testcase")]


def _read_test(case: ET.Element) -> Test:
    properties = {found.attrib["name"]: found.attrib["value"] for found in case.iter("property")}
    outcome, because = "passed", ""
    if case.find("failure") is not None or case.find("error") is not None:
        outcome = "failed"
    elif (skipped := case.find("skipped")) is not None:
        because = skipped.attrib["message"]
        outcome = "xfailed" if skipped.attrib["type"] == "pytest.xfail" else "skipped"
    return Test(
        scenario=properties["scenario"],
        worker=properties["worker"],
        tier=properties.get("tier", ""),
        outcome=outcome,
        because=because,
        seconds=float(case.attrib["time"]),
        gone_after=json.loads(properties.get("gone_after", "[]")),
    )


@dataclass
class Page:
    """The text of docs/scenarios.md."""

    cells: Cells
    tests: list[Test]
    footnotes: list[str] = field(default_factory=list)

    def text(self) -> str:
        chapters = [self._chapter(letter, title) for letter, title in CHAPTERS.items()]
        footnotes = "\n".join(f"[^{number}]: {text}" for number, text in enumerate(self.footnotes, 1))
        return "\n".join([PREAMBLE, self._provenance(), *chapters, self._controls(), footnotes]) + "\n"

    def _provenance(self) -> str:
        counts = Counter(test.outcome for test in self.tests)
        lines = [
            f"| machine | {_processor()}, {os.cpu_count()} processors, Linux {platform.release()} |",
            f"| date | {date.today().isoformat()} |",
            f"| commit | {_commit()} |",
            f"| versions | {', '.join(_versions())} |",
            f"| tests | {len(self.tests)}: {counts['passed']} passed, {counts['failed']} failed, "
            f"{counts['skipped']} skipped, {counts['xfailed']} controls failed as they must |",
        ]
        return "\n".join(["| | |", "|---|---|", *lines, ""])

    def _chapter(self, letter: str, title: str) -> str:
        columns = ["", "", *self.cells.workers]
        rows = [self._row(name) for name in self.cells.scenarios if name.startswith(letter)]
        table = [_line(columns), "|---" * len(columns) + "|", *rows]
        return "\n".join([f"## {title}", "", *table, ""])

    def _row(self, scenario: str) -> str:
        cells = [self._cell(scenario, worker) for worker in self.cells.workers]
        return _line([scenario, self.cells.title(scenario), *cells])

    def _cell(self, scenario: str, worker: str) -> str:
        if reason := self.cells.reason(scenario, worker):
            return f"n/a{self._footnote(reason)}"
        tests = [test for test in self.tests if (test.scenario, test.worker) == (scenario, worker)]
        counts = Counter(test.outcome for test in tests)
        if counts["failed"]:
            return f"**{counts['failed']} of {len(tests)} failed**"
        passed = [test for test in tests if test.outcome == "passed"]
        cell = f"ok {len(passed)}, {_time(passed)}" if passed else "not run"
        for reason in sorted({test.because for test in tests if test.outcome == "skipped"}):
            cell += f", skipped{self._footnote(reason)}"
        return cell

    def _controls(self) -> str:
        reasons: dict[tuple[str, str], set[str]] = defaultdict(set)
        for test in self.tests:
            if test.outcome == "xfailed":
                reasons[test.worker, test.scenario].add(test.because)
        order = {name: place for place, name in enumerate([*CONTROLS, *self.cells.scenarios])}
        rows = [
            _line([*failed, "; ".join(sorted(reasons[failed]))])
            for failed in sorted(reasons, key=lambda failed: [order[name] for name in failed])
        ]
        table = [_line(["control", "fails", "because"]), "|---|---|---|", *rows]
        return "\n".join(["## What the controls fail at", "", *table, ""])

    def _footnote(self, text: str) -> str:
        if text not in self.footnotes:
            self.footnotes.append(text)
        return f"[^{self.footnotes.index(text) + 1}]"


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _time(tests: list[Test]) -> str:
    tiers = {test.tier for test in tests if test.gone_after}
    seconds = [
        second
        for test in tests
        if test.tier == "event" or "event" not in tiers
        for second in test.gone_after
    ]
    if not seconds:
        return f"in {sum(test.seconds for test in tests):.1f}{NO_BREAK_SPACE}s"
    median = statistics.median(seconds)
    number, unit = (median * 1e3, "ms") if median < 0.1 else (median, "s")
    return f"{number:.2f}{NO_BREAK_SPACE}{unit}"


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _said_by(*command: str) -> str:
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()


def _commit() -> str:
    changed = _said_by("git", "status", "--porcelain", "--", ".", ":!docs/scenarios.md")
    return _said_by("git", "rev-parse", "--short", "HEAD") + (", with changes" if changed else "")


def _versions() -> Iterator[str]:
    (own,) = re.findall(r'^version = "(.*)"', (ROOT / "Cargo.toml").read_text(), re.MULTILINE)[:1]
    yield f"localai-parentwatch {own}"
    yield " ".join(_said_by("rustc", "--version").split()[:2])
    yield _said_by("go", "version").split()[2].replace("go", "go ")
    yield f"python {platform.python_version()}"
    yield f"cc {_said_by('cc', '-dumpfullversion')}"


def disagreements(cells: Cells, page: str) -> list[str]:
    """The rows and cells in which the page disagrees with the table. Times are not compared."""
    footnotes = dict(FOOTNOTE.findall(page))
    rows = {name: (title, line.split(" | ")) for name, title, line in ROW.findall(page)}
    found = [f"{name}: not a scenario" for name in rows if name not in cells.scenarios]
    for scenario in cells.scenarios:
        title, columns = rows.get(scenario, ("", []))
        if title != cells.title(scenario):
            found.append(f"{scenario}: its title is {title!r}")
        if len(columns) != len(cells.workers):
            found.append(f"{scenario}: {len(columns)} columns")
            continue
        for worker, column in zip(cells.workers, columns, strict=True):
            cell, reason = column.strip(), cells.reason(scenario, worker)
            if reason is None:
                right = cell.startswith("ok ")
            else:
                number = NOT_RUN.fullmatch(cell)
                right = number is not None and footnotes.get(number[1]) == reason
            if not right:
                found.append(f"{scenario}: {worker} is {cell!r}, and in the table {reason or 'run'!r}")
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", type=Path, help="what pytest's --junit-xml has written")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--write", type=Path, metavar="PAGE")
    what.add_argument("--check", type=Path, metavar="PAGE")
    options = parser.parse_args()
    cells = Cells(HERE)
    if options.write:
        if options.run is None:
            parser.error("--write needs --run")
        options.write.write_text(Page(cells, read_run(options.run)).text())
    page = options.write or options.check
    found = disagreements(cells, page.read_text() if page.exists() else "")
    for line in found:
        print(f"{page}: {line}", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
