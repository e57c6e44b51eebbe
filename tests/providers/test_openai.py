"""The model client against a server that speaks the real protocol over real sockets, and misbehaves."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing
from typing import Any

import pytest

from app.core.events import ToolRequest
from app.core.request import Message, Request, ToolSpec
from app.ports import Calls, Fault, Part, Proposal, ProviderError, Used, Words
from app.providers import openai as module
from app.providers.openai import OpenAiLlm, body, messages
from flows.model import Argument, Choice, Flow, Model, Slot, SlotType, Step, Texts
from tests.fakes.openai_server import (
    DONE,
    Cut,
    OpenAiServer,
    Pause,
    Stall,
    Status,
    Surplus,
    answer,
    call,
    chunk,
    end,
    event,
    words,
)

TEXTS = Texts("?", "?", "?", "?", "?", "?", "?")
FLOW = Flow("f", 1, "s", {"s": Step("s")}, TEXTS, models={"fast": Model("fast", "openai", "tiny-1")})
WAIT_S = 10


def request(**more: Any) -> Request:
    base: dict[str, Any] = {
        "flow": FLOW,
        "engine": "fast",
        "system": "You book.",
        "messages": (Message("caller", "thursday please"),),
        "tools": (ToolSpec("look", "Look it up.", (Argument("note"),)),),
        "slots": (
            Slot("day", SlotType.weekday, ask="Which day?"),
            Slot(
                "part", SlotType.choice, choices=(Choice("morning", ("morning",), "1"), Choice("noon", ("noon",), "2"))
            ),
        ),
        "digressions": ("repeat", "faq"),
        "words": "thursday please",
    }
    return Request(**base | more)


Make = Callable[..., OpenAiLlm]


@pytest.fixture
async def make() -> AsyncIterator[Make]:
    made: list[OpenAiLlm] = []

    def build(server: OpenAiServer | str, **more: Any) -> OpenAiLlm:
        address = server if isinstance(server, str) else server.base_url
        made.append(OpenAiLlm(address, "key-1", **more))
        return made[-1]

    yield build
    for llm in made:
        await llm.stop()


async def collect(llm: OpenAiLlm, asked: Request | None = None) -> list[Part]:
    async with asyncio.timeout(WAIT_S), aclosing(llm.reply(asked or request())) as parts:
        return [part async for part in parts]


async def fails(llm: OpenAiLlm, asked: Request | None = None) -> tuple[Fault, list[Part]]:
    got: list[Part] = []
    async with asyncio.timeout(WAIT_S), aclosing(llm.reply(asked or request())) as parts:
        try:
            async for part in parts:
                got.append(part)
        except ProviderError as error:
            return error.fault, got
    raise AssertionError("it did not fail")


async def test_words_come_as_they_are_sent_and_usage_last(make: Make) -> None:
    async with OpenAiServer([*words("Good ", "morning."), *end()]) as server:
        parts = await collect(make(server))
    assert parts == [Words("Good "), Words("morning."), Used("tiny-1", 11, 7)]


async def test_the_request_has_the_step_and_nothing_else(make: Make) -> None:
    async with OpenAiServer([*words("Hi."), *end()]) as server:
        await collect(make(server, extra={"reasoning_effort": "none"}))
        exchange = server.exchanges[0]
    assert exchange.headers["authorization"] == "Bearer key-1"
    sent = exchange.body
    assert sent["model"] == "tiny-1"
    assert sent["stream"] is True
    assert sent["stream_options"] == {"include_usage": True}
    assert sent["reasoning_effort"] == "none"
    assert sent["messages"] == [
        {"role": "system", "content": "You book."},
        {"role": "user", "content": "thursday please"},
    ]
    functions = {tool["function"]["name"]: tool["function"]["parameters"] for tool in sent["tools"]}
    assert set(functions) == {"look", "set_slots", "digress"}
    assert functions["look"]["properties"] == {"note": {"type": "string", "maxLength": 200}}
    assert functions["look"]["required"] == ["note"]
    assert functions["set_slots"]["properties"]["part"]["enum"] == ["morning", "noon"]
    assert functions["set_slots"]["required"] == []
    assert functions["digress"]["properties"]["to"]["enum"] == ["repeat", "faq"]


def test_without_words_nothing_can_be_proposed() -> None:
    sent = body(request(words="", yesno=True), {})
    assert [tool["function"]["name"] for tool in sent["tools"]] == ["look"]
    assert "tools" not in body(request(words="", tools=()), {})


def test_an_open_question_can_be_answered() -> None:
    names = [tool["function"]["name"] for tool in body(request(yesno=True), {})["tools"]]
    assert names == ["look", "set_slots", "answer", "digress"]


def test_a_tool_with_a_reserved_name_is_refused() -> None:
    with pytest.raises(ProviderError) as caught:
        body(request(tools=(ToolSpec("set_slots", "", ()),)), {})
    assert caught.value.fault is Fault.rejected


async def test_proposals_and_calls_come_at_the_end_in_order(make: Make) -> None:
    script = [
        *words("One moment."),
        *call(0, "a", "set_slots", '{"day": "thu', 'rsday", "part": null}'),
        *call(1, "b", "look", '{"note": "x"}'),
        *call(2, "c", "answer", '{"yes": true}'),
        *call(3, "d", "digress", '{"to": "faq"}'),
        *call(4, "e", "look", '{"note": "y"}'),
        *end("tool_calls"),
    ]
    async with OpenAiServer(script) as server:
        parts = await collect(make(server))
    said = "thursday please"
    assert parts == [
        Words("One moment."),
        Proposal({"day": "thursday"}, "", said),
        Proposal({}, "yes", said),
        Proposal({}, "faq", said),
        Calls((ToolRequest("b", "look", {"note": "x"}), ToolRequest("e", "look", {"note": "y"}))),
        Used("tiny-1", 11, 7),
    ]


@pytest.mark.parametrize("name", ["charge_of_another_step", "no_such_tool"])
async def test_a_tool_that_the_step_does_not_have_goes_to_the_gate(make: Make, name: str) -> None:
    async with OpenAiServer([*call(0, "a", name, ""), *end("tool_calls")]) as server:
        parts = await collect(make(server))
    assert parts[0] == Calls((ToolRequest("a", name, {}),))


async def test_two_tools_that_share_an_index_are_told_apart_by_their_ids(make: Make) -> None:
    script = [*call(0, "a", "look", '{"note": "x"}'), *call(0, "b", "look", '{"note": "y"}'), *end("tool_calls")]
    async with OpenAiServer(script) as server:
        parts = await collect(make(server))
    assert parts[0] == Calls((ToolRequest("a", "look", {"note": "x"}), ToolRequest("b", "look", {"note": "y"})))


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("look", '{"note": '),
        ("look", "[1]"),
        ("look", '{"note": {"deep": 1}}'),
        ("look", '{"note": ' + "[" * 4000),
        ("look", '{"note": "\\ud800"}'),
        ("set_slots", '{"day": ["thursday"]}'),
        ("digress", '{"where": "faq"}'),
        ("digress", '{"to": 3}'),
        ("answer", '{"yes": "yes"}'),
        ("", "{}"),
    ],
)
async def test_malformed_arguments_are_an_error_and_are_paid_for(make: Make, name: str, arguments: str) -> None:
    script = [*words("Well."), *call(0, "a", name, arguments), *end("tool_calls")]
    async with OpenAiServer(script) as server:
        fault, got = await fails(make(server))
    assert fault is Fault.malformed
    assert got == [Words("Well."), Used("tiny-1", 11, 7)]


@pytest.mark.parametrize(
    ("reason", "fault"),
    [("length", Fault.truncated), ("content_filter", Fault.filtered), ("mystery", Fault.malformed)],
)
async def test_an_end_that_is_no_end(make: Make, reason: str, fault: Fault) -> None:
    script = [*words("Well."), *call(0, "a", "look", '{"note"'), *end(reason)]
    async with OpenAiServer(script) as server:
        assert await fails(make(server)) == (fault, [Words("Well."), Used("tiny-1", 11, 7)])


async def test_a_refusal_is_filtered(make: Make) -> None:
    async with OpenAiServer([chunk({"refusal": "I cannot"}), *end("stop", usage=None)]) as server:
        assert await fails(make(server)) == (Fault.filtered, [])


@pytest.mark.parametrize(
    ("code", "fault", "tries"),
    [
        (400, Fault.rejected, 1),
        (302, Fault.rejected, 1),
        (401, Fault.auth, 1),
        (403, Fault.auth, 1),
        (404, Fault.rejected, 1),
        (429, Fault.busy, 2),
        (500, Fault.broken, 1),
        (502, Fault.broken, 1),
        (503, Fault.busy, 2),
    ],
)
async def test_statuses(make: Make, code: int, fault: Fault, tries: int) -> None:
    async with OpenAiServer([Status(code, headers=(("Location", "http://127.0.0.1:1/"),))]) as server:
        assert await fails(make(server)) == (fault, [])
        assert len(server.exchanges) == tries


async def test_busy_once_is_tried_again(make: Make) -> None:
    async with OpenAiServer([Status(429)], [*words("Hi."), *end(usage=None)]) as server:
        assert await collect(make(server)) == [Words("Hi.")]


async def test_a_connection_lost_before_the_answer_is_tried_again_once(make: Make) -> None:
    async with OpenAiServer([Cut()], [*words("Hi."), *end(usage=None)]) as server:
        assert await collect(make(server)) == [Words("Hi.")]
    async with OpenAiServer([Cut()]) as server:
        assert await fails(make(server)) == (Fault.cut, [])
        assert len(server.exchanges) == 2


async def test_nobody_listens(make: Make, unused_tcp_port: int) -> None:
    assert await fails(make(f"http://127.0.0.1:{unused_tcp_port}/v1")) == (Fault.refused, [])


async def test_an_error_with_an_endless_body_is_not_read(make: Make) -> None:
    async with OpenAiServer([Status(500, b"x" * 5_000_000)]) as server:
        assert (await fails(make(server)))[0] is Fault.broken


async def test_a_slow_first_token_is_waited_for(make: Make) -> None:
    async with OpenAiServer([Pause(1.0), *words("Hi."), *end(usage=None)]) as server:
        assert await collect(make(server, first_ms=8_000, gap_ms=700)) == [Words("Hi.")]


async def test_no_first_token_in_time(make: Make) -> None:
    async with OpenAiServer([Stall()]) as server:
        assert await fails(make(server, first_ms=200)) == (Fault.timeout, [])
        await asyncio.wait_for(server.exchanges[0].gone.wait(), WAIT_S)


async def test_a_stall_in_mid_stream_ends_the_connection(make: Make) -> None:
    async with OpenAiServer([*words("One ", "two "), Stall()]) as server:
        fault, got = await fails(make(server, gap_ms=700))
        assert (fault, got) == (Fault.timeout, [Words("One "), Words("two ")])
        await asyncio.wait_for(server.exchanges[0].gone.wait(), WAIT_S)


async def test_cut_in_mid_stream_keeps_what_was_said(make: Make) -> None:
    async with OpenAiServer([*words("One "), Pause(0.05), Cut()]) as server:
        assert await fails(make(server)) == (Fault.cut, [Words("One ")])
        assert len(server.exchanges) == 1


async def test_a_stream_that_ends_without_its_end(make: Make) -> None:
    async with OpenAiServer([*words("One ")]) as server:
        assert await fails(make(server)) == (Fault.cut, [Words("One ")])
    async with OpenAiServer([*words("One "), DONE]) as server:
        assert await fails(make(server)) == (Fault.malformed, [Words("One ")])


@pytest.mark.parametrize("after", [[], [Stall()], [b"data: {nonsense\n\n"], [Cut()]])
async def test_nothing_after_the_end_can_spoil_it(make: Make, after: Sequence[Any]) -> None:
    async with OpenAiServer([*words("Hi."), chunk({}, "stop"), Pause(0.05), *after]) as server:
        assert await collect(make(server)) == [Words("Hi.")]


@pytest.mark.parametrize(
    "data",
    [
        b"data: {nonsense\n\n",
        b"data: 3\n\n",
        b'data: {"choices": 3}\n\n',
        b'data: {"choices": [{"delta": {"content": 5}}]}\n\n',
        b'data: {"x": ' + b"[" * 60_000 + b"\n\n",
        b'data: {"choices": [{"delta": {"content": "\xff\xfe"}}]}\n\n',
    ],
)
async def test_what_is_not_a_chunk(make: Make, data: bytes) -> None:
    async with OpenAiServer([*words("One "), data, Stall()]) as server:
        assert await fails(make(server)) == (Fault.malformed, [Words("One ")])
        await asyncio.wait_for(server.exchanges[0].gone.wait(), WAIT_S)


async def test_an_error_in_the_stream(make: Make) -> None:
    async with OpenAiServer([*words("One "), event({"error": {"message": "overloaded"}})]) as server:
        assert await fails(make(server)) == (Fault.broken, [Words("One ")])


async def test_comments_line_ends_and_split_events_are_understood(make: Make) -> None:
    one = b": ping\r\n\r\n" + event(json.loads(chunk({"content": "é "})[6:])).replace(b"\n\n", b"\r\n\r\n")
    lines = b'event: x\ndata: {"choices":\ndata: [{"delta": {"content": "b"}}]}\n\n'
    pieces = [bytes([byte]) for byte in one] + [lines]
    async with OpenAiServer([*pieces, *end(usage=None)]) as server:
        assert await collect(make(server)) == [Words("é "), Words("b")]


@pytest.mark.parametrize(
    "flood",
    [
        words("word " * 300),
        [b"data: " + b"x" * 70_000],
        call(0, "a", "look", *['{"note": "' + "x" * 5_000] * 2),
        [piece for index in range(20) for piece in call(index, f"c{index}", "look")],
        [chunk({"tool_calls": [{"index": 0, "id": "x" * 300}]})],
        [b": " + b"x" * 30_000 + b"\n"] * 40,
    ],
)
async def test_floods_are_stopped(make: Make, flood: Sequence[bytes]) -> None:
    async with OpenAiServer([*flood, Stall()]) as server:
        fault, _ = await fails(make(server))
        assert fault is Fault.too_large
        await asyncio.wait_for(server.exchanges[0].gone.wait(), WAIT_S)


async def test_closing_the_answer_closes_the_connection(make: Make) -> None:
    async with OpenAiServer([*words("One ", "two "), Stall()]) as server:
        parts = make(server).reply(request())
        assert await anext(parts) == Words("One ")
        await parts.aclose()
        await asyncio.wait_for(server.exchanges[0].gone.wait(), WAIT_S)
        assert not server.exchanges[0].ended


async def test_cancelling_closes_the_connection_whenever_it_comes(make: Make) -> None:
    async with OpenAiServer([Stall()], [*words("One "), Stall()]) as server:
        llm = make(server)
        for number in range(2):
            async with asyncio.TaskGroup() as group:
                task = group.create_task(collect(llm))
                await asyncio.wait_for(server.asked.acquire(), WAIT_S)
                await asyncio.sleep(0.05)
                task.cancel()
            await asyncio.wait_for(server.exchanges[number].gone.wait(), WAIT_S)


async def test_an_endless_stream_stops_when_the_caller_does(make: Make) -> None:
    endless = [piece for _ in range(3_000) for piece in (chunk({"content": ""}), Pause(0.002))]
    async with OpenAiServer([*words("One "), *endless]) as server:
        parts = make(server).reply(request())
        assert await anext(parts) == Words("One ")
        await parts.aclose()
        await asyncio.wait_for(server.exchanges[0].gone.wait(), WAIT_S)


async def test_the_pool_is_shared_and_a_closed_answer_does_not_poison_it(make: Make) -> None:
    good = [*words("Hi."), *end()]
    async with OpenAiServer(good, good, [*words("One "), Stall()], good) as server:
        llm = make(server)
        await collect(llm)
        await collect(llm)
        assert server.connections == 1
        parts = llm.reply(request())
        await anext(parts)
        await parts.aclose()
        assert (await collect(llm))[0] == Words("Hi.")
        assert server.connections == 2


ANOTHERS = answer(*words("Your balance is 7."), *end())


@pytest.mark.parametrize("surplus", [ANOTHERS, ANOTHERS[:20], b"\r\n" + ANOTHERS, b"nonsense\r\n\r\n", b""])
@pytest.mark.parametrize("when", ["with the answer", "while idle", "unread"])
async def test_what_nobody_asked_for_reaches_nobody(make: Make, surplus: bytes, when: str) -> None:
    """What is left over on a used connection would be the next caller's reply."""
    at_once = Surplus(surplus if when == "with the answer" else b"")
    async with OpenAiServer([*words("Hi."), *end(), at_once], [*words("Hi."), *end()]) as server:
        llm = make(server)
        assert (await collect(llm))[0] == Words("Hi.")
        if when != "with the answer":
            server.blurt(surplus)
        if when == "while idle":
            await asyncio.sleep(0.05)
        assert (await collect(llm))[0] == Words("Hi.")


