"""What the functions accept, return and raise. Tests that start the watcher do so in a child
process."""

import copy
import datetime
import decimal
import enum
import gc
import inspect
import os
import pickle
import re
import sys
import weakref
from pathlib import Path

import localai_parentwatch
import pytest
import trees
from localai_parentwatch import Info, Status

NOBODY = 65534

# One line, which a program under test begins with.
START = "from localai_parentwatch import *; start = start_parent_death_watcher; import json, os, sys; "
INFO = "print(json.dumps(status()._asdict()))"


def info(arguments: str, *after: str, env: trees.Environment = None) -> dict:
    """The result of status() in a process that started the watcher with these arguments."""
    return trees.answer("\n".join([f"{START}start({arguments})", *after, INFO]), env=env)


@pytest.fixture
def switched_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """For arguments that are checked before anything starts: this process runs the tests."""
    monkeypatch.setenv(trees.ENV_PARENT_WATCH, "off")


# -- Status and Info -------------------------------------------------------------------------------


def test_status_has_the_words_and_numbers_of_every_language() -> None:
    assert {status.name.lower(): int(status) for status in Status} == {
        "armed": 0,
        "disabled": 1,
        "no_parent": 2,
        "unsupported": 3,
        "not_started": 4,
        "exhausted": -1,
        "invalid": -2,
        "internal": -127,
    }
    assert issubclass(Status, enum.IntEnum)
    assert Status.ARMED == 0
    assert Status(-1) is Status.EXHAUSTED
    assert (str(Status.NO_PARENT), f"{Status.ARMED:>6}") == ("no_parent", " armed")
    assert repr(Status.NO_PARENT) == "<Status.NO_PARENT: 2>"
    assert all(
        inspect.isclass(kind) and kind.__module__ == "localai_parentwatch" for kind in (Status, Info)
    )


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_values_are_pickled_compared_and_hashed(protocol: int) -> None:
    before = localai_parentwatch.status()
    for value in (before, Status.EXHAUSTED):
        again = pickle.loads(pickle.dumps(value, protocol))
        assert (again, hash(again), type(again)) == (value, hash(value), type(value))
        assert copy.deepcopy(value) == value
    assert pickle.loads(pickle.dumps(Status.ARMED, protocol)) is Status.ARMED


def test_info_is_printable_and_cannot_be_changed() -> None:
    before = localai_parentwatch.status()
    assert repr(before) == (
        "Info(state=<Status.NOT_STARTED: 4>, tier='none', watched=(), interval=2.0, scope='tree', "
        "grace=None)"
    )
    assert str(before) == repr(before)
    for name in (*Info._fields, "another"):
        with pytest.raises(AttributeError):
            setattr(before, name, 1)
    assert [type(value) for value in before] == [Status, str, tuple, float, str, type(None)]


def test_armed() -> None:
    program = f"{START}started = start(); assert started is Status.ARMED is status().state; {INFO}"
    assert trees.answer(program) == {
        "state": 0,
        "tier": "event",
        "watched": [os.getpid()],
        "interval": 2.0,
        "scope": "tree",
        "grace": None,
    }


