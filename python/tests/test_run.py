"""`python -m localai_parentwatch` and its `run`, which starts the watcher and then does what `python
PROGRAM` does. The tests compare it with plain Python running the same program."""

import json
import os
import py_compile
import signal
import subprocess
import sys
import textwrap
import zipapp
from pathlib import Path

import pytest
import trees

PLAIN = [sys.executable]
REPORT = [sys.executable, "-m", "localai_parentwatch"]
RUN = [*REPORT, "run"]


# -- The report ------------------------------------------------------------------------------------


def test_report_for_machines() -> None:
    ran = trees.run([*REPORT, "--json"])
    assert (ran.returncode, ran.stderr) == (0, "")
    assert json.loads(ran.stdout) == {
        "state": "armed",
        "tier": "event",
        "watched": [os.getpid()],
        "interval": 2.0,
        "scope": "tree",
        "grace": None,
    }


def test_report_for_people() -> None:
    env = {trees.ENV_PARENT_WATCH_INTERVAL: "250ms", trees.ENV_PARENT_WATCH_SCOPE: "all"}
    ran = trees.run(REPORT, env=env)
    assert ran.returncode == 0
    assert ran.stdout == textwrap.dedent(f"""\
        state     armed
        tier      event
        watched   {os.getpid()}
        interval  0.25 s
        scope     tree
        grace     not set
        """)
    warning = 'SCOPE=all: expected "tree", "group" or "process"; using tree'
    assert ran.stderr == f"localai-parentwatch: LOCALAI_BACKEND_PARENT_WATCH_{warning}\n"


@pytest.mark.parametrize(("grace", "told"), [("0", "0 s"), ("1m30s", "90 s")])
def test_report_of_the_grace(grace: str, told: str) -> None:
    ran = trees.run(REPORT, env={trees.ENV_PARENT_WATCH_GRACE: grace})
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout.splitlines()[-1] == f"grace     {told}"


def test_report_of_a_watcher_that_is_switched_off() -> None:
    env = {trees.ENV_PARENT_WATCH: "off"}
    ran = trees.run([*REPORT, "--json"], env=env)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert (
        json.loads(ran.stdout).items() >= {"state": "disabled", "tier": "none", "watched": []}.items()
    )
    lines = trees.run(REPORT, env=env).stdout.splitlines()
    assert lines[:3] == ["state     disabled", "tier      none", "watched   none"]


def test_version_and_help() -> None:
    import localai_parentwatch

    assert trees.run([*REPORT, "--version"]).stdout == f"{localai_parentwatch.__version__}\n"
    for words in (["--help"], ["run", "--help"]):
        ran = trees.run([*REPORT, *words])
        assert (ran.returncode, ran.stderr) == (0, "")
        assert ran.stdout.startswith("usage: python -m localai_parentwatch")


@pytest.mark.parametrize(
    "words",
    [["stop"], ["--yaml"], ["run"], ["run", "-m"], ["run", "--json", "a.py"], ["run", "-c", "pass"]],
    ids=" ".join,
)
def test_mistakes_start_nothing(words: list[str]) -> None:
    ran = trees.run([*REPORT, *words], env={trees.ENV_PARENT_WATCH_SCOPE: "a warning of a start"})
    assert ran.returncode == 2
    assert ran.stdout == ""
    assert "usage: python -m localai_parentwatch" in ran.stderr
    assert "localai-parentwatch:" not in ran.stderr


# -- What a program can see ------------------------------------------------------------------------

