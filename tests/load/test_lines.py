"""Both WebSocket lines against a server by hand: what they say, what they tell, and how they fail."""

import asyncio
import base64
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from app.load import plain, twilio
from app.load.dial import Dial, open_lines
from app.load.line import BadAddress, Line, LineError, NotResumable, Refused, Trouble
from app.load.lines import websocket_lines
from app.load.plain import PlainLine
from app.load.twilio import TwilioLine
from tests.load.far_end import Heard, Peer, far_end, frame, goodbye, text

STARTED = {"type": "started", "call": "c1", "rate": 16000, "frame_ms": 20, "resume": "r1"}
SOUND = b"\x01\x02" * 320
ULAW = bytes(range(160))


def media(payload: bytes) -> bytes:
    return text({"event": "media", "streamSid": "MZ", "media": {"payload": base64.b64encode(payload).decode()}})


# The plain protocol


async def test_a_plain_call_from_start_to_goodbye() -> None:
    said: list[Any] = []

    async def behaviour(peer: Peer) -> None:
        assert "Authorization: Bearer secret" in peer.request
        said.append(await peer.message())
        await peer.send(text(STARTED) + frame(2, SOUND) + text({"type": "caption", "text": "Hello."}))
        assert await peer.receive() == (2, SOUND)
        said.append(await peer.message())
        await peer.send(text({"type": "clear"}) + text({"type": "something new"}))
        await peer.send(text({"type": "ended", "cause": "flow", "outcome": "booked"}) + goodbye(1000, "flow"))

    heard = Heard()
    async with far_end(behaviour) as url:
        line = websocket_lines(url, token="secret")(0)
        await line.connect(heard)
        assert line.call == "c1"
        line.send(b"")
        line.send(SOUND)
        line.digit("5", 100)
        await heard.until(lambda: ("ended", "flow", "booked") in heard.told)
        await line.hang_up()
    assert said[0] == {"type": "start", "rate": 16000, "captions": True} | said[0]
    assert said[1] == {"type": "digit", "digit": "5"}
    assert heard.payloads == [SOUND]
    assert heard.told == [("caption", "agent", "Hello."), ("cleared",), ("ended", "flow", "booked")]


async def test_a_plain_call_comes_back_with_its_token() -> None:
    starts: list[Any] = []

    async def behaviour(peer: Peer) -> None:
        starts.append(await peer.message())
        await peer.send(text(STARTED | {"resume": f"r{len(starts)}"}))
        await peer.receive()

    heard = Heard()
    async with far_end(behaviour) as url:
        line = PlainLine(url)
        with pytest.raises(NotResumable):
            await line.resume()
        await line.connect(heard)
        for _ in range(2):
            line.drop()
            line.drop()
            line.send(SOUND)
            await line.resume()
        await line.hang_up()
    assert [start.get("resume", "") for start in starts] == ["", "r1", "r2"]
    assert not heard.told, "who drops the line knows it"


@pytest.mark.parametrize(
    ("make", "answer", "expected"),
    [
        (PlainLine, text({"type": "error", "code": "busy", "reason": "full"}) + goodbye(4999, "full"), "busy"),
        (PlainLine, goodbye(4404, "unknown flow"), "unknown-flow"),
        (TwilioLine, goodbye(4503, "full"), "busy"),
        (TwilioLine, goodbye(4999), "4999"),
    ],
)
async def test_who_is_refused_knows_why(make: Callable[[str], Line], answer: bytes, expected: str) -> None:
    async def behaviour(peer: Peer) -> None:
        await peer.message()
        await peer.send(answer)

    async with far_end(behaviour) as url:
        with pytest.raises(Refused) as caught:
            await make(url).connect(Heard())
    assert caught.value.code == expected


async def test_servers_that_never_start_or_go_away_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plain, "CONNECT_TIMEOUT_S", 0.1)

    async def silent(peer: Peer) -> None:
        await peer.message()
        while True:
            await peer.receive()

    async def leaves(peer: Peer) -> None:
        await peer.message()
        peer.abort()

    for behaviour, kind in ((silent, Trouble.timeout), (leaves, Trouble.cut)):
        async with far_end(behaviour) as url:
            with pytest.raises(LineError) as caught:
                await PlainLine(url).connect(Heard())
        assert caught.value.kind is kind


async def test_ends_without_an_outcome() -> None:
    async def scene(end: Callable[[Peer], Awaitable[None]]) -> tuple[str, ...]:
        async def behaviour(peer: Peer) -> None:
            await peer.message()
            await peer.send(text(STARTED) + frame(2, SOUND))
            await end(peer)

        heard = Heard()
        async with far_end(behaviour) as url:
            line = PlainLine(url)
            await line.connect(heard)
            await heard.until(lambda: heard.told)
            line.send(SOUND)
            line.digit("1", 100)
            await line.hang_up()
        (told,) = heard.told
        return told

    async def leaves(peer: Peer) -> None:
        peer.abort()

    assert await scene(lambda peer: peer.send(goodbye(1000))) == ("ended", "", "")
    assert await scene(lambda peer: peer.send(goodbye(1001))) == ("failed", "cut")
    assert await scene(leaves) == ("failed", "cut")


