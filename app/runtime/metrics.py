"""What happens in all calls, counted: fed by the records that each call's actor tells anyway, and by calls' ends.

Every label is a word of ours or a name from a flow that is served, never a caller's or a model's own. So there is an
end to their number, and none of them is personal.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, field
from typing import Final

from app.core.cdr import INTERNAL_ERROR
from app.core.effects import AnyEffect, CutPlayout, HoldPlayout, ResumePlayout, Verdict
from app.core.events import (
    CallPlaced,
    CallStarted,
    LegAttached,
    LegLost,
    ListenFailed,
    PlayoutHeld,
    PlayoutStopped,
    ReplyFailed,
    SpeechEnded,
    SpeechFailed,
    ToolEnded,
    ToolOutcome,
    Transcript,
    Usage,
)
from app.core.request import Request
from app.core.spans import Latency
from app.core.state import ToolState
from app.dialler.outcome import Outcome
from app.ports import Fault, Llm, Part, StoreError
from app.runtime.actor import CallActor, Seen
from app.runtime.outbound import outcome_of
from app.runtime.registry import OVERLOAD, Full, Registry
from flows.model import Flow
from media.gateway import Admission, Gateway, LegRequest, Refused
from media.histogram import Histogram

OTHER: Final = "other"
"""Instead of whatever is not among the names that we know."""

NONE: Final = "none"
"""The transport of a call that nobody has reached yet."""

TRANSPORTS: Final = ("audio", "twilio", "webrtc", "sip")
KINDS: Final = (*(fault.value for fault in Fault), "overflow")
OUTCOMES: Final = frozenset(
    {"hung-up", "gave-up", "limit", "silence", "leg-lost", "internal-error", "server-died", "transferred", *Outcome}
)
"""Those that are not a flow's own."""

TURNED_AWAY: Final = ("full", OVERLOAD)
SETTLED: Final = (ToolState.done, ToolState.failed, ToolState.unknown)
FAILING: Final = ("recognition", "model", "voice", "tool")
STAGES: Final = ("recognition", "endpointing", "model", "voice", "response")

STAGE_BOUNDS_S: Final = (0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0)
SILENCE_BOUNDS_S: Final = (
    0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5,
)  # fmt: skip
DURATION_BOUNDS_S: Final = (5.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0)

Key = tuple[str, ...]


@dataclass(slots=True)
class _Call:
    """What has to be known of a live call to tell how long things took."""

    actor: CallActor
    flow: Flow
    begun: bool = False
    barge_ins: int = 0  # that have been counted
    latency: Latency = field(default_factory=Latency)
    heard_ms: dict[int, int] = field(default_factory=dict)  # utterances that wait for their words, and since when
    quieted: tuple[int, float] | None = None  # the reply that is to fall silent, and when the reason for it came
    held: int = 0  # the reply that has fallen silent

    @property
    def transport(self) -> str:
        return transport_of(self.actor)


