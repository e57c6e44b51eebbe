"""A far side for tools: it answers each request with the next of its answers and notes what it was sent."""

import asyncio
import json
from dataclasses import dataclass
from types import TracebackType
from typing import Any


@dataclass(frozen=True)
class Asked:
    method: str
    target: str  # path and query, as they were on the wire
    headers: dict[str, str]
    body: bytes


def reply(status: int = 200, body: Any = b"", **headers: str) -> bytes:
    """A whole answer; what is not bytes is sent as JSON."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    more = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    return f"HTTP/1.1 {status} X\r\nContent-Length: {len(data)}\r\n{more}\r\n".encode() + data


class HttpServer:
    """An answer is bytes, `None` to break the connection, or a number of seconds to wait before breaking it.

    The last one is repeated. Bytes that are no whole answer are followed by the end of the connection if `cut`.
    """

    def __init__(self, *answers: bytes | float | None, cut: bool = False) -> None:
        self._answers = answers
        self._cut = cut
        self._writers: set[asyncio.StreamWriter] = set()
        self.asked: list[Asked] = []
        self.connections = 0
        self.host = ""
        self.url = ""

    async def __aenter__(self) -> "HttpServer":
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = int(self._server.sockets[0].getsockname()[1])
        self.host = f"127.0.0.1:{self.port}"
        self.url = f"http://{self.host}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self._server.close()
        for writer in list(self._writers):
            writer.close()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.add(writer)
        try:
            while True:
                await self._read(reader)
                answer = self._answers[min(len(self.asked), len(self._answers)) - 1]
                if isinstance(answer, bytes):
                    writer.write(answer)
                    await writer.drain()
                    if not self._cut:
                        continue
                else:
                    await asyncio.sleep(answer or 0)
                return
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            self._writers.discard(writer)
            writer.close()

    async def _read(self, reader: asyncio.StreamReader) -> None:
        line, *fields = (await reader.readuntil(b"\r\n\r\n")).decode().strip().split("\r\n")
        method, target, _ = line.split(" ")
        headers = {name.lower(): value.strip() for name, _, value in (text.partition(":") for text in fields)}
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        self.asked.append(Asked(method, target, headers, body))
