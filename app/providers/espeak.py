"""Text to speech by espeak-ng, in helper processes (`espeak_helper`): no key, no download, a robot's voice."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import suppress

import msgspec
import numpy as np

from app.ports import Fault, Mark, ProviderError, SpeechChunk
from app.providers.espeak_helper import AUDIO, CANCEL, DONE, SPEAK, Speak, plain
from app.providers.frames import Frame
from app.providers.process import Process
from flows.model import Voice

MAX_TEXT_CHARS = 2000
MAX_PENDING = 256
"""Sentences that wait in one helper."""
CHUNK_TIMEOUT_S = 10.0
MIN_RATE_HZ, MAX_RATE_HZ = 8000, 48_000
MIN_RATE_WPM, MAX_RATE_WPM = 80, 450

_audio = msgspec.msgpack.Decoder(tuple[list[tuple[int, int]], bytes])
_failed = msgspec.msgpack.Decoder(tuple[str, str])


class EspeakTts:
    """Voices are espeak's names with an optional variant: "en-us", "en-us+f3", "de". `Tts` in `ports` says the rest.

    One helper makes 300 seconds of speech a second, so it serves many calls; sentences are served in their order.
    Each sentence ends in 120 ms of silence.
    """

    def __init__(self, helpers: int = 1) -> None:
        assert helpers > 0
        self._helpers = [_Helper() for _ in range(helpers)]

    async def start(self) -> None:
        """Raises `ProviderError`, and leaves nothing running then."""
        try:
            for helper in self._helpers:
                await helper.process.start()
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        for helper in self._helpers:
            await helper.process.stop()
            helper.fail_all(Fault.cut, "stopped")

    def pids(self) -> list[int]:
        """Of the helpers; 0 for one that is down."""
        return [helper.process.pid for helper in self._helpers]

    async def speak(self, text: str, voice: Voice, rate_hz: int) -> AsyncGenerator[SpeechChunk, None]:
        if len(text) > MAX_TEXT_CHARS:
            raise ProviderError(Fault.too_large, f"more than {MAX_TEXT_CHARS} characters")
        if not MIN_RATE_HZ <= rate_hz <= MAX_RATE_HZ:
            raise ProviderError(Fault.rejected, f"a rate of {rate_hz} Hz")
        if not MIN_RATE_WPM <= voice.rate_wpm <= MAX_RATE_WPM:
            raise ProviderError(Fault.rejected, f"a rate of {voice.rate_wpm} words a minute")
        helper = min(self._helpers, key=lambda each: (not each.process.up, len(each.jobs)))
        number = helper.ask(Speak(plain(text), plain(voice.name), voice.rate_wpm, rate_hz))
        job = helper.jobs[number]
        try:
            while True:
                frame = await _next(helper, job)
                if frame.kind == DONE:
                    return
                if frame.kind != AUDIO:
                    fault, detail = _failed.decode(frame.body)
                    raise ProviderError(Fault(fault), detail)
                marks, pcm = _audio.decode(frame.body)
                yield SpeechChunk(
                    np.frombuffer(pcm, dtype=np.int16), tuple(Mark(chars, samples) for chars, samples in marks)
                )
        finally:
            helper.forget(number)


Job = asyncio.Queue[Frame | ProviderError]


async def _next(helper: "_Helper", job: Job) -> Frame:
    # Most of a sentence is there at once: no timer for what need not be waited for.
    if job.empty():
        before = helper.frames
        try:
            async with asyncio.timeout(CHUNK_TIMEOUT_S):
                item = await job.get()
        except TimeoutError:
            if helper.frames == before:
                helper.process.kill()
            raise ProviderError(Fault.timeout, "no speech came") from None
    else:
        item = job.get_nowait()
    if isinstance(item, ProviderError):
        raise item
    return item


class _Helper:
    """One process and the sentences that it owes. A queue is bounded by what one sentence may be."""

    def __init__(self) -> None:
        self.process = Process("app.providers.espeak_helper", self._receive, self._died)
        self.jobs: dict[int, Job] = {}
        self.frames = 0  # that ever came: a helper that sends nothing hangs
        self._numbers = 0

    def ask(self, ask: Speak) -> int:
        if len(self.jobs) >= MAX_PENDING:
            raise ProviderError(Fault.busy, "too many sentences wait")
        self._numbers = (self._numbers + 1) & 0xFFFF_FFFF
        self.process.send(SPEAK, self._numbers, msgspec.msgpack.encode(ask))
        self.jobs[self._numbers] = asyncio.Queue()
        return self._numbers

    def forget(self, number: int) -> None:
        """Cancel it unless it has ended."""
        job = self.jobs.pop(number, None)
        if job is not None and self.process.up:
            with suppress(ProviderError):  # a death that is reported to whom it concerns
                self.process.send(CANCEL, number)

    def fail_all(self, fault: Fault, detail: str) -> None:
        jobs, self.jobs = self.jobs, {}
        for job in jobs.values():
            job.put_nowait(ProviderError(fault, detail))

    def _receive(self, frame: Frame) -> None:
        self.frames += 1
        job = self.jobs.get(frame.number)
        if job is None:
            return
        if frame.kind != AUDIO:
            del self.jobs[frame.number]
        job.put_nowait(frame)

    def _died(self) -> None:
        self.fail_all(Fault.crashed, "the speech helper died")
