"""A WebRTC caller that offers, and whose packets a test makes itself: cheap, exact, and as wrong as wanted."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import numpy as np
from aiortc import RTCDataChannel, RTCDataChannelParameters

from media import sdp
from media.audio import Pcm
from media.codec import Codec, Pcma, Pcmu
from media.digits import DigitSender
from media.dtls import Certificate, certificate
from media.opus import Opus
from media.rtp import RtpPacket, RtpSender
from media.webrtc.peer import CHANNEL_LABEL, Addresses, Peer, Remote
from tests.webrtc.relay import Relay

FORMATS: dict[str, tuple[int, str, int, Callable[[], Codec]]] = {
    "opus": (111, "opus/48000/2", 960, Opus),
    "pcmu": (0, "PCMU/8000", 160, Pcmu),
    "pcma": (8, "PCMA/8000", 160, Pcma),
}
DIGITS = 96
PATIENCE_S = 20


class LightCaller:
    """`received` are the packets that came, with the loop's time; `messages` what the data channel brought."""

    def __init__(self, url: str, http: aiohttp.ClientSession, codec: str, identity: Certificate) -> None:
        self.received: list[tuple[float, RtpPacket]] = []
        self.lost = False
        self.location = ""
        self.resume = ""
        self._url = url
        self._http = http
        self._identity = identity
        self.payload_type, self._map, self.ticks, self._codec = FORMATS[codec]
        self.codec = self._codec()
        self.messages: list[dict[str, Any]] = []
        self.channel: RTCDataChannel | None = None
        self.sender = RtpSender(4242, self.payload_type, int(self._map.split("/")[1]))
        self.peer: Peer | None = None
        self._loop = asyncio.get_running_loop()
        self.on_packet: Callable[[], None] = lambda: None

    async def dial(
        self, path: str = "/webrtc", *, channel: bool = False, network: Relay | None = None, **headers: str
    ) -> None:
        clock = self._map.split("/")[1]
        # The answer is not known yet; of the offer it needs only our own side.
        blank = Remote("none", "none", (), active=True)
        peer = Peer(blank, self, self._identity, Addresses())
        peer._ice.ice_controlling = True
        await peer.gather()
        algorithm, fingerprint = peer.fingerprint
        lines = ["v=0", "o=- 1 1 IN IP4 127.0.0.1", "s=-", "t=0 0", f"a=group:BUNDLE 0{' 1' if channel else ''}"]
        lines += [f"m=audio 9 UDP/TLS/RTP/SAVPF {self.payload_type} {DIGITS}", "c=IN IP4 0.0.0.0", "a=mid:0"]
        lines += [f"a=rtpmap:{self.payload_type} {self._map}", f"a=rtpmap:{DIGITS} telephone-event/{clock}"]
        ours = [f"a=ice-ufrag:{peer.ufrag}", f"a=ice-pwd:{peer.password}"]
        ours += [f"a=fingerprint:{algorithm} {fingerprint}", "a=setup:actpass"]
        lines += ["a=sendrecv", "a=rtcp-mux", *ours]
        lines += [f"a=candidate:{candidate}" for candidate in peer.candidates] if network is None else []
        if channel:
            lines += ["m=application 9 UDP/DTLS/SCTP webrtc-datachannel", "c=IN IP4 0.0.0.0", "a=mid:1", *ours]
            lines += ["a=sctp-port:5000"]
        text = await self._offer(path, "\r\n".join(lines) + "\r\n", headers)
        said = sdp.parse(text if network is None else await network.through(text)).media[0].attributes
        kind, _, digest = (said.first("fingerprint") or "").partition(" ")
        peer._remote = Remote(
            said.first("ice-ufrag") or "",
            said.first("ice-pwd") or "",
            ((kind, digest),),
            active=True,
            sctp_port=5000 if channel else 0,
        )
        self.peer = peer
        for candidate in said.all("candidate"):
            await peer.add_candidate(candidate)
        await peer.connect()
        if channel:
            assert peer._sctp is not None
            self.channel = RTCDataChannel(peer._sctp, RTCDataChannelParameters(label=CHANNEL_LABEL))
            self.channel.on("message", self.message)
            await self.until(lambda: self.of("started"))

    async def _offer(self, path: str, text: str, headers: dict[str, str]) -> str:
        named = {"Content-Type": "application/sdp"} | {name.replace("_", "-"): v for name, v in headers.items()}
        async with self._http.post(self._url + path, data=text, headers=named) as response:
            body = await response.text()
            assert response.status == 201, f"{response.status}: {body}"
            self.location = response.headers["Location"]
            self.resume = response.headers["Voicegate-Resume"]
            return body

    async def hang_up(self) -> int:
        async with self._http.delete(self._url + self.location) as response:
            return response.status

    def send(self, payload: bytes) -> None:
        assert self.peer is not None
        self.peer.send_rtp(self.sender.packet(payload, self.ticks))

    async def speak(self, pcm: Pcm) -> None:
        """In real time, at the codec's rate."""
        size = self.codec.rate_hz // 50
        due_s = self._loop.time()
        for at in range(0, len(pcm) - size + 1, size):
            self.send(self.codec.encode(pcm[at : at + size]))
            due_s += 0.02
            await asyncio.sleep(max(0.0, due_s - self._loop.time()))

    async def key(self, digit: str, frames: int = 5) -> None:
        assert self.peer is not None
        for packets in DigitSender(self.sender, DIGITS, self.ticks).send(digit, frames):
            for packet in packets:
                self.peer.send_rtp(packet)
            await asyncio.sleep(0.02)

    def tell(self, kind: str, **fields: Any) -> None:
        assert self.channel is not None
        self.channel.send(json.dumps({"type": kind, **fields}))

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [message for message in self.messages if message["type"] == kind]

    def heard(self, since: int = 0) -> Pcm:
        """What came after so many packets; pauses are left out."""
        codec = self._codec()
        return np.concatenate([np.zeros(0, np.int16), *(codec.decode(p.payload) for _, p in self.received[since:])])

    def loudest(self, since: int = 0) -> int:
        return int(np.abs(self.heard(since).astype(np.int32)).max(initial=0))

    async def until(self, true: Callable[[], object], patience_s: float = PATIENCE_S) -> None:
        async with asyncio.timeout(patience_s):
            while not true():  # noqa: ASYNC110  # also for what comes without a packet
                await asyncio.sleep(0.02)

    async def close(self) -> None:
        if self.peer is not None:
            await self.peer.close()

    # As its peer's listener

    def rtp(self, packet: bytes) -> None:
        self.received.append((self._loop.time(), RtpPacket.parse(packet)))
        self.on_packet()

    def rtcp(self, packet: bytes) -> None: ...

    def channel_open(self) -> None: ...

    def message(self, text: str) -> None:
        self.messages.append(json.loads(text))

    def peer_lost(self) -> None:
        self.lost = True


@asynccontextmanager
async def light(url: str, codec: str = "opus") -> AsyncIterator[LightCaller]:
    async with aiohttp.ClientSession() as http:
        made = LightCaller(url, http, codec, certificate())
        try:
            yield made
        finally:
            await made.close()
