"""The pictures: each one for a light and for a dark page. The same figures give the same bytes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, NullFormatter

from names import GUARDS, time_text

# Okabe and Ito's colours, which colour-blind people can tell apart.
OURS, EXEC, KERNEL, OTHER, FADED = "ours", "exec", "kernel", "other", "faded"


@dataclass(frozen=True)
class Theme:
    suffix: str
    background: str
    text: str
    grid: str
    colours: dict[str, str]


THEMES = (
    Theme(
        "",
        "#ffffff",
        "#1f2328",
        "#d8dee4",
        {OURS: "#0072b2", EXEC: "#a5488a", KERNEL: "#009e73", OTHER: "#d55e00", FADED: "#6e7781"},
    ),
    Theme(
        "-dark",
        "#0d1117",
        "#e6edf3",
        "#30363d",
        {OURS: "#56b4e9", EXEC: "#d98cc0", KERNEL: "#2fc79a", OTHER: "#f0883e", FADED: "#8b949e"},
    ),
)
COLOUR = {
    "exec": EXEC,
    "pdeathsig": KERNEL,
    "nothing": OTHER,
    "getppid-2s": OTHER,
    "getppid-100ms": OTHER,
    "ipykernel": OTHER,
    "psutil": OTHER,
    "pipe": FADED,
    "thread": FADED,
}


def draw(
    folder: Path, name: str, size: tuple[float, float], plot: Callable[[Figure, Theme], None]
) -> None:
    for theme in THEMES:
        settings = {
            # No random ids and no date; letters as paths, so that it looks the same without our fonts.
            "svg.hashsalt": name,
            "svg.fonttype": "path",
            "font.family": "DejaVu Sans",
            "font.size": 10,
            "text.color": theme.text,
            "axes.labelcolor": theme.text,
            "axes.edgecolor": theme.grid,
            "axes.facecolor": theme.background,
            "figure.facecolor": theme.background,
            "savefig.facecolor": theme.background,
            "xtick.color": theme.text,
            "ytick.color": theme.text,
            "grid.color": theme.grid,
            "legend.frameon": False,
        }
        with mpl.rc_context(settings):
            figure = Figure(figsize=size, layout="constrained")
            plot(figure, theme)
            figure.savefig(folder / f"{name}{theme.suffix}.svg", metadata={"Date": None})


def bare(axes: Axes) -> None:
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(length=0)
    axes.grid(axis="x", linewidth=0.8)
    axes.set_axisbelow(True)


def time_axis(axis: mpl.axis.Axis) -> None:
    axis.set_major_formatter(FuncFormatter(lambda value, _: time_text(value)))
    axis.set_minor_formatter(NullFormatter())


def row_of(table: pd.DataFrame, measure: str, guard: str, case: str | None = None) -> pd.Series | None:
    rows = table[(table["measure"] == measure) & (table["guard"] == guard)]
    if case is not None:
        rows = rows[rows["case"] == case]
    return rows.iloc[0] if len(rows) else None


def gpu_row(table: pd.DataFrame, guard: str) -> pd.Series | None:
    """The plain CUDA worker with 20 GiB, whatever else is said about it."""
    rows = table[(table["measure"] == "gpu") & (table["guard"] == guard)]
    rows = rows[rows["case"].str.match(r"CUDA, \d+ GiB(, idle|, a kernel always running)?$")]
    rows = (
        rows[rows["case"].str.contains("20 GiB")] if rows["case"].str.contains("20 GiB").any() else rows
    )
    return rows.iloc[0] if len(rows) else None


def gone(folder: Path, table: pd.DataFrame, facts: dict) -> None:
    """The one for the front page."""
    poller = row_of(table, "poller", "getppid-2s"), gpu_row(table, "poll-2s")
    ours = row_of(table, "face", "c-shared"), gpu_row(table, "watch")
    kernel = row_of(table, "face", "pdeathsig"), gpu_row(table, "pdeathsig")
    rows = [
        ("no watcher", (None, None), OTHER),
        ("getppid() every 2 s\n(LocalAI today)", poller, OTHER),
        ("localai-parentwatch", ours, OURS),
        ("the kernel's own limit\n(PR_SET_PDEATHSIG)", kernel, KERNEL),
    ]
    left, never, right = 5e1, 5e7, 1.6e8
    lane = 0.19

    def plot(figure: Figure, theme: Theme) -> None:
        axes = figure.subplots()
        bare(axes)
        axes.set_xscale("log")
        axes.set_xlim(left, right)
        axes.set_ylim(len(rows) - 0.45, -0.6)
        axes.set_yticks(range(len(rows)), [name for name, *_ in rows])
        ticks = [1e2, 1e3, 1e4, 1e5, 1e6, 1e7]
        axes.set_xticks([*ticks, never], [*map(time_text, ticks), "never"])
        axes.minorticks_off()

        def mark(at: float, low: float, middle: float, high: float, colour: str, filled: bool) -> None:
            axes.hlines(at, low, high, color=colour, linewidth=3, alpha=0.5)
            face = colour if filled else theme.background
            marker = "s" if filled else "o"
            axes.plot(middle, at, marker, color=face, mec=colour, mew=2, markersize=8)
            axes.annotate(
                time_text(middle),
                (max(high, middle), at),
                (9, 0),
                textcoords="offset points",
                va="center",
            )

        for at, (_, (worker, memory), kind) in enumerate(rows):
            colour = theme.colours[kind]
            if worker is None:
                arrow = {
                    "arrowstyle": "-|>",
                    "color": colour,
                    "linewidth": 3,
                    "shrinkA": 0,
                    "shrinkB": 0,
                }
                axes.annotate("", (right, at), (left, at), arrowprops=arrow)
                axes.annotate(
                    "the worker stays, and so does its GPU memory",
                    (left, at),
                    (4, 7),
                    textcoords="offset points",
                    color=colour,
                )
                continue
            mark(at - lane, worker["p5"], worker["median"], worker["p95"], colour, filled=False)
            if memory is not None:
                low, middle, high = (memory[name] * 1e3 for name in ("low", "median", "high"))
                mark(at + lane, low, middle, high, colour, filled=True)
        figure.suptitle(
            "How long after its supervisor is killed does a worker go?",
            x=0.01,
            ha="left",
            fontsize=12,
            fontweight="bold",
        )
        same = {"linestyle": "", "markersize": 8, "mec": theme.text, "mew": 2}
        handles = [
            Line2D([], [], marker="o", color=theme.background, label="worker gone", **same),
            Line2D([], [], marker="s", color=theme.text, label="its 20 GiB of GPU memory free", **same),
        ]
        figure.legend(handles=handles, loc="outside lower right", ncols=2)
        axes.set_xlabel(
            "Median, logarithmic. Line: 5th to 95th percentile; of GPU memory: all samples.\n"
            f"Worker: {facts['machine']}. GPU: {facts['gpu']}.",
            loc="left",
            fontsize=8,
        )

    draw(folder, "kill-to-gone", (9, 4), plot)


def faces(folder: Path, table: pd.DataFrame, facts: dict) -> None:
    rows = table[table["measure"].isin(["face", "poller"]) & (table["median"] < float("inf"))]
    rows = rows.sort_values("median", ascending=False)

    def plot(figure: Figure, theme: Theme) -> None:
        axes = figure.subplots()
        bare(axes)
        axes.set_xscale("log")
        labels = [GUARDS[guard].format(**facts) for guard in rows["guard"]]
        axes.set_yticks(range(len(rows)), labels)
        for at, (_, row) in enumerate(rows.iterrows()):
            colour = theme.colours[COLOUR.get(row["guard"], OURS)]
            axes.hlines(at, row["p5"], row["p95"], color=colour, linewidth=3, alpha=0.5)
            axes.plot(row["median"], at, "o", color=colour, markersize=8)
            axes.annotate(
                time_text(row["median"]),
                (row["p95"], at),
                (8, 0),
                textcoords="offset points",
                va="center",
            )
        axes.set_xlim(rows["p5"].min() / 1.5, rows["p95"].max() * 4)
        time_axis(axes.xaxis)
        axes.set_title(
            "Supervisor killed until worker reaped", loc="left", fontsize=11, fontweight="bold"
        )
        axes.set_xlabel("median; line: 5th to 95th percentile. Logarithmic.", loc="left", fontsize=8)

    draw(folder, "faces", (9, 0.34 * len(rows) + 1.2), plot)


LINES = {
    "pdeathsig": ("s", "--"),
    "thread": ("^", ":"),
    "c-shared": ("o", "-"),
    "exec": ("D", "-."),
}


def lines(
    folder: Path, table: pd.DataFrame, name: str, measure: str, title: str, label: str, log: bool
) -> None:
    rows = table[table["measure"] == measure].assign(size=lambda rows: rows["case"].astype(float))

    def plot(figure: Figure, theme: Theme) -> None:
        axes = figure.subplots()
        bare(axes)
        axes.grid(axis="y", linewidth=0.8)
        axes.set_yscale("log")
        sizes = sorted(rows["size"].unique())
        if log:
            axes.set_xscale("log")
        axes.set_xticks(sizes, [f"{size:,.0f}" for size in sizes])
        axes.minorticks_off()
        time_axis(axes.yaxis)
        for guard, (marker, style) in LINES.items():
            line = rows[rows["guard"] == guard].sort_values("size")
            colour = theme.colours[COLOUR.get(guard, OURS)]
            if len(line):
                axes.fill_between(
                    line["size"], line["low"], line["high"], color=colour, alpha=0.2, linewidth=0
                )
                axes.plot(
                    line["size"],
                    line["median"],
                    style,
                    marker=marker,
                    color=colour,
                    label=GUARDS[guard],
                )
        axes.legend()
        axes.set_xlabel(label)
        axes.set_title(title, loc="left", fontsize=11, fontweight="bold")

    draw(folder, name, (9, 4.2), plot)


def idle(folder: Path, table: pd.DataFrame, facts: dict) -> None:
    rows = table[table["measure"] == "wakeups"].iloc[::-1]

    def plot(figure: Figure, theme: Theme) -> None:
        axes = figure.subplots()
        bare(axes)
        axes.set_yticks(range(len(rows)), [GUARDS[guard].format(**facts) for guard in rows["guard"]])
        for at, (_, row) in enumerate(rows.iterrows()):
            axes.barh(
                at, row["median"], color=theme.colours[COLOUR.get(row["guard"], OURS)], height=0.6
            )
            axes.annotate(
                f"{row['median']:.0f}",
                (row["median"], at),
                (6, 0),
                textcoords="offset points",
                va="center",
            )
        axes.set_xlim(0, max(rows["median"].max() * 1.1, 1))
        axes.set_title(
            "Wakeups a minute of an idle worker, all its threads",
            loc="left",
            fontsize=11,
            fontweight="bold",
        )

    draw(folder, "idle", (9, 0.34 * len(rows) + 0.9), plot)


def write(folder: Path, table: pd.DataFrame, facts: dict) -> list[str]:
    """The names of the pictures that there are figures for."""
    measured = set(table["measure"])
    drawn = []
    if {"face", "poller"} <= measured:
        gone(folder, table, facts)
        faces(folder, table, facts)
        drawn += ["kill-to-gone", "faces"]
    if "crowd" in measured:
        lines(
            folder,
            table,
            "crowd",
            "crowd",
            "Supervisor killed until the last of its workers is gone",
            "workers of one supervisor",
            log=True,
        )
        drawn.append("crowd")
    if "resident" in measured:
        lines(
            folder,
            table,
            "resident",
            "resident",
            "The kernel frees a supervisor's memory before anybody can see its death",
            "GiB that the supervisor holds",
            log=False,
        )
        drawn.append("resident")
    if "wakeups" in measured:
        idle(folder, table, facts)
        drawn.append("idle")
    return drawn
