#!/usr/bin/env python3
"""check_readme.py SUITE: runs every command of README.md on a bare Debian SUITE, and times it.

The commands are those of README.md's `sh` blocks, in their order, in one shell, as a user who may
use sudo. A block after "In `FILE`:" is written into that file. README.md and the sources are those
of HEAD. The folder has what debootstrap's minbase has, and sudo.

Where rustup's site cannot be reached, this machine's Rust stands in for it, and one line says so.
README.md has no command that installs Go: this machine's is used.

What cannot be done here prints one line that begins with SKIPPED.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
REPOSITORY = "https://github.com/mudler/localai-parentwatch"
RUSTUP = "https://sh.rustup.rs"
NOT_HERE = 77
CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"
BLOCK = re.compile(r"(?:^In `([^`]+)`:\n\n)?^```(\S+)([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# How this machine reaches the network.
NETWORK = re.compile(
    r"(https?|no|all)_proxy|\w*CERT\w*|\w*CA_BUNDLE|GIT_SSL_CAINFO|GOPROXY|GOSUMDB", re.IGNORECASE
)
RUNNER = r"""
set -uo pipefail
log=$HOME/log
run() {
  local began=$EPOCHREALTIME status
  eval "$1" >"$log" 2>&1 </dev/null
  status=$?
  printf '%7.1f s  %s\n' "$(seconds_since "$began")" "${1//$'\n'/ }"
  ((status == 0)) && return
  tail -n 40 "$log"
  echo "FAILED with status $status: $1"
  exit 1
}
seconds_since() {
  local tenths=$(((${EPOCHREALTIME/[.,]/} - ${1/[.,]/}) / 100000))
  echo "$((tenths / 10)).$((tenths % 10))"
}
"""


def commands(block: str) -> list[str]:
    """The lines, each with those that continue it, without comments."""
    lines = re.findall(r"(?:[^\n]*\\\n)*[^\n]+", block)
    return [line for line in lines if not line.startswith("#")]


def script(readme: str, rustup: bool) -> str:
    """What the user's shell runs."""
    lines = [RUNNER]
    for file, language, attributes, text in BLOCK.findall(readme):
        if file:
            lines.append(f"cat >{file} <<'END OF FILE'\n{text}END OF FILE")
        elif language == "sh" and attributes:
            lines.append(f"echo 'SKIPPED: README.md: the commands for{attributes}'")
        elif language == "sh":
            for command in commands(text):
                if RUSTUP in command and not rustup:
                    lines.append(f"echo 'SKIPPED: README.md: {RUSTUP} cannot be reached'")
                else:
                    lines.append(f"run {shlex.quote(command)}")
    count = sum(line.startswith("run ") for line in lines)
    lines.append(f'echo "{count} commands ran, in $SECONDS s"')
    return "\n".join(lines) + "\n"


def reachable(url: str) -> bool:
    return subprocess.run(["curl", "-sfI", "-m", "20", "-o", "/dev/null", url]).returncode == 0


def output(*command: str) -> str:
    return subprocess.check_output(command, cwd=ROOT, text=True).strip()


def main() -> int:
    debian = [ROOT / "scripts/another-debian.sh", SUITE, "readme", "ca-certificates,sudo"]
    made = subprocess.run(debian, stdout=subprocess.PIPE, text=True)
    if made.returncode == NOT_HERE:
        print(made.stdout, end="")
        return 0
    made.check_returncode()
    bare = Path(made.stdout.strip())
    rustup = reachable(RUSTUP)
    folder = bare.with_name(f"{SUITE}.try")
    shutil.rmtree(folder, ignore_errors=True)
    subprocess.run(["cp", "-a", "--reflink=auto", bare, folder], check=True)
    try:
        return run(folder, rustup)
    finally:
        shutil.rmtree(folder)


def run(folder: Path, rustup: bool) -> int:
    home = folder / "home/user"
    useradd = ["useradd", "--create-home", "--shell", "/bin/bash", "user"]
    subprocess.run(["chroot", folder, *useradd], check=True)
    (folder / "etc/sudoers.d/user").write_text("user ALL=(ALL) NOPASSWD: ALL\n")
    for file in CERTIFICATES, "/etc/resolv.conf", "/etc/hosts":
        shutil.copy(file, folder / file[1:])
    subprocess.run(["git", "clone", "--quiet", "--bare", ROOT, home / "source.git"], check=True)
    (home / ".gitconfig").write_text(f'[url "/home/user/source.git"]\n\tinsteadOf = {REPOSITORY}\n')
    (home / "run").write_text(script(output("git", "show", "HEAD:README.md"), rustup))
    mounts = [(output("go", "env", "GOROOT"), "/usr/local/go")]
    path = "/usr/local/bin:/usr/bin:/bin:/usr/local/go/bin"
    if not rustup:
        mounts.append((output("rustc", "--print", "sysroot"), "/opt/rust"))
        (home / ".cargo").mkdir()
        (home / ".cargo/env").write_text('export PATH="$HOME/.cargo/bin:/opt/rust/bin:$PATH"\n')
    subprocess.run(["chroot", folder, "chown", "--recursive", "user:", "/home/user"], check=True)
    environment = {name: value for name, value in os.environ.items() if NETWORK.fullmatch(name)}
    environment |= {"HOME": "/home/user", "PATH": path, "USER": "user", "LANG": "C.UTF-8"}
    settings = [f"{name}={value}" for name, value in environment.items()]
    inside = [
        'mount -t proc proc "$0/proc"',
        'mount -t tmpfs -o mode=755 tmpfs "$0/dev"',
        'for device in null zero full random urandom; do touch "$0/dev/$device"; '
        'mount --bind "/dev/$device" "$0/dev/$device"; done',
        'ln -s /proc/self/fd "$0/dev/fd"',
        *(f'mkdir -p "$0{at}" && mount --bind {shlex.quote(of)} "$0{at}"' for of, at in mounts),
        'exec chroot "$0" runuser -u user -- env -i --chdir /home/user "$@" bash /home/user/run',
    ]
    # Its own mounts and processes, which all end with it.
    shell = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "bash", "-euc", "\n".join(inside)]
    print(f"README.md on Debian {SUITE}:", flush=True)
    return subprocess.run([*shell, str(folder), *settings]).returncode


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    SUITE = sys.argv[1]
    sys.exit(main())
