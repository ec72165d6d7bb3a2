"""LocalAI's Go module, and steps 1 and 2 of the guide in it: as it builds, and as it runs."""

import json
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from conftest import ROOT, environment, is_alive, make_place, run, script, wait_until

SYSTEMS = ("linux", "darwin", "windows")
# The modules are in the cache by then (make go-modules): nothing is fetched.
GO = {
    "GOFLAGS": "-mod=mod -buildvcs=false",
    "GOPROXY": "off",
    "GOWORK": "off",
    "GONOSUMDB": "*",
    "CGO_ENABLED": "0",
}
MAINS = 30
STATIC = "local-store"
MAIN = """package main

import "example.org/localai/pkg/grpc"

func main() {
	if err := grpc.StartServer("127.0.0.1:0"); err != nil {
		panic(err)
	}
}
"""


@pytest.fixture(scope="module")
def module(tmp_path_factory, snippet) -> Path:
    folder = make_place("go", tmp_path_factory.mktemp("go") / "localai", snippet)
    with open(folder / "go.mod", "a") as file:
        for path in ("go", "go/native"):
            print(f"replace github.com/mudler/localai-parentwatch/{path} => {ROOT / path}", file=file)
    sums = [(ROOT / name / "go.sum").read_text() for name in ("examples/supervisor", "go/native")]
    (folder / "go.sum").write_text("".join(sums))
    names = [f"backend-{number}" for number in range(MAINS - 1)] + [STATIC]
    for name in names:
        backend = folder / "backend/go" / name
        backend.mkdir(parents=True)
        (backend / "main.go").write_text(MAIN)
        if name != STATIC:
            (backend / "parentwatch_linux.go").write_text(snippet("go-native"))
    return folder


@pytest.mark.parametrize("system", SYSTEMS)
def test_builds_and_vets(module, system):
    """Every program, for every system that LocalAI is built for."""
    go = environment(**GO, GOOS=system)
    run("go", "build", "./...", cwd=module, env=go)
    run("go", "vet", "./...", cwd=module, env=go)


def test_unit_tests_and_format(module):
    run("go", "test", "./pkg/...", cwd=module, env=environment(**GO))
    assert run("gofmt", "-l", ".", cwd=module).stdout == ""


def test_shortest_program(tmp_path, module, snippet):
    folder = module / "backend/go/shortest"
    folder.mkdir()
    (folder / "main.go").write_text(snippet("go-start"))
    (folder / "serve.go").write_text("package main\n\nfunc serve() {}\n")
    run("go", "vet", "./backend/go/shortest", cwd=module, env=environment(**GO))


def build(module: Path, package: str, output: Path) -> Path:
    run("go", "build", "-o", output, f"./{package}", cwd=module, env=environment(**GO))
    return output


@pytest.mark.parametrize("has_library", [True, False], ids=["with the library", "without it"])
def test_packages(snippet, module, prefix, tmp_path, has_library):
    """package.sh of three backends, in an image that has the library and in one that has not."""
    tree = make_place("packages", tmp_path / "localai", snippet)
    build(module, "backend/go/backend-1", tree / "backend/go/whisper/whisper")
    build(module, f"backend/go/{STATIC}", tree / f"backend/go/{STATIC}/{STATIC}")
    # A program that is linked with the archive.
    shutil.copy(prefix / "bin/localai-parentwatch", tree / "backend/cpp/server/server")
    shipped = environment(PARENTWATCH_DIR=prefix if has_library else tmp_path / "nowhere")
    for backend in ("go/whisper", f"go/{STATIC}", "cpp/server"):
        folder = tree / "backend" / backend
        done = run("bash", folder / "package.sh", env=shipped)
        assert done.stdout.endswith(f"packaged {folder.name}\n")
        library = folder / "package/lib/liblocalai_parentwatch.so.0"
        assert library.exists() == (has_library and backend == "go/whisper"), backend
    # Whether it is found, and what the program says where it is not.
    told = run(tree / "backend/go/whisper/package/whisper", env=environment())
    assert told.stdout == f"armed event {str(has_library).lower()}\n"
    assert (told.stderr == "") == has_library, told.stderr
    static = tree / f"backend/go/{STATIC}/package/{STATIC}"
    told = run(static, env=environment())
    assert (told.stdout, told.stderr) == ("armed event false\n", "")
    assert "INTERP" not in run("readelf", "-lW", static).stdout