class Metrics:
    """`watch` is given to the switchboard, `over` to the registry. On the loop's thread; it raises nothing."""

    def __init__(self, registry: Registry, flows: Mapping[str, Flow]) -> None:
        self.begun: Counter[Key] = Counter()  # flow, transport
        self.ended: Counter[Key] = Counter()  # flow, transport, cause
        self.outcomes: Counter[Key] = Counter()  # flow, outcome
        self.durations: dict[Key, Histogram] = {}  # flow
        self.refused: Counter[Key] = Counter()  # transport, reason
        self.verdicts: Counter[Key] = Counter()  # flow, tool, decision, rule
        self.tools: Counter[Key] = Counter()  # flow, tool, state; as the call's record has it
        self.barge_ins: Counter[Key] = Counter()  # flow, transport
        self.holds: Counter[Key] = Counter()  # flow, transport
        self.resumes: Counter[Key] = Counter()  # flow, transport
        self.silence = Histogram(SILENCE_BOUNDS_S)  # from the fact that wants it to the playout that is held or cut
        self.stages: dict[Key, Histogram] = {}  # flow, stage
        self.first_tokens: dict[Key, Histogram] = {}  # flow, engine
        self.tokens: Counter[Key] = Counter()  # flow, direction
        self.faults: Counter[Key] = Counter()  # stage, kind
        self.placed: Counter[Key] = Counter()  # outcome
        self.transfers: Counter[Key] = Counter()  # by, outcome
        self._registry = registry
        self._calls: dict[str, _Call] = {}
        registry.over = self.over
        self._begin_at_zero(flows)

    def _begin_at_zero(self, flows: Mapping[str, Flow]) -> None:
        """What somebody is to be woken for: a first one is a rise only where there was a zero before."""
        for flow in flows.values():
            self.ended.update({(flow.name, transport, INTERNAL_ERROR): 0 for transport in TRANSPORTS})
            self.tools.update({(flow.name, tool, state.value): 0 for tool in flow.tools for state in SETTLED})
        self.refused.update({(transport, rule): 0 for transport in TRANSPORTS for rule in TURNED_AWAY})
        self.faults.update({(stage, kind): 0 for stage in FAILING for kind in KINDS})

    # Live calls

    def watch(self, seen: Seen) -> None:
        """One record, right after it was decided."""
        call = self._calls.get(seen.call)
        if call is None:
            actor = self._registry.get(seen.call)
            if actor is None:
                return
            call = self._calls[seen.call] = _Call(actor, actor.core.flow)
        self._event(call, seen)
        for effect in seen.effects:
            self._effect(call, seen.came_s, effect)
        self._barge_in(call, seen)
        if (turn := call.latency.tell(0, seen.ms, seen.event, seen.effects)) is not None:
            times = (turn.endpointing_ms, turn.model_ms, turn.tts_ms, turn.total_ms)
            for stage, took_ms in zip(STAGES[1:], times, strict=True):
                self._stage(call, stage, took_ms)

    def _event(self, call: _Call, seen: Seen) -> None:
        ms = seen.ms
        match seen.event:
            case CallStarted() | CallPlaced():
                if not call.begun:
                    call.begun = True
                    self.begun[call.flow.name, call.transport] += 1
            case SpeechEnded(utterance=utterance, voice=True):
                call.heard_ms[utterance] = ms
            case Transcript(utterance=utterance):
                self._recognized(call, utterance, ms)
            case ListenFailed(utterance=utterance, reason=reason):
                self._recognized(call, utterance, ms)
                self._fault("recognition", reason)
            case LegLost() | LegAttached():
                call.heard_ms.clear()  # the next leg counts from the beginning
            case PlayoutHeld(gen=gen) | PlayoutStopped(gen=gen):
                if call.quieted is not None and call.quieted[0] == gen:
                    self.silence.observe(seen.came_s - call.quieted[1])
                    call.quieted = None
            case ReplyFailed(reason=reason):
                self._fault("model", reason)
            case SpeechFailed(reason=reason):
                self._fault("voice", reason)
            case ToolEnded(outcome=outcome, reason=reason):
                if outcome is not ToolOutcome.done and reason in KINDS:  # else it was ours to end it
                    self._fault("tool", reason)
            case Usage(input_tokens=given, output_tokens=made):
                self.tokens[call.flow.name, "input"] += given
                self.tokens[call.flow.name, "output"] += made

    def _effect(self, call: _Call, came_s: float, effect: AnyEffect) -> None:
        match effect:
            case Verdict(tool=tool, decision=decision, rule=rule):
                name = tool if tool in call.flow.tools else OTHER  # a model may make one up
                self.verdicts[call.flow.name, name, decision.value, rule] += 1
            case HoldPlayout(gen=gen):
                call.held = gen
                call.quieted = gen, came_s
                self.holds[call.flow.name, call.transport] += 1
            case ResumePlayout():
                call.held = 0
                self.resumes[call.flow.name, call.transport] += 1

    def _barge_in(self, call: _Call, seen: Seen) -> None:
        barge_ins = call.actor.core.state.counts.barge_ins
        if barge_ins == call.barge_ins:
            return
        self.barge_ins[call.flow.name, call.transport] += barge_ins - call.barge_ins
        call.barge_ins = barge_ins
        for effect in seen.effects:
            if isinstance(effect, CutPlayout) and effect.gen != call.held:
                call.quieted = effect.gen, seen.came_s

    def _recognized(self, call: _Call, utterance: int, ms: int) -> None:
        since_ms = call.heard_ms.pop(utterance, None)
        if since_ms is not None:
            self._stage(call, STAGES[0], ms - since_ms)

    def _stage(self, call: _Call, stage: str, took_ms: int) -> None:
        _histogram(self.stages, (call.flow.name, stage), STAGE_BOUNDS_S).observe(took_ms / 1000)

    def _fault(self, stage: str, kind: str) -> None:
        self.faults[stage, kind if kind in KINDS else OTHER] += 1

    # Calls that are over, and those that never began

    def over(self, actor: CallActor) -> None:
        """Each call that the registry had, once; also one that broke."""
        self._calls.pop(actor.call, None)
        flow, record = actor.core.flow, actor.record
        cause = record.cause if record is not None else INTERNAL_ERROR
        self.ended[flow.name, transport_of(actor), cause] += 1
        if record is None:
            return
        ours = record.outcome in OUTCOMES or record.outcome in _ends(flow)
        self.outcomes[flow.name, record.outcome if ours else OTHER] += 1
        _histogram(self.durations, (flow.name,), DURATION_BOUNDS_S).observe(record.duration_ms / 1000)
        for line in record.tools:
            self.tools[flow.name, line.tool if line.tool in flow.tools else OTHER, line.state] += 1
        for transfer in record.transfers:
            self.transfers[transfer.by, transfer.outcome or "hung-up"] += 1
        if actor.core.state.placed is not None:
            self.placed[(outcome_of(record).value,)] += 1

    def refuse(self, request: LegRequest, refused: Refused) -> None:
        """Nobody's call came of this request."""
        cause = refused.__cause__
        if isinstance(cause, Full):
            reason = cause.rule
        else:
            reason = "journal" if isinstance(cause, StoreError) else refused.code.value
        self.refused[_known_transport(request.transport), reason] += 1

    # Engines

    def timed(self, llm: Llm) -> Llm:
        """The same engine, with the time to its first token measured."""
        return _Timed(llm, self._first_token)

    def _first_token(self, request: Request, took_s: float) -> None:
        _histogram(self.first_tokens, (request.flow.name, request.engine), STAGE_BOUNDS_S).observe(took_s)


