"""Conversations on the plain protocol over real sockets, and clients that do not keep to it."""

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from media.websocket import server as shell
from media.websocket import socket as sockets
from tests.e2e.clients import Plain, dial, ringing
from tests.e2e.server import LECTURE, TALK, running

TOKEN = "a-token-that-is-long-enough"
TOKENS = json.dumps([{"name": "desk", "role": "operator", "token": TOKEN}])
MAX_GAP_S = 1.0  # in the audio of a call beside; on a busy machine


async def test_a_call_from_greeting_to_goodbye(tmp_path: Path) -> None:
    async with running(tmp_path, flows=[TALK]) as server, dial(server.ws("/ws/audio/talk"), marks=True) as caller:
        await caller.asked("Which day")
        await caller.type("tuesday please")
        await caller.asked("Tuesday. Is that right?")
        await caller.type("no, on friday")
        await caller.asked("Friday. Is that right?")
        await caller.key("#")
        assert await caller.until_closed() == (1000, "flow")
        assert caller.ended == ("flow", "told")
        assert caller.messages[0]["rate"] == 8000
        assert caller.messages[0]["frame_ms"] == 20
        assert {len(pcm) for _, pcm in caller.frames} == {160}
        record = await server.over(caller.call)
        assert record["slots"] == {"day": "friday"}
        assert server.replayed(caller.call).phase == "ended"


