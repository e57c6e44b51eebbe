"""Plays moments to a server in real time, each in a call of its own, many at once, and listens to what comes of it."""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Final

import numpy as np
from msgspec import Struct

from app.load.clock import Clock
from app.load.ear import AUDIBLE_RMS, Ear, meter
from app.load.line import FRAME_S, Line, LineError, Refused, Trouble
from app.load.suite.judge import AFTER_S, ANSWER_S, STOP_S, YIELD_S, Finding, History, Played, judge
from app.load.suite.moment import Half, Moment, Right, Scene, Wire
from app.load.suite.render import Renderer, Span, frames, mixed

CALLS: Final = 16
"""At once: so the suite takes under six minutes, and two cores hear everybody."""

APART_S: Final = 0.1  # the first calls begin one after another

OWN_S: Final = 0.03
"""A caller whose frame was later than this spoiled what it measured."""

HOLE_S: Final = 0.03  # without a frame to play
START_S: Final = 15.0  # for the agent to speak, or to have asked
ASKED_S: Final = 1.5  # of silence: the question is over, and no hold in the middle of it
ALMOST_S: Final = 0.1  # of a question may be missing: it was asked
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


class _Listener:
    """Hears an agent out: a member of the clock and the listener of its line. `done` is set when enough was heard."""

    def __init__(self, line: Line, room: list[bytes]) -> None:
        self.ear = Ear(line.codec, tells_clears=line.clears, keep=True)
        self.over = ""
        self.done = asyncio.Event()
        self._line = line
        self._room = room
        self._at = 0
        self._until_s = time.perf_counter() + START_S

    @property
    def heard_s(self) -> float:
        """How much the agent has said, with the pauses of its voice."""
        return len(self.ear.kept or ()) * FRAME_S

    def silent_s(self, now_s: float) -> float:
        """Since the agent's last frame; 0 before its first."""
        return now_s - self.ear.kept[-1][0] - FRAME_S if self.ear.kept else 0.0

    # As a listener

    def audio(self, payload: bytes, at_s: float, media_s: float | None) -> None:
        self.ear.audio(payload, at_s, media_s)

    def cleared(self, at_s: float) -> None:
        self.ear.clear(at_s)

    def caption(self, who: str, text: str) -> None:
        pass

    def ended(self, cause: str, outcome: str) -> None:
        self.over = cause or "ended"

    def failed(self, kind: Trouble) -> None:
        self.over = str(kind)

    # As a member

    def frame(self, now_s: float) -> None:
        self._send_room()
        if now_s > self._until_s or self.over or self.silent_s(now_s) >= ASKED_S:
            self.done.set()

    def _send_room(self) -> None:
        self._line.send(self._room[self._at])
        self._at = (self._at + 1) % len(self._room)


class _Caller(_Listener):
    """One moment under way. The agent's question takes some `asked_s`; before, a short silence is no end of it."""

    def __init__(self, one: "_Prepared", asked_s: float) -> None:
        super().__init__(one.line, one.room)
        self.moment = one.moment
        self.began_s = 0.0
        self.late_s = 0.0
        self._asked_s = asked_s
        self._level = meter(one.line.codec)
        self._speech = deque(one.speech)
        self._length_s = one.spans[-1].end_s
        self._last_s = 0.0

    def frame(self, now_s: float) -> None:
        if self.done.is_set():
            return
        if not self.began_s and self._is_time(now_s):
            self.began_s = now_s
            self._until_s = now_s + self._length_s + _listen_s(self.moment)
        elif self.began_s:
            self.late_s = max(self.late_s, now_s - self._last_s - FRAME_S)
        self._last_s = now_s
        if self.began_s and self._speech:
            self._line.send(self._speech.popleft())
        else:
            self._send_room()
        if now_s > self._until_s or self.over or self._is_answered():
            self._until_s = now_s
            self.done.set()

    def history(self, spans: Iterable[Span]) -> History:
        at_s = self.began_s
        said = tuple(Span(at_s + span.start_s, at_s + span.end_s) for span in spans)
        return History(said, self._played(), self.ear.clears, self._until_s)

    def _played(self) -> list[Played]:
        stretches: list[tuple[float, float, list[tuple[float, float]]]] = []
        for start_s, payload in self.ear.kept or ():
            end_s = start_s + FRAME_S
            heard = [(start_s, end_s)] if self._level(payload) >= AUDIBLE_RMS else []
            if stretches and start_s - stretches[-1][1] <= HOLE_S:
                begun = stretches[-1]
                stretches[-1] = (begun[0], end_s, begun[2])
                begun[2].extend(heard)
            else:
                stretches.append((start_s, end_s, heard))
        return [Played(start_s, end_s, tuple(heard)) for start_s, end_s, heard in stretches]

    def _is_time(self, now_s: float) -> bool:
        if not self.ear.starts:
            return False
        if self.moment.right is not Right.answers:
            return now_s - self.ear.starts[0] >= self.moment.at_ms / 1000
        silent_s = self.silent_s(now_s)
        asked = self.heard_s >= self._asked_s - ALMOST_S or silent_s >= ASKED_S
        return asked and silent_s >= self.moment.at_ms / 1000

    def _is_answered(self) -> bool:
        if not self.began_s or self.moment.right is not Right.answers or self._speech:
            return False
        return self.ear.last_end_s > self.began_s + self._length_s + SETTLE_S


