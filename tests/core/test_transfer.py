"""A step that hands the caller over: by a second leg or by REFER; who hears whom; what a failure leads to."""

import pytest
from msgspec.structs import replace

from app.core import cdr
from app.core.effects import Connect, DialLeg, DropLeg, EndCall, ReferCaller, Speak, StartReply
from app.core.events import (
    CallerHungUp,
    Digit,
    HangupOrdered,
    LegAttached,
    LegJoined,
    LegLeft,
    LegLost,
    LegRole,
    SpeechEnded,
    SpeechStarted,
    TextReceived,
    Transcript,
    TransferDone,
    TransferFailed,
)
from app.core.legs import AGENT
from flows.model import Flow, Step, TransferBy, TransferTo
from tests.core.stories import of
from tests.support.driver import Driver
from tests.support.shop import shop

WORDS = "I will put you through."


def desk(**transfer: object) -> Flow:
    """The shop, whose first step is the desk."""
    flow = shop()
    target = replace(TransferTo("{env.DESK}"), **transfer)
    steps = {
        "hand": Step("hand", say=WORDS, transfer=target),
        "sorry": Step("sorry", say="Nobody is there.", end="sorry"),
        "more": Step("more", say="Is there anything else?", collect=("item",)),
        **flow.steps,
    }
    return replace(flow, steps=steps, start="hand")


def asked(**transfer: object) -> Driver:
    driver = Driver(desk(**transfer)).start()
    driver.hear_all()
    return driver


def answered(**transfer: object) -> Driver:
    driver = asked(**transfer)
    (order,) = of(driver, DialLeg)
    driver.post(LegJoined(order.leg, LegRole.target, "the other side"))
    return driver


def hears(driver: Driver) -> dict[str, tuple[str, ...]]:
    return of(driver, Connect)[-1].hears


def ends(driver: Driver) -> list[tuple[str, str]]:
    return [(effect.cause, effect.outcome) for effect in of(driver, EndCall)]


def test_the_other_side_is_dialled_when_the_words_are_out() -> None:
    driver = Driver(desk(answer_s=20)).start()
    assert not of(driver, DialLeg)
    driver.hear_all()
    (order,) = of(driver, DialLeg)
    assert (order.to, order.answer_ms) == ("{env.DESK}", 20_000)


def test_both_talk_and_the_agent_is_silent() -> None:
    driver = answered()
    (order,) = of(driver, DialLeg)
    assert hears(driver) == {"leg": (order.leg,), order.leg: ("leg",)}
    said = len(of(driver, Speak))
    for event in (SpeechStarted(1), SpeechEnded(1, 900, True), Transcript(1, "hello"), Digit("1"), TextReceived("tea")):
        driver.post(event)
    driver.wait(300_000)
    assert len(of(driver, Speak)) == said
    assert not ends(driver)


def test_the_other_side_is_told_first_who_is_calling() -> None:
    driver = answered(announce="A caller from the shop.")
    (order,) = of(driver, DialLeg)
    assert driver.spoken()[-1] == "A caller from the shop."
    assert hears(driver) == {"leg": (), order.leg: (AGENT,)}
    driver.hear_all()
    assert hears(driver) == {"leg": (order.leg,), order.leg: ("leg",)}


def test_when_the_other_side_leaves_the_call_ends_or_goes_on() -> None:
    driver = answered()
    driver.post(LegLeft(of(driver, DialLeg)[0].leg))
    assert ends(driver) == [("transferred", "transferred")]
    driver = answered(after="more")
    driver.post(LegLeft(of(driver, DialLeg)[0].leg))
    assert driver.state.step == "more"
    assert driver.spoken()[-2] == "Is there anything else?"
    assert hears(driver) == {}
    assert cdr.build(driver.flow, driver.state).transfers[0].outcome == "answered"


def test_when_the_caller_leaves_the_call_ends() -> None:
    driver = answered()
    driver.post(CallerHungUp("leg"))
    assert ends(driver) == [("caller-hangup", "hung-up")]


