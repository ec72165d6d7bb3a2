"""Makes cgroups for some processes of a tree, in version 1 or 2 of the kernel's interface."""

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

from driver.deadline import wait_until
from driver.roles import Process

VERSIONS = ("v1", "v2")


class Unavailable(Exception):
    """This machine has no such cgroup, or does not allow making one."""


class Cgroup:
    """A new child of the topmost cgroup that is visible here."""

    def __init__(self, version: str, controller: str) -> None:
        self._version = version
        self._top = _mount_point(version, controller)
        try:
            self._path = Path(tempfile.mkdtemp(prefix="parentwatch-e2e-", dir=self._top))
        except OSError as error:
            raise Unavailable(f"no cgroup can be made below {self._top}: {error.strerror}") from error

    def add(self, process: Process) -> None:
        (self._path / "cgroup.procs").write_text(str(process.pid))

    def limit_tasks(self, limit: int | None) -> None:
        """Sets how many processes and threads it may have. None removes the limit."""
        (self._path / "pids.max").write_text("max" if limit is None else str(limit))

    def tasks(self) -> int:
        return int((self._path / "pids.current").read_text())

    @property
    def holds_the_killed(self) -> bool:
        """Whether a frozen process that is killed only ends once it is thawed."""
        return self._version == "v1"

    def freeze(self) -> None:
        self._set_frozen(True)
        wait_until(self._is_frozen, f"{self._path} is frozen")

    def thaw(self) -> None:
        self._set_frozen(False)

    def _set_frozen(self, frozen: bool) -> None:
        if self._version == "v1":
            (self._path / "freezer.state").write_text("FROZEN" if frozen else "THAWED")
        else:
            (self._path / "cgroup.freeze").write_text("1" if frozen else "0")

    def _is_frozen(self) -> bool:
        if self._version == "v1":
            return (self._path / "freezer.state").read_text().strip() == "FROZEN"
        return "frozen 1" in (self._path / "cgroup.events").read_text().splitlines()

    def close(self) -> None:
        """Moves the processes that are left to the parent cgroup, and removes this one."""
        wait_until(self._removed, f"{self._path} is removed")

    def _removed(self) -> bool:
        for pid in (self._path / "cgroup.procs").read_text().split():
            with contextlib.suppress(ProcessLookupError):
                (self._top / "cgroup.procs").write_text(pid)
        with contextlib.suppress(OSError):
            self._path.rmdir()
        return not self._path.exists()


@contextlib.contextmanager
def freezer(version: str) -> Iterator[Cgroup]:
    cgroup = Cgroup(version, "freezer")
    try:
        yield cgroup
    finally:
        cgroup.thaw()
        cgroup.close()


@contextlib.contextmanager
def limit_of_tasks() -> Iterator[Cgroup]:
    """A pids cgroup, in the version that this machine supports."""
    try:
        cgroup = Cgroup("v1", "pids")
    except Unavailable:
        cgroup = Cgroup("v2", "pids")
    try:
        yield cgroup
    finally:
        cgroup.close()


def _mount_point(version: str, controller: str) -> Path:
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        mount, _, system = line.partition(" - ")
        kind, _source, options = system.split()
        path = Path(mount.split()[4])
        if version == "v1" and kind == "cgroup" and controller in options.split(","):
            return path
        if version == "v2" and kind == "cgroup2" and _is_enabled(path, controller):
            return path
    raise Unavailable(f"no cgroup {version} with {controller} is mounted here")


def _is_enabled(path: Path, controller: str) -> bool:
    # Every cgroup v2 can be frozen. That needs no controller.
    enabled = (path / "cgroup.subtree_control").read_text().split()
    return controller == "freezer" or controller in enabled
