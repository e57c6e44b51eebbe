"""One WebSocket over a transport that only remembers: pings, the closing handshake, floods, peers that do not read."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from media.websocket import socket
from media.websocket.frames import BROKEN, NO_CODE, Message
from media.websocket.socket import Socket
from tests.support.line import Line, sent

TEXT, MORE, CLOSE, PING, PONG = 0x81, 0x80, 0x88, 0x89, 0x8A


class Ear:
    def __init__(self) -> None:
        self.line = Line()
        self.socket = Socket(self)
        self.heard: list[Message] = []
        self.closes: list[int] = []
        self.losses = 0
        self.overflows = 0

    def received(self, message: Message) -> None:
        assert not self.closes
        self.heard.append(message)

    def closed(self, code: int) -> None:
        assert not self.losses
        self.closes.append(code)

    def lost(self) -> None:
        self.losses += 1

    def overflowed(self) -> None:
        self.overflows += 1

    def take(self, data: bytes) -> None:
        self.line.protocol.data_received(data)


@pytest.fixture
async def ear() -> AsyncIterator[Ear]:
    ear = Ear()
    ear.socket.attach(ear.line)
    yield ear
    ear.line.abort()
    assert ear.losses == 1


async def test_a_ping_is_answered_with_what_it_holds_and_a_pong_with_nothing(ear: Ear) -> None:
    ear.take(sent(0x01, b"h") + sent(PING, b"here?") + sent(PONG, b"x") + sent(MORE, b"i"))
    assert ear.line.sent == [b"\x8a\x05here?"]
    assert ear.heard == ["hi"]


async def test_pings_of_a_peer_that_does_not_read_pile_up_nowhere(ear: Ear) -> None:
    ear.line.reads = False
    while ear.line.waits_bytes <= socket.STALLED_BYTES:
        ear.socket.send(b"x" * 1000)
    sent_before = len(ear.line.sent)
    ear.take(sent(PING, b"here?") * 10)
    assert len(ear.line.sent) == sent_before


@pytest.mark.parametrize(
    ("payload", "answer", "code"),
    [
        (b"", b"\x88\x00", NO_CODE),
        (b"\x03\xe8", b"\x88\x02\x03\xe8", 1000),
        (b"\x03\xe9going", b"\x88\x02\x03\xe9", 1001),
        (b"\x0f\xa0", b"\x88\x02\x0f\xa0", 4000),
    ],
)
async def test_a_goodbye_is_answered_in_kind(ear: Ear, payload: bytes, answer: bytes, code: int) -> None:
    ear.take(sent(CLOSE, payload) + sent(TEXT, b"late"))
    assert (ear.line.sent, ear.closes, ear.heard) == ([answer], [code], [])
    assert ear.line.over.is_set()
    ear.socket.send("late")
    ear.socket.close(1000)
    assert ear.line.sent == [answer]


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (sent(CLOSE, b"\x03"), 1002),
        (sent(CLOSE, b"\x03\xec"), 1002),
        (sent(CLOSE, b"\x03\xe8\xff"), 1007),
        (sent(TEXT, b"\xff"), 1007),
        (sent(0xC1, b"a"), 1002),
        (sent(0x82, size=1 << 40), 1009),
    ],
)
async def test_a_wrong_frame_fails_the_connection_and_nothing_after_it_is_heard(
    ear: Ear, data: bytes, code: int
) -> None:
    ear.take(sent(TEXT, b"good") + data + sent(TEXT, b"late"))
    assert ear.heard == ["good"]
    assert ear.closes == [code]
    assert [message[:1] + message[2:4] for message in ear.line.sent] == [b"\x88" + code.to_bytes(2)]
    assert ear.line.over.is_set()


async def test_our_goodbye_waits_for_the_peer_s_and_hears_nothing_else(ear: Ear) -> None:
    ear.socket.close(4400, "why")
    ear.socket.close(1000, "again")
    ear.take(sent(TEXT, b"late") + sent(PING))
    assert ear.line.sent == [b"\x88\x05\x11\x30why"]
    assert not ear.line.over.is_set()
    ear.take(sent(CLOSE, b"\x11\x30"))
    assert ear.line.over.is_set()
    assert (ear.heard, ear.closes) == ([], []), "who closed knows"


async def test_who_does_not_answer_a_goodbye_is_dropped(ear: Ear, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "CLOSE_TIMEOUT_S", 0.02)
    ear.line.reads = False
    ear.socket.close(1000)
    async with asyncio.timeout(10):
        await ear.line.over.wait()


async def test_nor_is_who_says_goodbye_and_does_not_read_the_answer(ear: Ear, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "CLOSE_TIMEOUT_S", 0.02)
    ear.line.reads = False
    ear.take(sent(CLOSE, b"\x03\xe8"))
    assert not ear.line.over.is_set()
    async with asyncio.timeout(10):
        await ear.line.over.wait()


async def test_a_connection_that_breaks_closes_without_a_goodbye(ear: Ear) -> None:
    ear.line.abort()
    assert ear.closes == [BROKEN]


async def test_what_is_held_comes_later_and_in_order(ear: Ear) -> None:
    heard = ear.heard

    class First:
        def received(self, message: Message) -> None:
            heard.append(message)
            ear.socket.hold()

    setattr(ear.socket, "_listener", First())  # noqa: B010
    ear.take(sent(TEXT, b"1") + sent(TEXT, b"2") + sent(TEXT, b"3")[:-1])
    assert heard == ["1"]
    setattr(ear.socket, "_listener", ear)  # noqa: B010
    ear.socket.go_on()
    assert heard == ["1", "2"]
    ear.take(sent(TEXT, b"3")[-1:])
    assert heard == ["1", "2", "3"]


@pytest.mark.parametrize("flood", [sent(PING), sent(PONG), sent(0x00), sent(TEXT)])
async def test_a_flood_is_ended_while_it_is_read(ear: Ear, monkeypatch: pytest.MonkeyPatch, flood: bytes) -> None:
    ear.take(sent(0x01) if flood == sent(0x00) else b"")
    ear.take(flood * 100_000)
    assert ear.closes == [4429]
    assert len(ear.heard) <= socket.FRAMES_BURST + socket.FRAMES_AT_ONCE
    assert ear.line.over.is_set()


async def test_what_a_peer_leaves_unread_is_told(ear: Ear) -> None:
    ear.line.reads = False
    while ear.socket.stalled_since_s is None:
        ear.socket.send("x" * 1000)
    assert socket.STALLED_BYTES < ear.line.waits_bytes <= socket.STALLED_BYTES + 1004
    ear.line.protocol.resume_writing()
    assert ear.socket.stalled_since_s is None
    ear.line.protocol.pause_writing()
    while not ear.overflows:
        ear.socket.send("x" * 1000)
    assert socket.MAX_UNSENT_BYTES < ear.line.waits_bytes <= socket.MAX_UNSENT_BYTES + 1004