class Counted:
    """A gateway whose refusals are counted. Implements `media.gateway.Gateway`."""

    def __init__(self, gateway: Gateway, metrics: Metrics) -> None:
        self._gateway = gateway
        self._metrics = metrics

    async def admit(self, request: LegRequest) -> Admission:
        with self._counting(request):
            return await self._gateway.admit(request)

    def turn_away(self, request: LegRequest) -> None:
        with self._counting(request):
            self._gateway.turn_away(request)

    @contextmanager
    def _counting(self, request: LegRequest) -> Iterator[None]:
        try:
            yield
        except Refused as refused:
            if not request.listen:
                self._metrics.refuse(request, refused)
            raise


class _Timed:
    """Implements `app.ports.Llm`."""

    def __init__(self, llm: Llm, observe: Callable[[Request, float], None]) -> None:
        self._llm = llm
        self._observe = observe

    async def reply(self, request: Request) -> AsyncGenerator[Part, None]:
        loop = asyncio.get_running_loop()
        since_s = loop.time()
        waiting = True
        async with aclosing(self._llm.reply(request)) as parts:
            async for part in parts:
                if waiting:
                    waiting = False
                    self._observe(request, loop.time() - since_s)
                yield part

    async def stop(self) -> None:
        await self._llm.stop()


def transport_of(actor: CallActor) -> str:
    return _known_transport(actor.core.state.transport)


def _known_transport(name: str) -> str:
    return name if name in TRANSPORTS else OTHER if name else NONE


def _ends(flow: Flow) -> set[str]:
    """The outcomes that this flow itself may have."""
    transfers = (step.transfer.end for step in flow.steps.values() if step.transfer is not None)
    return {*(step.end for step in flow.steps.values()), *transfers} - {""}


def _histogram(found: dict[Key, Histogram], key: Key, bounds: tuple[float, ...]) -> Histogram:
    if (histogram := found.get(key)) is None:
        histogram = found[key] = Histogram(bounds)
    return histogram
