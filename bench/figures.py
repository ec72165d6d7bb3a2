"""From the driver's samples to figures with confidence intervals."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

CONFIDENCE = 0.95
RESAMPLES = 2000
# What the others are compared with: the kernel's own signal, and for exec's start a bare one.
BASELINE = {"start": "nothing"}
KERNEL = "pdeathsig"
NANOSECONDS = {
    "latency",
    "helper",
    "face",
    "poller",
    "crowd",
    "resident",
    "arming",
    "import",
    "start",
    "cpu",
}
COLUMNS = [
    *("measure", "case", "guard", "unit", "runs", "samples"),
    *("median", "low", "high", "p5", "p95", "least", "most", "lowest_run", "highest_run"),
    *("added", "added_low", "added_high", "ratio", "ratio_low", "ratio_high"),
]
PER_MINUTE = {"wakeups", "preempted", "cpu"}


def median(sample: np.ndarray, axis: int = -1) -> np.ndarray:
    return np.median(sample, axis=axis)


def added(sample: np.ndarray, baseline: np.ndarray, axis: int = -1) -> np.ndarray:
    return median(sample, axis) - median(baseline, axis)


def ratio(sample: np.ndarray, baseline: np.ndarray, axis: int = -1) -> np.ndarray:
    return median(sample, axis) / median(baseline, axis)


def with_interval(statistic: Callable[..., np.ndarray], *samples: np.ndarray) -> list[float]:
    """The figure, and its bootstrap interval. Samples of the same round stay together."""
    figure = float(statistic(*samples))
    if len(samples[0]) < 2 or not all(np.isfinite(sample).all() for sample in samples):
        return [figure, figure, figure]
    result = stats.bootstrap(
        samples,
        statistic,
        paired=len(samples) > 1,
        vectorized=True,
        n_resamples=RESAMPLES,
        confidence_level=CONFIDENCE,
        method="percentile",
        rng=np.random.default_rng(1),
    )
    return [figure, *map(float, result.confidence_interval)]


def read(path: Path) -> pd.DataFrame:
    """The samples: times in microseconds, what an idle process does for a minute."""
    samples = pd.read_csv(
        path, dtype={"case": str, "value": float}, keep_default_na=False, na_values=["nan"]
    )
    samples["unit"] = ""
    times = samples["measure"].isin(NANOSECONDS)
    samples.loc[times, "value"] /= 1e3
    samples.loc[times, "unit"] = "µs"
    idle = samples["measure"].isin(PER_MINUTE)
    samples.loc[idle, "value"] *= 60 / samples.loc[idle, "case"].astype(float)
    samples.loc[idle, "unit"] += " a minute"
    samples.loc[idle, "case"] = ""
    samples["unit"] = samples["unit"].str.strip()
    # Which one of its run it is. The driver measures in rounds: the same number is the same round.
    samples["round"] = samples.groupby(["measure", "case", "guard", "run"], sort=False).cumcount()
    return samples


def by_run(samples: pd.DataFrame) -> pd.DataFrame:
    """The median of every run."""
    groups = samples.groupby(["measure", "case", "guard", "unit", "run"], sort=False)["value"]
    return groups.agg(samples="size", median="median").reset_index()


def make(samples: pd.DataFrame) -> pd.DataFrame:
    rows = []
    for (measure, case), group in samples.groupby(["measure", "case"], sort=False):
        guards = {
            guard: rows.set_index(["run", "round"])["value"]
            for guard, rows in group.groupby("guard", sort=False)
        }
        baseline = guards.get(BASELINE.get(measure, KERNEL))
        for guard, series in guards.items():
            values = series.to_numpy()
            medians = series.groupby("run").median()
            row = {
                "measure": measure,
                "case": case,
                "guard": guard,
                "unit": group["unit"].iloc[0],
                "runs": len(medians),
                "samples": len(values),
                **dict(zip(("median", "low", "high"), with_interval(median, values), strict=True)),
                "p5": stats.scoreatpercentile(values, 5, interpolation_method="lower"),
                "p95": stats.scoreatpercentile(values, 95, interpolation_method="higher"),
                "least": values.min(),
                "most": values.max(),
                "lowest_run": medians.min(),
                "highest_run": medians.max(),
            }
            if baseline is not None and series is not baseline:
                pairs = pd.concat([series, baseline], axis=1, join="inner").to_numpy().T
                for name, statistic in (("added", added), ("ratio", ratio)):
                    interval = with_interval(statistic, *pairs)
                    row |= dict(zip((name, f"{name}_low", f"{name}_high"), interval, strict=True))
            rows.append(row)
    return pd.DataFrame(rows, columns=COLUMNS)


def of_gpu(table: pd.DataFrame) -> pd.DataFrame:
    """The table of gpu.py as figures: until the memory was free, in ms. Low, high: the range."""
    free = table[table["what"] == "free"]
    rows = free.rename(
        columns={"worker": "case", "median_ms": "median", "low_ms": "low", "high_ms": "high"}
    ).assign(measure="gpu", unit="ms")
    kernel = rows[rows["guard"] == KERNEL].set_index("case")["median"]
    rows["ratio"] = rows["median"] / rows["case"].map(kernel)
    rows.loc[rows["guard"] == KERNEL, "ratio"] = np.nan
    return rows[["measure", "case", "guard", "unit", "samples", "median", "low", "high", "ratio"]]
