"""espeak-ng behind its helper process: marks, voices, and what happens when the helper dies, hangs or is orphaned."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import aclosing
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import pytest_asyncio

from app.ports import Fault, Mark, Pcm, ProviderError
from app.providers import espeak
from app.providers.espeak import EspeakTts
from app.providers.espeak_helper import PAUSE_MS
from app.providers.process import Process
from flows.model import Voice
from tests.support.processes import running, until

VOICE = Voice("espeak", "en-us+f3", 170)
LONG = "we open at nine and close at five " * 50
WAIT_S = 20


pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def tts() -> AsyncIterator[EspeakTts]:
    made = EspeakTts()
    await made.start()
    yield made
    await made.stop()


async def say(tts: EspeakTts, text: str, voice: Voice = VOICE, rate_hz: int = 8000) -> tuple[Pcm, list[Mark]]:
    async with asyncio.timeout(WAIT_S):
        chunks = [chunk async for chunk in tts.speak(text, voice, rate_hz)]
    return np.concatenate([chunk.pcm for chunk in chunks]), [mark for chunk in chunks for mark in chunk.marks]


async def fault(tts: EspeakTts, text: str, voice: Voice = VOICE, rate_hz: int = 8000) -> Fault:
    with pytest.raises(ProviderError) as caught:
        await say(tts, text, voice, rate_hz)
    return caught.value.fault


def changed(tts: EspeakTts, pid: int) -> bool:
    return tts.pids()[0] != pid


async def drain(chunks: AsyncIterator[object]) -> None:
    async for _ in chunks:
        pass


def environment(pid: int) -> str:
    shown = subprocess.run(["ps", "eww", "-p", str(pid)], capture_output=True, text=True, check=False).stdout
    proc = Path(f"/proc/{pid}/environ")
    return shown + (proc.read_text() if proc.exists() else "")


def orphan(script: str) -> list[int]:
    """Run a server until it prints its helpers' ids, kill it, and return them."""
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as parent:
        try:
            assert parent.stdout is not None
            pids = [int(pid) for pid in parent.stdout.readline().split()]
            assert all(running(pid) for pid in pids)
            return pids
        finally:
            parent.kill()


@pytest.mark.parametrize("name", ["en", "en-us", "en-us+f3", "en-us+m3", "de", "es", "cmn"])
async def test_voices_speak(tts: EspeakTts, name: str) -> None:
    pcm, _ = await say(tts, "12", Voice("espeak", name, 170))
    assert np.abs(pcm.astype(np.int32)).max() > 1000


@pytest.mark.parametrize(
    "name", ["", "nobody", "en-us+nobody", "en-us+", "../../etc", "en us", "en-us+f3\0", "x" * 999]
)
async def test_an_unknown_voice_is_rejected(tts: EspeakTts, name: str) -> None:
    assert await fault(tts, "hello", Voice("espeak", name, 170)) == Fault.rejected
    await say(tts, "hello")


@pytest.mark.parametrize(("wpm", "rate_hz"), [(0, 8000), (10_000, 8000), (170, 0), (170, 1_000_000), (170, -8000)])
async def test_an_impossible_rate_is_rejected(tts: EspeakTts, wpm: int, rate_hz: int) -> None:
    assert await fault(tts, "hello", Voice("espeak", "en-us", wpm), rate_hz) == Fault.rejected
    await say(tts, "hello")


async def test_a_faster_voice_takes_less_time(tts: EspeakTts) -> None:
    slow, _ = await say(tts, "What day would you like?", Voice("espeak", "en-us", 120))
    fast, _ = await say(tts, "What day would you like?", Voice("espeak", "en-us", 240))
    assert fast.size < 0.7 * slow.size


