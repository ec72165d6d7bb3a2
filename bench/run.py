"""Measures, and writes figures, pictures and a page into docs/benchmarks. See README.md."""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from datetime import date
from importlib import metadata
from pathlib import Path

import pandas as pd
import psutil

import figures
import report

BUILT = Path("target/bench")
HERE = Path(__file__).parent
# What the driver takes: the default, with --quick, and what it is.
OPTIONS = {
    "runs": (5, 1, "how often everything is measured"),
    "rounds": (40, 15, "per run, each situation of a worker"),
    "helpers": (1, 1, "per run, how often a helper is waited for (1 to 3 s each)"),
    "faces": (30, 10, "per run, each face"),
    "crowds": (2, 1, "per run, crowds of 300 and 1,000; smaller ones more often"),
    "exec-crowds": (1, 0, "per run, crowds of 1,000 by exec (half a minute each)"),
    "polled": (10, 6, "per run, samples of each poller"),
    "arming": (40, 10, "per run, processes that arm"),
    "idle": (6, 3, "per run, seconds that idle workers are watched for"),
    "settle-us": (2000, 2000, "from ready to the kill"),
    "mib": (0, 0, "memory that every worker in C holds"),
}
RESIDENT_GIB = ((0, 1, 2, 4, 8), (0, 1))
# What the rest of the machine keeps while a supervisor holds its memory.
SPARE_GIB = 2
GIB = 1 << 30


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__.splitlines()[0])
    for name in ("so", "archive", "program", "wheel"):
        parser.add_argument(f"--{name}", type=Path, required=True, help=argparse.SUPPRESS)
    parser.add_argument("--quick", action="store_true", help="one short run, to see that it works")
    parser.add_argument(
        "--against", type=Path, metavar="PREFIX", help="compare with the library installed there, too"
    )
    parser.add_argument(
        "--folder",
        type=Path,
        help="default: docs/benchmarks; with --quick or --against a folder of target/bench",
    )
    parser.add_argument(
        "--resident", metavar="GIB,...", help="what supervisors hold; default: 0,1,2,4,8"
    )
    for name, (full, quick, text) in OPTIONS.items():
        parser.add_argument(f"--{name}", type=int, help=f"{text}; default: {full}, quick: {quick}")
    arguments = parser.parse_args()
    for name, defaults in OPTIONS.items():
        name = name.replace("-", "_")
        if getattr(arguments, name) is None:
            setattr(arguments, name, defaults[arguments.quick])
    if arguments.resident is None:
        arguments.resident = ",".join(map(str, RESIDENT_GIB[arguments.quick]))
    if arguments.folder is None:
        if arguments.quick:
            arguments.folder = BUILT / "quick"
        elif arguments.against:
            arguments.folder = BUILT / "against"
        else:
            arguments.folder = report.RESULTS
    return arguments


def fits(resident: str) -> tuple[list[str], list[str]]:
    """The sizes that this machine has the memory for, and the others."""
    sizes = [size for size in resident.split(",") if size]
    room = psutil.virtual_memory().available / GIB - SPARE_GIB
    return [s for s in sizes if int(s) <= max(room, 0)], [s for s in sizes if int(s) > max(room, 0)]


def about(arguments: argparse.Namespace, skipped: list[str]) -> dict:
    model = "unknown processor"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"], stdout=subprocess.PIPE, text=True, check=False
    ).stdout.strip()
    return {
        "date": date.today().isoformat(),
        "commit": commit or "unknown",
        "quick": arguments.quick,
        "machine": f"{len(os.sched_getaffinity(0))} x {model}, "
        f"{psutil.virtual_memory().total / GIB:.0f} GiB, Linux {platform.release()}",
        "load": round(os.getloadavg()[0], 2),
        "options": {name: getattr(arguments, name.replace("-", "_")) for name in OPTIONS},
        "skipped": skipped,
        "psutil": metadata.version("psutil"),
        "ipykernel": metadata.version("ipykernel"),
        "python": platform.python_version(),
    }


def measure(arguments: argparse.Namespace, resident: list[str]) -> Path:
    """Runs the driver. Its processes end with it, and it ends with us: see `lifeline` in bench.h."""
    command = [
        BUILT / "driver",
        "--program",
        arguments.program.resolve(),
        "--resident",
        ",".join(resident),
    ]
    for name in OPTIONS:
        command += [f"--{name}", str(getattr(arguments, name.replace("-", "_")))]
    if arguments.against:
        command += ["--against", (arguments.against / "lib").resolve()]
    path = BUILT / "samples.csv"
    with path.open("w") as samples:
        ended = subprocess.run(command, stdout=samples, check=False)
    if ended.returncode != 0:
        sys.exit(f"bench: the driver ended with {ended.returncode}")
    return path


def sizes(arguments: argparse.Namespace) -> pd.DataFrame:
    files = {
        "shared library": arguments.so,
        "static library": arguments.archive,
        "wheel": arguments.wheel,
        "program": arguments.program,
    }
    rows = [(name, "now", path) for name, path in files.items()]
    if arguments.against:
        rows.append(("shared library", "before", arguments.against / "lib" / arguments.so.name))
    return pd.DataFrame(
        {
            "measure": "size",
            "case": name,
            "guard": guard,
            "unit": "KiB",
            "run": 1,
            "round": 0,
            "value": path.stat().st_size / 1024,
        }
        for name, guard, path in rows
    )


def gpu_table() -> Path:
    """Measured here where there is a GPU, else the table that is in the repository."""
    here = BUILT / "gpu.csv"
    here.unlink(missing_ok=True)
    subprocess.run([sys.executable, HERE / "gpu.py"], check=True)
    return here if here.exists() else HERE / "gpu.csv"


def main() -> int:
    arguments = parse_arguments()
    resident, skipped = fits(arguments.resident)
    for size in skipped:
        print(f"SKIPPED: a supervisor that holds {size} GiB: the machine has too little free memory")
    facts = about(arguments, skipped)
    gpu = gpu_table()
    samples = figures.read(measure(arguments, resident))
    samples = pd.concat([samples, sizes(arguments)], ignore_index=True)

    folder = arguments.folder
    folder.mkdir(parents=True, exist_ok=True)
    figures.make(samples).to_csv(folder / "figures.csv", index=False, float_format="%.6g")
    figures.by_run(samples).to_csv(folder / "runs.csv", index=False, float_format="%.6g")
    (folder / "gpu.csv").write_text(gpu.read_text())
    (folder / "about.json").write_text(json.dumps(facts, indent=2, ensure_ascii=False) + "\n")
    report.write(folder)
    print((folder / "README.md").read_text())
    print(f"The figures, the pictures and this page are in {folder}.")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
