"""A call as those see it who are not on it: its state at one moment, and each of its records. Both are masked."""

from typing import Any

import msgspec
from msgspec import Struct

from app.core.cdr import SERVER_DIED, Cdr
from app.core.core import CallCore
from app.core.effects import AllowTool, AnyEffect, Speak
from app.core.events import AnyEvent
from app.core.request import WITHHELD
from app.core.state import CallState, Counts, Phase, ToolState
from flows.model import Flow, Slot, Tool, Value

TROUBLE_CAUSES = {
    "internal-error": "ended by an internal error",
    SERVER_DIED: "its server died",
    "leg-lost": "the connection was lost",
    "speech-failed": "it could not speak",
    "gave-up": "it gave up",
}
"""Causes of a call's end that somebody should look at."""

_PLAIN = frozenset({"type", "gen", "n", "index", "utterance", "confidence", "outcome", "reason", "leg", "cause"})
"""Fields of sealed facts that are nobody's words: numbers of ours, and names from lists of ours."""


class SlotSeen(Struct, frozen=True):
    value: Value | None
    confirmed: bool
    rev: int


class ToolSeen(Struct, frozen=True):
    n: int
    tool: str
    state: str
    reason: str


class Asked(Struct, frozen=True):
    """The pending question; `slot` or `n` (a tool call) is what it is about."""

    kind: str
    slot: str
    n: int
    heard: bool


class View(Struct, frozen=True):
    step: str
    visit: int
    phase: str
    attempts: int
    slots: dict[str, SlotSeen]
    tools: list[ToolSeen]
    question: Asked | None
    timers: dict[str, int]  # the call's time at which each is due, in ms
    counts: dict[str, int]


class Trouble(Struct, frozen=True):
    """What went wrong in a call: how often, and in words; 0 and empty where nothing did."""

    count: int
    text: str


def view(core: CallCore) -> View:
    """As the call is now. Reads, and keeps nothing of it."""
    state, flow = core.state, core.flow
    question = state.question
    return View(
        step=state.step,
        visit=state.visit,
        phase=state.phase.value,
        attempts=state.attempts,
        slots={
            name: SlotSeen(
                WITHHELD if held.value is not None and hidden(flow, flow.slots[name]) else held.value,
                held.confirmed,
                held.rev,
            )
            for name, held in state.slots.items()
        },
        tools=[ToolSeen(entry.n, entry.tool, entry.state.value, entry.reason) for entry in state.tools.values()],
        question=(
            Asked(question.kind.value, question.slot, question.n, question.heard) if question is not None else None
        ),
        timers=dict(state.timers),
        counts=_counts(state.counts),
    )


def hidden(flow: Flow, slot: Slot) -> bool:
    """Whether its value is the caller's alone: declared so, or the result of a tool that is."""
    tool = flow.tools.get(slot.source.partition(".")[0]) if slot.source else None
    return slot.sensitive or (tool is not None and tool.sensitive)


def record(flow: Flow, seq: int, ms: int, event: AnyEvent, effects: list[AnyEffect], *, sealed: bool) -> dict[str, Any]:
    """One record for reading: what happened and what was ordered. Of a sealed fact no words, digits or values."""
    told = msgspec.to_builtins(event)
    if sealed:
        told = {name: value if name in _PLAIN else _withheld(value) for name, value in told.items()}
    orders = [_order(flow, effect, sealed=sealed) for effect in effects]
    return {"seq": seq, "ms": ms, "sealed": sealed, "event": told, "effects": orders}


def trouble(state: CallState) -> Trouble:
    """Of a live call."""
    lost = state.phase is Phase.live and not state.attached
    tools = [(entry.tool, entry.state) for entry in state.tools.values()]
    return _trouble("the connection is lost" if lost else "", state.counts.model_failures, tools)


def trouble_of(record: Cdr) -> Trouble:
    """Of a call that is over."""
    tools = [(line.tool, ToolState(line.state)) for line in record.tools]
    return _trouble(TROUBLE_CAUSES.get(record.cause, ""), record.model_failures, tools)


def _trouble(end: str, model_failures: int, tools: list[tuple[str, ToolState]]) -> Trouble:
    unknown = [name for name, state in tools if state is ToolState.unknown]
    failed = [name for name, state in tools if state is ToolState.failed]
    told = [
        end,
        f"unknown whether it happened: {', '.join(dict.fromkeys(unknown))}" if unknown else "",
        f"failed: {', '.join(dict.fromkeys(failed))}" if failed else "",
        "the model failed" + (f" {model_failures} times" if model_failures > 1 else "") if model_failures else "",
    ]
    return Trouble(bool(end) + len(unknown) + len(failed) + model_failures, "; ".join(filter(None, told)))


def _counts(counts: Counts) -> dict[str, int]:
    return {name: getattr(counts, name) for name in counts.__struct_fields__}


def _order(flow: Flow, effect: AnyEffect, *, sealed: bool) -> dict[str, Any]:
    told: dict[str, Any] = msgspec.to_builtins(effect)
    match effect:
        case Speak(private=True):
            told["text"] = WITHHELD
        case AllowTool(tool=name, once=once):
            tool = flow.tools[name]
            told["arguments"] = {
                argument: WITHHELD if _keeps(flow, tool, argument, sealed=sealed) else value
                for argument, value in effect.arguments.items()
            }
            if once:  # it is filled from slots, of whatever kind
                told["once"] = told["key"] = WITHHELD
    return told


def _keeps(flow: Flow, tool: Tool, name: str, *, sealed: bool) -> bool:
    if tool.sensitive:
        return True
    argument = next(argument for argument in tool.arguments if argument.name == name)
    return hidden(flow, flow.slots[argument.slot]) if argument.slot else sealed


def _withheld(value: object) -> object:
    """The same shape without its values."""
    if isinstance(value, dict):
        return {name: _withheld(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_withheld(inner) for inner in value]
    return WITHHELD if value not in ("", None) else value
