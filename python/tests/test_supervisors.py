"""Runs the snippets of docs/supervisors.md unchanged."""

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import trees

PROGRAM = Path(sys.executable).with_name("localai-parentwatch")

# Shell code in the child that sets TOKEN to what localai_parentwatch.token() returns in the supervisor.
TOKEN = "TOKEN=$PPID@$(cut -d ' ' -f 22 /proc/$PPID/stat)@$(stat -Lc %i /proc/$PPID/ns/pid)\n"

BARE = "import os, signal\nos.write(1, b'up\\n')\nwhile True: signal.pause()\n"
LINKED = f"import localai_parentwatch\nlocalai_parentwatch.start_parent_death_watcher()\n{BARE}"


def snippets(language: str) -> list[str]:
    text = Path(os.environ["PACKAGE_DOCS"], "supervisors.md").read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


@pytest.fixture
def run(start, tmp_path: Path) -> Callable[..., trees.Worker]:
    """Runs a command in a folder with the program ./worker. The command has its own supervisor."""

    def run(command: list[str], worker: str) -> trees.Worker:
        (tmp_path / "worker").write_text(f"#!{sys.executable} -I\n{worker}")
        (tmp_path / "worker").chmod(0o755)
        path = f"{PROGRAM.parent}:{os.environ['PATH']}"
        started = start(["/usr/bin/env", "-C", str(tmp_path), *command], env={"PATH": path})
        assert started.line() == "up", started.said()
        return started

    return run


def test_every_snippet_is_run_here() -> None:
    counts = {language: len(snippets(language)) for language in ("sh", "python", r"\w+")}
    assert counts == {"sh": 2, "python": 1, r"\w+": 3}


def test_a_worker_that_cannot_be_changed(run) -> None:
    worker = run(shlex.split(snippets("sh")[0]), BARE)
    worker.kill_supervisor()
    assert worker.line() == "", "somebody is left"
    assert worker.ended() == -signal.SIGTERM


def test_subprocess(run) -> None:
    # The snippet itself is the supervisor that dies. Its own supervisor lives.
    supervisor = run(trees.command(snippets("python")[0] + "worker.wait()\n"), LINKED)
    os.kill(supervisor.pid, signal.SIGKILL)
    assert supervisor.line() == "", "somebody is left"
    assert f"localai-parentwatch: supervisor {supervisor.pid} is gone" in supervisor.said()


@pytest.mark.parametrize(("line", "worker"), [(0, BARE), (1, LINKED)], ids=["exec", "env"])
def test_sudo(run, line: int, worker: str) -> None:
    """sudo stays between supervisor and worker, and lives on."""
    sudo = shutil.which("sudo")
    if sudo is None or subprocess.run([sudo, "-n", "true"], capture_output=True).returncode != 0:
        print("SKIPPED: no sudo without a password")
        pytest.skip("no sudo without a password")
    # sudo sets its own PATH.
    command = snippets("sh")[1].splitlines()[line].replace("localai-parentwatch", str(PROGRAM))
    tree = run(["/bin/sh", "-c", TOKEN + command], worker)
    tree.kill_supervisor()
    assert tree.line() == "", "somebody is left"
    assert f"localai-parentwatch: supervisor {tree.supervisor.pid} is gone" in tree.said()
