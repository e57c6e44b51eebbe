"""DTLS of a telephone behind an address translation: only what it has sent to gets through to it."""

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from media.dtls import certificate
from media.sip.dtls import Handshake, is_dtls
from media.srtp import SrtpError
from tests.clients.process import LOCALHOST
from tests.e2e.server import running
from tests.sip.caller import Source, opened
from tests.sip.calls import TALK, gate, packets_came, session
from tests.sip.test_hostile import final, message

INNER = "10.99.0.20"
PATIENCE_S = 20
FRAME_S = 0.02
Address = tuple[str, int]


class Router(asyncio.DatagramProtocol):
    """`inside` gets what comes from where the inside has sent to; all else is `shut_out`."""

    def __init__(self) -> None:
        self.inside: Callable[[bytes], None] = lambda data: None
        self.shut_out: list[bytes] = []
        self._open: set[Address] = set()
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:  # type: ignore[override]  # it is one
        self._transport = transport

    def datagram_received(self, data: bytes, addr: Address) -> None:
        if addr in self._open:
            self.inside(data)
        else:
            self.shut_out.append(data)

    def send(self, data: bytes, to: Address) -> None:
        assert self._transport is not None
        self._open.add(to)
        self._transport.sendto(data, to)


@asynccontextmanager
async def router() -> AsyncIterator[Router]:
    loop = asyncio.get_running_loop()
    transport, found = await loop.create_datagram_endpoint(Router, (LOCALHOST, 0))
    try:
        yield found
    finally:
        transport.close()


def offer(fingerprint: tuple[str, str]) -> str:
    head = f"v=0\r\no=- 1 1 IN IP4 {INNER}\r\ns=-\r\nc=IN IP4 {INNER}\r\nt=0 0\r\n"
    audio = "m=audio 4000 UDP/TLS/RTP/SAVP 0\r\na=rtcp-mux\r\na=setup:actpass\r\n"
    return f"{head}{audio}a=fingerprint:{fingerprint[0]} {fingerprint[1]}\r\n"


def said(data: bytes, pattern: str) -> str:
    found = re.search(pattern, data.decode(), re.MULTILINE)
    assert found is not None, pattern
    return found[1]


async def test_a_telephone_behind_a_router_opens_the_way(tmp_path: Path) -> None:
    identity = certificate()
    heard: list[bytes] = []
    async with running(tmp_path, flows=[TALK], sip_port=0) as server, opened() as phone, router() as nat:
        phone.send(message("INVITE", body=offer(identity.fingerprint), call_id="c"), gate(server).port)
        await server.until(lambda: final(phone))
        answer = final(phone)[0]
        assert said(answer, r"^a=setup:(\w+)") == "passive"
        fingerprint = "sha-256", said(answer, r"^a=fingerprint:sha-256 (\S+)")
        there = LOCALHOST, int(said(answer, r"^m=audio (\d+)"))
        phone.send(message("ACK", to_tag=said(answer, r"^To:.*;tag=(\w+)"), call_id="c"), gate(server).port)

        shaking = Handshake(identity, fingerprint, active=True, send=lambda data: nat.send(data, there))

        def inside(data: bytes) -> None:
            if is_dtls(data):
                shaking.received(data)
            elif not 192 <= data[1] <= 223:  # a report, which has keys of its own (RFC 5761, 4)
                heard.append(data)

        nat.inside = inside
        keys = await shaking.keys(PATIENCE_S)
        source = Source()

        async def talk() -> None:
            while True:
                nat.send(keys.protect(source.packet()), there)
                await asyncio.sleep(FRAME_S)

        async with asyncio.TaskGroup() as group:
            talking = group.create_task(talk())
            await packets_came(server, 20)
            await server.until(lambda: len(heard) > 20)
            talking.cancel()
        for data in heard[:20]:
            assert len(keys.unprotect(data)) < len(data)
        with pytest.raises(SrtpError):
            keys.unprotect(heard[0])
        assert session(server).port.peer.strays == 0
        assert nat.shut_out == []
        await shaking.close()