async def test_an_unread_surplus_costs_no_request(make: Make) -> None:
    async with OpenAiServer([*words("Hi."), *end()]) as server:
        llm = make(server)
        for number in (1, 2, 3):
            await collect(llm)
            server.blurt(ANOTHERS)
            assert (len(server.exchanges), server.connections) == (number, number)


async def test_an_answer_whose_end_comes_apart_gives_its_connection_back(make: Make) -> None:
    async with OpenAiServer([*words("Hi."), *end(), Pause(0.005)]) as server:
        llm = make(server)
        for _ in range(3):
            await collect(llm)
        assert server.connections == 1


async def test_an_answer_that_never_ends_keeps_nobody_waiting(make: Make) -> None:
    async with OpenAiServer([*words("Hi."), *end(), Stall()]) as server:
        assert (await collect(make(server)))[-1] == Used("tiny-1", 11, 7)
        await asyncio.wait_for(server.exchanges[0].gone.wait(), WAIT_S)


async def test_a_proxy_of_the_environment_is_used(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[bytes] = []

    async def proxy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await reader.readline())
        writer.close()

    async with await asyncio.start_server(proxy, "127.0.0.1", 0) as server:
        address = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        for name in ("NO_PROXY", "no_proxy"):
            monkeypatch.delenv(name, raising=False)
        for name in ("HTTP_PROXY", "http_proxy"):
            monkeypatch.setenv(name, address)
        assert await fails(make("http://model.test/v1")) == (Fault.cut, [])
    assert seen[0] == b"POST http://model.test/v1/chat/completions HTTP/1.1\r\n"


