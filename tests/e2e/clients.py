"""Callers of both protocols over real sockets. They see what any client sees, and nothing else."""

import asyncio
import base64
import itertools
import json
import socket
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from media.audio import pcm_to_ulaw, ulaw_to_pcm

Pcm = NDArray[np.int16]

FRAME_S = 0.02
PATIENCE_S = 30
QUIET_S = 0.15
ROOM_SIGMA = 12.0
OPTIONS: dict[str, Any] = {"compression": None, "max_size": 2**20, "close_timeout": 1}


class Caller(ABC):
    """What both protocols have in common. `frames` are the agent's, with the loop's time of their coming."""

    rate_hz: int

    def __init__(self, connection: ClientConnection) -> None:
        self.socket = connection
        self.frames: list[tuple[float, Pcm]] = []
        self.messages: list[dict[str, Any]] = []
        self.clears: list[float] = []
        self.marks: list[str] = []
        self.closed: tuple[int, str] | None = None
        self.last_s = 0.0  # when the last frame or caption came
        self.echo = True
        self._changed = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._heard = 0
        self._rng = np.random.default_rng(3)

    async def send(self, message: dict[str, Any]) -> None:
        await self.socket.send(json.dumps(message))

    async def listen(self) -> None:
        """The task that receives, until the connection is over."""
        try:
            async for message in self.socket:
                await self.take(message)
                self._changed.set()
        except ConnectionClosed:
            pass
        self.closed = (self.socket.close_code or 0, self.socket.close_reason or "")
        self._changed.set()

    @abstractmethod
    async def take(self, message: str | bytes) -> None: ...

    @abstractmethod
    async def audio(self, pcm: Pcm) -> None: ...

    async def until(self, true: Callable[[], Any], patience_s: float = PATIENCE_S) -> None:
        async with asyncio.timeout(patience_s):
            while not true():
                self._changed.clear()
                await self._changed.wait()

    async def until_closed(self) -> tuple[int, str]:
        await self.until(lambda: self.closed is not None)
        assert self.closed is not None
        return self.closed

    async def quiet(self, for_s: float = QUIET_S) -> None:
        """The agent has said something since the last time, and has been silent for this long."""
        await self.until(lambda: len(self.frames) > self._heard or self.closed)
        assert self.closed is None, f"closed: {self.closed}"
        while (left_s := self.frames[-1][0] + for_s - self._loop.time()) > 0:  # noqa: ASYNC110 - silence is no event
            await asyncio.sleep(left_s)
        self._heard = len(self.frames)

    async def silence(self, for_s: float = QUIET_S) -> None:
        """Until the agent has been silent for this long since its last frame or caption, or the call is over."""
        while self.closed is None and (left_s := self.last_s + for_s - self._loop.time()) > 0:  # noqa: ASYNC110
            await asyncio.sleep(left_s)

    async def speak(self, pcm: Pcm) -> None:
        """In real time, over the noise that a room has."""
        size = round(self.rate_hz * FRAME_S)
        due_s = self._loop.time()
        for at in range(0, len(pcm), size):
            frame = self._rng.normal(0, ROOM_SIGMA, size)
            frame[: len(pcm) - at] += pcm[at : at + size]
            await self.audio(np.clip(frame, -32768, 32767).astype(np.int16))
            due_s += FRAME_S
            await asyncio.sleep(max(0.0, due_s - self._loop.time()))

    def tones(self, seconds: float) -> Pcm:
        """A sound that the cheap gate takes for a voice and the careful detector does not."""
        at_s = np.arange(round(self.rate_hz * seconds)) / self.rate_hz
        chord = np.sin(2 * np.pi * 697 * at_s) + np.sin(2 * np.pi * 1336 * at_s)
        return np.asarray(6000 * chord, dtype=np.int16)

    async def room(self, seconds: float) -> None:
        await self.speak(np.zeros(round(self.rate_hz * seconds), dtype=np.int16))

    def gaps_s(self, since_s: float) -> list[float]:
        """Between frames that follow one another."""
        times = [at_s for at_s, _ in self.frames if at_s >= since_s]
        return [late - early for early, late in itertools.pairwise(times)]


