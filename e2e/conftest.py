"""Options, cells and fixtures of the process-tree tests. Each fixture has the name of the role that its
process plays in the tree."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from driver import capabilities, cgroups, limits, procfs
from driver.cells import Cells, scenario_of
from driver.cgroups import Cgroup, Unavailable
from driver.failures import DiedByMistake, StillAlive, WrongExit
from driver.limits import TaskLimit
from driver.pidfd import set_subreaper
from driver.programs import CONTROLS, Programs
from driver.roles import Supervisor, Worker
from driver.stderr import Stderr
from driver.tree import Tree, kill_descendants

HERE = Path(__file__).parent
TARGET = HERE.parent / "target"

# How a control must fail, by the kind of scenario.
_FAILURES = {
    "F": (StillAlive, WrongExit),
    "N": (DiedByMistake, WrongExit),
    "H": DiedByMistake,
    "X": (StillAlive, WrongExit),
}

_cells = pytest.StashKey[Cells]()
_call_failed = pytest.StashKey[bool]()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("process trees")
    group.addoption(
        "--worker",
        action="append",
        metavar="NAME",
        help="only this worker (repeatable). A control (poller, pdeathsig, naive, poller-python) runs "
        "every scenario as if it were a worker: its failures are failures",
    )
    group.addoption("--build", type=Path, default=TARGET / "e2e", help="the suite's programs")
    group.addoption("--prefix", type=Path, default=TARGET / "prefix", help="the installed library")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers",
        "fails_with(control, because, **parameters): the negative control fails this test (where "
        "the test's parameters are among those given), and must",
    )
    config.addinivalue_line("markers", "needs(capability, …): skipped where it cannot be had")
    config.addinivalue_line(
        "markers", "only_for(worker, …): a tree of the scenario that only these workers can make"
    )
    config.addinivalue_line(
        "markers",
        "not_for(worker, …, because, **parameters): one tree of the scenario that these workers cannot "
        "make, or end otherwise (where the test's parameters are among those given)",
    )
    config.stash[_cells] = Cells(HERE)
    if mistakes := config.stash[_cells].mistakes():
        raise pytest.UsageError("scenarios.toml and the tests disagree:\n" + "\n".join(mistakes))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One test for each worker of its scenario's cells, and for each control named by a mark."""
    if "language" not in metafunc.fixturenames:
        raise pytest.UsageError(f"{metafunc.function.__name__} does not run over any worker")
    languages = metafunc.config.stash[_cells].languages(scenario_of(metafunc.function.__name__) or "")
    if only := metafunc.definition.get_closest_marker("only_for"):
        if strangers := set(only.args) - set(languages):
            raise pytest.UsageError(f"{metafunc.function.__name__}: no cell is run for {strangers}")
        languages = list(only.args)
    languages += sorted({mark.args[0] for mark in metafunc.definition.iter_markers("fails_with")})
    if chosen := metafunc.config.getoption("--worker"):
        languages = [name for name in chosen if name in languages or name in CONTROLS]
    metafunc.parametrize("language", languages, scope="function")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Removes the tests that a mark excludes. A control is expected to fail where a mark says so. Other
    tests do not run with a control, unless the command line asks for it."""
    kept = []
    for item in items:
        parameters = item.callspec.params  # type: ignore[attr-defined]
        language = parameters["language"]
        if not isinstance(language, str):
            continue  # This test does not run with the workers that --worker names.
        # For --junit-xml, from which scenarios_table.py makes docs/scenarios.md.
        item.user_properties += [("scenario", scenario_of(item.originalname)), ("worker", language)]
        if language in CONTROLS and not config.getoption("--worker"):
            if because := _marked(item, "fails_with"):
                scenario = scenario_of(item.originalname) or ""
                item.add_marker(
                    pytest.mark.xfail(strict=True, raises=_FAILURES[scenario[0]], reason=because)
                )
                kept.append(item)
        elif not _marked(item, "not_for"):
            kept.append(item)
    items[:] = kept


def _marked(item: pytest.Item, name: str) -> str | None:
    """The reason of the first mark of that name that matches the item's worker and parameters, or
    None."""
    parameters = item.callspec.params  # type: ignore[attr-defined]
    for mark in item.iter_markers(name):
        wanted = dict(mark.kwargs)
        because = wanted.pop("because")
        if parameters["language"] in mark.args and all(
            parameters[parameter] in values for parameter, values in wanted.items()
        ):
            return because
    return None


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo) -> Iterator[None]:
    if call.when == "call":
        item.stash[_call_failed] = call.excinfo is not None
    return (yield)


@pytest.fixture(scope="session", autouse=True)
def driver() -> Iterator[None]:
    """The driver adopts all orphans of its trees, and leaves no process behind."""
    set_subreaper(True)
    yield
    left = {pid: procfs.command_line(pid) for pid in procfs.descendants(os.getpid())}
    kill_descendants()
    assert not left, f"processes left by the tests: {left}"


@pytest.fixture(autouse=True)
def machine(request: pytest.FixtureRequest, driver: None) -> None:
    for mark in request.node.iter_markers("needs"):
        for capability in mark.args:
            if reason := capabilities.reason_to_skip(capability):
                pytest.skip(reason)


@pytest.fixture(scope="session")
def programs(pytestconfig: pytest.Config) -> Programs:
    return Programs(pytestconfig.getoption("--build"), pytestconfig.getoption("--prefix"))


@pytest.fixture
def tree(
    request: pytest.FixtureRequest,
    programs: Programs,
    language: str,
    tmp_path: Path,
    machine: None,
) -> Iterator[Tree]:
    """The tree of this test. The test's parameter `tier` sets the tier of its workers. The poll tier is
    the real one: seccomp refuses pidfd_open."""
    tree = Tree(programs, language, tmp_path / "stderr.log")
    tree.tier = request.node.callspec.params.get("tier", tree.tier)
    yield tree
    request.node.user_properties += [("tier", tree.tier), ("gone_after", tree.workers_gone_after())]
    tree.close(failed=request.node.stash.get(_call_failed, True))


@pytest.fixture
def supervisor(tree: Tree) -> Supervisor:
    """A supervisor, child of the driver. It does not name itself to its workers."""
    return tree.supervisor()


@pytest.fixture
def named_supervisor(tree: Tree) -> Supervisor:
    """A supervisor that names itself, by its full token, to all processes below it."""
    return tree.supervisor(names_itself="token")


@pytest.fixture
def worker(supervisor: Supervisor) -> Worker:
    """An armed worker, child of the supervisor, leader of its own process group."""
    worker = supervisor.worker()
    worker.assert_armed(watched=[supervisor.pid])
    return worker


@contextlib.contextmanager
def _skipped_where_unavailable() -> Iterator[None]:
    try:
        yield
    except Unavailable as reason:
        pytest.skip(str(reason))


@pytest.fixture
def freezer(request: pytest.FixtureRequest, tree: Tree) -> Iterator[Cgroup]:
    """A cgroup that can be frozen. The test's parameter is the cgroup version."""
    with _skipped_where_unavailable(), cgroups.freezer(request.param) as cgroup:
        yield cgroup


@pytest.fixture
def task_limit(request: pytest.FixtureRequest, tree: Tree) -> Iterator[TaskLimit]:
    """Limits the processes and threads of a worker. The test's parameter is rlimit or cgroup."""
    with _skipped_where_unavailable(), limits.task_limit(request.param) as limit:
        yield limit


@pytest.fixture
def stderr(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Stderr]:
    stderr = Stderr(request.param, tmp_path)
    yield stderr
    stderr.close()
