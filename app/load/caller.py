"""One simulated caller: plays a scenario on a line, 20 ms by 20 ms, and measures what it hears."""

import asyncio
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar, assert_never

from app.load.clock import Clock
from app.load.ear import Ear
from app.load.line import FRAME_S, Line, LineError, NotResumable, Refused, Trouble, printable
from app.load.measure import Act, Judge, Kind
from app.load.network import Chance, Hearing, Sending
from app.load.results import CallResult, EndedBy, What
from app.load.sounds import Kit, Reel
from app.load.steps import (
    Backchannel,
    Digits,
    Drop,
    For,
    HangUp,
    Interrupt,
    MakeNoise,
    Network,
    Range,
    Repeat,
    Say,
    Scenario,
    Silence,
    Sound,
    Speech,
    Step,
    Wait,
)

NOW_S: Final = 0.02  # audible so shortly ago is audible now
TALKED_ON_S: Final = 1.0  # an agent that was interrupted and is audible so long after speaks on
SILENT_S: Final = 5.0  # a call of this length, or that the agent ended, in which it was never heard has failed
SPOKEN_MS: Final = 2000  # over a sound's own length, to be sent: only a stopped clock takes longer
MAX_CAPTIONS: Final = 1000


Impaired = TypeVar("Impaired", Sending, Hearing)


class _Over(Exception):
    """The call is over, whoever ended it."""


@dataclass(frozen=True, slots=True)
class Given:
    """What all callers of a run have in common."""

    scenario: Scenario
    kit: Kit
    clock: Clock
    origin_s: float  # when the run began
    hold_s: float = 0.0  # from when a call is up
    seed: int = 0
    keep: bool = False  # what was said and heard, for a recording


