"""Providers that do as they are told: the fakes that stand in for speech and models.

Latencies and faults are declared, and every wait is `asyncio.sleep`, so a virtual clock drives them exactly. A script
is a sequence of answers in which a `Fault` is raised, a `Pause` is waited, and `STALL` never ends.
"""

import asyncio
import functools
import itertools
import math
import re
from collections import deque
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from app.core.request import Hearing, Request
from app.ports import Fault, Heard, Mark, Part, Pcm, ProviderError, SpeechChunk, Words
from flows.model import Voice

WORDS_PER_S = 2.6
HUM_HZ = 140
HUM_PEAK = 6000
CHUNK_MS = 500  # the first one
MAX_CHUNK_MS = 2000  # each wakes the loop up, which should not weigh on what is measured
BLANK_MS = 20
MAX_TEXT_CHARS = 4000
MAX_REMEMBERED = 100
MAX_UTTERANCE_S = 60


@dataclass(frozen=True, slots=True)
class Pause:
    """Wait here before going on."""

    ms: float


STALL = Pause(math.inf)
"""Wait until cancelled."""

Line = Part | Fault | Pause
Said = str | Heard | Fault | Pause
Hear = Callable[[Pcm, Hearing | None], Said]


async def _wait(ms: float) -> None:
    if ms == math.inf:
        await asyncio.get_running_loop().create_future()
    elif ms > 0:
        await asyncio.sleep(ms / 1000)


# Text to speech


class ScriptedTts:
    """A hum, one swell a word. Sentences are counted from 0 over all calls.

    `speed` is seconds of audio made per second; `troubles` maps a sentence's number to what goes wrong in it after
    `good_chunks` chunks.
    """

    def __init__(
        self,
        *,
        first_ms: float = 0,
        speed: float = math.inf,
        troubles: Mapping[int, Fault | Pause] | None = None,
        good_chunks: int = 0,
    ) -> None:
        self._first_ms = first_ms
        self._speed = speed
        self._troubles = dict(troubles or {})
        self._good_chunks = good_chunks
        self._sentences = 0
        self.spoken: deque[str] = deque(maxlen=MAX_REMEMBERED)
        self.cancelled: deque[str] = deque(maxlen=MAX_REMEMBERED)

    async def start(self) -> None:
        pass

    async def stop(self) -> None:
        pass

    async def speak(self, text: str, voice: Voice, rate_hz: int) -> AsyncGenerator[SpeechChunk, None]:
        trouble = self._troubles.get(self._sentences)
        self._sentences += 1
        if len(text) > MAX_TEXT_CHARS:
            raise ProviderError(Fault.too_large, f"more than {MAX_TEXT_CHARS} characters")
        self.spoken.append(text)
        try:
            await _wait(self._first_ms)
            for index, chunk in enumerate(_hum(text, rate_hz, self._speed, WORDS_PER_S)):
                if trouble is not None and index == self._good_chunks:
                    await _suffer(trouble)
                if index:
                    await _wait(1000 * chunk.pcm.size / rate_hz / self._speed)
                yield chunk
            if trouble is not None and index < self._good_chunks:
                await _suffer(trouble)
        except (asyncio.CancelledError, GeneratorExit):
            self.cancelled.append(text)
            raise


async def _suffer(trouble: Fault | Pause) -> None:
    if isinstance(trouble, Pause):
        await _wait(trouble.ms)
    else:
        raise ProviderError(trouble, "scripted")


