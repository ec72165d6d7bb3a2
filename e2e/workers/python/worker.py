"""The worker in Python, with the installed wheel. For its command line and requests see
e2e/workers/c/worker.c. It has more for what only Python can do:

    --hook raise|exit       set a hook that raises, or that calls sys.exit

    hold-gil                a report, no reply: hold the GIL in a C call for a minute
    finalize HOW            a report, no reply: begin to finalize the interpreter, and hang in a
                            non-daemon thread, an exit handler or a destructor
    multiprocessing METHOD  {"pid"}: start a child by multiprocessing that serves as a worker too,
                            named child, not armed
    share NAME              {}: make shared memory of that name; this starts Python's resource tracker
"""

import atexit
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import types

import localai_parentwatch

THREADS = 16
BACKLOG = 16
SEPARATOR = b"\x1f"


def hang(*_: object) -> None:
    while True:
        time.sleep(3600)


class Reports:
    """The socket to the driver. It must also work in a destructor while the interpreter finalizes."""

    def __init__(self, connection: socket.socket, name: str) -> None:
        self.connection = connection
        self.name = name

    def send(self, event: str, **content: object) -> None:
        self.connection.send(self.packet(event, **content), socket.MSG_NOSIGNAL)

    def packet(self, event: str, **content: object) -> bytes:
        return json.dumps({"name": self.name, "event": event, **content}).encode()


class Hangs(types.ModuleType):
    """A module whose destructor never returns."""

    def __init__(self, reports: Reports) -> None:
        super().__init__("hangs")
        self.reports = reports
        self.hang = hang

    def __del__(self) -> None:
        self.reports.send("finalizing")
        self.hang()


