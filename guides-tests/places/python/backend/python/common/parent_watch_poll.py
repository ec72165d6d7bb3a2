"""A poller that does nothing: what a backend has without the wheel."""

ENV_PARENT_WATCH = "LOCALAI_BACKEND_PARENT_WATCH"
ENV_PARENT_WATCH_INTERVAL = "LOCALAI_BACKEND_PARENT_WATCH_INTERVAL"


def _enabled():
    return True


def _interval_seconds():
    return 2.0


def _parent_died(parent):
    return False


def _watch(parent, interval, on_death):
    pass


def start_parent_death_watcher():
    print("poller", flush=True)
