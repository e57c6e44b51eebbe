"""The transport layer (RFC 3261, 18): one UDP socket, and the streams beside it at the same port."""

import asyncio
import socket
from collections import OrderedDict
from typing import Final

from media.sip import message as sip
from media.sip.addresses import IpAddress, literal
from media.sip.message import Hop, MessageError
from media.sip.options import SipOptions
from media.sip.resolve import Resolves, Unresolved
from media.sip.streams import ListenError, Streams, StreamsListener
from media.sip.transaction import LIFE_MS

MAX_ASKED: Final = 10_000  # hosts whose answers are waited for
MAX_LOOKUPS: Final = 4  # of hosts' names at once: they are of the peers' choice, and may take as long as they like
MAX_LOOKUPS_WAITING: Final = 1000
RECEIVE_BUFFER_BYTES: Final = 4 * 1024 * 1024  # of signalling: calls end and begin in bursts
LISTEN_TRIES: Final = 20  # for a port that is free for UDP and TCP, where the system chooses


class Transport:
    """`send` never raises and never waits: what did not arrive is told to the listener, later."""

    def __init__(self, listener: StreamsListener, options: SipOptions, resolver: Resolves) -> None:
        self.port = options.port
        self.tls_port = options.tls_port
        self.streams = Streams(listener, options)
        self._listener = listener
        self._options = options
        self._resolver = resolver
        self._udp: asyncio.DatagramTransport | None = None
        self._lookups = asyncio.Semaphore(MAX_LOOKUPS)
        self._lookups_waiting = 0
        self._asked_ms: OrderedDict[str, int] = OrderedDict()  # until when a host answers what we sent

    async def listen(self) -> None:
        """Raises `ListenError`."""
        options = self._options
        loop = asyncio.get_running_loop()
        for attempt in range(LISTEN_TRIES):
            try:
                self._udp, _ = await loop.create_datagram_endpoint(
                    lambda: _Datagrams(self._listener), (options.host, options.port)
                )
            except OSError as error:
                raise ListenError.of_bind(error, options.host, options.port) from error
            self.port = self._udp.get_extra_info("sockname")[1]
            self._udp.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
            try:
                await self.streams.listen(options.host, self.port)
            except ListenError:
                self._udp.close()
                if options.port or attempt == LISTEN_TRIES - 1:
                    raise
                continue
            break
        self.tls_port = await self.streams.listen_tls(options.host)

    def close(self) -> None:
        self.streams.close()
        if self._udp is not None:
            self._udp.close()

    def asked(self, host: str) -> bool:
        """Whether we sent a request there not long ago, or by a stream that is open: whoever it is may answer."""
        return _now_ms() < self._asked_ms.get(host, 0) or self.streams.ours[host] > 0

    def send(self, hop: Hop, data: bytes) -> None:
        if hop.reliable:
            self.streams.send(hop, data)
        elif (address := literal(hop.host)) is not None:
            self._send_datagram(hop, address, data)
        elif self._lookups_waiting < MAX_LOOKUPS_WAITING:
            self._lookups_waiting += 1
            self._listener.spawn(self._send_to_name(hop, data))
        else:
            self._failed_later(hop)

    def _send_datagram(self, hop: Hop, address: IpAddress, data: bytes) -> None:
        if self._udp is None or self._udp.is_closing():
            return
        try:
            if address.is_multicast or address.is_unspecified:
                raise OSError("nobody's address")
            self._udp.sendto(data, (str(address), hop.port))
            self._note_sent(str(address), data)
        except (OSError, ValueError):  # uvloop's, where the address is of the other family
            self._failed_later(hop)

    def _note_sent(self, host: str, data: bytes) -> None:
        if not data.startswith(b"SIP/2.0 "):
            self._asked_ms[host] = _now_ms() + LIFE_MS
            self._asked_ms.move_to_end(host)
            while len(self._asked_ms) > MAX_ASKED:
                self._asked_ms.popitem(last=False)

    async def _send_to_name(self, hop: Hop, data: bytes) -> None:
        try:
            async with self._lookups:
                found = await self._resolver.resolve(sip.uri_of(f"sip:{hop.host}:{hop.port};transport=udp"))
        except (MessageError, Unresolved):
            self._listener.failed(hop)
            return
        finally:
            self._lookups_waiting -= 1
        if (address := literal(found[0].host)) is not None:
            self._send_datagram(hop, address, data)

    def _failed_later(self, hop: Hop) -> None:
        """Whoever sends is not ready to hear of it at once."""
        asyncio.get_running_loop().call_soon(self._listener.failed, hop)


def _now_ms() -> int:
    return int(asyncio.get_running_loop().time() * 1000)


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, listener: StreamsListener) -> None:
        self._listener = listener

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        if len(data) > 4:  # less is a keep-alive
            self._listener.received(data, Hop("udp", addr[0], addr[1]))
