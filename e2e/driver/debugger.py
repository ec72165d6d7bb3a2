"""gdb, attached to a process of a tree."""

import subprocess

from driver.roles import Process

GDB = [
    "gdb",
    "-nx",
    "-q",
    "--interpreter=mi3",
    # Nothing of a program's own is read or run, and nothing is asked for on the network.
    *("-iex", "set auto-load off"),
    *("-iex", "set auto-solib-add off"),
    *("-iex", "set debuginfod enabled off"),
]


class Debugger:
    """Attached from construction on; the process stands still until it is continued."""

    def __init__(self, process: Process) -> None:
        self._gdb = subprocess.Popen(
            GDB, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        self._command("-gdb-set mi-async on", "^done")
        # What a runtime sends to itself is none of a debugger's business.
        self._command("handle all nostop noprint pass", "^done")
        self._command(f"-target-attach {process.pid}", "*stopped")

    def resume(self) -> None:
        self._command("-exec-continue", "*running")

    def interrupt(self) -> None:
        """Stops every thread again."""
        self._command("-exec-interrupt --all", "*stopped")

    def detach(self) -> None:
        """Leaves the process, which has to be stopped, and which then runs on."""
        self._command("-target-detach", "^done")
        self.quit()

    def quit(self) -> None:
        """Ends the debugger. Where its process has not ended before, detach has to come first."""
        self._gdb.communicate("-gdb-exit\n")

    def _command(self, command: str, expected: str) -> None:
        """Gives a command, and reads until gdb has said what is expected."""
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