@functools.lru_cache(MAX_REMEMBERED)
def _hum(text: str, rate_hz: int, speed: float, words_per_s: float) -> tuple[SpeechChunk, ...]:
    """A chunk is as long as can be made while what came before it is played."""
    ends = [match.end() for match in re.finditer(r"\S+", text)]
    if not ends:
        blank = np.zeros(rate_hz * BLANK_MS // 1000, dtype=np.int16)
        return (SpeechChunk(blank, (Mark(len(text), blank.size),)),)
    ends[-1] = len(text)
    word, sound = _swells(rate_hz, words_per_s)
    least, most = rate_hz * CHUNK_MS // 1000, rate_hz * MAX_CHUNK_MS // 1000
    chunks = []
    start = said = 0
    while start < word * len(ends):
        size = max(least, int(min(most, (speed - 1) * start))) if start else least
        end = min(start + size, word * len(ends))
        marks = tuple(Mark(ends[at], (at + 1) * word) for at in range(said, end // word))
        chunks.append(SpeechChunk(sound[start % word : start % word + end - start], marks))
        start, said = end, end // word
    return tuple(chunks)


@functools.cache
def _swells(rate_hz: int, words_per_s: float) -> tuple[int, Pcm]:
    """Samples of a word, and a chunk's worth of words from any place in one: all sentences are views of it."""
    word = round(rate_hz / words_per_s)
    at = np.arange(word)
    swell = HUM_PEAK * np.sin(np.pi * at / word) * np.sin(2 * np.pi * HUM_HZ * at / rate_hz)
    sound = np.tile(swell.astype(np.int16), 2 + rate_hz * MAX_CHUNK_MS // 1000 // word)
    sound.flags.writeable = False
    return word, sound


# Speech to text


class ScriptedStt:
    """Hears what the script says: one text always, its lines in order for each call, or a function of the audio and
    what is expected.

    A line is used up when an utterance is finished; a `Pause` delays the line after it. After the last, "". Only a
    function has the audio kept for it. Where it is one text, it is told early as well, `partial_ms` after the
    utterance's beginning.
    """

    def __init__(
        self, script: str | Sequence[Said] | Hear = (), *, final_ms: float = 0, partial_ms: float = math.inf
    ) -> None:
        self._script = script
        self._final_ms = final_ms
        self._partial_ms = partial_ms
        self.streams: deque[ScriptedSttStream] = deque(maxlen=MAX_REMEMBERED)

    async def start(self) -> None:
        pass

    async def stop(self) -> None:
        for stream in self.streams:
            stream.close()

    def open(self, rate_hz: int, language: str) -> "ScriptedSttStream":
        stream = ScriptedSttStream(self._script, self._final_ms, self._partial_ms, rate_hz)
        self.streams.append(stream)
        return stream


class ScriptedSttStream:
    def __init__(self, script: str | Sequence[Said] | Hear, final_ms: float, partial_ms: float, rate_hz: int) -> None:
        self._hear = script if callable(script) else None
        self._lines = itertools.repeat(script) if isinstance(script, str) else iter(() if callable(script) else script)
        self._final_ms = final_ms
        self._partial = script if isinstance(script, str) and partial_ms < math.inf else ""
        self._partial_ms = partial_ms
        self._tell: Callable[[int, Heard], None] | None = None
        self._rate_hz = rate_hz
        self._open: dict[int, _Utterance] = {}
        self._pending: set[asyncio.Future[None]] = set()
        self._closed = False
        self.hearing: Hearing | None = None
        self.dropped: deque[int] = deque(maxlen=MAX_REMEMBERED)

    def expect(self, hearing: Hearing) -> None:
        self.hearing = hearing

    def tell_early(self, tell: Callable[[int, Heard], None]) -> None:
        self._tell = tell

    def begin(self, utterance: int) -> None:
        if self._closed:
            return
        heard = self._open[utterance] = _Utterance(self.hearing)
        if self._partial and self._tell is not None:
            asyncio.get_running_loop().call_later(self._partial_ms / 1000, self._say_early, utterance, heard)

    def feed(self, utterance: int, pcm: Pcm) -> None:
        heard = self._open.get(utterance)
        if heard is not None and heard.samples <= MAX_UTTERANCE_S * self._rate_hz:
            if self._hear is not None:
                heard.frames.append(pcm.copy())
            heard.samples += pcm.size

    async def finish(self, utterance: int) -> Heard:
        heard = self._open.pop(utterance, None)
        if heard is None:
            raise ProviderError(Fault.cut if self._closed else Fault.rejected, "no such utterance")
        if heard.samples > MAX_UTTERANCE_S * self._rate_hz:
            raise ProviderError(Fault.too_large, f"more than {MAX_UTTERANCE_S} s")
        await self._wait(self._final_ms)
        said = self._next(heard)
        while isinstance(said, Pause):
            await self._wait(said.ms)
            said = self._next(heard) if self._hear is None else ""
        if isinstance(said, Fault):
            raise ProviderError(said, "scripted")
        return Heard(said) if isinstance(said, str) else said

    def drop(self, utterance: int) -> None:
        if self._open.pop(utterance, None) is not None:
            self.dropped.append(utterance)

    def close(self) -> None:
        self._closed = True
        self._open.clear()
        for gate in self._pending:
            if not gate.done():
                gate.set_exception(ProviderError(Fault.cut, "closed"))

    def _say_early(self, utterance: int, heard: "_Utterance") -> None:
        if self._open.get(utterance) is heard and self._tell is not None:
            self._tell(utterance, Heard(self._partial))

    def _next(self, heard: "_Utterance") -> Said:
        if self._hear is None:
            return next(self._lines, "")
        pcm = np.concatenate(heard.frames) if heard.frames else np.zeros(0, dtype=np.int16)
        return self._hear(pcm, heard.hearing)

    async def _wait(self, ms: float) -> None:
        """A sleep that `close` ends with an error."""
        if ms <= 0:
            return
        loop = asyncio.get_running_loop()
        gate: asyncio.Future[None] = loop.create_future()
        alarm = None if ms == math.inf else loop.call_later(ms / 1000, _release, gate)
        self._pending.add(gate)
        try:
            await gate
        finally:
            self._pending.discard(gate)
            if alarm is not None:
                alarm.cancel()


def _release(gate: asyncio.Future[None]) -> None:
    if not gate.done():
        gate.set_result(None)


class _Utterance:
    __slots__ = ("frames", "hearing", "samples")

    def __init__(self, hearing: Hearing | None) -> None:
        self.hearing = hearing
        self.frames: list[Pcm] = []
        self.samples = 0


# Language models


@dataclass(slots=True)
class Asked:
    """What became of one request."""

    request: Request
    parts: int = 0  # given so far
    cancelled: bool = False  # closed or cancelled before the script's end
    ended: bool = False  # to the script's end
    fault: Fault | None = None


class ScriptedLlm:
    """Answers request k with the script's k-th sequence, or with what a function of the request returns.

    `first_ms` passes before the first part and `part_ms` before each one after it. A request past the script's end
    raises `Fault.broken`. `asked` remembers each request and how it ended.
    """

    def __init__(
        self,
        script: Sequence[Sequence[Line]] | Callable[[Request], Sequence[Line]] = (),
        *,
        first_ms: float = 0,
        part_ms: float = 0,
    ) -> None:
        self._script = script
        self._requests = 0
        self._first_ms = first_ms
        self._part_ms = part_ms
        self.asked: deque[Asked] = deque(maxlen=MAX_REMEMBERED)

    async def stop(self) -> None:
        pass

    async def reply(self, request: Request) -> AsyncGenerator[Part, None]:
        asked = Asked(request)
        self.asked.append(asked)
        lines = self._lines(request)
        try:
            await _wait(self._first_ms)
            for line in lines:
                if isinstance(line, Pause):
                    await _wait(line.ms)
                    continue
                if isinstance(line, Fault):
                    raise ProviderError(line, "scripted")
                if asked.parts:
                    await _wait(self._part_ms)
                asked.parts += 1
                yield line
            asked.ended = True
        except ProviderError as error:
            asked.fault = error.fault
            raise
        except (asyncio.CancelledError, GeneratorExit):
            asked.cancelled = True
            raise

    def _lines(self, request: Request) -> Sequence[Line]:
        number = self._requests
        self._requests += 1
        if callable(self._script):
            return self._script(request)
        return self._script[number] if number < len(self._script) else (Fault.broken,)


TALK = ("wo", "rd ", "wo", "rd ", "wo", "rd ", "word ", "wo", "rd ", "wo", "rd ", "wo", "rd ", "word. ")
"""A sentence of 8 words in 14 tokens, which is about what models make of words."""


def talker(tokens: int, *, first_ms: float, token_ms: float) -> ScriptedLlm:
    """Answers everything with so many tokens of talk.

    Between the first token and the next end of a sentence nobody waits for a token, so those in between come with the
    last one, when that is due: fewer timers, the same times.
    """
    lines: list[Line] = [Words(TALK[0])]
    for start in range(0, tokens, len(TALK)):
        some = TALK[: tokens - start]
        text = "".join(some if start else some[1:])
        if text:
            lines += [Pause((len(some) - (not start)) * token_ms), Words(text)]
    return ScriptedLlm(lambda request: lines, first_ms=first_ms)
