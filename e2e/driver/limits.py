"""Two ways in which a worker gets no further process, and no further thread."""

import contextlib
import os
import subprocess
from collections.abc import Iterator

from driver import cgroups
from driver.cgroups import Cgroup
from driver.roles import Worker

LIMITED_USER = 20_000 + os.getpid() % 40_000
"""A user of this driver alone: the limit counts everything of the user, and the trees of another driver
must not be in it. Below 65536: a user namespace may have no more."""


class UserLimit:
    """RLIMIT_NPROC, of a user whom it limits: root is not limited."""

    steps = ("--user", str(LIMITED_USER))

    def leave(self, worker: Worker, tasks: int) -> None:
        """At most so many processes and threads more: a helper counts, too."""
        self._set(worker, 1 + tasks)

    def lift(self, worker: Worker) -> None:
        self._set(worker, 1000)

    def _set(self, worker: Worker, limit: int) -> None:
        """With the user's own rights: another's limits are not root's to change everywhere."""
        subprocess.run(
            ["prlimit", "--pid", str(worker.pid), f"--nproc={limit}:"],
            user=LIMITED_USER,
            group=LIMITED_USER,
            extra_groups=[],
            check=True,
        )


class CgroupLimit:
    """A pids cgroup, which limits root as well."""

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
