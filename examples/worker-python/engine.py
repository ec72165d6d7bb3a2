"""The engine: where the model would be, in a process of its own as vLLM's EngineCore is."""

import multiprocessing
import os
import signal
import threading
import time

import setproctitle

# By fork the engine would have locks of gRPC's threads, but not the threads.
_spawn = multiprocessing.get_context("spawn")

# What a detached engine is called in ps. The title overwrites the environment that others see.
TITLE = "worker-python: EngineCore"

# How long an engine that was told to end may take.
_STOP_TIMEOUT = 2.0


class EngineEndedError(Exception):
    """The engine is gone, and the call with it."""


class Engine:
    """The engine's handle in the worker. Any thread may call it: it does one thing after the other."""

    def __init__(self, detached=False):
        """Starts the engine's process: in the worker's process group, or in a session of its own and
        with another title, as vLLM's engines are.
        """
        self._calls = _spawn.SimpleQueue()
        self._answers, answers = _spawn.Pipe(duplex=False)
        arguments = (self._calls, answers, detached)
        self._process = _spawn.Process(target=_run, args=arguments, name="engine", daemon=True)
        self._process.start()
        answers.close()  # The engine has the only one: its end is the end of the answers.
        self._lock = threading.Lock()

    def load(self, seconds):
        """Loads the model, which takes that long."""
        self._call("load", seconds)

    def predict(self, prompt):
        """What the model makes of the prompt."""
        return self._call("predict", prompt)

    def stop(self):
        """Ends the engine once it has done what it was asked for, or when that takes too long."""
        self._calls.put(None)
        self._process.join(_STOP_TIMEOUT)
        self._process.kill()
        self._process.join()

    def _call(self, what, argument):
        with self._lock:
            self._calls.put((what, argument))
            try:
                return self._answers.recv()
            except EOFError:
                raise EngineEndedError(f"the engine has ended; it was asked to {what}") from None


def _run(calls, answers, detached):
    """What the engine's process does: one call after the other, until it is told to end.

    It would not notice that the worker is gone: it holds both ends of the queue, so that there is no
    end of file. One that computes, or waits on a socket of ZeroMQ, would not notice either.
    """
    if detached:
        os.setsid()
        setproctitle.setproctitle(TITLE)
    # A ^C is for the whole process group; what comes of it is the worker's business.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    while (call := calls.get()) is not None:
        match call:
            case ("load", seconds):
                # A real load reads files and fills memory, and asks nobody whether it should go on.
                time.sleep(seconds)
                answers.send(None)
            case ("predict", prompt):
                answers.send(prompt)  # An echo: a model that always agrees.
