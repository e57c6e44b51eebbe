"""The fakes keep the latencies, faults and records that a script declares."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from typing import Any

import numpy as np
import pytest

from app.core.request import Hearing, Request
from app.ports import EarlyStt, Fault, Heard, Pcm, ProviderError, Words
from app.providers.scripted import CHUNK_MS, STALL, TALK, Line, Pause, ScriptedLlm, ScriptedStt, ScriptedTts, talker
from flows.model import Flow, Step, Texts, Voice
from tests.support.virtual import run

FLOW = Flow("f", 1, "s", {"s": Step("s")}, Texts(*["?"] * 7))
ASKED = Request(FLOW, "m", "", (), (), (), (), words="hello")
VOICE = Voice()
FRAME = np.ones(160, dtype=np.int16)


def now_ms() -> int:
    return round(asyncio.get_running_loop().time() * 1000)


async def words(llm: ScriptedLlm, request: Request = ASKED) -> list[Any]:
    return [part async for part in llm.reply(request)]


async def drain(source: AsyncIterator[Any], given: list[Any]) -> None:
    async for item in source:
        given.append(item)


def test_a_model_gives_its_parts_at_the_declared_times() -> None:
    async def story() -> None:
        llm = ScriptedLlm([[Words("a"), Words("b"), Pause(500), Words("c")]], first_ms=200, part_ms=30)
        begin = now_ms()
        times = [now_ms() - begin async for _ in llm.reply(ASKED)]
        assert times == [200, 230, 760]
        assert llm.asked[0].ended
        assert llm.asked[0].parts == 3

    run(story())


def test_a_model_fails_where_the_script_says() -> None:
    async def story() -> None:
        llm = ScriptedLlm([[Words("a"), Fault.cut]])
        given: list[Any] = []
        with pytest.raises(ProviderError) as caught:
            await drain(llm.reply(ASKED), given)
        assert caught.value.fault == Fault.cut
        assert given == [Words("a")]
        assert llm.asked[0].fault == Fault.cut
        with pytest.raises(ProviderError):
            await words(llm)  # the script has one answer

    run(story())


def test_a_stalled_model_is_remembered_as_cancelled() -> None:
    async def story() -> None:
        llm = ScriptedLlm([[Words("a"), STALL, Words("b")]])
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(words(llm), 3600)
        assert llm.asked[0].cancelled
        assert not llm.asked[0].ended

    run(story())


@pytest.mark.parametrize("tokens", [1, 2, 14, 15, 28, 39])
def test_a_talker_has_its_first_token_and_each_end_of_a_sentence_when_they_are_due(tokens: int) -> None:
    async def story() -> None:
        begin = now_ms()
        text, times = "", []
        async for part in talker(tokens, first_ms=50, token_ms=10).reply(ASKED):
            assert isinstance(part, Words)
            text += part.text
            times.append(now_ms() - begin)
        each = [TALK[at % len(TALK)] for at in range(tokens)]
        ends = {0, *range(13, tokens, 14), tokens - 1}
        assert text == "".join(each)
        assert times == [50 + 10 * at for at in sorted(ends)]

    run(story())


def test_a_model_may_be_a_function_of_its_request() -> None:
    def answer(request: Request) -> Sequence[Line]:
        return [Words(request.words.upper())]

    async def story() -> None:
        assert await words(ScriptedLlm(answer)) == [Words("HELLO")]

    run(story())


def test_a_closed_model_stream_is_remembered_as_cancelled() -> None:
    async def story() -> None:
        llm = ScriptedLlm([[Words("a"), Words("b")]])
        async with aclosing(llm.reply(ASKED)) as parts:
            await anext(parts)
        assert llm.asked[0].cancelled

    run(story())


def test_a_voice_speaks_at_the_declared_speed() -> None:
    async def story() -> None:
        tts = ScriptedTts(first_ms=150, speed=2)
        begin = now_ms()
        first = 0
        samples = 0
        async for chunk in tts.speak("one two three", VOICE, 8000):
            first = first or now_ms() - begin
            samples += chunk.pcm.size
        assert first == 150
        assert samples / 8000 == pytest.approx(3 / 2.6, rel=0.01)
        assert now_ms() - begin == pytest.approx(150 + (samples / 8 - CHUNK_MS) / 2, abs=20)

    run(story())


def test_a_long_sentence_is_made_once_for_all() -> None:
    async def story() -> None:
        words = " ".join(["word"] * 12)
        chunks = [chunk async for chunk in ScriptedTts().speak(words, VOICE, 8000)]
        word = round(8000 / 2.6)
        pcm = np.concatenate([chunk.pcm for chunk in chunks])
        assert len(pcm) == 12 * word
        assert (pcm.reshape(12, word) == pcm[:word]).all()
        assert np.abs(pcm).max() > 5000
        assert [mark.samples for chunk in chunks for mark in chunk.marks] == [at * word for at in range(1, 13)]
        assert [mark.chars for chunk in chunks for mark in chunk.marks] == [at * 5 - 1 for at in range(1, 13)]
        again = [chunk async for chunk in ScriptedTts().speak("other words", VOICE, 8000)]
        assert np.shares_memory(chunks[0].pcm, again[0].pcm)
        assert not any(chunk.pcm.flags.writeable for chunk in chunks)

    run(story())


def test_one_text_is_heard_in_every_utterance_of_every_call() -> None:
    async def story() -> None:
        stt = ScriptedStt("go on", final_ms=50)
        for stream in (stt.open(8000, "en"), stt.open(16000, "en")):
            for utterance in (1, 2, 3):
                stream.begin(utterance)
                stream.feed(utterance, FRAME)
                begin = now_ms()
                assert (await stream.finish(utterance)).text == "go on"
                assert now_ms() - begin == 50

    run(story())


def test_one_text_is_told_early_of_what_lasts_long_enough() -> None:
    async def story() -> None:
        stt = ScriptedStt("go on", partial_ms=300)
        stream = stt.open(8000, "en")
        assert isinstance(stream, EarlyStt)
        told: list[tuple[int, Heard, int]] = []
        begin = now_ms()
        stream.tell_early(lambda utterance, heard: told.append((utterance, heard, now_ms() - begin)))
        for utterance in (1, 2, 3):
            stream.begin(utterance)
        stream.drop(1)
        await asyncio.sleep(0.2)
        await stream.finish(2)
        stream.begin(2)
        await asyncio.sleep(1)
        stream.begin(4)
        stream.close()
        await asyncio.sleep(1)
        assert told == [(3, Heard("go on"), 300), (2, Heard("go on"), 500)]

    run(story())


@pytest.mark.parametrize("stt", [ScriptedStt("go on"), ScriptedStt(["go on"], partial_ms=10)])
def test_without_a_latency_or_one_text_nothing_is_told_early(stt: ScriptedStt) -> None:
    async def story() -> None:
        stream = stt.open(8000, "en")
        told: list[int] = []
        stream.tell_early(lambda utterance, heard: told.append(utterance))
        stream.begin(1)
        await asyncio.sleep(5)
        assert told == []

    run(story())


@pytest.mark.parametrize("good_chunks", [0, 2, 1000])
def test_a_voice_fails_in_the_sentence_that_the_script_says(good_chunks: int) -> None:
    async def story() -> None:
        tts = ScriptedTts(troubles={1: Fault.crashed}, good_chunks=good_chunks)
        whole = [chunk async for chunk in tts.speak("one two", VOICE, 8000)]
        given: list[Any] = []
        with pytest.raises(ProviderError) as caught:
            await drain(tts.speak("one two", VOICE, 8000), given)
        assert caught.value.fault == Fault.crashed
        assert len(given) == min(good_chunks, len(whole))
        assert len([chunk async for chunk in tts.speak("one two", VOICE, 8000)]) == len(whole)

    run(story())


def test_a_stalled_voice_is_remembered_as_cancelled() -> None:
    async def story() -> None:
        tts = ScriptedTts(troubles={0: STALL}, good_chunks=1)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(drain(tts.speak("one two", VOICE, 8000), []), 60)
        assert list(tts.cancelled) == ["one two"]

    run(story())


def test_a_recogniser_hears_the_script_after_its_latency() -> None:
    async def story() -> None:
        stt = ScriptedStt(["yes", Pause(500), Heard("no", 0.5), Fault.timeout], final_ms=40)
        stream = stt.open(8000, "en")
        begin = now_ms()
        for number, expected, at in ((1, Heard("yes"), 40), (3, Heard("no", 0.5), 580)):
            stream.begin(number)
            stream.feed(number, FRAME)
            assert await stream.finish(number) == expected
            assert now_ms() - begin == at
        stream.begin(4)
        stream.drop(4)
        stream.begin(5)
        with pytest.raises(ProviderError) as caught:
            await stream.finish(5)
        assert caught.value.fault == Fault.timeout
        stream.begin(6)
        assert await stream.finish(6) == Heard("")
        assert list(stream.dropped) == [4]

    run(story())


def test_a_recogniser_may_be_a_function_of_audio_and_expectation() -> None:
    def hear(pcm: Pcm, hearing: Hearing | None) -> str:
        return f"{pcm.size} {hearing.phrases[0] if hearing else ''}"

    async def story() -> None:
        stream = ScriptedStt(hear).open(8000, "en")
        stream.expect(Hearing("en", phrases=("help",)))
        stream.begin(1)
        stream.feed(1, FRAME)
        stream.feed(1, FRAME)
        assert (await stream.finish(1)).text == "320 help"

    run(story())
