"""The call detail record: what is left of a call when it is over. It holds no words and no sensitive values."""

import msgspec
from msgspec import Struct, field
from msgspec.structs import replace

from app.core.state import CallState, Phase, Quality, ReferralLine, ToolState, TransferLine
from flows.model import Flow, Value

INTERNAL_ERROR = "internal-error"
SERVER_DIED = "server-died"


class CdrError(Exception):
    """These bytes are no call record of this version."""


class ToolLine(Struct, frozen=True):
    n: int
    tool: str
    state: str
    reason: str


class Cdr(Struct, frozen=True, forbid_unknown_fields=True):
    call: str
    flow: str
    transport: str
    caller: str
    called: str
    cause: str  # why it ended: "flow", "caller-hangup", "silence", "duration", "leg-lost", "internal-error", ...
    outcome: str  # what the flow made of it
    last_step: str
    duration_ms: int
    turns: int
    barge_ins: int
    holds: int
    replies: int
    refused: int  # tool requests that the gate refused
    model_failures: int
    input_tokens: int
    output_tokens: int
    slots: dict[str, Value] = field(default_factory=dict)  # confirmed ones, without the sensitive ones
    tools: tuple[ToolLine, ...] = ()
    listeners: tuple[str, ...] = ()  # who listened in
    placed_by: str = ""  # of a call of ours: whose order it was
    answerer: str = ""  # who answered it: "human", "machine", ...
    quality: Quality | None = None  # of the caller's leg, over RTP
    transfers: tuple[TransferLine, ...] = ()
    referrals: tuple[ReferralLine, ...] = ()  # who took the caller's place, as its side asked
    answered_ms: int | None = None  # after which somebody did; None: nobody, or it came to us


def read(record: bytes) -> Cdr:
    """Raises `CdrError`."""
    try:
        return msgspec.json.decode(record, type=Cdr)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise CdrError("the call record is damaged") from error


def told(flow: Flow, state: CallState) -> Cdr:
    """As far as the journal goes, for a call whose server may have died: it never said how it ended."""
    record = build(flow, state)
    if state.phase is Phase.ended:
        return record
    return replace(
        record,
        cause=state.cause or SERVER_DIED,
        outcome=state.outcome or SERVER_DIED,
        # A tool's start is recorded behind, so an allowed one may have started too.
        tools=tuple(
            replace(line, state=ToolState.unknown, reason=SERVER_DIED)
            if line.state in (ToolState.allowed, ToolState.running)
            else line
            for line in record.tools
        ),
    )


def build(flow: Flow, state: CallState) -> Cdr:
    """At the call's end."""
    counts = state.counts
    return Cdr(
        call=state.call,
        flow=flow.name,
        transport=state.transport,
        caller=state.caller,
        called=state.called,
        cause=state.cause or INTERNAL_ERROR,
        outcome=state.outcome or INTERNAL_ERROR,
        last_step=state.step,
        duration_ms=state.now_ms,
        turns=counts.turns,
        barge_ins=counts.barge_ins,
        holds=counts.holds,
        replies=counts.replies,
        refused=counts.refused,
        model_failures=counts.model_failures,
        input_tokens=counts.input_tokens,
        output_tokens=counts.output_tokens,
        slots={
            name: held.value
            for name, held in state.slots.items()
            if held.value is not None and held.confirmed and not flow.slots[name].sensitive
        },
        tools=tuple(ToolLine(e.n, e.tool, e.state.value, e.reason) for e in state.tools.values()),
        listeners=tuple(state.listeners),
        quality=state.quality,
        transfers=tuple(state.transfers),
        referrals=tuple(state.referrals),
        placed_by=state.placed.by if state.placed is not None else "",
        answerer=state.placed.answerer if state.placed is not None else "",
        answered_ms=(state.placed.answered_ms or None) if state.placed is not None else None,
    )