async def test_hanging_up_says_goodbye_even_to_a_server_that_says_nothing() -> None:
    said: list[Any] = []

    async def behaviour(peer: Peer) -> None:
        await peer.message()
        await peer.send(text(STARTED))
        said.append(await peer.message())
        await peer.receive()
        await asyncio.sleep(5)

    async with far_end(behaviour) as url:
        line = PlainLine(url)
        await line.hang_up()
        await line.connect(Heard())
        async with asyncio.timeout(4):
            await line.hang_up()
            await line.hang_up()
    assert said == [{"type": "stop"}]


# Twilio's


async def test_a_twilio_stream_from_connected_to_stop() -> None:
    said: list[Any] = []

    async def behaviour(peer: Peer) -> None:
        said.extend([await peer.message(), await peer.message()])
        await peer.send(media(ULAW) + text({"event": "mark", "streamSid": "MZ", "mark": {"name": "a"}}))
        said.extend([await peer.message() for _ in range(4)])
        await peer.send(media(ULAW) * 50 + text({"event": "mark", "streamSid": "MZ", "mark": {"name": "b"}}))
        await peer.send(text({"event": "clear", "streamSid": "MZ"}))
        said.append(await peer.message())
        await peer.send(goodbye(1000, "flow"))

    heard = Heard()
    async with far_end(behaviour) as url:
        line = TwilioLine(url, parameters={"caller": "+15550100"})
        await line.connect(heard)
        line.send(ULAW)
        line.send(b"")
        line.send(ULAW)
        line.digit("9", 100)
        await asyncio.sleep(0.03)  # until the first frame was played
        line.send(b"")
        await heard.until(lambda: ("ended", "flow", "") in heard.told)
        await line.hang_up()
    connected, start, first, second, digit, mark, cleared_mark = said
    assert connected == {"event": "connected", "protocol": "Call", "version": "1.0.0"}
    stream = start["streamSid"]
    assert start["start"]["callSid"] == line.call
    assert start["start"]["customParameters"] == {"caller": "+15550100"}
    assert base64.b64decode(first["media"]["payload"]) == ULAW
    assert [one["media"]["chunk"] for one in (first, second)] == ["1", "3"], "what is lost leaves its place"
    assert [one["media"]["timestamp"] for one in (first, second)] == ["20", "60"]
    assert [one["sequenceNumber"] for one in said[1:]] == ["1", "2", "3", "4", "5", "6"]
    assert digit["dtmf"]["digit"] == "9"
    assert mark["mark"] == {"name": "a"}
    assert cleared_mark["mark"] == {"name": "b"}, "at once, though a second of sound was before it"
    assert {one["streamSid"] for one in said[1:]} == {stream}
    assert heard.payloads == [ULAW] * 51


async def test_a_mark_is_echoed_only_when_what_is_before_it_was_played() -> None:
    async def behaviour(peer: Peer) -> None:
        await peer.message()
        await peer.message()
        await peer.send(media(ULAW * 25) + text({"event": "mark", "streamSid": "MZ", "mark": {"name": "late"}}))
        kinds: list[str] = []
        while not kinds or kinds[-1] != "mark":
            kinds.append((await peer.message())["event"])
        assert kinds.count("media") >= 10
        await peer.send(goodbye(1000))

    heard = Heard()
    async with far_end(behaviour) as url:
        line = TwilioLine(url)
        await line.connect(heard)
        while not heard.told:
            line.send(ULAW)
            await asyncio.sleep(0.02)
        await line.hang_up()


async def test_a_twilio_call_comes_back_as_another_stream_of_the_same_call() -> None:
    starts: list[Any] = []

    async def behaviour(peer: Peer) -> None:
        await peer.message()
        starts.append(await peer.message())
        await peer.send(media(ULAW))
        await peer.receive()

    heard = Heard()
    async with far_end(behaviour) as url:
        line = TwilioLine(url)
        await line.connect(heard)
        line.drop()
        await line.resume()
        await line.hang_up()
    assert starts[0]["start"]["callSid"] == starts[1]["start"]["callSid"] == line.call
    assert starts[0]["streamSid"] != starts[1]["streamSid"]
    assert not heard.told


async def test_an_agent_that_lets_the_caller_begin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(twilio, "SETTLE_S", 0.05)

    async def behaviour(peer: Peer) -> None:
        while True:
            await peer.receive()

    async with far_end(behaviour) as url:
        line = TwilioLine(url)
        await line.connect(Heard())
        line.send(ULAW)
        await line.hang_up()


