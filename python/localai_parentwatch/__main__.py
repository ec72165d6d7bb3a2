"""The command `localai-parentwatch`: reports how a worker would be watched, and starts workers.

`python -m localai_parentwatch` really starts the watcher in this short-lived process. So it reports
facts, prints the same warnings as a worker, and exits in the same way if the named supervisor is proven
to be dead.
"""

import sys

from localai_parentwatch import _native

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn


def console() -> None:
    """The command `localai-parentwatch` that the wheel installs."""
    main(sys.argv[1:], "localai-parentwatch")


def main(arguments: "list[str]", program: str = "python -m localai_parentwatch") -> None:
    match arguments:
        case ["exec", *rest]:
            become(rest, program)
        case ["doctor", *rest]:
            doctor(rest, program)
        case ["run", "-m", module, *rest]:
            # Before anything else is imported: the supervisor may die meanwhile.
            _native.start()
            from localai_parentwatch import _run

            _run.module(module, rest)
        case ["run", script, *rest] if not script.startswith("-"):
            _native.start()
            from localai_parentwatch import _run

            _run.script(script, rest)
        case _:
            report(arguments, program)


def become(arguments: "list[str]", program: str) -> None:
    """Executes a program under a guardian."""
    import argparse

    from localai_parentwatch import exec

    parser = argparse.ArgumentParser(
        prog=f"{program} exec",
        usage="%(prog)s [OPTIONS] [--] CMD [ARG]...",
        description="Runs a program and ends it, with its helpers, when its supervisor dies. A program "
        "that puts itself into the background is ended too: start it in the foreground.",
        allow_abbrev=False,
    )

    def mistaken(message: str) -> "NoReturn":
        parser.exit(2, f"localai-parentwatch: {message}; {parser.format_usage()}")

    # One line, as the program in Rust prints.
    parser.error = mistaken  # type: ignore[method-assign]
    parser.add_argument(
        "--grace",
        metavar="DURATION",
        help="time between SIGTERM and SIGKILL, such as 500ms or 2s [default: 1s]",
    )
    parser.add_argument("--scope", help="what to end: tree, group or process [default: tree]")
    parser.add_argument("--parent", metavar="TOKEN", help="supervisor: PID or PID@STARTTIME@PIDNS")
    parser.add_argument("--cgroup", action="store_true", help="run CMD in its own control group")
    parser.add_argument("--verbose", action="store_true", help="print which process guards which")
    parser.add_argument("command", nargs=argparse.REMAINDER, metavar="CMD", help="program to run")
    options = vars(parser.parse_args(arguments))
    command = options.pop("command")
    if command[:1] == ["--"]:
        del command[0]
    if not command:
        mistaken("expected a program")
    try:
        exec(command, **options)
    except (TypeError, ValueError) as error:
        mistaken(f"--{error}")
    except OSError as error:
        print(f"localai-parentwatch: {command[0]}: {error.strerror}", file=sys.stderr)
        sys.exit(127 if isinstance(error, FileNotFoundError) else 126)


def doctor(arguments: "list[str]", program: str) -> None:
    """Prints what this host supports, the workers, and the orphans."""
    import argparse
    import os

    parser = argparse.ArgumentParser(
        prog=f"{program} doctor",
        description="Shows what this host supports and why, the effective settings, the workers, and "
        "the orphans that a supervisor left behind. The exit status is 1 if there are orphans.",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument(
        "--end",
        type=int,
        nargs="+",
        default=[],
        metavar="PID",
        help="end these orphans, with their helpers",
    )
    options = parser.parse_args(arguments)
    styled = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    try:
        text, status = _native.doctor(options.json, options.end, styled)
    except OSError as error:
        print(f"localai-parentwatch: {error}", file=sys.stderr)
        sys.exit(2)
    sys.stdout.write(text)
    sys.exit(status)


def report(arguments: "list[str]", program: str) -> None:
    """Handles the other command lines: the report, --help, --version, and usage errors."""
    import argparse

    parser = argparse.ArgumentParser(
        prog=program,
        description="Reports which processes a worker that is started here would watch, and how.",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--version", action="version", version=_native.__version__)
    commands = parser.add_subparsers(title="commands", metavar="", dest="command")
    run = commands.add_parser(
        "run",
        help="start the watcher, then run a Python program",
        usage="%(prog)s [-h] (PROGRAM | -m MODULE) [ARGUMENT ...]",
        description="Starts the watcher, then runs a Python program as `python PROGRAM` does.",
    )
    run.add_argument("-m", dest="module", metavar="MODULE", help="a module, as with `python -m MODULE`")
    commands.add_parser("exec", help="run any program under a guardian")
    commands.add_parser("doctor", help="show what this host supports, the workers, and the orphans")
    run.add_argument("program", nargs="?", help="a script, or a directory or archive with __main__.py")
    options = parser.parse_args(arguments)
    if options.command == "run":
        run.error("expected PROGRAM or -m MODULE first, then what is for the program")

    from localai_parentwatch import start_parent_death_watcher, status

    start_parent_death_watcher()
    info = status()
    figures = {
        "state": str(info.state),
        "tier": info.tier,
        "watched": info.watched,
        "interval": info.interval,
        "scope": info.scope,
        "grace": info.grace,
    }
    if options.json:
        import json

        print(json.dumps(figures))
        return
    for name, value in figures.items():
        match value:
            case tuple():
                value = " ".join(map(str, value)) or "none"
            case float():
                value = f"{value:g} s"
            case None:
                value = "not set"
        print(f"{name:<10}{value}")


if __name__ == "__main__":
    main(sys.argv[1:])
