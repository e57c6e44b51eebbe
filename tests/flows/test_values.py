"""Values: one canonical form per type, said well, keyed in, and refused with words that give nothing away."""

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from flows import values
from flows.model import Choice, Slot, SlotType, Value

MORNING = Choice("morning", ("morning", "in the morning", "before noon"), "1")
AFTERNOON = Choice("afternoon", ("afternoon", "after lunch"), "2")
PART = Slot("part", SlotType.choice, choices=(MORNING, AFTERNOON))
DOB = Slot("dob", SlotType.date)
DAY = Slot("day", SlotType.weekday, pattern="monday|tuesday|wednesday|thursday|friday")
ORDER = Slot("order", SlotType.digits, min_digits=4, max_digits=8)
PEOPLE = Slot("people", SlotType.number, minimum=1, maximum=12)
PRICE = Slot("price", SlotType.money)
AGREED = Slot("agreed", SlotType.yesno)
NAME = Slot("name", SlotType.string)
CODE = Slot("code", SlotType.string, pattern=r"[0-9]{4}")
ALL = (PART, DOB, DAY, ORDER, PEOPLE, PRICE, AGREED, NAME, CODE)


@pytest.mark.parametrize(
    ("slot", "raw", "value"),
    [
        (PART, "Morning", "morning"),
        (PART, " after  LUNCH ", "afternoon"),
        (DOB, "1980-05-31", "1980-05-31"),
        (DOB, "2000-02-29", "2000-02-29"),
        (DAY, "Friday", "friday"),
        (ORDER, "0042", "0042"),
        (ORDER, "00-42 17", "004217"),
        (ORDER, 12345, "12345"),
        (PEOPLE, 3, 3),
        (PEOPLE, 3.0, 3),
        (PEOPLE, "3.5", 3.5),
        (PRICE, "$1,042.50", 1042.5),
        (PRICE, 19.999, 20),
        (AGREED, True, True),
        (AGREED, "No", False),
        (NAME, "  Ada   L. ", "Ada L."),
        (NAME, 42, "42"),
        (CODE, "0042", "0042"),
    ],
)
def test_parse(slot: Slot, raw: object, value: Value) -> None:
    parsed = values.parse(slot, raw)
    assert parsed == value
    assert type(parsed) is type(value)


@pytest.mark.parametrize(
    ("slot", "raw"),
    [
        (PART, "evening"),
        (PART, ""),
        (PART, None),
        (PART, ["morning"]),
        (DOB, "1981-02-29"),
        (DOB, "1980-13-01"),
        (DOB, "1899-12-31"),
        (DOB, "2101-01-01"),
        (DOB, "31/05/1980"),
        (DOB, "١٩٨٠-٠٥-٣١"),
        (DAY, "saturday"),
        (DAY, "someday"),
        (ORDER, "123"),
        (ORDER, "123456789"),
        (ORDER, "12a4"),
        (ORDER, "٤٤٤٤"),
        (ORDER, True),
        (PEOPLE, 0),
        (PEOPLE, 13),
        (PEOPLE, True),
        (PEOPLE, "three"),
        (PEOPLE, float("nan")),
        (PEOPLE, float("inf")),
        (PEOPLE, 10**400),
        (PEOPLE, "1e3"),
        (PRICE, "$"),
        (AGREED, 1),
        (AGREED, "maybe"),
        (NAME, ""),
        (NAME, "x" * 201),
        (NAME, "a\x00b"),
        (CODE, "123"),
        (CODE, "0" * 65),
    ],
)
def test_refused(slot: Slot, raw: object) -> None:
    with pytest.raises(ValueError, match=r"^[a-z ]+$") as caught:
        values.parse(slot, raw)
    assert not raw or str(raw) not in str(caught.value)


@pytest.mark.parametrize(
    ("slot", "value", "said"),
    [
        (DOB, "1980-05-31", "May 31st, 1980"),
        (DOB, "2005-06-02", "June 2nd, 2005"),
        (DOB, "1999-11-11", "November 11th, 1999"),
        (DOB, "1999-11-23", "November 23rd, 1999"),
        (ORDER, "0042", "0 0 4 2"),
        (ORDER, "004217", "0 0 4 2, 1 7"),
        (PRICE, 42.5, "42 dollars and 50 cents"),
        (PRICE, 1, "1 dollar"),
        (PRICE, 0.01, "1 cent"),
        (PRICE, 0, "0 dollars"),
        (PRICE, -3.2, "minus 3 dollars and 20 cents"),
        (DAY, "thursday", "Thursday"),
        (PART, "afternoon", "afternoon"),
        (AGREED, False, "no"),
        (PEOPLE, 3, "3"),
        (NAME, "Ada", "Ada"),
        (replace(NAME, pattern="[0-9]{3}"), "123", "1 2 3"),
    ],
)
def test_spoken(slot: Slot, value: Value, said: str) -> None:
    assert values.spoken(slot, value) == said