SEE = """
import json, sys
main = sys.modules["__main__"]
def kind(value):
    return value if isinstance(value, (str, int, type(None))) else type(value).__name__
names = {name: kind(value) for name, value in globals().items() if name.startswith("__")}
names.update(__spec__=__spec__ and [__spec__.name, __spec__.origin], __doc__=__doc__)
print(json.dumps({
    "names": names,
    "others": sorted(name for name in globals() if not name.startswith("__")),
    "is_main": main.__dict__ is globals(),
    "builtins": __builtins__ is __import__("builtins"),
    "argv": sys.argv,
    "path": sys.path,
    "flags": list(sys.flags),
    "executable": sys.executable,
}))
"""
WORDS = ["one", "--json", "-m", "two words", ""]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The same program in every form."""
    (tmp_path / "program.py").write_text('"""Documented."""\n' + SEE)
    (tmp_path / "program").write_text(SEE)
    sub = tmp_path / "sub"
    sub.mkdir()
    (sub / "inner.py").write_text("import neighbour\n" + SEE)
    (sub / "neighbour.py").write_text("")
    (tmp_path / "link.py").symlink_to(sub / "inner.py")
    (tmp_path / "away").symlink_to(sub)
    py_compile.compile(str(tmp_path / "program.py"), cfile=str(tmp_path / "compiled.pyc"), doraise=True)
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "__init__.py").write_text("")
    (tmp_path / "package" / "beside.py").write_text("")
    (tmp_path / "package" / "__main__.py").write_text("from . import beside\n" + SEE)
    (tmp_path / "package" / "part.py").write_text(SEE)
    (tmp_path / "directory").mkdir()
    (tmp_path / "directory" / "__main__.py").write_text("import beside\n" + SEE)
    (tmp_path / "directory" / "beside.py").write_text("")
    zipapp.create_archive(tmp_path / "directory", tmp_path / "archive.pyz")
    return tmp_path


def both(
    folder: Path, words: list[str], options: tuple[str, ...] = (), env: trees.Environment = None
) -> tuple[subprocess.CompletedProcess, subprocess.CompletedProcess]:
    """Runs a program with plain Python, and with ours."""
    plain = trees.run([sys.executable, *options, *words], cwd=folder, env=env)
    ours = trees.run(
        [sys.executable, *options, "-m", "localai_parentwatch", "run", *words], cwd=folder, env=env
    )
    return plain, ours


FORMS = [
    ["program.py"],
    ["./program.py"],
    ["program"],
    ["{folder}/program.py"],
    ["sub/inner.py"],
    ["sub/../program.py"],
    ["away/inner.py"],
    ["away/../program.py"],
    ["link.py"],
    ["compiled.pyc"],
    ["directory"],
    ["{folder}/directory"],
    ["archive.pyz"],
    ["-m", "program"],
    ["-m", "package"],
    ["-m", "package.part"],
    ["-m", "sub.inner"],
]


# The options of Python that a worker may be started with.
@pytest.mark.parametrize("options", [(), ("-I",), ("-E", "-B", "-O", "-u", "-X", "utf8")], ids=" ".join)
@pytest.mark.parametrize("form", FORMS, ids=" ".join)
def test_program_sees_the_same(folder: Path, form: list[str], options: tuple[str, ...]) -> None:
    words = [word.format(folder=folder) for word in form]
    plain, ours = both(folder, [*words, *WORDS], options)
    assert (ours.returncode, ours.stderr == "") == (plain.returncode, plain.stderr == "")
    if plain.returncode == 0:
        assert json.loads(ours.stdout) == json.loads(plain.stdout)
    else:
        # The module must not be found there: the last line says it.
        assert (
            ours.stderr.splitlines()[-1].rpartition(":")[2]
            == plain.stderr.splitlines()[-1].rpartition(":")[2]
        )


@pytest.mark.skipif(sys.version_info < (3, 11), reason="CPython 3.10 has no -P and no PYTHONSAFEPATH")
@pytest.mark.parametrize("form", [["sub/../program.py"], ["directory"], ["archive.pyz"]], ids=" ".join)
@pytest.mark.parametrize("how", ["option", "variable"])
def test_safe_path(folder: Path, form: list[str], how: str) -> None:
    options, env = (("-P",), None) if how == "option" else ((), {"PYTHONSAFEPATH": "1"})
    plain, ours = both(folder, [*form, *WORDS], options, env)
    assert plain.returncode == 0, plain.stderr
    assert json.loads(ours.stdout) == json.loads(plain.stdout)


def test_program_is_watched_from_its_first_line(folder: Path) -> None:
    (folder / "first.py").write_text("from localai_parentwatch import status; print(*status().watched)")
    for words in (["first.py"], ["-m", "first"]):
        ran = trees.run([*RUN, *words], cwd=folder)
        assert (ran.stdout, ran.stderr) == (f"{os.getpid()}\n", "")
    ran = trees.run([*RUN, "first.py"], cwd=folder, env={trees.ENV_PARENT_WATCH: "off"})
    assert (ran.stdout, ran.stderr) == ("\n", "")


def test_watcher_is_started_before_the_program_is_read(folder: Path) -> None:
    """The program comes from a pipe, which is empty at first."""
    os.mkfifo(folder / "slow.py")
    with trees.started([*RUN, "slow.py"], cwd=folder) as process:
        trees.wait_until(lambda: trees.WATCHER_THREAD in trees.threads(process.pid), "the watcher runs")
        assert process.poll() is None
        (folder / "slow.py").write_text("print('done')")
        assert process.communicate(timeout=trees.PATIENCE)[0] == "done\n"


@pytest.mark.parametrize("words", [["hang.py"], ["-m", "hang"]], ids=" ".join)
def test_program_ends_with_its_supervisor(start, folder: Path, words: list[str], monkeypatch) -> None:
    monkeypatch.chdir(folder)
    (folder / "hang.py").write_text("import time\nprint('ready', flush=True)\ntime.sleep(3600)\n")
    worker = start([*RUN, *words])
    assert worker.line() == "ready"
    worker.kill_supervisor()
    assert worker.ended() == 1
    assert worker.said() == worker.death_line()


# -- How it ends -----------------------------------------------------------------------------------

ENDS = {
    "falls-off": "pass",
    "exit-3": "import sys; sys.exit(3)",
    "exit-none": "raise SystemExit",
    "exit-text": "import sys; sys.exit('no model')",
    "exit-true": "raise SystemExit(True)",
    "exit-256": "raise SystemExit(256)",
    "exit-object": "raise SystemExit([1, 2])",
    "os-exit": "import os; os._exit(9)",
    "quit": "quit(4)",
    "exception": "def f():\n    raise ValueError('no model')\nf()",
    "chained": "try:\n    1 / 0\nexcept ZeroDivisionError as error:\n    raise ValueError from error",
    "keyboard-interrupt": "raise KeyboardInterrupt",
    "ctrl-c": "import os, signal, time\nos.kill(os.getpid(), signal.SIGINT)\ntime.sleep(3600)",
    "sigterm": "import os, signal, time\nos.kill(os.getpid(), signal.SIGTERM)\ntime.sleep(3600)",
    "syntax-error": "def f(:\n",
    "bad-encoding": "# coding: klingon\n",
    "thread-exception": "import threading\nthreading.Thread(target=lambda: 1 // 0).start()",
    "atexit-exception": "import atexit\natexit.register(lambda: 1 // 0)",
    "exit-in-atexit": "import atexit, sys\natexit.register(sys.exit, 5)",
}


def last_of_the_traceback(text: str, end: str) -> str:
    """The stderr from the program's own last line on. The lines before may differ, and so may the
    message about an unknown encoding."""
    lines = text.splitlines()
    if end == "bad-encoding":
        return lines[-1].partition(":")[0]
    own = [number for number, line in enumerate(lines) if "ends.py" in line]
    return "\n".join(lines[own[-1] :] if own else lines)


@pytest.mark.parametrize("as_module", [False, True], ids=["script", "module"])
@pytest.mark.parametrize("end", ENDS)
def test_program_ends_the_same(tmp_path: Path, end: str, as_module: bool) -> None:
    (tmp_path / "ends.py").write_text(ENDS[end])
    plain, ours = both(tmp_path, ["-m", "ends"] if as_module else ["ends.py"])
    assert (ours.returncode, ours.stdout) == (plain.returncode, plain.stdout), ours.stderr
    assert last_of_the_traceback(ours.stderr, end) == last_of_the_traceback(plain.stderr, end)


NO_PROGRAM = [["missing.py"], ["empty"], ["-m", "missing"], ["-m", "empty"]]
if sys.version_info >= (3, 11):
    # Python 3.10 names the working directory differently.
    NO_PROGRAM.append(["."])


@pytest.mark.parametrize("words", NO_PROGRAM, ids=" ".join)
def test_there_is_no_program(tmp_path: Path, words: list[str]) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "__init__.py").write_text("")
    plain, ours = both(tmp_path, words)
    assert (ours.returncode, ours.stdout) == (plain.returncode, plain.stdout)
    assert ours.stderr == plain.stderr


def test_program_that_may_not_be_read(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        # Root may read every file, but cannot read a folder as a file.
        (tmp_path / "secret.py").mkdir()
    else:
        (tmp_path / "secret.py").touch(0)
    plain, ours = both(tmp_path, ["secret.py"])
    assert (ours.returncode, ours.stdout, ours.stderr) == (plain.returncode, plain.stdout, plain.stderr)


# -- What goes on after the last line --------------------------------------------------------------


@pytest.mark.parametrize("as_module", [False, True], ids=["script", "module"])
def test_what_outlives_the_last_line_has_its_globals(tmp_path: Path, as_module: bool) -> None:
    (tmp_path / "late.py").write_text(
        textwrap.dedent("""\
            import atexit, threading
            NAME = "late"
            last_line = threading.Event()
            def speak(who):
                print(who, NAME, threading is not None, flush=True)
            def wait():
                last_line.wait()
                threading.main_thread().join()
                speak("thread")
            threading.Thread(target=wait).start()
            atexit.register(speak, "atexit")
            class Destroyed:
                def __del__(self):
                    print("destroyed", flush=True)
            destroyed = Destroyed()
            last_line.set()
            """)
    )
    plain, ours = both(tmp_path, ["-m", "late"] if as_module else ["late.py"])
    assert plain.stdout == "thread late True\natexit late True\ndestroyed\n"
    assert (ours.returncode, ours.stdout, ours.stderr) == (0, plain.stdout, "")


# Plain Python cannot spawn from a directory or an archive either: the children import no __main__.
@pytest.mark.parametrize(
    ("form", "method"),
    [
        *(
            (form, method)
            for form in ("script", "module")
            for method in ("fork", "spawn", "forkserver")
        ),
        ("directory", "fork"),
        ("archive", "fork"),
    ],
)
def test_multiprocessing_in_the_program(tmp_path: Path, form: str, method: str) -> None:
    """Objects of __main__ go to the children and back, and the children do not run __main__ again."""
    program = textwrap.dedent("""\
        import multiprocessing, os, pickle, sys
        print("imported as", __name__, flush=True)
        class Point:
            def __init__(self, x): self.x = x
            def __eq__(self, other): return type(other) is Point and other.x == self.x
        def double(point): return Point(2 * point.x)
        if __name__ == "__main__":
            assert Point.__module__ == "__main__"
            assert pickle.loads(pickle.dumps(Point(1))) == Point(1)
            with multiprocessing.get_context(sys.argv[1]).Pool(1) as pool:
                assert pool.map(double, [Point(1), Point(2)]) == [Point(2), Point(4)]
            print("done")
        """)
    folder = tmp_path / "app"
    folder.mkdir()
    file = folder / ("__main__.py" if form in ("directory", "archive") else "app.py")
    file.write_text(program)
    if form == "archive":
        zipapp.create_archive(folder, tmp_path / "app.pyz")
    words = {
        "script": ["app/app.py"],
        "module": ["-m", "app.app"],
        "directory": ["app"],
        "archive": ["app.pyz"],
    }[form]
    plain, ours = both(tmp_path, [*words, method])
    assert plain.returncode == 0, plain.stderr
    assert (ours.returncode, sorted(ours.stdout.splitlines())) == (
        0,
        sorted(plain.stdout.splitlines()),
    ), ours.stderr


def test_standard_input_belongs_to_the_program(tmp_path: Path) -> None:
    (tmp_path / "reads.py").write_text("import sys; print(sys.stdin.read())")
    process = subprocess.run(
        [*RUN, "reads.py"],
        cwd=tmp_path,
        env=trees.environment(),
        input="line",
        capture_output=True,
        text=True,
    )
    assert process.stdout == "line\n"


def test_signal_of_the_operator(tmp_path: Path) -> None:
    """Ctrl-C raises KeyboardInterrupt on the program's main thread."""
    (tmp_path / "waits.py").write_text(
        "import time\ntry:\n    print('ready', flush=True)\n    time.sleep(3600)\n"
        "except KeyboardInterrupt:\n    print('interrupted')\n"
    )
    with trees.started([*RUN, "waits.py"], cwd=tmp_path) as process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=trees.PATIENCE)[0] == "interrupted\n"
        assert process.returncode == 0


