"""Runs the tests of the installed wheel with every CPython from 3.10 on that this machine has, and with
a 3.14 from Go's module proxy if it has none. The default python3 comes first.

    every_interpreter.py --wheel WHEEL --pip PIP --folder FOLDER -- COMMAND [ARGUMENT ...]

Each interpreter runs COMMAND in its own environment below FOLDER, with the wheel and the requirements
in it. A line that begins with "SKIPPED:" names each interpreter that is missing. This script needs only
the standard library."""

import argparse
import gzip
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).parent
# The wheel is for 3.10 and later. There is no later release than the last one here.
MINORS = range(10, 15)

# CPython by python-build-standalone, as a Go module: every machine with Go can reach that registry.
GO_MODULE = "github.com/kluctl/go-embed-python@v0.0.0-3.14.6-20260610-1"
GO_MODULE_SUM = "h1:oGUS7++Wm3LgxUfD6AmJgKbKQD2wdQFO9PzyJv6T+E4="
GO_MODULE_MINOR = 14
GO_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}

ASK = """
import sys, sysconfig, platform
print(platform.python_implementation(), bool(sysconfig.get_config_var("Py_GIL_DISABLED")),
      *sys.version_info[:3], sys.version_info.releaselevel, sys.base_prefix, sep="\\n")
"""


class Interpreter(NamedTuple):
    version: tuple[int, int, int]
    prefix: str
    program: str

    @property
    def name(self) -> str:
        return ".".join(map(str, self.version))


def ask(program: str) -> Interpreter | None:
    """Asks a program what it is. None if it is no CPython with the interpreter lock, or does not
    run."""
    asked = subprocess.run(
        [program, "-I", "-c", ASK], capture_output=True, text=True, stdin=subprocess.DEVNULL
    )
    if asked.returncode != 0:
        return None
    kind, is_free_threaded, major, minor, micro, level, prefix = asked.stdout.splitlines()
    version = (int(major), int(minor), int(micro))
    if (kind, is_free_threaded, level) != ("CPython", "False", "final") or version[:2] < (3, MINORS[0]):
        return None
    return Interpreter(version, prefix, program)