@pytest.mark.parametrize(
    ("slot", "keys", "value"),
    [
        (DOB, "31051980", "1980-05-31"),
        (PART, "2", "afternoon"),
        (DAY, "5", "friday"),
        (AGREED, "1", True),
        (AGREED, "2", False),
        (ORDER, "00421700", "00421700"),
        (ORDER, "0042#", "0042"),
        (PRICE, "42*50", 42.5),
        (PEOPLE, "12", 12),
        (CODE, "0042", "0042"),
    ],
)
def test_keys(slot: Slot, keys: str, value: Value) -> None:
    assert values.from_keys(slot, keys) == value


def test_keys_say_when_they_are_complete() -> None:
    assert not values.keys_complete(DOB, "3105198")
    assert values.keys_complete(DOB, "31051980")
    assert values.keys_complete(DOB, "31*")  # a star begins again: it is refused at once and asked again
    assert values.keys_complete(DAY, "5")
    assert values.keys_complete(PART, "9")
    assert not values.keys_complete(ORDER, "0042")
    assert values.keys_complete(ORDER, "00420042")
    assert not values.keys_complete(PRICE, "42*50")
    assert not values.keys_complete(Slot("free", SlotType.digits), "0" * 20)


@pytest.mark.parametrize(("slot", "keys"), [(DOB, "3105198"), (ORDER, "004"), (NAME, "42"), (DAY, ""), (DAY, "#")])
def test_missing_keys_give_none(slot: Slot, keys: str) -> None:
    assert values.from_keys(slot, keys) is None


@pytest.mark.parametrize(
    ("slot", "keys"),
    [
        (DOB, "31021980"),
        (DOB, "31*"),
        (PART, "9"),
        (DAY, "0"),
        (DAY, "6"),
        (AGREED, "3"),
        (PRICE, "4**2"),
        (PEOPLE, "99"),
    ],
)
def test_wrong_keys_raise(slot: Slot, keys: str) -> None:
    with pytest.raises(ValueError, match=r"^[a-z ]+$"):
        values.from_keys(slot, keys)


def test_which_slots_keys_can_fill() -> None:
    assert [slot.name for slot in ALL if not values.by_keys(slot)] == ["name"]
    assert not values.by_keys(Slot("c", SlotType.choice, choices=(Choice("a", ("a",), ""),)))
    assert not values.by_keys(Slot("s", SlotType.string, pattern="[A-Z][0-9]+"))


@given(st.dates(date(1900, 1, 1), date(2100, 12, 31)))
def test_every_date_by_keys_and_back(day: date) -> None:
    value = values.from_keys(DOB, day.strftime("%d%m") + str(day.year))
    assert value == day.isoformat() == values.parse(DOB, day.isoformat())


ANYTHING = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.lists(st.text()) | st.binary()


@given(st.sampled_from(ALL), ANYTHING)
def test_any_input_gives_a_canonical_value_or_a_fixed_reason(slot: Slot, raw: object) -> None:
    try:
        value = values.parse(slot, raw)
    except ValueError as error:
        reason = str(error)
    else:
        reason = ""
        assert values.parse(slot, value) == value
        assert values.spoken(slot, value)
    assert len(reason) < 40


@given(st.sampled_from(ALL), st.text("0123456789*#", max_size=40))
def test_any_keys(slot: Slot, keys: str) -> None:
    values.keys_complete(slot, keys)
    try:
        value = values.from_keys(slot, keys)
    except ValueError:
        value = None
    assert value is None or values.parse(slot, value) == value


@pytest.mark.parametrize("type_", SlotType)
def test_json_types_are_schemas(type_: SlotType) -> None:
    assert values.json_type(type_)["type"] in ("string", "boolean", "number")
    assert values.json_slot(PART)["enum"] == ["morning", "afternoon"]
