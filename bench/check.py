"""Holds the figures of `make bench` against targets.toml. Fails when one is missed or missing."""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path

import pandas as pd
import tomllib
from tabulate import tabulate

import figures

TARGETS = Path(__file__).with_name("targets.toml")
RESULTS = Path("docs/benchmarks")


def load(folder: Path) -> pd.DataFrame:
    table = pd.read_csv(folder / "figures.csv", dtype={"case": str}).fillna({"case": "", "unit": ""})
    return pd.concat([table, figures.of_gpu(pd.read_csv(folder / "gpu.csv"))], ignore_index=True)


def judge(target: dict, rows: pd.DataFrame, others: pd.DataFrame) -> dict:
    """One target and one guard: what was measured, and whether that will do. Others: `to`."""
    values = rows[target["figure"]].dropna()
    measured = values.median() if len(values) else math.nan
    if "to" in target:
        measured /= others[target["figure"]].median()
    if math.isnan(measured):
        verdict = "NOT MEASURED"
    elif "exactly" in target:
        met = (rows["least"] == target["exactly"]).all() and (rows["most"] == target["exactly"]).all()
        verdict = "met" if met else "MISSED"
    else:
        verdict = "met" if measured <= target["at_most"] else "MISSED"
    interval = ""
    names = [f"{target['figure']}_low", f"{target['figure']}_high"]
    if target["figure"] == "median":
        names = ["low", "high"]
    if len(rows) == 1 and "to" not in target and set(names) <= set(rows):
        low, high = rows[names].iloc[0]
        interval = "" if low == high or math.isnan(low) else f"[{low:.4g}, {high:.4g}]"
    limit = (
        f"exactly {target['exactly']:g}" if "exactly" in target else f"at most {target['at_most']:g}"
    )
    return {
        "what": target["what"],
        "guard": rows["guard"].iloc[0] if len(rows) else "",
        "measured": f"{measured:.4g}",
        "95% interval": interval,
        "target": f"{limit} {target['unit']}".strip(),
        "verdict": verdict,
    }


def judge_all(table: pd.DataFrame) -> list[dict]:
    verdicts = []
    for target in tomllib.loads(TARGETS.read_text())["target"]:
        guards = target["guard"] if isinstance(target["guard"], list) else [target["guard"]]
        for guard in guards:
            chosen = table["measure"] == target["measure"]
            if "case" in target:
                chosen &= table["case"] == target["case"]
            of = {it: table[chosen & (table["guard"] == it)] for it in (guard, target.get("to"))}
            verdicts.append(judge(target, of[guard], of[target.get("to")]))
    return verdicts


def main() -> None:
    parser = argparse.ArgumentParser(prog="make bench-check", description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?", default=RESULTS, help="default: %(default)s")
    folder = parser.parse_args().folder
    if not (folder / "figures.csv").exists():
        sys.exit(f"bench-check: {folder} has no figures.csv: make bench writes it")
    verdicts = judge_all(load(folder))
    print(tabulate(verdicts, headers="keys", disable_numparse=True))
    failed = [verdict for verdict in verdicts if verdict["verdict"] != "met"]
    if failed:
        sys.exit(f"bench-check: {len(failed)} of {len(verdicts)} targets not met")


if __name__ == "__main__":
    main()
