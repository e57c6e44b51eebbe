"""The leanest WebSocket client that is one (RFC 6455): no task, queue or lock for a message, in either direction.

A client must mask what it sends (5.3); a mask of four zeros changes nothing, so what was encoded once is sent as it is.
"""

import asyncio
import base64
import binascii
import hashlib
import os
import re
import ssl
import time
from collections.abc import Callable, Mapping
from typing import Final, cast
from urllib.parse import urlsplit

from app.load.line import CONNECT_TIMEOUT_S, LineError, Refused, Trouble

CONTINUATION: Final = 0
TEXT: Final = 1
BINARY: Final = 2
CLOSE: Final = 8
PING: Final = 9
PONG: Final = 10

NORMAL: Final = 1000
NO_CODE: Final = 1005  # a close frame without one (7.1.5)
PROTOCOL_ERROR: Final = 1002
TOO_MUCH: Final = 1008  # against our policy
TOO_LARGE: Final = 1009
ABNORMAL: Final = 1006  # no close frame came (7.1.5)

MAX_MESSAGE_BYTES: Final = 1 << 20
MAX_CONTROL_BYTES: Final = 125
MAX_ANSWER_BYTES: Final = 16 * 1024  # of the opening handshake
MAX_UNSENT_BYTES: Final = 64 * 1024  # the server reads no more: audio is left out, as a telephone does
CLOSE_TIMEOUT_S: Final = 1.0

FRAME_COST_BYTES: Final = 1000  # what a frame costs besides its bytes, however small it is
BURST_BYTES: Final = 32 << 20  # a server may send a long speech at once ...
BURST_BYTES_PER_S: Final = 2 << 20  # ... and go on with thirty times what is heard

_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_MASK: Final = bytes(4)
_SHORT: Final = 126
_LONG: Final = 127
_FINAL: Final = 0x80
_RESERVED: Final = 0x70
_MASKED: Final = 0x80
_WHOLE: Final = (_FINAL | TEXT, _FINAL | BINARY)
_STATUS: Final = re.compile(rb"HTTP/1\.[01] (\d{3}) ?([^\r\n]{0,200})")
_ACCEPT: Final = re.compile(rb"\r\nsec-websocket-accept:[ \t]*([^\r\n]*)", re.IGNORECASE)

Received = Callable[[int, bytes], None]
Closed = Callable[[int, str], None]


def head(opcode: int, size: int) -> bytes:
    """What goes before a payload of that size, as a client sends it."""
    if size < _SHORT:
        return bytes((_FINAL | opcode, _MASKED | size)) + _MASK
    if size < 1 << 16:
        return bytes((_FINAL | opcode, _MASKED | _SHORT)) + size.to_bytes(2) + _MASK
    return bytes((_FINAL | opcode, _MASKED | _LONG)) + size.to_bytes(8) + _MASK


def message(opcode: int, payload: bytes) -> bytes:
    return head(opcode, len(payload)) + payload


