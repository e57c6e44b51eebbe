"""pocketsphinx behind its worker processes: what it rejects; a worker that dies, hangs or is orphaned."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from functools import cache, partial

import numpy as np
import pytest
import pytest_asyncio

from app.core.request import Hearing
from app.ports import Fault, Heard, Pcm, ProviderError
from app.providers import sphinx
from app.providers.espeak import EspeakTts
from app.providers.sphinx import SphinxStream, SphinxStt, unknown_words
from flows.model import Slot, SlotType, Voice
from tests.support.processes import running, until

pytestmark = [
    pytest.mark.skipif(not sphinx.available(), reason="pocketsphinx: no build for this Python"),
    pytest.mark.asyncio(loop_scope="module"),
]

WAIT_S = 30
HEAD = "#JSGF V1.0;\ngrammar g;\n"
DAYS = (
    HEAD
    + """public <g> = [<fix>] <day> [morning | afternoon] | yes | no | what are your opening hours;
<day> = monday | tuesday | wednesday | thursday | friday;
<fix> = no | no make it | actually;
"""
)
KNOWN = ("tuesday", "friday morning", "yes", "no make it friday", "what are your opening hours")
STRANGE = (
    "the weather is lovely today",
    "my mother has a broken leg",
    "how much does that cost",
    "i lost my keys on the train yesterday",
)


def given(hearing: Hearing) -> str:
    """Tests pass a grammar as the one phrase."""
    return hearing.phrases[0] if hearing.phrases else DAYS


async def _speak(texts: tuple[str, ...], rate_hz: int) -> dict[str, Pcm]:
    tts = EspeakTts()
    await tts.start()
    try:
        quiet = np.zeros(rate_hz * 300 // 1000, dtype=np.int16)
        spoken = {}
        for text in texts:
            parts = [chunk.pcm async for chunk in tts.speak(text, Voice("espeak", "en-us", 150), rate_hz)]
            half = (np.concatenate(parts).astype(np.int32) // 2).astype(np.int16)
            spoken[text] = np.concatenate((quiet, half, quiet))
        return spoken
    finally:
        await tts.stop()


@cache
def spoken(rate_hz: int) -> dict[str, Pcm]:
    with asyncio.Runner() as runner:
        return runner.run(_speak((*KNOWN, *STRANGE), rate_hz))


@pytest.fixture(scope="module")
def audio() -> dict[str, Pcm]:
    return spoken(16_000)


@pytest.fixture(scope="module")
def rates() -> dict[int, dict[str, Pcm]]:
    return {rate_hz: spoken(rate_hz) for rate_hz in sphinx.RATES_HZ}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stt() -> AsyncIterator[SphinxStt]:
    made = SphinxStt(1, given)
    await made.start()
    yield made
    await made.stop()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pair() -> AsyncIterator[SphinxStt]:
    made = SphinxStt(2, given)
    await made.start()
    yield made
    await made.stop()


def open_stream(stt: SphinxStt, rate_hz: int = 16_000, grammar: str = DAYS) -> SphinxStream:
    stream = stt.open(rate_hz, "en-US")
    stream.expect(Hearing("en", phrases=(grammar,)))
    return stream


def feed(stream: SphinxStream, utterance: int, pcm: Pcm, frame: int = 320) -> None:
    for start in range(0, pcm.size, frame):
        stream.feed(utterance, pcm[start : start + frame])


async def hear(stream: SphinxStream, pcm: Pcm, utterance: int = 1) -> Heard:
    stream.begin(utterance)
    feed(stream, utterance, pcm)
    async with asyncio.timeout(WAIT_S):
        return await stream.finish(utterance)


async def fault(stream: SphinxStream, utterance: int = 1) -> Fault:
    with pytest.raises(ProviderError) as caught:
        async with asyncio.timeout(WAIT_S):
            await stream.finish(utterance)
    return caught.value.fault


@pytest.mark.parametrize("rate_hz", [8000, 16_000, 24_000, 48_000])
async def test_known_words_are_heard_at_each_rate(
    stt: SphinxStt, rates: dict[int, dict[str, Pcm]], rate_hz: int
) -> None:
    stream = open_stream(stt, rate_hz)
    heard = [await hear(stream, pcm) for text, pcm in rates[rate_hz].items() if text in KNOWN]
    assert [each.text for each in heard] == list(KNOWN)
    assert all(each.confidence > 0.5 for each in heard)


async def test_words_are_told_before_the_end_while_their_utterance_is_open(
    stt: SphinxStt, audio: dict[str, Pcm]
) -> None:
    stream = open_stream(stt)
    early: list[tuple[int, Heard]] = []
    stream.tell_early(lambda utterance, heard: early.append((utterance, heard)))
    heard = await hear(stream, audio[KNOWN[0]], utterance=7)
    assert {utterance for utterance, _ in early} == {7}
    assert early[-1][1].text == heard.text == KNOWN[0]
    told = len(early)
    stream.begin(8)
    feed(stream, 8, audio[KNOWN[0]])
    stream.drop(8)
    assert await hear(stream, audio[KNOWN[0]], utterance=9)
    assert {utterance for utterance, _ in early[told:]} == {9}


@pytest.mark.parametrize("text", STRANGE)
async def test_speech_outside_the_grammar_is_rejected(stt: SphinxStt, audio: dict[str, Pcm], text: str) -> None:
    heard = await hear(open_stream(stt), audio[text])
    assert heard.text == ""
    assert heard.confidence < 0.5


@pytest.mark.parametrize("sound", ["silence", "white", "hum", "clicks", "full scale", "key"])
async def test_noise_is_rejected(stt: SphinxStt, sound: str) -> None:
    time = np.arange(16_000) / 16_000
    sounds = {
        "silence": np.zeros(16_000),
        "white": np.random.default_rng(0).normal(0, 2000, 16_000),
        "hum": 6000 * np.sin(2 * np.pi * 100 * time),
        "clicks": np.where(np.arange(16_000) % 4000 == 0, 20_000, 0),
        "full scale": np.where(np.arange(16_000) % 2 == 0, 32_767, -32_768),
        "key": 6000 * (np.sin(2 * np.pi * 770 * time) + np.sin(2 * np.pi * 1336 * time)),
    }
    assert (await hear(open_stream(stt), sounds[sound].astype(np.int16))).text == ""


async def test_a_word_that_the_dictionary_lacks_costs_only_its_own_alternatives(
    stt: SphinxStt, audio: dict[str, Pcm]
) -> None:
    grammar = HEAD + "public <g> = (zorkmid | tuesday) | friday morning zorkmid | friday morning;"
    stream = open_stream(stt, grammar=grammar)
    assert (await hear(stream, audio["tuesday"])).text == "tuesday"
    assert (await hear(stream, audio["friday morning"])).text == "friday morning"


@pytest.mark.parametrize(
    "grammar", ["", "no grammar at all", HEAD + "public <g> = (yes;", HEAD + "public <g> = ;", HEAD + "x" * 99_999]
)
async def test_a_grammar_that_cannot_be_used_is_a_typed_error(
    stt: SphinxStt, audio: dict[str, Pcm], grammar: str
) -> None:
    stream = open_stream(stt, grammar=grammar)
    pid = stt.pids()
    stream.begin(1)
    feed(stream, 1, audio["yes"])
    assert await fault(stream) == Fault.rejected
    stream.expect(Hearing("en", phrases=(DAYS,)))
    assert (await hear(stream, audio["yes"], 2)).text == "yes"
    assert stt.pids() == pid


async def test_a_grammar_that_says_nothing_rejects_everything(stt: SphinxStt, audio: dict[str, Pcm]) -> None:
    assert (await hear(open_stream(stt, grammar=HEAD + "public <g> = zorkmid;"), audio["yes"])).text == ""


async def test_other_languages_and_rates_are_rejected(stt: SphinxStt) -> None:
    for rate_hz, language in ((16_000, "de"), (11_025, "en"), (0, "en")):
        with pytest.raises(ProviderError) as caught:
            stt.open(rate_hz, language)
        assert caught.value.fault == Fault.rejected


async def test_without_pocketsphinx_there_is_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sphinx, "available", lambda: False)
    stt = SphinxStt(1, given)
    with pytest.raises(ProviderError, match="pocketsphinx is not installed"):
        await stt.start()
    with pytest.raises(ProviderError, match="pocketsphinx is not installed"):
        stt.open(16_000, "en")
    assert unknown_words(["zorkmid"]) == ()


async def test_digits_must_fit_better(stt: SphinxStt) -> None:
    stream = stt.open(16_000, "en")
    stream.expect(Hearing("en", slots=(Slot("n", SlotType.digits),)))
    digits = stream._floor
    stream.expect(Hearing("en", slots=(Slot("d", SlotType.weekday), Slot("n", SlotType.digits))))
    assert digits > stream._floor


async def test_a_worker_that_dies_fails_its_utterances_only(pair: SphinxStt, audio: dict[str, Pcm]) -> None:
    first, second = open_stream(pair), open_stream(pair)
    for stream in (first, second):
        stream.begin(1)
        feed(stream, 1, audio["tuesday"])
    victim, other = pair.pids()
    os.kill(victim, signal.SIGKILL)
    assert await fault(first) == Fault.crashed
    assert (await second.finish(1)).text == "tuesday"
    assert (await hear(first, audio["yes"], 2)).text == "yes"
    assert pair.pids()[1] == other
    assert pair.pids()[0] not in (0, victim)
    await until(lambda: not running(victim))


async def test_a_worker_that_dies_while_it_decides(stt: SphinxStt, audio: dict[str, Pcm]) -> None:
    stream = open_stream(stt)
    stream.begin(1)
    feed(stream, 1, audio["what are your opening hours"])
    os.kill(stt.pids()[0], signal.SIGSTOP)
    async with asyncio.TaskGroup() as tasks:
        finishing = tasks.create_task(fault(stream))
        await asyncio.sleep(0)
        os.kill(stt.pids()[0], signal.SIGKILL)
    assert finishing.result() == Fault.crashed
    assert (await hear(stream, audio["yes"], 2)).text == "yes"


async def test_a_worker_that_hangs_is_replaced(
    stt: SphinxStt, audio: dict[str, Pcm], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sphinx, "FINISH_TIMEOUT_S", 0.2)
    stream = open_stream(stt)
    hanging = stt.pids()[0]
    os.kill(hanging, signal.SIGSTOP)
    stream.begin(1)
    feed(stream, 1, audio["yes"])
    assert await fault(stream) == Fault.timeout
    monkeypatch.setattr(sphinx, "FINISH_TIMEOUT_S", WAIT_S)
    assert (await hear(stream, audio["yes"], 2)).text == "yes"
    await until(lambda: not running(hanging))


async def test_feeding_a_hanging_worker_never_blocks(stt: SphinxStt, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sphinx, "MAX_UTTERANCE_S", 3600)
    stream = open_stream(stt)
    hanging = stt.pids()[0]
    os.kill(hanging, signal.SIGSTOP)
    stream.begin(1)
    minute = np.zeros(16_000 * 10, dtype=np.int16)
    for _ in range(20):
        stream.feed(1, minute)
    assert await fault(stream) == Fault.crashed
    await until(lambda: not running(hanging))


async def test_more_speakers_than_the_limit_are_refused(stt: SphinxStt, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sphinx, "MAX_UTTERANCES", 2)
    streams = [open_stream(stt) for _ in range(3)]
    for stream in streams:
        stream.begin(1)
    assert await fault(streams[2]) == Fault.busy
    streams[0].drop(1)
    streams[2].begin(2)
    assert (await streams[2].finish(2)).text == ""


async def test_utterances_are_spread_over_workers(pair: SphinxStt) -> None:
    streams = [open_stream(pair) for _ in range(4)]
    for stream in streams:
        stream.begin(1)
    assert [len(worker.open) for worker in pair._workers] == [2, 2]
    for stream in streams:
        stream.close()
    assert [len(worker.open) for worker in pair._workers] == [0, 0]


async def test_stopping_ends_the_workers(stt: SphinxStt) -> None:
    pid = stt.pids()[0]
    await stt.stop()
    assert not running(pid)
    stream = stt.open(16_000, "en")
    stream.expect(Hearing("en"))
    stream.begin(1)
    assert await fault(stream) == Fault.crashed
    await stt.start()
    stream.begin(2)
    assert (await stream.finish(2)).text == ""


PARENT = """
import asyncio
import numpy as np
from app.core.request import Hearing
from app.providers.sphinx import SphinxStt

async def main():
    stt = SphinxStt(2, lambda hearing: "#JSGF V1.0; grammar g; public <g> = yes | no;")
    await stt.start()
    stream = stt.open(16000, "en")
    stream.expect(Hearing("en"))
    stream.begin(1)
    stream.feed(1, np.zeros(16000 * 5, dtype=np.int16))
    print(*stt.pids(), flush=True)
    await asyncio.sleep(3600)

asyncio.run(main())
"""


def orphan(script: str) -> list[int]:
    """Run a server until it prints its workers' ids, kill it, and return them."""
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as parent:
        try:
            assert parent.stdout is not None
            pids = [int(pid) for pid in parent.stdout.readline().split()]
            assert all(running(pid) for pid in pids)
            return pids
        finally:
            parent.kill()


async def test_workers_end_when_the_server_is_killed() -> None:
    pids = orphan(PARENT)
    assert len(pids) == 2
    for pid in pids:
        await until(partial(lambda each: not running(each), pid))
