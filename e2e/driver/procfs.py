"""Reads /proc about the processes of a tree. All pids are those of the driver's PID namespace."""

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path

INITIAL_PID_NAMESPACE = 4026531836
WATCHER_THREAD = "parent-watch"

_LOOKS = 5


def _stat_fields(pid: int) -> list[str]:
    """The fields of /proc/PID/stat from the third on. [0] is the state, [1] the parent."""
    text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    return text.rpartition(")")[2].split()


def state(pid: int) -> str:
    """The state letter that ps shows. X for a process that is gone."""
    try:
        return _stat_fields(pid)[0]
    except OSError:
        return "X"


def parent(pid: int) -> int:
    return int(_stat_fields(pid)[1])


def start_time(pid: int) -> int:
    """Clock ticks between boot and the start of the process: the STARTTIME of a token."""
    return int(_stat_fields(pid)[19])


def uptime() -> float:
    """The uptime in seconds."""
    return float(Path("/proc/uptime").read_text().split()[0])


def pid_namespace(pid: int) -> int:
    return os.stat(f"/proc/{pid}/ns/pid").st_ino


def token(pid: int) -> str:
    return f"{pid}@{start_time(pid)}@{pid_namespace(pid)}"


def command_name(pid: int) -> str:
    return Path(f"/proc/{pid}/comm").read_text().strip()


def is_titled(pid: int, title: str) -> bool:
    """Whether the command line is that title, or is that title followed by " for "."""
    line = command_line(pid).rstrip()
    return line == title or line.startswith(f"{title} for ")


def command_line(pid: int) -> str:
    try:
        return (
            Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            or f"[{command_name(pid)}]"
        )
    except OSError:
        return "(gone)"


def threads(pid: int) -> list[int]:
    return sorted(int(name) for name in os.listdir(f"/proc/{pid}/task"))


def watcher_threads(pid: int) -> list[int]:
    """The ids of the threads with the watcher's name. Empty for a process that is gone."""
    found = []
    with contextlib.suppress(OSError):
        for tid in threads(pid):
            with contextlib.suppress(OSError):
                name = Path(f"/proc/{pid}/task/{tid}/comm").read_text().strip()
                if name == WATCHER_THREAD:
                    found.append(tid)
    return found


def thread_status(pid: int, tid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/task/{tid}/status").read_text().splitlines()
    return {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}


def voluntary_switches(pid: int, tid: int) -> int:
    """How often the thread has gone to sleep. In the poll tier the number rises by one with every
    poll. In the event tier it does not rise."""
    return int(thread_status(pid, tid)["voluntary_ctxt_switches"])


def cpu_time_ns(pid: int, tid: int) -> int:
    return int(Path(f"/proc/{pid}/task/{tid}/schedstat").read_text().split()[0])


def waits_in(pid: int, tid: int) -> str:
    """The kernel function in which the thread sleeps. Empty if it runs, or if that is hidden."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/task/{tid}/wchan").read_text().strip().removeprefix("0")
    return ""


def large_mappings(pid: int) -> list[str]:
    """The mappings that hold memory or a device: shared ones, devices, and anonymous ones of at
    least 1 MiB. Stacks and the zero-initialised data of programs do not count."""
    found = []
    end_of_file = None
    for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
        address, permissions, _, _, inode, *path = line.split(maxsplit=5)
        begin, end = (int(number, 16) for number in address.split("-"))
        is_data = begin == end_of_file
        if inode != "0" or is_data:
            end_of_file = end
        anonymous = inode == "0" and not is_data and (not path or path[0] == "[heap]")
        device = bool(path) and path[0].startswith("/dev/")
        if permissions[3] == "s" or device or (anonymous and end - begin >= 1 << 20):
            found.append(line)
    return found


def resident_kib(pid: int) -> int:
    return int(thread_status(pid, pid)["VmRSS"].split()[0])


def memory_available() -> int:
    """The memory in bytes that programs can still get without swapping."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable:"))


@dataclass(frozen=True)
class Descriptor:
    """An open descriptor of another process."""

    number: int
    target: str
    close_on_exec: bool

    def is_pidfd(self) -> bool:
        return "pidfd" in self.target


def holders_of_port(port: int) -> set[int]:
    """The processes that have a TCP socket on this local port."""
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    rows = [line.split() for line in lines]
    sockets = {f"socket:[{row[9]}]" for row in rows if int(row[1].rpartition(":")[2], 16) == port}
    found = set()
    for name in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            if any(descriptor.target in sockets for descriptor in descriptors(int(name))):
                found.add(int(name))
    return found


def descriptors(pid: int) -> list[Descriptor]:
    found = []
    for name in os.listdir(f"/proc/{pid}/fd"):
        try:
            target = os.readlink(f"/proc/{pid}/fd/{name}")
            information = Path(f"/proc/{pid}/fdinfo/{name}").read_text()
        except OSError:
            continue
        flags = next(line for line in information.splitlines() if line.startswith("flags:"))
        close_on_exec = bool(int(flags.split()[1], 8) & os.O_CLOEXEC)
        found.append(Descriptor(int(name), target, close_on_exec))
    return sorted(found, key=lambda descriptor: descriptor.number)


def has_descriptors(pid: int) -> bool:
    """Whether the process has open descriptors. An exiting process closes them shortly before its
    pidfd becomes readable."""
    with contextlib.suppress(OSError):
        return bool(os.listdir(f"/proc/{pid}/fd"))
    return False


def descendants(ancestor: int) -> dict[int, str]:
    """Every process below `ancestor`, including zombies, with its state."""
    # If a parent ends during a look, its children have moved. The next look finds them.
    for _ in range(_LOOKS):
        below, complete = _look_for_descendants(ancestor)
        if complete:
            break
    return below


def _look_for_descendants(ancestor: int) -> tuple[dict[int, str], bool]:
    """The processes below `ancestor`, and whether the parents of all processes were found."""
    parents: dict[int, int] = {}
    states: dict[int, str] = {}
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            fields = _stat_fields(int(name))
        except OSError:
            continue
        states[int(name)], parents[int(name)] = fields[0], int(fields[1])
    below: dict[int, str] = {}
    complete = True
    for pid in parents:
        above = pid
        while above in parents and above != ancestor:
            above = parents[above]
        if above == ancestor and pid != ancestor:
            below[pid] = states[pid]
        complete = complete and above in (ancestor, 0)
    return below, complete
