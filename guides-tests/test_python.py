"""LocalAI's Python backends: as they are installed and started with the wheel and without it."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from conftest import environment, is_alive, make_place, run, script, wait_until

TOKEN = "1@1@1"  # somebody who cannot be proven: one warning, and the parent is watched


@pytest.fixture(scope="module")
def with_wheel(tmp_path_factory, snippet, wheel) -> Path:
    """The folder backend/python with one installed backend."""
    return make_backends(tmp_path_factory.mktemp("python") / "tree", snippet, wheel)


@pytest.fixture(scope="module")
def without_wheel(tmp_path_factory, snippet) -> Path:
    return make_backends(tmp_path_factory.mktemp("python") / "tree", snippet, None)


@pytest.fixture(params=["with_wheel", "without_wheel"])
def backends(request) -> Path:
    return request.getfixturevalue(request.param)


@pytest.fixture
def interpreter(with_wheel) -> Path:
    return with_wheel / "fake/venv/bin/python"


def make_backends(tree: Path, snippet, wheel: Path | None, **variables) -> Path:
    make_place("python", tree, snippet)
    backends = tree / "backend/python"
    if wheel:
        (backends / "common/wheels").mkdir()
        shutil.copy(wheel, backends / "common/wheels")
    done = run("bash", backends / "fake/install.sh", env=environment(**{"USE_PIP": "true"} | variables))
    assert done.stdout.endswith("generated\n")
    assert ("parent watch: no wheel for this Python" in done.stderr) == (wheel is None), done.stderr
    return backends


def test_backend(backends):
    """What run.sh starts, named by LocalAI and not."""
    has_wheel = (backends / "common/wheels").exists()
    for named in (True, False):
        env = environment(**{"LOCALAI_BACKEND_PARENT_PID": TOKEN} if named else {})
        done = run("bash", backends / "fake/run.sh", "--addr", "x", env=env)
        before, *after = done.stdout.splitlines()
        if has_wheel:
            assert before == f"['--addr', 'x'] {'armed' if named else 'not_started'}"
            assert after == ["armed"]
        else:
            assert (before, after) == ("['--addr', 'x'] no wheel", ["poller", "no wheel"])
            assert done.stderr.count("parent_watch: No module named 'localai_parentwatch'") == 1


def test_vllm_serve(backends):
    vllm = backends / "vllm"
    if not (vllm / "venv").exists():
        (vllm / "venv").symlink_to(backends / "fake/venv")
        state = f"{backends / 'fake'}"
        script(
            vllm / "venv/bin/vllm",
            f"import sys; sys.path.append({state!r}); import backend\n"
            "print(sys.argv[1:], backend.state())\n",
        )
    done = run("bash", vllm / "run.sh", "serve", "m", env=environment(LOCALAI_BACKEND_PARENT_PID=TOKEN))
    expected = "armed" if (backends / "common/wheels").exists() else "no wheel"
    assert done.stdout == f"['serve', 'm'] {expected}\n"


def test_installed_by_uv(tmp_path, snippet, wheel):
    if not shutil.which("uv"):
        pytest.skip("there is no uv")
    backends = make_backends(tmp_path / "tree", snippet, wheel, USE_PIP="false")
    assert "armed" in run("bash", backends / "fake/run.sh", env=environment()).stdout


def test_wheel(tmp_path, snippet, wheel, interpreter):
    """`make wheel` has run: what it made is installed into an environment of its own."""
    (tmp_path / "dist").mkdir()
    shutil.copy(wheel, tmp_path / "dist")
    script(tmp_path / "shims/make", '#!/bin/sh\n[ "$*" = wheel ]\n')
    pip = f'#!/bin/sh\nexec "{interpreter}" -m pip "$@" --target "{tmp_path / "packages"}"\n'
    script(tmp_path / "shims/pip", pip)
    run("bash", "-euc", snippet("wheel"), cwd=tmp_path, env=environment([tmp_path / "shims"]))
    run(
        "python3", "-c", "import localai_parentwatch", env=environment(PYTHONPATH=tmp_path / "packages")
    )


def python(interpreter, tmp_path, text: str, **options) -> str:
    """What a program says on stdout."""
    (tmp_path / "program.py").write_text(text)
    return run(interpreter, "program.py", "a", cwd=tmp_path, **{"env": environment()} | options).stdout


IMPORTS = "import os, subprocess, sys\nimport localai_parentwatch\n"
TELL = "info = localai_parentwatch.status()\nprint(info.state.name, info.grace)\n"


def test_main(tmp_path, interpreter, snippet):
    (tmp_path / "server.py").write_text(
        "import localai_parentwatch\n\n"
        "def run(arguments):\n    print(arguments, localai_parentwatch.status().state.name)\n"
    )
    assert python(interpreter, tmp_path, snippet("python-main")) == "['a'] ARMED\n"


def test_grace_and_hook(tmp_path, interpreter, snippet):
    assert python(interpreter, tmp_path, IMPORTS + snippet("python-grace") + TELL) == "ARMED 10.0\n"
    hook = "def save_cache():\n    pass\n\n" + snippet("python-hook")
    assert python(interpreter, tmp_path, IMPORTS + hook + TELL) == "ARMED 2.0\n"


def test_fork_server(tmp_path, interpreter, snippet):
    text = (
        IMPORTS
        + snippet("python-forkserver")
        + "print(os.environ['LOCALAI_BACKEND_PARENT_PID'] == localai_parentwatch.token())\n"
    )
    assert python(interpreter, tmp_path, text) == "True\n"


def test_warning(tmp_path, interpreter, snippet):
    """The filter hides what Python 3.12 says, and nothing else."""
    text = snippet("python-warning") + (
        "import sys\n"
        "say = lambda text: warnings.warn(text, DeprecationWarning)\n"
        "say('This process (pid=1) is multi-threaded, use of fork() may lead to deadlocks')\n"
        "say('another one')\n"
    )
    (tmp_path / "program.py").write_text(text)
    said = run(interpreter, "program.py", cwd=tmp_path, env=environment()).stderr
    assert "another one" in said
    assert "multi-threaded" not in said


def test_detached_helper(tmp_path, interpreter, snippet, processes):
    """A helper that has detached itself goes with the worker that is named to it."""
    (tmp_path / "helper.py").write_text(
        "import os, time\nopen('new', 'w').write(str(os.getpid()))\nos.rename('new', 'helper')\n"
        "time.sleep(1000)\n"
    )
    (tmp_path / "program.py").write_text(IMPORTS + snippet("python-detached") + "sys.stdin.read()\n")
    worker = subprocess.Popen(
        [interpreter, "program.py"], cwd=tmp_path, stdin=subprocess.PIPE, env=environment()
    )
    processes.append(worker.pid)
    path = tmp_path / "helper"
    helper = int(wait_until("a helper", lambda: path.exists() and path.read_text()))
    processes.append(helper)
    assert is_alive(helper)
    assert os.getsid(helper) != os.getsid(worker.pid)
    worker.kill()
    worker.wait()
    wait_until("the helper is gone", lambda: not is_alive(helper))


# ---- docs/supervisors.md


def test_popen(tmp_path, interpreter, snippet):
    script(tmp_path / "worker", "#!/bin/sh\necho $LOCALAI_BACKEND_PARENT_PID\n")
    said = python(
        interpreter, tmp_path, snippet("popen") + "worker.wait()\nprint(localai_parentwatch.token())\n"
    )
    # The worker writes first: this program's own line comes at its end.
    worker, token = said.splitlines()
    assert worker == token != ""


def test_exec(tmp_path, prefix, snippet):
    script(tmp_path / "worker", '#!/bin/sh\necho $@ of $PPID; ps -eo args | grep -c "[g]uarding $$ "\n')
    done = run("bash", "-euc", snippet("exec") + "\n:", cwd=tmp_path, env=environment([prefix / "bin"]))
    assert done.stdout.startswith("--port 8000 of ")
    assert done.stdout.endswith("\n1\n")


def test_sudo(tmp_path, prefix, snippet):
    """A sudo that drops the environment, as env_reset has it."""
    script(tmp_path / "shims/sudo", '#!/bin/sh\nexec env -i PATH="$PATH" "$@"\n')
    script(
        tmp_path / "worker",
        '#!/bin/sh\necho "$LOCALAI_BACKEND_PARENT_PID"; ps -eo args | grep -c "[g]uarding $$ "\n',
    )
    env = environment([tmp_path / "shims", prefix / "bin"], TOKEN="$PPID")
    # The shell is the supervisor.
    text = "TOKEN=$$\n" + snippet("sudo") + ":\n"
    done = run("bash", "-c", text, cwd=tmp_path, env=env)
    under_exec, by_variable = done.stdout.splitlines()[1], done.stdout.splitlines()[2]
    assert (under_exec, by_variable.isdigit()) == ("1", True), done.stdout
