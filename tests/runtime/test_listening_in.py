"""An operator's leg on a live call: real media legs, a virtual clock."""

import asyncio

import pytest

from app.core.events import LegJoined, LegLeft
from app.runtime.guest import Guest
from media.gateway import LegRequest, Refused
from media.leg import CloseCode, Leg
from tests.support.house import Caller, FakeWire, House
from tests.support.shop import shop
from tests.support.virtual import run


async def listen(house: House, call: str) -> tuple[Leg, FakeWire]:
    admission = await house.switchboard.admit(LegRequest(transport="audio", rate_hz=16_000, listen=call))
    assert isinstance(admission.handler, Guest)
    assert admission.resume == ""
    wire = FakeWire()
    leg = Leg(admission.leg, "audio", 16_000, wire, admission.handler)
    house.ticker.add(leg, leg.failed)
    admission.handler.attach(leg)
    return leg, wire


def frames(wire: FakeWire) -> int:
    return len(wire.frames)


async def begun(house: House) -> Caller:
    caller = await house.call()
    await asyncio.sleep(0.5)
    assert frames(caller.wire) > 0
    return caller


def test_a_listener_hears_the_agent_and_leaves_no_trace_in_the_conversation() -> None:
    async def story() -> None:
        async with House(shop()).open() as house:
            caller = await begun(house)
            leg, wire = await listen(house, caller.actor.call)
            await caller.quiet()
            assert frames(wire) > 10
            leg.digit("1")
            leg.text("hang up")
            leg.gone(goodbye=True)
            house.ticker.discard(leg)
            await asyncio.sleep(0.1)
            assert [type(event) for event in house.facts((LegJoined, LegLeft))] == [LegJoined, LegLeft]
            heard = frames(wire)
            await caller.key("1234")
            await caller.quiet()
            assert frames(wire) == heard
            caller.hang_up()
            await asyncio.sleep(0.1)
            call = caller.actor.call
        assert house.cdr(call)["listeners"] == [""]
        assert house.replays(call) > 5

    run(story())


def test_a_listener_is_let_go_when_the_call_ends() -> None:
    async def story() -> None:
        async with House(shop()).open() as house:
            caller = await begun(house)
            _, wire = await listen(house, caller.actor.call)
            await asyncio.sleep(0.1)
            caller.hang_up()
            await asyncio.sleep(0.1)
            assert wire.ended == ("caller-hangup", "hung-up")

    run(story())


def test_a_listener_too_many_is_closed() -> None:
    async def story() -> None:
        async with House(shop()).open() as house:
            caller = await begun(house)
            wires = [(await listen(house, caller.actor.call))[1] for _ in range(9)]
            await asyncio.sleep(0.1)
            assert [wire.closed for wire in wires] == [None] * 8 + [CloseCode.busy]
            caller.hang_up()

    run(story())


def test_a_call_that_is_over_or_never_was() -> None:
    async def story() -> None:
        async with House(shop()).open() as house:
            with pytest.raises(Refused) as refused:
                await house.switchboard.admit(LegRequest(transport="audio", rate_hz=8000, listen="nothing"))
            assert refused.value.code is CloseCode.unknown_call
            caller = await begun(house)
            admission = await house.switchboard.admit(
                LegRequest(transport="audio", rate_hz=8000, listen=caller.actor.call)
            )
            caller.hang_up()
            await asyncio.sleep(0.1)
            wire = FakeWire()
            admission.handler.attach(Leg(admission.leg, "audio", 8000, wire, admission.handler))
            assert wire.ended == ("caller-hangup", "hung-up")

    run(story())
