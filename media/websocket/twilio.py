"""Twilio Media Streams, bidirectional: https://www.twilio.com/docs/voice/media-streams/websocket-messages

JSON text messages only; audio is 8 kHz mu-law in base64. `connected` and then `start` come first. An order to `clear`
makes Twilio send back the marks that are still waiting: the playout knows by then that they count for nothing.
"""

import binascii
from typing import Annotated, Final, assert_never

import msgspec
from msgspec import Meta, Struct

from media.audio import Pcm, pcm_to_ulaw, ulaw_to_pcm
from media.leg import CloseCode
from media.websocket.protocol import (
    AUDIO_BURST,
    AUDIO_PER_S,
    CONTROL_BURST,
    CONTROL_PER_S,
    MAX_TEXT_CHARS,
    Allowance,
    Audio,
    Begun,
    DigitPressed,
    Event,
    MarkPlayed,
    ProtocolError,
    Stopped,
    malformed,
)

RATE_HZ: Final = 8000
MAX_MEDIA_BYTES: Final = RATE_HZ  # of one message: a second
MAX_PARAMETERS: Final = 50
MAX_PARAMETER_CHARS: Final = 500  # Twilio's own limit is 500 for name and value together
DIGITS: Final = frozenset("0123456789*#")

Sid = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-]{1,64}\Z")]
Count = int  # sent as a string of digits, hence the lax decoder
ParameterText = Annotated[str, Meta(max_length=MAX_PARAMETER_CHARS)]


class MediaFormat(Struct, frozen=True):
    encoding: str
    sampleRate: int  # noqa: N815  # these fields have Twilio's names
    channels: int = 1


class StartBody(Struct, frozen=True):
    streamSid: Sid  # noqa: N815
    callSid: Sid  # noqa: N815
    mediaFormat: MediaFormat  # noqa: N815
    customParameters: dict[ParameterText, ParameterText] = {}  # noqa: N815


class MediaBody(Struct, frozen=True):
    payload: bytes
    chunk: Count = 0
    track: str = "inbound"


class DtmfBody(Struct, frozen=True):
    digit: Annotated[str, Meta(max_length=1)]


class MarkBody(Struct, frozen=True):
    name: Annotated[str, Meta(max_length=100)]


class Connected(Struct, frozen=True, tag_field="event", tag="connected"):
    protocol: str = "Call"


class Start(Struct, frozen=True, tag_field="event", tag="start"):
    start: StartBody
    sequenceNumber: Count = 0  # noqa: N815


class Media(Struct, frozen=True, tag_field="event", tag="media"):
    streamSid: str  # noqa: N815
    media: MediaBody
    sequenceNumber: Count = 0  # noqa: N815


class Dtmf(Struct, frozen=True, tag_field="event", tag="dtmf"):
    streamSid: str  # noqa: N815
    dtmf: DtmfBody
    sequenceNumber: Count = 0  # noqa: N815


class Mark(Struct, frozen=True, tag_field="event", tag="mark"):
    streamSid: str  # noqa: N815
    mark: MarkBody
    sequenceNumber: Count = 0  # noqa: N815


class Stop(Struct, frozen=True, tag_field="event", tag="stop"):
    streamSid: str  # noqa: N815
    sequenceNumber: Count = 0  # noqa: N815


class AnyMessage(Struct, frozen=True):
    """What is left of a message that none of the above is: a newer kind is ignored, anything else refused."""

    event: Annotated[str, Meta(max_length=64)]


_KNOWN: Final = frozenset({"connected", "start", "media", "dtmf", "mark", "stop"})
_decoder = msgspec.json.Decoder(Connected | Start | Media | Dtmf | Mark | Stop, strict=False)
_any_decoder = msgspec.json.Decoder(AnyMessage)
_encoder = msgspec.json.Encoder()


