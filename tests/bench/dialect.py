"""Either protocol as its client speaks it, with as little work for each frame as there can be."""

import base64
from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import Final, Protocol

import msgspec

from app.load.wire import BINARY, TEXT, message
from media.audio import FRAME_MS, pcm_to_bytes, pcm_to_ulaw
from tests.bench.voices import Frame, Voices


class Kind(StrEnum):
    audio = "audio"
    clear = "clear"
    mark = "mark"
    other = "other"


class Dialect(Protocol):
    path: str
    rate_hz: int
    ulaw: bool

    def hello(self) -> Sequence[bytes]: ...

    def frame(self, frame: Frame) -> bytes:
        """Of the next 20 ms."""
        ...

    def read(self, opcode: int, payload: bytes) -> tuple[Kind, str]:
        """What came; with a mark's name."""
        ...

    def mark(self, name: str) -> bytes: ...

    def goodbye(self) -> bytes: ...


class _Prepared:
    """Payloads made once for each frame of the voices."""

    def __init__(self, voices: Voices, encode: Callable[[Frame], bytes]) -> None:
        frames = [*voices.line, *(frame for utterance in voices.utterances for frame in utterance)]
        self._made = {id(frame): encode(frame) for frame in frames}

    def __getitem__(self, frame: Frame) -> bytes:
        return self._made[id(frame)]


class Plain:
    """`/ws/audio` at 16 kHz; no marks."""

    path = "/ws/audio"
    rate_hz = 16000
    ulaw = False

    def __init__(self, voices: Voices, number: int, made: _Prepared | None = None) -> None:
        self.made = made or _Prepared(voices, lambda frame: message(BINARY, pcm_to_bytes(frame.pcm)))

    def hello(self) -> Sequence[bytes]:
        return [_text({"type": "start", "rate": self.rate_hz})]

    def frame(self, frame: Frame) -> bytes:
        return self.made[frame]

    def read(self, opcode: int, payload: bytes) -> tuple[Kind, str]:
        if opcode == BINARY:
            return Kind.audio, ""
        return (Kind.clear if payload == b'{"type":"clear"}' else Kind.other), ""

    def mark(self, name: str) -> bytes:
        return _text({"type": "mark", "name": name})

    def goodbye(self) -> bytes:
        return _text({"type": "stop"})


_HEAD: Final = b'{"event":"media"'


class Twilio:
    """`/ws/twilio`: mu-law in JSON, and a mark after each word, which is echoed when it has been played."""

    path = "/ws/twilio"
    rate_hz = 8000
    ulaw = True

    def __init__(self, voices: Voices, number: int, made: _Prepared | None = None) -> None:
        self.made = made or _Prepared(voices, lambda frame: base64.b64encode(pcm_to_ulaw(frame.pcm)))
        self._sid = f"MZ{number:032x}"
        self._call = f"CA{number:032x}"
        self._count = 1
        self._chunk = 0

    def hello(self) -> Sequence[bytes]:
        form = {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1}
        start = {"streamSid": self._sid, "callSid": self._call, "tracks": ["inbound"], "mediaFormat": form}
        return [
            _text({"event": "connected", "protocol": "Call", "version": "1.0.0"}),
            _text({"event": "start", "sequenceNumber": "1", "start": start, "streamSid": self._sid}),
        ]

    def frame(self, frame: Frame) -> bytes:
        self._count += 1
        self._chunk += 1
        head = (
            f'{{"event":"media","sequenceNumber":"{self._count}","media":{{"track":"inbound","chunk":"{self._chunk}",'
            f'"timestamp":"{self._chunk * FRAME_MS}","payload":"'
        )
        return message(TEXT, head.encode() + self.made[frame] + f'"}},"streamSid":"{self._sid}"}}'.encode())

    def read(self, opcode: int, payload: bytes) -> tuple[Kind, str]:
        if payload.startswith(_HEAD):
            return Kind.audio, ""
        what = msgspec.json.decode(payload)
        if what["event"] == "mark":
            return Kind.mark, what["mark"]["name"]
        return (Kind.clear if what["event"] == "clear" else Kind.other), ""

    def mark(self, name: str) -> bytes:
        self._count += 1
        mark = {"event": "mark", "sequenceNumber": str(self._count), "streamSid": self._sid, "mark": {"name": name}}
        return _text(mark)

    def goodbye(self) -> bytes:
        self._count += 1
        return _text({"event": "stop", "sequenceNumber": str(self._count), "streamSid": self._sid})


def _text(what: object) -> bytes:
    return message(TEXT, msgspec.json.encode(what))
