"""What is counted of calls, on a virtual clock: how often, how long, and under which names."""

import asyncio
from typing import Any

import pytest

from app.core.effects import HoldPlayout
from app.core.events import (
    HangupOrdered,
    LegLost,
    ListenFailed,
    PlayoutHeld,
    SpeechEnded,
    SpeechFailed,
    SpeechStarted,
    ToolRequest,
    Transcript,
)
from app.ports import Calls, Fault, ToolFailed, ToolUnknown, Words
from app.providers.scripted import STALL, ScriptedLlm, ScriptedStt
from app.runtime.actor import Seen
from app.runtime.metrics import NONE, OTHER, Counted, Metrics, transport_of
from app.runtime.registry import Full
from media.gateway import LegRequest, Refused
from media.leg import CloseCode
from tests.support.house import Caller, FakeTools, House
from tests.support.shop import shop
from tests.support.virtual import run

ANSWERS: dict[str, Any] = {
    "find_customer": {"found": True, "customer": "k7"},
    "stock": {},
    "order": {"reference": "r1"},
}


async def ordering(house: House) -> Caller:
    caller = await house.call()
    await caller.quiet()
    await caller.key("1234")
    await caller.quiet()
    await caller.key("#")
    for _ in range(5):
        await caller.quiet()
        await caller.speak()
    await caller.quiet()
    return caller


def test_a_whole_call() -> None:
    async def story() -> None:
        house = House(
            shop(), stt=ScriptedStt(["tea", "yes", "friday", "yes", "yes"], final_ms=60), tools=FakeTools(ANSWERS)
        )
        metrics = house.metrics
        async with house.open():
            await ordering(house)
            assert metrics.begun == {("shop", "audio"): 1}
        assert {key: count for key, count in metrics.ended.items() if count} == {("shop", "audio", "flow"): 1}
        assert metrics.outcomes == {("shop", "ordered"): 1}
        assert metrics.durations["shop",].count == 1
        assert metrics.tools["shop", "order", "done"] == 1
        assert metrics.verdicts["shop", "order", "allowed", "confirm"] == 1
        assert metrics.verdicts["shop", "order", "started", "all"] == 1
        assert metrics.tools["shop", "order", "unknown"] == 0, "a zero from which it may rise"
        recognition = metrics.stages["shop", "recognition"]
        assert recognition.count == 5
        assert recognition.sum == pytest.approx(5 * 0.06, abs=0.02)
        parts = [metrics.stages["shop", stage] for stage in ("endpointing", "model", "voice")]
        assert sum(part.sum for part in parts) == pytest.approx(metrics.stages["shop", "response"].sum)
        assert not metrics._calls, "nothing is kept of a call that is over"

    run(story())


def test_a_barge_in_and_a_noise() -> None:
    async def story() -> None:
        llm = ScriptedLlm([[*(Words(f"This is sentence number {n}. ") for n in range(30)), STALL]], part_ms=20)
        house = House(shop(use="scripted"), stt=ScriptedStt(["stop it please"]), llms={"scripted": llm})
        metrics = house.metrics
        async with house.open():
            caller = await house.call()
            await asyncio.sleep(2)
            await caller.speak(ms=200, voice=False)
            await asyncio.sleep(1)
            counted = metrics.holds.total(), metrics.resumes.total(), metrics.barge_ins.total()
            assert counted == (1, 1, 0)
            await caller.speak(ms=1200)
            counted = metrics.holds.total(), metrics.resumes.total(), metrics.barge_ins.total()
            assert counted == (2, 1, 1)
            assert metrics.barge_ins == {("shop", "audio"): 1}
            assert metrics.silence.count == 2, "a cut of what is silent takes no time"
            assert metrics.silence.sum == 0
            caller.hang_up()

    run(story())


def test_a_key_cuts_without_a_hold() -> None:
    async def story() -> None:
        house = House(shop())
        async with house.open():
            caller = await house.call()
            await asyncio.sleep(0.5)
            await caller.key("1")
            assert house.metrics.holds.total() == 0
            assert house.metrics.barge_ins.total() == house.metrics.silence.count == 1
            caller.hang_up()

    run(story())


def test_silence_counts_the_wait_in_the_mailbox() -> None:
    async def story() -> None:
        house = House(shop())
        metrics = house.metrics
        async with house.open():
            caller = await house.call()
            await asyncio.sleep(0.1)
            call = caller.actor.call
            metrics.watch(Seen(call, 100, SpeechStarted(1), [HoldPlayout(7)], False, 10.002))
            metrics.watch(Seen(call, 130, PlayoutHeld(7, 0, 0), [], False, 10.032))
            metrics.watch(Seen(call, 131, PlayoutHeld(7, 0, 0), [], False, 10.040))
            assert metrics.silence.count == 1
            assert metrics.silence.sum == pytest.approx(0.03)
            caller.hang_up()

    run(story())


@pytest.mark.parametrize(
    ("answer", "kind", "state"),
    [(ToolFailed(Fault.refused), "refused", "failed"), (ToolUnknown(Fault.timeout), "timeout", "unknown")],
)
def test_tools_that_fail(answer: Exception, kind: str, state: str) -> None:
    async def story() -> None:
        house = House(shop(), tools=FakeTools({"find_customer": answer}))
        async with house.open():
            caller = await house.call()
            await caller.quiet()
            await caller.key("1234")
            await caller.quiet()
            await caller.key("#")
            await caller.quiet(1000)
            caller.hang_up()
        assert house.metrics.faults["tool", kind] == house.metrics.faults.total() == 1
        assert house.metrics.tools["shop", "find_customer", state] == 1

    run(story())


