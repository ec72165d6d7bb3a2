"""Runs a program as __main__. The module stays: threads and exit handlers outlive its last line."""

import builtins
import os
import runpy
import sys
from types import CodeType, ModuleType


def script(path: str, arguments: "list[str]") -> None:
    """Runs a script, or a directory or archive with a __main__.py, as `python path arguments` does."""
    from pkgutil import get_importer

    sys.argv[:] = [path, *arguments]
    # Not abspath(): with symbolic links, ".." may lead elsewhere.
    file = path if os.path.isabs(path) else os.path.join(os.getcwd(), path)
    if path in ("", ".") and sys.version_info >= (3, 11):
        file = os.getcwd()
    # "-P", "-I" and PYTHONSAFEPATH keep the script's directory out of the search path.
    is_safe = getattr(sys.flags, "safe_path", bool(sys.flags.isolated))
    main = new_main()
    if get_importer(file) is not None:
        put_first(file, replace=not is_safe)
        runpy._run_module_as_main("__main__", alter_argv=False)  # type: ignore[attr-defined]
        return
    if not is_safe:
        put_first(os.path.dirname(os.path.realpath(file)), replace=True)
    try:
        code, loader = load(file)
    except OSError as error:
        reason = f"[Errno {error.errno}] {error.strerror}"
        print(f"{sys.executable}: can't open file {file!r}: {reason}", file=sys.stderr)
        sys.exit(2)
    vars(main).update(__file__=file, __cached__=None, __loader__=loader)
    exec(code, vars(main))


def module(name: str, arguments: "list[str]") -> None:
    """Runs a module as `python -m name arguments` does, with the search path of this module."""
    sys.argv[:] = ["-m", *arguments]
    new_main()
    runpy._run_module_as_main(name)  # type: ignore[attr-defined]


def new_main() -> ModuleType:
    main = ModuleType("__main__")
    vars(main).update(__builtins__=builtins)
    # Later releases create it on demand.
    if sys.version_info < (3, 14):
        vars(main).update(__annotations__={})
    sys.modules["__main__"] = main
    return main


def put_first(place: str, *, replace: bool) -> None:
    """Puts a directory first in the search path, where Python has put the working directory."""
    sys.path[: 1 if replace else 0] = [place]


def load(file: str) -> "tuple[CodeType, object]":
    from importlib.machinery import SourceFileLoader, SourcelessFileLoader
    from io import BytesIO, open_code
    from pkgutil import read_code

    # Read it once: it may be a pipe, which cannot be read again.
    with open_code(file) as opened:
        read = opened.read()
    code = read_code(BytesIO(read))
    if code is not None:
        return code, SourcelessFileLoader("__main__", file)
    return compile(read, file, "exec", dont_inherit=True), SourceFileLoader("__main__", file)
