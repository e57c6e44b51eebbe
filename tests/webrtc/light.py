"""A WebRTC caller that offers, and whose packets a test makes itself: cheap, exact, and as wrong as wanted."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import aiohttp

from media import sdp
from media.rtp import RtpPacket, RtpSender
from media.webrtc.peer import Addresses, Certificate, Peer, Remote, certificate

FORMATS = {
    "opus": (111, "opus/48000/2", 960),
    "pcmu": (0, "PCMU/8000", 160),
    "pcma": (8, "PCMA/8000", 160),
}
DIGITS = 96
PATIENCE_S = 20


class LightCaller:
    """`received` are the packets that came, with the loop's time."""

    def __init__(self, url: str, http: aiohttp.ClientSession, codec: str, identity: Certificate) -> None:
        self.received: list[tuple[float, RtpPacket]] = []
        self.lost = False
        self.location = ""
        self.resume = ""
        self._url = url
        self._http = http
        self._identity = identity
        self.payload_type, self._map, self.ticks = FORMATS[codec]
        self.sender = RtpSender(4242, self.payload_type, int(self._map.split("/")[1]))
        self.peer: Peer | None = None
        self._loop = asyncio.get_running_loop()
        self.on_packet: Callable[[], None] = lambda: None

    async def dial(self, path: str = "/webrtc", **headers: str) -> None:
        clock = self._map.split("/")[1]
        # The answer is not known yet; of the offer it needs only our own side.
        blank = Remote("none", "none", (), active=True)
        peer = Peer(blank, self, self._identity, Addresses())
        peer._ice.ice_controlling = True
        await peer.gather()
        algorithm, fingerprint = peer.fingerprint
        lines = ["v=0", "o=- 1 1 IN IP4 127.0.0.1", "s=-", "t=0 0", "a=group:BUNDLE 0"]
        lines += [f"m=audio 9 UDP/TLS/RTP/SAVPF {self.payload_type} {DIGITS}", "c=IN IP4 0.0.0.0", "a=mid:0"]
        lines += [f"a=rtpmap:{self.payload_type} {self._map}", f"a=rtpmap:{DIGITS} telephone-event/{clock}"]
        lines += ["a=sendrecv", "a=rtcp-mux", f"a=ice-ufrag:{peer.ufrag}", f"a=ice-pwd:{peer.password}"]
        lines += [f"a=fingerprint:{algorithm} {fingerprint}", "a=setup:actpass"]
        lines += [f"a=candidate:{candidate}" for candidate in peer.candidates]
        answer = sdp.parse(await self._offer(path, "\r\n".join(lines) + "\r\n", headers))
        said = answer.media[0].attributes
        kind, _, digest = (said.first("fingerprint") or "").partition(" ")
        peer._remote = Remote(
            said.first("ice-ufrag") or "", said.first("ice-pwd") or "", ((kind, digest),), active=True
        )
        self.peer = peer
        for candidate in said.all("candidate"):
            await peer.add_candidate(candidate)
        await peer.connect()

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

    def message(self, text: str) -> None: ...

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
