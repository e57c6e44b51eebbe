"""The lean WebSocket client against servers that keep to the protocol and servers that do not."""

import asyncio
import datetime
import ipaddress
import itertools
import ssl
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from hypothesis import given, settings
from hypothesis import strategies as st

from app.load import wire as wires
from app.load.line import LineError, Refused, Trouble
from app.load.wire import ABNORMAL, BINARY, CLOSE, PONG, TEXT, Wire, message, open_wire
from tests.load.far_end import PATIENCE_S, Behaviour, Peer, far_end, frame, goodbye


class Client:
    """What one wire received, and how it ended."""

    def __init__(self) -> None:
        self.received: list[tuple[int, bytes]] = []
        self.end: tuple[int, str] | None = None
        self._changed = asyncio.Event()

    def message(self, opcode: int, payload: bytes) -> None:
        self.received.append((opcode, payload))
        self._changed.set()

    def closed(self, code: int, reason: str) -> None:
        assert self.end is None, "told once"
        self.end = (code, reason)
        self._changed.set()

    async def over(self) -> tuple[int, str]:
        async with asyncio.timeout(PATIENCE_S):
            while self.end is None:
                self._changed.clear()
                await self._changed.wait()
        return self.end

    async def open(self, url: str, context: ssl.SSLContext | None = None) -> Wire:
        return await open_wire(url, self.message, self.closed, {"Authorization": "Bearer abc"}, context)


async def outcome(behaviour: Behaviour) -> Client:
    """Of a connection that the server ends."""
    client = Client()
    async with far_end(behaviour) as url:
        await client.open(url)
        await client.over()
    return client


async def test_it_asks_properly_and_both_sides_talk_and_say_goodbye() -> None:
    async def behaviour(peer: Peer) -> None:
        lines = peer.request.split("\r\n")
        assert lines[0] == "GET /ws/audio?x=1 HTTP/1.1"
        assert "Authorization: Bearer abc" in lines
        assert "Sec-WebSocket-Version: 13" in lines
        for size in (0, 125, 126, 65535, 65536):
            assert await peer.receive() == (BINARY, b"x" * size)
            await peer.send(frame(BINARY, b"y" * size))
        assert await peer.receive() == (CLOSE, (1000).to_bytes(2))
        await peer.send(goodbye(1000))

    client = Client()
    async with far_end(behaviour) as url:
        wire = await client.open(url + "?x=1")
        for size in (0, 125, 126, 65535, 65536):
            wire.send(message(BINARY, b"x" * size))
        async with asyncio.timeout(PATIENCE_S):
            while len(client.received) < 5:  # noqa: ASYNC110  # whatever comes
                await asyncio.sleep(0.01)
        await wire.close()
    assert [len(payload) for _, payload in client.received] == [0, 125, 126, 65535, 65536]
    assert client.end is None, "who closes is told nothing"


async def test_messages_come_whole_however_they_are_cut() -> None:
    data = frame(TEXT, b"one") + frame(BINARY, b"z" * 300) + frame(TEXT, b"three")

    async def behaviour(peer: Peer) -> None:
        for at in range(len(data)):
            await peer.send(data[at : at + 1])
        await peer.send(goodbye(1000, "done"))

    client = await outcome(behaviour)
    assert client.received == [(TEXT, b"one"), (BINARY, b"z" * 300), (TEXT, b"three")]
    assert client.end == (1000, "done")


