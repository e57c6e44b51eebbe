"""A record as people read it. The terminal, `voicegate calls show` and the pages all tell a call in these lines."""

from collections.abc import Sequence

from msgspec import Struct

from app.core.effects import (
    AnyEffect,
    CallInstead,
    CutPlayout,
    DeclineReferral,
    DialLeg,
    DropLeg,
    EndCall,
    GoTo,
    HoldPlayout,
    ReferCaller,
    ResumePlayout,
    Speak,
    Verdict,
)
from app.core.events import (
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
    LegResumed,
    LegRole,
    ListenFailed,
    NotReached,
    PlayoutStarted,
    PlayoutStopped,
    ReferralFailed,
    ReplyFailed,
    SlotsProposed,
    SpeechEnded,
    SpeechFailed,
    SpeechStarted,
    TextReceived,
    ToolEnded,
    Transcript,
    TransferDone,
    TransferFailed,
)
from app.core.request import WITHHELD


class Entry(Struct, frozen=True):
    ms: int
    kind: str  # "call", "caller", "agent", "floor", "step", "slot", "gate", "tool", "time", "trouble"
    text: str
    gen: int = 0  # of agent entries


class Timeline:
    """Tells one call's records in their order, with the times between them that a caller feels."""

    def __init__(self) -> None:
        self._onset_ms: int | None = None  # of the caller's present speech
        self._offset_ms: int | None = None  # since when the caller waits

    def tell(self, ms: int, event: AnyEvent, effects: Sequence[AnyEffect], *, sealed: bool) -> list[Entry]:
        """What one record says; `sealed` words are withheld. Most records about audio say nothing worth reading."""
        told = [_event(event, sealed), *(_effect(effect) for effect in effects)]
        entries = [Entry(ms, *line) for line in told if line is not None]
        entries += [Entry(ms, "time", text) for text in self._times(ms, event, effects)]
        return entries

    def _times(self, ms: int, event: AnyEvent, effects: Sequence[AnyEffect]) -> list[str]:
        out = []
        match event:
            case SpeechStarted():
                self._onset_ms, self._offset_ms = ms, None
            case SpeechEnded(voice=True) | Digit() | TextReceived():
                self._offset_ms = ms
            case PlayoutStarted() if self._offset_ms is not None:
                out.append(f"{ms - self._offset_ms} ms from the caller's offset to the agent's first sound")
                self._offset_ms = None
        if self._onset_ms is not None and any(isinstance(effect, CutPlayout) for effect in effects):
            out.append(f"barge-in: silent at once, cut {ms - self._onset_ms} ms after the caller's onset")
            self._onset_ms = None
        return out


Told = tuple[str, str] | tuple[str, str, int] | None


def _event(event: AnyEvent, sealed: bool) -> Told:
    match event:
        case CallStarted(transport=transport, caller=caller):
            return "call", f"started over {transport}" + (f", caller {caller}" if caller else "")
        case CallPlaced(called=called, by=by):
            return "call", f"calls {called}" + (f", ordered by {by}" if by else "")
        case CallRang():
            return "call", "it rings there"
        case NotReached(outcome=outcome):
            return "call", f"not reached: {outcome}"
        case AnswererHeard(who=who):
            return "call", f"answered by: {who}"
        case LegLost():
            return "trouble", "the connection was lost"
        case LegAttached():
            return "call", "the caller's side is connected again"
        case LegHeld():
            return "call", "the caller's side holds the call"
        case LegResumed():
            return "call", "the caller's side is back"
        case LegJoined(role=LegRole.target, who=who):
            return "call", f"{who} has answered the transfer"
        case LegJoined(who=who):
            return "call", f"{who} listens in"
        case LegLeft():
            return "call", "another leg has left"
        case TransferDone():
            return "call", "the caller was transferred"
        case TransferFailed(outcome=outcome):
            return "trouble", f"the transfer failed: {outcome}"
        case CallerReferred(to=to):
            return "call", f"the caller's side asks that {to} is called in its place"
        case ReferralFailed(outcome=outcome):
            return "trouble", f"nobody takes the caller's place: {outcome}"
        case CallerHungUp():
            return "call", "the caller hung up"
        case HangupOrdered(by=by):
            return "call", f"ended by {by}"
        case CallFailed(detail=detail):
            return "trouble", f"internal error: {detail}"
        case SpeechStarted():
            return "floor", "caller starts to speak"
        case SpeechEnded(speech_ms=speech_ms, voice=voice):
            return "floor", f"caller stops after {speech_ms} ms" + ("" if voice else ": noise, no voice")
        case Transcript(text=text):
            return "caller", _words(text, sealed) if text else "(not understood)"
        case TextReceived(text=text):
            return "caller", _words(text, sealed)
        case ListenFailed(reason=reason):
            return "trouble", f"the recogniser failed: {reason}"
        case Digit(digit=digit):
            return "caller", f"key {'•' if sealed else digit}"
        case PlayoutStarted(gen=gen):
            return "agent", "starts to speak", gen
        case PlayoutStopped(gen=gen, cause=cause):
            return "agent", {"done": "has finished", "cut": "was cut off"}.get(cause, f"stopped: {cause}"), gen
        case SpeechFailed(reason=reason):
            return "trouble", f"synthesis failed: {reason}"
        case SlotsProposed(slots=slots):
            return "slot", ", ".join(f"{k} = {WITHHELD if sealed else v}" for k, v in slots.items())
        case IntentProposed(intent=intent):
            return "slot", f"the caller means: {intent}"
        case ReplyFailed(reason=reason):
            return "trouble", f"the model failed: {reason}"
        case ToolEnded(n=n, outcome=outcome, result=result, reason=reason):
            shown = WITHHELD if sealed and result else ", ".join(f"{k}={v}" for k, v in result.items())
            return "tool", f"#{n} {outcome.value}" + (f": {reason or shown}" if reason or shown else "")
    return None


def _effect(effect: AnyEffect) -> Told:
    match effect:
        case Speak(gen=gen, text=text, private=private):
            return "agent", _words(text, private), gen
        case DialLeg() | ReferCaller():
            return "call", "a transfer begins"
        case CallInstead():
            return "call", "somebody is called in the caller's place"
        case DeclineReferral(reason=reason):
            return "call", f"nobody is called in the caller's place: {reason}"
        case HoldPlayout(gen=gen):
            return "floor", "agent holds", gen
        case ResumePlayout(gen=gen):
            return "floor", "agent goes on where it stopped", gen
        case CutPlayout(gen=gen):
            return "floor", "agent is cut off: the caller has the floor", gen
        case GoTo(step=step, why=why):
            return "step", f"{step} ({why})"
        case Verdict(n=n, tool=tool, decision=decision, rule=rule, reason=reason):
            return "gate", f"#{n} {tool}: {decision.value} [{rule}] {reason}"
        case DropLeg(reason=reason):
            return "trouble", f"a leg may not join: {reason}"
        case EndCall(cause=cause, outcome=outcome):
            return "call", f"over: {outcome} ({cause})"
    return None


def _words(text: str, withheld: bool) -> str:
    return WITHHELD if withheld else f"“{text}”"
