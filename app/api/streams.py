"""Server-sent events (WHATWG HTML, 9.2): one stream a viewer, that ends with its viewer."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Final

from fastapi import Response
from starlette.types import Receive, Scope, Send

from app.api.wire import PRIVATE

SEND_S: Final = 30
"""A viewer who takes in nothing for this long is gone."""

KEEP_ALIVE: Final = b": still here\n\n"
"""A comment, so that what lies between keeps the connection."""


class _Gone(Exception):
    """The viewer is."""


class EventStream(Response):
    """Sends what `events` yields, in pieces of the stream's form. They are closed when the viewer goes."""

    def __init__(self, events: AsyncGenerator[bytes, None]) -> None:
        super().__init__(headers={**PRIVATE, "X-Accel-Buffering": "no"}, media_type="text/event-stream")
        del self.headers["content-length"]
        self._events = events

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                waiting = group.create_task(_until_gone(receive))
                await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
                async for piece in self._events:
                    async with asyncio.timeout(SEND_S):
                        await send({"type": "http.response.body", "body": piece, "more_body": True})
                await send({"type": "http.response.body", "body": b""})
                waiting.cancel()
        except* (_Gone, TimeoutError):
            pass
        finally:
            await self._events.aclose()


def event(name: str, data: bytes) -> bytes:
    """`data` has no line breaks, as JSON from `msgspec` has none."""
    return b"event: " + name.encode() + b"\ndata: " + data + b"\n\n"


def message(data: str) -> bytes:
    return b"data: " + data.encode() + b"\n\n"


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    raise _Gone
