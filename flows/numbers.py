"""Numbers as callers say or type them: digits, cardinals, money and dates, read from a list of words.

Every reader takes the words and a position, and gives what begins there with the position after it, or None. Nothing
is guessed: a year has four digits, and a date without its year is none.
"""

import re
from collections.abc import Sequence

from text_to_num import text2num

from flows.lexicon import MONTHS, MONTHS_SHORT, OH, ORDINALS, REPEATED, TEENS, TENS, UNITS

MAX_CARDINAL_WORDS = 12
MAX_DIGIT_RUN = 40
FIRST_CENTURY, LAST_CENTURY = 19, 21
DATE_DIGITS = 8  # day, month, year

Words = Sequence[str]

_UNIT = {word: value for value, word in enumerate(UNITS)}
_TEEN = {word: value for value, word in enumerate(TEENS, 10)}
_TEN = {word: value * 10 for value, word in enumerate(TENS, 2)}
_ORDINAL = {word: value for value, word in enumerate(ORDINALS, 1)} | {"thirtieth": 30}
_MONTH = {word: value for value, word in enumerate(MONTHS, 1)} | MONTHS_SHORT
_CARDINAL = frozenset((*UNITS, *TEENS, *TENS, "hundred", "thousand", "million", "and"))
_IN_RUN = frozenset(("um", "uh", "er", "then", "and"))

_FIGURES = re.compile(r"[0-9]+")
_NUMERAL = re.compile(r"(?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]+)(?:\.[0-9]+)?")
_NTH = re.compile(r"([0-9]{1,2})(?:st|nd|rd|th)")
_YMD = re.compile(r"([0-9]{4})-([0-9]{2})-([0-9]{2})")
_DMY = re.compile(r"([0-9]{1,2})[/.-]([0-9]{1,2})[/.-]([0-9]{4})")


def digits_at(words: Words, at: int) -> tuple[str, int] | None:
    """A run of digits: "double four oh two" is "4402", "forty two 17" is "4217"."""
    run = ""
    end = at
    only_oh = True
    while at < len(words) and len(run) <= MAX_DIGIT_RUN:
        if run and words[at] in _IN_RUN:
            at += 1
            continue
        found = _digit_group(words, at)
        if found is None:
            break
        only_oh = only_oh and words[at] in OH
        run += found[0]
        at = end = found[1]
    return (run, end) if run and not only_oh and len(run) <= MAX_DIGIT_RUN else None


def cardinal_at(words: Words, at: int) -> tuple[float, int] | None:
    """A number in figures or words: "1,042.5", "minus three point five", "a hundred and five"."""
    if at < len(words) and words[at] in ("minus", "negative"):
        found = (
            cardinal_at(words, at + 1) if at + 1 < len(words) and words[at + 1] not in ("minus", "negative") else None
        )
        return (-found[0], found[1]) if found else None
    if at < len(words) and _NUMERAL.fullmatch(words[at]):
        return float(words[at].replace(",", "")), at + 1
    found = _worded(words, at)
    if found is None or found[1] + 1 >= len(words) or words[found[1]] != "point":
        return found
    end = found[1] + 1
    decimals = ""
    while end < len(words) and words[end] in (*UNITS, *OH):
        decimals += str(_UNIT.get(words[end], 0))
        end += 1
    return (float(f"{found[0]:.0f}.{decimals}"), end) if decimals else found


def money_at(words: Words, at: int) -> tuple[float, int] | None:
    """An amount that says it is one: "$42.50", "forty two dollars and fifty cents", "50 cents"."""
    if at < len(words) and words[at].startswith("$") and _NUMERAL.fullmatch(words[at][1:]):
        return float(words[at][1:].replace(",", "")), at + 1
    found = cardinal_at(words, at)
    if found is None or found[1] >= len(words):
        return None
    amount, end = found
    unit = words[end]
    if unit in ("cent", "cents"):
        return amount / 100, end + 1
    if unit not in ("dollar", "dollars", "bucks"):
        return None
    end += 1
    rest = end + 1 if end < len(words) and words[end] == "and" else end
    cents = cardinal_at(words, rest)
    if cents is None or not 0 < cents[0] < 100:
        return amount, end
    if cents[1] < len(words) and words[cents[1]] in ("cent", "cents"):
        return amount + cents[0] / 100, cents[1] + 1
    return (amount + cents[0] / 100, cents[1]) if rest == end else (amount, end)


def date_at(words: Words, at: int, *, bare: bool) -> tuple[str, int] | None:
    """A whole date as "YYYY-MM-DD", which may be one that no calendar has.

    `bare`: a date is what was asked for, so that three numbers or eight digits, day month year, are one too.
    """
    if at >= len(words):
        return None
    if found := _YMD.fullmatch(words[at]):
        return words[at], at + 1
    if found := _DMY.fullmatch(words[at]):
        return _iso(int(found[3]), int(found[2]), int(found[1])), at + 1
    run = digits_at(words, at) if bare else None
    if run is not None and len(run[0]) == DATE_DIGITS:
        digits = run[0]
        return f"{digits[4:]}-{digits[2:4]}-{digits[:2]}", run[1]
    return _month_first(words, at) or _day_first(words, at, bare=bare)


