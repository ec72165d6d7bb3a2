"""The same backend without the library: `localai-parentwatch exec` guards it, and it does not know.

Its engine has a session of its own, so that no signal to the backend's process group reaches it. The
backend has no graceful stop: SIGTERM ends it.
"""

import argparse
import sys
from concurrent import futures

import backend_pb2_grpc
import grpc
from engine import Engine
from server import OPTIONS, THREADS, Backend, say


def main():
    """Serves until a signal ends it."""
    parser = argparse.ArgumentParser(prog="unlinked")
    parser.add_argument(
        "--addr",
        metavar="HOST:PORT",
        default="localhost:50051",
        help="where to listen (default: %(default)s)",
    )
    address = parser.parse_args().addr

    engine = Engine(detached=True)
    # Once it answers, it is in that session.
    engine.load(0)
    server = grpc.server(futures.ThreadPoolExecutor(THREADS), options=OPTIONS)
    backend_pb2_grpc.add_BackendServicer_to_server(Backend([engine], 0), server)
    server.add_insecure_port(address)
    server.start()
    say(f"listening on {address}")
    server.wait_for_termination()


# The engine is made by spawn: its process imports this file under another name, and must not serve.
if __name__ == "__main__":
    sys.exit(main())
