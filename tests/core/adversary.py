"""A flow that an author should not write: it goes round, asks twice, digresses deep, and its tools take anything."""

from flows.model import (
    Argument,
    Flow,
    Limits,
    Model,
    Slot,
    SlotType,
    Step,
    Tool,
    ToolEffect,
    TransferBy,
    TransferTo,
    Transition,
)
from tests.support.shop import flow_of, http, picks

PIN = "8064"
"""The only value of the sensitive slot, so that it can be looked for."""


def adversary(*, use: str = "scripted") -> Flow:
    slots = [
        Slot("pin", SlotType.digits, ask="Your code?", min_digits=4, max_digits=4, sensitive=True),
        Slot("word", SlotType.choice, ask="Red or blue?", choices=(picks("red", 1), picks("blue", 2))),
        Slot("day", SlotType.weekday, ask="Which day?", confirm=False),
        Slot("count", SlotType.number, ask="How many?", minimum=0, maximum=9, readback="{value} of them, {value}?"),
        Slot("place", SlotType.string, source="look.place"),
    ]
    word, day = Argument("word", slot="word"), Argument("day", slot="day")
    tools = [
        Tool("look", ToolEffect.read, http=http("look"), arguments=(word,), result=(("place", SlotType.string),)),
        Tool("peek", ToolEffect.read, http=http("peek"), arguments=(Argument("pin", slot="pin"),), sensitive=True),
        Tool("jot", ToolEffect.write, http=http("jot"), arguments=(Argument("text"),)),
        Tool(
            "buy",
            ToolEffect.irreversible,
            http=http("buy"),
            arguments=(word, Argument("text")),
            once="{word}",
            confirm="Buy {text} in {word}?",
            level="known",
        ),
        Tool("fire", ToolEffect.irreversible, http=http("fire"), arguments=(day,), once="{day}", when="word.filled"),
        Tool(
            "send",
            ToolEffect.write,
            http=http("send"),
            arguments=(Argument("place", slot="place"),),
            confirm="Send it to {place} now?",
            timeout_ms=500,
        ),
    ]
    every = tuple(tool.name for tool in tools)
    steps = [
        Step(
            "first",
            say="Hello {word}.",
            collect=("word", "pin"),
            tools=("look", "jot", "buy"),
            grants="known",
            next=(
                Transition("first", "visits < 3 and look.done"),
                Transition("second", "word.confirmed and pin.confirmed"),
            ),
        ),
        Step(
            "second",
            prompt="Sell {word} on {day}.",
            collect=("day",),
            tools=every,
            done="word.filled and day.filled",
            sees=("day",),
            next=(
                Transition("round", "jot.done and visits < 4"),
                Transition("third", "fire.done or buy.done or send.unknown"),
            ),
        ),
        Step("round", say="Round.", forget=("day",), next=(Transition("about", "true"),)),
        Step("about", next=(Transition("round", "visits < 3"), Transition("second"))),
        Step(
            "third",
            requires=("first", "second"),
            collect=("count", "word"),
            tools=("send", "fire", "peek"),
            model="rules",
            attempts=2,
            next=(Transition("last", "count.confirmed and send.done"), Transition("second", "attempts >= 1")),
        ),
        Step("last", say="Bye {word}.", end="over"),
        Step("help", say="Help.", phrases=("help",)),
        Step("form", say="A form.", collect=("count",), tools=("jot", "send"), phrases=("form",)),
        Step("leave", say="Leaving.", end="left", phrases=("leave",)),
        Step("desk", say="The desk.", transfer=TransferTo("{env.DESK}", announce="A {word}."), phrases=("desk",)),
        Step("hall", transfer=TransferTo("{env.HALL}", after="round", failed="moved"), phrases=("hall",)),
        Step("moved", transfer=TransferTo("{env.HALL}", TransferBy.refer, failed="about")),
        Step("pit", say="The pit.", next=(Transition("pit", "true"),)),
    ]
    return flow_of(
        "adversary",
        steps,
        slots,
        tools,
        digressions=("help", "form", "leave", "pit", "desk", "hall"),
        models={"main": Model("main", use), "rules": Model("rules", "rules")},
        limits=Limits(duration_s=300, turns=12, silence_s=6, silences=4, tool_calls=12, reply_chars=200),
        give_up="third",
    )
