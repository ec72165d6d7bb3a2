"""The processes that a worker started: which end with it, and which live on."""

import os
import signal
import sys
from pathlib import Path

import pytest
import trees
from test_api import START

# A process that prints its process id, and answers a signal to show that it lives. It holds the
# worker's standard output open: at the end of that output, no process is left.
HELPER = """
import os, signal, sys, time
signal.signal(signal.SIGUSR1, lambda *_: os.write(1, b"alive\\n"))
{setup}
os.write(1, b"helper %d\\n" % os.getpid())
while True: time.sleep(0.05)
"""

# As setproctitle does: it overwrites the memory of the command line and the environment.
RETITLE = """
import ctypes
fields = open("/proc/self/stat").read().rpartition(")")[2].split()
arguments, environment_end = int(fields[45]), int(fields[48])
ctypes.memset(arguments, 0, environment_end - arguments)
ctypes.memmove(arguments, b"engine: idle", 12)
ctypes.CDLL(None).prctl(15, b"VLLM::Engine", 0, 0, 0)
assert open("/proc/self/cmdline", "rb").read().startswith(b"engine: idle")
assert not open("/proc/self/environ", "rb").read().strip(b"\\0")
"""

# Before 3.11 subprocess has no process_group.
OWN_GROUP = "process_group=0" if sys.version_info >= (3, 11) else "preexec_fn=os.setpgrp"

HELPERS = {
    "same-group": ("", ""),
    "own-group": (OWN_GROUP, ""),
    "own-session": ("start_new_session=True", ""),
    "retitled": ("start_new_session=True", RETITLE),
    "ignores-sigterm": ("start_new_session=True", "signal.signal(signal.SIGTERM, signal.SIG_IGN)"),
    "stopped": ("start_new_session=True", 'os.write(1, b"helper 0\\n"); os.kill(os.getpid(), 19)'),
    "below-a-session": (
        "start_new_session=True",
        "if os.fork(): os.wait(), os._exit(0)\nos.setsid()",
    ),
}


def worker_with(start, kind: str, scope: str = "") -> tuple[trees.Worker, int]:
    """A worker and its helper, once the helper has reported."""
    options, setup = HELPERS[kind]
    helper = trees.command(HELPER.format(setup=setup))
    env = {trees.ENV_PARENT_WATCH_SCOPE: scope}
    worker = start(
        trees.command(
            f"{START}import signal, subprocess\nstart()\nsubprocess.Popen({helper}, {options})\n"
            "while True: signal.pause()"
        ),
        env=env,
    )
    word, pid = worker.line().split()
    assert word == "helper", worker.said()
    return worker, int(pid)


@pytest.mark.parametrize("kind", HELPERS)
def test_all_descendants_end(start, kind: str) -> None:
    worker, _ = worker_with(start, kind)
    worker.kill_supervisor()
    assert worker.ended() == 1
    assert worker.line() == "", "somebody is left"
    assert worker.said() == worker.death_line()


@pytest.mark.parametrize(
    ("scope", "kind"),
    [("group", "own-group"), ("group", "own-session"), ("process", "same-group")],
)
def test_processes_outside_the_scope_live(start, scope: str, kind: str) -> None:
    """They got no SIGTERM either: by default it would have ended them before the worker."""
    worker, helper = worker_with(start, kind, scope)
    worker.kill_supervisor()
    assert worker.ended() == 1
    os.kill(helper, signal.SIGUSR1)
    assert worker.line() == "alive"
    os.kill(helper, signal.SIGKILL)
    assert worker.line() == ""


DETACHED = """
import localai_parentwatch, os, signal, subprocess, sys
localai_parentwatch.start_parent_death_watcher()
env = {**os.environ, localai_parentwatch.ENV_PARENT_PID: localai_parentwatch.token()}
watches = ["-m", "localai_parentwatch", "run"] if sys.argv[1] == "watches" else []
subprocess.run(["setsid", "--fork", sys.executable, *watches, sys.argv[2]], env=env, check=True)
while True: signal.pause()
"""


@pytest.mark.parametrize("watches", [False, True], ids=["stays", "watches"])
def test_helper_that_has_detached_itself(start, tmp_path: Path, watches: bool) -> None:
    """It is no longer a descendant. If it is given the worker's token, it watches the worker."""
    file = tmp_path / "helper.py"
    file.write_text(HELPER.format(setup=""))
    worker = start(trees.command(DETACHED, "watches" if watches else "stays", file))
    word, pid = worker.line().split()
    assert word == "helper", worker.said()
    worker.kill_supervisor()
    assert worker.ended() == 1
    if not watches:
        os.kill(int(pid), signal.SIGUSR1)
        assert worker.line() == "alive"
        os.kill(int(pid), signal.SIGKILL)
    assert worker.line() == ""
    gone = f"localai-parentwatch: supervisor {worker.pid} is gone, worker {pid} exits (event)\n"
    assert worker.said() == worker.death_line() + (gone if watches else "")


# A file, as spawn and forkserver import the main module again, under another name.
_MULTIPROCESSING = """
import multiprocessing, os, signal, sys
import localai_parentwatch

def child():
    os.setsid()
    print("child", flush=True)
    signal.pause()

if __name__ == "__main__":
    localai_parentwatch.start_parent_death_watcher()
    process = multiprocessing.get_context(sys.argv[1]).Process(target=child)
    process.start()
    process.join()
    # The child gets its SIGTERM before this worker exits. So the worker must not end by itself.
    signal.pause()
"""


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_children_of_multiprocessing_in_their_own_sessions(
    start, tmp_path: Path, method: str
) -> None:
    """vLLM's engines are such children. A child of the fork server is a grandchild of the worker."""
    file = tmp_path / "main.py"
    file.write_text(_MULTIPROCESSING)
    worker = start([sys.executable, str(file), method])
    assert worker.line() == "child", worker.said()
    worker.kill_supervisor()
    assert worker.ended() == 1
    assert worker.line() == "", "somebody is left"
    assert worker.death_line() in worker.said()


@pytest.mark.parametrize(("grace", "cleans_for", "cleans_up"), [("60", 3, True), ("", 30, False)])
def test_helper_that_cleans_up(start, grace: str, cleans_for: int, cleans_up: bool) -> None:
    """A helper has the grace between SIGTERM and SIGKILL, 1 s unless set. The worker itself ends at
    once: nothing handles its SIGTERM."""
    setup = f"""
def clean_up(*_):
    time.sleep({cleans_for})
    os.write(1, b"cleaned\\n")
    os._exit(0)
signal.signal(signal.SIGTERM, clean_up)
"""
    helper = trees.command(HELPER.format(setup=setup))
    worker = start(
        trees.command(
            f"{START}import signal, subprocess\nstart()\n"
            f"subprocess.Popen({helper}, start_new_session=True)\nwhile True: signal.pause()"
        ),
        env={trees.ENV_PARENT_WATCH_GRACE: grace},
    )
    assert worker.line().startswith("helper "), worker.said()
    worker.kill_supervisor()
    assert worker.ended() == 1
    assert worker.said() == worker.death_line()
    assert worker.line() == ("cleaned" if cleans_up else "")
    assert worker.line() == ""
