"""A telephone by hand: plain sockets, a few requests, and RTP packet by packet, right or wrong."""

import asyncio
import re
import secrets
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from media.audio import pcm_to_ulaw
from media.rtp import RtpPacket
from tests.clients.audio import tone
from tests.clients.process import LOCALHOST, PATIENCE_S

FRAME_TICKS = 160
SOUND = pcm_to_ulaw(tone(400, 20, 8000))
POLL_S = 0.01


class Socket(asyncio.DatagramProtocol):
    """`came`: all that it received."""

    def __init__(self) -> None:
        self.came: list[bytes] = []
        self.transport: asyncio.DatagramTransport | None = None

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self.came.append(data)

    @property
    def port(self) -> int:
        assert self.transport is not None
        return int(self.transport.get_extra_info("sockname")[1])

    def send(self, data: bytes, port: int) -> None:
        assert self.transport is not None
        self.transport.sendto(data, (LOCALHOST, port))


@asynccontextmanager
async def opened(host: str = LOCALHOST, port: int = 0) -> AsyncIterator[Socket]:
    loop = asyncio.get_running_loop()
    transport, found = await loop.create_datagram_endpoint(Socket, (host, port), family=socket.AF_INET)
    found.transport = transport
    try:
        yield found
    finally:
        transport.close()


class Source:
    """One stream of packets of 20 ms mu-law."""

    def __init__(self, ssrc: int | None = None) -> None:
        self.ssrc = ssrc if ssrc is not None else secrets.randbits(32)
        self.sequence = 1000
        self.timestamp = 5000

    def packet(self) -> bytes:
        packet = RtpPacket(0, self.sequence, self.timestamp, self.ssrc, SOUND)
        self.skip()
        return packet.pack()

    def skip(self) -> None:
        """One packet is not sent."""
        self.sequence += 1
        self.timestamp += FRAME_TICKS


class Caller(Socket):
    """It calls one server, answers everything within its call with 200, or with `refuses`, and says where it hears."""

    def __init__(self) -> None:
        super().__init__()
        self.call_id = secrets.token_hex(8)
        self.tag = secrets.token_hex(4)
        self.peer_tag = ""
        self.media_port = 0
        """The server's; RTCP is one above."""
        self.refuses = ""
        """Such as "481 No Such Call"."""
        self._server = 0
        self._sdp = ""
        self._sequence = 0

    @property
    def requests(self) -> list[str]:
        """The methods that came."""
        return [data.split(b" ", 1)[0].decode() for data in self.came if not data.startswith(b"SIP/2.0")]

    @property
    def replaces(self) -> str:
        """To take this call's place (RFC 3891), as the server names its ends."""
        return f"{self.call_id};to-tag={self.peer_tag};from-tag={self.tag}"

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        super().datagram_received(data, addr)
        text = data.decode()
        method = text.partition(" ")[0]
        if method not in ("SIP/2.0", "ACK"):
            copied = re.findall(r"^(?:Via|From|To|Call-ID|CSeq):.*\r\n", text, re.MULTILINE | re.IGNORECASE)
            head = f"SIP/2.0 {self.refuses or '200 OK'}\r\n" + "".join(copied)
            self._write(head, self._sdp if method == "INVITE" and not self.refuses else "")

    async def invite(self, server: int, rtp_port: int, *, replaces: str = "", allow: str = "INVITE, ACK, BYE") -> str:
        """The final response's first line; acknowledged where it is a 2xx."""
        self._server = server
        self._sdp = (
            f"v=0\r\no=- 1 1 IN IP4 {LOCALHOST}\r\ns=-\r\nc=IN IP4 {LOCALHOST}\r\nt=0 0\r\n"
            f"m=audio {rtp_port} RTP/AVP 0\r\na=ptime:20\r\n"
        )
        more = f"Allow: {allow}\r\n" + (f"Replaces: {replaces}\r\n" if replaces else "")
        self._request("INVITE", more, self._sdp)
        text = await self._final("INVITE")
        if text.startswith("SIP/2.0 2"):
            self.peer_tag = re.search(r"^To:.*;tag=([^;\s]+)", text, re.MULTILINE)[1]  # type: ignore[index]
            self.media_port = int(re.search(r"^m=audio (\d+)", text, re.MULTILINE)[1])  # type: ignore[index]
            self._request("ACK")
        return text.partition("\r\n")[0]

    async def bye(self) -> str:
        self._request("BYE")
        return (await self._final("BYE")).partition("\r\n")[0]

    async def refer(self, to: str) -> str:
        """The final response's first line. `to`: a Refer-To."""
        self._request("REFER", f"Refer-To: {to}\r\n")
        return (await self._final("REFER")).partition("\r\n")[0]

    @property
    def fragments(self) -> list[str]:
        """The first lines of what the NOTIFYs said, each once, in their order."""
        notified = [data.decode() for data in self.came if data.startswith(b"NOTIFY ")]
        return list(dict.fromkeys(text.partition("\r\n\r\n")[2].strip() for text in notified))

    def _request(self, method: str, more: str = "", body: str = "") -> None:
        self._sequence += method != "ACK"
        here = f"{LOCALHOST}:{self.port}"
        self._write(
            f"{method} sip:talk@{LOCALHOST}:{self._server} SIP/2.0\r\n"
            f"Via: SIP/2.0/UDP {here};branch=z9hG4bK{secrets.token_hex(8)};rport\r\n"
            f"From: <sip:caller@{here}>;tag={self.tag}\r\n"
            f"To: <sip:talk@{LOCALHOST}>{f';tag={self.peer_tag}' if self.peer_tag else ''}\r\n"
            f"Call-ID: {self.call_id}\r\nCSeq: {self._sequence} {method}\r\nMax-Forwards: 70\r\n{more}",
            body,
        )

    def _write(self, head: str, body: str) -> None:
        kind = "Content-Type: application/sdp\r\n" if body else ""
        contact = f"Contact: <sip:caller@{LOCALHOST}:{self.port}>\r\n"
        self.send(f"{head}{contact}{kind}Content-Length: {len(body)}\r\n\r\n{body}".encode(), self._server)

    async def _final(self, method: str) -> str:
        async with asyncio.timeout(PATIENCE_S):
            while True:
                for data in self.came:
                    text = data.decode()
                    if re.match(r"SIP/2\.0 [2-6]", text) and f"CSeq: {self._sequence} {method}" in text:
                        return text
                await asyncio.sleep(POLL_S)


@asynccontextmanager
async def caller() -> AsyncIterator[Caller]:
    loop = asyncio.get_running_loop()
    transport, found = await loop.create_datagram_endpoint(Caller, (LOCALHOST, 0))
    found.transport = transport
    try:
        yield found
    finally:
        transport.close()
