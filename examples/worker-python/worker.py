"""A LocalAI backend in Python that has what the real ones have, save the model: a load that blocks for
as long as it is told to, two engines in processes of their own, and a graceful stop on SIGTERM and
SIGINT. One engine is in a session of its own and has another title. The backend dies with the process
that started it, and takes its engines along.

The part that is about this project is the import and the first line of main. Nothing else knows of it,
and the graceful stop is what it would be without it.
"""

import sys

import localai_parentwatch


def main():
    """Protects this process, then serves; the result is the exit status."""
    # From here on this process does not outlive its supervisor. Whatever the call returns, the server
    # runs: the watcher is a backstop, and has said what is wrong in a line of its own.
    localai_parentwatch.start_parent_death_watcher()

    # Only now: gRPC takes a while to be imported, a model's libraries take much longer.
    import server

    return server.run(sys.argv[1:])


# The engine is made by spawn: its process imports this file under another name, and must not serve.
if __name__ == "__main__":
    sys.exit(main())