@pytest.mark.parametrize("outcome", ["busy", "no-answer", "refused"])
def test_who_is_not_reached(outcome: str) -> None:
    driver = asked(failed="sorry")
    driver.post(TransferFailed(1, outcome))
    assert driver.state.step == "sorry"
    assert cdr.build(driver.flow, driver.state).transfers[0].outcome == outcome
    driver = asked()
    driver.post(TransferFailed(1, outcome))
    assert driver.state.step == "desk", "the shop's give_up"


def test_a_transfer_that_nobody_answers_for_is_given_up() -> None:
    driver = asked(failed="sorry", answer_s=10)
    driver.wait(30_000)
    assert driver.state.step == "sorry"
    assert [drop.leg for drop in of(driver, DropLeg)] == [of(driver, DialLeg)[0].leg]
    driver.post(LegJoined(of(driver, DialLeg)[0].leg, LegRole.target, "late"))
    assert len(of(driver, DropLeg)) == 2, "who answers too late is let go"
    assert not driver.state.guests


def test_by_refer() -> None:
    driver = asked(by=TransferBy.refer, end="moved")
    assert of(driver, ReferCaller) == [ReferCaller(1, "{env.DESK}")]
    driver.post(TransferDone(1))
    assert ends(driver) == [("transferred", "moved")]
    driver = asked(by=TransferBy.refer, failed="sorry")
    driver.post(TransferFailed(1, "unsupported"))
    assert driver.state.step == "sorry"


def test_late_facts_change_nothing() -> None:
    driver = asked(failed="sorry")
    driver.post(TransferFailed(1, "busy"))
    driver.hear_all()
    before = driver.state
    for event in (TransferFailed(1, "busy"), TransferDone(1), TransferFailed(9, "busy"), LegLeft("nobody")):
        driver.post(event)
        assert driver.state.step == before.step
    driver = answered()
    driver.post(TransferFailed(1, "busy"))
    assert hears(driver)


def test_a_caller_who_is_lost_meanwhile_comes_back_to_the_other_side() -> None:
    driver = answered()
    (order,) = of(driver, DialLeg)
    driver.post(LegLost("leg"))
    assert hears(driver) == {order.leg: ()}
    driver.post(LegAttached("leg2"))
    assert hears(driver) == {"leg2": (order.leg,), order.leg: ("leg2",)}
    assert not driver.state.reply


def test_no_model_is_asked_while_the_two_talk() -> None:
    flow = desk()
    modelled = shop(use="scripted")
    driver = Driver(replace(flow, models=modelled.models), rules_engine=False).start()
    driver.hear_all()
    driver.post(LegJoined(of(driver, DialLeg)[0].leg, LegRole.target, "the other side"))
    started = len(of(driver, StartReply))
    driver.post(LegLost("leg"))
    driver.post(LegAttached("leg2"))
    assert len(of(driver, StartReply)) == started


def test_an_operator_hears_all_three() -> None:
    driver = answered()
    (order,) = of(driver, DialLeg)
    driver.post(LegJoined("op", LegRole.operator, "desk"))
    assert hears(driver)["op"] == (AGENT, "leg", order.leg)


def test_a_digression_that_fails_goes_back() -> None:
    flow = desk()
    steps = dict(flow.steps) | {"hand": replace(flow.steps["hand"], phrases=("a person",))}
    driver = Driver(replace(flow, steps=steps, start=shop().start, digressions=(*flow.digressions, "hand"))).start()
    driver.hear_all()
    first = driver.state.step
    driver.say("a person")
    driver.hear_all()
    assert of(driver, DialLeg)
    driver.post(TransferFailed(1, "busy"))
    assert driver.state.step == first


def test_an_order_to_end_ends_it() -> None:
    driver = asked()
    driver.post(HangupOrdered("desk"))
    assert ends(driver) == [("operator", "hung-up")]


def test_transfers_come_to_an_end() -> None:
    driver = asked(failed="hand")
    for n in range(1, 20):
        if ends(driver):
            break
        driver.post(TransferFailed(n, "busy"))
        driver.hear_all()
    assert len(of(driver, DialLeg)) == 5
    assert ends(driver) == [("flow", "referred")], "the shop's give_up"