async def test_many_at_once(make: Make) -> None:
    async with OpenAiServer([*words("Hi."), *end()]) as server:
        llm = make(server)
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(collect(llm)) for _ in range(30)]
    assert all(task.result() == [Words("Hi."), Used("tiny-1", 11, 7)] for task in tasks)


async def test_usage_that_was_told_early_is_reported_with_the_error(make: Make) -> None:
    early = chunk({"content": "One "}, usage={"prompt_tokens": 5, "completion_tokens": 1})
    async with OpenAiServer([early, Cut()]) as server:
        fault, got = await fails(make(server))
    assert fault is Fault.cut
    assert got[-1] == Used("tiny-1", 5, 1)


async def test_errors_hold_no_words_and_no_key(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    async with OpenAiServer([Status(400, b"thursday please key-1")]) as server:
        with pytest.raises(ProviderError) as caught:
            await collect(make(server))
    assert "thursday" not in str(caught.value) + caplog.text
    assert "key-1" not in str(caught.value) + caplog.text


# The conversation as the protocol wants it


def outcome_of(sent: list[dict[str, Any]], call_id: str) -> object:
    return next(one["content"] for one in sent if one.get("tool_call_id") == call_id)


def test_each_call_is_followed_by_its_outcome_whatever_the_order_was() -> None:
    history = (
        Message("agent", "Looking.", calls=(ToolRequest("a", "look", {"note": "x"}), ToolRequest("b", "look"))),
        Message("caller", "and hurry"),
        Message("tool", "found it", call_id="b"),
        Message("note", "The caller interrupted."),
        Message("tool", "orphan", call_id="zzz"),
        Message("tool", "again", call_id="b"),
    )
    sent = messages("", history)
    assert [one["role"] for one in sent] == ["assistant", "tool", "tool", "user", "system", "system", "system"]
    assert sent[0]["tool_calls"][0] == {
        "id": "a",
        "type": "function",
        "function": {"name": "look", "arguments": '{"note":"x"}'},
    }
    assert outcome_of(sent, "a") == module.STILL_RUNNING
    assert outcome_of(sent, "b") == "found it"


def test_an_id_that_comes_twice_is_made_unique() -> None:
    once = (Message("agent", calls=(ToolRequest("r", "look"),)), Message("tool", "first", call_id="r"))
    twice = (Message("agent", calls=(ToolRequest("r", "look"),)), Message("tool", "second", call_id="r"))
    sent = messages("", once + twice)
    ids = [one["tool_call_id"] for one in sent if one["role"] == "tool"]
    assert len(set(ids)) == 2
    assert [outcome_of(sent, call_id) for call_id in ids] == ["first", "second"]
    assert sent[0]["content"] is None
