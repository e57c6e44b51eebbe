"""A simulated phone on the plain protocol: it sends a frame every 20 ms, keeps what it hears, and times both.

What it reports is true at the caller's ear: it comes from the audio and messages that arrived, not from the server.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

import msgspec
import numpy as np
from msgspec import Struct, field
from numpy.typing import NDArray
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

FRAME_MS: Final = 20
AUDIBLE_PEAK: Final = 250  # of 32,768: below this a frame counts as silence
ROOM_NOISE_SIGMA: Final = 12.0  # a real line is never digitally silent
SILENCE_S: Final = 0.3  # shorter gaps between audible frames belong to speech

Pcm = NDArray[np.int16]


class Caption(Struct, frozen=True):
    at_s: float
    text: str


class Utterance(Struct):
    """One time that this caller spoke: when its first and last audible frames left."""

    began_s: float
    ended_s: float
    interrupting: bool


class Heard(Struct):
    """What arrived, with the loop's time in seconds."""

    call: str = ""
    resume: str = ""
    captions: list[Caption] = field(default_factory=list)
    frames: int = 0
    audible: list[float] = field(default_factory=list)  # when each audible agent frame was played to its end
    clears: list[float] = field(default_factory=list)
    cause: str = ""
    outcome: str = ""
    error: str = ""


