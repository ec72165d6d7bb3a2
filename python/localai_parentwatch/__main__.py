"""What a worker that is started here would do, and starting one.

`python -m localai_parentwatch` really starts the watcher in this short-lived process, so that it tells
what is, not what should be: with the same warnings, and the same exit when the named supervisor is
proven to be dead.
"""

import sys

from localai_parentwatch import _native


def main(arguments: "list[str]") -> None:
    match arguments:
        case ["run", "-m", module, *rest]:
            # Before anything is imported: that takes its time, and the supervisor may die meanwhile.
            _native.start()
            from localai_parentwatch import _run

            _run.module(module, rest)
        case ["run", script, *rest] if not script.startswith("-"):
            _native.start()
            from localai_parentwatch import _run

            _run.script(script, rest)
        case _:
            report(arguments)


def report(arguments: "list[str]") -> None:
    """What is left of the command line: the report, a question for help, a mistake."""
    import argparse

    parser = argparse.ArgumentParser(
        prog="python -m localai_parentwatch",
        description="Tells who is watched by a worker that is started here, and how.",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.add_argument("--version", action="version", version=_native.__version__)
    commands = parser.add_subparsers(title="commands", metavar="", dest="command")
    run = commands.add_parser(
        "run",
        help="start the watcher, then run a Python program",
        usage="%(prog)s [-h] (PROGRAM | -m MODULE) [ARGUMENT ...]",
        description="Starts the watcher, then runs a Python program as `python PROGRAM` does.",
    )
    run.add_argument("-m", dest="module", metavar="MODULE", help="a module, as with `python -m MODULE`")
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
