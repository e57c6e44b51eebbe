"""The request that opens a WebSocket, and its answer; sans-IO (RFC 6455, 4.2)."""

import base64
import binascii
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

from media.source import field_values

VERSION: Final = "13"
KEY_BYTES: Final = 16

_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


@dataclass(frozen=True, slots=True)
class Opening:
    """As the HTTP server read it, which also limits its size."""

    method: bytes
    target: bytes
    headers: Sequence[tuple[bytes, bytes]]
    scheme: str  # "ws" or "wss"
    peer: str  # the other end's address, as the socket says


class BadOpening(Exception):
    """It opens no WebSocket."""

    def __init__(self, status: HTTPStatus) -> None:
        super().__init__(status.phrase)
        self.status = status


def accept(opening: Opening) -> bytes:
    """The answer that opens it. No subprotocol and no extension is agreed on. Raises `BadOpening`."""
    fields = field_values(opening.headers)
    if opening.method != b"GET":
        raise BadOpening(HTTPStatus.METHOD_NOT_ALLOWED)
    if "content-length" in fields or "transfer-encoding" in fields:
        raise BadOpening(HTTPStatus.BAD_REQUEST)
    if "websocket" not in _tokens(fields.get("upgrade", "")) or "upgrade" not in _tokens(fields.get("connection", "")):
        raise BadOpening(HTTPStatus.BAD_REQUEST)
    if fields.get("sec-websocket-version") != VERSION:
        raise BadOpening(HTTPStatus.UPGRADE_REQUIRED)
    key = fields.get("sec-websocket-key", "")
    if not _is_key(key):
        raise BadOpening(HTTPStatus.BAD_REQUEST)
    digest = hashlib.sha1(key.encode() + _GUID, usedforsecurity=False).digest()
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "
        + base64.b64encode(digest)
        + b"\r\n\r\n"
    )


def refusal(status: HTTPStatus) -> bytes:
    """The answer that opens none; the connection is to be closed after it."""
    version = f"Sec-WebSocket-Version: {VERSION}\r\n" if status is HTTPStatus.UPGRADE_REQUIRED else ""
    head = f"HTTP/1.1 {status.value} {status.phrase}\r\nContent-Length: 0\r\nConnection: close\r\n{version}\r\n"
    return head.encode()


def _tokens(value: str) -> set[str]:
    return {token.strip().lower() for token in value.split(",")}


def _is_key(text: str) -> bool:
    try:
        return len(binascii.a2b_base64(text.encode("latin-1"), strict_mode=True)) == KEY_BYTES
    except binascii.Error:
        return False
