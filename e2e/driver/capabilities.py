"""Finds out what this machine allows. A test that needs more is skipped, with the reason."""

import functools
import os
import platform
import shutil
import subprocess
import tempfile

from driver import procfs
from driver.pidfd import set_subreaper


def _succeeds(*command: str) -> bool:
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def _kernel() -> tuple[int, int]:
    major, minor = platform.release().split(".")[:2]
    return int(major), int(minor.split("-")[0])


def _root() -> str | None:
    return None if os.geteuid() == 0 else "needs root: it changes users"


def _pid_namespace() -> str | None:
    if _succeeds("unshare", "--pid", "--fork", "--mount-proc", "true"):
        return None
    return "needs the right to make a PID namespace and to mount /proc in it"


def _private_proc() -> str | None:
    if _kernel() < (5, 8):
        return "needs Linux 5.8: before, hidepid would change /proc for the whole machine"
    script = "mount -t proc -o hidepid=2 proc /proc"
    if os.geteuid() == 0 and _succeeds("unshare", "--mount", "sh", "-c", script):
        return None
    return "needs root and the right to mount /proc in a mount namespace"


def _fuse() -> str | None:
    """Tries to mount a FUSE file system, in a new mount namespace."""
    options = "fd=3,rootmode=40000,user_id=0,group_id=0"
    script = f'exec 3<>/dev/fuse && mount -i -t fuse -o {options} none "$0"'
    with tempfile.TemporaryDirectory() as directory:
        if os.geteuid() == 0 and _succeeds("unshare", "--mount", "sh", "-c", script, directory):
            return None
    return "needs root, /dev/fuse, and the right to mount in a mount namespace"


def _initial_pid_namespace() -> str | None:
    if procfs.pid_namespace(os.getpid()) == procfs.INITIAL_PID_NAMESPACE:
        return None
    return "needs the initial PID namespace: a plain number proves nothing in another one"


def _adopting_init() -> str | None:
    """Makes an orphan, and finds out which process has adopted it."""
    orphan = (
        "parent=$0; "
        "while [ $parent = $0 ]; do read -r _ _ _ parent _ </proc/$$/stat; done; "
        "echo $parent"
    )
    script = f"sh -c '{orphan}' $$ &"
    set_subreaper(False)
    try:
        adopter = subprocess.run(
            ["sh", "-c", script], capture_output=True, text=True, check=True
        ).stdout.strip()
    finally:
        set_subreaper(True)
    return None if adopter == "1" else f"orphans are adopted by process {adopter}, not by PID 1"


def _pidfs() -> str | None:
    return None if _kernel() >= (6, 9) else "needs Linux 6.9: before, one pidfd is like another"


def _debugger() -> str | None:
    with subprocess.Popen(["sleep", "60"]) as target:
        attach = ("gdb", "-nx", "--batch", "-ex", f"attach {target.pid}")
        attached = shutil.which("gdb") and _succeeds(*attach)
        target.kill()
    return None if attached else "needs gdb, and the right to attach it"


def _memory() -> str | None:
    available = procfs.memory_available() / (1 << 30)
    return None if available >= 4 else f"needs 4 GiB of memory, and {available:.1f} GiB are available"


_CHECKS = {
    "memory": _memory,
    "debugger": _debugger,
    "pidfs": _pidfs,
    "root": _root,
    "pid-namespace": _pid_namespace,
    "private-proc": _private_proc,
    "fuse": _fuse,
    "initial-pid-namespace": _initial_pid_namespace,
    "adopting-init": _adopting_init,
}


@functools.cache
def reason_to_skip(capability: str) -> str | None:
    """Why this machine lacks the capability. None if it has it."""
    return _CHECKS[capability]()
