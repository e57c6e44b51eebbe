"""Facts that reach a call, in the past tense. Whoever posts one decides nothing; `CallCore.handle` does.

Frozen `msgspec.Struct`s with a tag: equality, pattern matching and the journal's codec come with the declaration.
Numbers named `gen`, `visit` and `n` are the core's own, handed out in an effect and given back in the fact.
"""

from enum import StrEnum

from msgspec import Struct

from flows.model import Value


class Event(Struct, frozen=True, tag_field="type"):
    """Base of all facts."""


# The call and its leg


class CallStarted(Event, frozen=True, tag=True):
    """The caller is here: the first fact, or the first after `CallPlaced` once they answered."""

    leg: str
    transport: str  # "audio", "twilio", "text"
    caller: str = ""  # as the transport tells it: a number, a token's name
    called: str = ""


class CallPlaced(Event, frozen=True, tag=True):
    """The first fact of a call of ours: somebody is being called. `CallStarted` follows once they answer."""

    leg: str
    transport: str
    caller: str  # as whom
    called: str
    by: str = ""  # whose order it was: a token's or a list's name
    answer_ms: int = 45_000  # for which it may ring
    talk_ms: int = 0  # at most, once answered; 0: as the flow says
    detect: bool = False  # first find out whether a person answered: `AnswererHeard` is coming
    slots: dict[str, Value] = {}  # known beforehand


class CallRang(Event, frozen=True, tag=True):
    """It rings there."""

    leg: str


class NotReached(Event, frozen=True, tag=True):
    """Nobody answers a call of ours: `outcome` is "busy", "no-answer", "refused", "invalid" or "failed"."""

    leg: str
    outcome: str
    code: int = 0  # of SIP


class Answerer(StrEnum):
    human = "human"
    machine = "machine"
    beep = "beep"  # of a machine: now it records
    unsure = "unsure"
    silence = "silence"  # somebody answered and said nothing


class AnswererHeard(Event, frozen=True, tag=True):
    """Who answered, as far as can be heard."""

    who: Answerer


class LegLost(Event, frozen=True, tag=True):
    """The connection broke without a goodbye; it may come back with its resume token."""

    leg: str


class LegAttached(Event, frozen=True, tag=True):
    """A new connection took the place of another one. What was being said is lost with that."""

    leg: str


class LegHeld(Event, frozen=True, tag=True):
    """The caller's side put the call on hold: nothing that is said reaches them."""

    leg: str


class LegResumed(Event, frozen=True, tag=True):
    """It took the call back. What was being said goes on."""

    leg: str


class LegMeasured(Event, frozen=True, tag=True):
    """How the caller's leg was heard so far, by its packets (RFC 3550), and how good that is (ITU-T G.107)."""

    leg: str
    packets: int
    lost: int  # or too late
    jitter_ms: float
    opinion: float  # MOS, 1 to 4.5


class LegRole(StrEnum):
    operator = "operator"  # hears caller and agent
    target = "target"  # of a transfer


class LegJoined(Event, frozen=True, tag=True):
    """Another leg than the caller's is connected; `who` is its token's name."""

    leg: str
    role: LegRole
    who: str


class TransferDone(Event, frozen=True, tag=True):
    """After a `ReferCaller`: the caller's side says that the other call stands."""

    n: int


class TransferFailed(Event, frozen=True, tag=True):
    """Nobody was reached: `outcome` as in `NotReached`, or "unsupported" where the caller's side takes no REFER."""

    n: int
    outcome: str
    code: int = 0


class LegLeft(Event, frozen=True, tag=True):
    """A leg that joined is gone."""

    leg: str


class CallerReferred(Event, frozen=True, tag=True):
    """The caller's side asks that somebody else is called in its place. Nobody has said yet that this may be done."""

    leg: str
    to: str


class ReferralFailed(Event, frozen=True, tag=True):
    """After a `CallInstead`: nobody was reached, or it is not allowed. `outcome` as in `NotReached`."""

    n: int
    outcome: str
    code: int = 0


class CallerHungUp(Event, frozen=True, tag=True):
    leg: str


DRAIN = "drain"


class HangupOrdered(Event, frozen=True, tag=True):
    """The server's order to end, or an operator's; `by` is `DRAIN` or a token's name."""

    by: str


class CallFailed(Event, frozen=True, tag=True):
    """We were wrong: an assertion or exception inside the call's own handling. `detail` names no words."""

    detail: str


class Tick(Event, frozen=True, tag=True):
    """The alarm that the shell arms for `CallCore.deadline_ms`."""


# What the ear and the recogniser found


class SpeechStarted(Event, frozen=True, tag=True):
    """Onset: the cheap gate opened. `utterance` counts from 1 in a leg's ear and names this stretch of sound."""

    utterance: int


class SpeechConfirmed(Event, frozen=True, tag=True):
    """The careful detector agrees that it is a voice."""

    utterance: int


class SpeechPaused(Event, frozen=True, tag=True):
    """The voice is silent for a moment, within its stretch of speech: too short yet to be an offset."""

    utterance: int


class SpeechWentOn(Event, frozen=True, tag=True):
    """After a pause."""

    utterance: int


