"""The hook and Python. Hooks that hang, do not get the lock, raise or end the process are tested in
e2e/ (F09, F10, F16)."""

import pytest
import trees
from test_api import START

# After the supervisor's death the test reads what the hook printed.
WAIT = """
os.write(1, b"ready\\n")
while True: __import__("time").sleep(3600)
"""


def dies(start, program: str, after: str = WAIT) -> tuple[trees.Worker, str]:
    """A worker whose supervisor was killed, and the first line that its hook printed."""
    worker = start(trees.command(f"{START}{program}{after}"))
    assert worker.line() == "ready", worker.said()
    worker.kill_supervisor()
    line = worker.line()
    assert worker.ended() == 1
    return worker, line


def test_thread_and_arguments(start) -> None:
    worker, line = dies(
        start,
        """
import threading
def hook(*arguments, **named):
    name = open(f"/proc/self/task/{threading.get_native_id()}/comm").read().strip()
    is_main = threading.current_thread() is threading.main_thread()
    os.write(1, json.dumps([name, is_main, arguments, named]).encode() + b"\\n")
start(on_death=hook, grace=3600)
""",
    )
    assert line == f'["{trees.HOOK_THREAD}", false, [], {{}}]'
    assert worker.said() == worker.death_line()


@pytest.mark.parametrize("kind", ["method", "partial", "builtin", "class", "lambda"])
def test_any_callable(start, kind: str) -> None:
    _, line = dies(
        start,
        f"""
import functools
class Server:
    def __init__(self): os.write(1, b"called\\n")
    def method(self): os.write(1, b"called\\n")
hook = {{
    "method": Server.method.__get__(object()),
    "partial": functools.partial(os.write, 1, b"called\\n"),
    "builtin": [].append if False else functools.partial(os.write, 1, b"called\\n").__call__,
    "class": Server,
    "lambda": lambda: os.write(1, b"called\\n"),
}}[{kind!r}]
start(on_death=hook, grace=3600)
del hook, Server
""",
    )
    assert line == "called"


@pytest.mark.parametrize("outcome", ["ValueError('full')", "SystemExit(7)", "KeyboardInterrupt()"])
def test_exception_goes_to_the_unraisable_hook(start, outcome: str) -> None:
    """Then the process ends at once, although the grace is an hour."""
    worker, line = dies(
        start,
        f"""
def unraisable(told):
    seen = [repr(told.exc_value), told.object is hook, told.exc_traceback is not None]
    os.write(1, json.dumps(seen).encode() + b"\\n")
sys.unraisablehook = unraisable
def hook(): raise {outcome}
start(on_death=hook, grace=3600)
""",
    )
    assert line == f'["{outcome}", true, true]'
    assert worker.said() == worker.death_line()


def test_exception_is_shown(start) -> None:
    worker, _ = dies(
        start, "\ndef hook(): raise ValueError('disk full')\nstart(on_death=hook, grace=3600)\n"
    )
    said = worker.said()
    assert said.endswith("ValueError: disk full\n" + worker.death_line())
    assert said.startswith(("Exception ignored in", "Exception ignored while"))


@pytest.mark.parametrize(
    "stderr", ["sys.stderr = None", "sys.stderr.close()", "del sys.unraisablehook"]
)
def test_exception_without_a_stderr(start, stderr: str) -> None:
    worker, _ = dies(
        start, f"\ndef hook(): raise ValueError\nstart(on_death=hook, grace=3600)\n{stderr}\n"
    )
    assert worker.said().endswith(worker.death_line())


def test_hook_may_use_the_package(start) -> None:
    _, line = dies(
        start,
        """
from localai_parentwatch import parent_watch
def hook():
    told = [start().name, start(on_death=hook).name, status().state.name]
    told.append(parent_watch._parent_died(status().watched[0]))
    os.write(1, json.dumps(told).encode() + b"\\n")
start(on_death=hook, grace=3600)
""",
    )
    assert line == '["ARMED", "ARMED", "ARMED", true]'


def test_hook_may_use_threads_and_processes(start) -> None:
    """It shares the interpreter lock with the program's own threads."""
    _, line = dies(
        start,
        """
import subprocess, threading
def spin():
    while True: pass
threading.Thread(target=spin, daemon=True).start()
def hook():
    told = []
    def save(): told.append(subprocess.check_output(["echo", "saved"], text=True).strip())
    thread = threading.Thread(target=save)
    thread.start()
    thread.join()
    os.write(1, json.dumps(told).encode() + b"\\n")
start(on_death=hook, grace=3600)
""",
    )
    assert line == '["saved"]'


def test_hook_of_a_graceful_stop_is_not_called(start) -> None:
    worker = start(
        trees.command(f"{START}start(on_death=lambda: os.write(1, b'called\\n'))\nsys.exit(3)")
    )
    assert worker.line() == ""
    worker.kill_supervisor()
    assert worker.ended() == 3
    assert worker.said() == ""


def test_hook_is_not_called_in_a_forked_child(start) -> None:
    """The child is in another group, so the scope "group" does not end it, and it has no watcher."""
    worker, line = dies(
        start,
        """
start(on_death=lambda: os.write(1, b"called by %d\\n" % os.getpid()), grace=3600, scope="group")
read_end, write_end = os.pipe()
child = os.fork()
if child:
    os.setpgid(child, child)
else:
    os.close(write_end)
    os.read(read_end, 1)
    assert status().state is Status.NOT_STARTED
    os.write(1, b"child is done\\n")
    os._exit(0)
""",
    )
    assert line == f"called by {worker.pid}"
    assert worker.line() == "child is done"
    assert worker.line() == ""