class TwilioProtocol:
    """The server's side of one stream. Raises `ProtocolError` at whatever the far side does wrong."""

    transport = "twilio"

    def __init__(self) -> None:
        self.late_media = 0  # chunks that came twice or after a later one: dropped
        self.missing_media = 0  # chunks that never came
        self.unknown_messages = 0
        self._connected = False
        self._stopped = False
        self._stream_sid = ""  # of the start message, once it came
        self._chunk = 0  # the latest
        self._media_head = self._mark_head = self._clear = ""
        self._audio = Allowance(AUDIO_PER_S, AUDIO_BURST)
        self._control = Allowance(CONTROL_PER_S, CONTROL_BURST)

    def receive_text(self, text: str, now_ms: int) -> list[Event]:
        if self._stopped:
            return []
        if len(text) > MAX_TEXT_CHARS:
            raise ProtocolError(CloseCode.too_large, f"a message has more than {MAX_TEXT_CHARS} characters")
        try:
            message = _decoder.decode(text)
        except (msgspec.DecodeError, RecursionError, UnicodeError) as error:
            self._control.take(now_ms)
            self._pass_over(text, error)
            return []
        if isinstance(message, Media):
            self._audio.take(now_ms)
            return self._media(message)
        self._control.take(now_ms)
        match message:
            case Connected():
                self._connect()
                return []
            case Start():
                return [self._start(message)]
            case Dtmf():
                self._check(message.streamSid)
                return [DigitPressed(message.dtmf.digit)] if message.dtmf.digit in DIGITS else []
            case Mark():
                self._check(message.streamSid)
                return [MarkPlayed(message.mark.name)]
            case Stop():
                self._check(message.streamSid)
                self._stopped = True
                return [Stopped()]
            case _:
                assert_never(message)

    def receive_binary(self, data: bytes, now_ms: int) -> list[Event]:
        raise ProtocolError(CloseCode.bad_message, "this protocol has text messages only")

    def _pass_over(self, text: str, error: Exception) -> None:
        """A kind of message that is not known yet is counted and ignored."""
        try:
            kind = _any_decoder.decode(text).event
        except (msgspec.DecodeError, RecursionError, UnicodeError):
            raise malformed(error) from None
        if kind in _KNOWN:
            raise malformed(error) from None
        self.unknown_messages += 1

    def _connect(self) -> None:
        if self._connected:
            raise ProtocolError(CloseCode.bad_message, "connected came twice")
        self._connected = True

    def _start(self, message: Start) -> Begun:
        if not self._connected:
            raise ProtocolError(CloseCode.bad_message, "start came before connected")
        if self._stream_sid:
            raise ProtocolError(CloseCode.bad_message, "start came twice")
        body = message.start
        if (body.mediaFormat.encoding, body.mediaFormat.sampleRate, body.mediaFormat.channels) != (
            "audio/x-mulaw",
            RATE_HZ,
            1,
        ):
            raise ProtocolError(CloseCode.bad_message, "the stream must be audio/x-mulaw at 8000 Hz, mono")
        parameters = body.customParameters
        if len(parameters) > MAX_PARAMETERS:
            raise ProtocolError(CloseCode.too_large, f"more than {MAX_PARAMETERS} custom parameters")
        self._stream_sid = body.streamSid
        head = f'"streamSid":"{body.streamSid}"'
        self._media_head = f'{{"event":"media",{head},"media":{{"payload":"'
        self._mark_head = f'{{"event":"mark",{head},"mark":{{"name":'
        self._clear = f'{{"event":"clear",{head}}}'
        return Begun(
            rate_hz=RATE_HZ,
            marks=True,
            token=parameters.get("token", ""),
            caller=parameters.get("caller", ""),
            called=parameters.get("called", ""),
            peer_call=body.callSid,
            parameters=parameters,
        )

    def _media(self, message: Media) -> list[Event]:
        self._check(message.streamSid)
        media = message.media
        if media.track != "inbound":
            return []
        if len(media.payload) > MAX_MEDIA_BYTES:
            raise ProtocolError(CloseCode.too_large, f"a media message has more than {MAX_MEDIA_BYTES} bytes")
        if media.chunk > 0:
            if media.chunk <= self._chunk:
                self.late_media += 1
                return []
            if self._chunk:
                self.missing_media += media.chunk - self._chunk - 1
            self._chunk = media.chunk
        return [Audio(ulaw_to_pcm(media.payload))] if media.payload else []

    def _check(self, stream_sid: str) -> None:
        if not self._stream_sid:
            raise ProtocolError(CloseCode.bad_message, "start must come first")
        if stream_sid != self._stream_sid:
            raise ProtocolError(CloseCode.bad_message, "this is another stream's message")

    def started(self, call: str, resume: str) -> None:
        return None

    def audio(self, frame: Pcm) -> str:
        payload = binascii.b2a_base64(pcm_to_ulaw(frame), newline=False)
        return self._media_head + payload.decode("ascii") + '"}}'

    def mark(self, name: str) -> str:
        return f"{self._mark_head}{_encoder.encode(name).decode()}}}}}"

    def clear(self) -> str:
        return self._clear

    def caption(self, text: str) -> None:
        return None

    def ended(self, cause: str, outcome: str) -> None:
        return None

    def error(self, code: CloseCode, reason: str) -> None:
        return None
