"""The door to a call: facts in, orders out, time as an argument.

`handle` dispatches a fact to the part that knows it, then settles: the flow moves, the reply that is due begins, the
call ends when nothing is left to do. Everything that a late fact could break is refused where it is looked up.
"""

from typing import assert_never

from app.core import gate, legs, placing, prompt, referral, replies, slots, steps, transfer, turns
from app.core.call import Call
from app.core.effects import AnyEffect, EndCall, Listen
from app.core.events import (
    DRAIN,
    AnswererHeard,
    AnyEvent,
    CallerHungUp,
    CallerReferred,
    CallFailed,
    CallPlaced,
    CallRang,
    CallStarted,
    Digit,
    HangupOrdered,
    IntentProposed,
    LegAttached,
    LegHeld,
    LegJoined,
    LegLeft,
    LegLost,
    LegMeasured,
    LegResumed,
    ListenFailed,
    NotReached,
    OnceUsed,
    PlayoutHeld,
    PlayoutStarted,
    PlayoutStopped,
    ReferralFailed,
    ReplyEnded,
    ReplyFailed,
    Sentence,
    SlotsProposed,
    SpeechConfirmed,
    SpeechEnded,
    SpeechFailed,
    SpeechPaused,
    SpeechSoFar,
    SpeechStarted,
    SpeechWentOn,
    TextReceived,
    Tick,
    ToolEnded,
    ToolOutcome,
    ToolReady,
    ToolsRequested,
    Transcript,
    TransferDone,
    TransferFailed,
    Usage,
    WriteAheadFailed,
)
from app.core.request import Hearing, Request
from app.core.state import CallState, Phase, Quality, SlotState, ToolState
from flows.model import Flow

REATTACH_MS = 30_000
"""How long a lost leg may take to come back."""

MAX_SETTLE = 50
"""Replies and moves that one fact may set off; more is our own error."""

MAX_DUE = 20_000
"""Deadlines that may be due at once, after a long sleep of the machine; more is our own error."""

MAX_SPEECH_FAILURES = 2
"""Syntheses that may fail in one call; then it ends, since nobody can be told anything."""

WORDY = frozenset((Transcript, TextReceived, Digit, Sentence, SlotsProposed, ToolsRequested))
"""Facts that carry what was heard or said."""

NOTED = frozenset((PlayoutStarted, PlayoutHeld, SpeechSoFar, SpeechPaused, LegMeasured, Usage))
"""Facts that are kept for later decisions; by themselves they let nothing happen."""


class CallCore:
    """One call's decisions. Not thread-safe; one owner calls `handle`.

    `state` is the whole truth. `sealed` tells whether the last fact must be sealed in the journal and masked elsewhere.
    """

    def __init__(self, flow: Flow, call: str) -> None:
        self.flow = flow
        self.state = CallState(call, slots={name: SlotState() for name in flow.slots})
        self.sealed = False
        self._call = Call(flow, self.state)

    def handle(self, event: AnyEvent, now_ms: int) -> list[AnyEffect]:
        """Take in one fact. Deadlines that are due fire first; time never falls; after the end nothing happens."""
        wordy = type(event) in WORDY
        if self.state.phase is Phase.ended:
            self.sealed = wordy
            return []
        call = self._call
        call.out = []
        before = wordy and call.collects_sensitive()
        now_ms = max(self.state.now_ms, now_ms)
        self._fire_due(call, now_ms)
        self.state.now_ms = now_ms
        if call.state.phase is not Phase.ended:
            _dispatch(call, event)
            if type(event) not in NOTED:
                _settle(call)
        self.sealed = _is_sensitive(call, event, before)
        return call.out

    @property
    def deadline_ms(self) -> int | None:
        """When the shell is to post a `Tick` at the latest; None before the start and after the end."""
        return min(self.state.timers.values(), default=None)

    def request(self, gen: int) -> Request:
        """What the engine of the reply `gen` gets to see; asked for as its `StartReply` is carried out."""
        return prompt.request(self._call, gen)

    def hearing(self) -> Hearing:
        """What callers may be expected to say now; asked for as a `Listen` is carried out."""
        return prompt.hearing(self._call)

    def _fire_due(self, call: Call, now_ms: int) -> None:
        timers = self.state.timers
        if min(timers.values(), default=now_ms + 1) > now_ms:
            return
        for _ in range(MAX_DUE):
            name = min(timers, key=lambda timer: (timers[timer], timer), default="")
            if not name or timers[name] > now_ms or self.state.phase is Phase.ended:
                return
            self.state.now_ms = max(self.state.now_ms, timers.pop(name))
            _fire(call, name)
            _settle(call)
        raise AssertionError("deadlines do not come to rest")


