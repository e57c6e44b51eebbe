"""A whole server's inside on a virtual clock: registry, switchboard, real legs and playouts, scripted providers."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import numpy as np

from app.core.effects import AnyEffect
from app.core.events import AnyEvent
from app.ports import Llm, ToolFailed, ToolUnknown
from app.providers.rules import RulesLlm
from app.providers.scripted import ScriptedStt, ScriptedTts
from app.runtime.actor import CallActor, Seen
from app.runtime.line import Line
from app.runtime.metrics import Metrics
from app.runtime.registry import Registry
from app.runtime.replay import replay
from app.runtime.switchboard import Providers, Switchboard
from app.store.memory import MemoryStore
from flows.model import Flow, Tool, Value
from media.audio import Pcm
from media.clock import Ticker
from media.gateway import LegRequest
from media.leg import CloseCode, Leg
from tests.support.inline import InlineJournalWriter
from tests.support.virtual import LoopClock

FRAME: Pcm = np.full(160, 1000, dtype=np.int16)


class FakeWire:
    """The peer: keeps what reached it, with the time in milliseconds."""

    def __init__(self) -> None:
        self.frames: list[float] = []
        self.clears: list[float] = []
        self.ended: tuple[str, str] | None = None
        self.closed: CloseCode | None = None
        self.marks: list[str] = []
        self.told: list[str] = []
        self.stalled = False

    def now_ms(self) -> float:
        return asyncio.get_running_loop().time() * 1000

    def audio(self, frame: Pcm) -> None:
        self.frames.append(self.now_ms())

    def mark(self, name: str) -> None:
        self.marks.append(name)

    def clear(self) -> None:
        self.clears.append(self.now_ms())

    def caption(self, text: str) -> None:
        pass

    def tell(self, message: str) -> None:
        self.told.append(message)

    def end(self, cause: str, outcome: str) -> None:
        self.ended = (cause, outcome)

    def close(self, code: CloseCode, reason: str) -> None:
        self.closed = code


class FakeTools:
    """Answers from a table: a result, an error to raise, or a function; remembers each run."""

    def __init__(self, answers: Mapping[str, Any] | None = None, *, takes_ms: int = 50) -> None:
        self.answers = dict(answers or {})
        self.takes_ms = takes_ms
        self.runs: list[tuple[str, dict[str, Value], str]] = []

    async def run(self, flow: Flow, tool: Tool, arguments: dict[str, Value], key: str) -> dict[str, Any]:
        self.runs.append((tool.name, arguments, key))
        await asyncio.sleep(self.takes_ms / 1000)
        answer = self.answers.get(tool.name, {})
        if isinstance(answer, ToolFailed | ToolUnknown):
            raise answer
        result: dict[str, Any] = answer(arguments) if callable(answer) else answer
        return result

    async def stop(self) -> None:
        pass


class House:
    def __init__(
        self,
        flow: Flow,
        *,
        stt: ScriptedStt | None = None,
        tts: ScriptedTts | None = None,
        llms: Mapping[str, Llm] | None = None,
        tools: FakeTools | None = None,
        max_calls: int = 10,
        drain_s: float = 120,
        store: MemoryStore | None = None,
    ) -> None:
        self.flow = flow
        self.drain_s = drain_s
        self.store = store or MemoryStore()
        self.tools = tools or FakeTools()
        self.tts = tts or ScriptedTts()
        self.stt = stt or ScriptedStt()
        self.registry = Registry(max_calls=max_calls, max_calls_per_address=max_calls)
        self.metrics = Metrics(self.registry, {flow.name: flow})
        self.writer = InlineJournalWriter(self.store)
        self.ticker = Ticker()
        self.seen: list[Seen] = []
        self._ids = iter(f"id{n:04d}" for n in range(10_000))
        self.switchboard = Switchboard(
            self.registry,
            {flow.name: flow},
            Providers(self.stt, self.tts, {"rules": RulesLlm(), **(llms or {})}, self.tools),
            self.writer,
            LoopClock(),
            permit=lambda request: "",
            route=lambda request: flow.name,
            new_id=lambda: next(self._ids),
            new_key=lambda: bytes(32),
            record=lambda call, rate_hz, now_ms: None,
            watch=self._watch,
        )

    def _watch(self, seen: Seen) -> None:
        self.seen.append(seen)
        self.metrics.watch(seen)

    @asynccontextmanager
    async def open(self) -> AsyncIterator["House"]:
        async with asyncio.TaskGroup() as group:
            tick = group.create_task(self.ticker.run())
            calls = group.create_task(self.registry.run())
            try:
                yield self
                await self.registry.drain(self.drain_s)
                await calls
            finally:
                tick.cancel()
                calls.cancel()

    async def call(self, **request: Any) -> "Caller":
        await asyncio.sleep(0)  # the registry's task takes its first step
        admission = await self.switchboard.admit(
            LegRequest(transport="audio", rate_hz=8000, peer="127.0.0.1", **request)
        )
        wire = FakeWire()
        assert isinstance(admission.handler, Line)
        leg = Leg(admission.leg, "audio", 8000, wire, admission.handler)
        self.ticker.add(leg, leg.failed)
        actor = self.registry[admission.call]
        await asyncio.sleep(0)
        admission.handler.attach(leg)
        return Caller(self, actor, leg, admission.handler, wire, admission.resume)

    def orders(self, kind: type[AnyEffect] | tuple[type, ...]) -> list[Any]:
        return [effect for seen in self.seen for effect in seen.effects if isinstance(effect, kind)]

    def facts(self, kind: type[AnyEvent] | tuple[type, ...]) -> list[Any]:
        return [seen.event for seen in self.seen if isinstance(seen.event, kind)]

    def cdr(self, call: str) -> dict[str, Any]:
        row = self.store.load(call).row
        assert row.cdr is not None
        record: dict[str, Any] = msgspec.json.decode(row.cdr)
        return record

    def replays(self, call: str) -> int:
        """How many records; raises where one decides otherwise now."""
        return sum(1 for _ in replay(self.store.load(call)))


class Caller:
    """One leg's other end. Its ear is played by hand: `speak` says when a voice is heard, the script says what."""

    def __init__(self, house: House, actor: CallActor, leg: Leg, line: Line, wire: FakeWire, resume: str) -> None:
        self.house = house
        self.actor = actor
        self.leg = leg
        self.line = line
        self.wire = wire
        self.resume = resume
        self._utterance = 0
        self._heard = 0  # frames

    async def quiet(self, for_ms: int = 300, limit_ms: int = 60_000) -> None:
        """Wait until the agent has said something new and then been silent this long."""
        for _ in range(limit_ms // 20):
            await asyncio.sleep(0.02)
            frames = self.wire.frames
            if len(frames) > self._heard and self.wire.now_ms() - frames[-1] >= for_ms:
                self._heard = len(frames)
                return
        raise TimeoutError("the agent never fell silent")

    async def onset(self) -> int:
        self._utterance += 1
        self.line.speech_started(self._utterance, round(self.wire.now_ms()))
        await asyncio.sleep(0)
        return self._utterance

    async def speak(self, *, ms: int = 800, voice: bool = True) -> None:
        utterance = await self.onset()
        if voice:
            await asyncio.sleep(0.1)
            self.line.speech_confirmed(utterance)
        await asyncio.sleep(ms / 1000)
        self.line.speech_audio(utterance, FRAME)
        self.line.speech_ended(utterance, ms, voice)
        await asyncio.sleep(0.4)

    async def key(self, keys: str) -> None:
        for key in keys:
            self.line.digit(key)
            await asyncio.sleep(0.2)

    async def converse(self, turns: int) -> None:
        """In the shop: the code by keys, then so many turns by voice, each when the agent has asked."""
        await self.quiet()
        await self.key("1234")
        await self.quiet()
        await self.key("#")
        for _ in range(turns):
            await self.quiet()
            await self.speak()

    def hang_up(self) -> None:
        self.leg.gone(goodbye=True)
        self.house.ticker.discard(self.leg)

    def lose(self) -> None:
        self.leg.gone(goodbye=False)
        self.house.ticker.discard(self.leg)
