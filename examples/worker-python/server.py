"""The gRPC server, by threads or by asyncio: LocalAI's Python backends are one or the other."""

import argparse
import asyncio
import contextlib
import itertools
import queue
import signal
import sys
from concurrent import futures

import backend_pb2
import backend_pb2_grpc
import grpc
from engine import Engine, EngineEndedError

# How many calls are answered at once.
THREADS = 4
# How long calls that are under way at a stop have to end by themselves, in seconds.
STOP_TIMEOUT = 30.0
# Otherwise gRPC shares the port with whoever already listens there (SO_REUSEPORT), and a second worker
# on the same address would silently take half of its calls.
OPTIONS = [("grpc.so_reuseport", 0)]

READY = backend_pb2.StatusResponse.READY
BUSY = backend_pb2.StatusResponse.BUSY


class Backend(backend_pb2_grpc.BackendServicer):
    """Answers the calls that LocalAI makes: no model in it, but a real server around the hole."""

    def __init__(self, engines, load_seconds):
        self._engines = engines
        self._turns = itertools.cycle(engines)
        self._load_seconds = load_seconds
        self._state = backend_pb2.StatusResponse.UNINITIALIZED

    def Health(self, request, context):
        return backend_pb2.Reply(message=b"OK")

    def LoadModel(self, request, context):
        self._state = BUSY
        say(f"loading {request.Model}")
        try:
            for engine in self._engines:
                engine.load(self._load_seconds / len(self._engines))
        except EngineEndedError as error:
            return backend_pb2.Result(success=False, message=str(error))
        self._state = READY
        return backend_pb2.Result(success=True, message=f"loaded {request.Model}")

    def Predict(self, request, context):
        try:
            return backend_pb2.Reply(message=next(self._turns).predict(request.Prompt).encode())
        except EngineEndedError as error:
            context.abort(grpc.StatusCode.UNAVAILABLE, str(error))

    def Status(self, request, context):
        return backend_pb2.StatusResponse(state=self._state)


@contextlib.contextmanager
def running_backend(load_seconds):
    """A backend with two engines, one of them detached.

    Handle signals first: an end by default leaves the engines behind.
    """
    engines = [Engine(), Engine(detached=True)]
    try:
        # Once it answers, it is in its own session.
        engines[1].load(0)
        yield Backend(engines, load_seconds)
    finally:
        for engine in engines:
            engine.stop()


def serve_threads(load_seconds, address):
    """Serves on the address until SIGTERM or SIGINT."""
    # A queue, since a handler interrupts this very thread and may take no lock that it holds.
    stop = queue.SimpleQueue()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, frame: stop.put(number))

    with running_backend(load_seconds) as backend:
        server = grpc.server(futures.ThreadPoolExecutor(THREADS), options=OPTIONS)
        backend_pb2_grpc.add_BackendServicer_to_server(backend, server)
        server.add_insecure_port(address)
        server.start()
        say(f"listening on {address}")
        stop.get()
        say("stopping")
        server.stop(STOP_TIMEOUT).wait()


async def serve_asyncio(load_seconds, address):
    """Serves on the address until SIGTERM or SIGINT."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)

    with running_backend(load_seconds) as backend:
        # The backend's functions are no coroutines: gRPC runs them in these threads.
        threads = futures.ThreadPoolExecutor(THREADS)
        server = grpc.aio.server(threads, options=OPTIONS)
        backend_pb2_grpc.add_BackendServicer_to_server(backend, server)
        server.add_insecure_port(address)
        await server.start()
        say(f"listening on {address}")
        await stop.wait()
        say("stopping")
        await server.stop(STOP_TIMEOUT)


def run(arguments):
    """Serves as the command line says; the result is the exit status."""
    parser = argparse.ArgumentParser(
        prog="worker-python",
        description="A LocalAI backend that echoes prompts, and ends when the process that started "
        "it ends.",
    )
    parser.add_argument(
        "--addr",
        metavar="HOST:PORT",
        default="localhost:50051",
        help="where to listen (default: %(default)s)",
    )
    parser.add_argument(
        "--load-seconds",
        metavar="N",
        type=seconds,
        default=0.0,
        help="how long LoadModel blocks (default: %(default)s)",
    )
    parser.add_argument("--aio", action="store_true", help="serve by grpc.aio instead of threads")
    options = parser.parse_args(arguments)

    try:
        if options.aio:
            asyncio.run(serve_asyncio(options.load_seconds, options.addr))
        else:
            serve_threads(options.load_seconds, options.addr)
    except RuntimeError as error:  # What gRPC raises when it cannot have the port.
        say(f"cannot listen on {options.addr}: {error}")
        return 1
    say("stopped")
    return 0


def seconds(text):
    """Reads a span of time from the command line."""
    value = float(text)
    if not 0 <= value <= 3600:
        raise argparse.ArgumentTypeError(f"{text} is not a number of seconds from 0 to 3600")
    return value


def say(line):
    """Writes a line to stderr, in one piece."""
    sys.stderr.write(f"worker-python: {line}\n")