@pytest.mark.parametrize("rate", [8000, 16000, 24000, 48000])
async def test_every_rate_talks_and_hears(tmp_path: Path, rate: int) -> None:
    async with running(tmp_path, flows=[TALK]) as server, dial(server.ws("/ws/audio"), rate=rate) as caller:
        await caller.quiet()
        assert {len(pcm) for _, pcm in caller.frames} == {rate // 50}
        await caller.room(0.1)
        await caller.send({"type": "stop"})
        assert await caller.until_closed() == (1000, "")
        assert (await server.over(caller.call))["cause"] == "caller-hangup"


async def test_closing_normally_hangs_up(tmp_path: Path) -> None:
    async with running(tmp_path, flows=[TALK]) as server, dial(server.ws("/ws/audio")) as caller:
        await caller.quiet()
        await caller.socket.close(1000)
        assert (await server.over(caller.call))["cause"] == "caller-hangup"


async def test_a_lost_call_comes_back_with_its_token_and_only_with_that(tmp_path: Path) -> None:
    async with running(tmp_path, flows=[TALK]) as server:
        url = server.ws("/ws/audio/talk")
        async with dial(url) as first:
            await first.asked("Which day")
            await first.type("monday")
            await first.asked("Monday. Is that right?")
            first.drop()
            await first.until_closed()
        await server.until(lambda: not server.gate.registry[first.call].core.state.attached)
        async with dial(url, resume=first.resume) as second:
            assert second.call == first.call
            assert second.resume != first.resume
            await second.asked("Monday. Is that right?")
            await refused(url, 4401, resume=first.resume)
            await refused(url, 4401, resume=second.resume[:-1] + "x")
            await second.type("yes")
            await second.until_closed()
            assert second.ended == ("flow", "told")
        await server.over(first.call)
        await refused(url, 4401, resume=second.resume)
        assert server.replayed(first.call).slots["day"].value == "monday"


async def test_a_client_may_come_back_before_its_loss_is_noticed(tmp_path: Path) -> None:
    async with running(tmp_path, flows=[TALK]) as server:
        url = server.ws("/ws/audio/talk")
        async with dial(url) as first:
            await first.asked("Which day")
            async with dial(url, resume=first.resume) as second:
                assert second.call == first.call
                assert await first.until_closed() == (4409, "another connection took its place")
                await second.asked("Which day")
                await second.send({"type": "stop"})
                await second.until_closed()
        assert (await server.over(first.call))["cause"] == "caller-hangup"
        assert server.replayed(first.call)


async def refused(url: str, code: int, **start: Any) -> str:
    """The reason with which this is refused."""
    async with ringing(url, **start) as caller:
        number, reason = await caller.until_closed()
        assert number == code, (number, reason)
        assert reason
        assert caller.error is not None
        assert caller.error[1] == reason
        assert not caller.call
        return reason


async def test_no_such_flow(tmp_path: Path) -> None:
    async with running(tmp_path, flows=[TALK]) as server:
        assert await refused(server.ws("/ws/audio/nothing"), 4404) == "there is no such flow"
        with pytest.raises(InvalidStatus):
            async with dial(server.ws("/ws/telephone/talk")):
                pass
        with pytest.raises(InvalidStatus):
            async with dial(server.ws("/audio/talk")):
                pass
        assert len(server.gate.registry) == 0


async def test_the_called_number_finds_its_flow(tmp_path: Path) -> None:
    routes = json.dumps([{"called": "+15550100", "flow": "lecture"}])
    async with running(tmp_path, flows=[TALK, LECTURE], routes=routes) as server:
        async with dial(server.ws("/ws/audio"), called="+15550100") as caller:
            assert server.gate.registry[caller.call].core.flow.name == "lecture"
        async with dial(server.ws("/ws/audio"), called="+15550199") as caller:
            assert server.gate.registry[caller.call].core.flow.name == "talk"
        async with dial(server.ws("/ws/audio/lecture")) as caller:
            assert server.gate.registry[caller.call].core.flow.name == "lecture"


async def test_tokens(tmp_path: Path) -> None:
    async with running(tmp_path, flows=[TALK], tokens=TOKENS, trust_loopback=False) as server:
        url = server.ws("/ws/audio/talk")
        await refused(url, 4401)
        await refused(url, 4401, token="not-the-token-at-all")
        await refused(url, 4401, token=TOKEN + "x")
        await refused(url, 4401, headers={"Authorization": "Bearer wrong-wrong-wrong-wrong"})
        async with dial(url, token=TOKEN) as caller:
            assert server.gate.registry[caller.call].core.state.caller == "desk"
        async with dial(url, headers={"Authorization": f"Bearer {TOKEN}"}):
            pass
        async with dial(f"{url}?token={TOKEN}"):
            pass


async def test_programs_on_this_machine_need_no_token(tmp_path: Path) -> None:
    async with running(tmp_path, flows=[TALK], tokens=TOKENS) as server:
        url = server.ws("/ws/audio/talk")
        async with dial(url):
            pass
        await refused(url, 4401, token="not-the-token-at-all")
        await refused(url, 4401, headers={"Origin": "https://evil.example"})
        await refused(url, 4401, headers={"X-Forwarded-For": "203.0.113.7"})
        await refused(url, 4401, headers={"Origin": "https://" + "a" * 5000 + ".example"})
        await refused(url, 4401, headers={"X-Forwarded-For": "203.0.113.7, " * 500})


async def test_guessing_tokens_comes_to_an_end(tmp_path: Path) -> None:
    async with running(tmp_path, flows=[TALK], tokens=TOKENS, trust_loopback=False) as server:
        url = server.ws("/ws/audio/talk")
        for n in range(10):
            await refused(url, 4401, token=f"a-wrong-guess-number-{n}")
        assert "wait" in await refused(url, 4429, token=TOKEN)


async def test_all_lines_are_busy(tmp_path: Path) -> None:
    async with running(tmp_path, flows=[TALK], max_calls=2, max_calls_per_address=1) as server:
        url = server.ws("/ws/audio/talk")
        async with dial(url) as caller:
            assert await refused(url, 4503) == "too many calls from this address"
            await caller.send({"type": "stop"})
            await caller.until_closed()
            await server.over(caller.call)
        async with dial(url):
            pass


async def test_one_address_may_have_all_lines_unless_told_otherwise(tmp_path: Path) -> None:
    async with running(tmp_path, flows=[TALK], max_calls=25) as server, AsyncExitStack() as callers:
        for _ in range(25):
            await callers.enter_async_context(dial(server.ws("/ws/audio/talk")))
        assert await refused(server.ws("/ws/audio/talk"), 4503) == "all lines are busy"


async def test_calls_through_a_proxy_count_for_its_clients(tmp_path: Path) -> None:
    async with running(tmp_path, flows=[TALK], tokens=TOKENS, max_calls_per_address=1) as server:
        url = server.ws("/ws/audio/talk")
        near, far = ({"X-Forwarded-For": f"198.51.100.{number}"} for number in (1, 2))
        async with dial(url, token=TOKEN, headers=near), dial(url, token=TOKEN, headers=far):
            assert await refused(url, 4503, token=TOKEN, headers=near) == "too many calls from this address"


# Hostile clients

Act = Callable[[Plain], Awaitable[None]]


def says(text: str) -> Act:
    return lambda caller: caller.socket.send(text)


def sends(data: bytes) -> Act:
    return lambda caller: caller.socket.send(data)


def many(message: str | bytes, count: int) -> Act:
    async def act(caller: Plain) -> None:
        for _ in range(count):
            await caller.socket.send(message)

    return act


async def nothing(caller: Plain) -> None:
    pass


async def invalid_text(caller: Plain) -> None:
    await caller.socket.send(b"\xff\xfe", text=True)


IN_A_CALL: dict[str, tuple[Act, int]] = {
    "no JSON": (says("hello"), 4400),
    "half a JSON": (says('{"type":"digit"'), 4400),
    "a list": (says("[1,2,3]"), 4400),
    "no type": (says('{"digit":"1"}'), 4400),
    "an unknown type": (says('{"type":"explode"}'), 4400),
    "a key that no phone has": (says('{"type":"digit","digit":"A"}'), 4400),
    "two keys at once": (says('{"type":"digit","digit":"12"}'), 4400),
    "a number for a text": (says('{"type":"text","text":5}'), 4400),
    "an empty turn": (says('{"type":"text","text":""}'), 4400),
    "a turn that is too long": (says(json.dumps({"type": "text", "text": "x" * 2001})), 4400),
    "deeply nested": (says("[" * 8000), 4400),
    "a second start": (says('{"type":"start","rate":8000}'), 4400),
    "half a sample": (sends(b"123"), 4400),
    "a text that is too large": (says(json.dumps({"type": "text", "text": "x" * 20_000})), 4413),
    "audio that is too large": (sends(bytes(96_002)), 4413),
    "text that is no UTF-8": (invalid_text, 1007),
    "too many messages": (many('{"type":"mark","name":"x"}', 1000), 4429),
    "too many frames": (many(bytes(32), 4000), 4429),
}

BEFORE_A_CALL: dict[str, tuple[Act, int]] = {
    "audio first": (sends(bytes(320)), 4400),
    "a key first": (says('{"type":"digit","digit":"1"}'), 4400),
    "a rate that we have not": (says('{"type":"start","rate":11025}'), 4400),
    "a rate as text": (says('{"type":"start","rate":"8000"}'), 4400),
    "a buffer of a minute": (says('{"type":"start","buffer_ms":60000}'), 4400),
    "a negative buffer": (says('{"type":"start","buffer_ms":-1}'), 4400),
    "a token that is too long": (says(json.dumps({"type": "start", "token": "t" * 600})), 4400),
    "no JSON first": (says("GET / HTTP/1.1"), 4400),
    "a greeting that is too large": (says(json.dumps({"type": "start", "caller": "x" * 17_000})), 4413),
    "silence": (nothing, 4408),
}


async def test_who_breaks_the_rules_is_told_why_and_disturbs_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shell, "START_TIMEOUT_S", 1)
    wrong: list[str] = []

    async def play(url: str, name: str, act: Act, code: int, *, in_a_call: bool) -> None:
        silent: dict[str, Any] = {} if in_a_call else {"start": None}
        async with ringing(url, **silent) as rogue:
            if in_a_call:
                await rogue.until(lambda: rogue.call or rogue.closed)
            with contextlib.suppress(ConnectionClosed):  # while it was still at it
                await act(rogue)
            number, reason = await rogue.until_closed()
            if number != code or not (reason or code == 1007):
                wrong.append(f"{name}: {number} {reason!r} instead of {code}")
            if code > 4000 and (rogue.error is None or rogue.error[1] != reason):
                wrong.append(f"{name}: no error message, but {rogue.messages[-1:]}")

    async with running(tmp_path, flows=[TALK, LECTURE], words_per_s=2.6, max_calls_per_address=100) as server:
        async with dial(server.ws("/ws/audio/lecture")) as neighbour:
            await neighbour.until(lambda: neighbour.frames)
            since_s = asyncio.get_running_loop().time()
            for name, (act, code) in BEFORE_A_CALL.items():
                await play(server.ws("/ws/audio/talk"), name, act, code, in_a_call=False)
            for name, (act, code) in IN_A_CALL.items():
                await play(server.ws("/ws/audio/talk"), name, act, code, in_a_call=True)
            assert not wrong
            assert neighbour.closed is None
            assert max(neighbour.gaps_s(since_s)) < MAX_GAP_S
            await neighbour.send({"type": "stop"})
            await neighbour.until_closed()
        await server.over(neighbour.call)
        assert not [seen for seen in server.seen if type(seen.event).__name__ == "CallFailed"]