async def test_what_is_no_message_of_the_protocol_ends_the_call_or_lets_none_begin() -> None:
    async def behaviour(peer: Peer) -> None:
        await peer.send(media(ULAW) + text({"event": "media", "media": {"payload": "not base64!"}}))
        await peer.receive()

    heard = Heard()
    async with far_end(behaviour) as url:
        line = TwilioLine(url)
        await line.connect(heard)
        await heard.until(lambda: heard.told)
        await line.hang_up()
    assert heard.told == [("failed", "protocol")]
    async with far_end(lambda peer: peer.send(frame(1, b"what?"))) as url:
        with pytest.raises(LineError) as caught:
            await TwilioLine(url).connect(Heard())
    assert caught.value.kind is Trouble.protocol


NESTED = '{"x": ' + "[" * 50_000


@pytest.mark.parametrize("message", [NESTED.encode(), b'{"type": "caption", "text": "\xff"}', b"what?", b""])
async def test_a_plain_call_passes_over_what_it_does_not_know(message: bytes) -> None:
    async def behaviour(peer: Peer) -> None:
        await peer.send(text(STARTED) + frame(1, message) + frame(2, SOUND))
        await peer.receive()

    heard = Heard()
    async with far_end(behaviour) as url:
        line = PlainLine(url)
        await line.connect(heard)
        await heard.until(lambda: heard.payloads)
        await line.hang_up()
    assert heard.told == []


@pytest.mark.parametrize("message", [NESTED.encode(), b'{"event": "\xff"}'])
async def test_no_message_of_a_twilio_call_is_too_strange_to_be_told(message: bytes) -> None:
    async with far_end(lambda peer: peer.send(frame(1, message))) as url:
        with pytest.raises(LineError) as caught:
            await TwilioLine(url).connect(Heard())
    assert caught.value.kind is Trouble.protocol


@pytest.mark.parametrize("make", [PlainLine, TwilioLine])
async def test_who_breaks_the_protocol_is_told_apart_from_who_goes_away(make: Callable[[str], Line]) -> None:
    async with far_end(lambda peer: peer.send(frame(3, b"x"))) as url:
        with pytest.raises(LineError) as caught:
            await make(url).connect(Heard())
    assert caught.value.kind is Trouble.protocol


def test_what_a_server_says_moves_no_cursor_and_has_an_end() -> None:
    refused = Refused("c\x1b[31m\n" + "x" * 10_000, "\x07" * 10_000)
    assert refused.code.isprintable()
    assert refused.reason.isprintable()
    assert len(refused.code) < 100
    assert len(refused.reason) < 1000


# Addresses


def test_the_path_says_which_protocol_is_spoken() -> None:
    assert isinstance(websocket_lines("ws://host/ws/audio/clinic")(0), PlainLine)
    assert isinstance(websocket_lines("wss://host:8443/ws/twilio")(0), TwilioLine)
    assert isinstance(websocket_lines("ws://host/media", protocol="twilio")(0), TwilioLine)
    assert websocket_lines("ws://host/ws/audio", rate_hz=8000)(0).codec.rate_hz == 8000


@pytest.mark.parametrize(
    "address",
    ["", "host", "http://host", "ws://", "ws://host:99999/", "ws://ho st/", "ws://[::1", "ws://h/\r\nX: y", "ws://h/€"],
)
def test_what_is_no_address_says_what_is_one(address: str) -> None:
    with pytest.raises(BadAddress, match="such as"):
        websocket_lines(address)


@pytest.mark.parametrize("host", ["a..b", "a" * 300])
async def test_names_that_no_host_can_have_are_not_reached(host: str) -> None:
    with pytest.raises(LineError) as caught:
        await PlainLine(f"ws://{host}/").connect(Heard())
    assert caught.value.kind is Trouble.unreachable


@pytest.mark.parametrize("token", ["a\r\nX: y", "\x00", "€"])
@pytest.mark.parametrize("address", ["ws://127.0.0.1:1", "http://127.0.0.1:1"])
async def test_a_token_that_no_header_can_carry_is_told_before_the_first_call(address: str, token: str) -> None:
    with pytest.raises(BadAddress, match="--token"):
        async with open_lines(Dial(address, token=token)):
            pass


@pytest.mark.parametrize("address", ["sips:a@127.0.0.1:1", "wss://127.0.0.1:1", "https://127.0.0.1:1"])
async def test_authorities_that_are_none_are_told_before_the_first_call(address: str, tmp_path: Path) -> None:
    with pytest.raises(BadAddress, match="no certificates"):
        async with open_lines(Dial(address, authorities=str(tmp_path / "nobody.pem"))):
            pass