async def test_a_sentence_ends_in_the_pause_and_its_last_mark_comes_before(tts: EspeakTts) -> None:
    pcm, marks = await say(tts, "What day would you like?")
    pause = 8000 * PAUSE_MS // 1000
    assert marks[-1].samples == pytest.approx(pcm.size - pause, abs=8)
    assert np.abs(pcm[-pause + 80 :].astype(np.int32)).max() < 200
    assert np.abs(pcm[: 8000 * 60 // 1000].astype(np.int32)).max() > 100, "it begins at once"


async def test_more_speech_than_the_limit_is_an_error(tts: EspeakTts) -> None:
    assert await fault(tts, "9, " * (espeak.MAX_TEXT_CHARS // 3), Voice("espeak", "en-us", 80)) == Fault.too_large
    await say(tts, "hello")


async def test_closing_stops_the_work(tts: EspeakTts) -> None:
    helper = tts._helpers[0]
    await say(tts, LONG, rate_hz=48_000)
    whole = helper.frames
    async with aclosing(tts.speak(LONG, VOICE, 48_000)) as chunks:
        await anext(chunks)
    await say(tts, "hello")
    assert helper.frames - whole < whole / 2
    assert not helper.jobs


async def test_too_many_sentences_are_refused(tts: EspeakTts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(espeak, "MAX_PENDING", 1)
    async with aclosing(tts.speak(LONG, VOICE, 8000)) as chunks:
        await anext(chunks)
        assert await fault(tts, "hello") == Fault.busy
    await say(tts, "hello")


async def test_a_helper_that_dies_fails_its_sentences_and_the_next_works(tts: EspeakTts) -> None:
    first = tts.pids()[0]
    async with aclosing(tts.speak(LONG, VOICE, 48_000)) as chunks:
        await anext(chunks)
        os.kill(first, signal.SIGKILL)
        with pytest.raises(ProviderError) as caught:
            await drain(chunks)
    assert caught.value.fault == Fault.crashed
    await say(tts, "hello")
    assert tts.pids()[0] not in (0, first)
    await until(lambda: not running(first))


async def test_a_helper_that_hangs_is_replaced(tts: EspeakTts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(espeak, "CHUNK_TIMEOUT_S", 0.2)
    first = tts.pids()[0]
    os.kill(first, signal.SIGSTOP)
    assert await fault(tts, "hello") == Fault.timeout
    monkeypatch.setattr(espeak, "CHUNK_TIMEOUT_S", WAIT_S)
    await say(tts, "hello")
    await until(lambda: not running(first))


async def test_a_helper_that_keeps_dying_is_restarted_ever_later(tts: EspeakTts) -> None:
    for _ in range(2):  # without work between them
        pid = tts.pids()[0]
        os.kill(pid, signal.SIGKILL)
        await until(partial(changed, tts, pid))
    assert tts.pids() == [0]
    assert await fault(tts, "hello") == Fault.crashed
    await until(lambda: tts.pids() != [0])
    await say(tts, "hello")


async def test_other_helpers_are_not_disturbed() -> None:
    tts = EspeakTts(2)
    await tts.start()
    try:
        victim, other = tts.pids()
        async with aclosing(tts.speak(LONG, VOICE, 8000)) as chunks:
            await anext(chunks)  # the first helper's
            text = "hello there"
            marks: list[Mark] = []
            async with aclosing(tts.speak(text, VOICE, 8000)) as others:
                marks += (await anext(others)).marks
                os.kill(victim, signal.SIGKILL)
                async for chunk in others:
                    marks += chunk.marks
        assert marks[-1].chars == len(text)
        assert tts.pids()[1] == other
    finally:
        await tts.stop()


async def test_a_helper_that_cannot_start_is_a_typed_error(monkeypatch: pytest.MonkeyPatch) -> None:
    tts = EspeakTts()
    monkeypatch.setattr(tts._helpers[0].process, "_module", "app.providers.no_such_helper")
    with pytest.raises(ProviderError) as caught:
        await tts.start()
    assert caught.value.fault == Fault.crashed
    assert tts.pids() == [0]
    assert await fault(tts, "hello") == Fault.crashed
    await tts.stop()


async def test_stopping_ends_the_helper_and_what_it_owed(tts: EspeakTts) -> None:
    pid = tts.pids()[0]
    async with aclosing(tts.speak(LONG, VOICE, 8000)) as chunks:
        await anext(chunks)
        await tts.stop()
        with pytest.raises(ProviderError) as caught:
            await drain(chunks)
    assert caught.value.fault == Fault.cut
    assert not running(pid)
    await tts.stop()
    await tts.start()
    await say(tts, "hello")


async def test_helpers_do_not_get_the_servers_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VOICEGATE_TEST_SECRET", "s3cr3t")
    tts = EspeakTts()
    await tts.start()
    try:
        shown = environment(tts.pids()[0])
        assert "espeak_helper" in shown
        assert "s3cr3t" not in shown
    finally:
        await tts.stop()


PARENT = """
import asyncio
from app.providers.espeak import EspeakTts
from flows.model import Voice

async def main():
    tts = EspeakTts(2)
    await tts.start()
    speech = tts.speak("we open at nine " * 100, Voice(), 48000)
    await anext(speech)
    print(*tts.pids(), flush=True)
    await asyncio.sleep(3600)

asyncio.run(main())
"""


async def test_helpers_end_when_the_server_is_killed() -> None:
    pids = orphan(PARENT)
    assert len(pids) == 2
    await until(lambda: not any(running(pid) for pid in pids))


def stuff(process: Process) -> None:
    for _ in range(100):
        process.send(99, 1, bytes(100_000))


async def test_a_helper_that_does_not_read_is_replaced_and_never_blocks(tts: EspeakTts) -> None:
    process = tts._helpers[0].process
    os.kill(tts.pids()[0], signal.SIGSTOP)
    with pytest.raises(ProviderError) as caught:
        stuff(process)
    assert caught.value.fault == Fault.crashed
    await say(tts, "hello")
