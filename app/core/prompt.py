"""What a reply's engine gets to see: one step of the flow, and nothing else of it."""

from app.core.call import Call
from app.core.request import WITHHELD, Hearing, Request, ToolSpec
from flows import values
from flows.model import SlotType, Value


def request(call: Call, gen: int) -> Request:
    """What the engine of the reply `gen` gets. Only this step, its slots and its tools exist in it."""
    state, step = call.state, call.step
    reply = state.reply
    assert reply is not None
    assert reply.gen == gen
    due = reply.due
    return Request(
        flow=call.flow,
        engine=reply.engine,
        system=_system(call),
        messages=tuple(state.history[-step.history :]) if step.history else (),
        tools=tuple(
            ToolSpec(tool.name, tool.description, tuple(a for a in tool.arguments if not a.slot))
            for tool in (call.flow.tools[name] for name in step.tools)
        ),
        slots=tuple(call.flow.slots[name] for name in call.proposable()),
        digressions=("repeat", *call.flow.digressions),
        words=due.words if due.turn else "",
        yesno=call.answerable(),
        asked=call.asked(),
        ready=call.ready() if not due.turn else (),
        known={name: value for name in call.flow.slots if (value := _visible(call, name)) is not None},
        max_words_chars=call.flow.limits.reply_chars,
    )


def hearing(call: Call) -> Hearing:
    """What the recogniser's grammar holds now: answers, corrections, early data, digressions."""
    slots = tuple(call.flow.slots[name] for name in call.proposable())
    phrases = tuple(phrase for name in call.flow.digressions for phrase in call.flow.steps[name].phrases)
    return Hearing(call.flow.language, slots, _asks_yesno(call), phrases)


def expects(call: Call) -> tuple[str, ...]:
    """The same as names: when it changes, the recogniser is told."""
    yesno = ("yesno",) if _asks_yesno(call) else ()
    return (*yesno, *call.proposable())


def _asks_yesno(call: Call) -> bool:
    question = call.state.question
    return question is not None and question.kind != "ask"


def _visible(call: Call, name: str) -> Value | None:
    if name not in _seen(call):
        return None
    value = call.view.value(name)
    return WITHHELD if value is not None and call.flow.slots[name].sensitive else value


def _seen(call: Call) -> tuple[str, ...]:
    """The slots that the model may see here: as declared, else those that the step collects and its tools use."""
    step = call.step
    if step.sees is not None:
        return step.sees
    arguments = (argument for name in step.tools for argument in call.flow.tools[name].arguments)
    return (*step.collect, *(argument.slot for argument in arguments if argument.slot))


def _system(call: Call) -> str:
    step = call.step
    parts = [
        "You are the voice of a phone line. Everything you write is spoken to the caller: "
        "one or two short plain sentences, no lists, no symbols.",
        "The software around you keeps the facts, reads values back to the caller and asks for their confirmation "
        "by itself. Never claim that something was done, found or agreed unless a tool outcome below says so.",
        f"Now: {call.line(step.prompt).shown}" if step.prompt else "",
        _slots_told(call),
        f"Answer in the language {call.flow.language!r}.",
    ]
    return "\n".join(part for part in parts if part)


def _slots_told(call: Call) -> str:
    lines = []
    for name in call.proposable():
        slot = call.flow.slots[name]
        value = _visible(call, name)
        if value is not None:
            shown = value if slot.sensitive else values.spoken(slot, value)
            state = "confirmed" if call.view.is_confirmed(name) else "being confirmed by the software"
            lines.append(f"- {name} = {shown} ({state})")
        elif name in call.step.collect and call.view.value(name) is None:
            how = "by keypad" if slot.type in (SlotType.date, SlotType.digits) else "by voice"
            lines.append(f"- {name} is missing; ask for it ({how}): {slot.ask}")
    return "What is known and what is missing:\n" + "\n".join(lines) if lines else ""
