"""The programs that process trees consist of, and where the build has put them."""

import signal
import subprocess
import sys
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

COMPILED = ("c", "cpp", "rust", "go-native", "go-degraded", "poller", "pdeathsig", "naive")
"""Workers that are compiled programs in the build directory."""

DEGRADED = ("go-degraded",)
"""Workers without the core library. They watch only their parent, have no watcher thread, and do not
end their helpers."""

GUARDED = ("exec",)
"""Workers that do not use the library: `localai-parentwatch exec` runs them, and their watcher is a
process, the guardian."""

CONTROLS = ("poller", "pdeathsig", "naive", "poller-python", "setpriv")
"""Watchers that are known to be wrong. The suite asserts that they fail where they must."""

POLLERS = ("poller", "poller-python")
"""The controls that only poll."""

_SOURCES = Path(__file__).parent.parent


@dataclass(frozen=True)
class Programs:
    """The build directory of the suite, and the prefix in which the library is installed. `workers` has
    the beginning of each worker's command line."""

    build: Path
    prefix: Path
    workers: dict[str, list[str]] = field(init=False)

    def __post_init__(self) -> None:
        workers = {name: [str(self.build / f"worker-{name}")] for name in COMPILED}
        # -I: import only what is installed for this interpreter.
        python = [str(self.build / "python" / "bin" / "python"), "-I"]
        workers["python"] = [*python, str(_SOURCES / "workers" / "python" / "worker.py")]
        workers["exec"] = [self.program, "exec", "--", str(self.build / "worker-exec")]
        workers["setpriv"] = ["setpriv", "--pdeathsig", "KILL", "--", str(self.build / "worker-exec")]
        workers["poller-python"] = [
            *python,
            str(_SOURCES / "controls" / "poller.py"),
            *workers["python"][len(python) :],
        ]
        object.__setattr__(self, "workers", workers)

    @property
    def supervisor(self) -> str:
        return str(self.build / "supervisor")

    @property
    def program(self) -> str:
        return str(self.build / "localai-parentwatch")

    @property
    def helper(self) -> str:
        return str(self.build / "helper")

    @property
    def file_server(self) -> str:
        return str(self.build / "file_server")

    @property
    def launch(self) -> str:
        return str(self.build / "launch")

    @cached_property
    def thread_call(self) -> str:
        """The system call by which the C library makes a thread: clone3, or clone on other processors
        than x86-64 until some release of glibc."""
        thread = "import threading; threading.Thread(target=int).start()"
        command = [self.launch, "--forbid", "clone3", "--", sys.executable, "-c", thread]
        ran = subprocess.run(command, check=False)
        if ran.returncode == -signal.SIGSYS:
            return "clone3"
        ran.check_returncode()
        return "clone"

    @property
    def shared_library(self) -> str:
        return str(self.prefix / "lib" / "liblocalai_parentwatch.so.0")
