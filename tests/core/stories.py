"""Beginnings that many tests share, and a workshop with one tool for each rule of the gate."""

from typing import TypeVar

from msgspec.structs import replace

from app.core.effects import AnyEffect
from app.core.events import AnyEvent, ReplyEnded, SlotsProposed
from flows.model import Argument, Flow, Limits, Model, Slot, SlotType, Step, Tool, ToolEffect, Transition, Value
from tests.support.driver import Driver
from tests.support.shop import flow_of, http, picks, shop

E = TypeVar("E", bound=AnyEffect | AnyEvent)

PIN = "1234"
SPOKEN_PIN = "1 2 3 4"
FOUND: dict[str, Value | list[Value] | None] = {"found": True, "customer": "k7"}


def greeted(flow: Flow | None = None, *, writes: bool = True) -> Driver:
    """The shop's first words are out, and nobody has heard them yet."""
    driver = Driver(flow or shop(), writes=writes, secrets=(PIN, SPOKEN_PIN))
    driver.results = {"find_customer": FOUND, "stock": {}, "order": {"reference": "r1"}, "note": {}}
    return driver.start()


def choosing(flow: Flow | None = None) -> Driver:
    """The caller is known and hears what there is to choose."""
    driver = greeted(flow)
    driver.hear_all()
    driver.key(PIN)
    driver.hear_all()
    driver.key("#")
    assert driver.state.step == "choose"
    return driver


def confirming(flow: Flow | None = None) -> Driver:
    """Everything is chosen; "Shall I order tea for Monday now?" is being said."""
    driver = choosing(flow)
    for words in ("tea", "yes", "monday", "yes"):
        driver.hear_all()
        driver.say(words)
    assert driver.spoken()[-1] == "Shall I order tea for Monday now?"
    return driver


def of(driver: Driver, kind: type[E]) -> list[E]:
    """The orders of one kind, so far."""
    return [effect for effect in driver.effects if isinstance(effect, kind)]


def texts(driver: Driver, role: str) -> list[str]:
    return [message.text for message in driver.state.history if message.role == role]


def propose(driver: Driver, **slots: Value) -> None:
    driver.post(SlotsProposed(driver.state.gen, dict(slots), "words"))


def with_step(flow: Flow, name: str, **fields: object) -> Flow:
    """The same flow with one step changed."""
    return replace(flow, steps={**flow.steps, name: replace(flow.steps[name], **fields)})


def with_tool(flow: Flow, name: str, **fields: object) -> Flow:
    return replace(flow, tools={**flow.tools, name: replace(flow.tools[name], **fields)})


def finish(driver: Driver) -> str:
    """The model is through, and its words are heard."""
    driver.post(ReplyEnded(driver.state.gen))
    return driver.hear_all()


def workshop(**limits: int) -> Flow:
    """One step, run by a model, and a tool for each rule."""
    item = Argument("item", slot="item")
    tools = [
        Tool("look", ToolEffect.read, http=http("look"), arguments=(item,), result=(("price", SlotType.money),)),
        Tool("jot", ToolEffect.write, http=http("jot"), arguments=(Argument("text", max_chars=8),)),
        Tool("mark", ToolEffect.write, http=http("mark"), arguments=(item,)),
        Tool("pay", ToolEffect.irreversible, http=http("pay"), arguments=(Argument("text"),), once="{item}"),
        Tool(
            "ship",
            ToolEffect.irreversible,
            http=http("ship"),
            arguments=(item, Argument("text")),
            once="{item}",
            confirm="Ship {item} to {text}?",
        ),
        Tool("later", ToolEffect.read, http=http("later"), when="look.done"),
        Tool("gold", ToolEffect.read, http=http("gold"), level="gold"),
        Tool("elsewhere", ToolEffect.read, http=http("elsewhere")),
        Tool("riddle", ToolEffect.irreversible, http=http("riddle"), once="{day}"),
    ]
    slots = [
        Slot("item", SlotType.choice, choices=(picks("tea", 1), picks("coffee", 2)), confirm=False),
        Slot("size", SlotType.number, ask="Which size?", readback="{value}?"),
        Slot("day", SlotType.weekday),
        Slot("price", SlotType.money, source="look.price"),
    ]
    here = tuple(tool.name for tool in tools if tool.name != "elsewhere")
    steps = [
        Step("work", collect=("item", "size"), tools=here, next=(Transition("out", "day.filled"),)),
        Step("out", say="Out.", collect=("size", "day"), tools=("elsewhere",), grants="gold"),
        Step("shut", tools=("elsewhere",), requires=("work",)),
        Step("aside", say="By the way.", collect=("size",), tools=("mark", "ship"), phrases=("by the way",)),
    ]
    return flow_of(
        "workshop",
        steps,
        slots,
        tools,
        digressions=("aside",),
        models={"main": Model("main", "scripted")},
        limits=Limits(**limits),
    )


def working(flow: Flow | None = None, *, writes: bool = True) -> Driver:
    """The workshop's model is at work, and the item is tea."""
    driver = Driver(flow or workshop(), writes=writes).start()
    propose(driver, item="tea")
    return driver
