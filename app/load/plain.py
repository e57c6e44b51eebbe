"""A line on the plain WebSocket protocol of `/ws/audio`: little-endian samples in binary messages, JSON beside them."""

import asyncio
import ssl
import time
from collections.abc import Mapping
from typing import ClassVar, Final

import msgspec
from msgspec import Struct

from app.load.line import CONNECT_TIMEOUT_S, UNREADABLE, LineError, Listener, NotResumable, Refused, Trouble
from app.load.wire import BINARY, NORMAL, TEXT, Wire, head, message, open_wire
from media.audio import FRAME_MS, Pcm, bytes_to_pcm, pcm_to_bytes, silence
from media.codec import Codec
from media.websocket.plain import Caption, Digit, Ended, Error, Start, Started, Stop
from media.websocket.protocol import CLOSE_NUMBERS

CLOSE_CODES: Final = {number: code.value for code, number in CLOSE_NUMBERS.items()}
"""What our own servers mean by a close code; others' are told as numbers."""

MIN_APPLICATION_CODE: Final = 4000  # RFC 6455, 7.4.2


class Clear(Struct, frozen=True, tag_field="type", tag="clear"):
    pass


class Mark(Struct, frozen=True, tag_field="type", tag="mark"):
    name: str


_decoder = msgspec.json.Decoder(Started | Caption | Clear | Mark | Ended | Error)
_encode = msgspec.json.Encoder().encode


class Linear:
    """Samples as they are, as a `Codec`; one for each rate."""

    name: ClassVar[str] = "L16LE"
    rate_hz: ClassVar[int]
    clock_hz: ClassVar[int] = 0  # no timestamps here
    bytes_per_ms: ClassVar[int]

    def encode(self, frame: Pcm) -> bytes:
        return pcm_to_bytes(frame)

    def decode(self, payload: bytes) -> Pcm:
        return bytes_to_pcm(payload[: len(payload) - len(payload) % 2])

    def conceal(self) -> Pcm:
        return silence(self.rate_hz, FRAME_MS)

    def recover(self, payload: bytes) -> Pcm | None:
        return None

    def reset(self) -> None:
        """It has no state."""


class Linear8(Linear):
    rate_hz = 8000
    bytes_per_ms = 16


class Linear16(Linear):
    rate_hz = 16_000
    bytes_per_ms = 32


class Linear24(Linear):
    rate_hz = 24_000
    bytes_per_ms = 48


class Linear48(Linear):
    rate_hz = 48_000
    bytes_per_ms = 96


LINEAR: Final[Mapping[int, type[Linear]]] = {one.rate_hz: one for one in (Linear8, Linear16, Linear24, Linear48)}


class PlainLine:
    """`headers` go into the opening request, such as a bearer token."""

    clears = True

    def __init__(
        self,
        url: str,
        *,
        rate_hz: int = 16_000,
        headers: Mapping[str, str] | None = None,
        caller: str = "",
        context: ssl.SSLContext | None = None,
    ) -> None:
        self.codec: Codec = LINEAR[rate_hz]()
        self.call = ""
        self._url = url
        self._headers = dict(headers or {})
        self._caller = caller
        self._context = context
        self._head = head(BINARY, rate_hz * FRAME_MS // 1000 * 2)
        self._resume = ""
        self._wire: Wire | None = None
        self._listener: Listener | None = None
        self._started: asyncio.Future[None] | None = None  # while it is waited for
        self._error = ""  # the server's own, before it closes
        self._ended = False

    # As a line

    async def connect(self, listener: Listener) -> None:
        self._listener = listener
        self._started = asyncio.get_running_loop().create_future()
        self._error, self._ended = "", False
        self._wire = await open_wire(self._url, self._receive, self._closed, self._headers, self._context)
        start = Start(rate=self.codec.rate_hz, resume=self._resume, caller=self._caller, captions=True)  # type: ignore[arg-type]  # one of LINEAR's
        self._wire.send(message(TEXT, _encode(start)))
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                await self._started
        except TimeoutError:
            raise LineError(Trouble.timeout, "no started") from None
        finally:
            if self._started.cancelled() or self._started.exception() is not None:
                self._wire.abort()
            self._started = None

    def send(self, payload: bytes) -> None:
        if payload and self._wire is not None:
            self._wire.send_audio(self._head + payload)

    def digit(self, digit: str, duration_ms: int) -> None:
        self._tell(Digit(digit))

    async def hang_up(self) -> None:
        self._listener = None
        if self._wire is not None:
            self._tell(Stop())
            await self._wire.close()

    def drop(self) -> None:
        if self._wire is not None:
            self._wire.abort()

    async def resume(self) -> None:
        if self._listener is None or not self._resume:
            raise NotResumable("no call to take up again")
        await self.connect(self._listener)

    def _tell(self, what: Struct) -> None:
        if self._wire is not None:
            self._wire.send(message(TEXT, _encode(what)))

    # What comes

    def _receive(self, opcode: int, payload: bytes) -> None:
        listener = self._listener
        if listener is None:
            return
        if opcode == BINARY:
            listener.audio(payload, time.perf_counter(), None)
            return
        try:
            what = _decoder.decode(payload)
        except UNREADABLE:
            return  # a kind of message that this caller needs not know
        match what:
            case Caption():
                listener.caption("agent", what.text)
            case Clear():
                listener.cleared(time.perf_counter())
            case Started():
                self.call, self._resume = what.call, what.resume
                if self._started is not None and not self._started.done():
                    self._started.set_result(None)
            case Ended():
                self._ended = True
                listener.ended(what.cause, what.outcome)
            case Error():
                self._error = what.code
            case Mark():
                pass  # this caller asked for none

    def _closed(self, code: int, reason: str) -> None:
        if self._started is not None and not self._started.done():
            self._started.set_exception(refusal(self._error, code, reason, self._wire))
        elif self._listener is not None and not self._ended:
            tell_end(self._listener, code, "", self._wire)


def refusal(error: str, code: int, reason: str, wire: Wire | None) -> Exception:
    """What a connection's end means while no call has begun."""
    if wire is not None and wire.trouble is not None:
        return LineError(wire.trouble, f"closed with {code}")
    if error or code >= MIN_APPLICATION_CODE:
        return Refused(error or CLOSE_CODES.get(code, str(code)), reason)
    return LineError(Trouble.cut, f"closed with {code}")


def tell_end(listener: Listener, code: int, reason: str, wire: Wire | None) -> None:
    """What it means in a call, where the server did not say goodbye otherwise."""
    if wire is not None and wire.trouble is not None:
        listener.failed(wire.trouble)
    elif code == NORMAL:
        listener.ended(reason, "")
    else:
        listener.failed(Trouble.cut)
