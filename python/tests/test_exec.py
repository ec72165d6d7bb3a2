"""Programs under a guardian: `exec()`, the command `localai-parentwatch exec`, and `child_env()`."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import localai_parentwatch
import pytest
import trees

CONSOLE = str(Path(sys.executable).with_name("localai-parentwatch"))
BECOME = "import localai_parentwatch, json, os, signal, sys; become = localai_parentwatch.exec\n"

# Its helper is in its own session, was forked twice, and ignores SIGTERM. Both hold the pipe open.
PROGRAM = """
import os, signal
if os.fork() == 0:
    os.setsid()
    if os.fork(): os._exit(0)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.write(1, b"helper %d\\n" % os.getpid())
else:
    os.write(1, b"program %d\\n" % os.getpid())
while True: signal.pause()
"""


def guardians_of(pid: int) -> list[str]:
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            line = (process / "cmdline").read_bytes().rstrip(b"\0").decode()
        except OSError:
            continue
        if line.startswith(f"localai-parentwatch: guarding {pid} "):
            found.append(line)
    return found


@pytest.mark.parametrize("killed", ["supervisor", "program"])
@pytest.mark.parametrize("by", ["function", "console"])
def test_no_process_is_left(start, killed: str, by: str) -> None:
    program = trees.command(PROGRAM)
    if by == "function":
        worker = start(trees.command(f"{BECOME}become({program}, grace=0.2)"))
    else:
        worker = start([CONSOLE, "exec", "--grace", "200ms", "--", *program])
    lines = sorted(worker.line().split() for _ in range(2))
    assert [word for word, _ in lines] == ["helper", "program"]
    assert int(lines[1][1]) == worker.pid, "it keeps its process id"
    line = f"localai-parentwatch: guarding {worker.pid} for {worker.supervisor.pid}"
    assert guardians_of(worker.pid) == [line]
    if killed == "supervisor":
        worker.kill_supervisor()
        assert worker.ended() == -signal.SIGTERM
        assert worker.said() == worker.death_line()
    else:
        os.kill(worker.pid, signal.SIGKILL)
    assert worker.line() == "", "somebody is left"


def test_what_a_program_inherits() -> None:
    look = ["/bin/sh", "-c", "echo $A; grep SigIgn /proc/self/status; ls /proc/self/fd"]
    bare = trees.run(look, env={"A": "b"})
    guarded = trees.run(trees.command(f"{BECOME}become({look}, env={{**os.environ, 'A': 'b'}})"))
    assert (guarded.returncode, guarded.stdout, guarded.stderr) == (0, bare.stdout, "")


def test_the_exit_status_is_that_of_the_program() -> None:
    for status in (0, 7):
        ran = trees.run([CONSOLE, "exec", "sh", "-c", f"exit {status}"])
        assert (ran.returncode, ran.stdout, ran.stderr) == (status, "", "")


def test_options_reach_the_core() -> None:
    ran = trees.run([CONSOLE, "exec", "--scope", "group", "--verbose", "true"])
    assert ran.returncode == 0
    assert ", scope group, event)" in ran.stderr
    assert ran.stderr.startswith("localai-parentwatch: guardian ")


@pytest.mark.parametrize(
    ("program", "status", "text"),
    [
        ("no-such-program-here", 127, "No such file or directory"),
        ("/", 126, "Permission denied"),
    ],
)
def test_a_program_that_cannot_be_executed(program: str, status: int, text: str) -> None:
    ran = trees.run([CONSOLE, "exec", "--", program])
    assert (ran.returncode, ran.stderr) == (status, f"localai-parentwatch: {program}: {text}\n")
    found = trees.answer(
        f"""{BECOME}
import resource
before = resource.getrlimit(resource.RLIMIT_RTTIME), signal.getsignal(signal.SIGPIPE)
try:
    become([{program!r}])
except OSError as error:
    after = resource.getrlimit(resource.RLIMIT_RTTIME), signal.getsignal(signal.SIGPIPE)
    print(json.dumps([error.strerror, before == after, os.getpid()]))
