"""Starts from many threads, from other threads than the main one, in forked children, during signals,
and with every kind of sys.stderr."""

import json
import os

import pytest
import trees
from test_api import INFO, START

# On a machine that stalls, one of many calls may give up waiting for the first one. Call again.
START_AGAIN = """
def start_again(**options):
    while (outcome := start(**options)) is Status.NOT_STARTED: pass
    return outcome
"""

# Lists the threads of the watcher by name, and the pidfds of the process, of which there must be none.
# A thread sets its name when it first runs.
SEEN = """
import pathlib, time
def of_those_that_stay(read, folder):
    for entry in pathlib.Path(folder).iterdir():
        try:
            yield read(entry)
        except OSError:
            pass
def look():
    def name_of(task): return (task / "comm").read_text().strip()
    names = list(of_those_that_stay(name_of, "/proc/self/task"))
    links = list(of_those_that_stay(os.readlink, "/proc/self/fd"))
    pidfds = [link for link in links if "pidfd" in link]
    return [names.count("parent-watch"), names.count("parent-hook"), len(pidfds)]
def seen(expected):
    end = time.monotonic() + 60
    while (found := look()) != expected and time.monotonic() < end:
        time.sleep(0.005)
    return found
"""


def test_from_32_threads_at_once() -> None:
    program = f"""{START}import threading
{SEEN}{START_AGAIN}
barrier = threading.Barrier(32)
outcomes = []
def arm():
    barrier.wait()
    outcomes.append(start_again())
threads = [threading.Thread(target=arm) for _ in range(32)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(json.dumps([[outcome.name for outcome in outcomes], seen([1, 0, 0])]))
"""
    assert trees.answer(program) == [["ARMED"] * 32, [1, 0, 0]]


def test_from_32_threads_with_other_options_each() -> None:
    """One of them arms. The others get an error, since the watcher is armed with other options."""
    program = f"""{START}import threading
{SEEN}{START_AGAIN}
barrier = threading.Barrier(32)
outcomes = []
def arm(number):
    barrier.wait()
    try:
        outcomes.append([start_again(interval=number, on_death=lambda: None).name, number])
    except ValueError as error:
        outcomes.append([str(error), number])
threads = [threading.Thread(target=arm, args=(number,)) for number in range(1, 33)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(json.dumps([outcomes, status().interval, seen([1, 1, 0])]))
"""
    outcomes, interval, seen = trees.answer(program)
    armed = [number for outcome, number in outcomes if outcome == "ARMED"]
    assert armed == [interval]
    assert [outcome for outcome, _ in outcomes].count("already armed with other options") == 31
    assert seen == [1, 1, 0]


def test_the_thread_that_started_it_may_end(start) -> None:
    program = f"""{START}import threading
thread = threading.Thread(target=start)
thread.start()
thread.join()
{INFO}
sys.stdout.flush()
while True: sys.stdin.read() or __import__("signal").pause()
"""
    worker = start(trees.command(program))
    assert worker.report()["watched"] == [worker.supervisor.pid]
    worker.kill_supervisor()
    assert worker.ended() == 1
    assert worker.said() == worker.death_line()


@pytest.mark.parametrize("forks", ["main", "thread"])
@pytest.mark.parametrize("arms", ["before", "after", "hook"])
def test_forked_child_starts_its_own(arms: str, forks: str) -> None:
    hooks = 1 if arms == "hook" else 0
    program = f"""{START}import threading
{SEEN}
def hook(): pass
if {arms!r} != "after":
    start(on_death=hook if {arms!r} == "hook" else None)
told = []
def fork():
    child = os.fork()
    if child == 0:
        state = status().state.name
        outcome = start(on_death=hook if {arms!r} == "hook" else None)
        has = seen([1, {hooks}, 0])
        report = [state, outcome.name, status().watched == (os.getppid(),), has]
        os.write(write_end, json.dumps(report).encode())
        os._exit(0)
    told.extend([os.waitpid(child, 0)[1], child])
read_end, write_end = os.pipe()
if {forks!r} == "main":
    fork()
else:
    thread = threading.Thread(target=fork)
    thread.start()
    thread.join()
assert told[0] == 0
print(json.dumps([json.loads(os.read(read_end, 4096)), start().name, seen([1, {hooks}, 0])]))
"""
    ran = trees.run(trees.command(program))
    assert (ran.returncode, ran.stderr) == (0, "")
    assert json.loads(ran.stdout) == [
        ["NOT_STARTED", "ARMED", True, [1, hooks, 0]],
        "ARMED",
        [1, hooks, 0],
    ]


