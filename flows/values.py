"""What a slot's value is: read it, say it, key it in.

One canonical form per type: dates are ISO text, digits are text, weekdays and choices are lower case words as declared,
yes and no are bools, money and numbers are numbers. Errors have fixed reasons that hold nothing a caller said.
"""

import math
import re
from datetime import date
from functools import lru_cache
from typing import Any

from flows.lexicon import MONTHS, WEEKDAYS, ordinal
from flows.model import Slot, SlotType, Value

MAX_VALUE_CHARS = 200
MAX_PATTERN_VALUE_CHARS = 64  # with it `patterns` bounds what a match can cost
MAX_DIGITS = 32
MAX_NUMBER = 1e15
FIRST_YEAR, LAST_YEAR = 1900, 2100
DATE_KEYS = 8  # day, month, year
DIGIT_GROUP = 4  # longer numbers are said in groups

_ISO_DATE = re.compile(r"([0-9]{4})-([0-9]{2})-([0-9]{2})")
_NUMBER = re.compile(r"[+-]?(?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]+)(?:\.[0-9]+)?")
_DIGITS_ONLY = re.compile(r"[0-9]+")
_SPELLING = re.compile(r"[\s.-]+")
_DIGIT_PATTERN = re.compile(r"(?:\\d|[0-9\[\]{}(),|?+*:^$-])+")
_YES = frozenset(("yes", "true"))
_NO = frozenset(("no", "false"))


def parse(slot: Slot, raw: object) -> Value:
    """The canonical value. Raises `ValueError` with a fixed reason where it is not one of this slot's."""
    if isinstance(raw, str):
        raw = " ".join(raw[: MAX_VALUE_CHARS + 1].split())
        _require(len(raw) > 0, "empty")
        _require(len(raw) <= MAX_VALUE_CHARS, "too long")
    value = _typed(slot, raw)
    _check_range(slot, value)
    if slot.pattern:
        _require(len(str(value)) <= MAX_PATTERN_VALUE_CHARS, "too long")
        _require(re.fullmatch(slot.pattern, str(value)) is not None, "not of the expected form")
    return value


def spoken(slot: Slot, value: Value) -> str:
    """How the agent says it, written so that a synthesizer reads it well."""
    match slot.type:
        case SlotType.date if isinstance(value, str) and (found := _ISO_DATE.fullmatch(value)):
            return f"{MONTHS[int(found[2]) - 1].capitalize()} {ordinal(int(found[3]))}, {int(found[1])}"
        case SlotType.digits | SlotType.string if slot.type is SlotType.digits or by_keys(slot):
            text = str(value)
            groups = [text[at : at + DIGIT_GROUP] for at in range(0, len(text), DIGIT_GROUP)]
            return ", ".join(" ".join(group) for group in groups)
        case SlotType.money if isinstance(value, int | float):
            return _spoken_money(value)
        case SlotType.weekday:
            return str(value).capitalize()
        case SlotType.choice:
            return next((c.phrases[0] for c in slot.choices if c.value == value and c.phrases), str(value))
        case SlotType.yesno:
            return "yes" if value else "no"
    return str(value)


# Keys


def by_keys(slot: Slot) -> bool:
    """Whether a keypad can fill it: free words it cannot, unless their pattern is one of digits."""
    if slot.type is SlotType.string:
        return _DIGIT_PATTERN.fullmatch(slot.pattern) is not None
    return slot.type is not SlotType.choice or any(choice.key for choice in slot.choices)


def keys_complete(slot: Slot, keys: str) -> bool:
    """Whether no further key belongs to the value, so that no `#` needs to end it."""
    match slot.type:
        case SlotType.number | SlotType.money | SlotType.string:
            return False
        case SlotType.digits:
            wanted = slot.max_digits
        case SlotType.date:
            wanted = DATE_KEYS
        case SlotType.choice:
            wanted = max((len(choice.key) for choice in slot.choices), default=1)
        case _:
            wanted = 1
    return "*" in keys or (wanted > 0 and len(keys) >= wanted)


def from_keys(slot: Slot, keys: str) -> Value | None:
    """The value that was keyed, None where keys are missing. Raises `ValueError` where it is complete and wrong.

    A date is eight keys, day month year; a weekday 1 (Monday) to 7; yes 1 and no 2; `*` is the decimal point.
    """
    keys = keys.rstrip("#")
    if not keys or not by_keys(slot):
        return None
    if slot.type in (SlotType.number, SlotType.money):
        return parse(slot, keys.replace("*", "."))
    _require(_DIGITS_ONLY.fullmatch(keys) is not None, "not a digit")
    match slot.type:
        case SlotType.date:
            if len(keys) < DATE_KEYS:
                return None
            return parse(slot, f"{keys[4:]}-{keys[2:4]}-{keys[:2]}")
        case SlotType.digits:
            return None if len(keys) < slot.min_digits else parse(slot, keys)
        case SlotType.choice:
            found = next((choice.value for choice in slot.choices if choice.key == keys), None)
            _require(found is not None, "not one of the choices")
            return parse(slot, found)
        case SlotType.weekday:
            _require(keys in "1234567" and len(keys) == 1, "not a weekday")
            return parse(slot, WEEKDAYS[int(keys) - 1])
        case SlotType.yesno:
            _require(keys in ("1", "2"), "not yes or no")
            return keys == "1"
    return parse(slot, keys)


