#!/usr/bin/env python3
"""GPU memory: from the supervisor's SIGKILL until NVML tells that what its worker held is free.

The trees are the bench's own: supervisor.c starts one worker.c, as the leader of a group. It needs the
NVIDIA driver, no toolkit. Without a GPU it says so and that is all. It writes
target/bench/gpu.csv, which has the columns of gpu.csv beside this file.
"""

from __future__ import annotations

import argparse
import csv
import ctypes
import math
import os
import select
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import date
from pathlib import Path
from statistics import median

from tabulate import tabulate

# struct report of bench.h, and two of its kinds.
REPORT = struct.Struct("@iiii5q")
WORKER_READY, HELPER_READY = 1, 2
READY_S = 120
# What is not free by then stays.
NEVER_S = 5
INTERVAL_S = 2.0
PR_SET_CHILD_SUBREAPER = 36

FOLDER = Path("target/bench").resolve()
COLUMNS = [
    "date",
    "machine",
    "commit",
    "worker",
    "guard",
    "what",
    "samples",
    "median_ms",
    "low_ms",
    "high_ms",
]

GUARDS = {"watch": "parentwatch", "pdeathsig": "PDEATHSIG", "poll-2s": "2 s poller"}
HOLDERS = {
    "worker": ("CUDA, {gib} GiB", []),
    "group": ("CUDA, engine in the worker's group, {gib} GiB", ["--helper", "group"]),
    "session": ("CUDA, engine in a session of its own, {gib} GiB", ["--helper", "session"]),
}


class Memory(ctypes.Structure):
    """nvmlMemory_t, in bytes."""

    _fields_ = (
        ("total", ctypes.c_ulonglong),
        ("free", ctypes.c_ulonglong),
        ("used", ctypes.c_ulonglong),
    )


class Gpu:
    """The first GPU, by NVML. OSError: there is none."""

    def __init__(self) -> None:
        self.nvml = ctypes.CDLL("libnvidia-ml.so.1")
        self.device = ctypes.c_void_p()
        self.call("nvmlInit_v2")
        self.call("nvmlDeviceGetHandleByIndex_v2", 0, ctypes.byref(self.device))

    def call(self, name: str, *arguments: object) -> None:
        error = getattr(self.nvml, name)(*arguments)
        if error != 0:
            raise OSError(f"{name}: NVML error {error}")

    def used(self) -> int:
        memory = Memory()
        self.call("nvmlDeviceGetMemoryInfo", self.device, ctypes.byref(memory))
        return memory.used

    def name(self) -> str:
        model, driver = ctypes.create_string_buffer(96), ctypes.create_string_buffer(96)
        self.call("nvmlDeviceGetName", self.device, model, len(model))
        self.call("nvmlSystemGetDriverVersion", driver, len(driver))
        return f"{model.value.decode()}; driver {driver.value.decode()}"


class Tree:
    """A supervisor, its worker, and the engine if there is one."""

    def __init__(self, folder: Path, guard: str, gib: int, extra: list[str], log: int) -> None:
        arguments = [folder / "supervisor", "1", "group", folder / "worker", guard, "--gpu", str(gib)]
        self.supervisor = subprocess.Popen(
            [*arguments, *extra], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log
        )
        self.pidfds: dict[int, int] = {}
        deadline = time.monotonic() + READY_S
        expected = {WORKER_READY, HELPER_READY} if extra else {WORKER_READY}
        assert self.supervisor.stdout is not None
        while self.pidfds.keys() != expected:
            left = deadline - time.monotonic()
            readable, _, _ = select.select([self.supervisor.stdout], [], [], max(0, left))
            data = os.read(self.supervisor.stdout.fileno(), REPORT.size) if readable else b""
            if len(data) != REPORT.size:
                self.end()
                raise RuntimeError(f"a worker did not become ready; see {folder}/stderr.log")
            kind, pid, *_ = REPORT.unpack(data)
            self.pidfds[kind] = os.pidfd_open(pid)

    def end(self) -> None:
        """Nobody is left: whoever is not held by a pidfd ends with its stdin."""
        for pidfd in self.pidfds.values():
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            os.close(pidfd)
        self.supervisor.kill()
        self.supervisor.communicate()
        while True:
            try:
                os.waitpid(-1, 0)
            except ChildProcessError:
                return


@contextmanager
def tree(folder: Path, guard: str, gib: int, extra: list[str], log: int) -> Iterator[Tree]:
    it = Tree(folder, guard, gib, extra, log)
    try:
        yield it
    finally:
        it.end()


