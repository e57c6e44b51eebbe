"""Admission and transition: what a flow allows, over any view of a call.

The one place that says what a tool needs and where a step leads. The core asks it about a live call; a checker may
explore it with views of its own. It knows nothing of liveness, `gen`, `rev` or budgets: those are `app.core.gate`'s.
"""

from collections.abc import Mapping
from enum import StrEnum
from functools import lru_cache
from typing import Protocol

from msgspec import Struct

from flows import expr
from flows.model import Argument, Flow, SlotType, Step, Tool, Value

ANONYMOUS = "anonymous"
"""The level that every caller has."""

MAX_NESTING = 32
"""How deep one step's `done` may ask for another's. Deeper is unknown, which admits nothing."""


class Status(StrEnum):
    """How a tool call stands where its result counts."""

    done = "done"
    failed = "failed"
    unknown = "unknown"
    declined = "declined"  # the caller said no to its confirmation


STATUSES = frozenset(Status)

CACHED_NAMES = 4096


class Result(Struct, frozen=True):
    status: Status
    fields: Mapping[str, Value | list[Value] | None] = {}


class View(Protocol):
    """What a call looks like to a flow."""

    @property
    def step(self) -> str: ...

    @property
    def attempts(self) -> int:
        """Failed tries at the present question."""
        ...

    def visits(self, step: str) -> int: ...

    def value(self, slot: str) -> Value | None: ...

    def is_confirmed(self, slot: str) -> bool:
        """Filled, and either confirmed by the caller or not in need of it."""
        ...

    def result(self, tool: str) -> Result | None:
        """The tool's last outcome, as long as the slots it used have not changed since."""
        ...


class Refusal(Struct, frozen=True):
    rule: str
    reason: str


class Move(Struct, frozen=True):
    to: str
    why: str


def holds(flow: Flow, view: View, guard: str) -> bool:
    """Whether a guard holds now; one that asks about something unknown does not."""
    return expr.holds(guard, _Names(flow, view))


def done(flow: Flow, view: View, step: str) -> bool:
    return _Names(flow, view).done(step) is True


def levels(flow: Flow, view: View) -> frozenset[str]:
    """The caller's levels: what the steps grant whose `done` holds *now*, so a correction takes a level back."""
    return _levels(flow, _Names(flow, view))


def admit(flow: Flow, view: View, name: str, own: Mapping[str, Value]) -> Refusal | None:
    """Whether the flow admits this tool in the present step; `own` are the arguments that the model gave."""
    step = flow.steps[view.step]
    tool = flow.tools.get(name)
    if tool is None:
        return Refusal("step", f"there is no tool {name!r}"[:120])
    if name not in step.tools:
        return Refusal("step", f"{name} is not available in step {step.name}")
    names = _Names(flow, view)
    if (missing := _unmet(step, names)) is not None:
        return Refusal("requires", f"step {missing} is not done")
    if (wrong := _wrong_arguments(tool, view, own)) is not None:
        return Refusal("arguments", wrong)
    if not expr.holds(tool.when, names):
        return Refusal("guard", f"{name} needs: {tool.when}")
    if tool.level != ANONYMOUS and tool.level not in _levels(flow, names):
        return Refusal("level", f"{name} needs the caller's level {tool.level}")
    return None


def transition(flow: Flow, view: View) -> Move | None:
    """Where the call should be instead of here; None: it stays."""
    step = flow.steps[view.step]
    names = _Names(flow, view)
    if (missing := _unmet(step, names)) is not None:
        return Move(missing, f"{step.name} requires {missing}")
    for way in step.next:
        if expr.holds(way.when, names) if way.when else names.done(step.name):
            return None if way.to == "stay" else Move(way.to, way.when or f"{step.name} is done")
    return None


def missing(flow: Flow, view: View) -> str | None:
    """The slot to ask for next in the present step."""
    return next((name for name in flow.steps[view.step].collect if view.value(name) is None), None)


def ready(flow: Flow, view: View) -> tuple[str, ...]:
    """Tools of the present step that are admitted with no argument of a model's, and have no outcome yet."""
    tools = flow.steps[view.step].tools
    return tuple(name for name in tools if view.result(name) is None and admit(flow, view, name, {}) is None)


def _unmet(step: Step, names: "_Names") -> str | None:
    """The first step that this one requires and that is not done now."""
    for name in step.requires:
        if not names.done(name):
            return name
    return None


def _levels(flow: Flow, names: "_Names") -> frozenset[str]:
    granted = (step.grants for step in flow.steps.values() if step.grants and names.done(step.name))
    return frozenset((ANONYMOUS, *granted))


def _wrong_arguments(tool: Tool, view: View, own: Mapping[str, Value]) -> str | None:
    for argument in tool.arguments:
        if argument.slot:
            if view.value(argument.slot) is None:
                return f"{argument.slot} is not known"
            if not view.is_confirmed(argument.slot):
                return f"{argument.slot} is not confirmed"
        elif argument.name not in own:
            return f"{argument.name} is missing"
        elif not _fits(argument, own[argument.name]):
            return f"{argument.name} is not a {argument.type}"
    names = {argument.name for argument in tool.arguments if not argument.slot}
    if any(name not in names for name in own):
        return "an argument that the model may not give"
    return None


def _fits(argument: Argument, value: Value) -> bool:
    match argument.type:
        case SlotType.yesno:
            return isinstance(value, bool)
        case SlotType.number | SlotType.money:
            return isinstance(value, int | float) and not isinstance(value, bool)
        case _:
            return isinstance(value, str) and 0 < len(value) <= argument.max_chars


@lru_cache(CACHED_NAMES)
def _parts(name: str) -> tuple[str, ...]:
    return tuple(name.split("."))


class _Names:
    """Looks up what guards may ask for; `check` lists the same names. One serves one question of one moment."""

    def __init__(self, flow: Flow, view: View) -> None:
        self._flow = flow
        self._view = view
        self._done: dict[str, bool | None] = {}
        self._depth = 0

    def done(self, name: str) -> bool | None:
        """Whether a step is done; None where its `done` asks, by way of others, for itself, or too deep."""
        if name not in self._done:
            self._done[name] = None
            step = self._flow.steps[name]
            if not step.done:
                self._done[name] = all(self._view.is_confirmed(slot) for slot in step.collect)
            elif self._depth < MAX_NESTING:
                self._depth += 1
                self._done[name] = expr.holds(step.done, self)
                self._depth -= 1
        return self._done[name]

    def __call__(self, name: str) -> object:
        match _parts(name):
            case ["attempts"]:
                return self._view.attempts
            case ["visits"]:
                return self._view.visits(self._view.step)
            case [slot]:
                return self._view.value(slot)
            case ["steps", step, "done"] if step in self._flow.steps:
                return self.done(step)
            case [slot, "filled"] if slot in self._flow.slots:
                return self._view.value(slot) is not None
            case [slot, "confirmed"] if slot in self._flow.slots:
                return self._view.is_confirmed(slot)
            case [tool, field] if tool in self._flow.tools:
                return self._tool(tool, field)
        return None

    def _tool(self, tool: str, field: str) -> object:
        result = self._view.result(tool)
        if field in STATUSES:
            return result is not None and result.status == field
        return result.fields.get(field) if result is not None and result.status is Status.done else None
