"""The leanest WebSocket client that is one (RFC 6455): what it costs is not to be taken for the server's.

A client must mask what it sends; a mask of four zeros changes nothing, so messages are built once and sent as they are.
"""

import asyncio
import base64
import os
from collections.abc import Callable
from typing import Final, cast

TEXT: Final = 1
BINARY: Final = 2
CLOSE: Final = 8
PING: Final = 9
PONG: Final = 10

MASK: Final = bytes(4)
SHORT: Final = 126
LONG: Final = 127


def message(opcode: int, payload: bytes) -> bytes:
    """One whole frame as a client sends it."""
    size = len(payload)
    length = bytes((0x80 | size,)) if size < SHORT else bytes((0x80 | SHORT,)) + size.to_bytes(2)
    return bytes((0x80 | opcode,)) + length + MASK + payload


class Wire(asyncio.Protocol):
    """`received` is given each message as it arrives: its opcode and its payload."""

    def __init__(self, host: str, path: str, received: Callable[[int, bytes], None]) -> None:
        self._received = received
        self._buffer = b""
        self._upgraded = False
        self._request = (
            f"GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {base64.b64encode(os.urandom(16)).decode()}\r\n\r\n"
        )
        self.open: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.closed = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is not derived from it
        self._transport.write(self._request.encode())

    def send(self, frame: bytes) -> None:
        if not self.closed:
            self._transport.write(frame)

    def close(self) -> None:
        self.send(message(CLOSE, (1000).to_bytes(2)))

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer + data if self._buffer else data
        at = 0
        if not self._upgraded:
            at = buffer.find(b"\r\n\r\n") + 4
            if at < 4:
                self._buffer = buffer
                return
            self._upgraded = True
            if buffer.startswith(b"HTTP/1.1 101"):
                self.open.set_result(None)
            else:
                self.open.set_exception(ConnectionError(buffer[:200].decode("latin-1")))
        end = len(buffer)
        while at + 2 <= end:
            size, start = buffer[at + 1], at + 2
            if size == SHORT:
                size, start = int.from_bytes(buffer[at + 2 : at + 4]), at + 4
            elif size == LONG:
                size, start = int.from_bytes(buffer[at + 2 : at + 10]), at + 10
            if start + size > end:
                break
            self._take(buffer[at] & 0x0F, buffer[start : start + size])
            at = start + size
        self._buffer = buffer[at:]

    def _take(self, opcode: int, payload: bytes) -> None:
        if opcode == PING:
            self.send(message(PONG, payload))
        elif opcode in (TEXT, BINARY):
            self._received(opcode, payload)

    def connection_lost(self, error: Exception | None) -> None:
        self.closed = True
        if not self.open.done():
            self.open.set_exception(ConnectionError("the connection was lost"))
