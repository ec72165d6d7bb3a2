#!/usr/bin/env python3
"""Judges the JSON of `localai-parentwatch demo --json` on standard input.

usage: check_demo.py KIND... < demo.json

Every worker of every KIND with the watcher must be gone within a second of its supervisor's death, in
the event tier and with its port free; every one without it must have survived and answer Health.
"""

import json
import sys

LIMIT_US = 1_000_000


def problems(report, kinds):
    """Yields what is wrong with the report, a line for each."""
    for half in ("protected", "unprotected"):
        found = {worker["kind"] for worker in report[half]}
        if found != set(kinds):
            yield f"{half}: the kinds are {sorted(found)}, expected {sorted(kinds)}"
    for worker in report["protected"]:
        for key in ("gone_after_us", "port_free_after_us"):
            if worker[key] is None or not 0 < worker[key] < LIMIT_US:
                yield f"protected: {key} is not below a second: {worker}"
        if worker["tier"] != "event":
            yield f"protected: not in the event tier: {worker}"
        if worker["exit_status"] != 1:
            yield f"protected: the exit status is not 1: {worker}"
    for worker in report["unprotected"]:
        if worker["survived"] is not True or worker["answers_health"] is not True:
            yield f"unprotected: did not survive, or does not answer: {worker}"
    pids = [worker["pid"] for half in ("protected", "unprotected") for worker in report[half]]
    if len(set(pids)) != len(pids):
        yield f"a worker is reported twice: {pids}"
    if report["ok"] is not True or report["problems"]:
        yield f"the demo itself has found problems: {report['problems']}"


def main():
    """Prints the problems; the result is the exit status."""
    kinds = sys.argv[1:]
    if not kinds:
        print("usage: check_demo.py KIND... < demo.json", file=sys.stderr)
        return 2
    report = json.load(sys.stdin)
    found = list(problems(report, kinds))
    for problem in found:
        print(f"check_demo: {problem}", file=sys.stderr)
    if found:
        return 1
    slowest = max(worker["gone_after_us"] for worker in report["protected"])
    count = len(report["protected"])
    print(f"demo: {count} protected workers gone, the last after {slowest} µs; {count} orphans seen")
    return 0


if __name__ == "__main__":
    sys.exit(main())
