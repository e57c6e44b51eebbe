"""TCP and TLS: streams that peers opened, and those that we open to peers (RFC 3261, 18; RFC 5626, 3.5)."""

import asyncio
import errno
import logging
import os
import socket
import ssl
from collections import Counter
from collections.abc import Coroutine
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any, Final, Literal, Protocol, Self, cast

from media.sip.guard import Trust
from media.sip.message import Framer, Hop, MessageError
from media.sip.options import SipOptions
from media.source import source

log = logging.getLogger("voicegate.sip")

MAX_STREAMS: Final = 5000
MAX_STREAMS_PER_ADDRESS: Final = 200
MAX_STRANGERS: Final = 1000  # streams of those who have not signed in
MAX_STRANGERS_PER_ADDRESS: Final = 10
STRANGER_S: Final = 30  # in which a stranger has to sign in
MAX_PLACES: Final = 100  # to which streams come about at once
HANDSHAKE_S: Final = 10
MAX_AT_ONCE: Final = 100  # connections that wait to be accepted
FULL_S: Final = 1  # before the next one is accepted when too many files are open
MAX_WAITING_BYTES: Final = 256 * 1024  # that a peer has not read; more ends its stream
MAX_QUEUED: Final = 100  # messages that wait for a stream to come about
CONNECT_S: Final = 10
FIRST_MESSAGE_S: Final = 20  # in which a new stream has to say something
IDLE_S: Final = 3600


class ListenError(OSError):
    """One of our sockets does not stand; `str()` says why, and `blame` which of `SipOptions` it is about."""

    def __init__(self, reason: str, blame: Literal["host", "port", "tls_port", "tls_certificate"]) -> None:
        super().__init__(reason)
        self.blame = blame

    @classmethod
    def of_bind(cls, error: OSError, host: str, port: int, *, tls: bool = False) -> Self:
        """`error` as loops raise it: uvloop's, for datagrams, has its number in its cause alone."""
        cause = error.__cause__ if error.errno is None and isinstance(error.__cause__, OSError) else error
        reason = f"{host}:{port}: {os.strerror(cause.errno) if cause.errno is not None else cause}"
        if cause.errno == errno.EADDRNOTAVAIL:
            return cls(reason, "host")
        return cls(reason, "tls_port" if tls else "port")


class StreamsListener(Protocol):
    def welcomes(self, host: str) -> Trust: ...

    def received(self, data: bytes, hop: Hop) -> bool: ...

    def offended(self, hop: Hop) -> None: ...

    def failed(self, hop: Hop) -> None: ...

    def spawn(self, work: Coroutine[Any, Any, None]) -> None: ...


class Streams:
    """By number, and by where they lead to."""

    def __init__(self, listener: StreamsListener, options: SipOptions) -> None:
        self.listener = listener
        self.all: dict[int, _Stream] = {}
        self.per_address: Counter[str] = Counter()
        self.strangers: Counter[str] = Counter()
        self.ours: Counter[str] = Counter()  # that we opened
        self.refused = 0
        self._options = options
        self._servers: list[asyncio.Server | _Door] = []
        self._numbers = count(1)
        self._by_place: dict[tuple[str, str, int], int] = {}
        self._queues: dict[tuple[str, str, int], list[tuple[Hop, bytes]]] = {}

    async def listen(self, host: str, port: int) -> None:
        """Raises `ListenError`."""
        loop = asyncio.get_running_loop()
        try:
            self._servers.append(await loop.create_server(lambda: _Stream(self, "tcp"), host, port))
        except OSError as error:
            raise ListenError.of_bind(error, host, port) from error

    async def listen_tls(self, host: str) -> int:
        """The port; where there is no certificate the one that would be. Raises `ListenError`."""
        options = self._options
        if options.tls_certificate is None:
            return options.tls_port
        context = server_context(options.tls_certificate, options.tls_key)
        try:
            door = _Door(self, host, options.tls_port, context)
        except OSError as error:
            raise ListenError.of_bind(error, host, options.tls_port, tls=True) from error
        self._servers.append(door)
        return door.port

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
        except (OSError, ValueError) as error:  # also where the host is no name
            log.warning("no way to %s by %s: %s", host, transport, _reason(error))
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
        site = site_of(host)
        full = len(self.all) >= MAX_STREAMS or self.per_address[site] >= MAX_STREAMS_PER_ADDRESS
        if stream.stranger:
            full = full or self.strangers.total() >= MAX_STRANGERS or self.strangers[site] >= MAX_STRANGERS_PER_ADDRESS
        if full:
            self.refused += 1
            return False
        stream.number = next(self._numbers)
        self.all[stream.number] = stream
        _count(self.per_address, site, 1)
        if stream.stranger:
            _count(self.strangers, site, 1)
        if stream.ours:
            _count(self.ours, host, 1)
        return True

    def signed_in(self, number: int) -> None:
        """Whoever is at the other end of this stream has shown who it is."""
        stream = self.all.get(number)
        if stream is not None and stream.stranger and stream.hop is not None:
            stream.stranger = False
            _count(self.strangers, site_of(stream.hop.host), -1)

    def remove(self, stream: "_Stream", host: str) -> None:
        if self.all.pop(stream.number, None) is None:
            return
        site = site_of(host)
        _count(self.per_address, site, -1)
        if stream.stranger:
            _count(self.strangers, site, -1)
        if stream.ours:
            _count(self.ours, host, -1)
        for place in [place for place, number in self._by_place.items() if number == stream.number]:
            del self._by_place[place]
            self.listener.failed(Hop(*place))

    def stop(self) -> None:
        """Nobody new is let in, and nobody is waited for who has not finished a handshake."""
        for server in self._servers:
            server.close()
        for stream in [one for one in self.all.values() if one.shaking is not None]:
            stream.close()

    def close(self) -> None:
        self.stop()
        for stream in list(self.all.values()):
            stream.close()