def installed() -> list[Interpreter]:
    """One interpreter for each release, the default python3 first."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    uv = Path(os.environ.get("UV_PYTHON_INSTALL_DIR", Path.home() / ".local/share/uv/python"))
    places = [*os.environ["PATH"].split(os.pathsep), "/usr/local/bin", "/usr/bin"]
    places += [
        str(place) for root in (pyenv, uv) if root.is_dir() for place in sorted(root.glob("*/bin"))
    ]
    candidates = [sys.executable]
    for place in dict.fromkeys(places):
        candidates += [f"{place}/python3.{minor}" for minor in MINORS]
    found: dict[str, Interpreter] = {}
    for candidate in candidates:
        if os.access(candidate, os.X_OK) and (interpreter := ask(candidate)):
            found.setdefault(interpreter.name, interpreter)
    first, *others = found.values()
    return [first, *sorted(others)]


def from_go(folder: Path) -> str:
    """Installs a CPython from Go's module proxy in the folder, and returns its program. Raises
    RuntimeError."""
    architecture = GO_ARCHITECTURES.get(platform.machine())
    if architecture is None or sys.platform != "linux":
        raise RuntimeError(f"there is none for {platform.machine()}")
    program = folder / "bin" / f"python3.{GO_MODULE_MINOR}"
    if program.exists():
        return str(program)
    cache = folder.with_suffix(".go")
    # A separate module cache, without Go's checksum database: the download is checked here.
    env = {
        **os.environ,
        "GOMODCACHE": str(cache),
        "GOFLAGS": "-modcacherw",
        "GONOSUMDB": "*",
        "GOWORK": "off",
    }
    command = ["go", "mod", "download", "-json", GO_MODULE]
    try:
        told = subprocess.run(
            command, capture_output=True, text=True, env=env, timeout=120, check=True, cwd=folder.parent
        )
        module = json.loads(told.stdout)
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        shutil.rmtree(cache, ignore_errors=True)
        raise RuntimeError(f"{GO_MODULE} could not be downloaded: {error}") from error
    if module["Sum"] != GO_MODULE_SUM:
        raise RuntimeError(f"{GO_MODULE} has the sum {module['Sum']}")
    source = Path(module["Dir"], "python", "internal", "data", f"linux-{architecture}")
    partial = folder.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    for file in json.loads((source / "files.json").read_text())["files"]:
        target = partial / file["name"]
        if "symlink" in file:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.symlink_to(file["symlink"])
        elif (source / file["name"]).is_dir():
            target.mkdir(parents=True, exist_ok=True)
        else:
            packed = file.get("compressed")
            content = (source / (file["name"] + (".gz" if packed else ""))).read_bytes()
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(gzip.decompress(content) if packed else content)
            target.chmod(file["perm"] & 0o777)
    shutil.rmtree(cache)
    partial.rename(folder)
    return str(program)


def digest(wheel: Path) -> str:
    """A digest of what the environments are made of. A rebuilt wheel is the same if its files are."""
    with zipfile.ZipFile(wheel) as archive:
        parts = [f"{file.filename} {file.CRC}" for file in sorted(archive.infolist(), key=str)]
    texts = [requirements.read_text() for requirements in (HERE / "requirements.txt", *constraints())]
    return hashlib.sha256("\n".join(parts + texts).encode()).hexdigest()


def constraints() -> list[Path]:
    lines = (HERE / "requirements.txt").read_text().splitlines()
    return [HERE / line.removeprefix("-c ") for line in lines if line.startswith("-c ")]


def environment(interpreter: Interpreter, wheel: Path, pip: str, folder: Path) -> Path:
    """The program of an environment with the wheel. The environment is made anew only if something
    changed."""
    stamp = folder / ".stamp"
    program = folder / "bin" / "python"
    wanted = f"{interpreter.prefix} {digest(wheel)}"
    if stamp.exists() and stamp.read_text() == wanted:
        return program
    # Without pip, which not every Python has: one pip of ours serves all environments.
    subprocess.run([interpreter.program, "-m", "venv", "--clear", "--without-pip", folder], check=True)
    install = [pip, "--python", program, "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*install, "--requirement", HERE / "requirements.txt"], check=True)
    subprocess.run([*install, "--no-index", "--no-deps", wheel], check=True)
    stamp.write_text(wanted)
    return program


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--wheel", type=Path, required=True)
    parser.add_argument("--pip", required=True, help="a pip that knows --python")
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("command", nargs="+", metavar="COMMAND")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)

    interpreters = installed()
    skipped = []
    for minor in sorted(set(MINORS) - {interpreter.version[1] for interpreter in interpreters}):
        reason = "not on this machine"
        if minor == GO_MODULE_MINOR:
            try:
                if interpreter := ask(from_go((options.folder / "cpython-3.14").absolute())):
                    interpreters.append(interpreter)
                    continue
                reason += ", and the one from Go's module proxy does not run"
            except RuntimeError as error:
                reason += f"; {error}"
        skipped.append(f"SKIPPED: CPython 3.{minor}: {reason}")

    outcomes = []
    for interpreter in interpreters:
        began = time.monotonic()
        print(f"CPython {interpreter.name}, {interpreter.prefix}", flush=True)
        program = environment(
            interpreter, options.wheel, options.pip, options.folder / interpreter.name
        )
        made = time.monotonic()
        status = subprocess.run([program, *options.command]).returncode
        outcome = "passed" if status == 0 else f"FAILED ({status})"
        seconds = f"{time.monotonic() - made:.0f} s, environment {made - began:.0f} s"
        outcomes.append(f"{outcome:<8} CPython {interpreter.name:<8} {seconds}")
    print(*outcomes, *skipped, sep="\n")
    return int(any(not outcome.startswith("passed") for outcome in outcomes))


if __name__ == "__main__":
    sys.exit(main())
