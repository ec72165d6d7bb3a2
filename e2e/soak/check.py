"""Checks that the soak finds faults: in watchers that are known to be wrong, in trees that leave
something behind, and in workers that never serve. Exits with status 1 if it misses one."""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from driver.cells import Cells
from driver.deadline import Deadline
from driver.programs import Programs
from driver.roles import SHELL_WRAPPER, Process
from driver.tree import Tree
from soak.lanes import Soak, run
from soak.outcome import MOST_BROKEN, Outcome
from soak.plays import Play, Stage, Vigil, shared_memory_prefix
from soak.schedule import Schedule

TARGET = Path(__file__).parent.parent.parent / "target"
LANES = 6
SEED = 1

# The failure that each control must show, and in how many trees. The naive control needs more trees: it
# polls every 50 ms, and the states that mislead it last shorter.
CONTROLS = {
    "poller": ("missed", 24),
    "poller-python": ("missed", 24),
    "pdeathsig": ("false kill", 24),
    "naive": ("false kill", 120),
}

_HIGH_DESCRIPTOR = 90


def leave_process(stage: Stage) -> None:
    """driver ── sh † ── sleep, unknown to the driver"""
    subprocess.run(["sh", "-c", "sleep 3600 &"], check=True)


def leave_descriptor(stage: Stage) -> None:
    """driver, leaks a descriptor"""
    os.dup(0)


def leave_shared_memory(stage: Stage) -> None:
    """driver, leaves shared memory, as a helper does that did not clean up"""
    Path("/dev/shm", f"{shared_memory_prefix()}left").touch()


def never_serve(stage: Stage) -> None:
    """driver ── supervisor ── worker †, or below a wrapper: cannot listen, and ends by itself

    The log also has the line of another worker, which its watcher has ended."""
    stage.tree.see_a_death()
    via = stage.random.choice([[], SHELL_WRAPPER])
    stage.tree.supervisor().worker(via=via, steps=["--refuse", "listen", "EADDRINUSE"])


def end_early(stage: Stage) -> None:
    """driver ── supervisor ── worker †, ends early with the watcher's status, but without its line"""
    stage.tree.supervisor().worker(via=["false"])


def be_killed_early(stage: Stage) -> None:
    """driver ── supervisor ── worker †, killed before it serves"""
    stage.tree.supervisor().worker(via=["sh", "-c", "kill -KILL $$"])


class ForgetfulVigil(Vigil):
    """A vigil over workers that leak a descriptor."""

    def _prove(self) -> None:
        for worker in self.workers:
            worker.ask("replace", _HIGH_DESCRIPTOR)
        super()._prove()


LEAKS = {
    "processes": leave_process,
    "descriptors": leave_descriptor,
    "/dev/shm entries": leave_shared_memory,
    "descriptors of a worker": lambda stage: ForgetfulVigil(stage).run(),
}

ENDS_EARLY = {
    "ends before it serves": end_early,
    "is killed before it serves": be_killed_early,
}

_ONE_PORT = """
import os, socket, sys
settings = {"ip_nonlocal_bind": "1", "ip_autobind_reuse": "1", "ip_local_port_range": "40000 40000"}
for name, value in settings.items():
    with open(f"/proc/sys/net/ipv4/{name}", "w") as setting:
        setting.write(value)
held = socket.socket()
held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
held.bind(("127.0.0.1", 0))
held.set_inheritable(True)
os.execvp(sys.argv[1], sys.argv[1:])
"""
"""Executes a program in a network namespace with a single port. A socket that does not listen has bound
that port. Another socket can bind it too if both have SO_REUSEADDR."""


def shares_port(programs: Programs, name: str) -> bool:
    """Whether a program serves on the port that another socket has bound. Only one of the two can
    listen. A program that binds without SO_REUSEADDR finds no port and ends."""
    with tempfile.TemporaryDirectory(prefix="parentwatch-soak-") as folder:
        tree = Tree(programs, name, Path(folder, "stderr.log"))
        is_worker = name in programs.workers
        command = tree.worker_command(name) if is_worker else tree.supervisor_command(name)
        started = tree.start(["unshare", "--net", sys.executable, "-c", _ONE_PORT, *command])
        serves = not Process(tree, name, started).sees_end(Deadline())
        log = tree.log()
        tree.close(failed=False)
    if not serves and "address already in use" not in log.lower():
        raise RuntimeError(f"{name} did not end for want of a port; the log:\n{log}")
    return serves


def ports_are_shared(programs: Programs) -> int:
    """Returns how many programs take a port that another socket has bound."""
    may = ["unshare", "--net", "sh", "-c", "echo 1 >/proc/sys/net/ipv4/ip_nonlocal_bind"]
    if subprocess.run(may, capture_output=True, check=False).returncode != 0:
        print("SKIPPED: ports of others: needs the right to make a network namespace and to change it")
        return 0
    wrong = 0
    for name in ["supervisor", *programs.workers]:
        if shares_port(programs, name):
            wrong += 1
            print(f"wrong {name}: takes a port that another socket has")
        else:
            print(f"ok    {name}: takes no port that another socket has", flush=True)
    return wrong


def main() -> int:
    programs = Programs(TARGET / "e2e", TARGET / "prefix")
    wrong = 0

    def soak(schedule: Schedule, only: list[int]) -> Outcome:
        with tempfile.TemporaryDirectory(prefix="parentwatch-soak-") as folder:
            return run(Soak(schedule, programs, Path(folder), LANES, time.monotonic(), only))

    def expect(name: str, what: str, outcome: Outcome) -> int:
        found = [failure for failure in outcome.failures if failure.what == what]
        if not found:
            print(f"wrong {name}: no {what} in {outcome.trees.total()} trees")
            return 1
        print(f"ok    {name}: {what}, {len(found)} times in {outcome.trees.total()} trees", flush=True)
        return 0

    for control, (what, trees) in CONTROLS.items():
        wrong += expect(control, what, soak(Schedule(SEED, [control]), list(range(trees))))
    for name, play in LEAKS.items():
        wrong += expect(name, "leak", soak(Schedule(SEED, ["c"], {name: Play(play)}), [0]))
    for name, play in ENDS_EARLY.items():
        wrong += expect(name, "false kill", soak(Schedule(SEED, ["c"], {name: Play(play)}), [0]))
    for worker in Cells(Path(__file__).parent.parent).workers:
        schedule = Schedule(SEED, [worker], {"never serves": Play(never_serve)})
        outcome = soak(schedule, list(range(MOST_BROKEN)))
        wrong += expect(f"never serves, {worker}", "broken", outcome)
        if not outcome.is_good:
            print(f"wrong never serves, {worker}: {MOST_BROKEN} broken workers fail the run")
            wrong += 1
        outcome.add(soak(schedule, [MOST_BROKEN]))
        if outcome.is_good:
            print(f"wrong never serves, {worker}: {MOST_BROKEN + 1} broken workers do not fail the run")
            wrong += 1
    wrong += ports_are_shared(programs)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
