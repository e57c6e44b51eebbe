"""Who hears whom, as the call orders it."""

from app.core.effects import Connect, DropLeg
from app.core.events import CallerHungUp, LegAttached, LegJoined, LegLeft, LegLost, LegRole
from app.core.legs import AGENT, MAX_GUESTS
from app.core.state import Phase
from tests.core.stories import confirming, greeted
from tests.support.driver import Driver
from tests.support.shop import shop


def joins(driver: Driver, leg: str, who: str = "desk") -> None:
    driver.post(LegJoined(leg, LegRole.operator, who))


def orders(driver: Driver) -> list[dict[str, tuple[str, ...]]]:
    return [effect.hears for effect in driver.effects if isinstance(effect, Connect)]


def dropped(driver: Driver) -> list[str]:
    return [effect.leg for effect in driver.effects if isinstance(effect, DropLeg)]


def test_a_call_with_one_leg_needs_no_mixing() -> None:
    driver = greeted()
    driver.post(LegLost("leg"))
    driver.post(LegAttached("leg2"))
    assert orders(driver) == []


def test_an_operator_hears_both_and_is_heard_by_nobody() -> None:
    driver = greeted()
    joins(driver, "op")
    assert orders(driver) == [{"leg": (AGENT,), "op": (AGENT, "leg")}]
    driver.post(LegLeft("op"))
    assert orders(driver)[-1] == {}
    driver.post(LegLeft("op"))
    assert len(orders(driver)) == 2


def test_the_matrix_follows_the_callers_leg() -> None:
    driver = greeted()
    joins(driver, "op")
    driver.post(LegLost("leg"))
    assert orders(driver)[-1] == {"op": (AGENT,)}
    driver.post(LegAttached("leg2"))
    assert orders(driver)[-1] == {"leg2": (AGENT,), "op": (AGENT, "leg2")}


def test_who_listened_stands_in_the_record() -> None:
    driver = greeted()
    for leg, who in (("a", "desk"), ("b", "boss"), ("c", "desk")):
        joins(driver, leg, who)
        driver.post(LegLeft(leg))
    assert driver.state.listeners == ["desk", "boss"]


def test_listening_changes_nothing_of_the_conversation() -> None:
    alone, observed = greeted(), greeted()
    joins(observed, "op")
    for driver in (alone, observed):
        driver.hear_all()
        driver.key("1234")
    assert alone.spoken() == observed.spoken()
    assert alone.state.timers == observed.state.timers


def test_a_leg_too_many_is_dropped() -> None:
    driver = greeted()
    for number in range(MAX_GUESTS + 1):
        joins(driver, f"op{number}")
    assert dropped(driver) == [f"op{MAX_GUESTS}"]
    assert len(orders(driver)[-1]) == MAX_GUESTS + 1


def test_nobody_joins_before_the_start_or_while_it_ends() -> None:
    driver = Driver(shop())
    joins(driver, "early")
    assert dropped(driver) == ["early"]
    driver = confirming()
    driver.results.clear()
    driver.hear_all()
    driver.key("#")
    driver.post(CallerHungUp("leg"))
    assert driver.state.phase is Phase.ending, "a tool is running"
    joins(driver, "late")
    assert dropped(driver) == ["late"]
    assert orders(driver) == []
