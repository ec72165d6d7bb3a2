#!/usr/bin/env python3
"""Judges the JSON of `localai-parentwatch demo --json` on standard input.

usage: check_demo.py KIND[+helpers][+guarded]... < demo.json

Every worker of every KIND with the watcher must be gone within a second of its supervisor's death, in
the event tier and with its port free. Every one without it must have survived, answer Health, and be
found by doctor.
A kind "+helpers" has helpers that go and stay with it. A kind "+guarded" is not linked with it:
`localai-parentwatch exec` runs it, and SIGTERM ends it. Every other one exits with 1.

The exit status is 0; 3 when nothing was wrong but that something took too long; otherwise 1.
"""

import json
import signal
import sys

LIMIT_US = 1_000_000
# Helpers that do not follow a SIGTERM are killed a second after their worker is gone.
HELPERS_US = 2_000_000


def problems(report, kinds):
    """Yields what is wrong with the report, a line for each, and whether it only took too long."""
    late = False
    for half in ("protected", "unprotected"):
        found = {worker["kind"] for worker in report[half]}
        if found != set(kinds):
            yield f"{half}: the kinds are {sorted(found)}, expected {sorted(kinds)}", False
    for worker in report["protected"]:
        options = kinds.get(worker["kind"], ())
        limits = dict.fromkeys(("gone_after_us", "port_free_after_us"), LIMIT_US)
        if "helpers" in options:
            limits["helpers_gone_after_us"] = LIMIT_US + HELPERS_US
        for key, limit in limits.items():
            if worker[key] is None or not 0 < worker[key] < limit:
                is_late = worker[key] is not None and worker[key] > 0
                late = late or is_late
                yield f"protected: {key} is not below {limit}: {worker}", is_late
        if worker["tier"] != "event":
            yield f"protected: not in the event tier: {worker}", False
        is_guarded = "guarded" in options
        if worker["guarded"] != is_guarded:
            yield f"protected: guarded, or not: {worker}", False
        ending = (None, signal.SIGTERM) if is_guarded else (1, None)
        if (worker["exit_status"], worker["signal"]) != ending:
            yield f"protected: the exit status and the signal are not {ending}: {worker}", False
    for worker in report["unprotected"]:
        if worker["survived"] is not True or worker["answers_health"] is not True:
            yield f"unprotected: did not survive, or does not answer: {worker}", False
        if worker["found_by_doctor"] is not True:
            yield f"unprotected: doctor does not know the orphan: {worker}", False
        if worker["helpers_alive"] != worker["helpers"]:
            yield f"unprotected: its helpers did not survive: {worker}", False
    workers = [worker for half in ("protected", "unprotected") for worker in report[half]]
    for worker in workers:
        if (worker["helpers"] > 0) != ("helpers" in kinds.get(worker["kind"], ())):
            yield f"helpers, or none: {worker}", False
    pids = [worker["pid"] for worker in workers]
    if len(set(pids)) != len(pids):
        yield f"a worker is reported twice: {pids}", False
    if report["ok"] is not True or report["problems"]:
        # By the same limits: of what is late, it says so too.
        yield f"the demo itself has found problems: {report['problems']}", late


def main():
    """Prints the problems; the result is the exit status."""
    kinds = {}
    for argument in sys.argv[1:]:
        kind, *options = argument.split("+")
        kinds[kind] = options
    if not kinds or not all({"helpers", "guarded"}.issuperset(options) for options in kinds.values()):
        print("usage: check_demo.py KIND[+helpers][+guarded]... < demo.json", file=sys.stderr)
        return 2
    report = json.load(sys.stdin)
    found = list(problems(report, kinds))
    for problem, _ in found:
        print(f"check_demo: {problem}", file=sys.stderr)
    if found:
        return 3 if all(is_late for _, is_late in found) else 1
    times = [worker["gone_after_us"] for worker in report["protected"]]
    print(f"demo: {len(times)} workers gone, the last after {max(times)} µs")
    print(f"demo: {len(report['unprotected'])} orphans seen")
    return 0


if __name__ == "__main__":
    sys.exit(main())
