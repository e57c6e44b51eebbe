"""A WebRTC caller by aiortc's own audio path: an independent client of the server's."""

import asyncio
import fractions
import json
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import av
import numpy as np
from aiortc import MediaStreamTrack, RTCConfiguration, RTCPeerConnection, RTCSessionDescription
from aiortc.mediastreams import MediaStreamError

from media.audio import Pcm

RATE_HZ = 48_000
FRAME = RATE_HZ // 50
PATIENCE_S = 30


class Microphone(MediaStreamTrack):
    """Paced like a device: what was put in, else the faint noise of a room."""

    kind = "audio"

    def __init__(self) -> None:
        super().__init__()
        self._to_say: deque[Pcm] = deque()
        self._rng = np.random.default_rng(5)
        self._frames = 0
        self._began_s: float | None = None

    def put(self, pcm: Pcm, rate_hz: int) -> None:
        wide = np.repeat(pcm, RATE_HZ // rate_hz)
        for at in range(0, len(wide), FRAME):
            part = np.zeros(FRAME, dtype=np.int16)
            part[: len(wide[at : at + FRAME])] = wide[at : at + FRAME]
            self._to_say.append(part)

    @property
    def waiting(self) -> int:
        return len(self._to_say)

    async def recv(self) -> av.AudioFrame:
        loop = asyncio.get_running_loop()
        if self._began_s is None:
            self._began_s = loop.time()
        await asyncio.sleep(max(0.0, self._began_s + self._frames * 0.02 - loop.time()))
        noise = self._rng.normal(0, 12, FRAME).astype(np.int16)
        samples = noise + self._to_say.popleft() if self._to_say else noise
        frame = av.AudioFrame.from_ndarray(samples.astype(np.int16).reshape(1, -1), format="s16", layout="mono")
        frame.sample_rate = RATE_HZ
        frame.pts = self._frames * FRAME
        frame.time_base = fractions.Fraction(1, RATE_HZ)
        self._frames += 1
        return frame


class Caller:
    """`heard` is the agent's audio at 48 kHz, a frame with the loop's time of its coming."""

    def __init__(self, url: str, http: aiohttp.ClientSession, group: asyncio.TaskGroup) -> None:
        self.url = url
        self.microphone = Microphone()
        self.heard: list[tuple[float, Pcm]] = []
        self.messages: list[dict[str, Any]] = []
        self.connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        self.location = ""
        self._http = http
        self._changed = asyncio.Event()
        self.channel = self.connection.createDataChannel("voicegate")
        self.channel.on("message", self._message)
        self.connection.on("track", self._track)
        self._group = group

    async def dial(self, path: str = "/webrtc", *, microphone: bool = True, **headers: str) -> None:
        if microphone:
            self.connection.addTrack(self.microphone)
        else:
            self.connection.addTransceiver("audio", direction="recvonly")
        await self.connection.setLocalDescription(await self.connection.createOffer())
        answer = await self.offer(path, self.connection.localDescription.sdp, **headers)
        await self.connection.setRemoteDescription(RTCSessionDescription(answer, "answer"))

    async def offer(self, path: str, sdp: str, **headers: str) -> str:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        async with self._http.post(
            self.url + path, data=sdp, headers={"Content-Type": "application/sdp"} | named
        ) as response:
            text = await response.text()
            assert response.status == 201, f"{response.status}: {text}"
            assert response.content_type == "application/sdp"
            self.location = response.headers["Location"]
            return text

    async def hang_up(self) -> int:
        async with self._http.delete(self.url + self.location) as response:
            return response.status

    def send(self, kind: str, **fields: Any) -> None:
        self.channel.send(json.dumps({"type": kind, **fields}))

    async def until(self, true: Callable[[], Any], patience_s: float = PATIENCE_S) -> None:
        async with asyncio.timeout(patience_s):
            while not true():
                self._changed.clear()
                await self._changed.wait()

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [message for message in self.messages if message["type"] == kind]

    async def started(self) -> dict[str, Any]:
        await self.until(lambda: self.of("started"))
        return self.of("started")[0]

    def loudness(self, last_s: float = 0.2) -> float:
        """Root mean square of what came within the last `last_s`."""
        since_s = asyncio.get_running_loop().time() - last_s
        late = [pcm.astype(np.float64) for at_s, pcm in self.heard if at_s >= since_s]
        return float(np.sqrt(np.mean(np.concatenate(late) ** 2))) if late else 0.0

    async def hears(self, level: float = 200) -> None:
        await self.until(lambda: self.loudness() > level)

    async def hears_nothing(self, level: float = 60) -> None:
        await self.until(lambda: self.loudness() < level)

    def _message(self, text: str | bytes) -> None:
        self.messages.append(json.loads(text))
        self._changed.set()

    def _track(self, track: MediaStreamTrack) -> None:
        self._group.create_task(self._listen(track))

    async def _listen(self, track: MediaStreamTrack) -> None:
        try:
            while True:
                frame = await track.recv()
                assert isinstance(frame, av.AudioFrame)
                samples = frame.to_ndarray().reshape(-1, len(frame.layout.channels))[:, 0].astype(np.int16)
                self.heard.append((asyncio.get_running_loop().time(), samples))
                self._changed.set()
        except MediaStreamError:
            return

    async def close(self) -> None:
        await self.connection.close()


@asynccontextmanager
async def caller(url: str) -> AsyncIterator[Caller]:
    async with aiohttp.ClientSession() as http, asyncio.TaskGroup() as group:
        made = Caller(url, http, group)
        try:
            yield made
        finally:
            await made.close()
