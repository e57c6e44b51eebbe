"""Hostile outsiders and hostile callers, over real sockets."""

import asyncio
import re
import secrets
from pathlib import Path

import pytest

from media.leg import CloseCode
from tests.clients.process import LOCALHOST
from tests.e2e.server import Server, running
from tests.sip.caller import Socket, caller, opened
from tests.sip.calls import TALK, gate

SDP = "v=0\r\no=- 1 1 IN IP4 {0}\r\ns=-\r\nc=IN IP4 {0}\r\nt=0 0\r\nm=audio {1} RTP/AVP 0\r\n"
QUIET_S = 0.3  # in which nothing comes
TCP, UDP = "TCP", "UDP"


def message(
    method: str,
    *,
    port: int = 9,
    more: str = "",
    body: str = "",
    to_tag: str = "",
    call_id: str = "",
    tag: str = "mine",
    branch: str = "",
    sequence: int = 1,
    user: str = "talk",
    transport: str = UDP,
    contact: str = f"<sip:x@{LOCALHOST}:9>",
) -> bytes:
    """A request as one writes it who cares for nothing."""
    kind = "Content-Type: application/sdp\r\n" if body else ""
    return (
        f"{method} sip:{user}@{LOCALHOST} SIP/2.0\r\n"
        f"Via: SIP/2.0/{transport} {LOCALHOST}:{port};branch=z9hG4bK{branch or secrets.token_hex(8)};rport\r\n"
        f"From: <sip:x@{LOCALHOST}>;tag={tag}\r\nTo: <sip:{user}@{LOCALHOST}>{f';tag={to_tag}' if to_tag else ''}\r\n"
        f"Call-ID: {call_id or secrets.token_hex(8)}\r\nCSeq: {sequence} {method}\r\nMax-Forwards: 70\r\n"
        f"Contact: {contact}\r\n{more}{kind}Content-Length: {len(body)}\r\n\r\n{body}"
    ).encode()


def status(data: bytes) -> int:
    found = re.match(rb"SIP/2\.0 (\d\d\d)", data)
    return int(found[1]) if found else 0


def final(socket: Socket) -> list[bytes]:
    return [data for data in socket.came if status(data) >= 200]


async def answered(server: Server) -> None:
    """Somebody who means well is served as ever."""
    async with caller() as phone, opened() as ear:
        assert await phone.invite(gate(server).port, ear.port) == "SIP/2.0 200 OK"
        assert await phone.bye() == "SIP/2.0 200 OK"


@pytest.mark.parametrize(
    "route",
    [
        f"<sip:{'a' * 70}.example;lr>",
        "<sip:a..b;lr>",
        "<sip:a..b;lr;transport=tcp>",
        "<sip:.b;lr;transport=tls>",
        "<sip:[::1]:5070;lr>",
        "<sip:[:::::]:5070;lr>",
        "<sip:224.0.0.1:5070;lr>",
        "<sip:255.255.255.255:5070;lr>",
        "<sip:0.0.0.0:5070;lr>",
        f"<sip:{LOCALHOST}:1;lr;transport=tcp>",
    ],
)
async def test_a_route_that_leads_nowhere_ends_its_own_call_only(tmp_path: Path, route: str) -> None:
    async with running(tmp_path, flows=[TALK], sip_port=0) as server, opened() as phone:
        routed = f"Record-Route: {route}\r\n"
        phone.send(message("INVITE", body=SDP.format(LOCALHOST, 9), call_id="c", more=routed), gate(server).port)
        await server.until(lambda: final(phone))
        tag = re.search(rb"^To:.*;tag=(\w+)", final(phone)[0], re.MULTILINE)[1].decode()  # type: ignore[index]
        phone.send(message("ACK", to_tag=tag, call_id="c"), gate(server).port)
        await server.until(lambda: [one for one in gate(server).sessions if one.leg is not None])
        for session in list(gate(server).sessions):
            session.close(CloseCode.normal, "")
        await asyncio.sleep(QUIET_S)
        await answered(server)
