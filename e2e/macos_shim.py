"""Runs the process trees with the C worker, built with the macOS module (`make test-macos-shim`).
Prints a table: for each scenario the number of trees that passed, and what was not run, with the
reason."""

import argparse
import subprocess
import sys
import tempfile
import textwrap
from collections import defaultdict
from pathlib import Path

from driver.cells import Cells, scenario_of
from scenarios_table import Test, read_run

HERE = Path(__file__).parent

_SHARED_TABLE = "only on Linux the watcher has its own descriptor table"
_STAYS_IN_ITS_GROUP = "only on Linux the worker leaves its group: here it signals each member"

NOT_RUN = {
    "test_f12_no_descriptor_left": _SHARED_TABLE,
    "test_f12_no_descriptor_left_with_helpers": "the shim reads /proc, which takes descriptors",
    "test_f15_setpgid_fails": _STAYS_IN_ITS_GROUP,
    "test_f15_fork_fails_and_the_session_leader_is_outside": _STAYS_IN_ITS_GROUP,
    "test_f15_reaper_holds_nothing_of_the_worker": "only Linux's reaper unmaps the worker's memory",
    "test_f19_a_thousand_workers": "the cost here says nothing about a Mac",
    "test_f20_processors_overloaded": "the cost here says nothing about a Mac",
    "test_f28_hook_is_not_interrupted": "another copy of the library in the process is not noticed",
    "test_h02_armed_from_16_threads_at_once[c-event]": _SHARED_TABLE,
    "test_h05_descriptor_is_private": _SHARED_TABLE,
    "test_h05_every_standard_descriptor_closed": _SHARED_TABLE,
    "test_h08_descriptors_are_unchanged": _SHARED_TABLE,
    "test_h09_no_separate_table": _SHARED_TABLE,
    "test_h10_armed_while_a_file_system_hangs": _SHARED_TABLE,
    "test_n15_host_uses_the_same_numbers": f"{_SHARED_TABLE}; sys/macos/kqueue.rs tests it",
}
"""Tests, or single trees of tests, about features that macOS does not have."""

_NO_GUARDIAN = "exec has no guardian on macOS: the program runs without one"


def _files() -> dict[str, str]:
    """The file of each test."""
    found = {}
    for file in sorted(HERE.glob("test_*.py")):
        for line in file.read_text().splitlines():
            if line.startswith("def test_"):
                found[line.removeprefix("def ").split("(")[0]] = file.name
    return found


def _run(options: list[str]) -> tuple[int, list[Test]]:
    files = _files()
    if strangers := [test for test in NOT_RUN if test.split("[")[0] not in files]:
        raise SystemExit(f"macos_shim.py: there is no {strangers}")
    left_out = [f"--deselect={files[test.split('[')[0]]}::{test}" for test in NOT_RUN]
    with tempfile.TemporaryDirectory() as folder:
        record = Path(folder, "run.xml")
        pytest = [sys.executable, "-m", "pytest", "-c", "pytest.ini", "--rootdir", "."]
        asked = ["--worker=c", "--quiet", f"--junit-xml={record}", *left_out, *options]
        command = [*pytest, *asked, "."]
        status = subprocess.run(command, cwd=HERE, check=False).returncode
        return status, read_run(record)


def _table(tests: list[Test]) -> None:
    cells = Cells(HERE)
    by_scenario = defaultdict(list)
    for test in tests:
        by_scenario[test.scenario].append(test)
    print("\nmacOS's module on Linux, the worker in C:")
    for scenario in cells.scenarios:
        said = []
        outcomes = [test.outcome for test in by_scenario[scenario]]
        if passed := outcomes.count("passed"):
            said.append(f"passed {passed}")
        if failed := outcomes.count("failed"):
            said.append(f"FAILED {failed}")
        reasons = [test.because for test in by_scenario[scenario] if test.outcome == "skipped"]
        reasons += [reason for test, reason in NOT_RUN.items() if scenario_of(test) == scenario]
        if reason := cells.reason(scenario, "c"):
            reasons.append(_NO_GUARDIAN if scenario.startswith("X") else reason)
        said += [f"skipped: {reason}" for reason in dict.fromkeys(reasons)]
        title = textwrap.shorten(cells.title(scenario), 60, placeholder=" …")
        print(f"  {scenario}  {title:<60}  {'; '.join(said) or 'not run'}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    _, options = parser.parse_known_args()
    status, tests = _run(options)
    _table(tests)
    return status


if __name__ == "__main__":
    sys.exit(main())
