"""Whole calls through actor, jobs, journal and playout, on a virtual clock."""

import asyncio

import pytest

from app.core.effects import CutPlayout, HoldPlayout, ResumePlayout, StartReply
from app.core.events import PlayoutStopped, SpeechEnded, ToolEnded, Transcript
from app.core.state import Phase
from app.ports import Calls, Fault, Words
from app.providers.scripted import STALL, ScriptedLlm, ScriptedStt, ScriptedTts
from app.runtime.registry import Full
from media.gateway import Refused
from tests.support.house import FakeTools, House
from tests.support.shop import shop
from tests.support.virtual import run

ANSWERS = {
    "find_customer": {"found": True, "customer": "k7"},
    "stock": {},
    "order": {"reference": "r1"},
}


def test_a_call_from_greeting_to_goodbye() -> None:
    async def story() -> None:
        house = House(
            shop(), stt=ScriptedStt(["tea", "yes", "friday", "yes", "yes"], final_ms=60), tools=FakeTools(ANSWERS)
        )
        async with house.open():
            caller = await house.call()
            await caller.converse(5)
            await caller.quiet()
        assert caller.wire.ended == ("flow", "ordered")
        assert [name for name, _, _ in house.tools.runs] == ["find_customer", "stock", "order"]
        assert house.tools.runs[2][2] == "shop/order/k7:tea:friday"
        assert house.cdr(caller.actor.call)["outcome"] == "ordered"
        assert house.replays(caller.actor.call) == len(house.seen)

    run(story())


def test_barge_in_holds_in_the_same_tick_and_cancels_model_and_speech() -> None:
    async def story() -> None:
        talk = [Words(f"This is sentence number {n} of a long answer. ") for n in range(30)]
        llm = ScriptedLlm([[*talk, STALL]], part_ms=20)
        house = House(shop(use="scripted"), stt=ScriptedStt(["stop it please"]), llms={"scripted": llm})
        async with house.open():
            caller = await house.call()
            await asyncio.sleep(4)
            assert caller.wire.frames
            utterance = await caller.onset()
            held_at = caller.wire.now_ms()
            await asyncio.sleep(0.1)
            caller.line.speech_confirmed(utterance)
            await asyncio.sleep(1)
            assert not [at for at in caller.wire.frames if at > held_at]
            assert llm.asked[0].cancelled
            assert caller.wire.clears
            caller.line.speech_ended(utterance, 1100, True)
            await asyncio.sleep(0.5)
            caller.hang_up()
        stopped = house.facts(PlayoutStopped)[0]
        assert stopped.cause == "cut"
        heard = next(message for message in caller.actor.core.state.history if message.role == "agent")
        assert heard.text.startswith("Welcome to the shop.")
        assert "number 29" not in heard.text

    run(story())


def test_noise_lets_the_agent_go_on_where_it_stopped() -> None:
    async def story() -> None:
        house = House(shop())
        async with house.open():
            caller = await house.call()
            await asyncio.sleep(0.5)
            before = len(caller.wire.frames)
            await caller.speak(ms=200, voice=False)
            await caller.quiet()
            assert len(caller.wire.frames) > before
            caller.hang_up()
        assert [type(order) for order in house.orders((HoldPlayout, ResumePlayout, CutPlayout))][:2] == [
            HoldPlayout,
            ResumePlayout,
        ]
        assert house.facts(PlayoutStopped)[0].cause == "done"

    run(story())


def test_the_model_falls_back_to_the_rules() -> None:
    async def story() -> None:
        llm = ScriptedLlm([[Fault.timeout], [Fault.timeout], [Fault.timeout]])
        house = House(shop(use="scripted"), stt=ScriptedStt(["opening hours"]), llms={"scripted": llm})
        async with house.open():
            caller = await house.call()
            await caller.quiet(1000)
            caller.hang_up()
        engines = [order.engine for order in house.orders(StartReply)]
        assert engines[0] == "main"
        assert "Key in your four digit code." in house.tts.spoken

    run(story())


def test_a_model_may_not_use_a_tool_of_another_step() -> None:
    async def story() -> None:
        from app.core.events import ToolRequest

        llm = ScriptedLlm([[Calls((ToolRequest("x", "order", {}),))], [Words("I cannot do that yet.")]])
        tools = FakeTools(ANSWERS)
        house = House(shop(use="scripted"), llms={"scripted": llm}, tools=tools)
        async with house.open():
            caller = await house.call()
            await caller.quiet()
            caller.hang_up()
        assert tools.runs == []
        assert [tool.name for tool in llm.asked[0].request.tools] == ["find_customer"]

    run(story())


