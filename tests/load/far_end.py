"""A WebSocket server by hand: it answers as a test wants, byte by byte, right or wrong."""

import asyncio
import base64
import hashlib
import json
import re
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

PATIENCE_S = 10
GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


def frame(opcode: int, payload: bytes, *, last: bool = True, reserved: int = 0) -> bytes:
    """As a server sends it: unmasked."""
    first = bytes(((0x80 if last else 0) | reserved | opcode,))
    if len(payload) < 126:
        return first + bytes((len(payload),)) + payload
    if len(payload) < 1 << 16:
        return first + b"\x7e" + len(payload).to_bytes(2) + payload
    return first + b"\x7f" + len(payload).to_bytes(8) + payload


def text(message: Any) -> bytes:
    return frame(1, json.dumps(message).encode())


def goodbye(code: int, reason: str = "") -> bytes:
    return frame(8, code.to_bytes(2) + reason.encode())


class Peer:
    """One connection that was accepted."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: str) -> None:
        self.request = request
        self._reader = reader
        self._writer = writer

    async def send(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def receive(self) -> tuple[int, bytes]:
        """The next frame's opcode and payload. Raises `EOFError` when it is closed."""
        first, second = await self._reader.readexactly(2)
        assert second & 0x80, "a client masks"
        size = second & 0x7F
        if size >= 126:
            size = int.from_bytes(await self._reader.readexactly(2 if size == 126 else 8))
        mask = await self._reader.readexactly(4)
        payload = await self._reader.readexactly(size)
        return first & 0x0F, bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload))

    async def message(self) -> Any:
        """The next JSON message; audio before it is passed over."""
        while True:
            opcode, payload = await self.receive()
            if opcode == 1:
                return json.loads(payload)

    def abort(self) -> None:
        self._writer.transport.abort()


Behaviour = Callable[[Peer], Awaitable[None]]


@asynccontextmanager
async def far_end(
    behaviour: Behaviour, *, answer: bytes | None = None, context: ssl.SSLContext | None = None
) -> AsyncIterator[str]:
    """Its address. `answer` is given instead of the handshake's; what goes wrong in `behaviour` is raised here."""
    troubles: list[BaseException] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            request = (await reader.readuntil(b"\r\n\r\n")).decode()
            key = re.search(r"Sec-WebSocket-Key: (\S+)", request)
            assert key is not None
            accept = base64.b64encode(hashlib.sha1((key[1] + GUID).encode()).digest()).decode()
            writer.write(
                answer
                if answer is not None
                else (
                    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                    f"Sec-WebSocket-Accept: {accept}\r\n\r\n"
                ).encode()
            )
            if answer is None:
                await behaviour(Peer(reader, writer, request))
        except (EOFError, ConnectionError):
            pass
        except (AssertionError, TimeoutError) as trouble:
            troubles.append(trouble)
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    port = server.sockets[0].getsockname()[1]
    async with server:
        yield f"{'ws' if context is None else 'wss'}://127.0.0.1:{port}/ws/audio"
    assert not troubles, troubles


class Heard:
    """A listener that keeps what it is told."""

    def __init__(self) -> None:
        self.payloads: list[bytes] = []
        self.told: list[tuple[str, ...]] = []
        self._changed = asyncio.Event()

    def audio(self, payload: bytes, at_s: float, media_s: float | None) -> None:
        self.payloads.append(payload)
        self._changed.set()

    def cleared(self, at_s: float) -> None:
        self._tell("cleared")

    def caption(self, who: str, text: str) -> None:
        self._tell("caption", who, text)

    def ended(self, cause: str, outcome: str) -> None:
        self._tell("ended", cause, outcome)

    def failed(self, kind: str) -> None:
        self._tell("failed", kind)

    def _tell(self, *what: str) -> None:
        self.told.append(what)
        self._changed.set()

    async def until(self, true: Callable[[], object]) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not true():
                self._changed.clear()
                await self._changed.wait()