def _listen_s(moment: Moment) -> float:
    """After the caller's last word."""
    match moment.right:
        case Right.yields:
            return YIELD_S + STOP_S
        case Right.goes_on:
            return AFTER_S + STOP_S
        case Right.answers:
            return ANSWER_S


class _Prepared(Struct):
    """Made before the first call: what takes long would make the callers' clock late."""

    moment: Moment
    line: Line
    room: list[bytes]
    speech: list[bytes]
    spans: tuple[Span, ...]


async def play(
    moments: Sequence[Moment],
    renderers: Mapping[Half, Renderer],
    lines: LineMaker,
    *,
    calls: int = CALLS,
    told: Callable[[Outcome], None] = lambda outcome: None,
) -> list[Outcome]:
    """All of them, at most `calls` at once, in their order. `told` hears of each as it ends. Raises `ProviderError`."""
    outcomes: dict[str, Outcome] = {}
    rooms: dict[tuple[object, Wire], list[bytes]] = {}
    prepared = [
        await _prepare(moment, renderers[moment.half], lines(moment.scene, moment.wire), rooms) for moment in moments
    ]
    waiting: Iterator[_Prepared] = iter(prepared)
    clock = Clock()

    async def worker(after_s: float) -> None:
        await asyncio.sleep(after_s)
        for one in waiting:
            outcome = await _one(one, clock, asked_s.get(one.moment.scene, 0.0))
            outcomes[one.moment.name] = outcome
            told(outcome)

    async with asyncio.TaskGroup() as ticking:
        clock_task = ticking.create_task(clock.run())
        try:
            asked_s = await _asked_s(prepared, lines, clock)
            async with asyncio.TaskGroup() as workers:
                for number in range(min(calls, len(moments))):
                    workers.create_task(worker(number * APART_S))
        finally:
            clock_task.cancel()
    return [outcomes[moment.name] for moment in moments]


async def _prepare(
    moment: Moment, renderer: Renderer, line: Line, rooms: dict[tuple[object, Wire], list[bytes]]
) -> _Prepared:
    rendered = await renderer.moment(moment)
    room = await renderer.room(moment.room)
    rate_hz, encode = line.codec.rate_hz, line.codec.encode
    speech = [encode(frame) for frame in frames(mixed(rendered.pcm, room), rate_hz)]
    around = rooms.get((moment.room, moment.wire))
    if around is None:
        around = rooms[moment.room, moment.wire] = [encode(frame) for frame in frames(room, rate_hz)]
    return _Prepared(moment, line, around, speech, rendered.spans)


async def _asked_s(prepared: Sequence[_Prepared], lines: LineMaker, clock: Clock) -> dict[Scene, float]:
    """How long each scene's question is, where it is answered: from a call that only listens, in a room without noise.

    A hold in the middle of a question is not its end, and a short one looks like it.
    """
    scenes = dict.fromkeys(one.moment.scene for one in prepared if one.moment.right is Right.answers)
    async with asyncio.TaskGroup() as calls:
        tasks = {scene: calls.create_task(_heard_s(lines(scene, Wire.plain_8k), clock)) for scene in scenes}
    return {scene: task.result() for scene, task in tasks.items()}


async def _heard_s(line: Line, clock: Clock) -> float:
    """What the agent says before it waits for the caller; 0 where there is no such call."""
    silence = np.zeros(round(FRAME_S * line.codec.rate_hz), dtype=np.int16)
    listener = _Listener(line, [line.codec.encode(silence)])
    try:
        await line.connect(listener)
    except (LineError, Refused):
        return 0.0  # as the scene's moments will tell
    clock.add(listener)
    try:
        await listener.done.wait()
    finally:
        clock.discard(listener)
        await line.hang_up()
    return listener.heard_s


async def _one(one: _Prepared, clock: Clock, asked_s: float) -> Outcome:
    caller = _Caller(one, asked_s)
    outcome = Outcome(one.moment)
    try:
        await one.line.connect(caller)
    except (LineError, Refused) as error:
        outcome.error = str(error)
        return outcome
    clock.add(caller)
    try:
        await caller.done.wait()
    finally:
        clock.discard(caller)
        await one.line.hang_up()
    outcome.call = one.line.call
    if not caller.began_s:
        outcome.error = caller.over or "the agent did not speak"
    else:
        outcome.own = caller.late_s > OWN_S
        outcome.finding = judge(one.moment, caller.history(one.spans))
    return outcome
