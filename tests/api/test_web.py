"""The HTTP server at a real socket, against peers that are silent, slow, too large or wrong."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import closing
from typing import Any

import pytest

from app.api import web
from app.api.web import listen
from media.websocket import socket
from media.websocket.frames import Message
from media.websocket.handshake import BadOpening, Opening, accept, refusal
from media.websocket.socket import Socket

PATIENCE_S = 20
SHORT_S = 0.1
MUCH_BYTES = 16 << 20  # more than all buffers take
HELLO = b"GET / HTTP/1.1\r\nHost: here\r\n\r\n"
UPGRADE = (
    b"GET /ws HTTP/1.1\r\nHost: here\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)


def frame(opcode: int, payload: bytes = b"") -> bytes:
    """A client's frame with a mask of zeros (RFC 6455, 5.2)."""
    assert len(payload) < 126
    return bytes([0x80 | opcode, 0x80 | len(payload)]) + bytes(4) + payload


TEXT, CLOSE = frame(1, b"hi"), frame(8, b"\x03\xe8")


class App:
    """Answers a request when it has all of it and `answer` is set."""

    def __init__(self) -> None:
        self.answer = asyncio.Event()
        self.answer.set()
        self.body = b"ok"

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "http"
        while (message := await receive()).get("more_body"):
            pass
        if message["type"] == "http.request":
            await self.answer.wait()
            await send(
                {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(self.body))]}
            )
            await send({"type": "http.response.body", "body": self.body})


class Echo:
    """A WebSocket that says what it hears."""

    def __init__(self, ended: "asyncio.Queue[int]") -> None:
        self.socket = Socket(self)
        self._ended = ended

    def received(self, message: Message) -> None:
        self.socket.send(message)

    def closed(self, code: int) -> None:
        self._ended.put_nowait(code)

    def lost(self) -> None: ...

    def overflowed(self) -> None:
        self.socket.abort()


class Echoes:
    def __init__(self) -> None:
        self.ended: asyncio.Queue[int] = asyncio.Queue()  # how each WebSocket closed

    def open(self, opening: Opening, transport: asyncio.Transport, data: bytes) -> None:
        try:
            transport.write(accept(opening))
        except BadOpening as error:
            transport.write(refusal(error.status))
            transport.close()
        else:
            Echo(self.ended).socket.attach(transport, data)


class Place:
    def __init__(self, app: App, echoes: Echoes, port: int, log: pytest.LogCaptureFixture) -> None:
        self.app = app
        self.echoes = echoes
        self.log = log
        self._port = port

    async def dial(self) -> "Peer":
        return Peer(*await asyncio.open_connection("127.0.0.1", self._port))

    async def ended(self) -> int:
        async with asyncio.timeout(PATIENCE_S):
            return await self.echoes.ended.get()


class Peer:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self.say = writer.write
        self.gone = writer.transport.abort

    async def heard(self, end: bytes) -> bytes:
        async with asyncio.timeout(PATIENCE_S):
            return await self._reader.readuntil(end)

    async def rest(self) -> bytes:
        """What comes until the server closes."""
        async with asyncio.timeout(PATIENCE_S):
            try:
                return await self._reader.read()
            except ConnectionResetError:
                return b""


@pytest.fixture
async def place(caplog: pytest.LogCaptureFixture) -> AsyncIterator[Place]:
    app, echoes = App(), Echoes()
    with closing(listen("127.0.0.1", 0)) as listener:
        server = web.WebServer(app, echoes)
        async with asyncio.TaskGroup() as group:
            group.create_task(server.serve([listener]))
            while not server.started:  # noqa: ASYNC110  # uvicorn has no event for it
                await asyncio.sleep(0.01)
            yield Place(app, echoes, listener.getsockname()[1], caplog)
            server.should_exit = True


@pytest.fixture
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "REQUEST_TIMEOUT_S", SHORT_S)


@pytest.mark.parametrize(
    "beginning",
    [
        b"",
        b"G",
        HELLO[:-2],
        UPGRADE,
        b"POST / HTTP/1.1\r\nHost: here\r\nContent-Length: 9\r\n\r\nhalf",
        HELLO + b"GET /",
    ],
)
@pytest.mark.usefixtures("hurry")
async def test_who_does_not_finish_a_request_is_not_waited_for(place: Place, beginning: bytes) -> None:
    peer = await place.dial()
    peer.say(beginning)
    assert (b"ok" in await peer.rest()) is beginning.startswith(HELLO)
    assert not place.log.records


@pytest.mark.usefixtures("hurry")
async def test_a_slow_answer_is_waited_for(place: Place) -> None:
    place.app.answer.clear()
    peer = await place.dial()
    peer.say(HELLO)
    await asyncio.sleep(3 * SHORT_S)
    place.app.answer.set()
    await peer.heard(b"ok")
    assert await peer.rest() == b""


@pytest.mark.parametrize("requests", [HELLO, HELLO * 3])
async def test_who_does_not_read_is_not_waited_for(
    place: Place, monkeypatch: pytest.MonkeyPatch, requests: bytes
) -> None:
    monkeypatch.setattr(web, "UNREAD_TIMEOUT_S", SHORT_S)
    place.app.body = bytes(MUCH_BYTES)
    peer = await place.dial()
    peer.say(requests)
    await asyncio.sleep(3 * SHORT_S)
    assert len(await peer.rest()) < MUCH_BYTES


async def test_who_reads_late_gets_all_of_it(place: Place) -> None:
    place.app.body = bytes(MUCH_BYTES)
    peer = await place.dial()
    peer.say(HELLO[:-2] + b"Connection: close\r\n\r\n")
    await asyncio.sleep(SHORT_S)
    assert len(await peer.rest()) > MUCH_BYTES


