"""localai_parentwatch.parent_watch in place of LocalAI's backend/python/common/parent_watch.py."""

import ast
import contextlib
import inspect
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import trees
from localai_parentwatch import parent_watch

START = "from localai_parentwatch import parent_watch; import json, os, signal, sys, threading, time\n"
NAMES = {
    "ENV_PARENT_WATCH": trees.ENV_PARENT_WATCH,
    "ENV_PARENT_WATCH_INTERVAL": trees.ENV_PARENT_WATCH_INTERVAL,
    "_enabled": [],
    "_interval_seconds": [],
    "_parent_died": ["orig_ppid"],
    "_watch": ["orig_ppid", "interval", "on_death"],
    "start_parent_death_watcher": [],
}


@pytest.mark.parametrize("name", NAMES)
def test_names(name: str) -> None:
    found = getattr(parent_watch, name)
    assert NAMES[name] == (
        found if isinstance(found, str) else list(inspect.signature(found).parameters)
    )


def test_types() -> None:
    assert parent_watch._enabled() is True
    assert (type(parent_watch._interval_seconds()), parent_watch._interval_seconds()) == (float, 2.0)
    assert parent_watch._parent_died(os.getppid()) is False
    for stranger in (os.getpid(), 0, -1, 2**31 - 1, 2**31, -(2**80)):
        assert parent_watch._parent_died(stranger) is True
    with pytest.raises(TypeError):
        parent_watch._parent_died("1")


def test_start_returns_nothing_and_never_raises() -> None:
    program = """
import localai_parentwatch
assert parent_watch.start_parent_death_watcher() is None
assert localai_parentwatch.status().state is localai_parentwatch.Status.ARMED
assert parent_watch.start_parent_death_watcher() is None
print(json.dumps(localai_parentwatch.status().watched))
"""
    assert trees.answer(START + program) == [os.getpid()]
    off = START + program.replace("ARMED", "DISABLED")
    assert trees.answer(off, env={trees.ENV_PARENT_WATCH: "off"}) == []
    options = (
        START
        + "import localai_parentwatch\nlocalai_parentwatch.start_parent_death_watcher(interval=1)"
        + program
    )
    assert trees.answer(options) == [os.getpid()]


# -- _watch ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("parent", [1, 0, -1])
def test_watch_of_pid_1_or_less_returns_at_once(parent: int) -> None:
    assert parent_watch._watch(parent, 0.01, pytest.fail) is None


@pytest.mark.parametrize("parent", ["self", 2**31 - 1, 2**31, 2**80])
def test_watch_of_another_process_calls_back_at_once(parent: int | str) -> None:
    called: list[int] = []
    pid = os.getpid() if parent == "self" else parent
    assert parent_watch._watch(pid, 3600, lambda: called.append(1)) is None
    assert called == [1]


def test_watch_raises_what_its_callback_raises() -> None:
    with pytest.raises(ZeroDivisionError):
        parent_watch._watch(os.getpid(), 3600, lambda: 1 // 0)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (("1", 1.0), TypeError),
        ((1.5, 1.0), TypeError),
        ((5, None), TypeError),
        ((5, -1), ValueError),
        ((5, "soon"), ValueError),
    ],
    ids=str,
)
def test_watch_of_a_wrong_type(arguments: tuple, error: type[Exception]) -> None:
    with pytest.raises(error):
        parent_watch._watch(*arguments, pytest.fail)


def is_asleep(pid: int, thread: int, tier: str) -> bool:
    """Whether the thread sleeps in the watch, and no longer runs Python. In the event tier, one thread
    of the process polls the descriptor and wakes all waiting threads."""
    # The poll first: before it, that thread wakes the waiting ones once more.
    expected = "poll" if tier == "poll" else "futex"
    return "poll" in trees.sleeps(pid).values() and trees.sleeps(pid).get(thread) == expected


# The poll tier: no descriptor can be opened, not even the first one in an empty table.
NO_DESCRIPTORS = """
import resource
resource.setrlimit(resource.RLIMIT_NOFILE, (0, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
"""
TIERS = {"event": ("", 3600), "poll": (NO_DESCRIPTORS, 0.02)}


@pytest.mark.parametrize("thread", ["main", "another"])
@pytest.mark.parametrize("tier", TIERS)
def test_watch_until_the_parent_is_gone(start, tier: str, thread: str) -> None:
    """It calls back once, then returns. The worker has no other watcher, and runs on. The interpreter
    lock is free meanwhile: the handler of a signal runs on the main thread."""
    limit, interval = TIERS[tier]
    worker = start(
        trees.command(
            f"""{START}
called = []
def watch():
    before = os.getppid()
    print(json.dumps(threading.get_native_id()), flush=True)
    parent_watch._watch(before, {interval}, lambda: called.append(parent_watch._parent_died(before)))
    print(json.dumps(called), flush=True)
signal.signal(signal.SIGUSR1, lambda *_: os.write(1, b'"handled"\\n'))
{limit}
if {thread!r} == "main":
    watch()
else:
    thread = threading.Thread(target=watch)
    thread.start()
    while thread.is_alive(): thread.join(0.01)
sys.exit(7)
"""
        )
    )
    watching = worker.report()
    trees.wait_until(lambda: is_asleep(worker.pid, watching, tier), "it sleeps")
    os.kill(worker.pid, signal.SIGUSR1)
    assert worker.report() == "handled"
    worker.kill_supervisor()
    assert worker.report() == [True]
    assert worker.ended() == 7
    assert worker.said() == ""


