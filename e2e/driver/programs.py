"""The programs that trees are made of, and where the build put them."""

from dataclasses import dataclass, field
from pathlib import Path

LANGUAGES = ("c", "cpp", "rust")
"""What there is a worker in."""

CONTROLS = ("poller", "pdeathsig", "naive")
"""Watchers that are known to be wrong: the suite asserts that they fail where they must."""


@dataclass(frozen=True)
class Programs:
    """The build directory of the suite and the prefix into which the library is installed."""

    build: Path
    prefix: Path
    workers: dict[str, list[str]] = field(init=False)

    def __post_init__(self) -> None:
        workers = {name: [str(self.build / f"worker-{name}")] for name in (*LANGUAGES, *CONTROLS)}
        object.__setattr__(self, "workers", workers)

    @property
    def supervisor(self) -> str:
        return str(self.build / "supervisor")

    @property
    def helper(self) -> str:
        return str(self.build / "helper")

    @property
    def launch(self) -> str:
        return str(self.build / "launch")

    @property
    def shared_library(self) -> str:
        return str(self.prefix / "lib" / "liblocalai_parentwatch.so.0")
