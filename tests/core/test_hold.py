"""A caller's telephone holds the call and takes it back; and how well the leg was heard."""

from app.core import cdr
from app.core.effects import CutPlayout, EndCall, Speak
from app.core.events import (
    CallerHungUp,
    Digit,
    HangupOrdered,
    LegAttached,
    LegHeld,
    LegLost,
    LegMeasured,
    LegResumed,
    SpeechStarted,
    TextReceived,
)
from tests.core.stories import greeted, of


def test_while_held_nothing_is_said_or_heard() -> None:
    driver = greeted()
    driver.post(LegHeld("leg"))
    spoken = len(driver.spoken())
    turns = driver.state.counts.turns
    for event in (SpeechStarted(1), Digit("1"), TextReceived("tea")):
        driver.post(event)
    driver.wait(120_000)
    assert (len(driver.spoken()), driver.state.counts.turns) == (spoken, turns)
    assert not of(driver, EndCall)
    assert not of(driver, CutPlayout), "it goes on afterwards"


def test_what_was_being_said_goes_on() -> None:
    driver = greeted()
    driver.post(LegHeld("leg"))
    driver.wait(600_000)
    driver.post(LegResumed("leg"))
    assert len(of(driver, Speak)) == len(driver.spoken())
    driver.hear_all()
    assert driver.state.reply is None


def test_who_comes_back_is_asked_again() -> None:
    driver = greeted()
    driver.hear_all()
    question = driver.spoken()[-1]
    driver.post(LegHeld("leg"))
    spoken = len(driver.spoken())
    driver.post(LegResumed("leg"), 60_000)
    assert driver.spoken()[spoken:] == [question]
    driver.hear_all()
    driver.key("1234")
    assert driver.state.slots["pin"].value == "1234"


def test_a_hold_of_another_leg_is_inert() -> None:
    driver = greeted()
    for event in (LegHeld("nobody"), LegResumed("leg"), LegResumed("nobody"), LegMeasured("nobody", 1, 1, 1.0, 1.0)):
        before = len(driver.effects)
        driver.post(event)
        assert len(driver.effects) == before
    assert not driver.state.held
    assert driver.state.quality is None


def test_a_leg_that_comes_back_is_not_held() -> None:
    driver = greeted()
    driver.post(LegHeld("leg"))
    driver.post(LegLost("leg"))
    driver.post(LegAttached("leg2"))
    assert not driver.state.held
    assert driver.state.reply is not None


def test_a_held_call_can_be_ended() -> None:
    for event in (HangupOrdered("desk"), CallerHungUp("leg")):
        driver = greeted()
        driver.post(LegHeld("leg"))
        driver.post(event)
        driver.wait(60_000)
        assert len(of(driver, EndCall)) == 1


def test_the_last_measurement_stands_in_the_record() -> None:
    driver = greeted()
    driver.post(LegMeasured("leg", 500, 2, 3.5, 4.2))
    driver.post(LegMeasured("leg", 1000, 9, 4.5, 4.0))
    quality = cdr.build(driver.flow, driver.state).quality
    assert quality is not None
    assert (quality.packets, quality.lost, quality.jitter_ms, quality.opinion) == (1000, 9, 4.5, 4.0)
