"""The caller's side hands its end over: who is called, who takes whose place, and what is left when nobody does."""

import pytest

from app.core import cdr
from app.core.effects import CallInstead, Connect, CutPlayout, DeclineReferral, DropLeg, EndCall, Speak
from app.core.events import (
    CallerHungUp,
    CallerReferred,
    HangupOrdered,
    LegAttached,
    LegJoined,
    LegLost,
    LegRole,
    ReferralFailed,
)
from app.core.legs import AGENT
from app.core.referral import ANSWER_MS, GRACE_MS, MAX_REFERRALS
from app.core.state import Phase, ReferralLine
from tests.core.stories import confirming, greeted, of
from tests.support.driver import Driver

DESK = "sip:desk@example.com"


def asked() -> tuple[Driver, str]:
    """And the name of the leg that is dialled."""
    driver = greeted()
    driver.post(CallerReferred("leg", DESK))
    (order,) = of(driver, CallInstead)
    return driver, order.leg


def ends(driver: Driver) -> list[tuple[str, str]]:
    return [(effect.cause, effect.outcome) for effect in of(driver, EndCall)]


def lines(driver: Driver) -> list[tuple[str, str]]:
    return [(line.to, line.outcome) for line in driver.state.referrals]


def test_somebody_is_called_and_the_conversation_goes_on_meanwhile() -> None:
    driver, _ = asked()
    assert of(driver, CallInstead)[0].to == DESK
    assert of(driver, CallInstead)[0].answer_ms == ANSWER_MS
    said = len(of(driver, Speak))
    driver.hear_all()
    driver.key("1234")
    assert len(of(driver, Speak)) > said
    assert of(driver, CutPlayout) == []


def test_who_answers_takes_the_callers_place_and_is_asked_what_was_asked() -> None:
    driver, leg = asked()
    driver.hear_all()
    before = driver.state.slots
    driver.post(LegLost("leg"))
    said = len(of(driver, Speak))
    driver.post(LegAttached(leg))
    assert driver.state.leg == leg
    assert driver.state.slots == before
    assert len(of(driver, Speak)) > said
    assert lines(driver) == [(DESK, "answered")]
    driver.post(CallerHungUp("leg"))  # of the one who is gone
    assert ends(driver) == []
    driver.post(CallerHungUp(leg))
    assert ends(driver) == [("caller-hangup", "hung-up")]
    assert cdr.build(driver.flow, driver.state).referrals == (ReferralLine(DESK, "answered"),)


@pytest.mark.parametrize("gone", [CallerHungUp("leg"), LegLost("leg")])
def test_whoever_asked_may_leave_before_the_other_one_is_there(gone: CallerHungUp | LegLost) -> None:
    driver, leg = asked()
    driver.post(gone)
    assert ends(driver) == []
    driver.wait(ANSWER_MS)
    assert ends(driver) == []
    driver.post(LegAttached(leg))
    assert driver.state.phase is Phase.live
    assert driver.state.attached
    assert "referral" not in driver.state.timers


@pytest.mark.parametrize(
    ("gone", "cause"), [(CallerHungUp("leg"), "caller-hangup"), (LegLost("leg"), "leg-lost"), (None, "")]
)
@pytest.mark.parametrize("overdue", [False, True])
def test_nobody_comes(gone: CallerHungUp | LegLost | None, cause: str, overdue: bool) -> None:
    driver, leg = asked()
    driver.hear_all()
    if gone is not None:
        driver.post(gone)
    if overdue:
        driver.wait(ANSWER_MS + GRACE_MS)
        assert [effect.leg for effect in of(driver, DropLeg)] == [leg]
    else:
        driver.post(ReferralFailed(1, "busy", 486))
    assert [found for found, _ in ends(driver)] == ([cause] if cause else [])
    assert lines(driver) == [(DESK, "no-answer" if overdue else "busy")]
    assert driver.state.referral is None


def test_a_leg_that_was_lost_comes_back_while_it_rings_there() -> None:
    driver, _ = asked()
    driver.post(LegLost("leg"))
    driver.post(LegAttached("leg2"))
    assert driver.state.referral is not None
    driver.post(ReferralFailed(1, "busy"))
    assert ends(driver) == []
    assert driver.state.phase is Phase.live


def test_one_at_a_time_and_a_few_in_all() -> None:
    driver, _ = asked()
    driver.post(CallerReferred("leg", "sip:other@example.com"))
    assert len(of(driver, DeclineReferral)) == 1
    driver.post(ReferralFailed(7, "busy"))  # no such one
    assert driver.state.referral is not None
    for n in range(1, MAX_REFERRALS + 1):
        driver.post(ReferralFailed(n, "busy"))
        driver.post(CallerReferred("leg", DESK))
    assert len(of(driver, CallInstead)) == MAX_REFERRALS
    assert len(of(driver, DeclineReferral)) == 2


def test_only_the_callers_own_leg_may_ask_and_only_while_the_call_lives() -> None:
    driver = greeted()
    driver.post(CallerReferred("other", DESK))
    driver.post(LegLost("leg"))
    driver.post(CallerReferred("leg", DESK))
    assert len(of(driver, DeclineReferral)) == 2
    driver = confirming()
    driver.results.clear()
    driver.hear_all()
    driver.key("#")
    driver.post(CallerHungUp("leg"))
    assert driver.state.phase is Phase.ending, "a tool is running"
    driver.post(CallerReferred("leg", DESK))
    assert len(of(driver, DeclineReferral)) == 1
    assert of(driver, CallInstead) == []


def test_the_end_of_the_call_is_the_end_of_it() -> None:
    driver, leg = asked()
    driver.post(CallerHungUp("leg"))
    driver.post(HangupOrdered("desk"))
    assert ends(driver) == [("operator", "hung-up")]
    driver.post(LegAttached(leg))
    driver.post(ReferralFailed(1, "busy"))
    assert lines(driver) == [(DESK, "")]


def test_who_listens_hears_whoever_is_there() -> None:
    driver, leg = asked()
    driver.post(LegJoined("op", LegRole.operator, "desk"))
    driver.post(LegLost("leg"))
    driver.post(LegAttached(leg))
    assert of(driver, Connect)[-1].hears == {leg: (AGENT,), "op": (AGENT, leg)}
