"""The plain protocol of `/ws/audio`: JSON text messages for control, binary messages for audio.

The client's first message is `start`; the server answers `started`. Then both sides send binary messages of
little-endian 16-bit mono samples at the rate agreed on. A client that sets `marks` echoes each mark when all audio
before it has been played, and drops what it buffers on `clear`; another says in `buffer_ms` how much it buffers. A
client says goodbye with `stop` or the close code 1000; any other end is a lost connection, which `resume` may replace.
"""

from typing import Annotated, Final, Literal, assert_never

import msgspec
from msgspec import Meta, Struct

from media.audio import FRAME_MS, RATES_HZ, Pcm, bytes_to_pcm, pcm_to_bytes
from media.leg import MAX_TURN_CHARS, CloseCode
from media.websocket.protocol import (
    AUDIO_BURST,
    AUDIO_PER_S,
    CONTROL_BURST,
    CONTROL_PER_S,
    MAX_AUDIO_BYTES,
    MAX_TEXT_CHARS,
    Allowance,
    Audio,
    Begun,
    DigitPressed,
    Event,
    MarkPlayed,
    ProtocolError,
    Stopped,
    TextTyped,
    malformed,
)

MAX_BUFFER_MS: Final = 2000
MAX_TOKEN_CHARS: Final = 512
MAX_NUMBER_CHARS: Final = 100  # caller, called
MAX_MARK_CHARS: Final = 100

Token = Annotated[str, Meta(max_length=MAX_TOKEN_CHARS)]
Number = Annotated[str, Meta(max_length=MAX_NUMBER_CHARS)]


class Start(Struct, frozen=True, tag_field="type", tag="start"):
    rate: Literal[8000, 16000, 24000, 48000] = 16000
    token: Token = ""
    resume: Token = ""
    caller: Number = ""
    called: Number = ""
    buffer_ms: Annotated[int, Meta(ge=0, le=MAX_BUFFER_MS)] = 0
    marks: bool = False
    captions: bool = False  # the agent's words as text, when they are about to be spoken


class Digit(Struct, frozen=True, tag_field="type", tag="digit"):
    digit: Annotated[str, Meta(pattern=r"^[0-9*#]\Z")]


class Mark(Struct, frozen=True, tag_field="type", tag="mark"):
    name: Annotated[str, Meta(max_length=MAX_MARK_CHARS)]


class Text(Struct, frozen=True, tag_field="type", tag="text"):
    text: Annotated[str, Meta(min_length=1, max_length=MAX_TURN_CHARS)]


class Stop(Struct, frozen=True, tag_field="type", tag="stop"):
    pass


_decoder = msgspec.json.Decoder(Start | Digit | Mark | Text | Stop)
_encoder = msgspec.json.Encoder()


class Started(Struct, frozen=True, tag_field="type", tag="started"):
    call: str
    rate: int
    frame_ms: int
    resume: str


class Caption(Struct, frozen=True, tag_field="type", tag="caption"):
    text: str


class Ended(Struct, frozen=True, tag_field="type", tag="ended"):
    cause: str
    outcome: str


class Error(Struct, frozen=True, tag_field="type", tag="error"):
    code: str
    reason: str


class PlainProtocol:
    """The server's side of one connection. Raises `ProtocolError` at whatever a client does wrong."""

    transport = "audio"

    def __init__(self) -> None:
        self._rate_hz = 0  # of the start message, once it came
        self._captions = False
        self._stopped = False
        self._audio = Allowance(AUDIO_PER_S, AUDIO_BURST)
        self._control = Allowance(CONTROL_PER_S, CONTROL_BURST)

    def receive_text(self, text: str, now_ms: int) -> list[Event]:
        if self._stopped:
            return []
        if len(text) > MAX_TEXT_CHARS:
            raise ProtocolError(CloseCode.too_large, f"a text message has more than {MAX_TEXT_CHARS} characters")
        self._control.take(now_ms)
        try:
            message = _decoder.decode(text)
        except (msgspec.DecodeError, RecursionError, UnicodeError) as error:
            raise malformed(error) from None
        if isinstance(message, Start):
            return [self._start(message)]
        if not self._rate_hz:
            raise ProtocolError(CloseCode.bad_message, "the first message must be start")
        match message:
            case Digit():
                return [DigitPressed(message.digit)]
            case Mark():
                return [MarkPlayed(message.name)]
            case Text():
                return [TextTyped(message.text)]
            case Stop():
                self._stopped = True
                return [Stopped()]
            case _:
                assert_never(message)

    def receive_binary(self, data: bytes, now_ms: int) -> list[Event]:
        if self._stopped:
            return []
        if not self._rate_hz:
            raise ProtocolError(CloseCode.bad_message, "the first message must be start")
        if len(data) > MAX_AUDIO_BYTES:
            raise ProtocolError(CloseCode.too_large, f"an audio message has more than {MAX_AUDIO_BYTES} bytes")
        if len(data) % 2:
            raise ProtocolError(CloseCode.bad_message, "an audio message ends in half a sample")
        self._audio.take(now_ms)
        return [Audio(bytes_to_pcm(data))] if data else []

    def _start(self, message: Start) -> Begun:
        if self._rate_hz:
            raise ProtocolError(CloseCode.bad_message, "start came twice")
        assert message.rate in RATES_HZ
        self._rate_hz = message.rate
        self._captions = message.captions
        return Begun(
            rate_hz=message.rate,
            marks=message.marks,
            buffer_ms=message.buffer_ms,
            token=message.token,
            resume=message.resume,
            caller=message.caller,
            called=message.called,
        )

    def started(self, call: str, resume: str) -> str:
        return _encoder.encode(Started(call, self._rate_hz, FRAME_MS, resume)).decode()

    def audio(self, frame: Pcm) -> bytes:
        return pcm_to_bytes(frame)

    def mark(self, name: str) -> str:
        return _encoder.encode(Mark(name)).decode()

    def clear(self) -> str:
        return '{"type":"clear"}'

    def caption(self, text: str) -> str | None:
        return _encoder.encode(Caption(text)).decode() if self._captions else None

    def ended(self, cause: str, outcome: str) -> str:
        return _encoder.encode(Ended(cause, outcome)).decode()

    def error(self, code: CloseCode, reason: str) -> str:
        return _encoder.encode(Error(code, reason)).decode()
