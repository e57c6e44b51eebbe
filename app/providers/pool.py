"""Connections to a model that are used again, and what makes that safe between callers.

HTTP/1.1 matches answers to requests by their order alone. A used connection on which something arrived while nobody
asked (a far side or a proxy that answered twice) would give its next user an answer that was meant for another call.
Neither `aiohttp` nor the vendor's client looks before it takes one from its pool, and both keep the places to look
private: all use of their internals is here. What arrives only after the next request was sent, no client can tell.
"""

import select
from typing import Any

import aiohttp
import httpx2
from aiohttp.client_proto import ResponseHandler
from openai._vendor.httpx_aiohttp import Httpx2AiohttpClient
from openai._vendor.httpx_aiohttp.transport import AiohttpTransport

KEEPALIVE_S = 30  # a caller's next turn is mostly sooner


def http_client(connections: int) -> httpx2.AsyncClient:
    """The vendor's client over such a pool, with the environment's proxies and certificates. Close it."""
    limits = httpx2.Limits(max_connections=connections, keepalive_expiry=KEEPALIVE_S)
    return _Client(limits=limits, follow_redirects=False)


class CleanConnector(aiohttp.TCPConnector):
    """Hands out no used connection on which anything has arrived."""

    async def _get(self, key: Any, traces: Any) -> Any:
        while (connection := await super()._get(key, traces)) is not None:
            if _silent(connection.protocol):
                return connection
            connection.close()
        return None


def _silent(protocol: ResponseHandler | None) -> bool:
    """Nothing came, neither data nor the end, and nothing waits in the socket to be read."""
    if protocol is None or protocol.transport is None or protocol.should_close:
        return False
    waiting = select.poll()
    waiting.register(protocol.transport.get_extra_info("socket").fileno(), select.POLLIN)
    return not waiting.poll(0)


class _Transport(AiohttpTransport):
    def get_client(self) -> aiohttp.ClientSession:
        limits = self.limits
        connector = CleanConnector(
            limit=limits.max_connections or 0, keepalive_timeout=limits.keepalive_expiry, ssl=self.ssl_context
        )
        return aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar())


class _Client(Httpx2AiohttpClient):
    def _init_transport(self, *_: Any, **given: Any) -> httpx2.AsyncBaseTransport:
        return _Transport(**given)

    def _init_proxy_transport(self, proxy: httpx2.Proxy, *_: Any, **given: Any) -> httpx2.AsyncBaseTransport:
        return _Transport(**given, proxy=proxy)