class Says(StrEnum):
    """What an utterance seems to be, as far as it has been heard."""

    nothing = "nothing"  # that was understood, or one beat of a backchannel
    go_on = "go-on"  # a backchannel of more beats
    words = "words"  # with something to say
    cut_in = "cut-in"  # also by its sound, whatever its words are
    backchannel = "backchannel"  # likewise


class SpeechSoFar(Event, frozen=True, tag=True):
    """What an utterance whose words are not known yet sounds like; a later one replaces it. Few recognisers tell."""

    utterance: int
    says: Says


class SpeechEnded(Event, frozen=True, tag=True):
    """Offset. `voice` is false where the careful detector never agreed: noise."""

    utterance: int
    speech_ms: int
    voice: bool


class Transcript(Event, frozen=True, tag=True):
    """The final words of an utterance; empty where nothing in the grammar was near enough.

    Exactly one `Transcript` or `ListenFailed` follows each `SpeechEnded` with `voice`.
    """

    utterance: int
    text: str
    confidence: float = 1.0


class ListenFailed(Event, frozen=True, tag=True):
    utterance: int
    reason: str  # a `ports.ProviderError` kind


class TextReceived(Event, frozen=True, tag=True):
    """A whole turn that was typed: the chat, a data channel."""

    text: str


class Digit(Event, frozen=True, tag=True):
    digit: str  # one of 0-9 * #


# What the playout did


class PlayoutStarted(Event, frozen=True, tag=True):
    """The first audio of this reply left."""

    gen: int


class PlayoutHeld(Event, frozen=True, tag=True):
    """Answers `HoldPlayout`: what had been heard when the agent fell silent."""

    gen: int
    sentence: int
    chars: int


class PlayoutStopped(Event, frozen=True, tag=True):
    """Answers the end of a reply's audio, or a cut. Never fenced: what was heard was heard.

    Sentences below `sentence` were heard whole, and `chars` characters of that one.
    """

    gen: int
    sentence: int
    chars: int
    cause: str  # "done", "cut", "lost"


class SpeechFailed(Event, frozen=True, tag=True):
    """Synthesis of one sentence failed: neither it nor what follows it in this reply can be heard."""

    gen: int
    index: int
    reason: str


# What a reply's engine (a model or the rules) found and asks for


class Sentence(Event, frozen=True, tag=True):
    """Words to be spoken; `index` counts from 0 in the engine's own stream."""

    gen: int
    index: int
    text: str


class SlotsProposed(Event, frozen=True, tag=True):
    """Raw values as the engine read them. The core types, validates and sets."""

    gen: int
    slots: dict[str, Value]
    evidence: str = ""  # the words they were read from


class IntentProposed(Event, frozen=True, tag=True):
    """What the caller wants: "yes", "no", "repeat" or a digression's name."""

    gen: int
    intent: str


class ToolRequest(Struct, frozen=True):
    call_id: str  # the model's own name for it
    tool: str
    arguments: dict[str, Value] = {}  # only those declared `from: model` are used


class ToolsRequested(Event, frozen=True, tag=True):
    """All tool calls of one model message, as the message ended."""

    gen: int
    calls: tuple[ToolRequest, ...]


class ReplyEnded(Event, frozen=True, tag=True):
    """The engine has said all it will say."""

    gen: int


class ReplyFailed(Event, frozen=True, tag=True):
    gen: int
    reason: str  # a `ports.ProviderError` kind, "empty", "truncated", "filtered", "malformed"


class Usage(Event, frozen=True, tag=True):
    """What a model request cost, also of one that was cancelled. Never fenced."""

    gen: int
    model: str
    input_tokens: int
    output_tokens: int


# Tools


class ToolReady(Event, frozen=True, tag=True):
    """The record `allowed` is on disk and the `once` key, if any, is reserved. The last check comes now."""

    n: int


class OnceUsed(Event, frozen=True, tag=True):
    """The `once` key was taken already, by this call or another."""

    n: int


class WriteAheadFailed(Event, frozen=True, tag=True):
    """The record could not be made durable, so the effect must not happen."""

    n: int


class ToolOutcome(StrEnum):
    done = "done"
    failed = "failed"  # definitely without effect
    unknown = "unknown"  # nobody can say whether it happened


class ToolEnded(Event, frozen=True, tag=True):
    """Never fenced: what happened, happened. `result` is the typed result, `reason` an error's kind."""

    n: int
    outcome: ToolOutcome
    result: dict[str, Value | list[Value] | None] = {}
    reason: str = ""


AnyEvent = (
    CallPlaced | CallRang | NotReached | AnswererHeard
    | CallStarted | LegLost | LegAttached | LegHeld | LegResumed | LegMeasured
    | LegJoined | LegLeft | TransferDone | TransferFailed
    | CallerReferred | ReferralFailed
    | CallerHungUp | HangupOrdered | CallFailed | Tick
    | SpeechStarted | SpeechConfirmed | SpeechPaused | SpeechWentOn | SpeechSoFar | SpeechEnded
    | Transcript | ListenFailed | TextReceived | Digit
    | PlayoutStarted | PlayoutHeld | PlayoutStopped | SpeechFailed
    | Sentence | SlotsProposed | IntentProposed | ToolsRequested | ReplyEnded | ReplyFailed | Usage
    | ToolReady | OnceUsed | WriteAheadFailed | ToolEnded
)  # fmt: skip