def test_child_of_a_child_that_never_started() -> None:
    program = f"""{START}
start()
def below(depth):
    if depth == 0:
        assert status().state is Status.NOT_STARTED
        return start() is Status.ARMED and status().watched == (os.getppid(),)
    child = os.fork()
    if child == 0:
        os._exit(0 if below(depth - 1) else 3)
    return os.waitpid(child, 0)[1] == 0
print(json.dumps(below(3)))
"""
    assert trees.answer(program) is True


@pytest.mark.parametrize(
    "stderr",
    ["sys.stderr = None", "sys.stderr = sys.__stderr__ = Silent()", "sys.stderr.close()"],
    ids=["none", "replaced", "closed"],
)
def test_warnings_do_not_need_sys_stderr(stderr: str) -> None:
    """They go to descriptor 2, which stays open when sys.stderr is closed."""
    program = f"""{START}
class Silent:
    def write(self, text): raise AssertionError(text)
    def flush(self): pass
{stderr}
assert start() is Status.ARMED
{INFO}
sys.stdout.flush()
os._exit(0)
"""
    ran = trees.run(trees.command(program), env={trees.ENV_PARENT_WATCH_SCOPE: "all"})
    assert ran.returncode == 0
    assert json.loads(ran.stdout)["watched"] == [os.getpid()]
    assert ran.stderr.startswith("localai-parentwatch: LOCALAI_BACKEND_PARENT_WATCH_SCOPE=all: ")
    assert len(ran.stderr.splitlines()) == 1


def test_signals_while_arming() -> None:
    """A timer fires every 20 µs during 50 starts, each in a child. All arm, and handlers run in the
    main thread."""
    program = f"""{START}import signal, threading
handled = []
def handler(number, frame):
    assert threading.current_thread() is threading.main_thread()
    handled.append(number)
signal.signal(signal.SIGALRM, handler)
interrupted = 0
for _ in range(50):
    child = os.fork()
    if child == 0:
        signal.setitimer(signal.ITIMER_REAL, 2e-5, 2e-5)
        before = len(handled)
        armed = start() is Status.ARMED
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())
        while len(handled) == before: pass
        signal.setitimer(signal.ITIMER_REAL, 0)
        os._exit(0 if armed and not mask and status().watched == (os.getppid(),) else 3)
    assert os.waitpid(child, 0)[1] == 0
print(json.dumps("armed"))
"""
    assert trees.answer(program) == "armed"


def test_exception_of_a_signal_handler_while_arming() -> None:
    """Ctrl-C at any moment of the start raises KeyboardInterrupt, and a later call returns the
    outcome."""
    program = f"""{START}import signal
signal.signal(signal.SIGALRM, signal.default_int_handler)
for after in range(0, 400, 8):
    child = os.fork()
    if child == 0:
        try:
            signal.setitimer(signal.ITIMER_REAL, (after + 1) * 1e-6)
            start()
            while True: pass
        except KeyboardInterrupt:
            os._exit(0 if start() is Status.ARMED and status().tier == "event" else 3)
        os._exit(4)
    assert os.waitpid(child, 0)[1] == 0, after
print(json.dumps("armed"))
"""
    assert trees.answer(program) == "armed"