"""
    )
    assert found[:2] == [text, True]
    trees.wait_until(lambda: not guardians_of(found[2]), "its guardian is gone")


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        ([], "expected a program"),
        (["--grace", "soon", "true"], "--grace: expected a duration such as 500ms, 2s or 1m30s"),
        (["--grace", "2h", "true"], "--grace: expected at most 1h"),
        (["--scope", "all", "true"], '--scope: expected "tree", "group" or "process"'),
        (["--parent", "x", "true"], "--parent: expected PID or PID@STARTTIME@PIDNS, in decimal digits"),
        (["--wrong", "true"], "unrecognized arguments: --wrong"),
    ],
)
def test_a_usage_error_is_one_line(arguments: list[str], what: str) -> None:
    ran = trees.run([CONSOLE, "exec", *arguments])
    assert (ran.returncode, ran.stdout) == (2, "")
    usage = "usage: localai-parentwatch exec [OPTIONS] [--] CMD [ARG]..."
    assert ran.stderr == f"localai-parentwatch: {what}; {usage}\n"


def test_wrong_arguments_raise() -> None:
    for arguments, error in (
        ("[]", ValueError),
        ("['']", FileNotFoundError),
        ("['a\\0']", ValueError),
        ("[1]", TypeError),
        ("'true'", TypeError),
        ("b'true'", TypeError),
        ("['true'], env={'A=B': 'c'}", ValueError),
        ("['true'], env={'': 'c'}", ValueError),
        ("['true'], env={'A': 1}", TypeError),
        ("['true'], grace=-1", ValueError),
        ("['true'], scope='all'", ValueError),
        ("['true'], parent='x'", ValueError),
    ):
        name = trees.answer(
            f"{BECOME}\ntry:\n    become({arguments})\n"
            "except Exception as error:\n    print(json.dumps(type(error).__name__))"
        )
        assert name == error.__name__, arguments


def test_the_environment_of_a_child() -> None:
    env = localai_parentwatch.child_env({"A": "b"})
    assert env == {"A": "b", trees.ENV_PARENT_PID: localai_parentwatch.token()}
    assert localai_parentwatch.child_env().items() >= dict(os.environ).items()
    source = "from localai_parentwatch import *; import json; start_parent_death_watcher(); "
    shell = ["/bin/sh", "-c", '"$@"; exit $?', "sh"]
    ran = subprocess.run(
        [*shell, *trees.command(f"{source}print(json.dumps(status().watched))")],
        env=localai_parentwatch.child_env(),
        stdout=subprocess.PIPE,
        timeout=trees.PATIENCE,
    )
    assert os.getpid() in json.loads(ran.stdout), "seen above the shell"


# -- doctor ----------------------------------------------------------------------------------------


def test_doctor_finds_and_ends_an_orphan(start) -> None:
    """An orphan is a worker whose supervisor named itself and died."""
    source = (
        "import localai_parentwatch as l, subprocess, os, sys\n"
        f"p = subprocess.Popen({trees.command(PROGRAM)}, env=l.child_env(), start_new_session=True)\n"
        "os.write(1, b'started %d\\n' % p.pid); p.wait()"
    )
    worker = start(trees.command(source))
    lines = [worker.line().split() for _ in range(3)]
    orphans = sorted(int(pid) for word, pid in lines if word != "started")
    # End its own supervisor first: that one would not reap it.
    worker.kill_supervisor()
    os.kill(worker.pid, signal.SIGKILL)
    assert worker.ended() == -signal.SIGKILL

    def found() -> list[int]:
        ran = trees.run([CONSOLE, "doctor", "--json"])
        report = json.loads(ran.stdout)
        assert ran.returncode == (1 if report["orphans"] else 0)
        return sorted(found["pid"] for found in report["orphans"])

    assert set(orphans) <= set(found())
    text = trees.run([CONSOLE, "doctor"]).stdout
    assert "\x1b" not in text
    # Tests beside this one leave orphans for a moment.
    _, _, end = text.partition("doctor --end ")
    assert set(orphans) <= {int(pid) for pid in end.splitlines()[0].split() if pid.isdigit()}
    ran = trees.run([CONSOLE, "doctor", "--end", *map(str, orphans)])
    assert (ran.returncode, ran.stderr) == (0, "")
    assert worker.line() == "", "somebody is left"


def test_doctor_ends_only_orphans() -> None:
    with trees.started([sys.executable, "-c", "import time; time.sleep(1000)"]) as healthy:
        ran = trees.run([CONSOLE, "doctor", "--end", str(healthy.pid)])
        assert (ran.returncode, ran.stdout) == (2, "")
        assert ran.stderr.startswith(f"localai-parentwatch: doctor: --end {healthy.pid}")
        assert healthy.poll() is None
