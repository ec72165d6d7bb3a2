"""The duration grammar, against a second parser. That one computes in exact fractions, and follows Go's
documentation of time.ParseDuration and the contract, not the code under test.

Go reads the digits after the point as a floating-point number. So a term with a point may be off by a
nanosecond, and a value within a nanosecond of a limit may be on either side of it."""

import datetime
import json
import math
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import localai_parentwatch
import pytest
import trees
from hypothesis import example, given, settings
from hypothesis import strategies as st

UNITS = {
    "ns": 1,
    "us": 10**3,
    "\u00b5s": 10**3,
    "\u03bcs": 10**3,
    "ms": 10**6,
    "s": 10**9,
    "m": 60 * 10**9,
    "h": 3600 * 10**9,
}
MOST = 2**63 - 1
LEAST_INTERVAL, MOST_INTERVAL, DEFAULT_INTERVAL = 10 * 10**6, 3600 * 10**9, 2 * 10**9
MOST_GRACE = 3600 * 10**9

_NUMBER = r"(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)"
_TERM = re.compile(f"({_NUMBER})({'|'.join(UNITS)})(?=[0-9.]|$)", re.ASCII)
_TERMS = re.compile(f"[+-]?((?:{_NUMBER}(?:{'|'.join(UNITS)}))+)", re.ASCII)


@dataclass(frozen=True)
class Reading:
    """The valid results for a text: a number of nanoseconds from least to most, or nothing."""

    least: int = 1
    most: int = 0
    may_be_none: bool = True

    @property
    def edges(self) -> set[int]:
        return {self.least, self.most} if self.least <= self.most else set()


def read(text: str) -> Reading:
    """Reads an option, or a variable without the white space around it, as the contract says. Only zero
    may have a minus sign."""
    longest = 0 if text.startswith("-") else MOST
    if text in ("+0", "-0"):
        terms = [("0", "s")]
    elif re.fullmatch(_NUMBER, text, re.ASCII):
        terms = [(text, "s")]
    elif match := _TERMS.fullmatch(text):
        terms = _TERM.findall(match[1])
        assert "".join(number + unit for number, unit in terms) == match[1]
    else:
        return Reading()
    least, most = 0, 0
    for number, unit in terms:
        whole, _, fraction = number.partition(".")
        exact = Fraction(f"{whole or 0}.{fraction or 0}") * UNITS[unit]
        # The rounding error of floating point for less than an hour, in nanoseconds.
        error = Fraction(1, 100) if fraction.strip("0") else 0
        least += math.floor(exact - error)
        most += math.floor(exact + error)
    if least > longest:
        return Reading()
    return Reading(max(least, 0), min(most, longest), may_be_none=most > longest)


def possible_intervals(text: str) -> set[int]:
    """The interval for a variable with that text, in nanoseconds."""
    reading = read(text.strip(WHITE_SPACE))
    possible = {DEFAULT_INTERVAL} if reading.may_be_none or reading.least == 0 else set()
    found = range(max(reading.least, 1), reading.most + 1)
    return possible | {min(max(value, LEAST_INTERVAL), MOST_INTERVAL) for value in found}


def possible_graces(text: str) -> set[int | None]:
    """The same for the grace, which may be zero."""
    reading = read(text.strip(WHITE_SPACE))
    possible: set[int | None] = {None} if reading.may_be_none else set()
    return possible | {min(value, MOST_GRACE) for value in range(reading.least, reading.most + 1)}


# Unicode's property White_Space, as in the contract. Python's str.strip() also removes U+001C to
# U+001F.
WHITE_SPACE = (
    "\t\n\v\f\r \u0085\u00a0\u1680"
    + "".join(map(chr, range(0x2000, 0x200B)))
    + "\u2028\u2029\u202f\u205f\u3000"
)


def nanoseconds(seconds: float) -> int:
    return round(seconds * 1e9)


numbers = st.one_of(
    st.integers(0, 5000).map(str),
    st.integers(0, 2**65).map(str),
    st.decimals(0, 5000, places=3).map(str),
    st.builds("{}.{}".format, st.integers(0, 99), st.text("0123456789", max_size=30)),
    st.text("0123456789", min_size=1, max_size=25).map(".{}".format),
    st.integers(0, 9).map("{:04}".format),
    st.integers(0, 9).map("{}.".format),
)
units = st.sampled_from([*UNITS, *UNITS, "", "S", "MS", "d", "min", "sec", "e3", "_"])
terms = st.builds("{}{}".format, numbers, units)
durations = st.builds(
    "{}{}".format,
    st.sampled_from(["", "", "", "+", "-", "++", " "]),
    st.lists(terms, min_size=1, max_size=4).map("".join),
)
spaces = st.text(WHITE_SPACE, max_size=2)
# Almost a duration: one character added or replaced.
almost = st.builds(
    lambda text, at, what, keep: (
        text[: at % (len(text) + 1)] + what + text[at % (len(text) + 1) + keep :]
    ),
    durations,
    st.integers(0, 30),
    st.characters(codec="utf-8", exclude_characters="\0"),
    st.integers(0, 1),
)
anything = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12)
texts = st.one_of(durations, durations, almost, anything)


