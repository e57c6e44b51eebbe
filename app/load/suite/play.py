"""Plays moments to a server in real time, each in a call of its own, many at once, and listens to what comes of it."""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final

import numpy as np
from msgspec import Struct

from app.load.line import FRAME_S, Line, LineError, Refused, Trouble
from app.load.suite.judge import AFTER_S, ANSWER_S, STOP_S, YIELD_S, Finding, History, Played, judge
from app.load.suite.moment import Moment, Right, Scene, Wire
from app.load.suite.render import Renderer, Span, frames, mixed
from media.audio import FULL_SCALE

CALLS: Final = 30
"""At once: so the suite takes three minutes."""

SLOTS: Final = 20
"""Callers are spread over the 20 ms of a frame."""

OWN_S: Final = 0.02
"""A tester whose clock was later than this spoiled what it measured."""

AUDIBLE: Final = FULL_SCALE * 10 ** (-45 / 20)
HOLE_S: Final = 0.03  # without a frame to play
START_S: Final = 15.0  # for the agent to speak, or to have asked
SETTLE_S: Final = 0.3

LineMaker = Callable[[Scene, Wire], Line]
"""Makes the line of a call that the flow of the scene answers."""


class Outcome(Struct):
    """One moment as it was found. `own`: the tester was late, and `finding` says nothing of the server."""

    moment: Moment
    finding: Finding | None = None
    call: str = ""  # the server's name for it
    error: str = ""
    own: bool = False
    captions: list[str] = []


class _Ear:
    """The telephone: plays what comes, one frame after the other."""

    def __init__(self, line: Line) -> None:
        self._line = line
        self._plays_until_s = 0.0
        self._stretches: list[tuple[float, list[tuple[float, float]]]] = []
        self._ends: list[float] = []
        self.clears: list[float] = []
        self.captions: list[str] = []
        self.first_s = 0.0  # an audible frame was played
        self.over = ""

    @property
    def last_s(self) -> float:
        return self._plays_until_s

    def audio(self, payload: bytes, at_s: float, media_s: float | None) -> None:
        start_s = max(at_s, self._plays_until_s)
        if not self._ends or start_s - self._plays_until_s > HOLE_S:
            self._stretches.append((start_s, []))
            self._ends.append(start_s)
        pcm = self._line.codec.decode(payload)
        self._plays_until_s = self._ends[-1] = start_s + len(pcm) / self._line.codec.rate_hz
        if float(np.sqrt(np.mean(pcm.astype(np.float32) ** 2))) >= AUDIBLE:
            self._stretches[-1][1].append((start_s, self._plays_until_s))
            self.first_s = self.first_s or start_s

    def cleared(self, at_s: float) -> None:
        self.clears.append(at_s)
        if self._ends and self._plays_until_s > at_s:
            self._plays_until_s = self._ends[-1] = at_s
            heard = self._stretches[-1][1]
            while heard and heard[-1][0] >= at_s:
                heard.pop()
            if heard and heard[-1][1] > at_s:
                heard[-1] = (heard[-1][0], at_s)

    def caption(self, who: str, text: str) -> None:
        if who == "agent":
            self.captions.append(text)

    def ended(self, cause: str, outcome: str) -> None:
        self.over = cause or "ended"

    def failed(self, kind: Trouble) -> None:
        self.over = str(kind)

    def played(self) -> list[Played]:
        ends = self._ends
        return [Played(start, end, tuple(heard)) for (start, heard), end in zip(self._stretches, ends, strict=True)]


class _Caller:
    """One moment under way. `frame` is called each 20 ms; `done` is set when enough was heard."""

    def __init__(self, moment: Moment, line: Line, room: Sequence[bytes], speech: Sequence[bytes], length_s: float):
        self.moment = moment
        self.ear = _Ear(line)
        self.late_s = 0.0
        self.began_s = 0.0
        self.done = asyncio.Event()
        self._line = line
        self._room = room
        self._at = 0
        self._speech = deque(speech)
        self._until_s = time.perf_counter() + START_S
        self._length_s = length_s

    def frame(self, now_s: float, late_s: float) -> None:
        if self.done.is_set():
            return
        if not self.began_s and self._is_time(now_s):
            self.began_s = now_s
            self.late_s = 0.0
            self._until_s = now_s + self._length_s + _listen_s(self.moment)
        self.late_s = max(self.late_s, late_s)
        if self.began_s and self._speech:
            self._line.send(self._speech.popleft())
        else:
            self._line.send(self._room[self._at])
            self._at = (self._at + 1) % len(self._room)
        if now_s > self._until_s or self.ear.over or self._is_answered():
            self._until_s = now_s
            self.done.set()

    def history(self, spans: Iterable[Span]) -> History:
        at_s = self.began_s
        said = tuple(Span(at_s + span.start_s, at_s + span.end_s) for span in spans)
        return History(said, self.ear.played(), self.ear.clears, self._until_s, self.late_s)

    def _is_time(self, now_s: float) -> bool:
        if not self.ear.first_s:
            return False
        since_s = self.ear.last_s if self.moment.right is Right.answers else self.ear.first_s
        return now_s - since_s >= self.moment.at_ms / 1000

    def _is_answered(self) -> bool:
        return (
            bool(self.began_s)
            and self.moment.right is Right.answers
            and not self._speech
            and self.ear.last_s > self.began_s + self._length_s + SETTLE_S
        )


