"""A core under inspection: every fact goes to two cores, one of them through the codec, and what must hold is checked.

The second core gets each fact as the journal would give it back, so "replay equals live" holds at every prefix. All
else is judged from outside, by facts and orders, with as little of the core's own reasoning as possible.
"""

from collections.abc import Callable
from copy import copy, deepcopy

import msgspec
from msgspec.structs import replace

from app.core import cdr, codec
from app.core.call import Call
from app.core.codec import CORE_VERSION, CallHeader, Codec
from app.core.core import WORDY, CallCore
from app.core.effects import (
    AllowTool,
    AnyEffect,
    CancelTool,
    CutPlayout,
    Decision,
    EndCall,
    EndSpeech,
    GoTo,
    HoldPlayout,
    Listen,
    ResumePlayout,
    Speak,
    StartReply,
    StartTool,
    StopReply,
    Verdict,
    WithdrawTool,
)
from app.core.events import (
    AnyEvent,
    CallPlaced,
    IntentProposed,
    LegRole,
    PlayoutHeld,
    PlayoutStopped,
    ReplyEnded,
    ReplyFailed,
    ToolEnded,
    ToolOutcome,
    ToolReady,
    ToolsRequested,
)
from app.core.legs import AGENT
from app.core.replies import PLAYOUT_GRACE_MS
from app.core.request import Request
from app.core.state import CallState, Phase, QuestionKind, ToolState, TransferStage
from app.core.timeline import Timeline
from flows import values
from flows.model import Flow, ToolEffect

KEY = bytes(range(32))
MINTED = (Decision.allowed, Decision.held, Decision.refused)


class Inspector:
    """`handle` as a core has it; an assertion fails where something happened that must not happen.

    `secrets` are values that may be heard by the caller alone.
    """

    def __init__(self, flow: Flow, call: str = "c1", *, secrets: tuple[str, ...] = ()) -> None:
        self.flow = flow
        self.core = CallCore(flow, call)
        self.requests: dict[int, Request] = {}
        self._twin = CallCore(flow, call)
        header = CallHeader(call, flow.name, "", CORE_VERSION, 1, "")
        self._codec, self._reader = Codec(KEY, header), Codec(KEY, header)
        self._seq = 0
        self._timeline = Timeline()
        self._secrets = secrets
        self._speech = _Speech(flow)
        self._tools = _Ledger(flow)
        self._over = 0

    def handle(self, event: AnyEvent, now_ms: int) -> list[AnyEffect]:
        core = self.core
        before = _snapshot(core.state)
        hushed = Call(self.flow, core.state).collects_sensitive()
        effects = core.handle(event, now_ms)
        assert core.state.now_ms >= before.now_ms, "time fell"
        self._replay(event, effects)
        self._check_end(before, effects)
        self._check_deadlines()
        self._speech.check(event, effects, before, core.state)
        self._tools.check(event, effects, before, core.state)
        if type(event) in WORDY and (hushed or Call(self.flow, core.state).collects_sensitive()):
            assert core.sealed, "words are heard while a sensitive value is collected"
        self._check_orders(event, effects)
        self._check_legs()
        return effects

    def tamper(self, change: Callable[[CallState], None]) -> None:
        """Change both cores' states by hand, where a test would need a long story to get there."""
        change(self.core.state)
        change(self._twin.state)

    def _replay(self, event: AnyEvent, effects: list[AnyEffect]) -> None:
        core, twin = self.core, self._twin
        self._seq += 1
        record = self._codec.encode(self._seq, core.state.now_ms, event, effects, sealed=core.sealed)
        again = twin.handle(self._reader.decode(record), record.ms)
        assert again == effects, "the replay gives other orders"
        assert codec.digest(again, KEY) == record.digest
        assert twin.state == core.state, "the replay gives another state"
        assert twin.sealed == core.sealed

    def _check_end(self, before: CallState, effects: list[AnyEffect]) -> None:
        ends = [effect for effect in effects if isinstance(effect, EndCall)]
        self._over += len(ends)
        assert self._over == (self.core.state.phase is Phase.ended), "one EndCall, at the end"
        if ends:
            assert effects[-1] is ends[0], "EndCall is the last order"
            assert not any(tool.state is ToolState.running for tool in self.core.state.tools.values())
        if before.phase is Phase.ended:
            assert effects == [], "an order after the end"
            assert self.core.state == before, "something changed after the end"

    def _check_deadlines(self) -> None:
        state = self.core.state
        match state.phase:
            case Phase.new | Phase.ended:
                assert self.core.deadline_ms is None
            case Phase.live:
                assert "duration" in state.timers
            case Phase.placing:
                assert "answer" in state.timers
            case Phase.ending:
                assert "ending" in state.timers
        if state.reply is not None and state.reply.held:
            assert "hold" in state.timers, "a hold that nothing resolves"
        if state.phase is Phase.live and not state.attached:
            assert state.timers.keys() & {"reattach", "referral"}

    def _check_legs(self) -> None:
        state = self.core.state
        here = {state.leg} if state.attached else set()
        for leg, sources in state.hears.items():
            assert leg in here | state.guests.keys(), "who is not there hears something"
            targets = {name for name, guest in state.guests.items() if guest.role is LegRole.target}
            assert set(sources) <= {AGENT} | here | targets, "a guest is heard"
            stage = state.transfer.stage if state.transfer is not None else None
            if leg == state.leg and set(sources) & targets:
                assert stage is TransferStage.joined, "the other side is heard too early"
            assert leg not in sources, "a leg hears itself"
        assert not state.guests or state.guests.keys() <= state.hears.keys(), "a guest hears nothing"

    def _check_orders(self, event: AnyEvent, effects: list[AnyEffect]) -> None:
        """What the runtime asks for as it carries these orders out, and what everybody else gets to see."""
        entries = self._timeline.tell(0, event, effects, sealed=self.core.sealed)
        told = [entry.text for entry in entries if entry.kind != "time"]  # a time may have the same digits
        for effect in effects:
            if isinstance(effect, StartReply):
                request = self.requests[effect.gen] = self.core.request(effect.gen)
                here = self.flow.steps[self.core.state.step]
                assert {tool.name for tool in request.tools} == set(here.tools)
                told.append(str((request.system, request.messages, request.known)))
            if isinstance(effect, Listen):
                assert {slot.name for slot in self.core.hearing().slots} == set(effect.expects) - {"yesno"}
        if self._secrets:
            told.append(str(self.core.state.history))
            if self.core.state.phase is Phase.ended:
                record = replace(cdr.build(self.flow, self.core.state), duration_ms=0)  # likewise
                told.append(str(msgspec.to_builtins(record)))
            for secret in self._secrets:
                assert not any(secret in text for text in told), "a sensitive value is told"


