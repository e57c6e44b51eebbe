"""What both WebSocket protocols have in common: events, limits, and the error that ends a connection.

A protocol object is sans-IO: `receive_text` and `receive_binary` turn what came into events, and the other methods turn
orders into messages to send. Text messages are `str`, binary ones `bytes`.
"""

from collections.abc import Mapping
from typing import Final, Protocol

import msgspec
from msgspec import Struct

from media.audio import Pcm
from media.leg import CloseCode
from media.websocket.frames import Message

MAX_TEXT_CHARS: Final = 16 * 1024  # of one text message
MAX_AUDIO_BYTES: Final = 96_000  # of one binary message: a second at 48 kHz
MAX_MESSAGE_BYTES: Final = 128 * 1024  # of any: over every limit here

AUDIO_PER_S: Final = 200  # messages; frames of 5 ms
AUDIO_BURST: Final = 1000  # what a stalled network may deliver at once
CONTROL_PER_S: Final = 50
CONTROL_BURST: Final = 200

CLOSE_NUMBERS: Final[Mapping[CloseCode, int]] = {
    CloseCode.normal: 1000,
    CloseCode.going_away: 1001,
    CloseCode.internal_error: 1011,
    CloseCode.bad_message: 4400,
    CloseCode.unauthorized: 4401,
    CloseCode.forbidden: 4403,
    CloseCode.unknown_flow: 4404,
    CloseCode.timeout: 4408,
    CloseCode.replaced: 4409,
    CloseCode.unknown_call: 4410,
    CloseCode.too_large: 4413,
    CloseCode.too_slow: 4420,
    CloseCode.too_fast: 4429,
    CloseCode.busy: 4503,
}
"""RFC 6455, 7.4: 4000 to 4999 are for private use."""


class ProtocolError(Exception):
    """The peer is wrong, and the connection ends with this. The reason quotes nothing that the peer sent."""

    def __init__(self, code: CloseCode, reason: str) -> None:
        super().__init__(f"{code}: {reason}")
        self.code = code
        self.reason = reason


class Begun(Struct, frozen=True):
    """The peer has introduced itself: always the first event, and the only one until it is admitted."""

    rate_hz: int
    marks: bool
    buffer_ms: int = 0
    token: str = ""
    resume: str = ""
    caller: str = ""
    called: str = ""
    peer_call: str = ""
    parameters: Mapping[str, str] = {}


class Audio(Struct, frozen=True):
    pcm: Pcm


class DigitPressed(Struct, frozen=True):
    digit: str


class TextTyped(Struct, frozen=True):
    text: str


class MarkPlayed(Struct, frozen=True):
    name: str


class Stopped(Struct, frozen=True):
    """A goodbye."""


Event = Begun | Audio | DigitPressed | TextTyped | MarkPlayed | Stopped


class WireProtocol(Protocol):
    """`receive_*` raise `ProtocolError`; `None` means that this protocol has no such message."""

    transport: str

    def receive_text(self, text: str, now_ms: int) -> list[Event]: ...

    def receive_binary(self, data: bytes, now_ms: int) -> list[Event]: ...

    def started(self, call: str, resume: str) -> Message | None: ...

    def audio(self, frame: Pcm) -> Message: ...

    def mark(self, name: str) -> Message: ...

    def clear(self) -> Message: ...

    def caption(self, text: str) -> Message | None: ...

    def ended(self, cause: str, outcome: str) -> Message | None: ...

    def error(self, code: CloseCode, reason: str) -> Message | None: ...


class Allowance:
    """So many messages a second, and a burst. All is counted in thousandths of a message."""

    def __init__(self, per_s: int, burst: int) -> None:
        self._per_s = per_s
        self._burst = burst * 1000
        self._used_up_to = 0  # on a scale on which each millisecond earns `per_s`

    def take(self, now_ms: int, count: int = 1) -> None:
        """Raises `ProtocolError` when it is used up."""
        now = now_ms * self._per_s
        used = (now if now > self._used_up_to else self._used_up_to) + 1000 * count
        if used > now + self._burst:
            raise ProtocolError(CloseCode.too_fast, "too many messages in a second")
        self._used_up_to = used


def malformed(error: Exception) -> ProtocolError:
    """What was wrong with a message: where and which type, but none of its values."""
    if isinstance(error, msgspec.ValidationError):
        text, _, place = str(error).partition(" - at ")
        if not text.startswith(("Expected", "Object missing")):
            text = "This value is not admitted"
        return ProtocolError(CloseCode.bad_message, f"{text} at {place or 'the top'}")
    return ProtocolError(CloseCode.bad_message, "not a message of this protocol")
