"""Grammars: whatever they let a caller say is understood as it is meant."""

import importlib.util
import random
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows import grammar, lexicon
from flows.load import find, load
from flows.model import Choice, Slot, SlotType
from flows.rules import understand

DAY = Slot("day", SlotType.weekday)
PART = Slot(
    "part",
    SlotType.choice,
    choices=(
        Choice("morning", ("morning", "in the morning", "before noon"), "1"),
        Choice("afternoon", ("afternoon", "in the afternoon", "after lunch"), "2"),
    ),
)
SERVICE = Slot(
    "service",
    SlotType.choice,
    choices=(
        Choice("check_up", ("check up", "a check up"), "1"),
        Choice("x_ray", ("x ray", "an x-ray"), "2"),
        Choice("advice", ("advice", "24 hour advice", "talk to a nurse"), "3"),
    ),
)
DOB = Slot("dob", SlotType.date)
ORDER = Slot("order", SlotType.digits, min_digits=4, max_digits=8)
PIN = Slot("pin", SlotType.digits, min_digits=4, max_digits=4)
PEOPLE = Slot("people", SlotType.number, minimum=1, maximum=12)
AGE = Slot("age", SlotType.number, minimum=0, maximum=120)
PRICE = Slot("price", SlotType.money)
AGREED = Slot("agreed", SlotType.yesno)
NAME = Slot("name", SlotType.string)
EVERY = (DAY, PART, SERVICE, DOB, ORDER, PIN, PEOPLE, AGE, PRICE, AGREED, NAME)
HOURS = ("opening hours", "when are you open")


class Speaker:
    """Says something that a JSGF text allows, and remembers which rules it went through with which words."""

    def __init__(self, text: str, seed: int) -> None:
        self._rules = dict(re.findall(r"<(\w+)> = ([^;]*);", text))
        self._random = random.Random(seed)
        self.meant: list[tuple[str, str]] = []

    def speak(self) -> str:
        return " ".join(self._rule("turn"))

    def _rule(self, name: str) -> list[str]:
        self._tokens = re.findall(r"<\w+>|[a-z']+|[()\[\]|+]", self._rules[name])
        words = self._either()
        self.meant.append((name, " ".join(words)))
        return words

    def _either(self) -> list[str]:
        """Reads alternatives up to a closing bracket, expanding only the one that is chosen."""
        options: list[list[str]] = [[]]
        depth = 0
        while self._tokens and not (depth == 0 and self._tokens[0] in ")]"):
            token = self._tokens.pop(0)
            depth += (token in ("(", "[")) - (token in (")", "]"))
            if token == "|" and depth == 0:
                options.append([])
            else:
                options[-1].append(token)
        rest, self._tokens = self._tokens, self._random.choice(options)
        words: list[str] = []
        while self._tokens:
            words += self._one()
        self._tokens = rest
        return words

    def _one(self) -> list[str]:
        token = self._tokens.pop(0)
        if token.startswith("<"):
            rest = self._tokens
            words = self._rule(token[1:-1])
            self._tokens = rest
            return words
        if token not in "([":
            return [token]
        before = list(self._tokens)
        words = self._either()
        self._tokens.pop(0)
        if self._tokens[:1] == ["+"]:
            after = self._tokens[1:]
            for _ in range(self._random.randint(3, 5)):
                self._tokens = list(before)
                words += self._either()
            self._tokens = after
        return words if token == "(" or self._random.random() < 0.5 else []


@given(
    st.lists(st.sampled_from(EVERY), unique=True, max_size=4),
    st.booleans(),
    st.booleans(),
    st.integers(0, 2**32),
)
def test_what_may_be_said_is_understood(slots: list[Slot], yesno: bool, digress: bool, seed: int) -> None:
    phrases = HOURS if digress else ()
    speaker = Speaker(grammar.jsgf(slots, yesno=yesno, phrases=phrases), seed)
    words = speaker.speak()
    asked = slots[0].name if slots else ""
    heard = understand(words, slots=slots, asked=asked, yesno=yesno, digressions={"hours": phrases})
    meant = dict(speaker.meant)
    said = {name.removeprefix("slot_"): text for name, text in meant.items() if name.startswith("slot_")}
    said = {name: text for name, text in said.items() if set(text.split()) != {"oh"}}  # by itself it is no digit
    assert set(heard.slots) == set(said), words
    for name, text in said.items():
        (slot,) = (slot for slot in slots if slot.name == name)
        assert heard.slots[name] == value_of(slot, text), words
    if "yes" in meant:
        assert heard.intent == "yes", words
    elif "no" in meant:
        assert heard.intent == "no", words
    elif "phrase" in meant:
        assert heard.intent == "hours", words
    elif "repeat" in meant or words in lexicon.REPEAT:
        assert heard.intent == "repeat", words
    else:
        assert heard.intent == ("no" if yesno and words.startswith("no ") else ""), words


