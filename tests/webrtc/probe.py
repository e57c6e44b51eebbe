"""A simulated browser whose every packet is the test's own: exact, and as wrong as wanted."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
from aiortc import RTCDataChannel

from app.load.line import Trouble
from app.load.webrtc import Browser, Office, WebRtcLine, office
from media.audio import Pcm
from media.rtp import RtpPacket, RtpSender
from media.webrtc.offer import CODECS
from media.webrtc.offering import FORMATS, Offering
from tests.webrtc.relay import Relay

PATIENCE_S = 20


class Nobody:
    """A listener that all is the same to."""

    def audio(self, payload: bytes, at_s: float, media_s: float | None) -> None: ...

    def cleared(self, at_s: float) -> None: ...

    def caption(self, who: str, text: str) -> None: ...

    def ended(self, cause: str, outcome: str) -> None: ...

    def failed(self, kind: Trouble) -> None: ...


class Probe(WebRtcLine):
    """`received` are the packets that came, with the loop's time; `messages` what the data channel brought."""

    def __init__(self, shared: Office, url: str, codec: str) -> None:
        super().__init__(shared, url)
        self.codec = CODECS[codec]()
        self.name = codec
        self.received: list[tuple[float, RtpPacket]] = []
        self.messages: list[dict[str, Any]] = []
        self.lost = False
        self.payload_type, _, clock_hz = FORMATS[codec]
        self.ticks = clock_hz // 50
        self.location = ""
        self.on_packet: Callable[[], None] = lambda: None
        self._site = url
        self._network: Relay | None = None
        self._loop = asyncio.get_running_loop()

    async def dial(
        self, path: str = "/webrtc", *, channel: bool = False, network: Relay | None = None, **headers: str
    ) -> None:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self._browser = Browser(codec=self.name, channel=channel, headers=named)
        self._url = self._site + path
        self._network = network
        await self.connect(Nobody())

    async def _ask(self, url: str, offer: str) -> str:
        if self._network is not None:  # the server sees nothing but the relay
            offer = "\r\n".join(line for line in offer.split("\r\n") if not line.startswith("a=candidate"))
        answer = await super()._ask(url, offer)
        self.location = self._leg.removeprefix(self._site)
        return answer if self._network is None else await self._network.through(answer)

    async def goodbye(self) -> int:
        """The status of it. The connection stays."""
        self._leg = self._site + self.location
        return await self._delete()

    async def close(self) -> None:
        """Without a goodbye over HTTP."""
        if self._peer is not None:
            await self._peer.close()

    @property
    def peer(self) -> Offering:
        assert self._peer is not None
        return self._peer

    @property
    def channel(self) -> RTCDataChannel:
        assert self.peer._channel is not None
        return self.peer._channel

    @property
    def sender(self) -> RtpSender:
        assert self._stream is not None
        return self._stream.sender

    @property
    def resumes(self) -> str:
        """The token with which it may come back."""
        return self._resume

    def put(self, payload: bytes) -> None:
        """Whatever it is."""
        self.peer.send_rtp(self.sender.packet(payload, self.ticks))

    async def speak(self, pcm: Pcm) -> None:
        """In real time, at the codec's rate."""
        size = self.codec.rate_hz // 50
        due_s = self._loop.time()
        for at in range(0, len(pcm) - size + 1, size):
            self.put(self.codec.encode(pcm[at : at + size]))
            due_s += 0.02
            await asyncio.sleep(max(0.0, due_s - self._loop.time()))

    async def key(self, digit: str, frames: int = 5) -> None:
        """As a telephone event."""
        assert self._stream is not None
        self._stream.digit(digit, frames * 20)
        for _ in range(frames):
            self._stream.send(b"\xff" * 160)
            await asyncio.sleep(0.02)

    def tell(self, kind: str, **fields: Any) -> None:
        self.channel.send(json.dumps({"type": kind, **fields}))

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [message for message in self.messages if message["type"] == kind]

    def heard(self, since: int = 0) -> Pcm:
        """What came after so many packets; pauses are left out."""
        codec = CODECS[self.name]()
        return np.concatenate([np.zeros(0, np.int16), *(codec.decode(p.payload) for _, p in self.received[since:])])

    def loudest(self, since: int = 0) -> int:
        return int(np.abs(self.heard(since).astype(np.int32)).max(initial=0))

    async def until(self, true: Callable[[], object], patience_s: float = PATIENCE_S) -> None:
        async with asyncio.timeout(patience_s):
            while not true():  # noqa: ASYNC110  # also for what comes without a packet
                await asyncio.sleep(0.02)

    # As its connection's listener

    def rtp(self, packet: bytes) -> None:
        self.received.append((self._loop.time(), RtpPacket.parse(packet)))
        self.on_packet()
        super().rtp(packet)

    def message(self, text: str) -> None:
        self.messages.append(json.loads(text))
        super().message(text)

    def peer_lost(self) -> None:
        """What there is of it stays, for the test to look at."""
        self.lost = True


@asynccontextmanager
async def probe(url: str, codec: str = "opus") -> AsyncIterator[Probe]:
    async with office() as shared:
        made = Probe(shared, url, codec)
        try:
            yield made
        finally:
            await made.close()