# For models


def json_type(type_: SlotType) -> dict[str, Any]:
    """The JSON Schema of a value of this type, for a model's tool argument."""
    match type_:
        case SlotType.digits:
            return {"type": "string", "pattern": "^[0-9]+$"}
        case SlotType.date:
            return {"type": "string", "format": "date", "description": "YYYY-MM-DD"}
        case SlotType.weekday:
            return {"type": "string", "enum": list(WEEKDAYS)}
        case SlotType.yesno:
            return {"type": "boolean"}
        case SlotType.number | SlotType.money:
            return {"type": "number"}
    return {"type": "string"}


def json_slot(slot: Slot) -> dict[str, Any]:
    """The same for a slot, with its choices."""
    schema = json_type(slot.type)
    if slot.type is SlotType.choice:
        schema["enum"] = [choice.value for choice in slot.choices]
    return schema


# Inside


def _require(holds: bool, reason: str) -> None:
    if not holds:
        raise ValueError(reason)


def _typed(slot: Slot, raw: object) -> Value:
    match slot.type:
        case SlotType.yesno:
            if isinstance(raw, bool):
                return raw
            _require(isinstance(raw, str) and raw.lower() in _YES | _NO, "not yes or no")
            return str(raw).lower() in _YES
        case SlotType.number | SlotType.money:
            number = _number(raw, money=slot.type is SlotType.money)
            return int(number) if number == int(number) else number
    if isinstance(raw, int) and not isinstance(raw, bool) and abs(raw) < 10**MAX_DIGITS:
        raw = str(raw)  # a result's "id": 42
    if not isinstance(raw, str):
        raise ValueError("not text")
    match slot.type:
        case SlotType.digits:
            text = _SPELLING.sub("", raw)
            _require(_DIGITS_ONLY.fullmatch(text) is not None, "not digits")
            return text
        case SlotType.date:
            return _date(raw)
        case SlotType.weekday:
            _require(raw.lower() in WEEKDAYS, "not a weekday")
            return raw.lower()
        case SlotType.choice:
            return _choice(slot, raw.lower())
        case _:
            _require(raw.isprintable(), "not text")
            return raw


def _number(raw: object, *, money: bool) -> float:
    if isinstance(raw, str):
        text = raw.lstrip("$€£ ") if money else raw
        _require(_NUMBER.fullmatch(text) is not None, "not a number")
        raw = float(text.replace(",", ""))
    if isinstance(raw, bool) or not isinstance(raw, int | float):
        raise ValueError("not a number")
    _require(not isinstance(raw, float) or math.isfinite(raw), "not a number")
    _require(abs(raw) <= MAX_NUMBER, "too large")
    return round(float(raw), 2) if money else float(raw)


def _date(raw: str) -> str:
    found = _ISO_DATE.fullmatch(raw)
    if found is None:
        raise ValueError("not a date")
    year, month, day = (int(part) for part in found.groups())
    _require(FIRST_YEAR <= year <= LAST_YEAR, "not a date")
    try:
        return date(year, month, day).isoformat()
    except ValueError:
        raise ValueError("not a date") from None


def _choice(slot: Slot, raw: str) -> str:
    for choice in slot.choices:
        if raw == choice.value.lower():
            return choice.value
    for choice in slot.choices:
        if any(raw == phrase.lower() for phrase in choice.phrases):
            return choice.value
    raise ValueError("not one of the choices")


def _check_range(slot: Slot, value: Value) -> None:
    if slot.type is SlotType.digits:
        _require(len(str(value)) >= slot.min_digits, "too short")
        _require(len(str(value)) <= (slot.max_digits or MAX_DIGITS), "too long")
    elif isinstance(value, int | float) and not isinstance(value, bool):
        _require(slot.minimum is None or value >= slot.minimum, "too small")
        _require(slot.maximum is None or value <= slot.maximum, "too large")


@lru_cache(256)
def _spoken_money(value: float) -> str:
    minus = "minus " if value < 0 else ""
    units, cents = divmod(round(abs(value) * 100), 100)
    dollars = f"{units} dollar{'' if units == 1 else 's'}"
    if not cents:
        return minus + dollars
    small = f"{cents} cent{'' if cents == 1 else 's'}"
    return minus + (f"{dollars} and {small}" if units else small)
