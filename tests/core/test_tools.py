"""What becomes of tools: outcomes, late and stale ones, hangup while one runs, and the ledger's memory."""

import pytest

from app.core import steps
from app.core.core import CallCore
from app.core.effects import CancelTool, EndCall, GoTo, StartTool
from app.core.events import (
    CallerHungUp,
    IntentProposed,
    Tick,
    ToolEnded,
    ToolOutcome,
    ToolReady,
)
from app.core.state import Phase, ToolState
from flows.model import Transition
from tests.core.stories import (
    FOUND,
    PIN,
    choosing,
    confirming,
    finish,
    greeted,
    of,
    propose,
    texts,
    with_step,
    working,
    workshop,
)
from tests.support.shop import shop


def test_a_result_fills_the_slots_that_come_from_it() -> None:
    driver = choosing()
    held = driver.state.slots["customer"]
    assert (held.value, held.confirmed) == ("k7", True)


@pytest.mark.parametrize(
    ("outcome", "step"),
    [(FOUND, "choose"), ({"found": False}, "identify"), (ToolOutcome.failed, "desk"), (ToolOutcome.unknown, "desk")],
)
def test_an_outcome_leads_on(outcome: object, step: str) -> None:
    driver = greeted()
    driver.results["find_customer"] = outcome  # type: ignore[assignment]
    driver.hear_all()
    driver.key(PIN)
    driver.hear_all()
    driver.key("#")
    assert driver.state.step == step


def test_the_model_is_told_of_a_failure_and_stays() -> None:
    driver = working()
    driver.results["look"] = ToolOutcome.failed
    driver.ask_tools(("look", {}))
    assert texts(driver, "tool") == ["failed: broken"]
    assert driver.state.step == "work"


def test_a_tool_that_never_ends_is_unknown() -> None:
    driver = working()
    driver.ask_tools(("look", {}))
    driver.wait(60_000)
    assert driver.state.tools[1].state is ToolState.unknown
    assert "unknown: timeout" in texts(driver, "tool")


def test_an_outcome_after_it_was_called_unknown_is_not_forgotten() -> None:
    driver = working()
    driver.ask_tools(("look", {}))
    driver.wait(12_000)
    assert driver.state.tools[1].reason == "timeout"
    driver.post(ToolEnded(1, ToolOutcome.done, {"price": 3}))
    assert driver.state.tools[1].state is ToolState.done
    assert driver.state.slots["price"].value == 3


@pytest.mark.parametrize("outcome", list(ToolOutcome))
def test_a_second_outcome_is_no_news(outcome: ToolOutcome) -> None:
    driver = working()
    driver.results = {"look": {"price": 3}}
    driver.ask_tools(("look", {}))
    history = list(driver.state.history)
    assert driver.post(ToolEnded(1, outcome, {"price": 9})) == []
    assert driver.state.slots["price"].value == 3
    assert driver.state.history == history


def test_the_echo_of_a_failure_does_not_end_the_next_step() -> None:
    ways = (*shop().steps["identify"].next, Transition("unknown", "find_customer.failed"))
    driver = greeted(with_step(shop(), "identify", next=ways))
    driver.results["find_customer"] = ToolOutcome.failed
    driver.hear_all()
    driver.key(PIN)
    driver.hear_all()
    driver.key("#")
    assert driver.state.step == "identify"
    driver.hear_all()
    assert driver.post(ToolEnded(1, ToolOutcome.failed)) == []
    assert driver.state.step == "identify"


@pytest.mark.parametrize("n", [0, -1, 7])
def test_an_outcome_of_what_never_started_is_nothing(n: int) -> None:
    driver = working(writes=False)
    driver.ask_tools(("look", {}))
    for number in (n, 1):
        assert driver.post(ToolEnded(number, ToolOutcome.done, {"price": 3})) == []
    assert driver.state.tools[1].state is ToolState.allowed


def test_a_result_of_a_visit_that_was_left_steers_nothing() -> None:
    driver = working()
    driver.ask_tools(("look", {}))
    propose(driver, day="friday")
    assert of(driver, CancelTool) == [CancelTool(1)]
    visit = driver.state.visit
    effects = driver.post(ToolEnded(1, ToolOutcome.done, {"price": 3}))
    assert not any(isinstance(effect, GoTo) for effect in effects)
    assert (driver.state.visit, driver.state.slots["price"].value) == (visit, None)
    assert driver.state.tools[1].state is ToolState.done
    assert not driver.state.tools[1].steers
    assert texts(driver, "tool")[-1] == "done; price=3; the conversation has moved on since"


def test_a_result_on_an_old_value_steers_nothing() -> None:
    driver = working()
    driver.ask_tools(("look", {}))
    propose(driver, item="coffee")
    driver.post(ToolEnded(1, ToolOutcome.done, {"price": 3}))
    assert driver.state.slots["price"].value is None
    assert not driver.state.tools[1].steers


