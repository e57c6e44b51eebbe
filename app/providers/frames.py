"""Frames between the server and its helper processes: a head (length, kind, number) and a body, over one socket.

The server's end is `process.Process`; the helper's end is `Link` here. Imports nothing heavy: helpers start with it.
"""

import select
import socket
import struct
from collections.abc import Iterator
from typing import NamedTuple

HEAD = struct.Struct("<IBI")  # bytes of the body, kind, number
MAX_BODY_BYTES = 1 << 20
READ_BYTES = 1 << 18

READY = 0
"""The helper's first frame: it is warm. Other kinds are each helper's own, from 1."""


class Frame(NamedTuple):
    kind: int
    number: int  # which request; the server counts them
    body: bytes


class FrameError(Exception):
    """The other end does not speak frames."""


def pack(kind: int, number: int, body: bytes = b"") -> bytes:
    return HEAD.pack(len(body), kind, number) + body


class Frames:
    """Cuts a stream of bytes into frames."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[Frame]:
        """The frames that are whole now. Use it up before the next call. Raises `FrameError`."""
        self._buffer += data
        start = 0
        while len(self._buffer) - start >= HEAD.size:
            length, kind, number = HEAD.unpack_from(self._buffer, start)
            if length > MAX_BODY_BYTES:
                raise FrameError(f"a body of {length} bytes")
            end = start + HEAD.size + length
            if len(self._buffer) < end:
                break
            yield Frame(kind, number, bytes(self._buffer[start + HEAD.size : end]))
            start = end
        del self._buffer[:start]


class Link:
    """The helper's end: its standard input is the socket. The server's death is `EOFError`, here or at a write."""

    def __init__(self) -> None:
        self._socket = socket.socket(fileno=0)
        self._frames = Frames()
        self._poll = select.poll()
        self._poll.register(self._socket, select.POLLIN)

    def read(self, *, wait: bool) -> list[Frame]:
        """What has come; with `wait`, at least some bytes."""
        if not wait and not self._poll.poll(0):
            return []
        try:
            data = self._socket.recv(READ_BYTES)
        except OSError:
            data = b""
        if not data:
            raise EOFError
        return list(self._frames.feed(data))

    def write(self, kind: int, number: int, body: bytes = b"") -> None:
        try:
            self._socket.sendall(pack(kind, number, body))
        except OSError:
            raise EOFError from None
