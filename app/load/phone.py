"""A telephone that code talks into: for a caller who decides by what was heard, as no scenario can."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import numpy as np
from msgspec import Struct, field

from app.load.clock import Clock
from app.load.ear import Ear
from app.load.line import FRAME_S, Line, Trouble
from app.load.measure import Act, Judge, Kind
from app.load.plain import PlainLine
from app.load.results import CallResult, What
from media.audio import FULL_SCALE, Pcm, frame_samples

AUDIBLE_PEAK: Final = 250  # of 32,768: a frame of ours that is softer counts as silence
ROOM_NOISE_SIGMA: Final = 12.0  # a real line is never digitally silent
DIGIT_MS: Final = 100


class Caption(Struct, frozen=True):
    at_s: float
    text: str


class Heard(Struct):
    """What was told. Times are `perf_counter` seconds, as everywhere here."""

    captions: list[Caption] = field(default_factory=list)
    cause: str = ""
    outcome: str = ""
    error: str = ""


class Phone:
    """Use `dial`. Everything is on one loop."""

    def __init__(self, line: Line, clock: Clock) -> None:
        self.heard = Heard()
        self.over = asyncio.Event()
        self.rate_hz = line.codec.rate_hz
        self.ear = Ear(line.codec, tells_clears=line.clears)
        self._line = line
        self._result = CallResult(0, "phone", 0.0)
        self._judge = Judge(self._result, self.ear, clock.was_late, time.perf_counter())
        self._act: Act | None = None
        self._size = frame_samples(self.rate_hz)
        self._outgoing: Pcm = np.zeros(0, dtype=np.int16)
        self._spoken = asyncio.Event()
        self._changed = asyncio.Event()
        self._rng = np.random.default_rng(7)

    # What the caller does

    async def say(self, pcm: Pcm, *, interrupting: bool = False) -> None:
        """Speak; returns when the last frame has left, or the call is over."""
        self._begin(Kind.interrupt if interrupting else Kind.say)
        self._outgoing = pcm
        self._spoken.clear()
        if not self.over.is_set():
            await self._spoken.wait()

    async def key(self, digits: str, *, gap_ms: int = 180) -> None:
        act = self._begin(Kind.digits)
        for digit in digits:
            act.end_s = time.perf_counter()
            act.onset_s = act.onset_s or act.end_s
            self._line.digit(digit, DIGIT_MS)
            await asyncio.sleep(gap_ms / 1000)

    async def hang_up(self) -> None:
        self._end()
        await self._line.hang_up()

    def _begin(self, kind: Kind) -> Act:
        self._judge.settle(self._act, time.perf_counter())
        self._act = Act(kind)
        return self._act

    def _end(self) -> None:
        self.over.set()
        self._spoken.set()
        self._changed.set()

    # What the caller notices

    def quiet_for(self) -> float:
        """Seconds since the agent was last audible."""
        return time.perf_counter() - self.ear.last_end_s

    @property
    def last_audible_s(self) -> float:
        return self.ear.last_end_s

    async def changed(self, timeout_s: float) -> None:
        """Returns when something was heard, or after the timeout."""
        self._changed.clear()
        try:
            async with asyncio.timeout(timeout_s):
                await self._changed.wait()
        except TimeoutError:
            pass

    # What it was like

    def measured(self, what: What) -> list[int]:
        """In milliseconds; of the latest thing done, once the next was begun or the call is over."""
        if self.over.is_set():
            self._judge.settle(self._act, time.perf_counter())
            self._act = None
        return [round(one.ms) for one in self._result.measures if one.what is what]

    # Every 20 ms

    def frame(self, now_s: float) -> None:
        frame, self._outgoing = self._outgoing[: self._size], self._outgoing[self._size :]
        if len(frame) and self._act is not None and int(np.abs(frame.astype(np.int32)).max()) >= AUDIBLE_PEAK:
            self._act.onset_s = self._act.onset_s or now_s
            self._act.end_s = now_s + FRAME_S
        room = self._rng.normal(0, ROOM_NOISE_SIGMA, self._size)
        room[: len(frame)] += frame
        self._line.send(self._line.codec.encode(np.clip(room, -FULL_SCALE, FULL_SCALE - 1).astype(np.int16)))
        if not len(self._outgoing):
            self._spoken.set()

    # What the line tells

    def audio(self, payload: bytes, at_s: float, media_s: float | None) -> None:
        self.ear.audio(payload, at_s, media_s)
        self._changed.set()

    def cleared(self, at_s: float) -> None:
        self.ear.clear(at_s)

    def caption(self, who: str, text: str) -> None:
        self.heard.captions.append(Caption(time.perf_counter(), text))
        self._changed.set()

    def ended(self, cause: str, outcome: str) -> None:
        self.heard.cause, self.heard.outcome = cause, outcome
        self._end()

    def failed(self, kind: Trouble) -> None:
        self.heard.error = kind
        self._end()


@asynccontextmanager
async def dial(url: str, rate_hz: int = 16000, *, caller: str = "") -> AsyncIterator[Phone]:
    """A phone in a call on the plain protocol. Raises `Refused` and `LineError`."""
    clock = Clock()
    line = PlainLine(url, rate_hz=rate_hz, caller=caller)
    phone = Phone(line, clock)
    await line.connect(phone)
    clock.add(phone)
    async with asyncio.TaskGroup() as group:
        ticking = group.create_task(clock.run())
        try:
            yield phone
        finally:
            ticking.cancel()
            await phone.hang_up()
