"""The contract's table. Each row is tested in a process that is started with its environment."""

import json
import os
import re
from pathlib import Path

import localai_parentwatch
import pytest
import trees
from localai_parentwatch import parent_watch

_TABLE = json.loads(Path(os.environ["CONTRACT_VECTORS"]).read_text(encoding="utf-8"))

# The program reads the environment, starts the watcher without options, and reports both.
_READ_AND_START = """
import json, localai_parentwatch as package
from localai_parentwatch import parent_watch as drop_in
before = package.status()
read = [package.enabled(), package.interval(), before.scope, before.grace]
drop_in_read = [drop_in._enabled(), drop_in._interval_seconds()]
if {drop_in}:
    started = drop_in.start_parent_death_watcher()
else:
    started = package.start_parent_death_watcher()
after = package.status()
print(json.dumps({{
    "read": read,
    "drop_in": drop_in_read,
    "started": started,
    "state": after.state,
    "after": [after.interval, after.scope, after.grace],
    "watched": after.watched,
}}))
"""

_NOT_UNDERSTOOD = re.compile(
    r"localai-parentwatch: LOCALAI_BACKEND_\w+=.*: expected (?!a living ancestor).*; using .*"
)
_UNPROVEN = re.compile(
    r"localai-parentwatch: LOCALAI_BACKEND_PARENT_PID=(\S+): expected a living ancestor .*"
)


def rows() -> list[dict]:
    """The rows of the table, completed with the defaults."""
    return [{**_TABLE["default"], "supervisor": None, "warns": 0, **row} for row in _TABLE["vectors"]]


def env_of(row: dict) -> dict[bytes, bytes]:
    env = {name.encode(): value.encode() for name, value in row.get("env", {}).items()}
    env.update(
        (name.encode(), bytes.fromhex(digits)) for name, digits in row.get("env_hex", {}).items()
    )
    return env


def id_of(row: dict) -> str:
    return ascii("+".join([*row.get("env", {}).values(), *row.get("env_hex", {}).values()]))[:40]


def grace_of(row: dict) -> float | None:
    return None if row["grace_ns"] is None else row["grace_ns"] / 1e9


def token_of(supervisor: dict) -> str:
    return "@".join(str(supervisor[key]) for key in ("pid", "start", "pidns") if key in supervisor)


def test_the_table_is_complete() -> None:
    assert len(rows()) >= 182


@pytest.mark.parametrize("row", rows(), ids=id_of)
def test_row(row: dict, request: pytest.FixtureRequest) -> None:
    # Every other row starts the watcher through the drop-in, which must do the same.
    through_drop_in = request.node.callspec.indices["row"] % 2 == 1
    ran = trees.run(trees.command(_READ_AND_START.format(drop_in=through_drop_in)), env=env_of(row))
    supervisor = row["supervisor"]
    if supervisor and ran.returncode == 1:
        # If the uptime is less than the token's start time, the supervisor is proven to be dead.
        assert f"localai-parentwatch: supervisor {supervisor['pid']} is gone, worker " in ran.stderr
        return
    assert ran.returncode == 0, ran.stderr
    told = json.loads(ran.stdout)

    interval = row["interval_ns"] / 1e9
    assert told["drop_in"] == [row["enabled"], interval]
    grace = grace_of(row)
    assert told["read"] == [row["enabled"], interval, row["scope"], grace]
    state = 0 if row["enabled"] else 1
    # Once armed, the scope in effect: the process leads no group.
    acts = row["scope"] != "group" or state != 0
    assert told["after"] == [interval, row["scope"] if acts else "process", grace]

    assert told["state"] == state
    assert told["started"] == (None if through_drop_in else state)
    parent, *further = told["watched"] if row["enabled"] else [os.getpid()]
    assert parent == os.getpid()

    # One line for each invalid value. A valid supervisor is watched if its process id is that of an
    # ancestor. Else there is a line too, which shows how it was read.
    lines = ran.stderr.splitlines()
    unproven = [match[1] for line in lines if (match := _UNPROVEN.fullmatch(line))]
    assert len([line for line in lines if _NOT_UNDERSTOOD.fullmatch(line)]) == row["warns"], lines
    assert len(lines) == row["warns"] + len(unproven), lines
    if supervisor:
        assert further == [supervisor["pid"]] or unproven == [token_of(supervisor)]
    else:
        assert (further, unproven) == ([], [])


def test_changes_of_the_environment_are_seen_in_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    for row in rows():
        with monkeypatch.context() as context:
            for name, value in env_of(row).items():
                context.setitem(os.environb, name, value)
            enabled, interval = row["enabled"], row["interval_ns"] / 1e9
            assert localai_parentwatch.enabled() is parent_watch._enabled() is enabled, row
            assert localai_parentwatch.interval() == parent_watch._interval_seconds() == interval, row
            told = localai_parentwatch.status()
            assert (told.scope, told.grace) == (row["scope"], grace_of(row)), row