# -- Options ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("interval=3", {"interval": 3.0}),
        ("interval=0.01", {"interval": 0.01}),
        ("interval='1m30s'", {"interval": 90.0}),
        ("interval='0.25'", {"interval": 0.25}),
        ("interval=__import__('datetime').timedelta(minutes=60)", {"interval": 3600.0}),
        ("scope='process'", {"scope": "process"}),
        ("scope=' GROUP '", {"scope": "group"}),
        ("scope='tree'", {"scope": "tree"}),
        ("grace=3", {"grace": 3.0}),
        ("grace=0", {"grace": 0.0}),
        ("grace='0'", {"grace": 0.0}),
        ("on_death=print", {"grace": 9.0}),
        ("on_death=print, grace=0", {"grace": 0.0}),
        ("on_death=print, grace=1.5", {"grace": 1.5}),
        ("on_death=print, grace='250ms'", {"grace": 0.25}),
        ("on_death=print, grace=__import__('datetime').timedelta(hours=1)", {"grace": 3600.0}),
        ("on_death=None, grace=None, scope=None, interval=None, parent=None", {}),
        ("parent=os.getppid()", {}),
        ("parent=str(os.getppid())", {}),
        ("parent=sys.argv[1]", {}),
    ],
    ids=str,
)
def test_options_override_the_environment_and_are_reported(arguments: str, expected: dict) -> None:
    env = {
        trees.ENV_PARENT_WATCH_INTERVAL: "7s",
        trees.ENV_PARENT_WATCH_SCOPE: "process" if expected.get("scope") == "group" else "group",
        trees.ENV_PARENT_WATCH_GRACE: "9s",
    }
    # As the leader of its group, as LocalAI's workers are: else there is no group to end.
    program = f"{START}os.setpgid(0, 0); start({arguments}); {INFO}"
    told = trees.answer(program, localai_parentwatch.token(), env=env)
    assert (
        told
        == {
            "state": 0,
            "tier": "event",
            "watched": [os.getpid()],
            "interval": 7.0,
            "scope": "group",
            "grace": 9.0,
        }
        | expected
    )


def test_status_reports_the_scope_in_effect() -> None:
    """A process that leads no group has no group to end."""
    told = "print(json.dumps([status().scope, start(), status().scope]))"
    env = {trees.ENV_PARENT_WATCH_SCOPE: "group"}
    assert trees.answer(f"{START}{told}", env=env) == ["group", 0, "process"]
    assert trees.answer(f"{START}os.setpgid(0, 0); {told}", env=env) == ["group", 0, "group"]
    assert trees.answer(f"{START}{told}") == ["tree", 0, "tree"]


@pytest.mark.parametrize(
    ("variable", "arguments", "before", "after"),
    [
        (None, "", None, None),
        (None, "on_death=print", None, 5.0),
        (None, "on_death=print, grace=0", None, 0.0),
        ("250ms", "", 0.25, 0.25),
        ("0", "on_death=print", 0.0, 0.0),
    ],
    ids=str,
)
def test_status_reports_the_grace(
    variable: str | None, arguments: str, before: float | None, after: float | None
) -> None:
    env = {} if variable is None else {trees.ENV_PARENT_WATCH_GRACE: variable}
    program = f"{START}print(json.dumps([status().grace, start({arguments}), status().grace]))"
    assert trees.answer(program, env=env) == [before, 0, after]


def test_no_warning_about_a_value_that_an_option_overrides() -> None:
    env = {
        trees.ENV_PARENT_WATCH_INTERVAL: "soon",
        trees.ENV_PARENT_WATCH_SCOPE: "all",
        trees.ENV_PARENT_WATCH_GRACE: "long",
        trees.ENV_PARENT_PID: "me",
    }
    info("scope='process', interval=1, grace=1, parent=os.getppid()", env=env)


