"""Uvicorn, bounded: what it leaves open for a peer that is silent, slow or wrong is closed here."""

import asyncio
import logging
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import h11
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import CloseCode

from app.settings import StartError
from media.websocket.protocol import CLOSE_NUMBERS, MAX_MESSAGE_BYTES, Allowance, ProtocolError

REQUEST_TIMEOUT_S: Final = 10  # from connecting, or from the last answer, until a request is here with its body
MAX_HANDSHAKE_BYTES: Final = 8000  # of a WebSocket's opening request; below what the library takes for one line
MAX_HANDSHAKE_HEADERS: Final = 100  # below what the library takes
SLICE_BYTES: Final = 4096  # of what came, between two looks at the number of frames; the smallest has 6 bytes
FRAMES_PER_S: Final = 1000  # of a WebSocket, pings and parts of messages included
FRAMES_BURST: Final = 5000
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


class WebServer(uvicorn.Server):
    """Without its own signal handling: the process's signals mean drain, and are ours."""

    def __init__(self, app: ASGIApp) -> None:
        # Below this level it logs addresses with their queries, and at debug every message with what was said in it.
        logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
        super().__init__(
            uvicorn.Config(
                app,
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,  # the peer's address is the socket's, never a header's
                http=_Http,
                ws=_WebSocket,
                ws_max_size=MAX_MESSAGE_BYTES,
                ws_per_message_deflate=False,
                timeout_graceful_shutdown=5,
            )
        )

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class _Http(H11Protocol):
    """A connection until it is a WebSocket's."""

    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as Uvicorn does
        super().connection_made(transport)
        self._await_request()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        super().connection_lost(exc)

    def on_response_complete(self) -> None:
        self._await_request()
        super().on_response_complete()  # which may begin with the next request, and with a WebSocket

    def handle_websocket_upgrade(self, event: h11.Request) -> None:
        self._stop_waiting()
        size_bytes = len(event.target) + sum(len(name) + len(value) for name, value in event.headers)
        if size_bytes > MAX_HANDSHAKE_BYTES or len(event.headers) > MAX_HANDSHAKE_HEADERS:
            self.send_400_response("The request is too large.")
            return
        super().handle_websocket_upgrade(event)
        protocol = self.transport.get_protocol()
        if isinstance(protocol, _WebSocket) and not protocol.handshake_initiated:
            self.transport.abort()  # no such request, says the library, and Uvicorn would leave the connection open

    def _await_request(self) -> None:
        self._stop_waiting()
        self._timer = self.loop.call_later(REQUEST_TIMEOUT_S, self._late)

    def _stop_waiting(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _late(self) -> None:
        if self.cycle is None or self.cycle.response_complete or self.cycle.more_body:
            self.transport.abort()


class _WebSocket(WebSocketsSansIOProtocol):
    """The protocols above count messages. What is no message yet, or never will be, keeps the loop as busy."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._frames = Allowance(FRAMES_PER_S, FRAMES_BURST)

    def data_received(self, data: bytes) -> None:
        for at in range(0, len(data), SLICE_BYTES):
            super().data_received(data[at : at + SLICE_BYTES])
            if self.transport.is_closing():
                return

    def handle_events(self) -> None:
        now_ms = int(self.loop.time() * 1000)
        try:
            for _ in self.conn.events:
                self._frames.take(now_ms)
        except ProtocolError as error:
            self._fail(CLOSE_NUMBERS[error.code], error.reason)
        super().handle_events()

    def send_receive_event_to_app(self) -> None:
        """A text that is no UTF-8 ends the connection. Left to Uvicorn it is a traceback, at a peer's will."""
        if self.curr_msg_data_type == "text" and not self.close_sent:
            try:
                b"".join(self.frames).decode()
            except UnicodeDecodeError:
                self._fail(CloseCode.INVALID_DATA)
                return
        super().send_receive_event_to_app()

    def _fail(self, code: int, reason: str = "") -> None:
        """Close, and pass over all that comes still."""
        self.conn.fail(code, reason)
        self.handle_parser_exception()
