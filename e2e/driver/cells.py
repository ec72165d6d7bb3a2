"""Reads scenarios.toml: which scenario runs with which worker, or why it does not."""

import ast
import re
import sys
from pathlib import Path

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_TEST_NAME = re.compile(r"test_([fnhx]\d\d)_")
_SCENARIOS = (
    [f"F{number:02}" for number in range(1, 29)]
    + [f"N{number:02}" for number in range(1, 19)]
    + [f"H{number:02}" for number in range(1, 11)]
    + [f"X{number:02}" for number in range(1, 13)]
)


def scenario_of(test_name: str) -> str | None:
    """The scenario that a test belongs to, such as F01 for test_f01_…"""
    match = _TEST_NAME.match(test_name)
    return match.group(1).upper() if match else None


class Cells:
    """The content of scenarios.toml, and the tests in the same directory."""

    def __init__(self, directory: Path) -> None:
        table = tomllib.loads((directory / "scenarios.toml").read_text())
        self.workers: list[str] = table.pop("workers")
        self._scenarios: dict[str, dict[str, str]] = table
        self._tests = {
            node.name
            for path in sorted(directory.glob("test_*.py"))
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
        }

    @property
    def scenarios(self) -> list[str]:
        """The names of all scenarios (F01 …), in the order of the table."""
        return list(self._scenarios)

    def title(self, scenario: str) -> str:
        return self._scenarios[scenario]["title"]

    def reason(self, scenario: str, worker: str) -> str | None:
        """Why the scenario does not run with the worker. None if it does."""
        cell = self._scenarios[scenario][worker]
        return None if cell == "run" else cell.removeprefix("n/a: ")

    def languages(self, scenario: str) -> list[str]:
        """The workers with which the scenario runs."""
        cells = self._scenarios.get(scenario, {})
        return [worker for worker in self.workers if cells.get(worker) == "run"]

    def mistakes(self) -> list[str]:
        """All differences between the table and the tests. Empty if there are none."""
        found = []
        for scenario in _SCENARIOS:
            cells = self._scenarios.get(scenario, {})
            if not cells.get("title"):
                found.append(f"{scenario}: no title")
            for worker in self.workers:
                cell = cells.get(worker)
                if cell is None:
                    found.append(f"{scenario}: no cell for {worker}")
                elif cell != "run" and not re.fullmatch(r"n/a: \S.*", cell):
                    found.append(f"{scenario}: {worker} is {cell!r}, not 'run' or 'n/a: reason'")
        tested = {scenario_of(name) for name in self._tests}
        for scenario, cells in self._scenarios.items():
            if scenario not in _SCENARIOS:
                found.append(f"{scenario}: not a scenario of the design")
            for surplus in sorted(set(cells) - {"title", *self.workers}):
                found.append(f"{scenario}: {surplus} is not a worker")
            if "run" in cells.values() and scenario not in tested:
                found.append(f"{scenario}: to be run, and there is no test")
        for name in sorted(self._tests):
            scenario = scenario_of(name)
            if scenario is None:
                found.append(f"{name}: no scenario in its name")
            elif not self.languages(scenario):
                found.append(f"{name}: {scenario} is not to be run over any worker")
        return found