def test_names_that_a_model_makes_up_are_one() -> None:
    async def story() -> None:
        wanted = tuple(ToolRequest(f"c{n}", f"made_up_{n}", {}) for n in range(20))
        llm = ScriptedLlm([[Calls(wanted)], [Words("I cannot do that yet.")]])
        house = House(shop(use="scripted"), llms={"scripted": llm})
        async with house.open():
            caller = await house.call()
            await caller.quiet(1000)
            caller.hang_up()
        assert house.metrics.verdicts == {("shop", OTHER, "refused", "step"): 20}
        assert house.metrics.tools["shop", OTHER, "refused"] == 20

    run(story())


def test_what_recognisers_and_voices_do_wrong_is_one_of_the_known_kinds() -> None:
    async def story() -> None:
        house = House(shop())
        metrics = house.metrics
        async with house.open():
            caller = await house.call()
            await asyncio.sleep(0.1)
            call = caller.actor.call
            for event in (
                ListenFailed(1, Fault.crashed),
                ListenFailed(2, "what a vendor says"),
                SpeechFailed(1, 0, "overflow"),
            ):
                metrics.watch(Seen(call, 100, event, [], False))
            assert metrics.faults["recognition", "crashed"] == 1
            assert metrics.faults["recognition", OTHER] == 1
            assert metrics.faults["voice", "overflow"] == 1
            caller.hang_up()

    run(story())


def test_words_of_a_leg_that_was_lost_are_not_waited_for() -> None:
    async def story() -> None:
        house = House(shop())
        metrics = house.metrics
        async with house.open():
            caller = await house.call()
            await asyncio.sleep(0.1)
            call = caller.actor.call
            for ms, event in (
                (100, SpeechEnded(1, 500, True)),
                (200, LegLost(call)),
                (9000, Transcript(1, "of another leg")),
                (9100, SpeechEnded(2, 500, True)),
                (9350, Transcript(2, "hello")),
            ):
                metrics.watch(Seen(call, ms, event, [], False))
            assert metrics.stages["shop", "recognition"].count == 1
            assert metrics.stages["shop", "recognition"].sum == 0.25
            caller.hang_up()

    run(story())


def test_a_call_that_nobody_reached_has_no_transport() -> None:
    async def story() -> None:
        house = House(shop())
        async with house.open():
            await asyncio.sleep(0)
            actor = house.switchboard.start(house.flow, "203.0.113.5")
            assert transport_of(actor) == NONE
            actor.post(HangupOrdered("desk"))
        assert house.metrics.ended["shop", NONE, "operator"] == 1
        assert not house.metrics.begun

    run(story())


def test_a_call_that_breaks_is_counted_as_ours() -> None:
    async def story() -> None:
        house = House(shop())
        async with house.open():
            caller = await house.call()
            await asyncio.sleep(0.5)
            caller.line.failed(RuntimeError("torn"))
            await asyncio.sleep(1)
        assert house.metrics.ended["shop", "audio", "internal-error"] == 1
        assert house.metrics.outcomes == {("shop", "internal-error"): 1}

    run(story())


def test_the_first_token_is_timed_by_flow_and_engine() -> None:
    async def story() -> None:
        metrics = House(shop()).metrics
        llm = ScriptedLlm([[Words("One moment please. "), Words("And more.")]], first_ms=300, part_ms=500)
        house = House(shop(use="scripted"), llms={"scripted": metrics.timed(llm)})
        async with house.open():
            caller = await house.call()
            await caller.quiet(1000)
            caller.hang_up()
        (timed,) = metrics.first_tokens.items()
        assert timed[0] == ("shop", "main")
        assert timed[1].count == len(llm.asked)
        assert timed[1].sum == pytest.approx(0.3 * len(llm.asked), abs=0.05)

    run(story())


def test_a_timed_engine_is_cancelled_like_any() -> None:
    async def story() -> None:
        metrics = House(shop()).metrics
        llm = ScriptedLlm([[Words("This is the beginning. "), STALL]])
        house = House(shop(use="scripted"), llms={"scripted": metrics.timed(llm)})
        async with house.open():
            caller = await house.call()
            await asyncio.sleep(1)
            await caller.key("1")
            assert llm.asked[0].cancelled
            caller.hang_up()

    run(story())


class Refusing:
    def __init__(self, error: Refused) -> None:
        self.error = error

    async def admit(self, request: LegRequest) -> Any:
        raise self.error

    def turn_away(self, request: LegRequest) -> None:
        raise self.error


async def test_why_a_call_was_not_taken() -> None:
    metrics = House(shop()).metrics

    async def refuse(error: Refused, **given: Any) -> None:
        with pytest.raises(Refused):
            await Counted(Refusing(error), metrics).admit(LegRequest(**{"transport": "sip"} | given))

    full = Refused(CloseCode.busy, "no")
    full.__cause__ = Full("address", "no")
    await refuse(full)
    await refuse(Refused(CloseCode.too_fast, "no"), transport="made-up")
    await refuse(Refused(CloseCode.unknown_call, "no"), listen="c1")
    with pytest.raises(Refused):
        Counted(Refusing(full), metrics).turn_away(LegRequest(transport="sip"))
    assert +metrics.refused == {("sip", "address"): 2, (OTHER, "too-fast"): 1}


def test_zeros_are_those_of_the_flows_that_are_served() -> None:
    house = House(shop())
    metrics = Metrics(house.registry, {"shop": shop()})
    assert {flow for flow, _, _ in metrics.tools} == {"shop"}
    assert {tool for _, tool, _ in metrics.tools} == set(shop().tools)
    assert not metrics.tools.total()
