#!/usr/bin/env python3
"""Two Ray nodes on this machine: kill one's raylet, and see what becomes of the engines of its actors.

Every actor starts an engine by `localai-parentwatch exec`. One more actor starts its engine with the
guard switched off, to show what happens without it. The exit status is 1 when something went wrong.
"""

import argparse
import contextlib
import ctypes
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

# Before Ray is imported, which reads it: nothing is sent anywhere.
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
# The supervisor of an engine is the actor that starts it, not whoever started this program.
os.environ.pop("LOCALAI_BACKEND_PARENT_PID", None)

import ray
from ray.cluster_utils import Cluster
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

ENGINE = Path(__file__).resolve().parent / "engine.py"
PR_SET_CHILD_SUBREAPER = 36

# How long an engine may outlive its raylet, in seconds. Ray's worker ends first, then the engine.
GONE_LIMIT = 30
# How long Ray may take to find the node dead and to place its actors anew.
PLACED_LIMIT = 120
# How long the processes of the cluster have to end by themselves, and by SIGKILL.
STOP_LIMIT = 10
KILL_LIMIT = 30
PAUSE = 0.01

# How often Ray asks a node for its health, and when it gives the node up. The defaults take longer.
HEALTH = {
    "health_check_initial_delay_ms": 1000,
    "health_check_period_ms": 1000,
    "health_check_timeout_ms": 2000,
    "health_check_failure_threshold": 5,
}


class FailedError(Exception):
    """Something is not as it should be."""


