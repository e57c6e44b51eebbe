"""Slots: what was proposed becomes a value, a question, a confirmation or a correction."""

from collections.abc import Mapping

from app.core import gate
from app.core.call import Call
from app.core.request import WITHHELD, Message
from app.core.state import Line, Question, QuestionKind, Reply, ToolCall, ToolState
from flows import semantics, values
from flows.model import Slot, Value

YES_KEY = "#"
NO_KEY = "*"


def propose(call: Call, proposed: Mapping[str, object], *, own_words: bool) -> bool:
    """Type, validate and set what an engine or the keys read. Returns whether anything of it counted.

    `own_words`: read from the caller's words or keys by the software itself, not by a model.
    """
    counted = False
    for name, raw in proposed.items():
        slot = call.flow.slots.get(name)
        if slot is None or slot.source:
            continue
        counted = True
        try:
            value = values.parse(slot, raw)
        except ValueError as error:
            reject(call, slot, str(error))
            continue
        _accept(call, slot, value, own_words=own_words)
    return counted


def reject(call: Call, slot: Slot, reason: str) -> None:
    """A value that cannot be: the caller hears so and is asked again."""
    call.state.attempts += 1
    call.note(f"{slot.name} was not accepted: {reason}")
    call.want().lead.append(call.line(call.flow.texts.rejected))


def put(call: Call, name: str, value: Value | None, *, confirmed: bool) -> None:
    """The one place where a slot changes. What was built on its old value falls."""
    held = call.state.slots[name]
    if held.value == value:
        held.confirmed = confirmed and value is not None
        return
    held.value = value
    held.rev += 1
    held.confirmed = confirmed and value is not None
    gate.withdraw_outdated(call)
    for slot in call.flow.slots.values():
        tool = call.flow.tools.get(slot.source.partition(".")[0]) if slot.source else None
        if tool is not None and any(argument.slot == name for argument in tool.arguments):
            put(call, slot.name, None, confirmed=False)


def confirm(call: Call, name: str) -> None:
    call.state.slots[name].confirmed = True
    call.state.question = None
    call.state.attempts = 0
    call.want()


def derive(call: Call, entry: ToolCall) -> None:
    """A tool's current result fills the slots that come from it."""
    if not entry.steers or entry.state is not ToolState.done:
        return
    for slot in call.flow.slots.values():
        tool, _, field = slot.source.partition(".")
        if tool != entry.tool:
            continue
        found = entry.fields.get(field)
        try:
            value = None if found is None else values.parse(slot, found)
        except ValueError:
            value = None
        put(call, slot.name, value, confirmed=True)


def answer(call: Call, *, yes: bool) -> bool:
    """Yes or no to the pending question; counts only if it was heard through its value."""
    question = call.state.question
    if question is None or not question.heard or question.kind is QuestionKind.ask:
        return False
    if question.kind is QuestionKind.confirm:
        call.state.question = None
        gate.confirmed(call, question.n) if yes else gate.declined(call, question.n)
    elif call.state.slots[question.slot].rev == question.rev:
        if yes:
            confirm(call, question.slot)
        else:
            call.state.attempts += 1
            call.state.question = None
            put(call, question.slot, None, confirmed=False)
            call.note(f"The caller said that {question.slot} was not right.")
    call.want()
    return True


def answer_by_key(call: Call) -> None:
    """A key cuts the question's words off: it counts once the playout has told what was heard of them."""
    floor = call.state.floor
    if floor.answer and call.state.reply is None:
        key, floor.answer = floor.answer, ""
        answer(call, yes=key == YES_KEY)


# Asking


def software_asks(call: Call) -> bool:
    """Whether the next question is the software's own, whatever engine the step has."""
    return _held(call) is not None or _unconfirmed(call) is not None


def next_question(call: Call, reply: Reply, *, ask: bool) -> Line | None:
    """The question that is due at the end of a reply: a confirmation, a read-back, or (where `ask`) the next slot's."""
    state = call.state
    line: Line | None = None
    if (n := _held(call)) is not None:
        text = call.flow.tools[state.tools[n].tool].confirm
        line = call.line(text, state.tools[n].arguments)
        state.question = Question(QuestionKind.confirm, n=n, through=_through(text, line))
    elif (name := _unconfirmed(call)) is not None:
        line, through = _readback(call, call.flow.slots[name])
        state.question = Question(QuestionKind.readback, slot=name, rev=state.slots[name].rev, through=through)
    elif ask and (name := semantics.missing(call.flow, call.view)) is not None and not gate.in_flight(call):
        line = call.line(call.flow.slots[name].ask)
        state.question = Question(QuestionKind.ask, slot=name, rev=state.slots[name].rev)
    if line is None or not line.text or state.question is None:
        return None
    state.question.gen = reply.gen
    state.question.index = reply.question_at = len(reply.spoken)
    return line


def _accept(call: Call, slot: Slot, value: Value, *, own_words: bool) -> None:
    held = call.state.slots[slot.name]
    question = call.state.question
    if held.value == value:
        # Said again over its own read-back: as good as a yes, under the same condition. A model repeats what it knows.
        asked = question is not None and question.slot == slot.name and question.heard and question.rev == held.rev
        if own_words and asked:
            confirm(call, slot.name)
        call.want()
        return
    call.state.question = None
    if not slot.confirm:
        call.state.attempts = 0  # else once it is confirmed: a caller who says no to every read-back is not getting on
    put(call, slot.name, value, confirmed=not slot.confirm)
    if slot.sensitive:
        _withhold_words(call)
    call.note(f"{slot.name} is now {WITHHELD if slot.sensitive else value}.")
    call.want()


def _withhold_words(call: Call) -> None:
    """A sensitive value came unasked, so the words that held it stand in the history."""
    history = call.state.history
    last = next((at for at in reversed(range(len(history))) if history[at].role == "caller"), None)
    if last is not None:
        history[last] = Message("caller", WITHHELD)


def _held(call: Call) -> int | None:
    entries = call.state.tools.values()
    return next((e.n for e in entries if e.state is ToolState.held and e.visit == call.state.visit), None)


def _unconfirmed(call: Call) -> str | None:
    """What was heard and not yet confirmed: the present step's first, then whatever was volunteered."""

    def open_(name: str) -> bool:
        held = call.state.slots[name]
        return held.value is not None and not held.confirmed

    mine = (name for name in call.step.collect if open_(name))
    return next(mine, None) or next((name for name in call.flow.slots if open_(name)), None)


def _readback(call: Call, slot: Slot) -> tuple[Line, int]:
    value = call.view.value(slot.name)
    assert value is not None
    text = slot.readback or call.flow.texts.readback
    spoken = values.spoken(slot, value)
    said = text.replace("{value}", spoken)
    masked = text.replace("{value}", WITHHELD) if slot.sensitive else ""
    after = len(text.rpartition("{value}")[2])
    return Line(said, masked), len(said) - after or len(said)


def _through(text: str, line: Line) -> int:
    """A confirmation counts once its last value and all but its last word were heard."""
    values_end = len(line.text) - len(text.rpartition("}")[2])
    return max(values_end, len(line.text.rstrip().rpartition(" ")[0])) or len(line.text)