def test_a_supervisor_further_up() -> None:
    ran = trees.run(
        trees.command(
            f"import subprocess, sys; ran = subprocess.run([sys.executable, '-I', '-c', {START!r} "
            f"'start(parent=int(sys.argv[1])); {INFO}', sys.argv[1]]); sys.exit(ran.returncode)",
            os.getpid(),
        )
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    assert re.search(rf'"watched": \[\d+, {os.getpid()}\]', ran.stdout), ran.stdout


OUT_OF_RANGE = [
    *(
        (name, value, f"{name}: expected a duration such as 500ms, 2s or 1m30s")
        for name in ("grace", "interval")
        for value in ("", "soon", "-1s", "2 s", " 2s", "2S", "1d", "1_0s", "٢s", "\udcff")
    ),
    *(
        (name, value, f"{name}: expected a finite number of seconds, 0 or more")
        for name in ("grace", "interval")
        for value in (-1, -1e-9, float("nan"), float("inf"), float("-inf"), 2**64, 10**400, -(10**400))
    ),
    *(
        (name, value, f"{name}: expected a timedelta that is not negative")
        for name in ("grace", "interval")
        for value in (datetime.timedelta(microseconds=-1), datetime.timedelta.min)
    ),
    *(
        ("interval", value, "interval: expected from 10ms to 1h")
        for value in (
            0,
            "0",
            "0s",
            0.0099,
            3600.001,
            "9ms",
            "2h",
            datetime.timedelta(hours=2),
            datetime.timedelta.max,
        )
    ),
    *(
        ("grace", value, "grace: expected at most 1h")
        for value in (3600.001, "1h1ms", datetime.timedelta.max)
    ),
    *(
        ("scope", value, 'scope: expected "tree", "group" or "process"')
        for value in ("", "all", "group\0", "\udcff")
    ),
    *(
        ("parent", value, "parent: expected PID or PID@STARTTIME@PIDNS, in decimal digits")
        for value in (
            0,
            -1,
            2**31,
            2**63,
            -(2**63) - 1,
            10**30,
            "",
            "0",
            "-5",
            "+5",
            "soon",
            "5@6",
            "\udcff",
            "5@6@7@8",
        )
    ),
]


@pytest.mark.parametrize(("option", "value", "text"), OUT_OF_RANGE, ids=lambda value: ascii(value)[:30])
def test_out_of_range(switched_off: None, option: str, value: object, text: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
        localai_parentwatch.start_parent_death_watcher(**{option: value})


DURATION = "a number of seconds, a timedelta or a str"


@pytest.mark.parametrize(
    ("option", "expected", "values"),
    [
        ("grace", DURATION, (True, b"2s", (), [2], object(), decimal.Decimal(2), 2j, datetime.time(2))),
        ("interval", DURATION, (False, b"2s", bytearray(b"2s"), {}, decimal.Decimal(2), 2j)),
        ("scope", "a str", (1, True, b"group", ["group"], object())),
        ("parent", "an int or a str", (True, 1.0, b"1", (1, 2, 3), object())),
    ],
    ids=["grace", "interval", "scope", "parent"],
)
def test_wrong_type(switched_off: None, option: str, expected: str, values: tuple) -> None:
    for value in values:
        text = f"{option}: expected {expected}, not {type(value).__name__}"
        with pytest.raises(TypeError, match=f"^{re.escape(text)}$"):
            localai_parentwatch.start_parent_death_watcher(**{option: value})


@pytest.mark.parametrize("value", [0, "print", b"print", ()], ids=repr)
def test_hook_that_is_not_callable(switched_off: None, value: object) -> None:
    with pytest.raises(TypeError, match=r"^on_death: expected a callable without arguments$"):
        localai_parentwatch.start_parent_death_watcher(on_death=value)


def test_options_are_keyword_only(switched_off: None) -> None:
    with pytest.raises(TypeError):
        localai_parentwatch.start_parent_death_watcher(print)
    with pytest.raises(TypeError):
        localai_parentwatch.start_parent_death_watcher(timeout=1)
    signature = inspect.signature(localai_parentwatch.start_parent_death_watcher)
    assert list(signature.parameters) == ["on_death", "grace", "scope", "interval", "parent"]
    for parameter in signature.parameters.values():
        assert (parameter.kind, parameter.default) == (inspect.Parameter.KEYWORD_ONLY, None)


def test_a_refused_call_changes_nothing() -> None:
    trees.answer(
        f"""{START}
bad = dict(grace=-1, interval=0, scope="all", parent=0, on_death=1)
for name, value in bad.items():
    try:
        start(**{{name: value}})
    except (TypeError, ValueError):
        assert status().state is Status.NOT_STARTED
    else:
        raise AssertionError(name)
assert len(os.listdir("/proc/self/task")) == 1
assert start(interval=3) is Status.ARMED
{INFO}"""
    )


# -- Once armed ------------------------------------------------------------------------------------


def test_repeated_calls() -> None:
    program = f"""{START}
def hook(): pass
chosen = dict(on_death=hook, grace=2, scope="process", interval=3, parent=os.getppid())
assert start(**chosen) is Status.ARMED
before = status()
assert start() is start(**chosen) is Status.ARMED
for name, value in chosen.items():
    assert start(**{{name: value}}) is Status.ARMED
others = dict(on_death=lambda: None, grace="2001ms", scope="group", interval=3.5, parent=os.getpid())
for name, value in others.items():
    try:
        start(**{{name: value}})
    except ValueError as error:
        assert str(error) == "already armed with other options", error
    else:
        raise AssertionError(name)
assert status() == before
{INFO}"""
    assert trees.answer(program)["grace"] == 2.0


def test_hook_is_kept_alive_while_armed() -> None:
    program = f"""{START}
import gc, weakref
class Hook:
    def __call__(self): pass
def offer(expected):
    hook = Hook()
    alive = weakref.ref(hook)
    try:
        outcome = start(on_death=hook)
    except ValueError:
        outcome = Status.INVALID
    del hook
    gc.collect()
    assert outcome is expected, outcome
    return alive() is not None
os.environ[ENV_PARENT_WATCH] = "off"
kept = [offer(Status.DISABLED)]
del os.environ[ENV_PARENT_WATCH]
kept += [offer(Status.ARMED), offer(Status.INVALID)]
print(json.dumps(kept))"""
    assert trees.answer(program) == [False, True, False]


def test_a_refused_hook_is_released(switched_off: None) -> None:
    class Hook:
        def __call__(self) -> None: ...

    hook = Hook()
    alive = weakref.ref(hook)
    with pytest.raises(ValueError, match="grace"):
        localai_parentwatch.start_parent_death_watcher(on_death=hook, grace=-1)
    assert localai_parentwatch.start_parent_death_watcher(on_death=hook) is Status.DISABLED
    del hook
    gc.collect()
    assert alive() is None


# -- Not armed -------------------------------------------------------------------------------------


def test_switched_off_stays_off_and_can_be_tried_again() -> None:
    program = f"""{START}
assert start(interval=1, parent=os.getppid(), on_death=print) is Status.DISABLED
assert status() == (Status.DISABLED, "none", (), 2.0, "tree", None), status()
assert len(os.listdir("/proc/self/task")) == 1
os.environ[ENV_PARENT_WATCH] = "on"
assert start() is Status.ARMED
{INFO}"""
    bad = {trees.ENV_PARENT_WATCH_INTERVAL: "soon", trees.ENV_PARENT_WATCH_SCOPE: "all"}
    ran = trees.run(trees.command(program), env={trees.ENV_PARENT_WATCH: "off", **bad})
    assert ran.returncode == 0, ran.stderr
    # The call that arms prints it, and no earlier call.
    assert len(ran.stderr.splitlines()) == 2, ran.stderr


def needs_root() -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can become another user, whose processes can be limited, or unshare")


def test_failing_to_create_a_thread_is_no_exception() -> None:
    needs_root()
    program = f"""{START}import resource
from localai_parentwatch import parent_watch
os.setgid({NOBODY}); os.setuid({NOBODY})
_, hard = resource.getrlimit(resource.RLIMIT_NPROC)
resource.setrlimit(resource.RLIMIT_NPROC, (1, hard))
assert start() is Status.EXHAUSTED is status().state
assert start(on_death=print, scope="process") is Status.EXHAUSTED
assert parent_watch.start_parent_death_watcher() is None
assert status() == (Status.EXHAUSTED, "none", (), 2.0, "tree", None), status()
resource.setrlimit(resource.RLIMIT_NPROC, (1000, hard))
assert start() is Status.ARMED
{INFO}"""
    ran = trees.run(trees.command(program))
    assert ran.returncode == 0, ran.stderr
    lines = ran.stderr.splitlines()
    assert len(lines) == 3, ran.stderr
    for line in lines:
        assert re.fullmatch(
            r"localai-parentwatch: cannot create a thread \(error \d+\): supervisor .*", line
        )


def test_no_parent() -> None:
    needs_root()
    unshare = ["unshare", "--pid", "--fork", "--kill-child"]
    if trees.run([*unshare, "true"]).returncode != 0:
        pytest.skip("cannot create a PID namespace here")
    program = f"{START}assert start() is Status.NO_PARENT; {INFO}"
    ran = trees.run([*unshare, *trees.command(program)])
    assert (ran.returncode, ran.stderr) == (0, "")
    assert '"state": 2, "tier": "none", "watched": []' in ran.stdout


def test_no_descriptor_left() -> None:
    """The enumeration is imported when it is first needed, which fails here: no file can be opened. The
    watcher needs no descriptor of the program."""
    program = """
import sys, localai_parentwatch
assert "enum" not in sys.modules
import resource
_, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
started = localai_parentwatch.start_parent_death_watcher()
assert "localai_parentwatch._types" not in sys.modules
resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))
assert started == 0 == localai_parentwatch.start_parent_death_watcher()
print(started, localai_parentwatch.status().tier)
"""
    # Without the module site, which imports enum in some environments.
    package = os.path.dirname(os.path.dirname(localai_parentwatch.__file__))
    path = f"import sys; sys.path.append({package!r})\n"
    ran = trees.run([sys.executable, "-I", "-S", "-c", path + program])
    assert (ran.returncode, ran.stderr, ran.stdout) == (0, "", "0 event\n")


# -- The rest --------------------------------------------------------------------------------------


def test_token_names_this_process() -> None:
    start_time = Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19]
    namespace = os.stat("/proc/self/ns/pid").st_ino
    assert localai_parentwatch.token() == f"{os.getpid()}@{start_time}@{namespace}"


def test_names() -> None:
    assert {name for name in dir(localai_parentwatch) if not name.startswith("_")} >= {
        name for name in localai_parentwatch.__all__ if not name.startswith("_")
    }
    for name in localai_parentwatch.__all__:
        assert getattr(localai_parentwatch, name) is not None
    for name in (
        "ENV_PARENT_WATCH",
        "ENV_PARENT_WATCH_INTERVAL",
        "ENV_PARENT_WATCH_SCOPE",
        "ENV_PARENT_WATCH_GRACE",
        "ENV_PARENT_PID",
    ):
        assert getattr(localai_parentwatch, name) == getattr(trees, name)
    with pytest.raises(AttributeError, match=r"^module 'localai_parentwatch' has no attribute 'stop'$"):
        localai_parentwatch.stop  # noqa: B018


# -- Values that are not what they seem ------------------------------------------------------------


@pytest.mark.parametrize(
    "datetime", ["", "timedelta = 3\n", "raise SystemError\n", "class timedelta: pass\n"]
)
def test_wrong_type_if_datetime_is_another_module(tmp_path: Path, datetime: str) -> None:
    (tmp_path / "datetime.py").write_text(datetime)
    program = f"""
import json, sys
sys.path.insert(0, {os.fspath(tmp_path)!r})
from localai_parentwatch import _native
try: _native.start(grace=object())
except BaseException as error: print(json.dumps([type(error).__name__, str(error)]))
"""
    text = "grace: expected a number of seconds, a timedelta or a str, not object"
    assert trees.answer(program) == ["TypeError", text]


def test_numbers_are_read_directly() -> None:
    program = """
import datetime, json, localai_parentwatch
class Number(int):
    def __float__(self): print("code run"); return 1.0
class Delta(datetime.timedelta):
    def total_seconds(self): print("code run"); return 1.0
start = localai_parentwatch.start_parent_death_watcher
start(on_death=print, grace=Number(2))
start(on_death=print, grace=Delta(seconds=2))
print(json.dumps(localai_parentwatch.status().grace))
"""
    assert trees.answer(program) == 2.0


def test_no_room_for_another_exit_function() -> None:
    program = """
import ctypes, json, localai_parentwatch as watch
function = ctypes.cast(ctypes.CDLL(None).tzset, ctypes.c_void_p)
while ctypes.pythonapi.Py_AtExit(function) == 0: pass
try: watch.start_parent_death_watcher(on_death=print)
except RuntimeError as error: said = str(error)
print(json.dumps([said, str(watch.status().state), str(watch.start_parent_death_watcher())]))
"""
    said = "on_death: Python has no room for another exit function"
    assert trees.answer(program) == [said, "not_started", "armed"]


def test_words() -> None:
    for status in Status:
        assert str(status) == f"{status}" == format(status) == status.name.lower()
    assert f"{Status.ARMED:>7}" == "  armed"
    assert f"{int(Status.EXHAUSTED)}" == "-1"
