"""Connections to a model that are used again, and the one thing that makes that safe between callers.

HTTP/1.1 matches answers to requests by their order alone. A used connection on which something arrived while nobody
asked (a far side or a proxy that answered twice) would give its next user an answer that was meant for another call.
Neither `aiohttp` nor the vendor's client looks before it takes one from its pool, and both keep the place to look
private: all use of their internals is here. What arrives only after the next request was sent, no client can tell.
"""

from typing import Any

import aiohttp
import httpx2
from openai import DefaultAioHttpClient
from openai._vendor.httpx_aiohttp.transport import AiohttpTransport

KEEPALIVE_S = 30  # a caller's next turn is mostly sooner


class CleanConnector(aiohttp.TCPConnector):
    """Hands out no used connection that holds anything."""

    async def _get(self, key: Any, traces: Any) -> Any:
        while (connection := await super()._get(key, traces)) is not None:
            if connection.protocol is not None and not connection.protocol.should_close:
                return connection
            connection.close()
        return None


def http_client(connections: int) -> httpx2.AsyncClient:
    """The vendor's client over such a pool. Close it; its timeouts and redirects are its user's."""
    trusted = httpx2.create_ssl_context()

    def session() -> aiohttp.ClientSession:
        connector = CleanConnector(limit=connections, keepalive_timeout=KEEPALIVE_S, ssl=trusted)
        return aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar())

    return DefaultAioHttpClient(transport=AiohttpTransport(client=session), follow_redirects=False)