class Wire(asyncio.Protocol):
    """Use `open_wire`. `received` is given each message: its opcode and payload. `closed` comes once, and last.

    `closed` is told the close frame's code and reason, or `ABNORMAL`.
    """

    def __init__(self, request: bytes, accept: bytes, received: Received, closed: Closed) -> None:
        self.opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.choked = False  # more is unsent than may be
        self.trouble: Trouble | None = None  # for which we closed it
        self._request = request
        self._accept = accept
        self._received = received
        self._closed = closed
        self._buffer = b""
        self._upgraded = False
        self._parts = bytearray()  # of a message that comes in several frames
        self._opcode = 0
        self._end: tuple[int, str] = (ABNORMAL, "")
        self._over = False
        self._allowed_bytes = float(BURST_BYTES)
        self._counted_s = time.perf_counter()

    # As an asyncio protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is not derived from it
        self._transport.set_write_buffer_limits(MAX_UNSENT_BYTES)
        self._transport.write(self._request)

    def pause_writing(self) -> None:
        self.choked = True

    def resume_writing(self) -> None:
        self.choked = False

    def connection_lost(self, error: Exception | None) -> None:
        self._over = True
        if not self.opened.done():
            self.opened.set_exception(LineError(Trouble.cut, "while it was being opened"))
        elif not self.opened.cancelled() and self.opened.exception() is None:
            self._closed(*self._end)
        if not self.lost.done():
            self.lost.set_result(None)

    def data_received(self, data: bytes) -> None:
        if self._over:
            return
        buffer = self._buffer + data if self._buffer else data
        at = 0
        if not self._upgraded:
            at = buffer.find(b"\r\n\r\n") + 4
            if at < 4:
                self._buffer = buffer
                if len(buffer) > MAX_ANSWER_BYTES:
                    self._refuse(LineError(Trouble.protocol, "an endless answer"))
                return
            if not self._upgrade(buffer[:at]):
                return
        end = len(buffer)
        if not self._afford(len(data)):
            return
        while at + 2 <= end:
            first, size, start = buffer[at], buffer[at + 1], at + 2
            if size == _SHORT:
                size, start = int.from_bytes(buffer[at + 2 : at + 4]), at + 4
            elif size == _LONG:
                size, start = int.from_bytes(buffer[at + 2 : at + 10]), at + 10
            elif size > _LONG:
                self._fail(PROTOCOL_ERROR)
                return
            if size > MAX_MESSAGE_BYTES and start <= end:
                self._fail(TOO_LARGE)
                return
            if start + size > end:
                break
            self._allowed_bytes -= FRAME_COST_BYTES
            if first in _WHOLE and not self._opcode:
                self._received(first & 0x0F, buffer[start : start + size])
            else:
                self._rare(first, buffer[start : start + size])
            if self._over:
                return
            at = start + size
        self._buffer = buffer[at:]

    def _afford(self, size: int) -> bool:
        """Whether so many bytes more may come. What came before is counted once more comes."""
        now_s = time.perf_counter()
        earned = (now_s - self._counted_s) * BURST_BYTES_PER_S
        self._allowed_bytes = min(self._allowed_bytes + earned, BURST_BYTES) - size
        self._counted_s = now_s
        if self._allowed_bytes < 0:
            self._fail(TOO_MUCH, Trouble.flood)
        return self._allowed_bytes >= 0

    # Opening

    def _upgrade(self, answer: bytes) -> bool:
        status = _STATUS.match(answer)
        accepted = _ACCEPT.search(answer)
        if status is None:
            self._refuse(LineError(Trouble.protocol, "no HTTP answer"))
        elif status[1] != b"101":
            self._refuse(Refused(status[1].decode(), status[2].decode("latin-1").strip()))
        elif accepted is None or accepted[1].strip() != self._accept:
            self._refuse(LineError(Trouble.protocol, "no WebSocket answer"))
        else:
            self._upgraded = True
            if not self.opened.done():
                self.opened.set_result(None)
        return self._upgraded

    def _refuse(self, error: Exception) -> None:
        self._over = True
        if not self.opened.done():
            self.opened.set_exception(error)
        self._transport.abort()

    # Frames that are not a whole message

    def _rare(self, first: int, payload: bytes) -> None:
        opcode, final = first & 0x0F, first & _FINAL
        if first & _RESERVED or (opcode >= CLOSE and (not final or len(payload) > MAX_CONTROL_BYTES)):
            self._fail(PROTOCOL_ERROR)
        elif opcode == PING:
            self.send(message(PONG, payload))
        elif opcode == CLOSE:
            self._said_goodbye(payload)
        elif opcode in (TEXT, BINARY, CONTINUATION):
            self._part(opcode, payload, last=bool(final))
        elif opcode != PONG:
            self._fail(PROTOCOL_ERROR)

    def _part(self, opcode: int, payload: bytes, *, last: bool) -> None:
        if (opcode == CONTINUATION) != bool(self._opcode):
            self._fail(PROTOCOL_ERROR)
            return
        self._opcode = self._opcode or opcode
        self._parts += payload
        if len(self._parts) > MAX_MESSAGE_BYTES:
            self._fail(TOO_LARGE)
        elif last:
            whole, kind = bytes(self._parts), self._opcode
            self._parts, self._opcode = bytearray(), 0
            self._received(kind, whole)

    def _said_goodbye(self, payload: bytes) -> None:
        code = int.from_bytes(payload[:2]) if len(payload) >= 2 else NO_CODE
        self._end = (code, payload[2:].decode(errors="replace"))
        self.send(message(CLOSE, payload[:2]))
        self._leave()

    def _fail(self, code: int, trouble: Trouble = Trouble.protocol) -> None:
        self.trouble = trouble
        self._end = (code, "")
        self.send(message(CLOSE, code.to_bytes(2)))
        self._leave()

    def _leave(self) -> None:
        """Soon, though the server may not read what we have said."""
        self._over = True
        self._transport.close()
        asyncio.get_running_loop().call_later(CLOSE_TIMEOUT_S, self._transport.abort)

    # What a line does

    def send(self, frames: bytes) -> None:
        if not self._over:
            self._transport.write(frames)

    def send_audio(self, frame: bytes) -> None:
        """Left out while the server does not read."""
        if not self._over and not self.choked:
            self._transport.write(frame)

    def abort(self) -> None:
        """No goodbye, and nothing is told any more."""
        self._over = True
        self._closed = _nobody
        self._transport.abort()

    async def close(self) -> None:
        """With a goodbye; nothing is told any more. Returns when it is closed, or after `CLOSE_TIMEOUT_S`."""
        self._closed = _nobody
        self._received = _nothing
        self.send(message(CLOSE, NORMAL.to_bytes(2)))
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                await asyncio.shield(self.lost)
        except TimeoutError:
            pass
        finally:
            self._transport.abort()


