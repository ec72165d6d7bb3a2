"""The tests of the installed package. They never see its source: see make/python-tests.mk."""

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import localai_parentwatch
import pytest
import trees

# A shell makes its background jobs ignore this signal, and every program of the tests would inherit
# that.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def driver() -> Iterator[None]:
    """The process that runs the tests adopts the orphans, and never starts a watcher itself."""
    trees.become_subreaper()
    yield
    assert localai_parentwatch.status().state != localai_parentwatch.Status.ARMED
    assert trees.WATCHER_THREAD not in trees.threads(os.getpid())


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (
        trees.ENV_PARENT_WATCH,
        trees.ENV_PARENT_WATCH_INTERVAL,
        trees.ENV_PARENT_WATCH_SCOPE,
        trees.ENV_PARENT_WATCH_GRACE,
        trees.ENV_PARENT_PID,
    ):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., trees.Worker]]:
    """Starts a supervisor, and the program below it as the worker. Both must be gone when the test
    ends."""
    workers: list[trees.Worker] = []

    def start(command: list[str], env: trees.Environment = None) -> trees.Worker:
        worker = trees.Worker(command, env, tmp_path / f"stderr-{len(workers)}.log")
        workers.append(worker)
        return worker

    yield start
    for worker in workers:
        worker.close()
    left = trees.leave_nobody()
    assert not left, f"did not end by themselves: {left}"
