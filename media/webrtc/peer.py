"""The one file that touches the insides of aioice and of aiortc's SCTP: ICE and the data channel of one peer.

aiortc's own audio path is not used. A datagram that is SRTP leaves here decrypted, in the call in which the socket gave
it, without a queue or a task between; one that is to be sent goes straight to the socket of the nominated pair.
`tests/webrtc/test_internals.py` names all that is relied on and fails when an upgrade moves it.
"""

import asyncio
import functools
import random
import struct
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, Protocol, cast

from aioice import Candidate, Connection, stun
from aioice.candidate import candidate_foundation, candidate_priority
from aioice.ice import CandidatePair, StunProtocol, get_host_addresses
from aiortc import (
    InvalidStateError,
    RTCDataChannel,
    RTCSctpCapabilities,
    RTCSctpTransport,
)
from aiortc.rtcsctptransport import DataChunk, InboundStream

from media.dtls import MAX_QUEUED, Certificate, Dtls, HandshakeError
from media.srtp import MAX_PACKET_BYTES, Srtp, SrtpError

MAX_DATAGRAM_BYTES: Final = 2048
"""The receive buffer of a socket; asyncio's own is 256 KiB for each datagram."""
MAX_CANDIDATES: Final = 50  # of the peer
MAX_MESSAGE_BYTES: Final = 64 * 1024
PORT_TRIES: Final = 50
MAX_STREAMS: Final = 4  # of SCTP; one is used
MAX_FRAGMENTS: Final = 256  # of messages that are not whole yet; a whole one has 55
CHANNEL_LABEL: Final = "voicegate"
CLOSE_TIMEOUT_S: Final = 5
INTERFACES_S: Final = 10  # until this machine's interfaces are looked at again: that takes half a millisecond


class PeerError(Exception):
    """No connection with this peer. `str()` is one line, and tells nothing secret."""


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where this machine's media sockets are, and what peers are told of it."""

    host: str = ""  # the local address; empty: each of this machine's
    public: str = ""  # what a one-to-one NAT in front shows for it
    first_port: int = 0  # 0: the system chooses
    last_port: int = 0

    def local(self) -> list[str]:
        return [self.host] if self.host else list(_interfaces(int(time.monotonic() / INTERFACES_S)))


ANYWHERE: Final = Addresses()


@dataclass(frozen=True, slots=True)
class Remote:
    """What a peer's offer says of ICE, DTLS and SCTP."""

    ufrag: str
    password: str
    fingerprints: tuple[tuple[str, str], ...]  # algorithm, value
    active: bool  # it will begin the handshake
    lite: bool = False
    sctp_port: int = 0  # 0: it has no data channel
    max_message_bytes: int = MAX_MESSAGE_BYTES


class PeerListener(Protocol):
    """Called from the socket: nothing here may block or raise."""

    def rtp(self, packet: bytes) -> None: ...

    def rtcp(self, packet: bytes) -> None: ...

    def channel_open(self) -> None: ...

    def message(self, text: str) -> None: ...

    def peer_lost(self) -> None:
        """The connection is over and `Peer.close` was not called."""
        ...