def _nobody(code: int, reason: str) -> None:
    pass


def _nothing(opcode: int, payload: bytes) -> None:
    pass


async def open_wire(
    url: str, received: Received, closed: Closed, headers: Mapping[str, str], context: ssl.SSLContext | None = None
) -> Wire:
    """A WebSocket that is open. Raises `Refused` with the HTTP status, or `LineError`.

    `context` is for `wss:`; by default the system's authorities are believed.
    """
    parts = urlsplit(url)
    secure = parts.scheme == "wss"
    host = parts.hostname or ""
    port = parts.port or (443 if secure else 80)
    key = base64.b64encode(os.urandom(16))
    fields = {
        "Host": parts.netloc.rpartition("@")[2],
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": key.decode(),
        **headers,
    }
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    request = f"GET {target} HTTP/1.1\r\n{lines}\r\n".encode("latin-1")
    digest = hashlib.sha1(key + _GUID, usedforsecurity=False).digest()
    accept = binascii.b2a_base64(digest, newline=False)
    loop = asyncio.get_running_loop()
    wire: Wire | None = None
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            _, wire = await loop.create_connection(
                lambda: Wire(request, accept, received, closed),
                host,
                port,
                ssl=(context or ssl.create_default_context()) if secure else None,
            )
            await wire.opened
    except TimeoutError:
        if wire is not None:
            wire.abort()
        raise LineError(Trouble.timeout, "no answer") from None
    except asyncio.CancelledError:
        if wire is not None:
            wire.abort()
        raise
    except ssl.SSLError as error:
        raise LineError(Trouble.tls, error.reason or "") from None
    except OSError as error:
        raise LineError(Trouble.unreachable, error.strerror or type(error).__name__) from None
    except UnicodeError:
        raise LineError(Trouble.unreachable, "no name that a host can have") from None
    return wire
