"""Patterns: whatever is accepted matches soon, also against a value that somebody made up to be slow."""

import re
import time
import warnings
from collections.abc import Iterator
from re import _parser  # type: ignore[attr-defined]
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from flows import patterns
from flows.patterns import MAX_STEPS, PatternError
from flows.values import MAX_PATTERN_VALUE_CHARS

SLOW = [
    "(a+)+", "(a*)*b", "(a|a)*b", "((ab)?c)+", "(a{1,5}){2,}", "a*a*a*a*b", "(?:x+y)*",
    "(a{1,20}){1,20}", "(a|a?){30}", "a?" * 30 + "a" * 30, "(a?b?)" * 15, "(a{2,3}?){4,25}b", "(?P<n>a|ab|abc?){20}",
    "()*", "(^)*", "(a?)+", "(){9999999}", "((){3000}){3000}", "((a{0,60}){0,60}){0,60}", "[ab]*a?[ab]*.*\\w*z",
]  # fmt: skip
UNCOUNTED = [r"(.)\1+", "(?=a)a", "(?<!a)b", "(?P<n>a)(?P=n)", "(a)?(?(1)b|c)", "(?>a+)b", "a*+b"]
PLAIN = [
    "", "[0-9]{8}", "monday|friday", "[A-Z]{2}[0-9]+", "([0-9]{3}-?){2}[0-9]+", "(?:ab)+", r"\(\d+\)", "[(+*]{3}",
    "(?P<n>x)y?", r"[A-Z]{2}\d{4,6}", r"\d{3}-?\d{4}", r"(\d{4}[ -]?){3}\d{4}", "[A-Z]+-[0-9]+-[0-9]+", "^(a|b)+$",
    "[a-z]+ [a-z]+( [a-z]+)?", r"[\w.+-]+@[\w-]+\.[a-z]{2,6}", "(?i)[a-f0-9]{1,64}", r"\d{100}", ".*",
]  # fmt: skip
LENGTH = MAX_PATTERN_VALUE_CHARS
HOSTILE = ["a" * LENGTH, "a" * (LENGTH - 1) + "!", "ab" * (LENGTH // 2)]
FEW_STEPS = 20_000  # that are tried in Python
PATIENCE_S = 2.0  # some hundred times what `MAX_STEPS` take; what explodes takes years


@pytest.mark.parametrize("pattern", SLOW)
def test_what_could_take_forever_is_refused(pattern: str) -> None:
    with pytest.raises(PatternError, match="could take forever"):
        patterns.steps(pattern)


@pytest.mark.parametrize("pattern", UNCOUNTED)
def test_what_cannot_be_counted_is_refused(pattern: str) -> None:
    with pytest.raises(PatternError, match="could take forever") as caught:
        patterns.steps(pattern)
    assert "look-arounds" in caught.value.hint


@pytest.mark.parametrize("pattern", PLAIN)
def test_plain_patterns_are_fine(pattern: str) -> None:
    assert patterns.steps(pattern) <= MAX_STEPS


@pytest.mark.parametrize(("pattern", "said"), [("(a", "not a regular expression"), ("a{99999999999}", "too large")])
def test_what_is_no_pattern_is_named(pattern: str, said: str) -> None:
    with pytest.raises(PatternError, match=said):
        patterns.steps(pattern)


@pytest.mark.parametrize("pattern", ["[[a]", "[a--b]", "[a||b]"])
def test_a_pattern_of_two_meanings_is_an_error_and_not_a_warning_of_the_engine(pattern: str) -> None:
    with warnings.catch_warnings(record=True) as leaked:
        warnings.simplefilter("always")
        with pytest.raises(PatternError, match="has two meanings: possible"):
            patterns.steps(pattern)
    assert leaked == []


def joined(parts: list[str]) -> str:
    return "".join(parts)


def repeated(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    groups = st.one_of(
        inner.map(lambda text: f"({text})"),
        st.lists(inner, min_size=2, max_size=3).map(lambda texts: f"(?:{'|'.join(texts)})"),
    )
    bounds = st.tuples(st.integers(0, 4), st.integers(0, 30)).map(lambda of: f"{{{of[0]},{of[0] + of[1]}}}")
    times = st.one_of(st.sampled_from(["", "?", "*", "+", "+?", "??"]), bounds)
    return st.lists(st.tuples(groups, times).map("".join), min_size=1, max_size=3).map(joined)


ATOMS = st.tuples(st.sampled_from(["a", ".", "[ab]", r"\w", "^"]), st.sampled_from(["", "?", "*", "+", "{1,9}"]))
PATTERNS = st.recursive(ATOMS.map("".join), repeated, max_leaves=6)


@given(PATTERNS, st.sampled_from(["", "b", "!"]))
def test_what_is_accepted_ends_soon(pattern: str, end: str) -> None:
    try:
        patterns.steps(pattern + end)
    except PatternError:
        return
    began = time.process_time()
    for value in HOSTILE:
        re.fullmatch(pattern + end, value)
    assert time.process_time() - began < PATIENCE_S


@given(PATTERNS)
@example("(a|a|a){5}")
@example("a?a?a?a?a?a?a?a?a?")
@example("(?:a{1,4}b?){3}a*")
def test_the_count_is_not_less_than_what_trying_takes(pattern: str) -> None:
    try:
        counted = patterns.steps(pattern + "!")
    except PatternError:
        return
    if counted < FEW_STEPS:
        assert Tries().of(pattern + "!") <= counted


class Tries:
    """Goes the engine's ways through a value of `a` alone, and counts the characters that it looks at."""

    def of(self, pattern: str) -> int:
        self.looks = 0
        assert list(self.sequence(list(_parser.parse(pattern)), 0)) == []
        return self.looks

    def sequence(self, items: list[Any], at: int) -> Iterator[int]:
        if not items:
            yield at
            return
        for after in self.item(items[0][0], items[0][1], at):
            yield from self.sequence(items[1:], after)

    def item(self, kind: Any, of: Any, at: int) -> Iterator[int]:
        match str(kind):
            case "SUBPATTERN":
                yield from self.sequence(list(of[-1]), at)
            case "BRANCH":
                for branch in of[1]:
                    yield from self.sequence(list(branch), at)
            case "MAX_REPEAT" | "MIN_REPEAT":
                yield from self.repeat(of[0], of[1], of[2], at)
            case "AT":
                yield from [at] if at == 0 else []
            case _:
                self.looks += 1
                yield from [at + 1] if at < LENGTH and of != ord("!") else []

    def repeat(self, least: int, most: int, items: Any, at: int) -> Iterator[int]:
        if most:
            for after in self.sequence(list(items), at):
                if after > at or least:
                    yield from self.repeat(max(least - 1, 0), most - 1, items, after)
        if not least:
            yield at
