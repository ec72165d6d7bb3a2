"""A backend that says how it is watched: before its imports, and once its server is built."""

import os
import sys

sys.path.append(os.path.join(os.path.dirname(__file__), "..", "common"))


def state():
    try:
        import localai_parentwatch
    except ImportError:
        return "no wheel"
    return localai_parentwatch.status().state.name.lower()


if __name__ == "__main__":
    print(sys.argv[1:], state(), flush=True)
    from parent_watch import start_parent_death_watcher

    start_parent_death_watcher()
    print(state(), flush=True)
