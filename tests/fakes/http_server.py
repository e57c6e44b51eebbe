"""A far side for tools: it answers each request with the next of its answers and notes what it was sent."""

import asyncio
import json
from typing import Any

from tests.fakes.local_server import Asked, LocalServer


def reply(status: int = 200, body: Any = b"", **headers: str) -> bytes:
    """A whole answer; what is not bytes is sent as JSON."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    more = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    return f"HTTP/1.1 {status} X\r\nContent-Length: {len(data)}\r\n{more}\r\n".encode() + data


class HttpServer(LocalServer):
    """An answer is bytes, `None` to break the connection, or a number of seconds to wait before breaking it.

    The last one is repeated. Bytes that are no whole answer are followed by the end of the connection if `cut`.
    """

    def __init__(self, *answers: bytes | float | None, cut: bool = False) -> None:
        super().__init__()
        self._answers = answers
        self._cut = cut
        self.asked: list[Asked] = []

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        return f"http://{self.host}"

    async def _answer(
        self, asked: Asked, connection: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        self.asked.append(asked)
        answer = self._answers[min(len(self.asked), len(self._answers)) - 1]
        if isinstance(answer, bytes):
            writer.write(answer)
            await writer.drain()
            return not self._cut
        await asyncio.sleep(answer or 0)
        return False
