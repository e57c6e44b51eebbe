"""TCP and TLS: streams that peers opened, and those that we open to peers (RFC 3261, 18; RFC 5626, 3.5)."""

import asyncio
import ssl
from collections import Counter
from collections.abc import Coroutine
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

from media.sip.guard import Trust
from media.sip.message import Framer, Hop, MessageError

if TYPE_CHECKING:
    from media.sip.server import SipOptions

MAX_STREAMS: Final = 5000
MAX_STREAMS_PER_ADDRESS: Final = 200
MAX_STRANGERS: Final = 1000  # streams of those who have not signed in
MAX_STRANGERS_PER_ADDRESS: Final = 10
STRANGER_S: Final = 30  # in which a stranger has to sign in
MAX_PLACES: Final = 100  # to which streams come about at once
HANDSHAKE_S: Final = 10
MAX_WAITING_BYTES: Final = 256 * 1024  # that a peer has not read; more ends its stream
MAX_QUEUED: Final = 100  # messages that wait for a stream to come about
CONNECT_S: Final = 10
FIRST_MESSAGE_S: Final = 20  # in which a new stream has to say something
IDLE_S: Final = 3600


class StreamsListener(Protocol):
    def welcomes(self, host: str) -> Trust: ...

    def received(self, data: bytes, hop: Hop) -> bool: ...

    def offended(self, hop: Hop) -> None: ...

    def failed(self, hop: Hop) -> None: ...

    def spawn(self, work: Coroutine[Any, Any, None]) -> None: ...


class Streams:
    """By number, and by where they lead to."""

    def __init__(self, listener: StreamsListener, options: "SipOptions") -> None:
        self.listener = listener
        self.all: dict[int, _Stream] = {}
        self.per_address: Counter[str] = Counter()
        self.strangers: Counter[str] = Counter()
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
        server = await loop.create_server(lambda: _Stream(self, "tls", context=context), host, options.tls_port)
        self._servers.append(server)
        return int(server.sockets[0].getsockname()[1])

    def opened(self, number: int) -> bool:
        """Whether this stream is one that we opened."""
        found = self.all.get(number)
        return found is not None and found.ours

    def send(self, hop: Hop, data: bytes) -> None:
        """By the stream it names, else by one that leads there, else by a new one."""
        place = hop.transport, hop.host, hop.port
        stream = self.all.get(hop.connection) or self.all.get(self._by_place.get(place, 0))
        if stream is not None and stream.hop is not None and stream.hop.transport == hop.transport:
            stream.send(data)
        elif place in self._queues:
            if len(self._queues[place]) < MAX_QUEUED:
                self._queues[place].append((hop, data))
        elif len(self._queues) >= MAX_PLACES:
            asyncio.get_running_loop().call_soon(self.listener.failed, hop)
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
        """Whether there is room for it. Those whom nobody knows yet leave most of the room to others."""
        full = len(self.all) >= MAX_STREAMS or self.per_address[host] >= MAX_STREAMS_PER_ADDRESS
        if stream.stranger:
            full = full or self.strangers.total() >= MAX_STRANGERS or self.strangers[host] >= MAX_STRANGERS_PER_ADDRESS
        if full:
            self.refused += 1
            return False
        stream.number = next(self._numbers)
        self.all[stream.number] = stream
        _count(self.per_address, host, 1)
        if stream.stranger:
            _count(self.strangers, host, 1)
        return True

    def signed_in(self, number: int) -> None:
        """Whoever is at the other end of this stream has shown who it is."""
        stream = self.all.get(number)
        if stream is not None and stream.stranger and stream.hop is not None:
            stream.stranger = False
            _count(self.strangers, stream.hop.host, -1)

    def remove(self, stream: "_Stream", host: str) -> None:
        if self.all.pop(stream.number, None) is None:
            return
        _count(self.per_address, host, -1)
        if stream.stranger:
            _count(self.strangers, host, -1)
        for place in [place for place, number in self._by_place.items() if number == stream.number]:
            del self._by_place[place]
            self.listener.failed(Hop(*place))

    def stop(self) -> None:
        """Nobody new is let in, and nobody is waited for who has not finished a handshake."""
        for server in self._servers:
            server.close()
        for stream in [one for one in self.all.values() if one.shaking]:
            stream.abort()

    def close(self) -> None:
        self.stop()
        for stream in list(self.all.values()):
            stream.close()