@ray.remote(num_cpus=1, max_restarts=-1, max_task_retries=-1)
class Backend:
    """Starts an engine, as actors of inference servers do.

    When an actor's process ends, Ray kills its children, but not their children.
    """

    def __init__(self, guard, is_guarded):
        self._engine = subprocess.Popen(
            [guard, "exec", "--", sys.executable, str(ENGINE)],
            env=os.environ | {"LOCALAI_BACKEND_PARENT_WATCH": "on" if is_guarded else "off"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
        )
        self._pid, self._port = map(int, self._engine.stdout.readline().split())

    def place(self):
        """Where it runs: the node, the actor's process, the one that serves and its port."""
        return ray.get_runtime_context().get_node_id(), os.getpid(), self._pid, self._port


class Engine:
    """An engine, as it was when it was asked for."""

    def __init__(self, name, backend):
        self.name, self.backend = name, backend
        place = ray.get(backend.place.remote(), timeout=PLACED_LIMIT)
        self.node, actor, self.pid, self.port = place
        self.actor_pidfd, self.pidfd = os.pidfd_open(actor), os.pidfd_open(self.pid)

    def is_gone(self, timeout=0):
        """Whether the process has ended, or ends within that time."""
        return has_ended(self.pidfd, timeout)

    def actor_is_gone(self, timeout):
        """Whether the actor's process has ended, or ends within that time."""
        return has_ended(self.actor_pidfd, timeout)

    def require_answer(self):
        """Fails unless it serves."""
        url = f"http://127.0.0.1:{self.port}/"
        try:
            with urllib.request.urlopen(url, timeout=STOP_LIMIT) as answer:
                text = answer.read()
        except OSError as error:
            raise FailedError(f"{self} does not answer: {error}") from None
        if text != b"OK":
            raise FailedError(f"{self} answers {text!r}")

    def __str__(self):
        return f"engine {self.name} (process {self.pid}, node {self.node[:8]})"


def show(guard):
    """Runs the whole; what is not as it should be is raised."""
    arguments = {"num_cpus": 4, "object_store_memory": 80 << 20, "include_dashboard": False}
    with running_cluster(arguments | {"_system_config": HEALTH}) as cluster:
        doomed = cluster.add_node(num_cpus=2, object_store_memory=80 << 20)
        ray.init(address=cluster.address, log_to_driver=False)

        def start(name, node, is_guarded=True):
            # Soft: once the node is dead, another one will do.
            affinity = NodeAffinitySchedulingStrategy(node.node_id, soft=True)
            backend = Backend.options(scheduling_strategy=affinity).remote(guard, is_guarded)
            engine = Engine(name, backend)
            if engine.node != node.node_id:
                raise FailedError(f"{engine} should be on node {node.node_id[:8]}")
            engine.require_answer()
            say(f"{engine} answers")
            return engine

        staying = start("A", cluster.head_node)
        going = start("B", doomed)
        unguarded = start("C, without the guard,", doomed, is_guarded=False)

        raylet = doomed.all_processes["raylet"][0].process
        say(f"killing raylet {raylet.pid} of node {doomed.node_id[:8]} with SIGKILL")
        raylet.kill()
        killed = time.monotonic()
        # Ray's workers take a raylet that nobody has reaped for one that lives.
        raylet.wait()
        if not going.actor_is_gone(GONE_LIMIT):
            raise FailedError(f"the actor of {going} is alive {GONE_LIMIT} s after its raylet")
        say(f"the actor's process of {going} is gone after {since(killed)}")
        if not going.is_gone(GONE_LIMIT):
            raise FailedError(f"{going} is alive {GONE_LIMIT} s after its raylet")
        say(f"{going} is gone after {since(killed)}")
        staying.require_answer()
        say(f"{staying} serves on")

        for old in (going, unguarded):
            new = Engine(old.name, old.backend)
            if new.node != staying.node:
                raise FailedError(f"{new} should be on node {staying.node[:8]}")
            new.require_answer()
            say(f"{new} answers after {since(killed)}: Ray has placed its actor anew")
        if staying.is_gone():
            raise FailedError(f"{staying} has ended")
        staying.require_answer()
        if unguarded.is_gone():
            raise FailedError(f"{unguarded} did not survive: this shows nothing")
        unguarded.require_answer()
        say(f"the old {unguarded} still answers, and nobody needs it")


@contextlib.contextmanager
def running_cluster(arguments):
    """A cluster with its head. Whatever happens, none of its processes is left."""
    cluster = None
    try:
        # Ray's own way to end the processes with this one is to kill a process group.
        cluster = Cluster(initialize_head=True, head_node_args=arguments, shutdown_at_exit=False)
        yield cluster
    finally:
        try:
            ray.shutdown()
            if cluster:
                cluster.shutdown()
        finally:
            end_children()


def has_ended(pidfd, timeout):
    """Whether that process has ended, or ends within that time."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(timeout * 1000))


def end_children():
    """Ends and reaps every child. All that is left of the cluster is among them: we are a subreaper."""
    begin, asked = time.monotonic(), set()
    while pids := children():
        took = time.monotonic() - begin
        if took > STOP_LIMIT + KILL_LIMIT:
            raise FailedError(f"processes do not end: {pids}")
        for pid in pids:
            # Nobody else reaps it, so the number is its own.
            if os.waitpid(pid, os.WNOHANG) != (0, 0):
                continue
            if took > STOP_LIMIT:
                os.kill(pid, signal.SIGKILL)
            elif pid not in asked:
                asked.add(pid)
                os.kill(pid, signal.SIGTERM)
        time.sleep(PAUSE)


def children():
    """The children of this process, on whichever thread they were started."""
    return [
        int(pid)
        for path in Path("/proc/self/task").glob("*/children")
        for pid in path.read_text().split()
    ]


def since(begin):
    """The time since then, for a person."""
    return f"{time.monotonic() - begin:.3f} s"


def say(line):
    """Writes a line at once."""
    print(f"cluster: {line}", flush=True, file=sys.__stdout__)


def main():
    """Runs the example; the result is the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--guard",
        metavar="PATH",
        default="localai-parentwatch",
        help="the program localai-parentwatch (default: the one in PATH)",
    )
    guard = parser.parse_args().guard
    guard = shutil.which(guard) or parser.error(f"no such program: {guard}")
    # A stop asked for by a signal cleans up too.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    if ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError("cannot become a subreaper")
    # Ray's files and sockets are in there. The path must be short.
    with tempfile.TemporaryDirectory(prefix="cluster-", ignore_cleanup_errors=True) as directory:
        os.environ["RAY_TMPDIR"] = directory
        try:
            # What Ray tells of its nodes goes to stderr, our lines to stdout.
            with contextlib.redirect_stdout(sys.stderr):
                show(os.path.abspath(guard))
        except (FailedError, ray.exceptions.RayError) as error:
            say(f"FAILED: {error}")
            return 1
    say("ok")
    return 0


if __name__ == "__main__":
    sys.exit(main())
