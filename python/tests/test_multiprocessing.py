"""Children of multiprocessing, with each start method. e2e/ tests fork and spawn when the supervisor
dies (F14, F15). The parent of a child of the fork server is the fork server."""

import contextlib
import sys
import uuid
from pathlib import Path

import pytest
import trees

# A file, as spawn and forkserver import the main module again, under another name.
_MAIN = """
import multiprocessing, multiprocessing.shared_memory, os, signal, sys, threading
import json
import localai_parentwatch

def say(*what):
    print(json.dumps(what), flush=True)

def child(armed):
    before = localai_parentwatch.status().state.name
    outcome = localai_parentwatch.start_parent_death_watcher() if armed else None
    watched = localai_parentwatch.status().watched
    say("child", before, armed and outcome.name, os.getpid(), os.getppid(), watched)
    sys.stdin = None
    signal.pause()

def main(method, armed, memory):
    outcome = localai_parentwatch.start_parent_death_watcher()
    if "NAMES_ITSELF" in os.environ:
        os.environ[localai_parentwatch.ENV_PARENT_PID] = localai_parentwatch.token()
    shared = multiprocessing.shared_memory.SharedMemory(memory, create=True, size=4096)
    process = multiprocessing.get_context(method).Process(target=child, args=(armed == "armed",))
    process.start()
    say("main", outcome.name, os.getpid())
    process.join()
    # The child has its SIGTERM before this worker exits: the worker must not end by itself.
    signal.pause()

if __name__ == "__main__":
    main(*sys.argv[1:])
"""


@pytest.fixture
def memory():
    name = f"parentwatch-{uuid.uuid4().hex[:12]}"
    yield Path("/dev/shm", name)
    with contextlib.suppress(FileNotFoundError):
        Path("/dev/shm", name).unlink()


@pytest.fixture
def main(tmp_path: Path) -> Path:
    file = tmp_path / "main.py"
    file.write_text(_MAIN)
    return file


def tree_of(worker: trees.Worker) -> tuple[list, list]:
    """What the worker and its child printed, in any order."""
    said = {line[0]: line[1:] for line in (worker.report(), worker.report())}
    return said["main"], said["child"]


@pytest.mark.parametrize("armed", ["armed", "unarmed"])
@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_all_end_and_no_shared_memory_is_left(
    start, main: Path, memory: Path, method: str, armed: str
) -> None:
    worker = start([sys.executable, str(main), method, armed, memory.name])
    (outcome, pid), (before, started, child, parent, watched) = tree_of(worker)
    assert (outcome, pid, before) == ("ARMED", worker.pid, "NOT_STARTED")
    if method != "forkserver":
        assert parent == worker.pid
    if armed == "armed":
        assert (started, watched) == ("ARMED", [parent])
    assert memory.exists()
    worker.kill_supervisor()
    assert worker.ended() == 1
    trees.wait_until(
        lambda: not Path(f"/proc/{child}").exists() or child in trees.children(),
        "the child is an orphan",
    )
    trees.wait_until(lambda: not memory.exists(), "the resource tracker cleans /dev/shm")
    # The fixture checks that no process is left.
    assert worker.death_line() in worker.said()


def test_child_of_the_fork_server_with_the_worker_s_token(start, main: Path, memory: Path) -> None:
    """With the scope "process" nothing else ends it, and the fork server lives as long as its
    children."""
    env = {trees.ENV_PARENT_WATCH_SCOPE: "process", "NAMES_ITSELF": "1"}
    worker = start([sys.executable, str(main), "forkserver", "armed", memory.name], env=env)
    _, (_, started, child, fork_server, watched) = tree_of(worker)
    assert (started, watched) == ("ARMED", [fork_server, worker.pid])
    worker.kill_supervisor()
    assert worker.ended() == 1
    gone = f"localai-parentwatch: supervisor {worker.pid} is gone, worker {child} exits (event)"
    trees.wait_until(lambda: gone in worker.said(), "the child has seen the worker go")


def test_pool_in_a_started_process(tmp_path: Path) -> None:
    """A pool of workers works as before: results, exceptions, and its end."""
    file = tmp_path / "pool.py"
    file.write_text(
        """
import concurrent.futures, multiprocessing, os, sys
import localai_parentwatch

def initialise():
    assert localai_parentwatch.start_parent_death_watcher() is localai_parentwatch.Status.ARMED

def watched(number):
    return number, localai_parentwatch.status().watched == (os.getppid(),)

if __name__ == "__main__":
    localai_parentwatch.start_parent_death_watcher()
    context = multiprocessing.get_context(sys.argv[1])
    with concurrent.futures.ProcessPoolExecutor(2, context, initialise) as pool:
        assert list(pool.map(watched, range(8))) == [(number, True) for number in range(8)]
    print("done")
"""
    )
    for method in ("fork", "spawn", "forkserver"):
        ran = trees.run([sys.executable, str(file), method])
        assert (ran.returncode, ran.stdout) == (0, "done\n"), ran.stderr
        assert "localai-parentwatch:" not in ran.stderr