class Phone:
    """Use `dial`. Everything is on one loop."""

    def __init__(self, socket: ClientConnection, rate_hz: int) -> None:
        self.rate_hz = rate_hz
        self.heard = Heard()
        self.over = asyncio.Event()
        self.on_caption: Callable[[Caption], None] | None = None
        self._socket = socket
        self._frame = rate_hz * FRAME_MS // 1000
        self._outgoing: Pcm = np.zeros(0, dtype=np.int16)
        self.said: list[Utterance] = []
        self._utterance: Utterance | None = None
        self._spoken = asyncio.Event()
        self._spoken.set()
        self._plays_until_s = 0.0
        self._rng = np.random.default_rng(7)
        self._loop = asyncio.get_running_loop()
        self._changed = asyncio.Event()

    # What the caller does

    async def say(self, pcm: Pcm, *, interrupting: bool = False) -> None:
        """Speak; returns when the last frame has left."""
        self._outgoing = np.concatenate((self._outgoing, pcm))
        self._utterance = Utterance(0.0, 0.0, interrupting)
        self.said.append(self._utterance)
        self._spoken.clear()
        await self._spoken.wait()

    async def key(self, digits: str, *, gap_ms: int = 180) -> None:
        for digit in digits:
            await self._send({"type": "digit", "digit": digit})
            await asyncio.sleep(gap_ms / 1000)

    async def hang_up(self) -> None:
        await self._send({"type": "stop"})

    # What the caller notices

    def quiet_for(self) -> float:
        """Seconds since the agent was last audible."""
        return self._loop.time() - self.last_audible_s

    @property
    def last_audible_s(self) -> float:
        return self.heard.audible[-1] if self.heard.audible else 0.0

    async def changed(self, timeout_s: float) -> None:
        """Returns when something was heard, or after the timeout."""
        self._changed.clear()
        try:
            async with asyncio.timeout(timeout_s):
                await self._changed.wait()
        except TimeoutError:
            pass

    # What it was like

    def barge_in_ms(self) -> list[int]:
        """For each interruption: from our first audible frame to the agent's last one before a real silence."""
        out = []
        for utterance in self.said:
            if utterance.interrupting and utterance.began_s:
                last_s = utterance.began_s
                for at_s in self.heard.audible:
                    if at_s > last_s + SILENCE_S:
                        break
                    last_s = max(last_s, at_s)
                out.append(round((last_s - utterance.began_s) * 1000))
        return out

    def response_ms(self) -> list[int]:
        """For each utterance: from our last audible frame to the agent's next one."""
        out = []
        for utterance in self.said:
            after = [at_s for at_s in self.heard.audible if at_s > utterance.ended_s + SILENCE_S / 2]
            if after and utterance.ended_s:
                out.append(round((after[0] - utterance.ended_s) * 1000))
        return out

    # The connection

    async def start(self, **options: Any) -> None:
        await self._send({"type": "start", "rate": self.rate_hz, "captions": True, **options})

    async def run(self) -> None:
        """Send and receive until the call is over; the owner's task."""
        async with asyncio.TaskGroup() as group:
            sender = group.create_task(self._speak())
            try:
                await self._listen()
            finally:
                self.over.set()
                self._spoken.set()
                self._changed.set()
                sender.cancel()

    async def _speak(self) -> None:
        due_s = self._loop.time()
        try:
            while True:
                await self._socket.send(self._next_frame().tobytes())
                due_s = max(due_s + FRAME_MS / 1000, self._loop.time() - 0.1)
                await asyncio.sleep(max(0.0, due_s - self._loop.time()))
        except ConnectionClosed:
            pass

    def _next_frame(self) -> Pcm:
        room = self._rng.normal(0, ROOM_NOISE_SIGMA, self._frame)
        frame, self._outgoing = self._outgoing[: self._frame], self._outgoing[self._frame :]
        room[: len(frame)] += frame
        if self._utterance is not None and len(frame) and int(np.abs(frame.astype(np.int32)).max()) >= AUDIBLE_PEAK:
            self._utterance.ended_s = self._loop.time()
            self._utterance.began_s = self._utterance.began_s or self._utterance.ended_s
        if not len(self._outgoing):
            self._spoken.set()
        return np.clip(room, -32768, 32767).astype("<i2")

    async def _listen(self) -> None:
        try:
            async for message in self._socket:
                if isinstance(message, bytes):
                    self._hear(np.frombuffer(message, dtype="<i2"))
                else:
                    self._read(msgspec.json.decode(message))
                self._changed.set()
        except ConnectionClosed as closed:
            if not self.heard.outcome and not self.heard.error:
                self.heard.error = f"closed: {closed.rcvd.code if closed.rcvd else 'no close frame'}"

    def _hear(self, frame: Pcm) -> None:
        """Played one after the other, as a telephone does: what comes early waits its turn."""
        self.heard.frames += 1
        self._plays_until_s = max(self._plays_until_s, self._loop.time()) + len(frame) / self.rate_hz
        if len(frame) and int(np.abs(frame.astype(np.int32)).max()) >= AUDIBLE_PEAK:
            self.heard.audible.append(self._plays_until_s)

    def _clear(self, now_s: float) -> None:
        self.heard.clears.append(now_s)
        self._plays_until_s = min(self._plays_until_s, now_s)
        while self.heard.audible and self.heard.audible[-1] > now_s + FRAME_MS / 1000:
            self.heard.audible.pop()

    def _read(self, message: dict[str, Any]) -> None:
        now_s = self._loop.time()
        match message:
            case {"type": "started", "call": call, "resume": resume}:
                self.heard.call, self.heard.resume = call, resume
            case {"type": "caption", "text": text}:
                caption = Caption(now_s, text)
                self.heard.captions.append(caption)
                if self.on_caption is not None:
                    self.on_caption(caption)
            case {"type": "clear"}:
                self._clear(now_s)
            case {"type": "ended", "cause": cause, "outcome": outcome}:
                self.heard.cause, self.heard.outcome = cause, outcome
            case {"type": "error", "code": code, "reason": reason}:
                self.heard.error = f"{code}: {reason}"
            case _:
                pass

    async def _send(self, message: dict[str, Any]) -> None:
        try:
            await self._socket.send(msgspec.json.encode(message).decode())
        except ConnectionClosed:
            self.over.set()


@asynccontextmanager
async def dial(url: str, rate_hz: int = 16000, **options: Any) -> AsyncIterator[Phone]:
    """A phone in a call; `options` go into the start message. Raises `OSError` where nobody answers."""
    async with connect(url, max_size=2**20, compression=None) as socket:
        phone = Phone(socket, rate_hz)
        await phone.start(**options)
        async with asyncio.TaskGroup() as group:
            running = group.create_task(phone.run())
            try:
                yield phone
            finally:
                running.cancel()