class LocalAI:
    """local-ai with a backend without the library, which has a helper in a session of its own."""

    def __init__(self, program: Path, folder: Path, processes, env):
        script(
            folder / "backend/run.sh",
            "#!/bin/sh\nsetsid sleep 1001 &\necho $! >helper\necho $* >arguments\nexec sleep 1000\n",
        )
        self.process = subprocess.Popen(
            [program, folder / "backend/run.sh", folder / "state"],
            stdout=subprocess.PIPE,
            text=True,
            env=env,
        )
        processes.append(self.process.pid)
        self.backend = int(self.process.stdout.readline())
        processes.append(self.backend)
        helper = folder / "backend/helper"
        self.helper = int(wait_until("a helper", lambda: helper.exists() and helper.read_text()))
        processes.append(self.helper)
        wait_until(
            "the backend runs", lambda: b"sleep" in Path(f"/proc/{self.backend}/cmdline").read_bytes()
        )
        assert (folder / "backend/arguments").read_text() == "--addr 127.0.0.1:1\n"

    def kill(self):
        self.process.kill()
        self.process.wait()


@pytest.fixture(scope="module")
def local_ai(module, tmp_path_factory) -> Path:
    return build(module, "cmd/local-ai", tmp_path_factory.mktemp("local-ai") / "local-ai")


def doctor(prefix, *arguments) -> subprocess.CompletedProcess:
    return run(prefix / "bin/localai-parentwatch", "doctor", *arguments, check=False, env=environment())


def orphans(prefix) -> set[int]:
    return {orphan["pid"] for orphan in json.loads(doctor(prefix, "--json").stdout)["orphans"]}


def test_step_1(local_ai, prefix, tmp_path, processes, snippet):
    """Without the program and the library: the orphan is found by LocalAI's name, and can be ended."""
    localai = LocalAI(local_ai, tmp_path, processes, environment())
    told = run("bash", "-c", snippet("doctor"), check=False, env=environment([prefix / "bin"]))
    assert told.returncode in (0, 1)
    assert told.stderr == ""
    assert localai.backend not in orphans(prefix)
    localai.kill()
    wait_until("the backend is an orphan", lambda: localai.backend in orphans(prefix))
    assert is_alive(localai.backend)
    ended = doctor(prefix, "--end", str(localai.backend))
    assert ended.returncode == 0, ended.stdout + ended.stderr
    wait_until("it is gone", lambda: not is_alive(localai.backend))


@pytest.mark.parametrize("place_of_guard", ["beside", "in PATH"])
def test_step_2(local_ai, prefix, tmp_path, processes, snippet, place_of_guard):
    """Any backend goes with LocalAI, with what it has started."""
    guard = prefix / "bin/localai-parentwatch"
    path = [prefix / "bin"]
    if place_of_guard == "beside":
        path = []
        local_ai = Path(shutil.copy(local_ai, tmp_path / "local-ai"))
        shutil.copy(guard, tmp_path / "localai-parentwatch")
    localai = LocalAI(local_ai, tmp_path, processes, environment(path))
    # The guide's own way to try it, with this LocalAI in place of every one that there is.
    script(tmp_path / "shims/pidof", f"#!/bin/sh\necho {localai.process.pid}\n")
    told = run(
        "bash",
        "-c",
        snippet("kill-localai"),
        check=False,
        env=environment([tmp_path / "shims", prefix / "bin"]),
    )
    assert told.returncode in (0, 1)
    localai.process.wait()
    wait_until("the backend is gone", lambda: not is_alive(localai.backend))
    wait_until("its helper is gone", lambda: not is_alive(localai.helper))
    assert localai.backend not in orphans(prefix)


def test_step_2_taken_back(local_ai, prefix, tmp_path, processes):
    env = environment([prefix / "bin"], LOCALAI_BACKEND_PARENT_WATCH="off")
    localai = LocalAI(local_ai, tmp_path, processes, env)
    commands = run("ps", "-eo", "args").stdout
    assert f"guarding {localai.backend} " not in commands
    localai.kill()
    wait_until("the backend is an orphan", lambda: localai.backend in orphans(prefix))
    assert is_alive(localai.backend)
    assert is_alive(localai.helper)


def test_p2p_worker(local_ai, prefix, tmp_path, processes):
    """A program that `local-ai p2p-worker` starts as a child."""
    program = script(tmp_path / "llama-cpp-rpc-server", "#!/bin/sh\necho $$\nexec sleep 1000\n")
    with subprocess.Popen(
        [local_ai, "p2p-worker", program],
        stdout=subprocess.PIPE,
        text=True,
        env=environment([prefix / "bin"]),
    ) as localai:
        processes.append(localai.pid)
        worker = int(localai.stdout.readline())
        processes.append(worker)
        localai.send_signal(signal.SIGKILL)
    wait_until("the worker is gone", lambda: not is_alive(worker))


def test_example_supervisor(snippet):
    """The supervisor of `make demo` has the guide's function, and its line of step 1."""
    example = ROOT / "examples/supervisor"
    function = snippet("guarded").replace("package model", "package main")
    assert (example / "guarded.go").read_text() == function
    assert "parentwatch.ChildEnv(" in (example / "pool.go").read_text()