@pytest.mark.parametrize(
    ("name", "field", "possible_values", "least"),
    [
        (trees.ENV_PARENT_WATCH_INTERVAL, "interval_ns", possible_intervals, 80),
        (trees.ENV_PARENT_WATCH_GRACE, "grace_ns", possible_graces, 25),
    ],
    ids=["interval", "grace"],
)
def test_the_oracle_agrees_with_the_table(
    name: str, field: str, possible_values: Callable[[str], set], least: int
) -> None:
    table = json.loads(Path(os.environ["CONTRACT_VECTORS"]).read_text(encoding="utf-8"))
    rows = [row for row in table["vectors"] if row.get("env", {}).keys() == {name}]
    assert len(rows) >= least
    for row in rows:
        possible = possible_values(row["env"][name])
        assert row[field] in possible, row
        assert len(possible) == 1 or "." in row["env"][name], row


@settings(max_examples=300, deadline=None, database=None)
@given(before=spaces, text=texts, after=spaces)
@example("", "9223372036854775807ns", "")
@example("", "9223372036854775808ns", "")
@example("", "0.9999999999999999999ns", "")
@example("", "0.00999999999999999s", "")
@example("", "3600.0000000001s", "")
@example("", "-0h", "")
@example("", "-0.0000000001s", "")
def test_variable(before: str, text: str, after: str) -> None:
    value = before + text + after
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv(trees.ENV_PARENT_WATCH_INTERVAL, value)
        monkeypatch.setenv(trees.ENV_PARENT_WATCH_GRACE, value)
        assert nanoseconds(localai_parentwatch.interval()) in possible_intervals(value)
        grace = localai_parentwatch.status().grace
        assert (None if grace is None else nanoseconds(grace)) in possible_graces(value)


def is_taken(**option: object) -> bool:
    """Whether the option is valid. The watcher is switched off, since this process runs the tests."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv(trees.ENV_PARENT_WATCH, "off")
        try:
            started = localai_parentwatch.start_parent_death_watcher(**option)
        except ValueError as error:
            (name,) = option
            if not str(error).startswith(f"{name}: expected "):
                raise
            return False
    assert started is localai_parentwatch.Status.DISABLED
    return True


@settings(max_examples=300, deadline=None, database=None)
@given(texts)
@example("9ms")
@example("10ms")
@example("1h")
@example("3600.1")
@example("0")
@example("-0")
@example("-0.0s")
@example(" 2s")
@example("2s\n")
def test_option(text: str) -> None:
    reading = read(text)
    # A nanosecond matters only at the limits.
    for option, least, most in (("interval", LEAST_INTERVAL, MOST_INTERVAL), ("grace", 0, MOST_GRACE)):
        possible = {least <= value <= most for value in reading.edges}
        possible |= {False} if reading.may_be_none else set()
        assert is_taken(**{option: text}) in possible, option


@settings(max_examples=200, deadline=None, database=None)
@given(
    st.one_of(
        st.integers(-(10**6), 10**6),
        st.integers(),
        st.floats(),
        st.floats(-1, 1),
        st.timedeltas(),
        st.timedeltas(datetime.timedelta(seconds=-1), datetime.timedelta(hours=1, seconds=1)),
    )
)
@example(0.01)
@example(0.009)
@example(3600)
@example(3600.0000000001)
@example(3601)
@example(-0.0)
@example(10**400)
def test_option_that_is_not_a_str(value: float | datetime.timedelta) -> None:
    exact = value
    if isinstance(value, datetime.timedelta):
        exact = Fraction(value // datetime.timedelta(microseconds=1), 10**6)
    # Half a nanosecond is lost by rounding.
    edge = Fraction(1, 2 * 10**9)
    is_number = exact == exact and abs(exact) != float("inf")
    for option, least in (("interval", Fraction(1, 100)), ("grace", Fraction(0))):
        inside = is_number and least <= Fraction(exact) <= 3600
        near = is_number and min(abs(Fraction(exact) - least), abs(Fraction(exact) - 3600)) <= edge
        assert is_taken(**{option: value}) == inside or near, option
