"""A small shop's flow that uses every part of the language: the core's tests and the Hypothesis machine run on it."""

from collections.abc import Iterable, Sequence
from typing import Any

from flows.model import (
    Argument,
    Choice,
    Flow,
    HttpCall,
    Limits,
    Model,
    Slot,
    SlotType,
    Step,
    Texts,
    Tool,
    ToolEffect,
    Transition,
)

TEXTS = Texts(
    not_understood="Sorry, I did not get that.",
    not_heard="Are you still there?",
    filler="One moment please.",
    failed="Sorry, that did not work.",
    readback="I have {value}. Is that right?",
    rejected="That does not look right.",
    goodbye="Goodbye.",
)


def http(name: str) -> HttpCall:
    return HttpCall("POST", "http://127.0.0.1/" + name)


def flow_of(name: str, steps: Sequence[Step], slots: Iterable[Slot], tools: Iterable[Tool], **more: Any) -> Flow:
    """It starts with its first step. `more`: all else that a flow may have."""
    return Flow(
        name,
        1,
        steps[0].name,
        {step.name: step for step in steps},
        TEXTS,
        slots={slot.name: slot for slot in slots},
        tools={tool.name: tool for tool in tools},
        **more,
    )


def shop(*, use: str = "rules") -> Flow:
    slots = [
        Slot("pin", SlotType.digits, ask="Key in your four digit code.", min_digits=4, max_digits=4, sensitive=True),
        Slot("item", SlotType.choice, ask="Tea or coffee?", choices=(picks("tea", 1), picks("coffee", 2))),
        Slot("day", SlotType.weekday, ask="Which day?"),
        Slot("customer", SlotType.string, source="find_customer.customer"),
    ]
    tools = [
        Tool(
            "find_customer",
            ToolEffect.read,
            http=http("find"),
            arguments=(Argument("pin", slot="pin"),),
            result=(("found", SlotType.yesno), ("customer", SlotType.string)),
            sensitive=True,
        ),
        Tool("note", ToolEffect.write, http=http("note"), arguments=(Argument("text"),)),
        Tool("stock", ToolEffect.read, http=http("stock"), arguments=(Argument("item", slot="item"),)),
        Tool(
            "order",
            ToolEffect.irreversible,
            http=http("order"),
            arguments=(
                Argument("customer", slot="customer"),
                Argument("item", slot="item"),
                Argument("day", slot="day"),
            ),
            level="verified",
            when="stock.done",
            once="{customer}:{item}:{day}",
            confirm="Shall I order {item} for {day} now?",
            result=(("reference", SlotType.string),),
        ),
    ]
    steps = [
        Step(
            "identify",
            say="Welcome to the shop.",
            collect=("pin",),
            tools=("find_customer",),
            done="find_customer.found",
            grants="verified",
            next=(
                Transition("choose", "find_customer.found"),
                Transition("unknown", "find_customer.done and not find_customer.found"),
            ),
        ),
        Step("unknown", say="I do not know that code.", forget=("pin",), next=(Transition("identify"),)),
        Step(
            "choose",
            say="What would you like?",
            prompt="Find out what they want.",
            collect=("item", "day"),
            tools=("note",),
            requires=("identify",),
            next=(Transition("order"),),
        ),
        Step(
            "order",
            requires=("identify", "choose"),
            prompt="Order {item}.",
            tools=("stock", "order"),
            next=(
                Transition("bye", "order.done"),
                Transition("again", "order.declined"),
                Transition("desk", "order.failed or order.unknown"),
            ),
        ),
        Step("again", say="Then let us change it.", forget=("item", "day"), next=(Transition("choose"),)),
        Step("bye", say="Ordered. Goodbye.", end="ordered"),
        Step("desk", say="Please call the desk.", end="referred"),
        Step("hours", say="We are open all day.", phrases=("opening hours", "when are you open")),
    ]
    return flow_of(
        "shop",
        steps,
        slots,
        tools,
        digressions=("hours",),
        models={"main": Model("main", use)},
        limits=Limits(duration_s=600, silence_s=8, silences=3),
        give_up="desk",
    )


def picks(word: str, key: int) -> Choice:
    return Choice(word, (word,), str(key))