async def test_a_message_over_every_limit_breaks_the_connection(tmp_path: Path) -> None:
    async with running(tmp_path, flows=[TALK]) as server, dial(server.ws("/ws/audio")) as caller:
        with contextlib.suppress(ConnectionClosed):
            await caller.socket.send(bytes(300_000))
        code, _ = await caller.until_closed()
        assert code in (1006, 1009), "the close frame may be lost where we stop reading in the middle of a message"
        await server.until(lambda: not server.gate.registry[caller.call].core.state.attached)


async def test_a_client_that_does_not_read_loses_its_connection_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sockets, "STALLED_BYTES", 8000)
    monkeypatch.setattr(shell, "MAX_STALL_S", 0.5)
    async with (
        running(tmp_path, flows=[LECTURE], words_per_s=2.6) as server,
        dial(server.ws("/ws/audio/lecture")) as neighbour,
        dial(server.ws("/ws/audio/lecture"), rate=48000, narrow=True) as deaf,
    ):
        await neighbour.until(lambda: neighbour.frames)
        deaf.socket.transport.pause_reading()
        actor = server.gate.registry[deaf.call]
        await server.until(lambda: not actor.core.state.attached, 60)
        deaf.socket.transport.resume_reading()
        assert (await deaf.until_closed())[0] in (1006, 4420)
        assert neighbour.closed is None
        assert max(neighbour.gaps_s(0)) < MAX_GAP_S