class Peer:
    """`gather`, then `connect`, then `close` in any case."""

    def __init__(
        self, remote: Remote, listener: PeerListener, identity: Certificate, addresses: Addresses = ANYWHERE
    ) -> None:
        self._packets = 0
        self.stray_packets = 0  # that were not this peer's, or came twice
        self._remote = remote
        self._listener = listener
        self._ice = _Ice(addresses, self._datagram)
        self._identity = identity
        self._dtls = Dtls(identity, self._ice, active=not remote.active)
        self._dtls.on("statechange", self._dtls_changed)
        self._srtp: Srtp | None = None  # once there are keys
        self._sctp: RTCSctpTransport | None = None
        self._channel: RTCDataChannel | None = None
        self._candidates = 0
        self._connected = False
        self._closing = False

    @property
    def datagrams(self) -> int:
        """That surely were the peer's: audio, its reports, and its checks of the way."""
        return self._ice.checks + self._packets

    # What the answer says

    @property
    def ufrag(self) -> str:
        return self._ice.local_username

    @property
    def password(self) -> str:
        return self._ice.local_password

    @property
    def active(self) -> bool:
        """We begin the handshake."""
        return not self._remote.active

    @property
    def fingerprint(self) -> tuple[str, str]:
        return self._identity.fingerprint

    @property
    def candidates(self) -> list[str]:
        """As `a=candidate:` has them."""
        return [candidate.to_sdp() for candidate in self._ice.local_candidates]

    # Its life

    async def gather(self) -> None:
        """Opens the sockets. Raises `PeerError`."""
        await self._ice.gather_candidates()
        if not self._ice.local_candidates:
            raise PeerError("no UDP port is free for media")

    async def add_candidate(self, text: str) -> None:
        """One of the peer's, as `a=candidate:` has it; what cannot be used is passed over."""
        self._candidates += 1
        if self._candidates > MAX_CANDIDATES:
            return
        try:
            candidate = Candidate.from_sdp(text)
            ours = candidate.component == 1 and candidate.transport.lower() == "udp" and 0 < candidate.port < 1 << 16
            # An mDNS name would be asked for in this network, a second each: the peer's own checks come sooner.
            if ours and not candidate.host.lower().rstrip(".").endswith(".local"):
                await self._ice.add_remote_candidate(candidate)
        except (ValueError, IndexError, AssertionError, OSError):
            return

    async def connect(self) -> None:
        """Returns once media may flow. Raises `PeerError`; without a limit of time of its own."""
        remote = self._remote
        ice = self._ice
        ice.remote_username, ice.remote_password, ice.remote_is_lite = remote.ufrag, remote.password, remote.lite
        try:
            await ice.connect()
        except ConnectionError:
            raise PeerError("no way to the peer's addresses") from None
        try:
            self._srtp = await self._dtls.handshake(remote.fingerprints)
        except HandshakeError as error:
            raise PeerError(str(error)) from None
        self._connected = True
        if remote.sctp_port:
            self._sctp = _Sctp(self._dtls)
            self._sctp.on("datachannel", self._channel_opened)
            await self._sctp.start(RTCSctpCapabilities(remote.max_message_bytes), remote.sctp_port)

    async def close(self) -> None:
        """Ends all of it, and tells the peer so where there is a way to it."""
        self._closing = True
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                if self._sctp is not None:
                    await self._sctp.stop()
                await self._dtls.stop()
        except (TimeoutError, ConnectionError):
            pass
        finally:
            await self._ice.close()

    # Media

    def send_rtp(self, packet: bytes) -> None:
        """Dropped while there is no connection."""
        if self._srtp is not None:
            self._ice.send_now(self._srtp.protect(packet))

    def send_rtcp(self, packet: bytes) -> None:
        if self._srtp is not None:
            self._ice.send_now(self._srtp.protect_rtcp(packet))

    def _datagram(self, data: bytes) -> None:
        """SRTP or SRTCP, which share a port (RFC 5761, 4)."""
        if self._srtp is None or self._closing or not 2 <= len(data) <= MAX_PACKET_BYTES:
            return
        try:
            if 192 <= data[1] <= 223:
                packet, listen = self._srtp.unprotect_rtcp(data), self._listener.rtcp
            else:
                packet, listen = self._srtp.unprotect(data), self._listener.rtp
        except SrtpError:
            self.stray_packets += 1
            return
        self._packets += 1
        listen(packet)

    # The data channel

    @property
    def channel_is_open(self) -> bool:
        return self._channel is not None and self._channel.readyState == "open"

    @property
    def waiting_bytes(self) -> int:
        """Of messages that the peer has not taken."""
        return self._channel.bufferedAmount if self._channel is not None else 0

    def tell(self, text: str) -> None:
        """Dropped while there is no open channel."""
        if self._channel is not None and not self._closing:
            try:
                self._channel.send(text)
            except (InvalidStateError, ValueError):  # just closed, or longer than the peer takes
                return

    def _channel_opened(self, channel: RTCDataChannel) -> None:
        if channel.label == CHANNEL_LABEL and self._channel is None:
            self._channel = channel
            channel.on("message", self._message)
            self._listener.channel_open()

    def _message(self, data: str | bytes) -> None:
        if not self._closing:
            self._listener.message(data if isinstance(data, str) else data.decode("utf-8", "replace"))

    def _dtls_changed(self) -> None:
        if self._connected and not self._closing and self._dtls.state in ("closed", "failed"):
            self._listener.peer_lost()


