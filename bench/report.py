"""Writes the page and the pictures of a folder anew, from the figures in it."""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path

import pandas as pd
from tabulate import tabulate

import check
import plots
from names import GUARDS, SITUATIONS, three, time_text

RESULTS = check.RESULTS
# The commit of the GPU table in bench/gpu.csv.
BEFORE_SCOPE_TREE = "8368fe8"
# The book has no files but those of docs/.
SOURCE = "https://github.com/mudler/localai-parentwatch/blob/main/bench"


def interval(row: pd.Series, name: str, text: object = time_text) -> str:
    """A figure and, in brackets, its confidence interval. What was not measured is empty."""
    low, high = ("low", "high") if name == "median" else (f"{name}_low", f"{name}_high")
    if name not in row or math.isnan(row[name]):
        return ""
    if math.isinf(row[name]):
        return "never"
    if row[low] == row[high]:
        return text(row[name])
    return f"{text(row[name])} [{text(row[low])}, {text(row[high])}]"


def times(value: float) -> str:
    return f"{value:.2f}"


def plain(value: float) -> str:
    return three(value)


class Page:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.facts = json.loads((folder / "about.json").read_text())
        self.figures = check.load(folder)
        self.gpu = pd.read_csv(folder / "gpu.csv")
        row = self.gpu.iloc[0]
        self.facts["gpu"] = f"{row['machine'].partition(';')[0]}, {row['date']}"
        self.pictures = plots.write(folder, self.figures, self.facts)
        self.lines: list[str] = []

    def say(self, *lines: str) -> None:
        self.lines += [*lines, ""]

    def name(self, guard: str) -> str:
        return GUARDS[guard].format(**self.facts)

    def picture(self, name: str, text: str) -> None:
        if name in self.pictures:
            self.say(
                "<picture>",
                f'  <source media="(prefers-color-scheme: dark)" srcset="{name}-dark.svg">',
                f'  <img src="{name}.svg" alt="{text}">',
                "</picture>",
            )

    def rows(self, *measures: str) -> pd.DataFrame:
        return self.figures[self.figures["measure"].isin(measures)]

    def table(self, rows: list[dict]) -> None:
        self.say(tabulate(rows, headers="keys", tablefmt="github", disable_numparse=True))

    def matrix(self, measure: str, first: str, names: dict[str, str]) -> None:
        """A row for each case, a column for each guard, and what ours adds."""
        rows = self.rows(measure)
        table = []
        # The driver's rounds are shuffled.
        rows = rows.sort_values(
            "guard", key=lambda guards: guards.map(list(GUARDS).index), kind="stable"
        )
        cases = [case for case in names if case in set(rows["case"])] or sorted(
            rows["case"].unique(), key=int
        )
        for case in cases:
            group = rows[rows["case"] == case]
            cells = {first: names.get(case, f"{int(case):,}" if case.isdigit() else case)}
            for _, row in group.iterrows():
                cells[self.name(row["guard"])] = interval(row, "median")
            ours = group[group["guard"] == "c-shared"]
            if len(ours) and "ratio" in ours and not math.isnan(ours.iloc[0]["ratio"]):
                cells["C, shared: added"] = interval(ours.iloc[0], "added")
                cells["C, shared: times"] = interval(ours.iloc[0], "ratio", times)
            table.append(cells)
        self.table(table)

    def text(self) -> str:
        self.head()
        self.verdicts()
        self.latency()
        self.crowds()
        self.resident()
        self.idle()
        self.costs()
        self.gpu_memory()
        self.say(
            f"[How it is measured]({SOURCE}/README.md). The data: [figures](figures.csv), "
            "[the median of every run](runs.csv), [GPU](gpu.csv), [the machine](about.json)."
        )
        return "\n".join(self.lines)

    def head(self) -> None:
        facts = self.facts
        self.say("# Benchmarks")
        if facts["quick"]:
            self.say(
                "**A quick run, to see that the bench works. These figures are not to be quoted.**"
            )
        options = facts["options"]
        self.say(
            f"`make bench` wrote this page on {facts['date']}, at commit {facts['commit']}.",
            f"Machine: {facts['machine']}. Load when it began: {facts['load']}.",
            f"Runs: {options['runs']}. A figure is the median of all samples.",
            "In brackets: its 95 % bootstrap interval.",
        )
        for size in facts["skipped"]:
            self.say(
                f"SKIPPED: a supervisor that holds {size} GiB. The machine had too little free memory."
            )
        self.picture(
            "kill-to-gone",
            "From the kill of the supervisor until its worker is gone and the GPU memory is free: "
            "never without a watcher, a second and more with a 2 s poller, "
            "with this library as soon as with the kernel's own signal",
        )

    def verdicts(self) -> None:
        self.say("## Targets", "", "`make bench-check` fails when one is missed.")
        self.table(check.judge_all(self.figures))

    def latency(self) -> None:
        rows = self.rows("face", "poller").sort_values("median")
        if len(rows):
            self.say("## Supervisor killed until worker reaped")
            self.picture("faces", "Latency of every face and of the alternatives, logarithmic")
            self.table(
                [
                    {
                        "the worker has": self.name(row["guard"]),
                        "median": interval(row, "median"),
                        "95th percentile": time_text(row["p95"]),
                        "added to PDEATHSIG": interval(row, "added"),
                        "samples": int(row["samples"]),
                    }
                    for _, row in rows.iterrows()
                ]
            )
            self.say(
                "Every worker leads a process group, as LocalAI starts them.",
                "PDEATHSIG is the kernel's own signal. It prints nothing and leaves helpers behind.",
                "psutil takes a dead supervisor for alive until it is reaped. Here that is at once.",
            )
        if len(self.rows("latency")):
            self.say("### By what the worker leads and has")
            self.matrix("latency", "the worker", SITUATIONS)
        if len(self.rows("helper")):
            self.say("### Until a helper that ignores SIGTERM is gone")
            self.matrix("helper", "the worker", SITUATIONS)

    def crowds(self) -> None:
        if len(self.rows("crowd")):
            self.say("## Many workers of one supervisor")
            self.picture("crowd", "Time until the last worker is gone, for 1 to 1,000 workers")
            self.matrix("crowd", "workers", {})
            self.say(
                "Until the last one is gone. A bare thread does nothing but wait and exit.",
                "No library that has a thread can be faster.",
                "With `exec` each worker has a guardian, which looks at every process of the machine.",
            )

    def resident(self) -> None:
        if len(self.rows("resident")):
            self.say("## A supervisor with much memory")
            self.picture("resident", "Time until the worker is gone, by the memory of the supervisor")
            self.matrix("resident", "GiB", {})
            self.say(
                "The kernel frees the supervisor's memory first.",
                "Nobody can see its death before, and the kernel's own signal is not sent before.",
            )

    def idle(self) -> None:
        wakeups, preempted, cpu = (
            self.rows(name).set_index("guard") for name in ("wakeups", "preempted", "cpu")
        )
        if len(wakeups):
            self.say("## Idle")
            self.picture("idle", "Wakeups a minute of an idle worker")
            self.table(
                [
                    {
                        "the worker has": self.name(guard),
                        "wakeups a minute": plain(row["median"]),
                        "preempted a minute": plain(preempted.loc[guard, "median"]),
                        "processor time a minute": time_text(cpu.loc[guard, "median"])
                        if guard in cpu.index and not math.isnan(cpu.loc[guard, "median"])
                        else "unknown",
                    }
                    for guard, row in wakeups.iterrows()
                ]
            )
            self.say("All threads of the worker together; with `exec` those of its guardian too.")

    def costs(self) -> None:
        rows = []
        for measure, case, text in (
            ("arming", "unnamed", "arming"),
            ("arming", "named", "arming, the supervisor named by its token"),
            ("import", "", "importing the package"),
            ("start", "", "start and end of `true`"),
        ):
            found = self.rows(measure)
            for _, row in found[found["case"] == case].iterrows():
                rows.append(
                    {"what": text, "of": self.name(row["guard"]), "median": interval(row, "median")}
                )
        if rows:
            self.say("## Arming")
            self.table(rows)
        rows = [
            {
                "arming adds": row["case"],
                "of": self.name(row["guard"]),
                "median": interval(row, "median", plain),
            }
            for _, row in self.rows("added").iterrows()
        ] + [
            {
                "arming adds": f"a guardian, {row['case']}",
                "of": self.name(row["guard"]),
                "median": interval(row, "median", plain),
            }
            for _, row in self.rows("guardian").iterrows()
        ]
        if rows:
            self.say("## Memory")
            self.table(rows)
            self.say("Resident memory counts shared code too. Memory written to is the worker's own.")
        self.say("## Size, as installed")
        self.table(
            [
                {
                    "file": row["case"] + ("" if row["guard"] == "now" else ", before"),
                    "KiB": f"{row['median']:.0f}",
                }
                for _, row in self.rows("size").iterrows()
            ]
        )

    def gpu_memory(self) -> None:
        table = self.gpu
        self.say("## GPU memory")
        for (machine, day, commit), rows in table.groupby(["machine", "date", "commit"], sort=False):
            self.say(
                f"Measured on {day}, at commit {commit}: {machine}.",
                "Milliseconds from the kill of the supervisor: the median and the range.",
                "An empty cell was not measured.",
            )
            for what, title in (("gone", "Worker gone"), ("free", "GPU memory free")):
                part = rows[rows["what"] == what]
                if not len(part):
                    continue
                cells: dict[str, dict] = {}
                for _, row in part.iterrows():
                    cell = cells.setdefault(row["worker"], {title: row["worker"]})
                    cell[self.name(row["guard"])] = (
                        "**never**"
                        if math.isinf(row["median_ms"])
                        else f"{row['median_ms']:.0f} [{row['low_ms']:.0f}, {row['high_ms']:.0f}]"
                    )
                self.table(list(cells.values()))
            if commit == BEFORE_SCOPE_TREE:
                self.say(
                    "**Never**: that commit ended the worker's process group alone.",
                    "Scope `tree` has come since.",
                    "An engine in a session of its own ends too (scenario F22).",
                    "That was not measured again on a GPU.",
                )
        self.say(
            "Nearly all of the time is the GPU driver's. It frees the memory once the process is gone.",
            f"[What these rows are]({SOURCE}/gpu.md).",
        )


def write(folder: Path) -> None:
    (folder / "README.md").write_text(Page(folder).text())


def main() -> None:
    parser = argparse.ArgumentParser(prog="make bench-report", description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?", default=RESULTS, help="default: %(default)s")
    folder = parser.parse_args().folder
    write(folder)
    print(f"{folder}/README.md")


if __name__ == "__main__":
    main()