def _reason(error: OSError | ValueError) -> str:
    """What a stream of ours failed of, in a few words."""
    match error:
        case TimeoutError():
            return f"no answer within {CONNECT_S} s"
        case ssl.SSLCertVerificationError():
            return f"its certificate is not trusted: {error.verify_message}"
        case ssl.SSLError():
            return f"TLS failed: {error.reason}"
        case OSError(errno=number) if number:
            return os.strerror(number)
    return str(error)


def site_of(host: str) -> str:
    """What limits count by."""
    return source(host, {}, ())


def _count(counter: Counter[str], host: str, by: int) -> None:
    counter[host] += by
    if not counter[host]:
        del counter[host]


class _Stream(asyncio.Protocol):
    """One connection."""

    def __init__(self, streams: Streams, transport: str, *, opened: bool = False) -> None:
        """`opened`: by us."""
        self.number = 0
        self.hop: Hop | None = None
        self.stranger = False  # it has not signed in
        self.shaking: socket.socket | None = None  # as long as there is nothing else of it
        self._streams = streams
        self._kind = transport
        self.ours = opened
        self._framer = Framer()
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._began_s = asyncio.get_running_loop().time()
        self._heard_s = 0.0  # when its last message was whole

    def lets_in(self, host: str, port: int) -> bool:
        """Whether whoever is there may be here."""
        trust = Trust.allowed if self.ours else self._streams.listener.welcomes(host)
        self.stranger = trust is Trust.unknown
        if trust is Trust.dropped or not self._streams.add(self, host):
            return False
        self.hop = Hop(self._kind, host, port, self.number)
        if not self.ours:
            self._wait(FIRST_MESSAGE_S)
        return True

    def connection_made(self, given: asyncio.BaseTransport) -> None:
        transport = self._transport = cast(asyncio.Transport, given)  # uvloop's own is no subclass of it
        host, port, *_ = transport.get_extra_info("peername") or ("", 0)
        if self.hop is None and not self.lets_in(host, port):
            transport.abort()
            return
        self.shaking = None
        transport.set_write_buffer_limits(high=MAX_WAITING_BYTES)

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
        if self._transport is not None:
            self._transport.close()
        elif self.shaking is not None:
            with suppress(OSError):  # the other end was quicker
                self.shaking.shutdown(socket.SHUT_RDWR)

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


class _Door:
    """Where TLS is spoken: who may not be here gets no handshake, and neither does one too many."""

    def __init__(self, streams: Streams, host: str, port: int, context: ssl.SSLContext) -> None:
        """Raises `OSError`."""
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._socket = socket.create_server((host, port), family=family, backlog=MAX_AT_ONCE)
        self._socket.setblocking(False)
        self.port = int(self._socket.getsockname()[1])
        self._streams = streams
        self._context = context
        self._again: asyncio.TimerHandle | None = None
        self._open()

    def _open(self) -> None:
        asyncio.get_running_loop().add_reader(self._socket.fileno(), self._accept)

    def _accept(self) -> None:
        for _ in range(MAX_AT_ONCE):
            try:
                accepted, name = self._socket.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            except OSError:  # too many files are open
                loop = asyncio.get_running_loop()
                loop.remove_reader(self._socket.fileno())
                self._again = loop.call_later(FULL_S, self._open)
                return
            stream = _Stream(self._streams, "tls")
            if stream.lets_in(name[0], name[1]):
                accepted.setblocking(False)
                stream.shaking = accepted
                self._streams.listener.spawn(self._shake(accepted, stream))
            else:
                accepted.close()

    async def _shake(self, accepted: socket.socket, stream: _Stream) -> None:
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: stream, accepted, ssl=self._context, ssl_handshake_timeout=HANDSHAKE_S
            )
        except (OSError, ValueError):
            accepted.close()
            stream.connection_lost(None)

    def close(self) -> None:
        if self._again is not None:
            self._again.cancel()
        if self._socket.fileno() >= 0:
            asyncio.get_running_loop().remove_reader(self._socket.fileno())
            self._socket.close()


def server_context(certificate: Path, key: Path | None) -> ssl.SSLContext:
    """Raises `ListenError`."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    files = f"{certificate}{'' if key is None else f' and {key}'}"
    try:
        context.load_cert_chain(certificate, key)
    except ssl.SSLError as error:
        raise ListenError(f"{files}: no certificate and the key that belongs to it", "tls_certificate") from error
    except OSError as error:
        raise ListenError(f"{files}: {error.strerror}", "tls_certificate") from error
    return context


def client_context(authorities: Path | None) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=authorities)
