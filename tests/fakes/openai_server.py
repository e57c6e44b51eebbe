"""A model server that speaks the chat-completions protocol over real sockets and does as its script says.

A script has one scenario for each request, in order; the last one is repeated. A scenario is a sequence of steps. The
server notes what it was asked and when a client goes away.
"""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.fakes.local_server import Asked, LocalServer

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


class OpenAiServer(LocalServer):
    """`async with OpenAiServer(scenario, ...) as server:` and ask `server.base_url`."""

    def __init__(self, *scenarios: Sequence[Any]) -> None:
        super().__init__()
        self._scenarios = scenarios
        self.exchanges: list[Exchange] = []
        self.asked = asyncio.Semaphore(0)  # released once for each request

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def blurt(self, data: bytes) -> None:
        """Send this on all connections before anybody else gets to run; no data is the end."""
        for writer in self._writers:
            if data:
                writer.write(data)
            else:
                writer.write_eof()

    async def _answer(
        self, asked: Asked, connection: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        assert (asked.method, asked.target) == ("POST", "/v1/chat/completions")
        exchange = Exchange(asked.headers, json.loads(asked.body), connection)
        number = min(len(self.exchanges), len(self._scenarios) - 1)
        self.exchanges.append(exchange)
        self.asked.release()
        try:
            return await self._play(self._scenarios[number], exchange, reader, writer)
        except ConnectionError:
            exchange.gone.set()
            return False

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
