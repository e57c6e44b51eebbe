"""TCP and TLS: streams that peers opened, and those that we open to peers (RFC 3261, 18; RFC 5626, 3.5)."""

import asyncio
import ssl
from collections import Counter
from collections.abc import Coroutine
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

from media.sip.message import Framer, Hop, MessageError

if TYPE_CHECKING:
    from media.sip.server import SipOptions

MAX_STREAMS: Final = 5000
MAX_STREAMS_PER_ADDRESS: Final = 200
MAX_WAITING_BYTES: Final = 256 * 1024  # that a peer has not read; more ends its stream
MAX_QUEUED: Final = 100  # messages that wait for a stream to come about
CONNECT_S: Final = 10
FIRST_MESSAGE_S: Final = 20  # in which a new stream has to say something
IDLE_S: Final = 3600


class StreamsListener(Protocol):
    def received(self, data: bytes, hop: Hop) -> bool: ...

    def failed(self, hop: Hop) -> None: ...

    def spawn(self, work: Coroutine[Any, Any, None]) -> None: ...


class Streams:
    """By number, and by where they lead to."""

    def __init__(self, listener: StreamsListener, options: "SipOptions") -> None:
        self.listener = listener
        self.all: dict[int, _Stream] = {}
        self.per_address: Counter[str] = Counter()
        self.refused = 0
        self._options = options
        self._servers: list[asyncio.Server] = []
        self._numbers = count(1)
        self._by_place: dict[tuple[str, str, int], int] = {}
        self._queues: dict[tuple[str, str, int], list[tuple[Hop, bytes]]] = {}

    async def listen(self, host: str, port: int) -> None:
        loop = asyncio.get_running_loop()
        self._servers.append(await loop.create_server(lambda: _Stream(self, "tcp"), host, port))

    async def listen_tls(self, host: str) -> int:
        """The port; where there is no certificate the one that would be. Raises `OSError` and `ssl.SSLError`."""
        options = self._options
        if options.tls_certificate is None:
            return options.tls_port
        context = server_context(options.tls_certificate, options.tls_key)
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: _Stream(self, "tls"), host, options.tls_port, ssl=context)
        self._servers.append(server)
        return int(server.sockets[0].getsockname()[1])

    def send(self, hop: Hop, data: bytes) -> None:
        """By the stream it names, else by one that leads there, else by a new one."""
        place = hop.transport, hop.host, hop.port
        stream = self.all.get(hop.connection) or self.all.get(self._by_place.get(place, 0))
        if stream is not None and stream.hop is not None and stream.hop.transport == hop.transport:
            stream.send(data)
        elif place in self._queues:
            if len(self._queues[place]) < MAX_QUEUED:
                self._queues[place].append((hop, data))
        else:
            self._queues[place] = [(hop, data)]
            self.listener.spawn(self._connect(place))

    async def _connect(self, place: tuple[str, str, int]) -> None:
        transport, host, port = place
        try:
            stream = await self._open(transport, host, port)
        except (OSError, ValueError):  # also where the host is no name
            for hop, _ in self._queues.pop(place, []):
                self.listener.failed(hop)
            return
        self._by_place[place] = stream.number
        for _, data in self._queues.pop(place, []):
            stream.send(data)

    async def _open(self, transport: str, host: str, port: int) -> "_Stream":
        context = client_context(self._options.tls_authorities) if transport == "tls" else None
        async with asyncio.timeout(CONNECT_S):
            _, stream = await asyncio.get_running_loop().create_connection(
                lambda: _Stream(self, transport, opened=True), host, port, ssl=context
            )
        if stream.hop is None:
            raise OSError("there are too many streams")
        return stream

    def add(self, stream: "_Stream", host: str) -> bool:
        full = len(self.all) >= MAX_STREAMS or self.per_address[host] >= MAX_STREAMS_PER_ADDRESS
        if full:
            self.refused += 1
            return False
        stream.number = next(self._numbers)
        self.all[stream.number] = stream
        self.per_address[host] += 1
        return True

    def remove(self, stream: "_Stream", host: str) -> None:
        if self.all.pop(stream.number, None) is None:
            return
        self.per_address[host] -= 1
        if not self.per_address[host]:
            del self.per_address[host]
        for place in [place for place, number in self._by_place.items() if number == stream.number]:
            del self._by_place[place]
            self.listener.failed(Hop(*place))

    def close(self) -> None:
        for server in self._servers:
            server.close()
        for stream in list(self.all.values()):
            stream.close()


class _Stream(asyncio.Protocol):
    """One connection."""

    def __init__(self, streams: Streams, transport: str, *, opened: bool = False) -> None:
        self.number = 0
        self.hop: Hop | None = None
        self._streams = streams
        self._kind = transport
        self._opened = opened  # by us
        self._framer = Framer()
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._heard_s = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        name = transport.get_extra_info("peername") or ("", 0)
        if not self._streams.add(self, name[0]):
            transport.abort()
            return
        transport.set_write_buffer_limits(high=MAX_WAITING_BYTES)
        self.hop = Hop(self._kind, name[0], name[1], self.number)
        if not self._opened:
            self._wait(FIRST_MESSAGE_S)

    def data_received(self, data: bytes) -> None:
        if self.hop is None or self._transport is None:
            return
        self._heard_s = asyncio.get_running_loop().time()
        try:
            for message in self._framer.feed(data):
                if not message:
                    self._transport.write(b"\r\n")  # RFC 5626, 4.4.1
                elif not self._streams.listener.received(message, self.hop):
                    self.close()
                    return
        except MessageError:
            self.close()
            return
        if self._timer is None and not self._opened:
            self._wait(IDLE_S)

    def _wait(self, seconds: float) -> None:
        self._timer = asyncio.get_running_loop().call_later(seconds, self._idle)

    def _idle(self) -> None:
        self._timer = None
        quiet_s = asyncio.get_running_loop().time() - self._heard_s
        if not self._heard_s or quiet_s >= IDLE_S:
            self.close()
        else:
            self._wait(IDLE_S - quiet_s)

    def pause_writing(self) -> None:
        """The peer does not read."""
        if self._transport is not None:
            self._transport.abort()

    def send(self, data: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self.hop is not None:
            self._streams.remove(self, self.hop.host)
            self._streams.listener.failed(self.hop)


def server_context(certificate: Path, key: Path | None) -> ssl.SSLContext:
    """Raises `OSError` and `ssl.SSLError`."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    return context


def client_context(authorities: Path | None) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=authorities)