def _snapshot(state: CallState) -> CallState:
    """A copy as deep as the checks look; at the end nothing may change any more, so then it is whole."""
    if state.phase is Phase.ended:
        return deepcopy(state)
    return msgspec.structs.replace(
        state,
        slots={name: copy(held) for name, held in state.slots.items()},
        tools={n: copy(entry) for n, entry in state.tools.items()},
        timers=dict(state.timers),
        suspended=list(state.suspended),
    )


class _Speech:
    """One reply at a time, its words counted, and yes only to what was heard."""

    def __init__(self, flow: Flow) -> None:
        self._flow = flow
        self._working: set[int] = set()
        self._last_started = 0
        self._engines: dict[int, str] = {}
        self._words: dict[int, list[str]] = {}
        self._silent = {0}  # gens whose speech is over
        self._stopping = 0  # the one that the present fact is about; deadlines before it were still its own
        self._done_by: dict[int, int] = {}  # when a playout that does not answer may be given up
        self._asked: dict[tuple[int, int], tuple[object, int]] = {}  # (gen, index) to what it asks and where its end is
        self._heard: set[object] = set()

    def check(self, event: AnyEvent, effects: list[AnyEffect], before: CallState, after: CallState) -> None:
        match event:
            case ReplyEnded(gen=gen) | ReplyFailed(gen=gen):
                self._working.discard(gen)
            case PlayoutHeld(gen=gen) | PlayoutStopped(gen=gen):
                self._hear(event, before)
        if isinstance(event, PlayoutStopped) and (
            event.gen in self._done_by or (event.cause == "lost" and event.gen in self._words)
        ):
            self._silent.add(event.gen)
        self._stopping = event.gen if isinstance(event, PlayoutStopped) else 0
        for effect in effects:
            self._order(effect, before, after)
        self._note_question(after)
        self._check_yes(event, effects, before, after)

    def _order(self, effect: AnyEffect, before: CallState, after: CallState) -> None:
        match effect:
            case StartReply(gen=gen, engine=engine):
                self._engines[gen] = engine
                assert self._last_started < gen <= after.gen
                assert not self._working, "two engines work at once"
                self._check_floor(gen, after)
                self._working.add(gen)
                self._last_started = gen
            case StopReply(gen=gen):
                assert gen <= self._last_started
                self._working.discard(gen)
            case Speak(gen=gen, index=index, text=text):
                assert 0 < gen <= after.gen
                self._check_floor(gen, after)
                said = self._words.setdefault(gen, [])
                assert index == len(said), "sentences are counted from 0"
                assert gen not in self._done_by, "words after the end of speech"
                said.append(text)
            case EndSpeech(gen=gen) | CutPlayout(gen=gen):
                assert self._words.get(gen), "nothing was said"
                stands = after.reply is not None and after.reply.gen == gen
                if isinstance(effect, CutPlayout) and not stands and gen not in self._silent:
                    early = after.now_ms < self._done_by.get(gen, after.now_ms) and after.phase is not Phase.ended
                    assert not early, "given up before its time"
                    self._silent.add(gen)
                else:
                    self._done_by[gen] = before.now_ms + PLAYOUT_GRACE_MS
            case HoldPlayout(gen=gen) | ResumePlayout(gen=gen):
                assert self._words.get(gen), "nothing was said"
                assert gen not in self._silent or gen == self._stopping

    def _check_floor(self, gen: int, after: CallState) -> None:
        for before in self._words:
            if before < gen and before not in self._silent:
                assert before in self._done_by, "a reply begins before the last one's speech has ended"
                assert after.now_ms >= self._done_by[before], "a reply begins before PlayoutStopped"
                self._silent.add(before)

    def _hear(self, event: PlayoutHeld | PlayoutStopped, before: CallState) -> None:
        if event.gen in self._silent:
            return
        for (gen, index), (asked, end) in self._asked.items():
            if gen == event.gen and (event.sentence > index or (event.sentence == index and event.chars >= end)):
                self._heard.add(asked)

    def _note_question(self, after: CallState) -> None:
        question = after.question
        if question is None or question.kind is QuestionKind.ask:
            return
        at = (question.gen, question.index)
        text = self._words[question.gen][question.index]
        if question.kind is QuestionKind.readback:
            value = after.slots[question.slot].value
            assert value is not None
            spoken = values.spoken(self._flow.slots[question.slot], value)
            assert after.slots[question.slot].rev == question.rev
            self._asked.setdefault(at, (("slot", question.slot, question.rev), text.rindex(spoken) + len(spoken)))
        else:
            entry = after.tools[question.n]
            known = [
                values.spoken(s, v) for n, s in self._flow.slots.items() if (v := after.slots[n].value) is not None
            ]
            named = [*known, *(str(value) for value in entry.arguments.values())]
            end = max((text.rindex(value) + len(value) for value in named if value in text), default=1)
            self._asked.setdefault(at, (("tool", question.n), end))

    def _check_yes(self, event: AnyEvent, effects: list[AnyEffect], before: CallState, after: CallState) -> None:
        for name, slot in self._flow.slots.items():
            old, new = before.slots[name], after.slots[name]
            known = isinstance(event, CallPlaced)  # to whoever ordered the call
            if new.confirmed and not old.confirmed and slot.confirm and not slot.source and not known:
                assert ("slot", name, new.rev) in self._heard, "confirmed, but its read-back was not heard"
        for effect in effects:
            if isinstance(effect, AllowTool) and self._flow.tools[effect.tool].confirm:
                assert ("tool", effect.n) in self._heard, "allowed, but its question was not heard"
                if (
                    isinstance(event, IntentProposed)
                    and self._flow.tools[effect.tool].effect is ToolEffect.irreversible
                ):
                    model = self._flow.models.get(self._engines[event.gen])
                    assert model is None or model.use == "rules", "a model's yes started something irreversible"


