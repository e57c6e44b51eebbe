"""Orders that a call gives, in the imperative. The runtime carries them out in their order; it decides nothing."""

from enum import StrEnum

from msgspec import Struct

from flows.model import Value


class Order(Struct, frozen=True, tag_field="type"):
    """Base of all orders."""


# Speech


class StartReply(Order, frozen=True, tag=True):
    """Run `engine` (a name in the flow's models) on what `prompt.request` builds from the state as it is now.

    The job posts facts with this `gen` and ends with `ReplyEnded` or `ReplyFailed`.
    """

    gen: int
    visit: int
    engine: str


class StopReply(Order, frozen=True, tag=True):
    """Cancel the engine's work of this `gen`, its connection included."""

    gen: int


class Speak(Order, frozen=True, tag=True):
    """Synthesize and queue one sentence. `index` counts from 0 in this `gen`'s playout, whoever wrote it."""

    gen: int
    index: int
    text: str
    private: bool = False  # it holds a sensitive value: heard by the caller, masked for everybody else


class EndSpeech(Order, frozen=True, tag=True):
    """No `Speak` follows in this `gen`: `PlayoutStopped` is due when its audio has been heard."""

    gen: int


class HoldPlayout(Order, frozen=True, tag=True):
    """Fall silent before the next frame; the rest is kept. Answered by `PlayoutHeld`."""

    gen: int


class ResumePlayout(Order, frozen=True, tag=True):
    gen: int


class CutPlayout(Order, frozen=True, tag=True):
    """Throw away the rest and cancel its synthesis. Answered by `PlayoutStopped`."""

    gen: int


class Listen(Order, frozen=True, tag=True):
    """What callers may be expected to say changed: `prompt.hearing` builds the grammar from the state as it is now."""

    visit: int
    expects: tuple[str, ...]  # slot names in the order asked, "yesno", digressions


class GoTo(Order, frozen=True, tag=True):
    """The flow moved, and why. For the record and whoever watches; it asks for no work."""

    visit: int
    step: str
    why: str


# Tools


class Verdict(Order, frozen=True, tag=True):
    """The gate's decision, for the record, the model and whoever watches. It asks for no work."""

    n: int
    tool: str
    decision: "Decision"
    rule: str  # which check decided
    reason: str


class Decision(StrEnum):
    allowed = "allowed"
    held = "held"  # waits for a confirmation
    refused = "refused"
    started = "started"  # passed the second check
    withdrawn = "withdrawn"  # was allowed or held, and will not start any more


class AllowTool(Order, frozen=True, tag=True):
    """Make the journal durable up to here, reserve `once`, then post `ToolReady`."""

    n: int
    tool: str
    arguments: dict[str, Value]
    key: str  # the idempotency key, sent downstream
    once: str  # empty: none


class StartTool(Order, frozen=True, tag=True):
    """The second check has passed: do it, with the arguments of its `AllowTool`."""

    n: int


class WithdrawTool(Order, frozen=True, tag=True):
    """It has not started and will not: release what is reserved."""

    n: int


class CancelTool(Order, frozen=True, tag=True):
    """A running read whose result nobody needs any more. Its `ToolEnded` still comes."""

    n: int


# The call


class Connect(Order, frozen=True, tag=True):
    """Who hears whom from now on: the sources that each leg hears, a leg's name or "agent".

    Empty: the caller's leg hears the agent, and no other leg is there.
    """

    hears: dict[str, tuple[str, ...]]


class ReferCaller(Order, frozen=True, tag=True):
    """Ask the caller's telephone to call somebody else. Answered by `TransferDone` or `TransferFailed`."""

    n: int
    to: str  # may name `{env.NAME}`


class DialLeg(Order, frozen=True, tag=True):
    """Dial the other side: `LegJoined` with this leg and the role `target`, or `TransferFailed`, follows."""

    n: int
    leg: str
    to: str
    answer_ms: int


class CallInstead(Order, frozen=True, tag=True):
    """Call whom the caller's side named, if that is allowed. Answered by `LegAttached`, or `ReferralFailed`."""

    n: int
    leg: str
    to: str
    answer_ms: int


class DeclineReferral(Order, frozen=True, tag=True):
    """Tell the caller's side that nobody is called in its place."""

    reason: str


class DropLeg(Order, frozen=True, tag=True):
    """This leg may not join, or not stay: close it, or stop dialling it."""

    leg: str
    reason: str


class EndCall(Order, frozen=True, tag=True):
    """The last order: close the legs and write the call record."""

    cause: str
    outcome: str


AnyEffect = (
    StartReply | StopReply | Speak | EndSpeech | HoldPlayout | ResumePlayout | CutPlayout | Listen
    | GoTo | Verdict | AllowTool | StartTool | WithdrawTool | CancelTool
    | Connect | ReferCaller | DialLeg | DropLeg | EndCall
    | CallInstead | DeclineReferral
)  # fmt: skip
