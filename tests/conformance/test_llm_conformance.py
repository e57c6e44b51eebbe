"""What every engine behind the `Llm` port keeps to: the rules, the model client, and the scripted fake."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import pytest

from app.core.events import ToolRequest
from app.core.request import Message, Request, ToolSpec
from app.ports import Calls, Fault, Llm, Part, Proposal, ProviderError, Used, Words
from app.providers.openai import OpenAiLlm
from app.providers.rules import RulesLlm
from app.providers.scripted import STALL, ScriptedLlm
from flows.model import Flow, Model, Slot, SlotType, Step, Texts
from tests.fakes.openai_server import OpenAiServer, Stall, Status, call, end, words

FLOW = Flow("f", 1, "s", {"s": Step("s")}, Texts(*["?"] * 7), models={"m": Model("m", "any", "tiny-1")})
SAID = "on thursday please"
WAIT_S = 10


def request(**more: Any) -> Request:
    base: dict[str, Any] = {
        "flow": FLOW,
        "engine": "m",
        "system": "Ask for the day.",
        "messages": (Message("caller", SAID),),
        "tools": (ToolSpec("find_slot", "Find a slot.", ()),),
        "slots": (Slot("day", SlotType.weekday, ask="Which day?"),),
        "digressions": ("repeat",),
        "words": SAID,
        "asked": "day",
        "ready": ("find_slot",),
    }
    return Request(**base | more)


@dataclass
class Bench:
    """An engine that proposes the day and asks for `find_slot`; `stuck` and `faulty` as they say."""

    good: Llm
    stuck: Llm | None = None  # gives no second part until it is closed
    faulty: Llm | None = None  # fails as busy
    closed: Callable[[], Any] | None = None  # awaits the news that `stuck` let go


async def rules() -> AsyncIterator[Bench]:
    yield Bench(RulesLlm())


async def scripted() -> AsyncIterator[Bench]:
    parts = (Words("Let me "), Words("look."), Proposal({"day": "thursday"}, "", SAID))
    calls = Calls((ToolRequest("a", "find_slot"),))
    good = ScriptedLlm(lambda _: (*parts, calls, Used("tiny-1", 11, 7)))
    stuck = ScriptedLlm(lambda _: (Words("One "), STALL))

    async def closed() -> None:
        assert stuck.asked[-1].cancelled

    yield Bench(good, stuck, ScriptedLlm(lambda _: (Fault.busy,)), closed)


async def openai() -> AsyncIterator[Bench]:
    proposing = call(0, "s", "set_slots", '{"day": "thursday"}')
    answer = [*words("Let me ", "look."), *proposing, *call(1, "a", "find_slot", "{}"), *end("tool_calls")]
    async with (
        OpenAiServer(answer) as good,
        OpenAiServer([*words("One "), Stall()]) as stuck,
        OpenAiServer([Status(429)]) as busy,
    ):

        async def closed() -> None:
            await asyncio.wait_for(stuck.exchanges[-1].gone.wait(), WAIT_S)

        made = [OpenAiLlm(server.base_url, "k") for server in (good, stuck, busy)]
        yield Bench(made[0], made[1], made[2], closed)
        for llm in made:
            await llm.stop()


@pytest.fixture(params=[rules, scripted, openai], ids=lambda make: make.__name__)
async def bench(request: pytest.FixtureRequest) -> AsyncIterator[Bench]:
    async for one in request.param():
        yield one


async def collect(llm: Llm, asked: Request) -> list[Part]:
    async with asyncio.timeout(WAIT_S):
        return [part async for part in llm.reply(asked)]


def kinds(parts: Sequence[Part]) -> list[str]:
    return [type(part).__name__ for part in parts]


async def test_an_answer_proposes_and_then_asks_once(bench: Bench) -> None:
    parts = await collect(bench.good, request())
    assert [part for part in parts if isinstance(part, Proposal)] == [Proposal({"day": "thursday"}, "", SAID)]
    (calls,) = [part for part in parts if isinstance(part, Calls)]
    assert [one.tool for one in calls.calls] == ["find_slot"]
    assert all(one.call_id for one in calls.calls)
    order = [kind for kind in kinds(parts) if kind != "Words"]
    assert order in (["Proposal", "Calls"], ["Proposal", "Calls", "Used"])


async def test_the_same_request_twice_and_at_once(bench: Bench) -> None:
    first = await collect(bench.good, request())
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(collect(bench.good, request())) for _ in range(8)]
    assert all(kinds(task.result()) == kinds(first) for task in tasks)


async def test_closing_lets_go_of_everything(bench: Bench) -> None:
    if bench.stuck is None or bench.closed is None:
        pytest.skip("it never waits")
    parts = bench.stuck.reply(request())
    assert await anext(parts) == Words("One ")
    async with asyncio.timeout(WAIT_S), aclosing(parts):
        pass
    await bench.closed()
    with pytest.raises(StopAsyncIteration):
        await anext(parts)


async def test_cancelling_lets_go_of_everything(bench: Bench) -> None:
    if bench.stuck is None or bench.closed is None:
        pytest.skip("it never waits")
    stuck = bench.stuck
    started = asyncio.Event()

    async def read() -> None:
        async for _ in stuck.reply(request()):
            started.set()

    async with asyncio.TaskGroup() as group:
        task = group.create_task(read())
        await asyncio.wait_for(started.wait(), WAIT_S)
        task.cancel()
    assert task.cancelled()
    await bench.closed()


async def test_a_failure_is_a_provider_error(bench: Bench) -> None:
    if bench.faulty is None:
        pytest.skip("it never fails")
    with pytest.raises(ProviderError) as caught:
        await collect(bench.faulty, request())
    assert caught.value.fault is Fault.busy
    assert SAID not in str(caught.value)


async def test_stop_may_come_twice(bench: Bench) -> None:
    await collect(bench.good, request())
    await bench.good.stop()
    await bench.good.stop()
