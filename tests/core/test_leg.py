"""The leg and the call's ends: lost, back, hung up, failed, before the start and after the end."""

import pytest

from app.core.core import REATTACH_MS
from app.core.effects import CutPlayout, EndCall, Speak, StartReply, StopReply
from app.core.events import (
    AnyEvent,
    CallerHungUp,
    CallFailed,
    CallStarted,
    Digit,
    HangupOrdered,
    LegAttached,
    LegLost,
    ReplyEnded,
    Sentence,
    SpeechEnded,
    SpeechStarted,
    TextReceived,
    Tick,
    ToolEnded,
    ToolOutcome,
    Transcript,
)
from app.core.replies import PLAYOUT_GRACE_MS
from app.core.state import Phase
from tests.core.stories import choosing, confirming, greeted, of, working
from tests.support.driver import Driver
from tests.support.shop import shop


def test_a_lost_leg_cuts_and_waits() -> None:
    driver = greeted()
    assert any(isinstance(effect, CutPlayout) for effect in driver.post(LegLost("leg")))
    assert driver.state.phase is Phase.live
    assert driver.core.deadline_ms is not None
    spoken = len(driver.spoken())
    driver.wait(REATTACH_MS - 1000)
    assert len(driver.spoken()) == spoken


def test_a_lost_leg_stops_the_models_work() -> None:
    driver = working()
    assert driver.post(LegLost("leg"))[0] == StopReply(driver.state.gen - 1)


def test_a_leg_that_comes_back_is_asked_again() -> None:
    driver = greeted()
    driver.post(LegLost("leg"))
    driver.post(LegAttached("leg2"), 5000)
    assert driver.hear_all() == "Key in your four digit code."
    driver.post(CallerHungUp("leg"))
    assert driver.over() is None
    driver.post(CallerHungUp("leg2"))
    assert driver.over() == EndCall("caller-hangup", "hung-up")


def test_a_leg_that_stays_away_ends_the_call() -> None:
    driver = greeted()
    driver.post(LegLost("leg"))
    driver.wait(REATTACH_MS)
    assert driver.over() == EndCall("leg-lost", "leg-lost")


def test_a_result_that_comes_while_the_leg_is_away_is_kept() -> None:
    driver = working()
    driver.ask_tools(("look", {}))
    driver.post(LegLost("leg"))
    driver.effects.clear()
    driver.post(ToolEnded(1, ToolOutcome.done, {"price": 3}))
    assert driver.state.slots["price"].value == 3
    assert of(driver, StartReply) == []
    driver.post(LegAttached("leg2"))
    assert of(driver, StartReply)


@pytest.mark.parametrize("event", [SpeechStarted(5), Transcript(5, "tea"), Digit("1"), TextReceived("tea")])
def test_what_the_lost_leg_heard_is_late(event: AnyEvent) -> None:
    driver = choosing()
    driver.hear_all()
    driver.post(LegLost("leg"))
    assert driver.post(event) == []
    driver.post(LegAttached("leg2"))
    assert driver.hear_all() == "Tea or coffee?"


def test_what_the_ear_had_begun_is_not_waited_for() -> None:
    driver = choosing()
    driver.hear_all()
    utterance = driver.onset()
    driver.post(SpeechEnded(utterance, 300, True))
    driver.post(LegLost("leg"))
    driver.post(LegAttached("leg2"))
    assert driver.hear_all() == "Tea or coffee?"


@pytest.mark.parametrize("event", [LegLost("x"), LegAttached("x"), CallerHungUp("x"), CallStarted("x", "test")])
def test_another_leg_is_not_ours(event: AnyEvent) -> None:
    driver = greeted()
    assert driver.post(event) == []
    assert driver.state.leg == "leg"


def test_a_hangup_says_nothing_more() -> None:
    driver = greeted()
    driver.effects.clear()
    driver.post(CallerHungUp("leg"))
    assert of(driver, Speak) == []
    assert driver.over() == EndCall("caller-hangup", "hung-up")


def test_a_playout_that_does_not_answer_does_not_keep_the_call() -> None:
    driver = greeted()
    effects = driver.inspector.handle(CallerHungUp("leg"), 100)
    assert not any(isinstance(effect, EndCall) for effect in effects)
    assert EndCall("caller-hangup", "hung-up") in driver.inspector.handle(Tick(), 100 + PLAYOUT_GRACE_MS)


def test_the_last_words_are_heard_before_the_end() -> None:
    driver = confirming()
    driver.hear_all()
    driver.key("#")
    assert driver.state.phase is Phase.ending
    assert driver.over() is None
    driver.hear_all()
    assert driver.over() == EndCall("flow", "ordered")


def test_the_first_cause_stands() -> None:
    driver = confirming()
    driver.hear_all()
    driver.key("#")
    driver.post(CallerHungUp("leg"))
    assert driver.over() == EndCall("flow", "ordered")


def test_our_own_fault_ends_the_call() -> None:
    driver = greeted()
    driver.post(CallFailed("AssertionError in Tick"))
    assert driver.over() == EndCall("internal-error", "internal-error")


@pytest.mark.parametrize(
    ("event", "cause"),
    [
        (HangupOrdered("drain"), "drain"),
        (HangupOrdered("desk"), "operator"),
        (CallFailed("KeyError in CallStarted"), "internal-error"),
    ],
)
def test_a_call_can_end_before_it_began(event: AnyEvent, cause: str) -> None:
    driver = Driver(shop())
    assert [effect.cause for effect in driver.post(event) if isinstance(effect, EndCall)] == [cause]
    assert driver.post(CallStarted("leg", "test")) == []


@pytest.mark.parametrize("event", [Digit("1"), Tick(), CallerHungUp("leg"), Sentence(0, 0, "x"), ReplyEnded(0)])
def test_before_the_start_nothing_counts(event: AnyEvent) -> None:
    driver = Driver(shop())
    assert driver.post(event) == []
    assert driver.state.phase is Phase.new
    assert driver.core.deadline_ms is None


def test_a_call_starts_once() -> None:
    driver = choosing()
    visit = driver.state.visit
    assert driver.post(CallStarted("leg", "test")) == []
    assert driver.state.visit == visit


def test_after_the_end_nothing_happens() -> None:
    driver = greeted()
    driver.post(CallerHungUp("leg"))
    assert driver.core.deadline_ms is None
    for event in (CallStarted("leg", "test"), TextReceived("tea"), LegAttached("leg2"), Tick(), HangupOrdered("x")):
        assert driver.post(event, 10_000) == []
