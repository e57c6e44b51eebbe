"""What is seen of a call's state and records, and that nothing of it is the caller's alone."""

import json
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from app.core import cdr, view
from app.core.core import CallCore
from app.core.effects import AllowTool, Speak
from app.core.events import (
    Digit,
    LegLost,
    ReplyFailed,
    SlotsProposed,
    TextReceived,
    ToolEnded,
    ToolOutcome,
    ToolRequest,
    ToolsRequested,
    Transcript,
)
from app.core.request import WITHHELD
from tests.core.stories import PIN, SPOKEN_PIN, choosing, confirming, greeted
from tests.journals.stories import STORIES
from tests.support.driver import Driver
from tests.support.shop import shop


def records(driver: Driver) -> Iterator[tuple[CallCore, dict[str, Any]]]:
    """The call told again, record by record."""
    core = CallCore(driver.flow, "c")
    for seq, (ms, event, _) in enumerate(driver.log, 1):
        effects = core.handle(event, ms)
        yield core, view.record(driver.flow, seq, ms, event, effects, sealed=core.sealed)


def test_a_view_says_where_the_call_is() -> None:
    driver = confirming()
    seen = view.view(driver.core)
    assert (seen.step, seen.visit, seen.phase) == (driver.state.step, driver.state.visit, "live")
    assert seen.slots["item"] == view.SlotSeen("tea", True, 1)
    assert seen.question is not None
    assert (seen.question.kind, seen.question.heard) == ("confirm", False)
    assert seen.question.n == driver.state.question.n if driver.state.question else False
    assert [(tool.tool, tool.state) for tool in seen.tools] == [
        (entry.tool, entry.state.value) for entry in driver.state.tools.values()
    ]
    assert seen.timers["duration"] == driver.state.timers["duration"]
    assert seen.counts["turns"] == driver.state.counts.turns > 0


def test_a_view_keeps_what_it_saw() -> None:
    driver = greeted()
    before = msgspec.json.encode(view.view(driver.core))
    seen = view.view(driver.core)
    driver.hear_all()
    driver.key(PIN)
    assert msgspec.json.encode(seen) == before


def test_a_sensitive_value_is_masked_and_an_empty_one_is_not() -> None:
    driver = greeted()
    sensitive = [name for name, slot in driver.flow.slots.items() if slot.sensitive]
    assert all(view.view(driver.core).slots[name].value is None for name in sensitive)
    driver = choosing()
    filled = view.view(driver.core).slots
    assert [filled[name].value for name in sensitive] == [WITHHELD] * len(sensitive)


def test_what_a_sensitive_tool_gave_is_masked_in_the_slot_that_it_fills() -> None:
    flow = shop()
    derived = next(slot for slot in flow.slots.values() if slot.source)
    name = derived.source.partition(".")[0]
    flow = replace(
        flow,
        slots={**flow.slots, derived.name: replace(derived, sensitive=False)},
        tools={**flow.tools, name: replace(flow.tools[name], sensitive=True)},
    )
    assert view.view(choosing(flow).core).slots[derived.name].value == WITHHELD


@pytest.mark.parametrize("name", STORIES)
def test_no_view_or_record_of_a_story_holds_the_secret(name: str) -> None:
    for core, record in records(STORIES[name]()):
        text = json.dumps(record) + msgspec.json.encode(view.view(core)).decode()
        assert PIN not in text
        assert SPOKEN_PIN not in text


SEALED = [
    Transcript(1, "my secret"),
    TextReceived("my secret"),
    Digit("7"),
    SlotsProposed(3, {"pin": "my secret"}, "my secret"),
    ToolsRequested(3, (ToolRequest("m", "note", {"text": "my secret"}),)),
    ToolEnded(1, ToolOutcome.done, {"code": "my secret", "all": ["my secret"], "none": None}),
]


@pytest.mark.parametrize("event", SEALED, ids=lambda event: type(event).__name__)
def test_a_sealed_record_keeps_its_shape_and_loses_its_words(event: Any) -> None:
    flow = shop()
    open_ = view.record(flow, 4, 70, event, [], sealed=False)
    sealed = view.record(flow, 4, 70, event, [], sealed=True)
    assert open_["event"] == msgspec.to_builtins(event)
    assert sealed["event"].keys() == open_["event"].keys()
    assert sealed["event"]["type"] == type(event).__name__
    assert "my secret" not in json.dumps(sealed)
    assert '"7"' not in json.dumps(sealed)


def test_private_words_and_sensitive_arguments_of_orders_are_withheld() -> None:
    driver = choosing()
    allow = next(effect for effect in driver.effects if isinstance(effect, AllowTool))
    assert PIN in json.dumps(msgspec.to_builtins(allow))
    told = view.record(driver.flow, 1, 0, Digit("#"), [Speak(1, 0, "I have 1 2 3 4.", True), allow], sealed=False)
    assert told["effects"][0]["text"] == WITHHELD
    assert told["effects"][1]["arguments"].keys() == allow.arguments.keys()
    assert PIN not in json.dumps(told)
    once = view.record(driver.flow, 1, 0, Digit("#"), [replace(allow, key="k/1234", once="k/1234")], sealed=False)
    assert PIN not in json.dumps(once)


def test_trouble_of_a_live_call() -> None:
    driver = greeted(shop(use="scripted"))
    assert view.trouble(driver.state) == view.Trouble(0, "")
    driver.post(ReplyFailed(driver.state.gen, "timeout"), 100)
    assert view.trouble(driver.state) == view.Trouble(1, "the model failed")
    driver.post(LegLost("leg"), 100)
    assert view.trouble(driver.state) == view.Trouble(2, "the connection is lost; the model failed")


def test_trouble_of_a_call_that_is_over() -> None:
    driver = confirming()
    driver.results["order"] = ToolOutcome.unknown
    driver.hear_all()
    driver.key("#")
    record = cdr.build(driver.flow, driver.state)
    assert view.trouble_of(replace(record, cause="flow")) == view.Trouble(1, "unknown whether it happened: order")
    died = view.trouble_of(replace(record, cause="server-died", tools=()))
    assert died == view.Trouble(1, "its server died")
    assert view.trouble_of(replace(record, cause="caller-hangup", tools=())).count == 0
