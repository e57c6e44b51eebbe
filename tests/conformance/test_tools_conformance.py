"""What everything behind the `Tools` port keeps to: HTTP, Python, and the toolbox over both."""

import asyncio
import sys
import threading
import types
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest

from app.ports import Fault, ProviderError, ToolFailed, Tools, ToolUnknown
from app.providers.http_tools import HttpTools
from app.providers.python_tools import PythonTools
from app.providers.toolbox import Toolbox
from flows.model import Flow, HttpCall, SlotType, Step, Texts, Tool, ToolEffect
from tests.fakes.http_server import HttpServer, reply

FLOW = Flow("f", 1, "s", {"s": Step("s")}, Texts(*["?"] * 7), allow_hosts=("127.0.0.1",))
MODULE = "voicegate_conformance_functions"
WAIT_S = 10
RELEASE = threading.Event()
EFFECTS = list(ToolEffect)
TIMES_BROKEN: list[int] = [0]


def good() -> dict[str, Any]:
    return {"n": 7, "more": "x"}


def wrong() -> dict[str, Any]:
    return {"n": "seven"}


def slow() -> dict[str, Any]:
    RELEASE.wait(20)
    return {"n": 7}


def broken() -> dict[str, Any]:
    raise ValueError("private")


def broken_once() -> dict[str, Any]:
    TIMES_BROKEN[0] += 1
    if TIMES_BROKEN[0] == 1:
        raise ValueError("private")
    return {"n": 7}


def refused() -> dict[str, Any]:
    raise ToolFailed(Fault.rejected)


@dataclass
class Bench:
    tools: Tools
    urls: dict[str, str]  # by function name; empty: Python

    def tool(self, name: str, effect: ToolEffect, **more: Any) -> Tool:
        base: dict[str, Any] = {"timeout_ms": 3_000, "result": (("n", SlotType.number), ("absent", SlotType.string))}
        if self.urls:
            base["http"] = HttpCall("POST", self.urls[name])
        else:
            base["python"] = f"{MODULE}:{name}"
        return Tool("t", effect, **base | more)


async def over_http(boxed: bool) -> AsyncIterator[Bench]:
    answers: dict[str, tuple[bytes | float | None, ...]] = {
        "good": (reply(body=good()),),
        "wrong": (reply(body=wrong()),),
        "slow": (20.0,),
        "broken": (reply(500, {"error": "private"}),),
        "broken_once": (reply(500), reply(body=good())),
        "refused": (reply(409),),
    }
    servers = {name: HttpServer(*given) for name, given in answers.items()}
    tools: Tools = HttpTools({})
    if boxed:
        tools = Toolbox(HttpTools({}), PythonTools([]))
    for server in servers.values():
        await server.__aenter__()
    yield Bench(tools, {name: server.url for name, server in servers.items()})
    await tools.stop()
    for server in servers.values():
        await server.__aexit__(None, None, None)


async def over_python(boxed: bool) -> AsyncIterator[Bench]:
    module = types.ModuleType(MODULE)
    vars(module).update(globals())
    sys.modules[MODULE] = module
    RELEASE.clear()
    TIMES_BROKEN[0] = 0
    tools: Tools = PythonTools([MODULE])
    if boxed:
        tools = Toolbox(HttpTools({}), PythonTools([MODULE]))
    yield Bench(tools, {})
    RELEASE.set()
    await tools.stop()
    del sys.modules[MODULE]


@pytest.fixture(params=["http", "python", "http-boxed", "python-boxed"])
async def bench(request: pytest.FixtureRequest) -> AsyncIterator[Bench]:
    make = over_http if "http" in request.param else over_python
    async for one in make("boxed" in request.param):
        yield one


async def outcome(bench: Bench, tool: Tool) -> dict[str, Any] | tuple[type[ProviderError], Fault]:
    try:
        async with asyncio.timeout(WAIT_S):
            return await bench.tools.run(FLOW, tool, {}, "call:1")
    except ProviderError as error:
        failure = error
    assert "private" not in str(failure)
    return type(failure), failure.fault


def doubtful(effect: ToolEffect) -> type[ProviderError]:
    return ToolFailed if effect is ToolEffect.read else ToolUnknown


@pytest.mark.parametrize("effect", EFFECTS)
async def test_the_result_has_the_declared_fields_and_no_others(bench: Bench, effect: ToolEffect) -> None:
    assert await outcome(bench, bench.tool("good", effect)) == {"n": 7, "absent": None}


@pytest.mark.parametrize("effect", EFFECTS)
async def test_what_may_have_happened_is_unknown_unless_it_is_a_read(bench: Bench, effect: ToolEffect) -> None:
    kind = doubtful(effect)
    assert await outcome(bench, bench.tool("wrong", effect)) == (kind, Fault.malformed)
    assert await outcome(bench, bench.tool("broken", effect)) == (kind, Fault.broken)
    assert await outcome(bench, bench.tool("slow", effect, timeout_ms=100)) == (kind, Fault.timeout)


@pytest.mark.parametrize("effect", EFFECTS)
async def test_a_refusal_definitely_had_no_effect(bench: Bench, effect: ToolEffect) -> None:
    assert await outcome(bench, bench.tool("refused", effect)) == (ToolFailed, Fault.rejected)


async def test_only_what_is_safe_is_tried_again(bench: Bench) -> None:
    write = ToolEffect.write
    assert await outcome(bench, bench.tool("broken_once", write, retries=1)) == (ToolUnknown, Fault.broken)


@pytest.mark.parametrize(("effect", "idempotent"), [(ToolEffect.read, False), (ToolEffect.write, True)])
async def test_the_safe_ones_are_tried_again(bench: Bench, effect: ToolEffect, idempotent: bool) -> None:
    tool = bench.tool("broken_once", effect, idempotent=idempotent, retries=1)
    assert await outcome(bench, tool) == {"n": 7, "absent": None}


async def test_a_cancelled_read_ends_at_once(bench: Bench) -> None:
    async with asyncio.TaskGroup() as group:
        task = group.create_task(outcome(bench, bench.tool("slow", ToolEffect.read)))
        await asyncio.sleep(0.1)
        task.cancel()
    assert task.cancelled()


async def test_many_at_once(bench: Bench) -> None:
    async with asyncio.TaskGroup() as group:
        tool = bench.tool("good", ToolEffect.read)
        tasks = [group.create_task(outcome(bench, tool)) for _ in range(12)]
    assert all(task.result() == {"n": 7, "absent": None} for task in tasks)


async def test_stop_may_come_twice(bench: Bench) -> None:
    await bench.tools.stop()
    await bench.tools.stop()
