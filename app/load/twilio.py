"""A line on Twilio's media streams, as Twilio's side: mu-law in JSON, and marks echoed when they were played.

https://www.twilio.com/docs/voice/media-streams/websocket-messages
"""

import asyncio
import binascii
import secrets
import ssl
import time
from collections import deque
from collections.abc import Mapping
from typing import Final

import msgspec
from msgspec import Struct

from app.load.line import FRAME_S, UNREADABLE, LineError, Listener, NotResumable, Trouble
from app.load.plain import refusal, tell_end
from app.load.wire import TEXT, Wire, head, message, open_wire
from media.audio import FRAME_MS
from media.codec import Codec, Pcmu

SETTLE_S: Final = 2.0
"""The protocol has no answer: a call is up at the server's first message, or after this time."""

MAX_MARKS: Final = 2000  # that wait to be echoed
MAX_MARK_CHARS: Final = 1000  # one with a longer name is not echoed
FRAME_BYTES: Final = 160

_encode = msgspec.json.Encoder().encode


class Media(Struct, frozen=True):
    payload: bytes


class MarkBody(Struct, frozen=True):
    name: str = ""


class Message(Struct, frozen=True):
    event: str
    media: Media | None = None
    mark: MarkBody | None = None


_decoder = msgspec.json.Decoder(Message)


class TwilioLine:
    """`parameters` are passed on in the start message. A call comes back by its CallSid, as Twilio's do."""

    clears = True

    def __init__(
        self,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        parameters: Mapping[str, str] | None = None,
        context: ssl.SSLContext | None = None,
    ) -> None:
        self.codec: Codec = Pcmu()
        self.call = "CA" + secrets.token_hex(16)
        self._stream = ""
        self._url = url
        self._headers = dict(headers or {})
        self._parameters = dict(parameters or {})
        self._context = context
        self._wire: Wire | None = None
        self._listener: Listener | None = None
        self._up: asyncio.Future[None] | None = None  # while it is waited for
        self._sequence = 0
        self._chunk = 0
        self._tail = b""
        self._plays_until_s = 0.0
        self._marks: deque[tuple[float, str]] = deque()

    # As a line

    async def connect(self, listener: Listener) -> None:
        self._listener = listener
        self._up = asyncio.get_running_loop().create_future()
        self._stream = "MZ" + secrets.token_hex(16)
        self._tail = f'"}},"streamSid":"{self._stream}"}}'.encode()
        self._sequence = self._chunk = 0
        self._plays_until_s = 0.0
        self._marks.clear()
        self._wire = await open_wire(self._url, self._receive, self._closed, self._headers, self._context)
        self._wire.send(message(TEXT, _encode({"event": "connected", "protocol": "Call", "version": "1.0.0"})))
        form = {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1}
        start = {
            "accountSid": "AC" + "0" * 32,
            "streamSid": self._stream,
            "callSid": self.call,
            "tracks": ["inbound"],
            "mediaFormat": form,
            "customParameters": self._parameters,
        }
        self._tell("start", start=start)
        try:
            async with asyncio.timeout(SETTLE_S):
                await self._up
        except TimeoutError:
            pass  # an agent that lets the caller speak first
        except (Exception, asyncio.CancelledError):
            self._wire.abort()
            raise
        finally:
            self._up = None

    def send(self, payload: bytes) -> None:
        wire = self._wire
        if wire is None:
            return
        self._chunk += 1
        if payload:
            self._sequence += 1
            body = (
                b'{"event":"media","sequenceNumber":"%d","media":{"track":"inbound","chunk":"%d","timestamp":"%d",'
                b'"payload":"%b%b'
                % (
                    self._sequence,
                    self._chunk,
                    self._chunk * FRAME_MS,
                    binascii.b2a_base64(payload, newline=False),
                    self._tail,
                )
            )
            wire.send_audio(head(TEXT, len(body)) + body)
        if self._marks:
            self._echo(time.perf_counter())

    def digit(self, digit: str, duration_ms: int) -> None:
        self._tell("dtmf", dtmf={"track": "inbound_track", "digit": digit})

    async def hang_up(self) -> None:
        self._listener = None
        if self._wire is not None:
            self._tell("stop", stop={"accountSid": "AC" + "0" * 32, "callSid": self.call})
            await self._wire.close()

    def drop(self) -> None:
        if self._wire is not None:
            self._wire.abort()

    async def resume(self) -> None:
        if self._listener is None:
            raise NotResumable("no call to take up again")
        await self.connect(self._listener)

    def _tell(self, event: str, **body: object) -> None:
        if self._wire is not None:
            self._sequence += 1
            what = {"event": event, "sequenceNumber": str(self._sequence), "streamSid": self._stream, **body}
            self._wire.send(message(TEXT, _encode(what)))

    # What comes

    def _receive(self, opcode: int, payload: bytes) -> None:
        listener = self._listener
        if listener is None or opcode != TEXT:
            return
        try:
            what = _decoder.decode(payload)
        except UNREADABLE:
            self._broken(listener)
            return
        now_s = time.perf_counter()
        if self._up is not None and not self._up.done():
            self._up.set_result(None)
        if what.media is not None:
            sound = what.media.payload
            self._plays_until_s = max(self._plays_until_s, now_s) + len(sound) / FRAME_BYTES * FRAME_S
            listener.audio(sound, now_s, None)
        elif what.mark is not None:
            if len(self._marks) < MAX_MARKS and len(what.mark.name) <= MAX_MARK_CHARS:
                self._marks.append((self._plays_until_s, what.mark.name))
        elif what.event == "clear":
            self._plays_until_s = min(self._plays_until_s, now_s)
            self._echo(float("inf"))  # all that wait come back at once
            listener.cleared(now_s)

    def _broken(self, listener: Listener) -> None:
        if self._up is not None and not self._up.done():
            self._up.set_exception(LineError(Trouble.protocol, "not a message of this protocol"))
        else:
            listener.failed(Trouble.protocol)
        self.drop()

    def _echo(self, until_s: float) -> None:
        while self._marks and self._marks[0][0] <= until_s:
            self._tell("mark", mark={"name": self._marks.popleft()[1]})

    def _closed(self, code: int, reason: str) -> None:
        if self._up is not None and not self._up.done():
            self._up.set_exception(refusal("", code, reason, self._wire))
        elif self._listener is not None:
            tell_end(self._listener, code, reason, self._wire)
