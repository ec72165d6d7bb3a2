"""A program for the type checker: mypy --strict must accept every line, and every ignored error must be
an error (`warn_unused_ignores` is part of --strict)."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Literal, NoReturn

import localai_parentwatch
from localai_parentwatch import Info, Status, parent_watch


def save() -> None: ...


started: Status = localai_parentwatch.start_parent_death_watcher()
localai_parentwatch.start_parent_death_watcher(
    on_death=save,
    grace="2s",
    scope="process",
    interval=timedelta(seconds=3),
    parent=localai_parentwatch.token(),
)
localai_parentwatch.start_parent_death_watcher(on_death=lambda: 1, grace=2, interval=0.5, parent=4242)
localai_parentwatch.start_parent_death_watcher(
    on_death=None, grace=None, scope=None, interval=None, parent=None
)
scope: Literal["tree", "group", "process"] = "tree"
localai_parentwatch.start_parent_death_watcher(scope=scope)

localai_parentwatch.start_parent_death_watcher(save)  # type: ignore[call-arg]
localai_parentwatch.start_parent_death_watcher(on_death=1)  # type: ignore[arg-type]
localai_parentwatch.start_parent_death_watcher(on_death=print)
localai_parentwatch.start_parent_death_watcher(on_death=bool.__and__)  # type: ignore[arg-type]
localai_parentwatch.start_parent_death_watcher(scope="all")  # type: ignore[arg-type]
localai_parentwatch.start_parent_death_watcher(grace=b"2s")  # type: ignore[arg-type]
localai_parentwatch.start_parent_death_watcher(parent=1.5)  # type: ignore[arg-type]
localai_parentwatch.start_parent_death_watcher(timeout=1)  # type: ignore[call-arg]

child: dict[str, str] = localai_parentwatch.child_env({"A": "b"}) | localai_parentwatch.child_env()


def become() -> NoReturn:
    localai_parentwatch.exec(["true", b"b", Path("c")], env=child, grace="2s", cgroup=True)


def become_wrongly(way: int) -> NoReturn:
    if way == 1:
        localai_parentwatch.exec([1])  # type: ignore[list-item]
    if way == 2:
        localai_parentwatch.exec(["true"], scope="all")  # type: ignore[arg-type]
    localai_parentwatch.exec(["true"], {"A": "b"})  # type: ignore[call-arg]


info: Info = localai_parentwatch.status()
state: Status = info.state
tier: str = info.tier
watched: tuple[int, ...] = info.watched
seconds: float = info.interval + localai_parentwatch.interval()
grace: float | None = info.grace
worse: float = info.grace  # type: ignore[assignment]
is_on: bool = localai_parentwatch.enabled()
name: str = localai_parentwatch.ENV_PARENT_WATCH_GRACE + localai_parentwatch.__version__
token: str = localai_parentwatch.token()
number: int = Status.ARMED
info.tier = "poll"  # type: ignore[misc]
localai_parentwatch.stop()  # type: ignore[attr-defined]

drop_in: Callable[[int, float, Callable[[], object]], None] = parent_watch._watch
died: bool = parent_watch._parent_died(1)
every: float = parent_watch._interval_seconds()
may: bool = parent_watch._enabled()
parent_watch.start_parent_death_watcher()
parent_watch.start_parent_death_watcher(1)  # type: ignore[call-arg]