def _count(counter: Counter[str], host: str, by: int) -> None:
    counter[host] += by
    if not counter[host]:
        del counter[host]


class _Stream(asyncio.Protocol):
    """One connection."""

    def __init__(
        self, streams: Streams, transport: str, *, opened: bool = False, context: ssl.SSLContext | None = None
    ) -> None:
        """`opened`: by us. `context`: of a stream that was opened to us, whose handshake is still to come."""
        self.number = 0
        self.hop: Hop | None = None
        self.stranger = False  # it has not signed in
        self.shaking = context is not None
        self._streams = streams
        self._kind = transport
        self.ours = opened
        self._context = context
        self._framer = Framer()
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._began_s = asyncio.get_running_loop().time()
        self._heard_s = 0.0  # when its last message was whole

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        if self.hop is not None:
            return  # after a handshake, where the event loop says so
        self._transport = transport
        host, port, *_ = transport.get_extra_info("peername") or ("", 0)
        trust = Trust.allowed if self.ours else self._streams.listener.welcomes(host)
        self.stranger = trust is Trust.unknown
        if trust is Trust.dropped or not self._streams.add(self, host):
            transport.abort()
            return
        transport.set_write_buffer_limits(high=MAX_WAITING_BYTES)
        self.hop = Hop(self._kind, host, port, self.number)
        if not self.ours:
            self._wait(FIRST_MESSAGE_S)
        if self._context is not None:
            transport.pause_reading()
            self._streams.listener.spawn(self._shake(transport, self._context))

    async def _shake(self, transport: asyncio.Transport, context: ssl.SSLContext) -> None:
        loop = asyncio.get_running_loop()
        try:
            secured = await loop.start_tls(
                transport, self, context, server_side=True, ssl_handshake_timeout=HANDSHAKE_S
            )
        except (OSError, ValueError):
            secured = None
        self.shaking = False
        if secured is None or transport.is_closing():
            transport.abort()
            self.connection_lost(None)
            return
        self._transport = secured
        secured.set_write_buffer_limits(high=MAX_WAITING_BYTES)

    def data_received(self, data: bytes) -> None:
        if self.hop is None or self._transport is None:
            return
        try:
            for message in self._framer.feed(data):
                self._heard_s = asyncio.get_running_loop().time()
                if message and not self._streams.listener.received(message, self.hop):
                    self.close()
                    return
                if not message and not self.stranger:
                    self._transport.write(b"\r\n")  # RFC 5626, 4.4.1
        except MessageError:
            self._streams.listener.offended(self.hop)
            self.close()

    def _wait(self, seconds: float) -> None:
        self._timer = asyncio.get_running_loop().call_later(seconds, self._idle)

    def _idle(self) -> None:
        """Who says nothing whole, or is still a stranger, has to go: half a message is none."""
        self._timer = None
        now_s = asyncio.get_running_loop().time()
        until_s = self._heard_s + IDLE_S
        if self.stranger:
            until_s = min(until_s, self._began_s + STRANGER_S)
        if not self._heard_s or now_s >= until_s:
            self.close()
        else:
            self._wait(min(until_s - now_s, STRANGER_S) if self.stranger else until_s - now_s)

    def pause_writing(self) -> None:
        """The peer does not read."""
        self.abort()

    def send(self, data: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    def close(self) -> None:
        if self.shaking:
            self.abort()
        elif self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self.hop is not None and self.number in self._streams.all:
            self._streams.remove(self, self.hop.host)
            self._streams.listener.failed(self.hop)


def server_context(certificate: Path, key: Path | None) -> ssl.SSLContext:
    """Raises `OSError` and `ssl.SSLError`."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    return context


def client_context(authorities: Path | None) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=authorities)
