"""What every recogniser behind the `Stt` port keeps to: pocketsphinx, and the scripted fake."""

import asyncio
from collections.abc import AsyncIterator
from functools import cache

import numpy as np
import pytest
import pytest_asyncio

from app.core.request import Hearing
from app.ports import Fault, Heard, Pcm, ProviderError, Stt, SttStream
from app.providers import scripted, sphinx
from app.providers.espeak import EspeakTts
from app.providers.scripted import ScriptedStt
from app.providers.sphinx import SphinxStt
from flows.model import Voice

pytestmark = pytest.mark.asyncio(loop_scope="module")

RATE_HZ = 16_000
FRAME = RATE_HZ // 50
WAIT_S = 30
PHRASES = ("tuesday", "friday morning", "yes", "what are your opening hours")
DAYS = Hearing("en", phrases=PHRASES)
FRUIT = Hearing("en", phrases=("apple", "banana"))
SILENCE = np.zeros(FRAME, dtype=np.int16)


def grammar(hearing: Hearing) -> str:
    return f"#JSGF V1.0; grammar g; public <g> = {' | '.join(hearing.phrases)};"


async def _speak(texts: tuple[str, ...]) -> dict[str, Pcm]:
    tts = EspeakTts()
    await tts.start()
    try:
        spoken = {}
        for text in texts:
            parts = [chunk.pcm async for chunk in tts.speak(text, Voice(name="en-us", rate_wpm=150), RATE_HZ)]
            half = (np.concatenate(parts).astype(np.int32) // 2).astype(np.int16)
            spoken[text] = np.concatenate((np.tile(SILENCE, 10), half, np.tile(SILENCE, 10)))
        return spoken
    finally:
        await tts.stop()


@cache
def spoken() -> dict[str, Pcm]:
    with asyncio.Runner() as runner:
        return runner.run(_speak((*PHRASES, *FRUIT.phrases)))


@pytest.fixture(scope="module")
def audio() -> dict[str, Pcm]:
    return spoken()


@pytest_asyncio.fixture(
    params=[
        "scripted",
        pytest.param(
            "sphinx", marks=pytest.mark.skipif(not sphinx.available(), reason="pocketsphinx: no build for this Python")
        ),
    ],
    scope="module",
    loop_scope="module",
)
async def stt(request: pytest.FixtureRequest, audio: dict[str, Pcm]) -> AsyncIterator[Stt]:
    def recognise(pcm: Pcm, hearing: Hearing | None) -> str:
        said = next((text for text, sound in audio.items() if pcm.tobytes() == sound.tobytes()), "")
        return said if hearing is not None and said in hearing.phrases else ""

    made: Stt = ScriptedStt(recognise, final_ms=20) if request.param == "scripted" else SphinxStt(1, grammar)
    await made.start()
    yield made
    await made.stop()


@pytest.fixture
def stream(stt: Stt) -> SttStream:
    opened = stt.open(RATE_HZ, "en")
    opened.expect(DAYS)
    return opened


def feed(stream: SttStream, utterance: int, pcm: Pcm) -> None:
    for start in range(0, pcm.size, FRAME):
        stream.feed(utterance, pcm[start : start + FRAME])


async def hear(stream: SttStream, utterance: int, pcm: Pcm) -> str:
    stream.begin(utterance)
    feed(stream, utterance, pcm)
    async with asyncio.timeout(WAIT_S):
        return (await stream.finish(utterance)).text


async def fault(stream: SttStream, utterance: int) -> Fault:
    with pytest.raises(ProviderError) as caught:
        async with asyncio.timeout(WAIT_S):
            await stream.finish(utterance)
    return caught.value.fault


async def test_it_hears_what_was_said(stream: SttStream, audio: dict[str, Pcm]) -> None:
    for number, phrase in enumerate(PHRASES, 1):
        assert await hear(stream, number, audio[phrase]) == phrase


async def test_confidence_is_a_share(stream: SttStream, audio: dict[str, Pcm]) -> None:
    stream.begin(1)
    feed(stream, 1, audio["tuesday"])
    heard = await stream.finish(1)
    assert isinstance(heard, Heard)
    assert 0 <= heard.confidence <= 1


async def test_an_utterance_without_sound_is_not_understood(stream: SttStream) -> None:
    assert await hear(stream, 1, np.zeros(0, dtype=np.int16)) == ""
    assert await hear(stream, 2, np.tile(SILENCE, 20)) == ""


async def test_an_utterance_is_finished_once(stream: SttStream, audio: dict[str, Pcm]) -> None:
    assert await hear(stream, 1, audio["yes"]) == "yes"
    assert await fault(stream, 1) == Fault.rejected
    assert await hear(stream, 2, audio["yes"]) == "yes"


async def test_an_utterance_that_never_began_is_a_typed_error(stream: SttStream) -> None:
    stream.feed(9, SILENCE)
    stream.drop(9)
    assert await fault(stream, 9) == Fault.rejected


async def test_what_is_dropped_is_forgotten(stream: SttStream, audio: dict[str, Pcm]) -> None:
    stream.begin(1)
    feed(stream, 1, audio["yes"])
    stream.drop(1)
    stream.drop(1)
    stream.feed(1, SILENCE)
    assert await fault(stream, 1) == Fault.rejected
    assert await hear(stream, 2, audio["tuesday"]) == "tuesday"


async def test_two_utterances_of_a_call_may_be_open(stream: SttStream, audio: dict[str, Pcm]) -> None:
    for number, phrase in ((1, "yes"), (2, "tuesday")):
        stream.begin(number)
        feed(stream, number, audio[phrase])
    assert (await stream.finish(2)).text == "tuesday"
    assert (await stream.finish(1)).text == "yes"


async def test_what_is_expected_changes_with_the_next_utterance(stream: SttStream, audio: dict[str, Pcm]) -> None:
    stream.begin(1)
    stream.expect(FRUIT)
    feed(stream, 1, audio["tuesday"])
    assert (await stream.finish(1)).text == "tuesday"
    assert await hear(stream, 2, audio["banana"]) == "banana"


async def test_cancelling_forgets_the_utterance(stream: SttStream, audio: dict[str, Pcm]) -> None:
    stream.begin(1)
    feed(stream, 1, audio["friday morning"])
    async with asyncio.TaskGroup() as tasks:
        finishing = tasks.create_task(stream.finish(1))
        await asyncio.sleep(0)
        finishing.cancel()
    assert finishing.cancelled()
    assert await fault(stream, 1) == Fault.rejected
    assert await hear(stream, 2, audio["yes"]) == "yes"


async def test_closing_ends_what_is_pending(stream: SttStream, audio: dict[str, Pcm]) -> None:
    stream.begin(1)
    feed(stream, 1, audio["friday morning"])
    stream.begin(2)
    async with asyncio.TaskGroup() as tasks:
        finishing = tasks.create_task(fault(stream, 1))
        await asyncio.sleep(0)
        stream.close()
    assert finishing.result() == Fault.cut
    assert await fault(stream, 2) == Fault.cut
    stream.close()
    stream.begin(3)
    stream.feed(3, SILENCE)
    stream.drop(3)
    stream.begin(4)
    assert await fault(stream, 4) == Fault.cut


async def test_calls_at_once_do_not_mix(stt: Stt, audio: dict[str, Pcm]) -> None:
    streams = [stt.open(RATE_HZ, "en") for _ in range(6)]
    said = [PHRASES[index % len(PHRASES)] for index in range(len(streams))]
    for stream in streams:
        stream.expect(DAYS)
        stream.begin(1)
    for start in range(0, max(pcm.size for pcm in audio.values()), FRAME):
        for stream, phrase in zip(streams, said, strict=True):
            if start < audio[phrase].size:
                stream.feed(1, audio[phrase][start : start + FRAME])
    streams[0].close()
    async with asyncio.timeout(WAIT_S), asyncio.TaskGroup() as tasks:
        finishing = [tasks.create_task(stream.finish(1)) for stream in streams[1:]]
    assert [task.result().text for task in finishing] == said[1:]


async def test_an_utterance_over_the_limit_is_a_typed_error(
    stream: SttStream, audio: dict[str, Pcm], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sphinx, "MAX_UTTERANCE_S", 2)
    monkeypatch.setattr(scripted, "MAX_UTTERANCE_S", 2)
    stream.begin(1)
    for _ in range(2 * 50 + 1):
        stream.feed(1, SILENCE)
    assert await fault(stream, 1) == Fault.too_large
    assert await hear(stream, 2, audio["yes"]) == "yes"


async def test_stopping_ends_what_is_pending(stt: Stt, stream: SttStream, audio: dict[str, Pcm]) -> None:
    stream.begin(1)
    feed(stream, 1, audio["friday morning"])
    async with asyncio.TaskGroup() as tasks:
        finishing = tasks.create_task(fault(stream, 1))
        await asyncio.sleep(0)
        await stt.stop()
    assert finishing.result() == Fault.cut
    await stt.start()
    again = stt.open(RATE_HZ, "en")
    again.expect(DAYS)
    assert await hear(again, 1, audio["yes"]) == "yes"