def _listen_s(moment: Moment) -> float:
    """After the caller's last word."""
    match moment.right:
        case Right.yields:
            return YIELD_S + STOP_S
        case Right.goes_on:
            return AFTER_S + STOP_S
        case Right.answers:
            return ANSWER_S


class Clock:
    """20 ms for all callers of this process, spread over their slots."""

    def __init__(self) -> None:
        self.callers: set[_Caller] = set()
        self._slots: list[list[_Caller]] = [[] for _ in range(SLOTS)]
        self.late_s = 0.0

    def add(self, caller: _Caller) -> None:
        min(self._slots, key=len).append(caller)

    def remove(self, caller: _Caller) -> None:
        for slot in self._slots:
            if caller in slot:
                slot.remove(caller)

    async def run(self) -> None:
        due_s = time.perf_counter()
        while True:
            for slot in self._slots:
                now_s = time.perf_counter()
                late_s = max(0.0, now_s - due_s)
                self.late_s = max(self.late_s, late_s)
                for caller in list(slot):
                    caller.frame(now_s, late_s)
                due_s += FRAME_S / SLOTS
                await asyncio.sleep(max(0.0, due_s - time.perf_counter()))


class _Prepared(Struct):
    """Made before the first call: what takes long would make the callers' clock late."""

    moment: Moment
    line: Line
    room: list[bytes]
    speech: list[bytes]
    spans: tuple[Span, ...]


async def play(
    moments: Sequence[Moment],
    renderer: Renderer,
    lines: LineMaker,
    *,
    calls: int = CALLS,
    told: Callable[[Outcome], None] = lambda outcome: None,
) -> list[Outcome]:
    """All of them, at most `calls` at once, in their order. `told` hears of each as it ends."""
    outcomes: dict[str, Outcome] = {}
    prepared = [await _prepare(moment, renderer, lines(moment.scene, moment.wire)) for moment in moments]
    waiting: Iterator[_Prepared] = iter(prepared)
    clock = Clock()

    async def worker() -> None:
        for one in waiting:
            outcome = await _one(one, clock)
            outcomes[one.moment.name] = outcome
            told(outcome)

    async with asyncio.TaskGroup() as group:
        ticking = group.create_task(clock.run())
        workers = []
        for _ in range(min(calls, len(moments))):
            workers.append(group.create_task(worker()))
            await asyncio.sleep(FRAME_S * 3)
        await asyncio.wait(workers)
        ticking.cancel()
    return [outcomes[moment.name] for moment in moments]


async def _prepare(moment: Moment, renderer: Renderer, line: Line) -> _Prepared:
    rendered = await renderer.moment(moment)
    room = await renderer.room(moment.room)
    rate_hz, encode = line.codec.rate_hz, line.codec.encode
    speech = [encode(frame) for frame in frames(mixed(rendered.pcm, room), rate_hz)]
    return _Prepared(moment, line, [encode(frame) for frame in frames(room, rate_hz)], speech, rendered.spans)


async def _one(one: _Prepared, clock: Clock) -> Outcome:
    moment, line = one.moment, one.line
    caller = _Caller(moment, line, one.room, one.speech, one.spans[-1].end_s)
    try:
        await line.connect(caller.ear)
    except (LineError, Refused) as error:
        return Outcome(moment, error=str(error))
    clock.add(caller)
    try:
        await caller.done.wait()
    finally:
        clock.remove(caller)
        await line.hang_up()
    outcome = Outcome(moment, call=line.call, captions=caller.ear.captions)
    if not caller.began_s:
        outcome.error = caller.ear.over or "the agent did not speak"
    else:
        outcome.own = caller.late_s > OWN_S
        outcome.finding = judge(moment, caller.history(one.spans))
    return outcome