def is_free(gpu: Gpu, before: int, held: int) -> bool:
    return gpu.used() - before < held * 0.02 + (8 << 20)


def measure(
    gpu: Gpu, folder: Path, guard: str, gib: int, extra: list[str], log: int, phase: float
) -> tuple[float, float]:
    """Milliseconds until the worker was gone, and until the memory was free.

    `phase`: where in a poller's interval the supervisor dies."""
    before = gpu.used()
    with tree(folder, guard, gib, extra, log) as it:
        held = gpu.used() - before
        if held < gib << 29:
            raise RuntimeError(
                f"expected {gib} GiB more in use, not {held >> 20} MiB: is the GPU shared?"
            )
        time.sleep(0.3 + phase * INTERVAL_S)
        gone = free = math.inf
        worker = select.poll()
        worker.register(it.pidfds[WORKER_READY], select.POLLIN)
        begin = time.monotonic()
        it.supervisor.kill()
        while math.inf in (gone, free) and time.monotonic() - begin < NEVER_S:
            # It returns at once when the worker is gone.
            if worker.poll(1) and gone == math.inf:
                gone = time.monotonic() - begin
            if free == math.inf and is_free(gpu, before, held):
                free = time.monotonic() - begin
            time.sleep(0 if gone == math.inf else 0.001)
    # What was left is free before the next tree.
    deadline = time.monotonic() + NEVER_S
    while not is_free(gpu, before, held) and time.monotonic() < deadline:
        time.sleep(0.02)
    return gone * 1e3, free * 1e3


def text(samples: list[float]) -> str:
    low, high = min(samples), max(samples)
    if low == math.inf:
        return "never"
    return f"{median(samples):.0f} [{low:.0f}..{high:.0f}]"


def main() -> None:
    parser = argparse.ArgumentParser(prog="make bench-gpu", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="default: %(default)s")
    parser.add_argument("--gib", type=int, default=20, help="default: %(default)s")
    arguments = parser.parse_args()
    try:
        gpu = Gpu()
    except OSError as reason:
        print(f"SKIPPED: bench-gpu: no GPU: {reason}")
        return
    # The orphans become children of this process, which can then wait for them.
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, ctypes.c_ulong(1))
    for name in list(os.environ):
        if name.startswith("LOCALAI_BACKEND_PARENT"):
            del os.environ[name]

    samples: dict[tuple[str, str], list[tuple[float, float]]] = {}
    with (FOLDER / "stderr.log").open("a") as log:
        for round_ in range(arguments.rounds):
            for holder, (_, extra) in HOLDERS.items():
                for guard in GUARDS:
                    phase = round_ / arguments.rounds if guard == "poll-2s" else 0
                    sample = measure(gpu, FOLDER, guard, arguments.gib, extra, log.fileno(), phase)
                    samples.setdefault((holder, guard), []).append(sample)

    machine = f"{gpu.name()}; Linux {os.uname().release}"
    print(f"{machine}: {arguments.gib} GiB held, {arguments.rounds} rounds")
    print(
        "From the supervisor's SIGKILL until the worker is gone, and until the memory is free, in ms:"
    )
    table = []
    for holder, (name, _) in HOLDERS.items():
        row = {"the memory is held by": name.format(gib=arguments.gib)}
        for guard, title in GUARDS.items():
            gone, free = zip(*samples[holder, guard], strict=True)
            row |= {f"{title}: gone": text(list(gone)), f"{title}: free": text(list(free))}
        table.append(row)
    print(tabulate(table, headers="keys", disable_numparse=True))
    write(machine, arguments.gib, samples)


def write(machine: str, gib: int, samples: dict[tuple[str, str], list[tuple[float, float]]]) -> None:
    git = ["git", "describe", "--always", "--dirty"]
    commit = subprocess.run(git, stdout=subprocess.PIPE, text=True, check=False).stdout.strip()
    with (FOLDER / "gpu.csv").open("w", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(COLUMNS)
        for (holder, guard), pairs in samples.items():
            for what, times in zip(("gone", "free"), zip(*pairs, strict=True), strict=True):
                figures = (f"{figure:.0f}" for figure in (median(times), min(times), max(times)))
                worker = HOLDERS[holder][0].format(gib=gib)
                rows.writerow(
                    [
                        date.today(),
                        machine,
                        commit or "unknown",
                        worker,
                        guard,
                        what,
                        len(times),
                        *figures,
                    ]
                )


if __name__ == "__main__":
    try:
        main()
    except RuntimeError as reason:
        sys.exit(f"bench-gpu: {reason}")
    except KeyboardInterrupt:
        sys.exit(130)
