import hashlib
import os
import re
import shutil
import signal
import subprocess
import tarfile
import time
from pathlib import Path

import pytest
import snippets

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent


def pytest_addoption(parser):
    parser.addoption("--docs", type=Path, default=ROOT / "docs", help="the folder of the guides")
    parser.addoption("--prefix", type=Path, required=True, help="where the library is installed")
    parser.addoption("--wheel", type=Path, required=True, help="the wheel of the Python package")


@pytest.fixture(scope="session")
def prefix(request) -> Path:
    return request.config.getoption("prefix").resolve()


@pytest.fixture(scope="session")
def wheel(request) -> Path:
    return request.config.getoption("wheel").resolve()


@pytest.fixture(scope="session")
def snippet(request):
    """The text of a snippet."""
    texts = {s.name: s.text for s in snippets.read(request.config.getoption("docs"))}
    return texts.__getitem__


def make_place(name: str, folder: Path, snippet) -> Path:
    """Makes a copy of a place, with the snippets where they belong."""
    shutil.copytree(HERE / "places" / name, folder)
    for path in folder.rglob("*"):
        if path.is_file():
            path.write_text(snippets.MARK.sub(lambda mark: snippet(mark[1]), path.read_text()))
    return folder


@pytest.fixture(scope="session")
def tarball(prefix, tmp_path_factory, snippet) -> Path:
    """What `make dist` makes, under the name that the guides have, with its checksum beside it."""
    name = re.search(r"localai-parentwatch-\S+-linux-\w+", snippet("unpack"))[0]
    path = tmp_path_factory.mktemp("dist") / f"{name}.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        for part in ("bin", "include", "lib"):
            archive.add(prefix / part, f"{name}/{part}")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    path.with_name(path.name + ".sha256").write_text(f"{digest}  {path.name}\n")
    return path


@pytest.fixture
def processes():
    """Collects process ids, and kills at the end what is left of them."""
    pids: list[int] = []
    yield pids
    for pid in pids:
        if is_alive(pid):
            os.kill(pid, signal.SIGKILL)


def run(*command, check=True, **options) -> subprocess.CompletedProcess:
    """Runs a command; the test fails with its output when the command does."""
    done = subprocess.run(
        [str(word) for word in command], capture_output=True, text=True, timeout=240, **options
    )
    if check and done.returncode != 0:
        pytest.fail(f"{command}: status {done.returncode}\n{done.stdout}{done.stderr}", pytrace=False)
    return done


def environment(path=(), **variables) -> dict[str, str]:
    """This environment without the variables of the library, with folders in front of the PATH."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("LOCALAI_")}
    kept["PATH"] = ":".join([*map(str, path), kept["PATH"]])
    return kept | {name: str(value) for name, value in variables.items()}


def script(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


def is_alive(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"


def wait_until(what: str, holds, seconds=30.0):
    """Waits until something holds; the test fails when it does not come to pass."""
    deadline = time.monotonic() + seconds
    while not (answer := holds()):
        if time.monotonic() > deadline:
            pytest.fail(f"not within {seconds} s: {what}")
        time.sleep(0.01)
    return answer