def _dispatch(call: Call, event: AnyEvent) -> None:
    if call.state.phase in (Phase.new, Phase.placing):
        _before_the_start(call, event)
        return
    match event:  # what is frequent stands first: each pattern before it takes time
        case Sentence() | SlotsProposed() | IntentProposed() | ReplyEnded() | ReplyFailed():
            _engine(call, event)
        case (
            SpeechStarted()
            | SpeechConfirmed()
            | SpeechPaused()
            | SpeechWentOn()
            | SpeechSoFar()
            | SpeechEnded()
            | Transcript()
            | ListenFailed()
        ):
            if _listens(call):
                _ear(call, event)
        case PlayoutStarted(gen=gen):
            if call.state.reply is not None and call.state.reply.gen == gen:
                call.state.reply.audible = True
        case PlayoutHeld():
            replies.held(call, event)
        case PlayoutStopped():
            replies.stopped(call, event)
        case CallStarted() | CallPlaced() | CallRang() | NotReached() | Tick():
            pass
        case AnswererHeard():
            if call.state.phase is Phase.live:
                placing.heard(call, event)
        case LegLost() | LegAttached() | LegJoined() | LegLeft() | CallerHungUp() | HangupOrdered() | CallFailed():
            _leg(call, event)
        case LegHeld(leg=leg):
            if leg == call.state.leg:
                legs.held(call)
        case LegResumed(leg=leg):
            if leg == call.state.leg:
                legs.resumed(call)
        case LegMeasured(leg=leg):
            if leg == call.state.leg:
                call.state.quality = Quality(event.packets, event.lost, event.jitter_ms, event.opinion)
        case TransferDone():
            transfer.done(call, event)
            legs.connect(call)
        case TransferFailed():
            transfer.failed(call, event)
            legs.connect(call)
        case CallerReferred():
            referral.asked(call, event)
        case ReferralFailed():
            referral.failed(call, event)
        case SpeechFailed():
            if replies.not_spoken(call, event) > MAX_SPEECH_FAILURES:
                steps.hang_up(call, "speech-failed", "failed")
        case ToolReady(n=n):
            gate.ready(call, n)
        case OnceUsed(n=n):
            gate.not_written(call, n, "once", "it was done before")
        case WriteAheadFailed(n=n):
            gate.not_written(call, n, "journal", "it could not be recorded")
        case ToolEnded(n=n):
            if gate.ended(call, event):
                slots.derive(call, call.state.tools[n])
        case Usage():
            call.state.counts.input_tokens += event.input_tokens
            call.state.counts.output_tokens += event.output_tokens
        case ToolsRequested():
            gate.requested(call, event)
        case TextReceived(text=text):
            if _listens(call):
                turns.text(call, text)
        case Digit(digit=digit):
            if _listens(call) and len(digit) == 1 and digit in "0123456789*#":
                turns.digit(call, digit)
        case _:
            assert_never(event)


def _before_the_start(call: Call, event: AnyEvent) -> None:
    match event:
        case CallStarted():
            _start(call, event)
        case CallPlaced() if call.state.phase is Phase.new:
            placing.placed(call, event)
        case CallRang():
            placing.rang(call, event)
        case NotReached():
            placing.not_reached(call, event)
        case HangupOrdered() | CallFailed() | LegJoined():
            _leg(call, event)


def _start(call: Call, event: CallStarted) -> None:
    state = call.state
    state.attached = True
    state.phase = Phase.live
    call.arm("duration", call.flow.limits.duration_s * 1000)
    if state.placed is not None:
        if not placing.answered(call, event):
            return
    else:
        state.leg, state.transport = event.leg, event.transport
        state.caller, state.called = event.caller, event.called
    steps.enter(call, call.flow.start, "start")


