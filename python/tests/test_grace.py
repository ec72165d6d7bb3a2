"""The grace of a worker without a hook: the time for its own graceful stop. test_hook.py tests the
grace of a hook, and test_helpers.py that of helpers."""

import time

import pytest
import trees
from test_api import START

# Long: a worker that ends within the deadline did not wait for the end of the grace.
LONG = {trees.ENV_PARENT_WATCH_GRACE: "1m"}

# Ways in which Python servers stop gracefully. Each prints that it stops, and has its own exit status.
# None sleeps for long: if a signal arrives just before a call, Python runs the handler after that call.
STOPS = {
    "handler": """
def stop(number, frame):
    os.write(1, b"stops\\n")
    sys.exit(4)
signal.signal(signal.SIGTERM, stop)
start()
os.write(1, b"ready\\n")
while True: time.sleep(0.05)
""",
    "event": """
import atexit, threading
stopped = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: stopped.set())
start()
atexit.register(os.write, 1, b"stops\\n")
os.write(1, b"ready\\n")
while not stopped.wait(0.05): pass
sys.exit(4)
""",
    "asyncio": """
import asyncio
async def main():
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    os.write(1, b"ready\\n")
    await stopped.wait()
    os.write(1, b"stops\\n")
start()
asyncio.run(main())
sys.exit(4)
""",
    "sigwait": """
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
start()
os.write(1, b"ready\\n")
signal.sigwait([signal.SIGTERM])
os.write(1, b"stops\\n")
sys.exit(4)
""",
}


def ready(start, program: str, env: trees.Environment = None) -> trees.Worker:
    worker = start(trees.command(f"{START}import signal, time\n{program}"), env=env)
    assert worker.line() == "ready", worker.said()
    return worker


@pytest.mark.parametrize("way", STOPS)
def test_graceful_stop(start, way: str) -> None:
    worker = ready(start, STOPS[way], LONG)
    worker.kill_supervisor()
    assert worker.line() == "stops"
    assert worker.ended() == 4
    assert worker.said() == ""


def test_without_a_grace_there_is_no_graceful_stop(start) -> None:
    worker = ready(start, STOPS["handler"])
    worker.kill_supervisor()
    assert worker.ended() == 1
    assert worker.line() == ""
    assert worker.said() == worker.death_line()


def test_zero_in_code_overrides_the_environment(start) -> None:
    worker = ready(start, STOPS["handler"].replace("start()", "start(grace=0)"), LONG)
    worker.kill_supervisor()
    assert worker.ended() == 1
    assert worker.line() == ""
    assert worker.said() == worker.death_line()


def test_zero_leaves_no_time_for_a_hook(start) -> None:
    hook = "start(on_death=lambda: os.write(1, b'called\\n'), grace='0')"
    worker = ready(start, f"{hook}\nos.write(1, b'ready\\n')\nwhile True: signal.pause()")
    worker.kill_supervisor()
    assert worker.ended() == 1
    assert worker.line() == ""


def test_nothing_handles_the_signal(start) -> None:
    """The grace would be of no use: the worker ends at once, with its line and status 1."""
    worker = ready(start, "start()\nos.write(1, b'ready\\n')\nwhile True: signal.pause()", LONG)
    before = time.monotonic()
    worker.kill_supervisor()
    assert worker.ended() == 1
    assert time.monotonic() - before < 30
    assert worker.said() == worker.death_line()


IGNORED = """
signal.signal(signal.SIGTERM, signal.SIG_IGN)
os.write(1, b"ready\\n")
while True: signal.pause()
"""
# A call that never returns and holds the interpreter lock, so the signal handler never runs.
LOCK_HELD = """
import ctypes
signal.signal(signal.SIGTERM, lambda *_: os._exit(4))
lock = ctypes.PyDLL(None).pthread_mutex_lock
mutex = ctypes.create_string_buffer(64)
lock(mutex)
os.write(1, b"ready\\n")
lock(mutex)
"""


@pytest.mark.parametrize("busy", [IGNORED, LOCK_HELD], ids=["ignored", "lock-held"])
def test_end_of_the_grace(start, busy: str) -> None:
    worker = ready(start, f"start(grace='300ms')\n{busy}")
    if busy == LOCK_HELD:
        trees.wait_until(lambda: trees.sleeps(worker.pid).get(worker.pid) == "futex", "it hangs")
    before = time.monotonic()
    worker.kill_supervisor()
    assert worker.ended() == 1
    assert time.monotonic() - before >= 0.3
    assert worker.said() == worker.death_line()


def test_engine_lives_until_the_worker_has_stopped(start) -> None:
    """The worker needs one more answer from its engine, which is in its own session. The engine gets
    its SIGTERM after that."""
    engine = trees.command("""
import os, signal, sys, time
def stop(*_):
    os.write(2, b"engine stops\\n")
    os._exit(0)
signal.signal(signal.SIGTERM, stop)
os.write(1, b"up\\n")
for question in sys.stdin.buffer: os.write(1, b"answer to " + question)
while True: time.sleep(0.05)
""")
    worker = ready(
        start,
        f"""
from subprocess import PIPE, Popen
engine = Popen({engine}, stdin=PIPE, stdout=PIPE, stderr=1, start_new_session=True, bufsize=0)
assert engine.stdout.readline() == b"up\\n"
def stop(number, frame):
    engine.stdin.write(b"the last question\\n")
    os.write(1, engine.stdout.readline())
    os._exit(4)
signal.signal(signal.SIGTERM, stop)
start()
os.write(1, b"ready\\n")
while True: time.sleep(0.05)
""",
        LONG,
    )
    worker.kill_supervisor()
    assert worker.line() == "answer to the last question"
    assert worker.ended() == 4
    assert worker.line() == "engine stops"
    assert worker.line() == ""
