"""WebSocket frames, sans-IO (RFC 6455, 5 and 7.4): what a client sends, taken apart, and what a server sends.

No extension is agreed on, so there is no compression, and each reserved bit is an error.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

try:
    from websockets.speedups import apply_mask
except ImportError:  # no build for this machine
    from websockets.utils import apply_mask

CONTINUATION: Final = 0
TEXT: Final = 1
BINARY: Final = 2
CLOSE: Final = 8
PING: Final = 9
PONG: Final = 10

NORMAL: Final = 1000
NO_CODE: Final = 1005  # a close frame said nothing
BROKEN: Final = 1006  # there was no close frame
PROTOCOL_ERROR: Final = 1002
NO_UTF8: Final = 1007
TOO_BIG: Final = 1009

MAX_CONTROL_BYTES: Final = 125

_FIN: Final = 0x80
_WHOLE: Final = (_FIN | TEXT, _FIN | BINARY)  # a message in one frame
_CONTROL: Final = 0x08  # set in the opcodes of control frames
_MASKED: Final = 0x80
_SHORT: Final = 126  # the size is in the next two bytes
_LONG: Final = 127  # in the next eight
_OPCODES: Final = frozenset((CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG))
_head_16 = struct.Struct(">BBH").pack
_head_64 = struct.Struct(">BBQ").pack

Message = str | bytes
"""Text or binary."""


class FrameError(Exception):
    """The peer is wrong: fail the connection with this code (RFC 6455, 7.1.7)."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"{code}: {reason}")
        self.code = code
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Control:
    opcode: int
    payload: bytes


PART: Final = Control(CONTINUATION, b"")
"""A frame of a message that is not whole yet."""


class FrameReader:
    """A client's frames, as bytes come. After a `FrameError` nothing is read any more.

    It keeps at most one message and one frame, each of up to `max_bytes`, and what was given and not taken.
    """

    __slots__ = ("_at", "_data", "_max_bytes", "_opcode", "_parts")

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._data: bytes | bytearray = b""
        self._at = 0  # what lies before has been taken
        self._opcode = 0  # of the message that has begun
        self._parts = bytearray()  # what came of it

    def whole(self, data: bytes) -> Message | None:
        """The message, where one frame of it is all that there is: nearly always. Otherwise `read` has to look.

        Raises `FrameError`.
        """
        size = len(data) - 8
        if (
            size < _SHORT
            or data[1] != _MASKED | _SHORT
            or data[0] not in _WHOLE
            or data[2] << 8 | data[3] != size
            or size > self._max_bytes
            or self._opcode
            or self._at != len(self._data)
        ):
            return None
        payload = apply_mask(data[8:], data[4:8])
        return payload if data[0] == _FIN | BINARY else _text(payload)

    def read(self, data: bytes) -> Iterator[Message | Control]:
        """Whole messages, control frames, and `PART`s. Whoever stops in between goes on with `read(b"")`.

        Raises `FrameError`.
        """
        if self._at == len(self._data):
            self._data = data
        else:
            if not isinstance(self._data, bytearray):
                self._data = bytearray(self._data)
            del self._data[: self._at]
            self._data += data
        self._at = at = 0
        buffer, end = self._data, len(self._data)
        while end - at >= 2:
            first, second, start = buffer[at], buffer[at + 1], at + 6
            size = second & ~_MASKED
            if first not in _WHOLE or self._opcode:
                self._check(first, size)
            if size == second:
                raise FrameError(PROTOCOL_ERROR, "a client has to mask its frames")
            if size == _SHORT:
                start = at + 8
                if end < start:
                    return
                size = buffer[at + 2] << 8 | buffer[at + 3]
            elif size == _LONG:
                start = at + 14
                if end < start:
                    return
                size = int.from_bytes(buffer[at + 2 : at + 10])
            if size + len(self._parts) > self._max_bytes and not first & _CONTROL:
                raise FrameError(TOO_BIG, f"a message has more than {self._max_bytes} bytes")
            stop = start + size
            if end < stop:
                return
            self._at = at = stop
            payload = apply_mask(buffer[start:stop], buffer[start - 4 : start])
            if first == _FIN | TEXT:
                yield _text(payload)
            elif first == _FIN | BINARY:
                yield payload
            elif first & _CONTROL:
                yield Control(first & 0x0F, payload)
            else:
                yield self._part(first, payload)

    def _check(self, first: int, size: int) -> None:
        """A frame's first byte, and its size as far as seven bits say it. RFC 6455, 5.2, 5.4 and 5.5."""
        opcode = first & 0x0F
        if first & 0x70 or opcode not in _OPCODES:
            raise FrameError(PROTOCOL_ERROR, "reserved bits or opcodes are in use")
        if opcode & _CONTROL:
            if not first & _FIN or size > MAX_CONTROL_BYTES:
                raise FrameError(PROTOCOL_ERROR, "a control frame is too long or comes in parts")
        elif (opcode == CONTINUATION) != bool(self._opcode):
            raise FrameError(PROTOCOL_ERROR, "a message begins within another, or goes on without a beginning")

    def _part(self, first: int, payload: bytes) -> Message | Control:
        self._opcode = self._opcode or first
        self._parts += payload
        if not first & _FIN:
            return PART
        opcode, whole = self._opcode, bytes(self._parts)
        self._opcode = 0
        self._parts.clear()
        return _text(whole) if opcode == TEXT else whole


def _text(payload: bytes) -> str:
    try:
        return payload.decode()
    except UnicodeDecodeError:
        raise FrameError(NO_UTF8, "a text is not UTF-8") from None


def close_code(payload: bytes) -> int:
    """Of the peer's close frame. Raises `FrameError`."""
    if not payload:
        return NO_CODE
    code = int.from_bytes(payload[:2])
    if len(payload) == 1 or not (1000 <= code <= 1003 or 1007 <= code <= 1014 or 3000 <= code <= 4999):
        raise FrameError(PROTOCOL_ERROR, "there is no such close code")
    _text(payload[2:])
    return code


def frame(opcode: int, payload: bytes) -> bytes:
    """A server's whole frame."""
    size = len(payload)
    if size < _SHORT:
        return bytes((_FIN | opcode, size)) + payload
    if size < 1 << 16:
        return _head_16(_FIN | opcode, _SHORT, size) + payload
    return _head_64(_FIN | opcode, _LONG, size) + payload


def message(content: Message) -> bytes:
    return frame(TEXT, content.encode()) if isinstance(content, str) else frame(BINARY, content)


def close(code: int, reason: str = "") -> bytes:
    """A close frame; its reason is cut to what one can carry."""
    text = reason.encode()[: MAX_CONTROL_BYTES - 2].decode(errors="ignore")
    return frame(CLOSE, code.to_bytes(2) + text.encode())
