"""A model server that speaks the chat-completions protocol over real sockets and does as its script says.

A script has one scenario for each request, in order; the last one is repeated. A scenario is a sequence of steps. The
server notes what it was asked and when a client goes away.
"""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

DONE = b"data: [DONE]\n\n"
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
TAIL = b"0\r\n\r\n"


@dataclass(frozen=True)
class Status:
    """Answer with this and end; only as a scenario's first step."""

    code: int
    body: bytes = b'{"error": {"message": "no"}}'
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Pause:
    seconds: float


@dataclass(frozen=True)
class Surplus:
    """Bytes that nobody asked for, in one write with the answer's end; only as a scenario's last step."""

    data: bytes


class Stall:
    """Send nothing more and wait until the client goes away."""


class Cut:
    """Break the connection."""


@dataclass
class Exchange:
    headers: dict[str, str]
    body: dict[str, Any]
    connection: int
    gone: asyncio.Event = field(default_factory=asyncio.Event)  # the client went away before the end
    ended: bool = False  # the scenario was played to its end


def chunk(delta: dict[str, Any], finish: str | None = None, **more: Any) -> bytes:
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
    whole = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}
    return event(whole | more)


def event(data: object) -> bytes:
    return b"data: " + json.dumps(data).encode() + b"\n\n"


def words(*pieces: str) -> list[bytes]:
    return [chunk({"role": "assistant", "content": ""}), *(chunk({"content": piece}) for piece in pieces)]


def call(index: int, call_id: str, name: str, *arguments: str) -> list[bytes]:
    head = chunk({"tool_calls": [{"index": index, "id": call_id, "type": "function", "function": {"name": name}}]})
    rest = [chunk({"tool_calls": [{"index": index, "function": {"arguments": piece}}]}) for piece in arguments]
    return [head, *rest]


def end(reason: str = "stop", *, usage: tuple[int, int] | None = (11, 7)) -> list[bytes]:
    tokens = []
    if usage is not None:
        counted = {"prompt_tokens": usage[0], "completion_tokens": usage[1], "total_tokens": sum(usage)}
        tokens = [event({"id": "chatcmpl-1", "object": "chat.completion.chunk", "choices": [], "usage": counted})]
    return [chunk({}, reason), *tokens, DONE]


def answer(*pieces: bytes) -> bytes:
    """A whole answer as it is on the wire."""
    return HEAD + b"".join(map(_piece, pieces)) + TAIL


class OpenAiServer:
    """`async with OpenAiServer(scenario, ...) as server:` and ask `server.base_url`."""

    def __init__(self, *scenarios: Sequence[Any]) -> None:
        self._scenarios = scenarios
        self._connections = 0
        self._writers: set[asyncio.StreamWriter] = set()
        self.exchanges: list[Exchange] = []
        self.asked = asyncio.Semaphore(0)  # released once for each request
        self.base_url = ""

    async def __aenter__(self) -> "OpenAiServer":
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.base_url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/v1"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, e: BaseException | None, t: TracebackType | None
    ) -> None:
        self._server.close()
        for writer in list(self._writers):
            writer.close()
        await self._server.wait_closed()

    @property
    def connections(self) -> int:
        return self._connections

    def blurt(self, data: bytes) -> None:
        """Send this on all connections before anybody else gets to run; no data is the end."""
        for writer in self._writers:
            if data:
                writer.write(data)
            else:
                writer.write_eof()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections += 1
        connection = self._connections
        self._writers.add(writer)
        try:
            while True:
                exchange = await self._asked(reader, connection)
                number = min(len(self.exchanges), len(self._scenarios) - 1)
                self.exchanges.append(exchange)
                self.asked.release()
                try:
                    if not await self._play(self._scenarios[number], exchange, reader, writer):
                        return
                except ConnectionError:
                    exchange.gone.set()
                    return
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            self._writers.discard(writer)
            writer.close()

    async def _asked(self, reader: asyncio.StreamReader, connection: int) -> Exchange:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        line, *fields = head.strip().split("\r\n")
        assert line == "POST /v1/chat/completions HTTP/1.1"
        headers = {name.lower(): value.strip() for name, _, value in (text.partition(":") for text in fields)}
        body = json.loads(await reader.readexactly(int(headers["content-length"])))
        return Exchange(headers, body, connection)

    async def _play(
        self, steps: Sequence[Any], exchange: Exchange, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        """Whether the connection may be used again."""
        started = False
        surplus = b""
        for step in steps:
            match step:
                case Surplus():
                    surplus = step.data
                case Status():
                    more = "".join(f"{name}: {value}\r\n" for name, value in step.headers)
                    head = f"HTTP/1.1 {step.code} X\r\nContent-Length: {len(step.body)}\r\n{more}\r\n"
                    writer.write(head.encode() + step.body)
                    await writer.drain()
                    exchange.ended = True
                    return True
                case Pause():
                    await asyncio.sleep(step.seconds)
                case Stall():
                    assert await reader.read(1) == b""
                    exchange.gone.set()
                    return False
                case Cut():
                    writer.transport.abort()
                    return False
                case bytes():
                    if not started:
                        started = True
                        writer.write(HEAD)
                    writer.write(_piece(step))
                    await writer.drain()
        writer.write(TAIL + surplus)
        await writer.drain()
        exchange.ended = True
        return True


def _piece(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)
