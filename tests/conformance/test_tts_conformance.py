"""What every voice behind the `Tts` port keeps to: espeak-ng, and the scripted fake."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from itertools import pairwise

import numpy as np
import pytest
import pytest_asyncio

from app.ports import Fault, Mark, Pcm, ProviderError, SpeechChunk, Tts
from app.providers.espeak import EspeakTts
from app.providers.scripted import ScriptedTts
from flows.model import Voice

VOICE = Voice("any", "en-us", 170)
RATE_HZ = 16_000
WAIT_S = 20
LONG = "we open at nine and close at five " * 20
TEXTS = {
    "plain": "Hello there, what can I do for you?",
    "money": "It costs $42.50 now, not $40.",
    "unicode": "Café “Zoë”, €5 — ok? 日本 😀 done.",
    "combining": "cafe\u0301 nai\u0308ve",
    "empty": "",
    "spaces": " \t ",
    "spaced": "  one   two  ",
    "dots": "...",
    "controls": "one\x00two \x01+50P three\x1b[0m\r\nfour",
    "surrogate": "one \ud800 two",
    "markup": "<speak>one</speak> [[tu:]] &amp; two",
    "options": "--help $(reboot) ; `id` %s",
    "one long word": "a" * 300,
    "long": LONG,
}


pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(params=["scripted", "espeak"], scope="module", loop_scope="module")
async def tts(request: pytest.FixtureRequest) -> AsyncIterator[Tts]:
    made: Tts = ScriptedTts() if request.param == "scripted" else EspeakTts()
    await made.start()
    yield made
    await made.stop()


async def say(tts: Tts, text: str, rate_hz: int = RATE_HZ) -> tuple[Pcm, list[Mark]]:
    """All of it, with what holds for each chunk checked on the way."""
    given = 0
    parts: list[Pcm] = []
    marks: list[Mark] = []
    async with asyncio.timeout(WAIT_S):
        async for chunk in tts.speak(text, VOICE, rate_hz):
            assert isinstance(chunk, SpeechChunk)
            assert chunk.pcm.dtype == np.int16
            assert chunk.pcm.ndim == 1
            assert chunk.pcm.size > 0
            assert all(mark.samples >= given for mark in chunk.marks), "a mark refers to an earlier chunk"
            given += chunk.pcm.size
            parts.append(chunk.pcm)
            marks += chunk.marks
    return np.concatenate(parts), marks


def word_goes_on(text: str, place: int) -> bool:
    # What cannot be printed may divide words or not: that is the voice's own affair.
    return place < len(text) and text[place].isprintable() and not text[place].isspace()


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS.keys())
async def test_marks_climb_through_the_text_and_stay_within_the_audio(tts: Tts, text: str) -> None:
    pcm, marks = await say(tts, text)
    assert marks[-1].chars == len(text)
    assert marks[-1].samples <= pcm.size
    for before, after in pairwise(marks):
        assert before.chars < after.chars
        assert before.samples <= after.samples
    assert all(not word_goes_on(text, mark.chars) for mark in marks), "a mark within a word"


async def test_a_text_has_a_mark_for_each_word(tts: Tts) -> None:
    _, marks = await say(tts, "It costs $42.50 now")
    assert [mark.chars for mark in marks] == [2, 8, 15, 19]
    assert len({mark.samples for mark in marks}) == 4


async def test_words_can_be_heard(tts: Tts) -> None:
    pcm, _ = await say(tts, "Hello there")
    assert np.abs(pcm.astype(np.int32)).max() > 1000


@pytest.mark.parametrize("rate_hz", [8000, 16_000, 24_000, 48_000])
async def test_each_rate_gives_the_same_speech(tts: Tts, rate_hz: int) -> None:
    pcm, marks = await say(tts, TEXTS["plain"], rate_hz)
    reference, marked = await say(tts, TEXTS["plain"])
    assert pcm.size / rate_hz == pytest.approx(reference.size / RATE_HZ, rel=0.02)
    assert [mark.chars for mark in marks] == [mark.chars for mark in marked]
    for mark, other in zip(marks, marked, strict=True):
        assert mark.samples / rate_hz == pytest.approx(other.samples / RATE_HZ, abs=0.05)


async def test_sentences_at_once_do_not_mix(tts: Tts) -> None:
    texts = ["One.", "One two three.", "One two three four five six.", LONG]
    alone = [await say(tts, text) for text in texts]
    async with asyncio.TaskGroup() as tasks:
        together = [tasks.create_task(say(tts, text)) for text in texts * 3]
    for index, task in enumerate(together):
        pcm, marks = task.result()
        expected, expected_marks = alone[index % len(texts)]
        assert pcm.size == pytest.approx(expected.size, rel=0.02)
        assert [mark.chars for mark in marks] == [mark.chars for mark in expected_marks]


async def test_closing_in_the_middle_leaves_the_next_sentence_whole(tts: Tts) -> None:
    expected, _ = await say(tts, "And now this.")
    for _ in range(3):
        async with aclosing(tts.speak(LONG, VOICE, RATE_HZ)) as chunks:
            await anext(chunks)
        pcm, _ = await say(tts, "And now this.")
        assert pcm.size == pytest.approx(expected.size, rel=0.02)


async def test_cancelling_whoever_reads_leaves_the_next_sentence_whole(tts: Tts) -> None:
    started = asyncio.Event()

    async def read() -> None:
        async with aclosing(tts.speak(LONG, VOICE, RATE_HZ)) as chunks:
            async for _ in chunks:
                started.set()
                await asyncio.sleep(WAIT_S)

    async with asyncio.TaskGroup() as tasks:
        reader = tasks.create_task(read())
        await started.wait()
        reader.cancel()
    assert reader.cancelled()
    _, marks = await say(tts, "And now this.")
    assert marks[-1].chars == len("And now this.")


async def test_a_slow_reader_does_not_hold_up_another(tts: Tts) -> None:
    async with aclosing(tts.speak(LONG, VOICE, RATE_HZ)) as slow:
        first = await anext(slow)
        await say(tts, "And now this.")
        size = first.pcm.size + sum([chunk.pcm.size async for chunk in slow])
    assert size == pytest.approx((await say(tts, LONG))[0].size, rel=0.02)


async def test_a_text_over_the_limit_is_a_typed_error(tts: Tts) -> None:
    with pytest.raises(ProviderError) as caught:
        await say(tts, "word " * 2000)
    assert caught.value.fault == Fault.too_large
    assert "word" not in str(caught.value)
    await say(tts, "And now this.")