async def test_fragments_are_joined_and_pings_between_them_answered() -> None:
    async def behaviour(peer: Peer) -> None:
        await peer.send(frame(TEXT, b"on", last=False) + frame(9, b"hi") + frame(0, b"e", last=True))
        assert await peer.receive() == (PONG, b"hi")
        await peer.send(goodbye(1000))
        assert await peer.receive() == (CLOSE, (1000).to_bytes(2))

    assert (await outcome(behaviour)).received == [(TEXT, b"one")]


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (frame(TEXT, b"x", reserved=0x40), 1002),
        (frame(3, b"x"), 1002),
        (frame(11, b"x"), 1002),
        (frame(0, b"x"), 1002),
        (frame(TEXT, b"x", last=False) + frame(TEXT, b"y"), 1002),
        (frame(9, b"x", last=False), 1002),
        (frame(9, b"x" * 126), 1002),
        (b"\x81\x81abcdx", 1002),
        (b"\x82\x7f" + (1 << 40).to_bytes(8), 1009),
        (frame(BINARY, b"x" * 700_000, last=False) + frame(0, b"x" * 700_000), 1009),
        (frame(8, b""), 1005),
        (b"", ABNORMAL),
        (b"\x82", ABNORMAL),
    ],
)
async def test_what_is_wrong_ends_the_connection_with_the_right_code(sent: bytes, code: int) -> None:
    async def behaviour(peer: Peer) -> None:
        await peer.send(sent)
        if code == ABNORMAL:
            peer.abort()
        else:
            while (await peer.receive())[0] != CLOSE:
                pass

    client = await outcome(behaviour)
    assert client.end is not None
    assert client.end[0] == code
    assert not client.received


@pytest.mark.parametrize("sent", [frame(0, b"", last=False), frame(BINARY, b""), frame(9, b"x" * 125)])
async def test_who_sends_without_end_is_left(sent: bytes) -> None:
    """However small its frames are, and though it does not read what we say."""

    async def behaviour(peer: Peer) -> None:
        await peer.send(frame(TEXT, b"", last=False) if sent[0] == 0 else b"")
        while True:
            await peer.send(sent * 2000)

    client = Client()
    async with far_end(behaviour) as url:
        wire = await client.open(url)
        assert (await client.over())[0] == 1008
    assert wire.trouble is Trouble.flood


async def test_a_long_speech_may_come_at_once() -> None:
    sound = frame(BINARY, b"x" * 640)  # 20 ms at 16 kHz

    async def behaviour(peer: Peer) -> None:
        await peer.send(sound * 15_000 + goodbye(1000))
        await peer.receive()

    client = await outcome(behaviour)
    assert client.end == (1000, "")
    assert len(client.received) == 15_000


@settings(max_examples=200, deadline=None)
@given(data=st.binary(max_size=200), cuts=st.lists(st.integers(0, 200), max_size=5))
def test_no_bytes_break_it(data: bytes, cuts: list[int]) -> None:
    """Fed directly, in any pieces: it takes them, or ends."""

    class Transport(asyncio.Transport):
        def write(self, data: bytes | bytearray | memoryview) -> None: ...
        def close(self) -> None: ...
        def abort(self) -> None: ...
        def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None: ...

    async def feed() -> list[tuple[int, bytes]]:
        received: list[tuple[int, bytes]] = []
        wire = Wire(b"", b"a", lambda opcode, payload: received.append((opcode, payload)), lambda code, reason: None)
        wire.connection_made(Transport())
        wire.data_received(b"HTTP/1.1 101 x\r\nSec-WebSocket-Accept: a\r\n\r\n")
        await wire.opened
        edges = [0, *sorted(cut for cut in cuts if cut < len(data)), len(data)]
        for start, end in itertools.pairwise(edges):
            wire.data_received(data[start:end])
        wire.connection_lost(None)
        return received

    for opcode, payload in asyncio.run(feed()):
        assert opcode in (TEXT, BINARY)
        assert len(payload) <= len(data)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n", Refused("503", "Service Unavailable")),
        (b"HTTP/1.1 401\r\n\r\n", Refused("401")),
        (b"SIP/2.0 200 OK\r\n\r\n", LineError(Trouble.protocol)),
        (b"HTTP/1.1 101 x\r\nSec-WebSocket-Accept: wrong\r\n\r\n", LineError(Trouble.protocol)),
        (b"HTTP/1.1 101 x\r\n\r\n", LineError(Trouble.protocol)),
        (b"x" * (wires.MAX_ANSWER_BYTES + 100), LineError(Trouble.protocol)),
        (b"HTTP/1.1 101 x\r\n", LineError(Trouble.cut)),
    ],
)
async def test_an_answer_that_opens_nothing_is_told_apart(answer: bytes, expected: Exception) -> None:
    async def nothing(peer: Peer) -> None: ...

    client = Client()
    async with far_end(nothing, answer=answer) as url:
        with pytest.raises(type(expected)) as caught:
            await client.open(url)
    if isinstance(expected, Refused):
        assert isinstance(caught.value, Refused)
        assert (caught.value.code, caught.value.reason) == (expected.code, expected.reason)
    elif isinstance(expected, LineError):
        assert isinstance(caught.value, LineError)
        assert caught.value.kind is expected.kind
    assert client.end is None


