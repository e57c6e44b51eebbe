"""What a slot's pattern may be: a regular expression whose matching ends soon, whatever the caller says.

Python's engine tries one way after another. How many steps that can take is counted on the parsed pattern: each item
has *ways* (how many there are to take up so many characters) and *steps* (to try them all from one place), and what
stands behind it is tried once for each of its ways. A real value matches in no more ways than these, so the count is an
upper bound. What cannot be counted so (back-references, look-arounds) is refused.
"""

import re
import warnings
from collections import Counter
from collections.abc import Iterable
from re import _constants as op  # type: ignore[attr-defined]  # the parser has no public name
from re import _parser  # type: ignore[attr-defined]
from typing import Any

from flows.values import MAX_PATTERN_VALUE_CHARS

MAX_STEPS = 300_000  # a few milliseconds, in which no call on the loop is served

Ways = Counter[int]
_TOO_SLOW = "could take forever on some inputs"
_ONE_CHARACTER = frozenset((op.LITERAL, op.NOT_LITERAL, op.ANY))
_REPEATS = frozenset((op.MAX_REPEAT, op.MIN_REPEAT))


class PatternError(ValueError):
    """This pattern cannot be used; the hint says what to do about it."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


def steps(pattern: str) -> int:
    """The most that `re.fullmatch` takes with a value of `MAX_PATTERN_VALUE_CHARS`. Raises `PatternError`."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # what may mean something else one day
            return _sequence(_parser.parse(pattern))[1]
    except Warning as warning:
        raise PatternError(f"has two meanings: {str(warning).lower()}", "write \\ before the character") from None
    except (re.error, OverflowError) as error:
        raise PatternError(f"is not a regular expression: {error}") from None


def _sequence(items: Iterable[tuple[Any, Any]]) -> tuple[Ways, int]:
    ways, steps = Counter({0: 1}), 0
    for kind, argument in items:
        own, each = _item(kind, argument)
        steps = _bounded(steps + ways.total() * each)
        ways = _after(ways, own)
    return ways, steps


def _item(kind: Any, argument: Any) -> tuple[Ways, int]:
    if kind in _ONE_CHARACTER:
        return Counter({1: 1}), 1
    if kind is op.IN:
        return Counter({1: 1}), len(argument)
    if kind is op.AT:
        return Counter({0: 1}), 1
    if kind is op.SUBPATTERN:
        return _sequence(argument[-1])
    if kind is op.BRANCH:
        found = [_sequence(branch) for branch in argument[1]]
        return sum((ways for ways, _ in found), Counter()), sum(1 + steps for _, steps in found)
    if kind in _REPEATS:
        return _repeat(*argument)
    raise PatternError(_TOO_SLOW, "no back-references, look-arounds or possessive repeats")


def _repeat(least: int, most: int, items: Any) -> tuple[Ways, int]:
    own, each = _sequence(items)
    if 0 in own and most > MAX_PATTERN_VALUE_CHARS:
        raise PatternError(_TOO_SLOW, "no open repeat around what may be empty")
    ways: Ways = Counter()
    times, steps = Counter({0: 1}), 0
    for n in range(most):
        if not times:
            break
        if n >= least:
            ways += times
        steps = _bounded(steps + times.total() * (1 + each))
        times = _after(times, own)
    return ways + times, steps


def _after(first: Ways, then: Ways) -> Ways:
    ways: Ways = Counter()
    for chars, n in first.items():
        for more, m in then.items():
            if chars + more <= MAX_PATTERN_VALUE_CHARS:
                ways[chars + more] += n * m
    return ways


def _bounded(steps: int) -> int:
    if steps > MAX_STEPS:
        raise PatternError(_TOO_SLOW, "no repeat around a repeat or choice; give repeats an end, such as {1,8}")
    return steps