class Caller:
    """`run` once. Its result is filled as the call goes on, and may be looked at meanwhile."""

    def __init__(self, number: int, line: Line, given: Given) -> None:
        self.line = line
        self.result = CallResult(
            number, given.scenario.name, 0.0, transport=type(line).__name__.removesuffix("Line").lower()
        )
        self.ear = Ear(line.codec, tells_clears=line.clears, keep=given.keep)
        self.said: list[tuple[float, bytes]] | None = [] if given.keep else None
        self.up = False
        self._given = given
        self._clock = given.clock
        self._room = given.kit.room
        self._rng = random.Random(given.seed * 1_000_003 + number)  # noqa: S311  # to be repeated, not to be secret
        self._room_at = self._rng.randrange(len(self._room))
        self._judge = Judge(self.result, self.ear, given.clock.was_late, given.origin_s)
        self._act: Act | None = None
        self._reel: Reel | None = None
        self._at = 0
        self._mute = False
        self._sending = _unless_perfect(given.scenario.sends, self._rng, Sending)
        self._hearing = _unless_perfect(given.scenario.hears, self._rng, Hearing)
        self._captions: list[str] = []  # since we last did something
        self._over = False
        self._condition: Callable[[float], bool] | None = None
        self._deadline_s = 0.0
        self._waiter: asyncio.Future[bool] | None = None

    # The whole call

    async def run(self) -> CallResult:
        result = self.result
        asked_s = time.perf_counter()
        result.began_s = round(asked_s - self._given.origin_s, 3)
        try:
            await self.line.connect(self)
        except Refused as error:
            result.refused = error.code
            return result
        except LineError as error:
            result.error = error.kind
            return result
        up_s = time.perf_counter()
        self._judge.note(What.set_up, asked_s, up_s)
        result.call = printable(self.line.call)
        self.up = True
        self._clock.add(self)
        try:
            await self._play(up_s + self._given.hold_s)
            self._ends(EndedBy.caller)
        except _Over:
            pass
        finally:
            self.up = False
            self._clock.discard(self)
            self._conclude(time.perf_counter() - up_s)
            await self.line.hang_up()
        return result

    async def _play(self, until_s: float) -> None:
        scenario = self._given.scenario
        await self._steps(scenario.steps)
        if scenario.loop:
            await self._steps(scenario.loop)
            while time.perf_counter() < until_s:
                await self._steps(scenario.loop)
        else:
            await self._until(lambda now_s: now_s >= until_s, until_s - time.perf_counter() + 1)
        await self._steps(scenario.after)

    def _conclude(self, talked_s: float) -> None:
        result = self.result
        self._judge.settle(self._act, time.perf_counter())
        self._act = None
        result.talked_s = max(round(talked_s, 3), 0.001)
        result.frames = self.ear.frames
        waited = talked_s >= SILENT_S or result.ended_by is EndedBy.agent
        if not result.error and not self.ear.starts and waited:
            result.error = Trouble.silent
        expect = self._given.scenario.expect
        if expect is not None:
            result.as_expected = _as_expected(expect.outcome, expect.ends_by, result)

    def _ends(self, by: EndedBy) -> None:
        self._over = True
        if self.result.ended_by is EndedBy.nobody:
            self.result.ended_by = by
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(_Over())

    # Steps

    async def _steps(self, steps: Sequence[Step]) -> None:
        for step in steps:
            await self._step(step)

    async def _step(self, step: Step) -> None:
        match step:
            case Wait():
                await self._wait(step)
            case Say():
                await self._sound(Kind.say, self._rng.choice(step.any_of))
            case Interrupt():
                await self._agent_speaking(step.after_ms)
                await self._sound(Kind.interrupt, self._rng.choice(step.any_of))
            case Backchannel():
                await self._agent_speaking(step.after_ms)
                await self._sound(Kind.backchannel, self._rng.choice(step.any_of))
            case MakeNoise():
                if step.after_ms is not None:
                    await self._agent_speaking(step.after_ms)
                await self._sound(Kind.noise, step.noise)
            case Digits():
                await self._digits(step)
            case Silence():
                self._mute = not step.sends
                await self._pause(step.ms)
                self._mute = False
            case Drop():
                await self._drop(step)
            case Repeat():
                for _ in range(step.times):
                    await self._steps(step.steps)
            case HangUp():
                await self._hang_up(step)
            case _:
                assert_never(step)

    async def _wait(self, wait: Wait) -> None:
        match wait.what:
            case For.time:
                await self._pause(wait.ms)
            case For.agent_speaking:
                await self._agent_speaking(wait.ms)
            case For.agent_speaks:
                await self._until(self._audible)
            case For.agent_done:
                quiet_s = self._one_of(wait.ms)
                await self._until(lambda now_s: now_s - self.ear.last_end_s >= quiet_s and self._answered())
            case For.caption:
                wanted = wait.words.casefold()
                await self._until(lambda now_s: any(wanted in text for text in self._captions))
            case _:
                assert_never(wait.what)

    async def _agent_speaking(self, ms: Range) -> None:
        """Into a word, not between two."""
        for_s = self._one_of(ms)
        await self._until(lambda now_s: now_s - self.ear.speech_began_s >= for_s and self._audible(now_s))

    def _audible(self, now_s: float) -> bool:
        return self.ear.spoke_at(now_s, NOW_S)

    def _answered(self) -> bool:
        """The agent has spoken since we last did something; what it was just saying then does not count."""
        done_s = self._act.end_s if self._act is not None else 0.0
        ear = self.ear
        return bool(ear.starts) and (ear.last_start_s > done_s or ear.last_end_s > done_s + TALKED_ON_S)

    async def _sound(self, kind: Kind, sound: Sound) -> None:
        reel = self._given.kit.reels[sound]
        self._begin(kind, reel.words if isinstance(sound, Speech) else "")
        self._reel, self._at = reel, 0
        await self._until(lambda now_s: self._reel is None, (reel.ms + SPOKEN_MS) / 1000)

    async def _digits(self, step: Digits) -> None:
        act = self._begin(Kind.digits)
        for digit in step.digits:
            act.end_s = time.perf_counter()
            act.onset_s = act.onset_s or act.end_s
            self.line.digit(digit, step.duration_ms)
            await self._pause((step.duration_ms + step.gap_ms,) * 2)

    async def _drop(self, step: Drop) -> None:
        self._judge.settle(self._act, time.perf_counter())
        self._act = None
        self.line.drop()
        self.ear.restart()
        self.result.dropped += 1
        if step.resume_after_ms is None:
            self._ends(EndedBy.caller)
            raise _Over
        await self._pause(step.resume_after_ms)
        asked_s = time.perf_counter()
        try:
            await self.line.resume()
        except (NotResumable, Refused, LineError) as error:
            self.result.error = error.kind if isinstance(error, LineError) else "resume-refused"
            if isinstance(error, NotResumable):
                self.result.error = Trouble.unsupported
            self._ends(EndedBy.lost)
            raise _Over from None
        self._judge.note(What.resume, asked_s, time.perf_counter())
        self.result.resumed += 1
        if self._over:
            raise _Over

    async def _hang_up(self, step: HangUp) -> None:
        if step.agent_speaking_ms is not None:
            await self._agent_speaking(step.agent_speaking_ms)
        elif step.after_ms is not None:
            await self._pause(step.after_ms)
        self._ends(EndedBy.caller)
        raise _Over

    def _begin(self, kind: Kind, words: str = "") -> Act:
        self._judge.settle(self._act, time.perf_counter())
        self._captions.clear()
        self._act = Act(kind, words)
        return self._act

    def _one_of(self, ms: Range) -> float:
        """Seconds."""
        return self._rng.uniform(*ms) / 1000

    async def _pause(self, ms: Range) -> None:
        until_s = time.perf_counter() + self._one_of(ms)
        await self._until(lambda now_s: now_s >= until_s, ms[1] / 1000 + 1)

    async def _until(self, condition: Callable[[float], bool], timeout_s: float | None = None) -> bool:
        """Asked every 20 ms; whether it came true before the patience ended. Raises `_Over`."""
        if self._over:
            raise _Over
        patience_s = self._given.scenario.patience_ms / 1000 if timeout_s is None else timeout_s
        self._deadline_s = time.perf_counter() + patience_s
        self._waiter = asyncio.get_running_loop().create_future()
        self._condition = condition
        try:
            return await self._waiter
        finally:
            self._condition = None
            self._waiter = None

    # Every 20 ms

    def frame(self, now_s: float) -> None:
        reel = self._reel
        if reel is not None:
            payload = reel.payloads[self._at]
            self._spoken(reel, now_s)
        else:
            payload = self._room[self._room_at]
            self._room_at = (self._room_at + 1) % len(self._room)
        if self._mute:
            payload = b""
        if self.said is not None:
            self.said.append((now_s, payload))
        if self._sending is None:
            self.line.send(payload)
        else:
            for each in self._sending.frame(payload, now_s):
                self.line.send(each)
        if self._condition is not None and self._waiter is not None and not self._waiter.done():
            if self._condition(now_s):
                self._waiter.set_result(True)
            elif now_s >= self._deadline_s:
                self._waiter.set_result(False)

    def _spoken(self, reel: Reel, now_s: float) -> None:
        """One frame of a reel leaves now."""
        act = self._act
        assert act is not None
        if self._at == reel.first:
            act.onset_s = now_s
        if self._at == reel.last:
            act.end_s = now_s + FRAME_S
            if act.words:
                self.result.said.append(act.words)
        self._at += 1
        if self._at == len(reel.payloads):
            self._reel = None
            self._room_at = 0  # a codec that leaves silence out sends the first of it, as after any sound

    # What the line tells

    def audio(self, payload: bytes, at_s: float, media_s: float | None) -> None:
        if self._hearing is not None:
            arrives_s = self._hearing.arrives_s(at_s, packet=media_s is not None)
            if arrives_s is None:
                return
            at_s = arrives_s
        self.ear.audio(payload, at_s, media_s)

    def cleared(self, at_s: float) -> None:
        self.ear.clear(at_s)

    def caption(self, who: str, text: str) -> None:
        if who == "agent" and len(self._captions) < MAX_CAPTIONS:
            self._captions.append(text.casefold())

    def ended(self, cause: str, outcome: str) -> None:
        self.result.cause, self.result.outcome = printable(cause), printable(outcome)
        self._ends(EndedBy.agent)

    def failed(self, kind: Trouble) -> None:
        if not self._over:
            self.result.error = kind
        self._ends(EndedBy.lost)


def _unless_perfect(network: Network, rng: random.Random, make: Callable[[Chance], Impaired]) -> Impaired | None:
    return None if network == Network() else make(Chance(network, rng))


def _as_expected(outcome: str, ends_by: str, result: CallResult) -> bool | None:
    if ends_by and ends_by != result.ended_by:
        return False
    if not outcome or result.outcome == outcome:
        return True
    if result.ended_by is EndedBy.agent and not result.outcome:
        return None  # the transport does not tell
    return False
