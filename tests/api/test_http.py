"""Health, as everybody may ask for it."""

import asyncio
from typing import Any

import pytest

from app.api import http
from app.runtime.registry import Registry


@pytest.mark.parametrize("path", ["/health", "/ready"])
async def test_it_is_answered_where_the_calls_are_and_in_no_thread(path: str) -> None:
    loops: list[asyncio.AbstractEventLoop] = []

    def trouble() -> str:
        loops.append(asyncio.get_running_loop())
        return ""

    registry = Registry(max_calls=1, max_calls_per_address=1)
    app = http.create(registry, version="1", flows=["talk"], trouble=trouble)
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "GET", "path": path, "headers": [], "query_string": b""}
    await app(scope, receive, send)
    assert sent[0]["status"] == 200
    assert set(loops) == {asyncio.get_running_loop()}