def test_a_result_counts_only_as_long_as_its_values_stand() -> None:
    driver = working()
    driver.results = {"look": {"price": 3}}
    driver.ask_tools(("look", {}))
    propose(driver, item="coffee")
    assert driver.state.slots["price"].value is None
    driver.ask_tools(("later", {}))
    assert driver.verdicts()[-1] == ("later", "refused", "guard")


def test_the_echo_of_an_old_result_does_not_bring_its_values_back() -> None:
    driver = working()
    driver.results = {"look": {"price": 3}}
    driver.ask_tools(("look", {}))
    propose(driver, item="coffee")
    driver.results = {"look": {"price": 5}}
    driver.ask_tools(("look", {}))
    assert driver.post(ToolEnded(1, ToolOutcome.done, {"price": 3})) == []
    assert driver.state.slots["price"].value == 5


def test_a_failure_counts_only_in_its_own_visit() -> None:
    flow = with_step(workshop(), "work", next=(Transition("out", "jot.failed"),))
    driver = working(with_step(flow, "out", next=(Transition("work", "day.filled"),)))
    driver.results = {"jot": ToolOutcome.failed}
    driver.ask_tools(("jot", {"text": "a"}))
    assert driver.state.step == "out"
    driver.hear_all()
    propose(driver, day="friday")
    assert driver.state.step == "work"
    assert driver.state.last_visit == 3


def test_an_outcome_without_effect_counts_only_in_its_own_visit() -> None:
    driver = confirming()
    driver.hear_all()
    driver.key("*")
    assert driver.state.step == "choose"
    assert [move.step for move in of(driver, GoTo)][-2:] == ["again", "choose"]
    for words in ("tea", "yes", "monday", "yes"):
        driver.hear_all()
        driver.say(words)
    assert driver.spoken()[-1] == "Shall I order tea for Monday now?"


def test_a_running_write_is_not_cancelled_by_a_step_change() -> None:
    driver = working()
    driver.ask_tools(("mark", {}))
    propose(driver, day="friday")
    assert of(driver, CancelTool) == []
    assert driver.state.tools[1].state is ToolState.running


def test_a_hangup_waits_for_a_running_write() -> None:
    driver = working()
    driver.ask_tools(("mark", {}))
    driver.post(CallerHungUp("leg"))
    assert driver.over() is None
    assert driver.state.phase is Phase.ending
    effects = driver.post(ToolEnded(1, ToolOutcome.done, {}), 700)
    assert effects == [EndCall("caller-hangup", "hung-up")]
    assert driver.state.tools[1].state is ToolState.done


def test_the_end_does_not_wait_for_ever() -> None:
    driver = working()
    driver.ask_tools(("mark", {}))
    driver.post(CallerHungUp("leg"))
    driver.wait(steps.ENDING_MS)
    assert driver.over() == EndCall("caller-hangup", "hung-up")
    assert driver.state.tools[1].state is ToolState.unknown


def test_a_hangup_cancels_a_running_read_and_waits_for_its_word() -> None:
    driver = working()
    driver.ask_tools(("look", {}))
    effects = driver.post(CallerHungUp("leg"))
    assert CancelTool(1) in effects
    assert driver.post(ToolEnded(1, ToolOutcome.failed, reason="cancelled"))[-1] == EndCall("caller-hangup", "hung-up")


def test_a_late_result_after_the_end_is_inert() -> None:
    driver = working()
    driver.post(CallerHungUp("leg"))
    assert driver.over() is not None
    for event in (ToolEnded(1, ToolOutcome.done), ToolReady(1), Tick(), IntentProposed(2, "aside")):
        assert driver.post(event, 1000) == []


def test_the_order_is_placed_once_and_the_call_ends() -> None:
    driver = confirming()
    driver.hear_all()
    driver.say("yes")
    assert driver.hear_all() == "Ordered. Goodbye."
    assert driver.over() == EndCall("flow", "ordered")
    assert driver.started[-1] == ("order", {"customer": "k7", "item": "tea", "day": "monday"})
    assert len(of(driver, StartTool)) == 3


def test_an_unknown_order_leads_to_a_human_and_is_not_tried_again() -> None:
    driver = confirming()
    driver.results["order"] = ToolOutcome.unknown
    driver.hear_all()
    driver.say("yes")
    assert driver.hear_all() == "Please call the desk."
    assert [name for name, _ in driver.started].count("order") == 1


def test_a_core_hands_out_its_own_numbers() -> None:
    driver = working()
    driver.ask_tools(("look", {}), ("gold", {}))
    finish(driver)
    assert list(driver.state.tools) == [1, 2]
    assert CallCore(driver.flow, "x").state.tools == {}