def _leg(
    call: Call, event: LegLost | LegAttached | LegJoined | LegLeft | CallerHungUp | HangupOrdered | CallFailed
) -> None:
    state = call.state
    match event:
        case LegJoined():
            legs.joined(call, event)
        case LegLeft():
            legs.left(call, event)
        case LegLost(leg=leg):
            if leg == state.leg and state.attached:
                state.attached = False
                turns.reset(call)
                if state.phase is not Phase.live:
                    steps.hang_up(call, "leg-lost", "leg-lost")
                elif not referral.awaits(call, "leg-lost", "leg-lost"):
                    replies.cut(call)
                    call.arm("reattach", REATTACH_MS)
        case LegAttached(leg=leg):
            if not state.attached and state.phase is Phase.live:
                state.leg = leg
                state.attached = True
                state.held = False
                call.disarm("reattach")
                referral.attached(call, leg)
                call.want()
        case CallerHungUp(leg=leg):
            if leg == state.leg:
                state.attached = False
                turns.reset(call)
                if not referral.awaits(call, "caller-hangup", "hung-up"):
                    steps.hang_up(call, "caller-hangup", "hung-up")
        case HangupOrdered(by=by):
            steps.hang_up(call, by if by == DRAIN else "operator", "hung-up")
        case CallFailed():
            steps.hang_up(call, "internal-error", "internal-error")
        case _:
            assert_never(event)
    legs.connect(call)


def _listens(call: Call) -> bool:
    """What a lost leg heard is late: nobody would tell how it ends. A greeting is nobody's turn yet."""
    state = call.state
    greeting = state.placed is not None and state.placed.listening
    hears = state.attached and not state.held
    return state.phase is Phase.live and hears and not greeting and state.transfer is None


_Heard = (
    SpeechStarted
    | SpeechConfirmed
    | SpeechPaused
    | SpeechWentOn
    | SpeechSoFar
    | SpeechEnded
    | Transcript
    | ListenFailed
)


def _ear(call: Call, event: _Heard) -> None:
    match event:
        case SpeechStarted():
            turns.started(call, event)
        case SpeechConfirmed():
            turns.confirmed(call, event)
        case SpeechPaused(utterance=utterance):
            turns.paused(call, utterance, on=True)
        case SpeechWentOn(utterance=utterance):
            turns.paused(call, utterance, on=False)
        case SpeechSoFar():
            turns.so_far(call, event)
        case SpeechEnded():
            turns.ended(call, event)
        case Transcript():
            turns.transcript(call, event)
        case ListenFailed(utterance=utterance):
            turns.transcript(call, Transcript(utterance, ""))
        case _:
            assert_never(event)


def _engine(call: Call, event: Sentence | SlotsProposed | IntentProposed | ReplyEnded | ReplyFailed) -> None:
    """What a reply's engine found. Late words of a replaced reply stop at this first line."""
    reply = call.state.reply
    if reply is None or not reply.producing or not event.gen == reply.gen == call.state.gen:
        return
    by_rules = call.by_rules(reply.engine)
    match event:
        case Sentence():
            replies.sentence(call, event)
        case SlotsProposed(slots=proposed):
            reply.understood = slots.propose(call, proposed, own_words=by_rules) or reply.understood
        case IntentProposed(intent=intent):
            reply.understood = _intent(call, intent, by_rules=by_rules) or reply.understood
        case ReplyEnded(gen=gen):
            replies.engine_ended(call, gen)
        case ReplyFailed(gen=gen, reason=reason):
            replies.engine_ended(call, gen, reason or "failed")
        case _:
            assert_never(event)


def _intent(call: Call, intent: str, *, by_rules: bool) -> bool:
    match intent:
        case "yes" if not by_rules and gate.awaits_own_yes(call):
            return False
        case "yes" | "no":
            return slots.answer(call, yes=intent == "yes")
        case "repeat":
            call.want().lead[:0] = call.state.said
            call.state.question = None
            return True
        case _ if intent in call.flow.digressions:
            steps.digress(call, intent)
            return True
    return False


