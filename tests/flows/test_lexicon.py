"""The words: all of them plain, and what counts as going along with the agent."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows import lexicon


def test_all_phrases_are_plain() -> None:
    for name in ("YES", "NO", "BACKCHANNELS", "REPEAT", "CORRECTIONS", "GREETINGS", "FILLERS", "NEGATING_PHRASES"):
        phrases = getattr(lexicon, name)
        assert [p for p in phrases if p != lexicon.plain(p)] == []
        assert len(set(phrases)) == len(phrases)


def test_yes_is_not_no() -> None:
    assert not set(lexicon.YES) & set(lexicon.NO)


@pytest.mark.parametrize("text", ["Mm-hm.", "uh-huh", "okay", "OK, right", "I see", "yeah yeah", "Oh okay"])
def test_backchannels(text: str) -> None:
    assert lexicon.is_backchannel(text)


@pytest.mark.parametrize("text", ["", "no", "stop", "wait", "okay friday", "hold on", "yeah but no", "yes " * 5, "?!"])
def test_not_backchannels(text: str) -> None:
    assert not lexicon.is_backchannel(text)


@pytest.mark.parametrize(
    ("text", "impatient"),
    [
        ("okay okay", True),
        ("yeah yeah yeah", True),
        ("okay", False),
        ("oh okay", False),
        ("ha ha ha", False),
        ("mm mm", False),
        ("", False),
    ],
)
def test_who_says_it_twice_waits_to_speak(text: str, impatient: bool) -> None:
    assert lexicon.is_impatient(text) is impatient


def test_plain() -> None:
    assert lexicon.plain("That’s  RIGHT, o'clock 'quoted' 10:15!") == "that's right o'clock quoted 10 15"


def test_numbers_in_words() -> None:
    assert [lexicon.ordinal_words(n) for n in (1, 20, 21, 30, 31)] == [
        "first", "twentieth", "twenty first", "thirtieth", "thirty first",
    ]  # fmt: skip
    assert [lexicon.cardinal_words(n) for n in (0, 13, 20, 99)] == ["zero", "thirteen", "twenty", "ninety nine"]
    assert [lexicon.ordinal(n) for n in (1, 2, 3, 4, 11, 12, 13, 21, 22, 23, 31)] == [
        "1st", "2nd", "3rd", "4th", "11th", "12th", "13th", "21st", "22nd", "23rd", "31st",
    ]  # fmt: skip


@given(st.text(max_size=200))
def test_plain_is_stable(text: str) -> None:
    once = lexicon.plain(text)
    assert lexicon.plain(once) == once
    lexicon.is_backchannel(text)