def value_of(slot: Slot, text: str) -> object:
    """What these words alone mean, by the plainest way there is."""
    match slot.type:
        case SlotType.weekday:
            return text
        case SlotType.choice:
            return next(c.value for c in slot.choices if text in map(lexicon.plain, c.phrases))
        case SlotType.yesno:
            return text in grammar.YES
        case SlotType.digits:
            word_values = {word: str(n) for n, word in enumerate(lexicon.UNITS)} | {"oh": "0"}
            return "".join(
                word_values[word] * (2 if before == "double" else 1)
                for before, word in zip(["", *text.split()], text.split(), strict=False)
                if word != "double"
            )
    return understand(text, slots=[slot], asked=slot.name, yesno=False, digressions={}).slots[slot.name]


def test_what_is_not_in_it() -> None:
    text = grammar.jsgf([DAY, DOB, ORDER, NAME], yesno=False, phrases=("press 1", "opening hours"))
    assert "monday" in text
    assert "january" not in text  # spelled values only while they are asked for
    assert "zero" not in text
    assert "slot_name" not in text
    assert "opening hours" in text
    assert "press" not in text
    assert "correct" not in grammar.vocabulary([DAY], yesno=False, phrases=())  # "yes" is: it may mean "go on"
    assert "january" not in grammar.jsgf([DOB], yesno=True, phrases=())  # a read-back is answered by yes or no
    assert "january" in grammar.jsgf([DOB], yesno=False, phrases=())


def test_a_number_of_fixed_length_may_come_in_groups() -> None:
    assert rule_of("slot_pin", grammar.jsgf([PIN], yesno=False, phrases=())) == "<digit> [<digit> [<digit> [<digit>]]]"


def test_answers_have_beginnings_where_a_value_is_asked_for() -> None:
    assert "how about" in rule_of("opening", grammar.jsgf([DAY], yesno=False, phrases=()))
    assert "<opening>" not in grammar.jsgf([DAY], yesno=True, phrases=())
    assert "<opening>" not in grammar.jsgf([AGREED], yesno=False, phrases=())


def rule_of(name: str, text: str) -> str:
    (found,) = re.findall(rf"<{name}> = ([^;]*);", text)
    return str(found)


def test_empty_and_deterministic() -> None:
    assert "<repeat>" in grammar.jsgf([], yesno=False, phrases=())
    one = grammar.jsgf([DAY, PART], yesno=True, phrases=HOURS)
    assert one == grammar.jsgf([DAY, PART], yesno=True, phrases=HOURS)


@given(st.lists(st.sampled_from(EVERY), unique=True), st.booleans(), st.lists(st.text(max_size=20), max_size=5))
def test_words_are_plain_and_few(slots: list[Slot], yesno: bool, phrases: list[str]) -> None:
    words = grammar.vocabulary(slots, yesno=yesno, phrases=phrases)
    assert all(re.fullmatch(r"[a-z']+", word) for word in words)
    assert len(words) < 300
    text = grammar.jsgf(slots, yesno=yesno, phrases=phrases)
    assert set(re.findall(r"<(\w+)>", text)) == set(re.findall(r"<(\w+)> =", text))


def test_many_choices_are_bounded() -> None:
    many = tuple(
        Choice(f"c{n}", tuple(f"{'ab'[n % 2] * (i + 1)} {'x' * (n + 1)}" for i in range(30)), "") for n in range(20)
    )
    slots = [Slot(f"s{n}", SlotType.choice, choices=many) for n in range(5)]
    assert grammar.jsgf(slots, yesno=False, phrases=()).count("|") < 300


@pytest.mark.skipif(
    importlib.util.find_spec("pocketsphinx") is None, reason="pocketsphinx is not installed (pip install pocketsphinx)"
)
def test_the_recogniser_reads_it_and_knows_the_words() -> None:
    import pocketsphinx

    decoder = pocketsphinx.Decoder(lm=None, loglevel="FATAL")
    clinic = load(find("clinic"))
    phrases = [phrase for name in clinic.digressions for phrase in clinic.steps[name].phrases]
    for slots in (EVERY, (DOB, DAY), (ORDER,), (PIN, PART), (PRICE,), (AGE,), (AGREED,), tuple(clinic.slots.values())):
        for yesno in (False, True):
            words = grammar.vocabulary(slots, yesno=yesno, phrases=phrases)
            assert [word for word in words if decoder.lookup_word(word) is None] == []
            decoder.add_jsgf_string("turn", grammar.jsgf(slots, yesno=yesno, phrases=phrases))
