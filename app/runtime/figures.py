"""How a flow's calls went, counted over their records: outcomes, where callers were lost, what the gate said."""

from collections.abc import Iterable
from typing import Final

from msgspec import Struct, field

from app.core.cdr import Cdr
from app.core.state import ToolState
from flows import load
from flows.model import Flow

BY_FLOW: Final = "flow"
"""The cause of a call that came to an end of its flow."""

BY_CALLER: Final = "confirm"
"""The rule by which a caller's no refuses."""

_NOT_ADMITTED: Final = {
    ToolState.refused: "",
    ToolState.declined: "confirm",
    ToolState.withdrawn: "",
    ToolState.held: "",
}
_WRITTEN_RULES: Final = ("once", "journal")
"""Reasons of a tool that failed because it was refused after it had been allowed."""


class ToolFigures(Struct):
    requested: int = 0
    allowed: int = 0
    refused: dict[str, int] = field(default_factory=dict)  # or withdrawn; by the rule


class FlowFigures(Struct):
    name: str
    version: int
    hash: str
    steps: list[str]
    calls: int = 0
    outcomes: dict[str, int] = field(default_factory=dict)
    dropoff: dict[str, int] = field(default_factory=dict)  # by the last step, of calls that ended otherwise
    tools: dict[str, ToolFigures] = field(default_factory=dict)


def figures(flow: Flow, records: Iterable[Cdr]) -> FlowFigures:
    told = FlowFigures(flow.name, flow.version, load.flow_hash(flow), list(flow.steps))
    told.tools = {name: ToolFigures() for name in flow.tools}
    for record in records:
        told.calls += 1
        _count(told.outcomes, record.outcome)
        if record.cause != BY_FLOW:
            _count(told.dropoff, record.last_step)
        for line in record.tools:
            tool = told.tools.get(line.tool)
            if tool is None:
                continue  # of an earlier version, or made up by a model
            state = ToolState(line.state)
            tool.requested += 1
            if state in _NOT_ADMITTED:
                if state is not ToolState.held:
                    _count(tool.refused, line.reason or BY_CALLER)
            elif state is ToolState.failed and line.reason in _WRITTEN_RULES:
                _count(tool.refused, line.reason)
            else:
                tool.allowed += 1
    return told


def _count(counts: dict[str, int], name: str) -> None:
    counts[name] = counts.get(name, 0) + 1