class _Ice(Connection):
    """aioice's agent, with sockets of our own choice."""

    def __init__(self, addresses: Addresses, media: Callable[[bytes], None]) -> None:
        super().__init__(ice_controlling=False)
        self._addresses = addresses
        self.media = media
        self.checks = 0  # of the peer, with its password
        self._pair: CandidatePair | None = None  # nominated, when it was used last
        self._transport: asyncio.DatagramTransport
        self._address: tuple[str, int]

    def send_now(self, data: bytes) -> None:
        pair = self._nominated.get(1)
        if pair is not self._pair:
            self._pair = pair
            if pair is not None:
                self._transport, self._address = pair.protocol.transport, pair.remote_addr
        if pair is not None and not self._transport.is_closing():
            self._transport.sendto(data, self._address)

    def check_incoming(self, message: stun.Message, addr: tuple[str, int], protocol: StunProtocol) -> None:
        self.checks += 1
        super().check_incoming(message, addr, protocol)

    def data_received(self, data: bytes, component: int) -> None:
        if self._queue.qsize() < MAX_QUEUED:
            super().data_received(data, component)

    async def gather_candidates(self) -> None:
        """As aioice does, but for its own look at all interfaces."""
        self._local_candidates_start = True
        self._local_candidates += await self.get_component_candidates(1, [])
        self._local_candidates_end = True

    async def get_component_candidates(self, component: int, addresses: list[str], timeout: int = 5) -> list[Candidate]:
        candidates = []
        for preference, address in enumerate(self._addresses.local()):
            protocol = await self._open(address)
            if protocol is None:
                continue
            self._protocols.append(protocol)
            host, port = protocol.transport.get_extra_info("sockname")[:2]
            protocol.local_candidate = _candidate("host", host, port, 65535 - preference)
            candidates.append(protocol.local_candidate)
            if self._addresses.public and ":" not in host:
                candidates.append(
                    _candidate("srflx", self._addresses.public, port, 65535 - preference, related=(host, port))
                )
        return candidates

    async def _open(self, address: str) -> "_Datagrams | None":
        loop = asyncio.get_running_loop()
        for port in _ports(self._addresses):
            try:
                _, protocol = await loop.create_datagram_endpoint(lambda: _Datagrams(self), local_addr=(address, port))
            except OSError:  # taken, or an address that cannot be bound
                continue
            return protocol
        return None


class _Datagrams(StunProtocol):
    """One local socket. What comes is told apart by its first byte (RFC 7983, 7)."""

    receiver: _Ice

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        if hasattr(transport, "max_size"):  # asyncio's own loop has it
            transport.max_size = MAX_DATAGRAM_BYTES

    def datagram_received(self, data: bytes | str, addr: tuple[Any, ...]) -> None:
        first = cast(bytes, data[:1]) or b"\x40"
        if b"\x80" <= first <= b"\xbf":
            self.receiver.media(cast(bytes, data))
        elif b"\x14" <= first <= b"\x3f":
            self.receiver.data_received(cast(bytes, data), 1)
        elif first <= b"\x03":
            with suppress(AssertionError, LookupError, struct.error):  # no STUN, or a check that lacks something
                super().datagram_received(data, addr)


class _Sctp(RTCSctpTransport):
    """aiortc's, with limits: what comes beyond them is not taken and not acknowledged."""

    async def _receive_data_chunk(self, chunk: DataChunk) -> None:
        streams = self._inbound_streams
        if chunk.stream_id in streams:
            if len(streams[chunk.stream_id].reassembly) >= MAX_FRAGMENTS:
                return
        elif len(streams) >= MAX_STREAMS:
            return
        await super()._receive_data_chunk(chunk)

    def _get_inbound_stream(self, stream_id: int) -> InboundStream:
        if stream_id not in self._inbound_streams and len(self._inbound_streams) >= MAX_STREAMS:
            return InboundStream()
        return super()._get_inbound_stream(stream_id)

    async def _data_channel_receive(self, stream_id: int, pp_id: int, data: bytes) -> None:
        try:
            await super()._data_channel_receive(stream_id, pp_id, data)
        except (AssertionError, UnicodeDecodeError, struct.error):
            return  # no text, or a channel that is open twice or not at all


@functools.lru_cache(1)
def _interfaces(period: int) -> tuple[str, ...]:
    return tuple(get_host_addresses(True, True)) or ("127.0.0.1",)


def _candidate(
    kind: str, host: str, port: int, preference: int, *, related: tuple[str, int] | None = None
) -> Candidate:
    """Of our one component, which RTP and RTCP share (RFC 8445, 5.1.2.1)."""
    return Candidate(
        foundation=candidate_foundation(kind, "udp", host),
        component=1,
        transport="udp",
        priority=candidate_priority(1, kind, preference),
        host=host,
        port=port,
        type=kind,
        related_address=related[0] if related else None,
        related_port=related[1] if related else None,
    )


def _ports(addresses: Addresses) -> Sequence[int]:
    if not addresses.first_port:
        return (0,)
    ports = range(addresses.first_port, addresses.last_port + 1)
    return random.sample(ports, min(PORT_TRIES, len(ports)))
