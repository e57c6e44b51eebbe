"""Telephones by hand: one signalling socket for all of them, a plain UDP socket each for their RTP."""

import asyncio
import re
import secrets
import socket
from collections.abc import Callable
from typing import Final

from media.rtp import HEADER_BYTES, RtpSender
from media.srtp import Crypto, Srtp

LOCALHOST: Final = "127.0.0.1"
MAX_DATAGRAM_BYTES: Final = 2048
PATIENCE_S: Final = 5
SUITE: Final = "AES_CM_128_HMAC_SHA1_80"
FORMATS: Final = {
    "PCMU": (0, "PCMU/8000", 160),
    "PCMA": (8, "PCMA/8000", 160),
    "G722": (9, "G722/8000", 160),
    "opus": (111, "opus/48000/2", 960),
}
"""Payload type, what SDP says of it, and the ticks of a frame."""


class Signalling(asyncio.DatagramProtocol):
    """Sends requests; requests of the server's get a 200."""

    def __init__(self, server: int) -> None:
        self._server = server
        self._transport: asyncio.DatagramTransport | None = None
        self._finals: dict[tuple[str, str], asyncio.Future[str]] = {}

    @classmethod
    async def to(cls, server: int) -> "Signalling":
        loop = asyncio.get_running_loop()
        transport, made = await loop.create_datagram_endpoint(lambda: cls(server), (LOCALHOST, 0))
        made._transport = transport
        return made

    @property
    def here(self) -> str:
        assert self._transport is not None
        return f"{LOCALHOST}:{self._transport.get_extra_info('sockname')[1]}"

    def write(self, head: str, body: str = "") -> None:
        assert self._transport is not None
        kind = "Content-Type: application/sdp\r\n" if body else ""
        text = f"{head}Contact: <sip:phone@{self.here}>\r\n{kind}Content-Length: {len(body)}\r\n\r\n{body}"
        self._transport.sendto(text.encode(), (LOCALHOST, self._server))

    def request(self, method: str, number: int, call: str, to_tag: str, body: str = "") -> None:
        self.write(
            f"{method} sip:talk@{LOCALHOST}:{self._server} SIP/2.0\r\n"
            f"Via: SIP/2.0/UDP {self.here};branch=z9hG4bK{secrets.token_hex(8)};rport\r\n"
            f"From: <sip:phone@{self.here}>;tag={call}\r\nTo: <sip:talk@{LOCALHOST}>{to_tag}\r\n"
            f"Call-ID: {call}\r\nCSeq: {number} {method}\r\nMax-Forwards: 70\r\nAllow: INVITE, ACK, BYE\r\n",
            body,
        )

    async def final(self, method: str, call: str) -> str:
        """The response that decides. Raises `ConnectionError` where it is not a 2xx, and `TimeoutError`."""
        waiting: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._finals[call, method] = waiting
        async with asyncio.timeout(PATIENCE_S):
            text = await waiting
        if not text.startswith("SIP/2.0 2"):
            raise ConnectionError(text.partition("\r\n")[0])
        return text

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        text = data.decode()
        if not text.startswith("SIP/2.0"):
            if not text.startswith("ACK"):
                copied = re.findall(r"^(?:Via|From|To|Call-ID|CSeq):.*\r\n", text, re.MULTILINE | re.IGNORECASE)
                self.write("SIP/2.0 200 OK\r\n" + "".join(copied))
            return
        call = re.search(r"^Call-ID: *(\S+)", text, re.MULTILINE | re.IGNORECASE)
        method = re.search(r"^CSeq: *\d+ (\w+)", text, re.MULTILINE | re.IGNORECASE)
        if call and method and not text.startswith("SIP/2.0 1"):
            waiting = self._finals.pop((call[1], method[1]), None)
            if waiting is not None and not waiting.done():
                waiting.set_result(text)

    def close(self) -> None:
        assert self._transport is not None
        self._transport.close()


class Phone:
    """One call. `received` is given each RTP packet's payload, as it came: encrypted where the call is."""

    def __init__(self, signalling: Signalling, codec: str, *, secure: bool = False) -> None:
        self.packets = 0  # of RTP that came
        self.received: Callable[[bytes], None] = lambda payload: None
        self._signalling = signalling
        self._call = secrets.token_hex(8)
        self._to_tag = ""
        payload_type, self._map, self._ticks = FORMATS[codec]
        self._type = payload_type
        self._sender = RtpSender(secrets.randbits(32), payload_type, int(self._map.split("/")[1]))
        self._crypto = Crypto.new(1, SUITE) if secure else None
        self._srtp: Srtp | None = None
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind((LOCALHOST, 0))
        self._socket.setblocking(False)
        self._loop = asyncio.get_running_loop()

    async def dial(self) -> None:
        profile, lines = "RTP/AVP", [f"a=rtpmap:{self._type} {self._map}", "a=ptime:20", "a=rtcp-mux"]
        if self._crypto is not None:
            profile = "RTP/SAVP"
            lines.append(f"a=crypto:{self._crypto}")
        port = self._socket.getsockname()[1]
        head = ["v=0", f"o=- 1 1 IN IP4 {LOCALHOST}", "s=-", f"c=IN IP4 {LOCALHOST}", "t=0 0"]
        sdp = "\r\n".join([*head, f"m=audio {port} {profile} {self._type}", *lines, ""])
        self._signalling.request("INVITE", 1, self._call, "", sdp)
        text = await self._signalling.final("INVITE", self._call)
        tag = re.search(r"^To:.*(;tag=[\w.-]+)", text, re.MULTILINE)
        media = re.search(r"^m=audio (\d+)", text, re.MULTILINE)
        assert tag
        assert media
        self._to_tag = tag[1]
        self._signalling.request("ACK", 1, self._call, self._to_tag)
        self._socket.connect((LOCALHOST, int(media[1])))
        self._loop.add_reader(self._socket.fileno(), self._read)
        if self._crypto is not None:
            theirs = re.search(r"^a=crypto:(.*?)\r?$", text, re.MULTILINE)
            assert theirs
            self._srtp = Srtp.of(self._crypto, Crypto.parse(theirs[1]))

    def send(self, payload: bytes) -> None:
        """A frame; an empty one is a pause."""
        if not payload:
            self._sender.skip(self._ticks)
            return
        packet = self._sender.packet(payload, self._ticks)
        if self._srtp is not None:
            packet = self._srtp.protect(packet)
        try:
            self._socket.send(packet)
        except OSError:  # the call is over, or a buffer is full
            return

    def _read(self) -> None:
        try:
            data = self._socket.recv(MAX_DATAGRAM_BYTES)
        except OSError:
            return
        if len(data) > HEADER_BYTES and not 192 <= data[1] <= 223:
            self.packets += 1
            self.received(data[HEADER_BYTES:])

    async def hang_up(self) -> None:
        self._signalling.request("BYE", 2, self._call, self._to_tag)
        await self._signalling.final("BYE", self._call)
        self._loop.remove_reader(self._socket.fileno())
        self._socket.close()