class Worker:
    """A process that serves: the worker, or its child."""

    def __init__(self, reports: Reports, options: dict[str, str]) -> None:
        self.reports = reports
        self.options = options
        self.listener: socket.socket | None = None
        # Objects that must stay alive. A closed pipe would tell a helper that this process is gone.
        self.kept: list[object] = []

    def run(self, status: str) -> None:
        self.open_port(status)
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                continue
            with connection:
                self.serve(connection)

    def open_port(self, status: str) -> None:
        self.listener = socket.socket()
        try:
            self.listener.bind(("127.0.0.1", 0))
            self.listener.listen(BACKLOG)
        except OSError as error:
            # As in the other workers, exit status 2 means that the worker itself has failed.
            with contextlib.suppress(OSError):
                os.write(2, f"worker-python: listen: {error}\n".encode())
            sys.exit(2)
        # Set last: with this option, another socket may bind the same port until this one listens.
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        port = self.listener.getsockname()[1]
        self.reports.send("serving", pid=os.getpid(), port=port, status=status)

    def serve(self, connection: socket.socket) -> None:
        """Answers until the driver closes the connection. A forked child returns at once: the
        connection belongs to its parent."""
        with connection.makefile("rb") as requests:
            while line := requests.readline():
                request, *arguments = line.rstrip(b"\n").split(SEPARATOR)
                answer = getattr(self, "answer_" + request.decode().replace("-", "_"))(*arguments)
                if answer is None:
                    return
                # The driver may have closed the connection.
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    connection.sendall(json.dumps(answer).encode() + b"\n")

    def arm(self) -> str:
        options: dict[str, object] = {}
        if "--grace" in self.options:
            options["grace"] = int(self.options["--grace"]) / 1000
        if "--hook" in self.options:
            options["on_death"] = self.hook
        return localai_parentwatch.start_parent_death_watcher(**options).name.lower()

    def hook(self) -> None:
        self.reports.send("hook")
        {
            "return": lambda: None,
            "hang": hang,
            "raise": lambda: 1 // 0,
            "exit": lambda: sys.exit(7),
            "leave": lambda: os._exit(7),
            "crash": os.abort,
        }[self.options["--hook"]]()

    # -- what every language answers ------------------------------------------------------------

    def answer_ping(self) -> dict:
        return {"pid": os.getpid(), "ppid": os.getppid()}

    def answer_info(self) -> dict:
        info = localai_parentwatch.status()
        return {
            "state": info.state.name.lower(),
            "tier": info.tier,
            "watched": info.watched,
            "scope": info.scope,
            "interval_ns": round(info.interval * 1e9),
            "grace_ns": round((info.grace or 0) * 1e9),
        }

    def answer_arm(self) -> dict:
        return {"status": self.arm()}

    def answer_arm_from_threads(self) -> dict:
        barrier = threading.Barrier(THREADS)
        statuses: list[str] = []

        def arm() -> None:
            barrier.wait()
            statuses.append(self.arm())

        threads = [threading.Thread(target=arm) for _ in range(THREADS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return {"statuses": statuses}

    def answer_arm_in_thread(self) -> dict:
        threading.Thread(target=self.arm, daemon=True).start()
        return {}

    def answer_arm_copy(self, path: bytes) -> dict:
        import ctypes

        copy = ctypes.CDLL(os.fsdecode(path))
        copy.localai_parentwatch_status_text.restype = ctypes.c_char_p
        status = copy.localai_parentwatch_start(None)
        return {"status": copy.localai_parentwatch_status_text(status).decode()}

    def answer_token(self) -> dict:
        return {"token": localai_parentwatch.token()}

    def answer_start(self, *command: bytes) -> dict:
        # The helper inherits all inheritable descriptors, as in the other languages.
        helper = subprocess.Popen(command, stdin=subprocess.PIPE, close_fds=False)
        self.kept.append(helper)
        return {"pid": helper.pid}

    def answer_fork(self) -> dict | None:
        if child := os.fork():
            return {"pid": child}
        self.become_child()
        return None

    def become_child(self) -> None:
        self.reports.name = "child"
        self.listener.close()
        self.open_port("not_started")

    def answer_handle(self) -> dict:
        signal.signal(signal.SIGUSR1, lambda *_: self.reports.send("handled"))
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2])

        def wait() -> None:
            while True:
                signal.sigwait([signal.SIGUSR2])
                self.reports.send("waited")

        threading.Thread(target=wait, daemon=True).start()
        return {}

    def answer_setuid(self, user: bytes) -> dict:
        os.setuid(int(user))
        return {"result": 0}

    def answer_replace(self, target: bytes, pid: bytes | None = None) -> dict:
        if pid is None:
            source, write_end = os.pipe()
            os.write(write_end, b"x")
        else:
            source = os.pidfd_open(int(pid))
        os.dup2(source, int(target), inheritable=False)
        return {}

    def answer_close(self, descriptor: bytes) -> dict:
        os.close(int(descriptor))
        return {}

    def answer_threads(self, count: bytes) -> dict:
        for _ in range(int(count)):
            threading.Thread(target=hang, daemon=True).start()
        return {}

    def answer_flood(self) -> dict:
        line = "the host logs without end, line after line after line after line after line"

        def flood() -> None:
            while True:
                print(line, file=sys.stderr)

        for _ in range(4):
            threading.Thread(target=flood, daemon=True).start()
        return {}

    def answer_drain(self, ms: str) -> dict:
        def drain(_number: int, _frame: object) -> None:
            time.sleep(int(ms) / 1000)
            os._exit(9)

        signal.signal(signal.SIGTERM, signal.SIG_IGN if int(ms) < 0 else drain)
        return {}

    def answer_resist(self) -> dict:
        signal.signal(signal.SIGTERM, hang)
        atexit.register(hang)
        return {}

    # -- what only Python can do ----------------------------------------------------------------

    def answer_hold_gil(self) -> None:
        # Keeps the interpreter from passing the GIL to another thread between the two calls below.
        sys.setswitchinterval(3600)

        import ctypes

        # Not by Python's socket.send, which releases the GIL.
        packet = self.reports.packet("holding")
        libc = ctypes.PyDLL(None)
        libc.send(self.reports.connection.fileno(), packet, len(packet), socket.MSG_NOSIGNAL)
        libc.sleep(60)

    def answer_finalize(self, how: bytes) -> None:
        def finalizing() -> None:
            self.reports.send("finalizing")
            hang()

        # The port stays open as long as the interpreter hangs.
        self.listener.detach()
        if how == b"thread":
            threading.Thread(target=finalizing).start()
        elif how == b"atexit":
            atexit.register(finalizing)
        else:
            # The interpreter destroys its modules when it finalizes.
            sys.modules["hangs"] = Hangs(self.reports)
        sys.exit(0)

    def answer_multiprocessing(self, method: bytes) -> dict:
        import multiprocessing

        context = multiprocessing.get_context(method.decode())
        inherited = self.listener if method == b"fork" else None
        child = context.Process(target=run_child, args=(self.reports.connection, inherited))
        child.start()
        self.kept.append(child)
        return {"pid": child.pid}

    def answer_share(self, name: bytes) -> dict:
        from multiprocessing.shared_memory import SharedMemory

        self.kept.append(SharedMemory(name.decode(), create=True, size=4096))
        return {}


def run_child(connection: socket.socket, inherited: socket.socket | None) -> None:
    if inherited:
        inherited.close()
    Worker(Reports(connection, "child"), {}).run("not_started")


def main() -> None:
    words = iter(sys.argv[1:])
    options = dict(zip(words, words, strict=True))
    reports = Reports(socket.socket(fileno=int(options["--report"])), options.get("--name", "worker"))
    worker = Worker(reports, options)
    worker.run(worker.arm() if options.get("--arm", "first") == "first" else "not_started")


if __name__ == "__main__":
    main()
