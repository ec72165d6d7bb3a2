"""Attaches gdb to a process of a tree."""

import subprocess

from driver.roles import Process

GDB = [
    "gdb",
    "-nx",
    "-q",
    "--interpreter=mi3",
    # Loads no scripts, no symbols of shared libraries, and nothing from the network.
    *("-iex", "set auto-load off"),
    *("-iex", "set auto-solib-add off"),
    *("-iex", "set debuginfod enabled off"),
]


class Debugger:
    """A debugger that attaches when constructed. The process is stopped until `resume`."""

    def __init__(self, process: Process) -> None:
        self._gdb = subprocess.Popen(
            GDB, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        self._command("-gdb-set mi-async on", "^done")
        # Passes all signals on: a runtime may signal its own threads.
        self._command("handle all nostop noprint pass", "^done")
        self._command(f"-target-attach {process.pid}", "*stopped")

    def resume(self) -> None:
        self._command("-exec-continue", "*running")

    def interrupt(self) -> None:
        """Stops every thread again."""
        self._command("-exec-interrupt --all", "*stopped")

    def detach(self) -> None:
        """Detaches from the process, which must be stopped. The process then runs on."""
        self._command("-target-detach", "^done")
        self.quit()

    def quit(self) -> None:
        """Ends the debugger. If the process still lives, call `detach` first."""
        self._gdb.communicate("-gdb-exit\n")

    def _command(self, command: str, expected: str) -> None:
        """Sends a command, and reads until gdb has printed the expected answer."""
        self._gdb.stdin.write(command + "\n")
        self._gdb.stdin.flush()
        said = ""
        for line in self._gdb.stdout:
            said += line
            if line.startswith(expected):
                return
            if line.startswith("^error"):
                break
        raise AssertionError(f"gdb, {command}: {said}")
