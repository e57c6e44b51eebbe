"""Calls of ours: nobody answers, or a person, or a machine."""

import pytest
from msgspec.structs import replace

from app.core import cdr
from app.core.effects import EndCall, Speak
from app.core.events import (
    Answerer,
    AnswererHeard,
    CallPlaced,
    CallRang,
    CallStarted,
    HangupOrdered,
    NotReached,
    SpeechEnded,
    SpeechStarted,
    Transcript,
)
from app.core.state import Phase
from tests.support.driver import Driver
from tests.support.shop import shop

RING_MS = 20_000


def placed(*, detect: bool = False, voicemail: str = "", **slots: str) -> Driver:
    driver = Driver(replace(shop(), voicemail=voicemail))
    driver.post(CallPlaced("leg", "sip", "us", "them", by="desk", answer_ms=RING_MS, detect=detect, slots=dict(slots)))
    return driver


def said(driver: Driver) -> list[str]:
    return [effect.text for effect in driver.effects if isinstance(effect, Speak)]


def ends(driver: Driver) -> list[tuple[str, str]]:
    return [(effect.cause, effect.outcome) for effect in driver.effects if isinstance(effect, EndCall)]


def test_nothing_is_said_before_somebody_answers() -> None:
    driver = placed()
    driver.post(CallRang("leg"))
    assert not said(driver)
    driver.post(CallStarted("leg", "sip"))
    assert driver.state.phase is Phase.live
    assert said(driver)
    assert (driver.state.caller, driver.state.called) == ("us", "them")


def test_it_rings_only_so_long() -> None:
    driver = placed()
    driver.wait(RING_MS + 1)
    assert ends(driver) == [("no-answer", "no-answer")]
    driver.post(CallStarted("leg", "sip"))
    assert not said(driver)


@pytest.mark.parametrize("outcome", ["busy", "refused", "invalid", "failed"])
def test_who_is_not_reached_is_recorded(outcome: str) -> None:
    driver = placed()
    driver.post(NotReached("leg", outcome, 486))
    assert ends(driver) == [(outcome, outcome)]
    record = cdr.build(driver.core.flow, driver.state)
    assert (record.placed_by, record.answered_ms) == ("desk", None)


def test_an_order_to_hang_up_ends_the_ringing() -> None:
    driver = placed()
    driver.post(HangupOrdered("desk"))
    assert ends(driver) == [("operator", "hung-up")]


def test_a_person_gets_the_flow_once_it_is_known() -> None:
    driver = placed(detect=True)
    driver.post(CallStarted("leg", "sip"))
    for event in (SpeechStarted(1), SpeechEnded(1, 400, True), Transcript(1, "hello")):
        driver.post(event)
    assert not said(driver)
    driver.post(AnswererHeard(Answerer.human))
    assert said(driver)
    driver.post(AnswererHeard(Answerer.machine))  # too late to count
    assert not ends(driver)
    assert cdr.build(driver.core.flow, driver.state).answerer == "human"


def test_who_says_nothing_clear_is_a_person() -> None:
    driver = placed(detect=True)
    driver.post(CallStarted("leg", "sip"))
    driver.wait(10_000)
    assert said(driver)


def test_a_machine_is_hung_up() -> None:
    driver = placed(detect=True)
    driver.post(CallStarted("leg", "sip"))
    driver.post(AnswererHeard(Answerer.machine))
    assert not said(driver)
    assert ends(driver) == [("voicemail", "voicemail")]


@pytest.mark.parametrize("beeps", [True, False])
def test_a_machine_gets_its_message_after_the_beep(beeps: bool) -> None:
    driver = placed(detect=True, voicemail="Please call us back.")
    driver.post(CallStarted("leg", "sip"))
    driver.post(AnswererHeard(Answerer.machine))
    driver.wait(5000)
    assert not said(driver)
    if beeps:
        driver.post(AnswererHeard(Answerer.beep))
    else:
        driver.wait(60_000)
    assert said(driver) == ["Please call us back."]
    assert driver.state.outcome == "voicemail"


def test_what_is_known_beforehand_is_not_asked() -> None:
    driver = placed(item="tea", day="someday", nonsense="x")
    assert driver.state.slots["item"].value == "tea"
    assert driver.state.slots["item"].confirmed
    assert driver.state.slots["day"].value is None


def test_a_sensitive_value_is_sealed() -> None:
    driver = Driver(shop())
    driver.post(CallPlaced("leg", "sip", "us", "them", slots={"pin": "1234"}))
    assert driver.core.sealed


def test_a_beep_after_what_sounded_like_a_person_is_a_machine() -> None:
    driver = placed(detect=True)
    driver.post(CallStarted("leg", "sip"))
    driver.post(AnswererHeard(Answerer.human))
    driver.post(AnswererHeard(Answerer.beep))
    assert driver.state.outcome == "voicemail"


def test_a_call_of_ours_lasts_as_long_as_it_may() -> None:
    driver = Driver(shop())
    driver.post(CallPlaced("leg", "sip", "us", "them", talk_ms=20_000))
    driver.post(CallStarted("leg", "sip"))
    driver.wait(21_000)
    assert driver.state.cause == "duration"