async def test_where_nobody_listens() -> None:
    async def nothing(peer: Peer) -> None: ...

    async with far_end(nothing) as url:
        pass
    with pytest.raises(LineError) as caught:
        await Client().open(url)
    assert caught.value.kind is Trouble.unreachable
    with pytest.raises(LineError) as caught:
        await Client().open("ws://no-such-host.invalid/ws/audio")
    assert caught.value.kind is Trouble.unreachable


async def test_a_server_that_never_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wires, "CONNECT_TIMEOUT_S", 0.2)

    async def nothing(peer: Peer) -> None: ...

    async with far_end(nothing, answer=b"HTTP/1.1 101") as url:
        with pytest.raises(LineError) as caught:
            await Client().open(url)
    assert caught.value.kind in (Trouble.timeout, Trouble.cut)


async def test_a_server_that_does_not_read_gets_no_more_audio_but_all_else() -> None:
    go_on = asyncio.Event()

    async def behaviour(peer: Peer) -> None:
        await go_on.wait()
        while (await peer.receive())[0] != TEXT:
            pass
        await peer.send(goodbye(1000, "read"))

    client = Client()
    async with far_end(behaviour) as url:
        wire = await client.open(url)
        sent = 0
        while not wire.choked and sent < 200_000:
            wire.send_audio(message(BINARY, b"x" * 640))
            sent += 1
        assert wire.choked
        for _ in range(100_000):
            wire.send_audio(message(BINARY, b"x" * 640))
        assert wire._transport.get_write_buffer_size() < 2 * wires.MAX_UNSENT_BYTES
        wire.send(message(TEXT, b"digit"))
        go_on.set()
        assert await client.over() == (1000, "read")


async def test_after_an_abort_nothing_is_told() -> None:
    async def behaviour(peer: Peer) -> None:
        await peer.send(frame(TEXT, b"x") * 3)
        await asyncio.sleep(PATIENCE_S)

    client = Client()
    async with far_end(behaviour) as url:
        wire = await client.open(url)
        wire.abort()
        await asyncio.sleep(0.1)
        wire.send(b"x")
    assert client.end is None


# TLS


def _certificate(folder: Path) -> Path:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    path = folder / "server.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(private + made.public_bytes(serialization.Encoding.PEM))
    return path


async def test_over_tls_with_an_authority_that_is_believed_and_with_one_that_is_not(tmp_path: Path) -> None:
    certificate = _certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)

    async def behaviour(peer: Peer) -> None:
        assert await peer.receive() == (BINARY, b"x" * 640)
        await peer.send(frame(BINARY, b"y" * 640) + goodbye(1000))

    client = Client()
    async with far_end(behaviour, context=context) as url:
        wire = await client.open(url, ssl.create_default_context(cafile=str(certificate)))
        wire.send_audio(message(BINARY, b"x" * 640))
        assert await client.over() == (1000, "")
        assert client.received == [(BINARY, b"y" * 640)]
        with pytest.raises(LineError) as caught:
            await client.open(url)
        assert caught.value.kind is Trouble.tls
