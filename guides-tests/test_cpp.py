"""LocalAI's C++ servers: as they are built with the library and without it."""

from pathlib import Path

import pytest

from conftest import environment, make_place, run

# Without the library, also where somebody has installed it.
NOWHERE = [
    "-DCMAKE_IGNORE_PATH=/usr/local/lib/cmake/localai_parentwatch;/usr/lib/cmake/localai_parentwatch"
]
REQUIRED = "-DCMAKE_REQUIRE_FIND_PACKAGE_localai_parentwatch=ON"
STRICT = ["-Wall", "-Wextra", "-Werror"]


@pytest.fixture
def servers(tmp_path, snippet, prefix) -> Path:
    """The folder backend/cpp, after the steps of the guide."""
    tree = make_place("cpp", tmp_path / "localai", snippet)
    git = ["git", "-c", "user.name=test", "-c", "user.email=test@example.org"]
    for command in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "as it was"]):
        run(*git, *command, cwd=tree)
    servers = tree / "backend/cpp"
    run("bash", "-euc", snippet("move-poller"), cwd=servers / "llama-cpp")
    run(
        "bash",
        "-euc",
        snippet("portable"),
        cwd=servers / "ds4",
        env=environment(PARENTWATCH_DIR=prefix),
    )
    run("bash", "prepare.sh", cwd=servers / "llama-cpp")
    return servers


def configure(source: Path, *options, check=True):
    build = source / "build"
    return run("cmake", "-S", source, "-B", build, *options, check=check, env=environment())


def built(source: Path, *options) -> Path:
    configure(source, *options)
    run("cmake", "--build", source / "build", "--parallel", "2")
    return source / "build"


@pytest.mark.parametrize("has_library", [True, False], ids=["with the library", "without it"])
def test_servers(servers, prefix, has_library):
    options = [f"-DCMAKE_PREFIX_PATH={prefix}", REQUIRED] if has_library else NOWHERE
    ds4 = built(servers / "ds4", *options)
    assert run(ds4 / "grpc-server").stdout == ("armed\n" if has_library else "unsupported\n")
    # Where prepare.sh has copied it, in which nothing lies that was not copied.
    llama = built(servers / "llama-cpp/llama.cpp/tools/grpc-server", "-DBUILD_TESTS=ON", *options)
    assert run(llama / "grpc-server").stdout == ("library\n" if has_library else "poller\n")
    run("ctest", "--output-on-failure", cwd=llama)


def test_library_that_is_required(servers):
    refused = configure(servers / "ds4", *NOWHERE, REQUIRED, check=False)
    assert refused.returncode != 0
    assert "localai_parentwatch" in refused.stderr


def test_unit_test_runner(servers):
    """It compiles each test alone, and knows of no library."""
    assert run("bash", servers / "run-unit-tests.sh").stdout == "1 unit tests\n"


def test_one_line(tmp_path, snippet, prefix):
    """The compiler's command line, by pkg-config."""
    (tmp_path / "server.cpp").write_text(
        snippet("cpp-include")
        + "int main() { return "
        + snippet("cpp-call").strip().rstrip(";")
        + "; }\n"
    )
    env = environment(PKG_CONFIG_PATH=prefix / "lib/pkgconfig")
    run("bash", "-euo", "pipefail", "-c", snippet("pkg-config"), cwd=tmp_path, env=env)
    run(tmp_path / "server", env=environment())


def compiled(tmp_path, prefix, text: str, language: str) -> Path:
    compiler = {"c": ["gcc", "-std=c11"], "cpp": ["g++", "-std=c++17"]}[language]
    source = tmp_path / f"program.{language}"
    source.write_text(text)
    libraries = ["-L", prefix / "lib", "-llocalai_parentwatch", f"-Wl,-rpath,{prefix / 'lib'}"]
    run(*compiler, *STRICT, "-I", prefix / "include", source, "-o", tmp_path / "program", *libraries)
    return tmp_path / "program"


TELL = """
#include <stdio.h>
static int tell(void) {
    localai_parentwatch_info_t info;
    info.size = sizeof info;
    localai_parentwatch_status(&info);
    const char *state = localai_parentwatch_status_text(info.state);
    printf("%s %llu\\n", state, (unsigned long long)info.grace_ns);
    return 0;
}
"""


def test_grace(tmp_path, snippet, prefix):
    text = (
        snippet("cpp-include") + TELL + "int main() {\n" + snippet("cpp-grace") + "return tell();\n}\n"
    )
    assert (
        run(compiled(tmp_path, prefix, text, "cpp"), env=environment()).stdout == "armed 10000000000\n"
    )


def test_hook(tmp_path, snippet, prefix):
    text = "struct Cache { void save() {} };\n" + snippet("cpp-hook") + TELL
    text += "int main() { static Cache cache; watch(cache); return tell(); }\n"
    assert (
        run(compiled(tmp_path, prefix, text, "cpp"), env=environment()).stdout == "armed 2000000000\n"
    )


def test_opt_in(tmp_path, snippet, prefix):
    text = snippet("opt-in") + TELL + "int main(void) { watch_if_asked(); return tell(); }\n"
    program = compiled(tmp_path, prefix, text, "c")
    for value, state in (("", "not_started"), ("off", "disabled"), ("on", "armed")):
        env = environment(LOCALAI_BACKEND_PARENT_WATCH=value)
        assert run(program, env=env).stdout == f"{state} 0\n"