class Plain(Caller):
    def __init__(self, connection: ClientConnection, rate_hz: int) -> None:
        super().__init__(connection)
        self.rate_hz = rate_hz
        self.call = ""
        self.resume = ""
        self.captions: list[str] = []
        self.ended: tuple[str, str] | None = None
        self.error: tuple[str, str] | None = None

    async def take(self, message: str | bytes) -> None:
        if isinstance(message, bytes):
            self.last_s = self._loop.time()
            self.frames.append((self.last_s, np.frombuffer(message, dtype="<i2")))
            return
        decoded = json.loads(message)
        self.messages.append(decoded)
        match decoded:
            case {"type": "started", "call": call, "resume": resume}:
                self.call, self.resume = call, resume
            case {"type": "caption", "text": text}:
                self.last_s = self._loop.time()
                self.captions.append(text)
            case {"type": "clear"}:
                self.clears.append(self._loop.time())
            case {"type": "mark", "name": name}:
                self.marks.append(name)
                if self.echo:
                    await self.send(decoded)
            case {"type": "ended", "cause": cause, "outcome": outcome}:
                self.ended = (cause, outcome)
            case {"type": "error", "code": code, "reason": reason}:
                self.error = (code, reason)

    async def audio(self, pcm: Pcm) -> None:
        await self.socket.send(pcm.astype("<i2").tobytes())

    async def key(self, digits: str) -> None:
        for digit in digits:
            await self.send({"type": "digit", "digit": digit})

    async def type(self, text: str) -> None:
        await self.send({"type": "text", "text": text})

    async def asked(self, words: str) -> None:
        """Waits until a caption with these words came, newer than those of the last time, and was heard out."""
        await self.until(lambda: any(words in text for text in self.captions))
        self.captions = []
        await self.quiet()

    def drop(self) -> None:
        """The network goes away, without a goodbye."""
        self.socket.transport.abort()


@asynccontextmanager
async def dial(url: str, **start: Any) -> AsyncIterator[Plain]:
    """A plain call that was answered with `started`."""
    async with ringing(url, **start) as caller:
        await caller.until(lambda: caller.call or caller.closed)
        assert caller.call, f"refused: {caller.closed}"
        yield caller


@asynccontextmanager
async def ringing(
    url: str, *, rate: int = 8000, headers: dict[str, str] | None = None, narrow: bool = False, **start: Any
) -> AsyncIterator[Plain]:
    """The same without waiting for an answer. `start` goes into the first message; with `start=None` none is sent.

    A `narrow` line takes little that is not read.
    """
    options: dict[str, Any] = {"sock": _narrow(url)} if narrow else {}
    async with connect(url, additional_headers=headers, **OPTIONS, **options) as connection:
        caller = Plain(connection, rate)
        async with asyncio.TaskGroup() as group:
            listening = group.create_task(caller.listen())
            try:
                if "start" not in start:
                    await caller.send({"type": "start", "rate": rate, "captions": True, **start})
                yield caller
            finally:
                listening.cancel()


def _narrow(url: str) -> socket.socket:
    line = socket.socket()
    line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    parts = urlsplit(url)
    line.connect((parts.hostname, parts.port))
    line.setblocking(False)
    return line


class Twilio(Caller):
    """Twilio's side of a media stream. It plays what it is sent in real time and echoes marks when they are due."""

    rate_hz = 8000

    def __init__(self, connection: ClientConnection, call_sid: str, stream_sid: str) -> None:
        super().__init__(connection)
        self.call_sid = call_sid
        self.stream_sid = stream_sid
        self._sequence = 0
        self._chunk = 0

    async def event(self, kind: str, **body: Any) -> None:
        self._sequence += 1
        await self.send({"event": kind, "sequenceNumber": str(self._sequence), "streamSid": self.stream_sid, **body})

    async def begin(self, **parameters: str) -> None:
        await self.send({"event": "connected", "protocol": "Call", "version": "1.0.0"})
        start = {
            "accountSid": "AC0",
            "streamSid": self.stream_sid,
            "callSid": self.call_sid,
            "tracks": ["inbound"],
            "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1},
            "customParameters": parameters,
        }
        await self.event("start", start=start)

    async def take(self, message: str | bytes) -> None:
        assert isinstance(message, str), "Twilio knows text messages only"
        decoded = json.loads(message)
        self.messages.append(decoded)
        assert decoded["streamSid"] == self.stream_sid
        match decoded["event"]:
            case "media":
                assert set(decoded["media"]) == {"payload"}
                pcm = ulaw_to_pcm(base64.b64decode(decoded["media"]["payload"]))
                self.frames.append((self._loop.time(), pcm))
            case "mark":
                self.marks.append(decoded["mark"]["name"])
                if self.echo:
                    await self.event("mark", mark=decoded["mark"])
            case "clear":
                self.clears.append(self._loop.time())
            case other:
                raise AssertionError(f"Twilio does not know {other}")

    async def audio(self, pcm: Pcm) -> None:
        self._chunk += 1
        payload = base64.b64encode(pcm_to_ulaw(pcm)).decode()
        media = {"track": "inbound", "chunk": str(self._chunk), "timestamp": "0", "payload": payload}
        await self.event("media", media=media)

    async def key(self, digits: str) -> None:
        for digit in digits:
            await self.event("dtmf", dtmf={"track": "inbound_track", "digit": digit})

    async def stop(self) -> None:
        await self.event("stop", stop={"accountSid": "AC0", "callSid": self.call_sid})


@asynccontextmanager
async def stream(
    url: str, call_sid: str, *, stream_sid: str = "MZ1", headers: dict[str, str] | None = None
) -> AsyncIterator[Twilio]:
    """A media stream on which nothing was sent yet."""
    async with connect(url, additional_headers=headers, **OPTIONS) as connection:
        caller = Twilio(connection, call_sid, stream_sid)
        async with asyncio.TaskGroup() as group:
            listening = group.create_task(caller.listen())
            try:
                yield caller
            finally:
                listening.cancel()