def _digit_group(words: Words, at: int) -> tuple[str, int] | None:
    word = words[at]
    after = words[at + 1] if at + 1 < len(words) else ""
    if _FIGURES.fullmatch(word):
        return word, at + 1
    if word in OH:
        return "0", at + 1
    if word in _UNIT:
        return str(_UNIT[word]), at + 1
    if word in _TEEN:
        return str(_TEEN[word]), at + 1
    if word in _TEN:
        unit = _UNIT.get(after, 0)
        return str(_TEN[word] + unit), at + (2 if unit else 1)
    if word in REPEATED and (after in _UNIT or after in OH or (len(after) == 1 and after.isdecimal())):
        one = after if _FIGURES.fullmatch(after) else str(_UNIT.get(after, 0))
        return one * REPEATED[word], at + 2
    return None


def _worded(words: Words, at: int) -> tuple[float, int] | None:
    end = at
    while (
        end < len(words)
        and end - at < MAX_CARDINAL_WORDS
        and (words[end] in _CARDINAL or (end == at and words[at] == "a"))
    ):
        end += 1
    while end > at:
        part = list(words[at:end])
        if part[0] == "a" and len(part) > 1 and part[1] in ("hundred", "thousand", "million"):
            part[0] = "one"
        if part[0] != "a" and "and" not in (part[0], part[-1]):
            try:
                return float(text2num(" ".join(part), "en")), end
            except ValueError:
                pass
        end -= 1
    return None


def _smalls(words: Words, at: int) -> list[tuple[int, int]]:
    """Readings of 0 to 99 that begin here, the longest first."""
    if at >= len(words):
        return []
    word = words[at]
    after = words[at + 1] if at + 1 < len(words) else ""
    if _FIGURES.fullmatch(word):
        return [(int(word), at + 1)] if len(word) <= 2 else []
    if word in _TEN:
        longer = [(_TEN[word] + _UNIT[after], at + 2)] if _UNIT.get(after, 0) else []
        return [*longer, (_TEN[word], at + 1)]
    if word in OH and after in _UNIT:
        return [(_UNIT[after], at + 2)]
    value = _UNIT.get(word, _TEEN.get(word))
    return [(value, at + 1)] if value is not None else []


def _days(words: Words, at: int) -> list[tuple[int, int]]:
    """Readings of a day of the month, ordinal or cardinal, the longest first."""
    if at < len(words) and words[at] == "the":
        at += 1
    if at >= len(words):
        return []
    if found := _NTH.fullmatch(words[at]):
        return [(int(found[1]), at + 1)]
    if words[at] in _ORDINAL:
        return [(_ORDINAL[words[at]], at + 1)]
    after = words[at + 1] if at + 1 < len(words) else ""
    if words[at] in _TEN and _ORDINAL.get(after, 10) < 10:
        return [(_TEN[words[at]] + _ORDINAL[after], at + 2)]
    return _smalls(words, at)


def _year_at(words: Words, at: int) -> tuple[int, int] | None:
    if at < len(words) and words[at] in ("in", "of"):
        at += 1
    if at >= len(words):
        return None
    if _FIGURES.fullmatch(words[at]) and len(words[at]) == 4:
        return int(words[at]), at + 1
    if words[at : at + 2] == ["two", "thousand"]:
        rest = at + 3 if at + 2 < len(words) and words[at + 2] == "and" else at + 2
        small = _smalls(words, rest)
        return (2000 + small[0][0], small[0][1]) if small else (2000, at + 2)
    for century, middle in _smalls(words, at):
        if not FIRST_CENTURY <= century <= LAST_CENTURY:
            continue
        if middle < len(words) and words[middle] == "hundred":
            small = _smalls(words, middle + 1)
            return (century * 100 + small[0][0], small[0][1]) if small else (century * 100, middle + 1)
        for rest, end in _smalls(words, middle):
            if rest >= 10 or end - middle == 2 or (_FIGURES.fullmatch(words[middle]) and len(words[middle]) == 2):
                return century * 100 + rest, end
    single = [_UNIT.get(word, 0) for word in words[at : at + 4] if word in _UNIT or word in OH]
    if len(single) == 4 and FIRST_CENTURY <= single[0] * 10 + single[1] <= LAST_CENTURY:
        return int("".join(map(str, single))), at + 4
    return None


def _month_first(words: Words, at: int) -> tuple[str, int] | None:
    month = _MONTH.get(words[at])
    if month is None:
        return None
    for day, end in _days(words, at + 1):
        if year := _year_at(words, end):
            return _iso(year[0], month, day), year[1]
    return None


def _day_first(words: Words, at: int, *, bare: bool) -> tuple[str, int] | None:
    for day, end in _days(words, at):
        middle = end
        while middle < len(words) and words[middle] in ("of", "day"):
            middle += 1
        named = _MONTH.get(words[middle]) if middle < len(words) else None
        months = [(named, middle + 1)] if named else _days(words, middle) if bare else []
        for month, after in months:
            if year := _year_at(words, after):
                return _iso(year[0], month, day), year[1]
    return None


def _iso(year: int, month: int, day: int) -> str:
    return f"{year:04}-{month:02}-{day:02}"
