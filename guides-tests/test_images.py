"""The steps of the Dockerfiles, in order, in another Debian without Rust."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from conftest import ROOT

SUITE = "trixie"
# In the other Debian's folder, for this run alone: everything in it ends with it.
ENTER = """
mount -t proc proc "$1/proc"
mount --rbind /dev "$1/dev"
for folder in opt srv tmp usr/local; do mount -t tmpfs tmpfs "$1/$folder"; done
cp -r "$2/." "$1/srv"
exec chroot "$1" bash -euo pipefail -c "$3"
"""
# A step as it is in a shell script: every one of them has the arguments of those before it.
STEPS = {
    "ARG": lambda rest: rest,
    "ENV": lambda rest: f"export {rest}",
    "COPY": lambda rest: f"(cd /srv && cp -r {rest})",
    "RUN": lambda rest: f"({rest})",
}


@pytest.fixture(scope="module")
def debian() -> Path:
    made = subprocess.run([ROOT / "scripts/another-debian.sh", SUITE], capture_output=True, text=True)
    if made.returncode == 77:
        pytest.skip(made.stdout.strip().removeprefix("SKIPPED: "))
    assert made.returncode == 0, made.stderr
    return Path(made.stdout.splitlines()[-1])


@pytest.fixture
def image(debian, tarball, tmp_path):
    """Runs commands there, in a folder that has the tarball, and gives what they say."""

    def run(commands: str) -> str:
        shutil.copytree(tarball.parent, tmp_path / "context", dirs_exist_ok=True)
        unshared = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "bash", "-euc", ENTER, "-"]
        command = [*unshared, debian, tmp_path / "context", commands]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run


def shell(dockerfile: str) -> str:
    """The steps of a Dockerfile as a shell script."""
    lines = re.sub(r"\\\n", "", dockerfile).splitlines()
    return "".join(
        STEPS[step](rest) + "\n"
        for step, rest in (line.split(" ", 1) for line in lines if line.strip())
    )


def test_image_of_local_ai(image, snippet):
    said = image(
        shell(snippet("dockerfile-program"))
        + "! command -v rustc\nfind /usr/local -type f\n"
        + "localai-parentwatch exec -- sh -c 'exit 7' || echo $?\n"
    )
    assert said == "/usr/local/bin/localai-parentwatch\n7\n"


SERVER = """
cd /tmp
cat >server.c <<'C'
#include <localai_parentwatch.h>
int main(void) { return start_parent_death_watcher(); }
C
gcc server.c -o server $(pkg-config --cflags --libs localai_parentwatch)
gcc server.c -o server-static $(pkg-config --static --cflags --libs localai_parentwatch |
    sed 's/-llocalai_parentwatch/-l:liblocalai_parentwatch.a/')
LD_LIBRARY_PATH=/usr/local/lib bash -c './server; echo $?; ./server-static; echo $?'
true
"""


def test_image_that_builds(image, snippet):
    assert image(shell(snippet("dockerfile-library")) + SERVER) == "0\n0\n"


def test_unpacked_elsewhere(image, snippet):
    said = image(
        "cd /srv\n" + snippet("unpack") + "ls $CMAKE_PREFIX_PATH/lib/cmake/localai_parentwatch\n"
    )
    assert said.splitlines()[1:] == [
        "localai_parentwatch-config-version.cmake",
        "localai_parentwatch-config.cmake",
    ]