def _fire(call: Call, timer: str) -> None:
    match timer.split():
        case ["hold"] | ["doubt"]:
            turns.decide(call)
        case ["noise"]:
            turns.noise(call)
        case ["endpoint"]:
            turns.endpoint(call)
        case ["stt"]:
            turns.words_overdue(call)
        case ["keys"]:
            turns.keys_ended(call)
        case ["silence"]:
            turns.silent(call)
        case ["reply"]:
            replies.engine_ended(call, call.state.gen, "timeout")
        case ["playout"]:
            replies.given_up(call)
        case ["duration"]:
            steps.end(call, "duration", "limit")
            call.want().lead.append(call.line(call.flow.texts.goodbye))
        case ["answer"]:
            placing.no_answer(call)
        case ["answerer"]:
            placing.waited_out(call)
        case ["transfer"]:
            transfer.overdue(call)
        case ["referral"]:
            referral.overdue(call)
        case ["reattach"]:
            steps.hang_up(call, "leg-lost", "leg-lost")
        case ["tool", n]:
            gate.ended(call, ToolEnded(int(n), ToolOutcome.unknown, reason="timeout"))
        case ["filler", n]:
            _fill(call, int(n))
        case ["ending"]:
            _abandon(call)
        case _:
            raise AssertionError(f"no such timer: {timer}")


def _fill(call: Call, n: int) -> None:
    """Bridge a slow tool with a few words, if nobody is speaking."""
    state = call.state
    entry = state.tools[n]
    if state.phase is Phase.live and not entry.filled and state.reply is None and state.due is None:
        entry.filled = True
        due = call.want()
        due.acts = False
        due.lead.append(call.line(call.flow.texts.filler))


def _abandon(call: Call) -> None:
    """The ending's deadline: what is still running is nobody's to wait for."""
    call.state.due = None
    replies.given_up(call)
    for entry in call.state.tools.values():
        if entry.state is ToolState.running:
            gate.ended(call, ToolEnded(entry.n, ToolOutcome.unknown, reason="call ended"))


def _settle(call: Call) -> None:
    """Let everything happen that can happen now."""
    state = call.state
    for _ in range(MAX_SETTLE):
        if state.step:
            steps.advance(call)
        reply = state.reply
        if reply is not None and not reply.producing and not reply.ended:
            replies.conclude(call)
        elif reply is None and state.due is not None and state.attached and not turns.is_busy(call):
            if transfer.is_silent(call) or state.held:
                break
            replies.begin(call)
        else:
            break
    else:
        raise AssertionError("the call does not come to rest")
    if state.step:
        transfer.settle(call)
        legs.connect(call)
    if state.phase is Phase.ending:
        _finish(call)
    if not state.step:
        return
    turns.arm_silence(call)
    if state.phase is Phase.live:
        expects = prompt.expects(call)
        if expects != state.expects:
            state.expects = expects
            call.emit(Listen(state.visit, expects))


def _finish(call: Call) -> None:
    state = call.state
    if not state.attached or state.held:
        state.due = None
    running = any(entry.state is ToolState.running for entry in state.tools.values())
    if state.reply is None and state.due is None and not running:
        state.phase = Phase.ended
        state.timers.clear()
        call.emit(EndCall(state.cause, state.outcome))


def _is_sensitive(call: Call, event: AnyEvent, before: bool) -> bool:
    if type(event) not in WORDY and not isinstance(event, ToolEnded | CallPlaced):
        return False
    if isinstance(event, ToolEnded):
        entry = call.state.tools.get(event.n)
        tool = call.flow.tools.get(entry.tool) if entry is not None else None
        return tool is None or tool.sensitive
    if isinstance(event, SlotsProposed | CallPlaced) and any(
        slot.sensitive for name in event.slots if (slot := call.flow.slots.get(name))
    ):
        return True
    if isinstance(event, Transcript | TextReceived) and call.holds_sensitive(event.text):
        return True
    return type(event) in WORDY and (before or call.collects_sensitive())