# -- Where the program comes from ------------------------------------------------------------------


@pytest.mark.parametrize("program", ["/dev/stdin", "/dev/fd/0"])
def test_program_from_a_pipe(program: str) -> None:
    """A pipe can be read only once."""
    text = "import sys; print(sys.argv, __file__, __name__); sys.exit(3)\n"
    ran = [
        subprocess.run(
            [*command, program, "a"],
            input=text,
            env=trees.environment(),
            capture_output=True,
            text=True,
        )
        for command in (PLAIN, RUN)
    ]
    assert [(one.returncode, one.stdout, one.stderr) for one in ran] == [
        (3, f"['{program}', 'a'] {program} __main__\n", "")
    ] * 2


@pytest.mark.parametrize("place", [".", "", "./"])
@pytest.mark.parametrize("is_there", [True, False])
def test_the_working_directory_as_program(tmp_path: Path, place: str, is_there: bool) -> None:
    if is_there:
        (tmp_path / "__main__.py").write_text("import sys; print(sys.argv, sys.path[0], __file__)\n")
    plain, ours = [trees.run([*command, place], cwd=tmp_path) for command in (PLAIN, RUN)]
    assert (ours.returncode, ours.stdout, ours.stderr) == (plain.returncode, plain.stdout, plain.stderr)
    assert (plain.returncode == 0) == is_there