class _Ledger:
    """Each request one verdict, each effect one start, and only where and when it is admitted."""

    def __init__(self, flow: Flow) -> None:
        self._flow = flow
        self._visit, self._step = 0, ""
        self._verdicts: dict[int, list[Decision]] = {}
        self._orders: dict[int, AllowTool] = {}
        self._started: set[int] = set()
        self._failed: set[int] = set()
        self._message: dict[int, int] = {}
        self._acted: set[int] = set()
        self._messages = 0

    def check(self, event: AnyEvent, effects: list[AnyEffect], before: CallState, after: CallState) -> None:
        self._check_requests(event, effects, before)
        if isinstance(event, ToolEnded):
            if event.outcome is ToolOutcome.failed:
                self._failed.add(event.n)
            self._check_stale(event, effects, before, after)
        moved = False
        for effect in reversed(effects):
            moved = moved or isinstance(effect, GoTo)
            if isinstance(effect, StartTool) and not moved:
                entry = after.tools[effect.n]
                assert entry.revs == {slot: after.slots[slot].rev for slot in entry.revs}, "started on an old value"
        for effect in effects:
            self._order(event, effect, after)
        assert (self._visit, self._step) == (after.visit, after.step), "the flow moved without saying so"

    def _check_requests(self, event: AnyEvent, effects: list[AnyEffect], before: CallState) -> None:
        if not isinstance(event, ToolsRequested):
            return
        first = [
            verdict
            for verdict in effects
            if isinstance(verdict, Verdict) and (verdict.n == 0 or verdict.n not in self._verdicts)
        ]
        once = {verdict.n: verdict for verdict in reversed(first) if verdict.n}
        first = [verdict for verdict in first if verdict.n == 0 or verdict is once[verdict.n]]
        if before.phase in (Phase.live, Phase.ending) and first:
            assert [verdict.tool for verdict in first] == [call.tool[:64] for call in event.calls]
        assert all(verdict.decision in MINTED for verdict in first)
        self._messages += 1
        self._message.update((verdict.n, self._messages) for verdict in first)

    def _check_stale(self, event: ToolEnded, effects: list[AnyEffect], before: CallState, after: CallState) -> None:
        """A result of another visit, of old values, or one that nobody waits for moves nothing."""
        due = min(before.timers.values(), default=None)
        entry = before.tools.get(event.n)
        if due is not None and due <= after.now_ms:
            return
        visits = (before.visit, *(frame.visit for frame in before.suspended))
        current = (
            entry is not None
            and entry.state in (ToolState.running, ToolState.unknown)
            and entry.visit in visits
            and all(before.slots[slot].rev == rev for slot, rev in entry.revs.items())
        )
        if not current:
            assert not any(isinstance(effect, GoTo) for effect in effects), "a stale result moved the flow"
            assert after.slots == before.slots, "a stale result changed a slot"
            assert after.phase is before.phase or before.phase is Phase.ending

    def _order(self, event: AnyEvent, effect: AnyEffect, after: CallState) -> None:
        match effect:
            case GoTo(visit=visit, step=step):
                self._visit, self._step = visit, step
            case Verdict(n=n, decision=decision) if n:
                told = self._verdicts.setdefault(n, [])
                if told == [Decision.held] and decision is Decision.held:
                    return  # held on: this yes was not enough
                if told:
                    assert decision not in told, "the same verdict twice"
                    assert told[-1] in (Decision.held, Decision.allowed), "a verdict after the last one"
                told.append(decision)
            case AllowTool(n=n, once=once, key=key):
                assert n not in self._orders, "allowed twice"
                assert key == (once or f"{after.call}:{n}")
                assert self._verdicts[n][-1] is Decision.allowed
                self._orders[n] = effect
            case StartTool(n=n):
                self._check_start(event, n, after)
            case WithdrawTool(n=n):
                assert n in self._orders
                assert n not in self._started, "withdrawn after its start"
            case CancelTool(n=n):
                assert n in self._started
                assert self._effect(n) is ToolEffect.read, "only a read may be cancelled"

    def _check_start(self, event: AnyEvent, n: int, after: CallState) -> None:
        order, entry = self._orders[n], after.tools[n]
        assert event == ToolReady(n), "started before its record was durable"
        assert n not in self._started, "started twice"
        assert entry.visit == self._visit, "started in another visit"
        assert order.tool in self._flow.steps[self._step].tools, "started in a step that does not admit it"
        assert self._verdicts[n][-1] is Decision.started
        if order.once:
            same = [m for m in self._started if self._orders[m].once == order.once and m not in self._failed]
            assert not same, "one `once` key was used twice"
        if self._effect(n) is not ToolEffect.read:
            message = self._message[n]
            assert message not in self._acted, "two tools of one message act"
            self._acted.add(message)
        self._started.add(n)

    def _effect(self, n: int) -> ToolEffect:
        return self._flow.tools[self._orders[n].tool].effect