def test_a_lost_leg_comes_back_with_its_token() -> None:
    async def story() -> None:
        house = House(shop())
        async with house.open():
            first = await house.call()
            await first.quiet()
            first.lose()
            await asyncio.sleep(5)
            second = await house.call(resume=first.resume)
            assert second.actor is first.actor
            await second.quiet()
            assert second.wire.frames
            with pytest.raises(Refused):
                await house.call(resume=first.resume)
            second.hang_up()
        assert house.cdr(first.actor.call)["cause"] == "caller-hangup"
        assert house.replays(first.actor.call) == len(house.seen)

    run(story())


def test_a_lost_leg_that_stays_away_ends_the_call() -> None:
    async def story() -> None:
        house = House(shop())
        async with house.open():
            caller = await house.call()
            await caller.quiet()
            caller.lose()
            await asyncio.sleep(120)
        assert house.cdr(caller.actor.call)["cause"] == "leg-lost"

    run(story())


def test_synthesis_that_fails_for_good_ends_the_call() -> None:
    async def story() -> None:
        tts = ScriptedTts(troubles=dict.fromkeys(range(20), Fault.crashed))
        house = House(shop(), tts=tts)
        async with house.open():
            caller = await house.call()
            await asyncio.sleep(60)
        assert house.cdr(caller.actor.call)["cause"] == "speech-failed"

    run(story())


def test_an_error_of_ours_ends_one_call_with_its_record(caplog: pytest.LogCaptureFixture) -> None:
    async def story() -> None:
        house = House(shop())
        async with house.open():
            broken = await house.call()
            other = await house.call()
            await broken.quiet()
            healthy = broken.actor.core.handle

            def torn(event: object, now_ms: int) -> object:
                broken.actor.core.state.step = "nowhere"
                raise KeyError("nowhere")

            broken.actor.core.handle = torn  # type: ignore[method-assign,assignment]
            broken.line.digit("1")
            await asyncio.sleep(1)
            assert broken.actor.core.handle is not healthy
            assert house.cdr(broken.actor.call)["cause"] == "internal-error"
            assert broken.wire.ended == ("internal-error", "internal-error")
            await other.quiet()
            assert other.actor.core.state.phase is Phase.live
            other.hang_up()
        assert house.replays(broken.actor.call)

    run(story())


def test_no_more_calls_than_the_limit_and_none_while_draining() -> None:
    async def story() -> None:
        house = House(shop(), max_calls=1, drain_s=3)
        async with house.open():
            caller = await house.call()
            with pytest.raises(Refused):
                await house.call()
            caller.hang_up()
            await asyncio.sleep(1)
            again = await house.call()
            await asyncio.sleep(0.1)
        assert house.cdr(again.actor.call)["cause"] == "drain"
        with pytest.raises(Full):
            house.registry.check("127.0.0.1")

    run(story())


def test_a_hangup_waits_for_a_started_write() -> None:
    async def story() -> None:
        house = House(
            shop(),
            stt=ScriptedStt(["tea", "yes", "friday", "yes", "yes"], final_ms=60),
            tools=FakeTools(ANSWERS, takes_ms=900),
        )
        async with house.open():
            caller = await house.call()
            await caller.converse(5)
            assert house.tools.runs[-1][0] == "order"
            caller.hang_up()
        ended = house.facts(ToolEnded)[-1]
        assert ended.outcome == "done"
        assert house.cdr(caller.actor.call)["tools"][-1]["state"] == "done"
        assert house.facts(SpeechEnded)
        assert house.facts(Transcript)

    run(story())


def test_a_hangup_ends_the_call_at_once_though_much_is_left_to_be_said() -> None:
    async def story() -> None:
        talk = [Words(f"This is sentence number {n} of a long answer. ") for n in range(30)]
        house = House(shop(use="scripted"), llms={"scripted": ScriptedLlm([talk])})
        async with house.open():
            caller = await house.call()
            await asyncio.sleep(4)
            assert caller.wire.frames
            caller.hang_up()
            await asyncio.sleep(0.1)
            assert len(house.registry) == 0
        assert house.cdr(caller.actor.call)["cause"] == "caller-hangup"

    run(story())
