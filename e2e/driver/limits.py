"""Two ways to limit the number of processes and threads that a worker can have."""

import contextlib
import os
import subprocess
from collections.abc import Iterator

from driver import cgroups
from driver.cgroups import Cgroup
from driver.roles import Worker

LIMITED_USER = 20_000 + os.getpid() % 40_000
"""A user that only this driver has: the limit counts all tasks of the user, and those of another
driver must not be among them. The number is below 65536, since a user namespace may have no more."""


class UserLimit:
    """RLIMIT_NPROC, for an ordinary user. It does not limit root."""

    steps = ("--user", str(LIMITED_USER))

    def leave(self, worker: Worker, tasks: int) -> None:
        """Allows that many more processes and threads. A helper counts too."""
        self._set(worker, 1 + tasks)

    def lift(self, worker: Worker) -> None:
        self._set(worker, 1000)

    def _set(self, worker: Worker, limit: int) -> None:
        """Runs as that user: in some sandboxes root may not change another user's limits."""
        subprocess.run(
            ["prlimit", "--pid", str(worker.pid), f"--nproc={limit}:"],
            user=LIMITED_USER,
            group=LIMITED_USER,
            extra_groups=[],
            check=True,
        )


class CgroupLimit:
    """A pids cgroup. It limits root too."""

    steps = ()

    def __init__(self, cgroup: Cgroup) -> None:
        self._cgroup = cgroup

    def leave(self, worker: Worker, tasks: int) -> None:
        self._cgroup.add(worker)
        self._cgroup.limit_tasks(self._cgroup.tasks() + tasks)

    def lift(self, worker: Worker) -> None:
        self._cgroup.limit_tasks(None)


TaskLimit = UserLimit | CgroupLimit


@contextlib.contextmanager
def task_limit(kind: str) -> Iterator[TaskLimit]:
    if kind == "rlimit":
        yield UserLimit()
        return
    with cgroups.limit_of_tasks() as cgroup:
        yield CgroupLimit(cgroup)
