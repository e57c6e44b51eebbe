"""Python tools: admitted modules only, a thread that hangs does not hang the call, outcomes that do not lie."""

import asyncio
import sys
import threading
import types
from collections.abc import AsyncIterator
from typing import Any

import pytest

from app.ports import Fault, ProviderError, ToolFailed, ToolUnknown
from app.providers.http_tools import HttpTools
from app.providers.python_tools import PythonTools
from app.providers.toolbox import Toolbox
from flows.model import Flow, SlotType, Step, Texts, Tool, ToolEffect, Value

FLOW = Flow("f", 1, "s", {"s": Step("s")}, Texts("?", "?", "?", "?", "?", "?", "?"))
READ, WRITE = ToolEffect.read, ToolEffect.write
MODULE = "voicegate_test_functions"
RELEASE = threading.Event()
SEEN: list[dict[str, Any]] = []


def add(a: int, b: int = 1) -> dict[str, Any]:
    return {"n": a + b}


async def add_later(a: int, b: int = 1) -> dict[str, Any]:
    await asyncio.sleep(0)
    return {"n": a + b}


def keyed(idempotency_key: str, **more: Any) -> dict[str, Any]:
    SEEN.append({"key": idempotency_key, **more})
    return {}


def hang() -> dict[str, Any]:
    RELEASE.wait(20)
    return {}


async def hang_later() -> dict[str, Any]:
    await asyncio.sleep(20)
    return {}


def fail() -> dict[str, Any]:
    SEEN.append({})
    raise ValueError("private")


async def fail_later() -> dict[str, Any]:
    raise TimeoutError("private")


def leave() -> dict[str, Any]:
    sys.exit(3)


def refuse() -> dict[str, Any]:
    raise ToolFailed(Fault.rejected, "sold out")


def shrug() -> dict[str, Any]:
    raise ToolUnknown(Fault.cut)


def listed() -> list[int]:
    return [1]


def wrong() -> dict[str, Any]:
    return {"n": "private"}


@pytest.fixture
async def tools() -> AsyncIterator[PythonTools]:
    module = types.ModuleType(MODULE)
    vars(module).update(globals())
    sys.modules[MODULE] = module
    SEEN.clear()
    RELEASE.clear()
    made = PythonTools([MODULE], threads=2)
    yield made
    RELEASE.set()
    await made.stop()
    del sys.modules[MODULE]


def tool(name: str, **more: Any) -> Tool:
    base: dict[str, Any] = {"effect": READ, "timeout_ms": 3_000, "result": (("n", SlotType.number),)}
    return Tool("t", python=name if ":" in name else f"{MODULE}:{name}", **base | more)


async def fails(
    tools: PythonTools, wanted: Tool, arguments: dict[str, Value] | None = None
) -> tuple[type[ProviderError], Fault]:
    with pytest.raises(ProviderError) as caught:
        await tools.run(FLOW, wanted, arguments or {}, "k")
    assert "private" not in str(caught.value)
    return type(caught.value), caught.value.fault


@pytest.mark.parametrize("name", ["add", "add_later"])
async def test_functions_are_called_with_their_arguments(tools: PythonTools, name: str) -> None:
    assert await tools.run(FLOW, tool(name), {"a": 2, "b": 3}, "k") == {"n": 5}
    assert await tools.run(FLOW, tool(name), {"a": 2}, "k") == {"n": 3}


async def test_the_key_goes_to_those_who_want_it(tools: PythonTools) -> None:
    assert await tools.run(FLOW, tool("keyed"), {"x": 1}, "call:7") == {"n": None}
    assert SEEN == [{"key": "call:7", "x": 1}]


@pytest.mark.parametrize(
    "name",
    ["os:system", "builtins:eval", f"{MODULE}.sub:add", f"{MODULE}:sys.exit", f"{MODULE}:_x", f"{MODULE}:", ":x"],
)
async def test_what_is_not_admitted_is_forbidden(tools: PythonTools, name: str) -> None:
    assert await fails(tools, tool(name, effect=WRITE)) == (ToolFailed, Fault.forbidden)


async def test_what_is_not_there_or_does_not_fit_is_rejected(tools: PythonTools) -> None:
    for name, arguments in (("nothing", {}), ("RELEASE", {}), ("add", {}), ("add", {"a": 1, "c": 1})):
        given: dict[str, Value] = dict(arguments)
        assert await fails(tools, tool(name, effect=WRITE), given) == (ToolFailed, Fault.rejected)
    missing = PythonTools(["voicegate_no_such_module"])
    assert await fails(missing, tool("voicegate_no_such_module:x")) == (ToolFailed, Fault.rejected)
    await missing.stop()


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("fail", Fault.broken),
        ("fail_later", Fault.broken),
        ("leave", Fault.broken),
        ("listed", Fault.malformed),
        ("wrong", Fault.malformed),
        ("shrug", Fault.cut),
    ],
)
async def test_what_went_wrong_in_a_write_is_unknown(tools: PythonTools, name: str, fault: Fault) -> None:
    assert await fails(tools, tool(name)) == (ToolFailed, fault)
    assert await fails(tools, tool(name, effect=WRITE)) == (ToolUnknown, fault)


async def test_a_function_that_says_it_did_nothing_is_believed(tools: PythonTools) -> None:
    assert await fails(tools, tool("refuse", effect=WRITE)) == (ToolFailed, Fault.rejected)


@pytest.mark.parametrize("name", ["hang", "hang_later"])
async def test_time_is_limited(tools: PythonTools, name: str) -> None:
    assert await fails(tools, tool(name, timeout_ms=50)) == (ToolFailed, Fault.timeout)
    assert await fails(tools, tool(name, timeout_ms=50, effect=WRITE)) == (ToolUnknown, Fault.timeout)


async def test_threads_that_hang_make_it_busy_and_never_more_threads(tools: PythonTools) -> None:
    for _ in range(2):
        await fails(tools, tool("hang", timeout_ms=50))
    assert await fails(tools, tool("add", effect=WRITE), {"a": 1}) == (ToolFailed, Fault.busy)
    RELEASE.set()
    assert await tools.run(FLOW, tool("add", retries=20), {"a": 1}, "k") == {"n": 2}


async def test_only_the_safe_ones_are_tried_again(tools: PythonTools) -> None:
    await fails(tools, tool("fail", retries=2))
    assert len(SEEN) == 3
    SEEN.clear()
    await fails(tools, tool("fail", retries=2, effect=WRITE))
    assert len(SEEN) == 1


async def test_the_toolbox_finds_the_right_one(tools: PythonTools) -> None:
    box = Toolbox(HttpTools({}), tools)
    assert await box.run(FLOW, tool("add"), {"a": 1}, "k") == {"n": 2}
    with pytest.raises(ToolFailed) as caught:
        await box.run(FLOW, Tool("t", READ), {}, "k")
    assert caught.value.fault is Fault.rejected
    await box.stop()