async def test_no_websocket_begins_behind_answers_that_nobody_reads(place: Place) -> None:
    place.app.body = bytes(MUCH_BYTES)
    peer = await place.dial()
    peer.say(HELLO + UPGRADE + b"\r\n" + TEXT)
    assert b" 101 " not in await peer.rest()
    assert not place.log.records


@pytest.mark.parametrize("before", [b"", HELLO])
@pytest.mark.usefixtures("hurry")
async def test_a_websocket_stays(place: Place, before: bytes) -> None:
    peer = await place.dial()
    peer.say(before + UPGRADE + b"\r\n")
    await peer.heard(b"\r\n\r\n")
    if before:
        await peer.heard(b"ok")
        await peer.heard(b"\r\n\r\n")
    await asyncio.sleep(3 * SHORT_S)
    peer.say(TEXT)
    await peer.heard(b"hi")
    peer.gone()


@pytest.mark.parametrize(
    ("more", "answer"),
    [
        (b"X: " + b"a" * (web.MAX_HANDSHAKE_BYTES - 300), b"HTTP/1.1 101 "),
        (b"X: " + b"a" * web.MAX_HANDSHAKE_BYTES, b"HTTP/1.1 400 "),
        (b"X: " + b"a" * 60_000, b"HTTP/1.1 400 "),
        (b"X: %b\r\nX: %b" % (b"a" * 4000, b"a" * 4000), b"HTTP/1.1 400 "),
        (b"\r\n".join([b"X: a"] * web.MAX_HANDSHAKE_HEADERS), b"HTTP/1.1 400 "),
        (b"\r\n".join([b"X: a"] * 200), b"HTTP/1.1 400 "),
    ],
)
async def test_the_request_of_a_websocket_has_a_limit(place: Place, more: bytes, answer: bytes) -> None:
    peer = await place.dial()
    peer.say(UPGRADE + more + b"\r\n\r\n")
    assert (await peer.heard(b"\r\n\r\n")).startswith(answer)
    peer.say(b"more")
    peer.gone()
    assert not place.log.records


@pytest.mark.parametrize(
    "request_bytes",
    [
        UPGRADE.replace(b"GET", b"POST") + b"\r\n",
        UPGRADE + b"Content-Length: 5\r\n\r\nhello",
        UPGRADE.replace(b"/ws", b"/" + b"a" * 9000) + b"\r\n",
        UPGRADE.replace(b"Version: 13", b"Version: x") + b"\r\n",
        UPGRADE.replace(b"dGhlIHNhbXBsZSBub25jZQ==", b"dG9vIHNob3J0") + b"\r\n",
        UPGRADE.replace(b"dGhlIHNhbXBsZSBub25jZQ==", b"no base64 at all!!!!") + b"\r\n",
        UPGRADE + b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        UPGRADE + b"Sec-WebSocket-Version: 13\r\n\r\n",
    ],
)
async def test_a_request_that_opens_no_websocket_is_not_left_open(place: Place, request_bytes: bytes) -> None:
    peer = await place.dial()
    peer.say(request_bytes)
    assert b" 101 " not in await peer.rest()
    assert not place.log.records


@pytest.mark.parametrize(
    "sent",
    [
        frame(1, b"\xff\xfe"),
        frame(1, b"\xff") + TEXT,
        frame(1, b"\xff") + frame(1, b"\xff"),
        bytes([0x01, 0x81]) + bytes(4) + b"\xe2" + frame(0, b"\x28"),
    ],
)
async def test_text_that_is_no_utf8_leaves_no_trace_in_the_log(place: Place, sent: bytes) -> None:
    peer = await place.dial()
    peer.say(UPGRADE + b"\r\n")
    await peer.heard(b"\r\n\r\n")
    peer.say(TEXT)
    await peer.heard(b"hi")
    peer.say(sent)
    assert (await peer.rest())[2:4] == b"\x03\xef", "1007"
    assert await place.ended() == 1007
    assert not place.log.records


async def test_what_comes_with_the_request_is_heard(place: Place) -> None:
    peer = await place.dial()
    peer.say(UPGRADE + b"\r\n" + TEXT)
    await peer.heard(b"\x81\x02hi")
    peer.say(CLOSE)
    assert await peer.rest() == b"\x88\x02\x03\xe8"
    assert await place.ended() == 1000


async def test_nor_when_a_goodbye_comes_with_it(place: Place) -> None:
    peer = await place.dial()
    peer.say(UPGRADE + b"\r\n")
    await peer.heard(b"\r\n\r\n")
    peer.say(frame(1, b"\xff") + CLOSE)
    assert b"hi" not in await peer.rest()
    assert await place.ended() == 1007
    assert not place.log.records


PART = bytes([0x00, 0x80]) + bytes(4)


@pytest.mark.parametrize("flood", [frame(9), frame(10), frame(1), PART, frame(9, b"x" * 100)])
async def test_a_flood_of_frames_ends_its_connection(
    place: Place, monkeypatch: pytest.MonkeyPatch, flood: bytes
) -> None:
    monkeypatch.setattr(socket, "FRAMES_BURST", 100)
    monkeypatch.setattr(socket, "FRAMES_PER_S", 1)
    peer, neighbour = await place.dial(), await place.dial()
    for each in (peer, neighbour):
        each.say(UPGRADE + b"\r\n")
        await each.heard(b"\r\n\r\n")
    peer.say(b"\x01\x80" + bytes(4) if flood is PART else TEXT)
    peer.say(flood * 20_000)
    await peer.rest()  # the close frame may be lost where we stop reading
    assert await place.ended() == 4429
    neighbour.say(frame(9) * 50 + TEXT)
    await neighbour.heard(b"hi")
    neighbour.gone()
    assert not place.log.records
