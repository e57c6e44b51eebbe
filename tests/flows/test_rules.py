"""Rules: what callers say, and what of it counts."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows import rules
from flows.model import Choice, Slot, SlotType, Value
from flows.rules import Understood, understand

DAY = Slot("day", SlotType.weekday, pattern="monday|tuesday|wednesday|thursday|friday")
PART = Slot(
    "part",
    SlotType.choice,
    choices=(
        Choice("morning", ("morning", "in the morning", "before noon"), "1"),
        Choice("afternoon", ("afternoon", "in the afternoon", "after lunch"), "2"),
    ),
)
DOB = Slot("dob", SlotType.date)
ORDER = Slot("order", SlotType.digits, min_digits=4, max_digits=8)
PEOPLE = Slot("people", SlotType.number, minimum=1, maximum=12)
PRICE = Slot("price", SlotType.money)
AGREED = Slot("agreed", SlotType.yesno)
NAME = Slot("name", SlotType.string)
CODE = Slot("code", SlotType.string, pattern="[0-9]{4}")
CLINIC = (DAY, PART, DOB)
HOURS = {"hours": ("opening hours", "when are you open", "what are your hours"), "human": ("talk to a human",)}


def hear(words: str, *slots: Slot, asked: str = "", yesno: bool = False) -> Understood:
    return understand(words, slots=slots or CLINIC, asked=asked, yesno=yesno, digressions=HOURS)


def slots_of(words: str, *slots: Slot, asked: str = "") -> dict[str, Value]:
    heard = hear(words, *slots, asked=asked)
    assert heard.intent == ""
    return heard.slots


@pytest.mark.parametrize(
    ("words", "slots"),
    [
        ("friday", {"day": "friday"}),
        ("On Friday, please.", {"day": "friday"}),
        ("Friday's fine", {"day": "friday"}),
        ("i would like tuesday morning", {"day": "tuesday", "part": "morning"}),
        ("in the morning on tuesday", {"day": "tuesday", "part": "morning"}),
        ("wensday after lunch", {"day": "wednesday", "part": "afternoon"}),
        ("before noon", {"part": "morning"}),
        ("actually friday", {"day": "friday"}),
        ("no make it friday", {"day": "friday"}),
        ("thursday no sorry friday", {"day": "friday"}),
        ("not thursday friday", {"day": "friday"}),
        ("i don't want thursday, i want friday", {"day": "friday"}),
        ("why not friday", {"day": "friday"}),
        ("good morning, friday afternoon please", {"day": "friday", "part": "afternoon"}),
        ("may 31st 1980", {"dob": "1980-05-31"}),
        ("I was born on the thirty first of may nineteen eighty", {"dob": "1980-05-31"}),
        ("31/05/1980", {"dob": "1980-05-31"}),
        ("1980-05-31", {"dob": "1980-05-31"}),
        ("the afternon", {"part": "afternoon"}),
    ],
)
def test_values_at_any_place(words: str, slots: dict[str, Value]) -> None:
    assert slots_of(words, asked="day") == slots


@pytest.mark.parametrize(
    "words",
    [
        "",
        "hello",
        "good morning",
        "today",
        "tomorrow",
        "someday",
        "holiday",
        "noon",
        "the end",
        "monday or tuesday",
        "anything but friday",
        "i can't do friday",
        "not friday",
        "any day except monday",
        "morning or afternoon",
        "no",
        "yes",
        "more",
        "may i have a word",
        "one",
        "the first of may",
        "1 2 3",
    ],
)
def test_nothing_is_guessed(words: str) -> None:
    assert hear(words, asked="day") == Understood()


def test_what_was_asked_for_may_be_invalid_and_what_was_volunteered_may_not() -> None:
    assert slots_of("saturday", asked="day") == {"day": "saturday"}
    assert slots_of("saturday", asked="part") == {}
    assert slots_of("30 february 1980", asked="dob") == {"dob": "1980-02-30"}
    assert slots_of("30 february 1980", asked="day") == {}


@pytest.mark.parametrize(
    ("words", "value"),
    [
        ("thirty first of may nineteen eighty", "1980-05-31"),
        ("may thirty first nineteen eighty", "1980-05-31"),
        ("31 5 1980", "1980-05-31"),
        ("31051980", "1980-05-31"),
        ("three one oh five one nine eight oh", "1980-05-31"),
        ("thirty one oh five nineteen eighty", "1980-05-31"),
        ("june second two thousand and five", "2005-06-02"),
        ("the second of june nineteen oh five", "1905-06-02"),
        ("2nd of June, 2010", "2010-06-02"),
        ("it's december 24 twenty twenty one", "2021-12-24"),
        ("1.2.1990", "1990-02-01"),
    ],
)
def test_dates(words: str, value: str) -> None:
    assert slots_of(words, DOB, asked="dob") == {"dob": value}


@pytest.mark.parametrize("words", ["may 31st", "may eighty", "1980", "31 5 80", "may may may"])
def test_no_half_dates(words: str) -> None:
    assert slots_of(words, DOB, asked="dob") == {}


@pytest.mark.parametrize(
    ("slot", "words", "value"),
    [
        (ORDER, "double four oh two", "4402"),
        (ORDER, "it's zero zero um four two", "0042"),
        (ORDER, "0042", "0042"),
        (ORDER, "forty two seventeen", "4217"),
        (ORDER, "triple seven 1", "7771"),
        (ORDER, "12", "12"),  # too short, and the caller is told so
        (ORDER, "order 2 is number 4711", "4711"),
        (PEOPLE, "two", 2),
        (PEOPLE, "for twelve people", 12),
        (PEOPLE, "20", 20),
        (PRICE, "$42.50", 42.5),
        (PRICE, "forty two dollars and fifty cents", 42.5),
        (PRICE, "a hundred and five", 105),
        (PRICE, "minus three point five", -3.5),
        (CODE, "double four double two", "4422"),
    ],
)
def test_numbers_that_were_asked_for(slot: Slot, words: str, value: Value) -> None:
    assert slots_of(words, slot, asked=slot.name) == {slot.name: value}


@pytest.mark.parametrize("words", ["one moment", "um, one moment please", "just one moment"])
def test_who_asks_for_a_moment_says_no_number(words: str) -> None:
    for slot in (ORDER, PEOPLE, PRICE):
        assert slots_of(words, slot, asked=slot.name) == {}
    assert slots_of(f"{words}, one two three four", ORDER, asked="order") == {"order": "1234"}
    assert slots_of("one two three four, one moment", ORDER, asked="order") == {"order": "1234"}


def test_numbers_that_were_not_asked_for() -> None:
    some = (DAY, ORDER, PEOPLE, PRICE, DOB)
    assert slots_of("two on friday", *some, asked="day") == {"day": "friday"}
    assert slots_of("friday, order 4711", *some, asked="day") == {"day": "friday", "order": "4711"}
    assert slots_of("friday for 42 dollars", *some, asked="day") == {"day": "friday", "price": 42}
    for asked in ("order", "people", "dob", ""):
        assert slots_of("may 31st 1980", *some, asked=asked) == {"dob": "1980-05-31"}


def test_two_slots_of_one_type() -> None:
    first, second = Slot("first", SlotType.weekday), Slot("second", SlotType.weekday)
    assert slots_of("friday", first, second, asked="second") == {"second": "friday"}
    assert slots_of("friday", first, second) == {}
    assert slots_of("friday", first) == {"first": "friday"}


def test_free_words_are_never_filled() -> None:
    assert slots_of("my name is friday", NAME, asked="name") == {}


@pytest.mark.parametrize(
    ("words", "intent"),
    [
        ("yes", "yes"),
        ("Yeah, that's right.", "yes"),
        ("yes please", "yes"),
        ("um yes", "yes"),
        ("that's correct", "yes"),
        ("okay", "yes"),
        ("right", "yes"),
        ("sure go ahead", "yes"),
        ("no problem", "yes"),
        ("sorry yes", "yes"),
        ("actually yes that's right", "yes"),
        ("it is", "yes"),
        ("yes the appointment please", "yes"),
        ("no", "no"),
        ("nope that's wrong", "no"),
        ("no no no", "no"),
        ("that is not right", "no"),
        ("it isn't", "no"),
        ("okay no", "no"),
        ("no thank you", "no"),
        ("it is wrong", "no"),
        ("no that's not what i said", "no"),
        ("", ""),
        ("maybe", ""),
        ("i'm not sure", ""),
        ("i don't know", ""),
        ("yes no", ""),
        ("yes but not really", ""),
        ("yes wait", ""),
        ("yes sorry wait a moment", ""),
        ("right now i can't", ""),
        ("good question", ""),
        ("yes but when would that be", ""),
        ("blue", ""),
    ],
)
def test_yes_and_no(words: str, intent: str) -> None:
    assert hear(words, asked="day", yesno=True) == Understood({}, intent)
    without = hear(words, asked="day")
    assert without.intent not in ("yes", "no")


@pytest.mark.parametrize(
    ("words", "intent", "slots"),
    [
        ("no, make it friday", "no", {"day": "friday"}),
        ("no friday", "no", {"day": "friday"}),
        ("no not thursday, friday", "no", {"day": "friday"}),
        ("not thursday", "no", {}),
        ("no in the afternoon", "no", {"part": "afternoon"}),
        ("yes friday", "yes", {"day": "friday"}),
        ("yes friday is fine", "yes", {"day": "friday"}),
        ("actually friday", "", {"day": "friday"}),
        ("friday", "", {"day": "friday"}),
    ],
)
def test_yes_and_no_with_values(words: str, intent: str, slots: dict[str, Value]) -> None:
    assert hear(words, asked="day", yesno=True) == Understood(slots, intent)


def test_a_yesno_slot_is_answered_only_when_it_is_asked() -> None:
    assert hear("yes", AGREED, asked="agreed") == Understood({"agreed": True})
    assert hear("no", AGREED, DAY, asked="agreed") == Understood({"agreed": False})
    assert hear("yes", AGREED, DAY, asked="day") == Understood()
    assert hear("no make it friday", AGREED, DAY, asked="agreed") == Understood({"day": "friday"})
    assert hear("yes", AGREED, asked="agreed", yesno=True) == Understood({}, "yes")  # the answer to its read-back


@pytest.mark.parametrize(
    ("words", "intent"),
    [
        ("what are your opening hours", "hours"),
        ("when are you open", "hours"),
        ("are you open on friday", "hours"),
        ("tell me the opening hours please", "hours"),
        ("oppening hours", "hours"),
        ("can i talk to a human", "human"),
        ("talk", ""),
        ("human", ""),
        ("when", ""),
        ("what are you", ""),
        ("can you repeat that", "repeat"),
        ("sorry?", "repeat"),
        ("what?", "repeat"),
        ("sorry what did you say", "repeat"),
        ("please say that again for me", "repeat"),
        ("pardon me", "repeat"),
        ("once again", "repeat"),
        ("sorry friday", ""),
        ("what about friday", ""),
    ],
)
def test_digressions_and_repeat(words: str, intent: str) -> None:
    for yesno in (False, True):
        assert hear(words, asked="day", yesno=yesno).intent == intent


def test_choices_with_similar_phrases_need_a_margin() -> None:
    slot = Slot(
        "service",
        SlotType.choice,
        choices=(
            Choice("billing", ("billing", "a question about my bill"), "1"),
            Choice("repair", ("repair", "my line is broken"), "2"),
            Choice("new", ("new contract", "order a new line"), "3"),
        ),
    )
    assert slots_of("i have a question about the bill", slot, asked="service") == {"service": "billing"}
    assert slots_of("the line is brokken", slot, asked="service") == {"service": "repair"}
    assert slots_of("new contract", slot, asked="service") == {"service": "new"}
    for words in ("line", "a new repair", "bill", "question", "con", "order"):
        assert slots_of(words, slot, asked="service") == {} or words == "a new repair"


def test_ambiguous_phrase_of_two_slots() -> None:
    one = Slot("from", SlotType.choice, choices=(Choice("north", ("north",), "1"), Choice("south", ("south",), "2")))
    two = Slot("to", SlotType.choice, choices=(Choice("north", ("north",), "1"), Choice("east", ("east",), "2")))
    assert slots_of("north", one, two) == {}
    assert slots_of("north", one, two, asked="to") == {"to": "north"}
    assert slots_of("south", one, two, asked="to") == {"from": "south"}
    assert slots_of("south east", one, two) == {"from": "south", "to": "east"}


VOCABULARY = st.sampled_from((
    "yes", "no", "not", "friday", "monday", "actually", "make", "it", "sorry", "morning", "after", "lunch", "one",
    "two", "twenty", "hundred", "oh", "double", "may", "first", "nineteen", "eighty", "$5", "1980", "31st", "4711",
    "point", "and", "minus", "a", "the", "what", "repeat", "opening", "hours", "dollars", "cents", "1.2.1990",
))  # fmt: skip
EVERY = (DAY, PART, DOB, ORDER, PEOPLE, PRICE, AGREED, NAME, CODE)


@given(
    st.lists(VOCABULARY, max_size=30).map(" ".join) | st.text(max_size=300),
    st.sampled_from(["", "nobody", *(slot.name for slot in EVERY)]),
    st.booleans(),
)
def test_no_text_is_too_odd(words: str, asked: str, yesno: bool) -> None:
    heard = hear(words, *EVERY, asked=asked, yesno=yesno)
    assert set(heard.slots) <= {slot.name for slot in EVERY} - {"name"}
    assert heard.intent in ("", "repeat", "hours", "human", *(("yes", "no") if yesno else ()))
    assert heard == hear(words, *EVERY, asked=asked, yesno=yesno)


@pytest.mark.parametrize("words", ["9" * 100_000, "double " * 50_000, "friday " * 50_000, "not " * 9999, "\0\n" * 9999])
def test_long_input_is_bounded(words: str) -> None:
    assert len(rules.tokenize(words)) <= rules.MAX_TOKENS
    heard: Any = hear(words, *EVERY, asked="order")
    assert isinstance(heard, Understood)