@contextlib.contextmanager
def watching(tier: str, setup: str = "") -> Iterator[subprocess.Popen]:
    """A process whose main thread watches this one, and reports what ends the watch."""
    limit, _ = TIERS[tier]
    program = f"""{START}{setup}{limit}
print("watching", flush=True)
try:
    parent_watch._watch(os.getppid(), 3600, lambda: print("called", flush=True))
except BaseException as error:
    print(type(error).__name__, flush=True)
"""
    with trees.started(trees.command(program)) as process:
        assert process.stdout.readline() == "watching\n"
        yield process


@pytest.mark.parametrize("tier", TIERS)
def test_ctrl_c_on_the_main_thread(tier: str) -> None:
    with watching(tier) as process:
        trees.wait_until(lambda: is_asleep(process.pid, process.pid, tier), "it sleeps")
        process.send_signal(signal.SIGINT)
        assert process.stdout.readline() == "KeyboardInterrupt\n"
        assert process.wait(trees.PATIENCE) == 0


@pytest.mark.parametrize("tier", TIERS)
def test_signal_whose_handler_returns(tier: str) -> None:
    """The handler runs and the wait goes on. It ends when the next handler raises."""
    setup = "signal.signal(signal.SIGUSR1, lambda *_: print('handled', flush=True))\n"
    with watching(tier, setup) as process:
        for _ in range(3):
            trees.wait_until(lambda: is_asleep(process.pid, process.pid, tier), "it sleeps")
            process.send_signal(signal.SIGUSR1)
            assert process.stdout.readline() == "handled\n"
        trees.wait_until(lambda: is_asleep(process.pid, process.pid, tier), "it sleeps")
        process.send_signal(signal.SIGINT)
        assert process.stdout.readline() == "KeyboardInterrupt\n"
        assert process.wait(trees.PATIENCE) == 0


def switches(pid: int) -> dict[str, str]:
    """How many times each thread of a process was scheduled."""
    return {
        task.name: (task / "status").read_text().partition("\nvoluntary_ctxt_switches:")[2]
        for task in Path(f"/proc/{pid}/task").iterdir()
    }


def test_watch_never_wakes_up() -> None:
    with watching("event") as process:
        trees.wait_until(lambda: is_asleep(process.pid, process.pid, "event"), "it sleeps")
        assert sorted(os.listdir(f"/proc/{process.pid}/fd")) == ["0", "1", "2"], "no descriptor"
        before = switches(process.pid)
        assert len(before) == 2, "the main thread, and the one that sleeps for it"
        end = time.monotonic() + 0.5
        trees.wait_until(lambda: time.monotonic() > end, "half a second")
        assert switches(process.pid) == before


# -- The re-export of docs/integration-python.md ---------------------------------------------------


@pytest.fixture
def common(tmp_path: Path) -> Path:
    """LocalAI's folder with the re-export in it, and a stand-in for the poller that LocalAI has
    today."""
    text = Path(os.environ["PACKAGE_DOCS"], "integration-python.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    (block,) = [block for block in blocks if "from parent_watch_poll import" in block]
    (tmp_path / "parent_watch.py").write_text(block)
    poll = ["def start_parent_death_watcher(): print('polling')"]
    poll += [f"{name} = {name!r}" for name in NAMES if name != "start_parent_death_watcher"]
    (tmp_path / "parent_watch_poll.py").write_text("\n".join(poll))
    return tmp_path


USE = """
import sys
sys.path.insert(0, sys.argv[1])
import parent_watch
parent_watch.start_parent_death_watcher()
"""


def test_re_export_with_the_wheel(common: Path) -> None:
    program = f"""{USE}
import json, localai_parentwatch
assert {list(NAMES)} == [name for name in {list(NAMES)} if hasattr(parent_watch, name)]
print(json.dumps([localai_parentwatch.status().watched, "parent_watch_poll" in sys.modules]))
"""
    assert trees.answer(program, common) == [[os.getpid()], False]


def test_re_export_without_the_wheel(common: Path) -> None:
    program = f"{USE}\nprint([name for name in {list(NAMES)} if not hasattr(parent_watch, name)])\n"
    ran = trees.run([sys.executable, "-I", "-S", "-c", program, str(common)])
    assert (ran.returncode, ran.stdout) == (0, "polling\n[]\n")
    assert ran.stderr == (
        "parent_watch: No module named 'localai_parentwatch': "
        "looking after the parent every other second instead\n"
    )


def test_re_export_has_the_same_names_in_both_branches(common: Path) -> None:
    tree = ast.parse((common / "parent_watch.py").read_text())
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    assert [{alias.name for alias in node.names} for node in imports] == [set(NAMES), set(NAMES)]
