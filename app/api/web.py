"""Uvicorn, bounded: what it leaves open for a peer that is silent, slow or wrong is closed here."""

import asyncio
import logging
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, Protocol

import h11
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from app.settings import StartError
from media.websocket.handshake import Opening

REQUEST_TIMEOUT_S: Final = 10  # from connecting, or from the last answer, until a request is here with its body
UNREAD_TIMEOUT_S: Final = 30  # for which a peer may not read its answers, once they fill all buffers
MAX_HANDSHAKE_BYTES: Final = 8000  # of a WebSocket's opening request; below what the library takes for one line
MAX_HANDSHAKE_HEADERS: Final = 100  # below what the library takes
LISTEN_BACKLOG: Final = 1024
SEND_BUFFER_BYTES: Final = 64 * 1024
"""What the system keeps for a peer that does not read: seconds of audio, where its own default is minutes."""


def listen(host: str, port: int) -> socket.socket:
    """Bound here, so that a port in use is one clear line. Raises `StartError`."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)  # accepted connections inherit it
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise StartError(f"cannot listen on {host}:{port}: {error.strerror}; choose another with --port") from error
    listener.listen(LISTEN_BACKLOG)
    return listener


class Sockets(Protocol):
    """Takes over connections that ask for a WebSocket."""

    def open(self, opening: Opening, transport: asyncio.Transport, data: bytes) -> None: ...


class WebServer(uvicorn.Server):
    """Without its own signal handling: the process's signals mean drain, and are ours."""

    def __init__(self, app: ASGIApp, sockets: Sockets | None = None) -> None:
        # Below this level it logs addresses with their queries, and at debug every message with what was said in it.
        logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
        super().__init__(
            _Config(
                app,
                sockets,
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,  # the peer's address is the socket's, never a header's
                http=_Http,
                ws="none",  # Uvicorn's own shell costs more than all that a call does: see docs/performance.md
                timeout_graceful_shutdown=5,
            )
        )

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class _Config(uvicorn.Config):
    def __init__(self, app: ASGIApp, sockets: Sockets | None, **rest: Any) -> None:
        super().__init__(app, **rest)
        self.sockets = sockets


class _Http(H11Protocol):
    """A connection until it is a WebSocket's, of which Uvicorn then knows no more."""

    config: _Config
    _timer: asyncio.TimerHandle | None = None
    _unread: asyncio.TimerHandle | None = None

    def _should_upgrade_to_ws(self) -> bool:
        return self.config.sockets is not None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as Uvicorn does
        super().connection_made(transport)
        self._await_request()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        self._stop_unread()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._unread = self.loop.call_later(UNREAD_TIMEOUT_S, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._stop_unread()

    def on_response_complete(self) -> None:
        self._await_request()
        super().on_response_complete()  # which may begin with the next request, and with a WebSocket

    def handle_websocket_upgrade(self, event: h11.Request) -> None:
        self._stop_waiting()
        if self.flow.write_paused:  # which nobody would tell the WebSocket
            self.transport.abort()
            return
        size_bytes = len(event.target) + sum(len(name) + len(value) for name, value in event.headers)
        if size_bytes > MAX_HANDSHAKE_BYTES or len(event.headers) > MAX_HANDSHAKE_HEADERS:
            self.send_400_response("The request is too large.")
            return
        self.connections.discard(self)
        scheme, peer = ("wss" if self.scheme == "https" else "ws"), (self.client or ("", 0))[0]
        opening = Opening(event.method, event.target, list(event.headers), scheme, peer)
        data, _ = self.conn.trailing_data
        assert self.config.sockets is not None
        self.config.sockets.open(opening, self.transport, data)

    def _await_request(self) -> None:
        self._stop_waiting()
        self._timer = self.loop.call_later(REQUEST_TIMEOUT_S, self._late)

    def _stop_waiting(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _stop_unread(self) -> None:
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None

    def _late(self) -> None:
        if self.cycle is None or self.cycle.response_complete or self.cycle.more_body:
            self.transport.abort()
