"""The call detail record: what is left of a call when it is over. It holds no words and no sensitive values."""

from msgspec import Struct, field

from app.core.state import CallState
from flows.model import Flow, Value


class ToolLine(Struct, frozen=True):
    n: int
    tool: str
    state: str
    reason: str


class Cdr(Struct, frozen=True):
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


def build(flow: Flow, state: CallState) -> Cdr:
    counts = state.counts
    return Cdr(
        call=state.call,
        flow=flow.name,
        transport=state.transport,
        caller=state.caller,
        called=state.called,
        cause=state.cause or "internal-error",
        outcome=state.outcome or "internal-error",
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
    )
