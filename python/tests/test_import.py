"""What importing the package does and does not do, and where it is refused."""

import importlib.metadata
import json
import os
import signal
import site
import sys
from pathlib import Path

import localai_parentwatch
import pytest
import trees


def test_the_package_under_test_is_the_installed_one() -> None:
    package = Path(localai_parentwatch.__file__).parent
    assert package.parent in map(Path, site.getsitepackages())
    assert sys.prefix != sys.base_prefix
    distribution = importlib.metadata.distribution("localai-parentwatch")
    assert distribution.version == localai_parentwatch.__version__
    installed = {
        Path(file.locate()) for file in distribution.files or () if file.suffix not in (".pyc", "")
    }
    assert installed >= {package / "__init__.py", package / "_native.abi3.so", package / "py.typed"}
    assert (distribution.requires or []) == []


def test_import_starts_opens_and_prints_nothing() -> None:
    program = """
import json, os, signal, sys
def seen():
    handlers = [str(signal.getsignal(number)) for number in sorted(signal.valid_signals())]
    descriptors = [os.readlink(f"/proc/self/fd/{name}") for name in range(3)]
    return [os.listdir("/proc/self/task"), len(os.listdir("/proc/self/fd")), descriptors, handlers,
            sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ()))]
before = seen()
import localai_parentwatch, localai_parentwatch.parent_watch, localai_parentwatch._types
after = seen()
assert before == after, (before, after)
assert localai_parentwatch.start_parent_death_watcher() == 0
assert len(seen()[0]) == len(before[0]) + 1 and seen()[1] == before[1], "one thread, no descriptor"
print(json.dumps("seen"))
"""
    assert trees.answer(program) == "seen"


# The environment is a page that cannot be read: a program that reads it crashes.
_UNREADABLE = """
import ctypes, mmap, sys
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *4 * [ctypes.c_int]]
PROT_NONE, size = 0, mmap.PAGESIZE
environ = ctypes.c_void_p.in_dll(libc, "environ")
good = environ.value
bad = libc.mmap(None, size, PROT_NONE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, -1, 0)
environ.value = bad
import localai_parentwatch, localai_parentwatch.parent_watch, localai_parentwatch._types
{reads}
environ.value = good
print("unread")
"""


@pytest.mark.parametrize("reads", ["", "localai_parentwatch.enabled()"], ids=["import", "control"])
def test_the_environment_is_not_read(reads: str) -> None:
    ran = trees.run(trees.command(_UNREADABLE.format(reads=reads)))
    if reads:
        assert (ran.returncode, ran.stdout) == (-signal.SIGSEGV, "")
    else:
        assert (ran.returncode, ran.stdout) == (0, "unread\n"), ran.stderr


@pytest.mark.parametrize("first", ["", "import collections, enum\n"], ids=["alone", "after-enum"])
def test_little_else_is_imported(first: str) -> None:
    program = f"""
import sys
sys.path.append({os.path.dirname(os.path.dirname(localai_parentwatch.__file__))!r})
{first}before = set(sys.modules)
import localai_parentwatch
imported = set(sys.modules) - before
import json
print(json.dumps(sorted(imported)))
"""
    ran = trees.run([sys.executable, "-I", "-S", "-c", program])
    assert (ran.returncode, ran.stderr) == (0, "")
    imported = set(json.loads(ran.stdout))
    package = {"localai_parentwatch", "localai_parentwatch._native"}
    if first:
        assert imported == package | {"localai_parentwatch._types"}
    else:
        assert imported == package


# Before 3.13 run_string raises the exception of the subinterpreter; later it returns it.
_SUBINTERPRETER = """
import sys
if sys.version_info >= (3, 13):
    import _interpreters
    create, run = lambda: _interpreters.create({kind!r}), _interpreters.run_string
else:
    import _xxsubinterpreters
    create = lambda: _xxsubinterpreters.create(isolated={kind!r} == "isolated")
    run = _xxsubinterpreters.run_string
def import_there(what):
    try:
        failure = run(create(), "import " + what)
    except Exception as error:
        return str(error)
    return None if failure is None else failure.formatted
if {main_first}:
    import localai_parentwatch
assert import_there("json") is None
for _ in range(2):
    print(import_there("localai_parentwatch").splitlines()[-1])
import localai_parentwatch
assert localai_parentwatch.start_parent_death_watcher() is localai_parentwatch.Status.ARMED
"""


@pytest.mark.parametrize("main_first", [True, False], ids=["after-main", "alone"])
@pytest.mark.parametrize("kind", ["isolated", "legacy"])
def test_subinterpreters_are_refused(kind: str, main_first: bool) -> None:
    program = _SUBINTERPRETER.format(kind=kind, main_first=main_first)
    ran = trees.run(trees.command(program))
    assert ran.returncode == 0, ran.stderr
    told = ran.stdout.splitlines()
    assert len(told) == 2, ran.stdout
    for line in told:
        assert "ImportError" in line
        assert "localai_parentwatch._native" in line
        assert "subinterpreters" in line
