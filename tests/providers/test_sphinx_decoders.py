"""The worker's decoders, in this process: grammars, reuse and what is not carried over."""

import numpy as np
import pytest

from app.ports import Pcm
from app.providers import sphinx, sphinx_worker
from app.providers.sphinx import unknown_words
from app.providers.sphinx_worker import FIRST_CMN, Begin, Decoders, Rejected, Result, Utterance, words_of

pytestmark = pytest.mark.skipif(not sphinx.available(), reason="pocketsphinx: no build for this Python")

HEAD = "#JSGF V1.0;\ngrammar g;\n"
DAYS = (
    HEAD
    + """public <g> = [<fix>] <day> [morning | afternoon] | yes | no | what are your opening hours;
<day> = monday | tuesday | wednesday | thursday | friday;
<fix> = no | no make it | actually;
"""
)


def murmur(seed: int, level: int) -> Pcm:
    """Noise that swells like syllables do."""
    time = np.arange(16_000) / 16_000
    swell = np.sin(2 * np.pi * (2 + seed) * time) ** 2
    tones = sum(np.sin(2 * np.pi * hz * time) for hz in (140, 700 + 100 * seed, 1200, 2500))
    noise = np.random.default_rng(seed).normal(0, 0.3, time.size)
    return (level * swell * (tones + noise)).astype(np.int16)


SOUNDS = (murmur(1, 2000), murmur(2, 3000))


def test_words_that_cannot_be_heard_are_named() -> None:
    assert unknown_words(["book a zorkmid", "Tuesday", "xyzzyx", "make it"]) == ("xyzzyx", "zorkmid")
    assert unknown_words([]) == ()


def test_the_words_of_a_grammar() -> None:
    assert words_of(DAYS) >= {"monday", "make", "it", "opening", "o'clock"} - {"o'clock"}
    assert words_of(HEAD + "public <a> = [yes] (no | o'clock)+ <b>* | /0.5/ maybe; <b> = public;") >= {"yes", "no"}
    assert not words_of(DAYS) & {"g", "grammar", "public", "day", "fix", "V1.0"}


def test_idle_decoders_are_bounded_and_the_longest_unused_goes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sphinx_worker, "MAX_IDLE_DECODERS", 3)
    decoders = Decoders()
    grammars = [f"{HEAD}public <g> = {word};" for word in ("one", "two", "three", "four")]
    taken = [decoders.take(grammar) for grammar in grammars]
    for grammar, decoder in zip(grammars, taken, strict=True):
        decoders.give(grammar, decoder)
    assert sum(map(len, decoders._idle.values())) == 3
    assert decoders.take(grammars[3]) is taken[3]
    assert decoders.take(grammars[0]) is not taken[0]


def heard(decoders: Decoders, pcm: Pcm, frame: int = 320) -> Result:
    utterance = Utterance(decoders, Begin(DAYS, 16_000, "", -1e9))
    for start in range(0, pcm.size, frame):
        utterance.feed(pcm[start : start + frame])
    return utterance.finish()


def test_one_grammar_in_two_utterances_takes_two_decoders() -> None:
    decoders = Decoders()
    expected = [heard(decoders, sound) for sound in SOUNDS]
    assert expected[0] != expected[1]
    utterances = [Utterance(decoders, Begin(DAYS, 16_000, "", -1e9)) for _ in SOUNDS]
    for start in range(0, SOUNDS[0].size, 320):
        for utterance, sound in zip(utterances, SOUNDS, strict=True):
            utterance.feed(sound[start : start + 320])
    assert [utterance.finish() for utterance in utterances] == expected


def test_a_decoder_remembers_nothing_of_another_call() -> None:
    decoders = Decoders()
    first = heard(decoders, SOUNDS[0])
    heard(decoders, SOUNDS[1])
    assert heard(decoders, SOUNDS[0]) == first


def test_a_call_learns_its_channel() -> None:
    decoders = Decoders()
    learned = heard(decoders, SOUNDS[0]).cmn
    assert learned != FIRST_CMN
    assert heard(decoders, SOUNDS[1]).cmn != learned


def test_a_grammar_without_a_header_is_rejected() -> None:
    with pytest.raises(Rejected):
        Decoders().take("public <g> = yes;")
