"""The sockets of one leg's RTP and RTCP, and whose packets are taken from them (RFC 3550, 11; RFC 4961)."""

import asyncio
import ipaddress
import select
import socket
import struct
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from media.rtp import LOCK_PACKETS

MAX_DATAGRAM_BYTES: Final = 2048
MAX_AT_ONCE: Final = 64  # datagrams that one reading takes, so that a flood does not hold everybody up
QUIET_MS: Final = 3000  # without a packet of the chosen source, another one may be chosen
PORT_TRIES: Final = 100
RECEIVE_BUFFER_BYTES: Final = 64 * 1024
MAX_AGE_MS: Final = 1000  # of a packet that waits to be read, as far as that is believed: wall clocks jump

_SO_TIMESTAMPNS: Final = 35  # Linux: the kernel notes when a packet came; Python has no name for it
_TIMESPEC: Final = struct.Struct("@ll")
_ANCILLARY_BYTES: Final = socket.CMSG_SPACE(_TIMESPEC.size)

Address = tuple[str, int]
Received = Callable[[bytes, int], bool]
"""A packet, and when it came. Was it worth anything?"""
Came = tuple[bytes, list[tuple[int, int, bytes]], int, tuple[str, int]]  # as `recvmsg` gives it


class NoPort(OSError):
    """No pair of ports is free."""


class Poll:
    """Many ports' sockets, read one after the other: the system is asked once for all which of them have anything."""

    def __init__(self) -> None:
        self.read_ms = -1  # when they were read last
        self.read_ns = 0  # likewise, by the wall's clock
        self._poll = select.epoll() if sys.platform == "linux" else select.poll()
        self._sockets: dict[int, tuple[Callable[[int, int], Came], Callable[[Came], None]]] = {}

    def add(self, one: socket.socket, came: list[Came]) -> None:
        """What comes is put into `came` by each `read`."""
        self._sockets[one.fileno()] = one.recvmsg, came.append
        self._poll.register(one.fileno(), select.POLLIN)

    def discard(self, one: socket.socket) -> None:
        """Before it is closed."""
        if self._sockets.pop(one.fileno(), None) is not None:
            self._poll.unregister(one.fileno())

    def read(self, now_ms: int) -> None:
        """Each socket, at most `MAX_AT_ONCE` datagrams of it."""
        self.read_ms = now_ms
        self.read_ns = time.time_ns()
        for _ in range(MAX_AT_ONCE):
            ready = self._poll.poll(0)
            if not ready:
                return
            for number, _ in ready:
                receive, put = self._sockets[number]
                try:
                    put(receive(MAX_DATAGRAM_BYTES, _ANCILLARY_BYTES))
                except OSError:  # what the system says of a packet that we sent
                    continue


class MediaPort:
    """Even port for RTP, the next one for RTCP (RFC 3550, 11). What is read goes to the two callbacks.

    Packets are taken from the negotiated address. As long as none comes from there, the first source that sends
    several may take its place: a peer behind an address translation does not know its own address (RFC 4961). The
    negotiated address takes it back with its first packet, and once anything of worth came, no other host may have it.
    """

    __slots__ = (
        "_came",
        "_candidate",
        "_heard_ms",
        "_locked",
        "_loop",
        "_mux",
        "_negotiated",
        "_now_ms",
        "_paced",
        "_poll",
        "_report_to",
        "_reported",
        "_reports_heard",
        "_rtcp",
        "_rtp",
        "_to",
        "_worth",
        "greets",
        "moved",
        "port",
        "received",
        "report_port",
        "strays",
    )

    def __init__(
        self,
        host: str,
        first_port: int,
        last_port: int,
        *,
        now_ms: Callable[[], int],
        start: int = 0,
        poll: Poll | None = None,
    ) -> None:
        """Raises `NoPort`. `last_port` 0: the system chooses. `poll` is shared with the ports read at the same time."""
        self.strays = 0
        self.greets = False  # a DTLS handshake may be begun from anywhere: the certificate tells by whom
        self.moved: Callable[[], None] = lambda: None  # told when another source is chosen
        self._now_ms = now_ms
        self._rtp, self._rtcp = _pair(host, first_port, last_port, start)
        self.port: int = self._rtp.getsockname()[1]
        self.report_port: int = self._rtcp.getsockname()[1]
        self.received: Received = lambda data, arrived_ms: False  # may be set anew while it listens
        self._reported: Callable[[bytes], None] = lambda data: None
        self._mux = True
        self._negotiated: Address = ("", 0)
        self._report_to: Address | None = None
        self._to: Address | None = None
        self._locked: Address | None = None
        self._heard_ms = 0  # when the chosen source was last heard
        self._worth = False  # something that it sent was worth anything
        self._reports_heard = False
        self._candidate: tuple[Address, int] = (("", 0), 0)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._paced = False
        self._poll = poll or Poll()
        self._came: list[Came] = []  # and is not taken yet

    def listen(self, received: Received, reported: Callable[[bytes], None]) -> None:
        """From now on. What came before is thrown away, but for handshakes."""
        self.received, self._reported = received, reported
        if self._loop is None:
            if not self.greets:
                self._drain()
            self._loop = asyncio.get_running_loop()
            self._loop.add_reader(self._rtp.fileno(), self._read_now)
            self._loop.add_reader(self._rtcp.fileno(), self._read_report)

    def read(self, now_ms: int) -> None:
        """What came by RTP's port. Once somebody asks, who must go on every 20 ms, no packet wakes the loop any more.

        So one wake-up serves all legs. Nothing is heard later for it, as the leg's clock is what takes packets on.
        """
        if self._loop is None:
            return
        if not self._paced:
            self._paced = True
            self._loop.remove_reader(self._rtp.fileno())
            self._poll.add(self._rtp, self._came)
        poll = self._poll
        if poll.read_ms != now_ms:
            poll.read(now_ms)  # whoever asks first asks for all
        if self._came:
            self._take(now_ms, poll.read_ns)

    def talk_to(self, host: str, port: int, report_port: int, *, mux: bool) -> None:
        """Where the peer says that it is."""
        self._mux = mux
        if (host, port) == self._negotiated:
            return
        self._negotiated = (host, port)
        usable = _usable(host) and (":" in host) == (self._rtp.family == socket.AF_INET6)
        self._to = (host, port) if usable else None
        self._report_to = (host, report_port) if usable else None
        self._locked = None
        self._worth = self._reports_heard = False
        self._candidate = (("", 0), 0)

    @property
    def heard(self) -> bool:
        """Whether anybody there sends to us, too."""
        return self._locked is not None or self._reports_heard

    @property
    def address(self) -> Address | None:
        """Where packets go."""
        return self._to

    def send(self, data: bytes) -> None:
        if self._to is not None:
            try:
                self._rtp.sendto(data, self._to)
            except (OSError, OverflowError):  # a full buffer, or nobody there, or past the last port: RTP goes on
                return

    def send_report(self, data: bytes) -> None:
        if self._mux:
            self.send(data)
        elif self._report_to is not None:
            with suppress(OSError, OverflowError):
                self._rtcp.sendto(data, self._report_to)

    def close(self) -> None:
        if self._loop is not None:
            if self._paced:
                self._poll.discard(self._rtp)
            else:
                self._loop.remove_reader(self._rtp.fileno())
            self._loop.remove_reader(self._rtcp.fileno())
            self._loop = None
        self._rtp.close()
        self._rtcp.close()

    def _drain(self) -> None:
        for one in (self._rtp, self._rtcp):
            try:
                while True:
                    one.recv(MAX_DATAGRAM_BYTES)
            except OSError:
                continue

    def _read_now(self) -> None:
        """One packet that the loop says is there; of more it will say so again."""
        try:
            self._came.append(self._rtp.recvmsg(MAX_DATAGRAM_BYTES, _ANCILLARY_BYTES))
        except OSError:
            return
        self._take(self._now_ms(), time.time_ns())

    def _take(self, now_ms: int, read_ns: int) -> None:
        received, mux = self.received, self._mux
        for data, ancillary, _, address in self._came:
            chosen = address == self._locked or address[:2] == self._locked
            if not chosen and not self._chosen(address[:2], data, now_ms):
                self.strays += 1
            elif mux and len(data) > 1 and 192 <= data[1] <= 223:
                self._reported(data)  # RFC 5761, 4
            elif received(data, now_ms - _age_ms(ancillary, read_ns)):
                self._heard_ms = now_ms
                self._worth = True
        self._came.clear()

    def _chosen(self, address: Address, data: bytes, now_ms: int) -> bool:
        """Whether this is now whom we listen to, and talk to."""
        stranger = address != self._negotiated
        if stranger and self._locked is not None:
            known = address[0] in (self._locked[0], self._negotiated[0])
            if now_ms - self._heard_ms < QUIET_MS or (self._worth and not known):
                return False
        if stranger and not (self.greets and self._locked is None and data and 20 <= data[0] <= 63):
            if not data or not 0x80 <= data[0] <= 0xBF:  # RFC 7983, 7
                return False
            before, count = self._candidate
            count = count + 1 if before == address else 1
            self._candidate = address, count
            if count < LOCK_PACKETS:
                return False
        if self._locked is not None:
            self.moved()
        self._locked = self._to = address
        self._heard_ms, self._worth = now_ms, False
        if self._report_to is not None and self._report_to[0] != address[0]:
            self._report_to = address[0], address[1] + 1
        return True

    def _read_report(self) -> None:
        for _ in range(MAX_AT_ONCE):
            try:
                data, address = self._rtcp.recvfrom(MAX_DATAGRAM_BYTES)
            except OSError:
                return
            source = self._locked or self._negotiated
            if address[0] == source[0]:
                self._report_to = address[:2]
                self._reports_heard = True
                self._reported(data)


def _age_ms(ancillary: list[tuple[int, int, bytes]], read_ns: int) -> int:
    """For how long a packet has waited; 0 where the system does not say."""
    if not ancillary:
        return 0
    seconds, nanoseconds = _TIMESPEC.unpack(ancillary[0][2])
    age_ms: int = (read_ns - nanoseconds) // 1_000_000 - seconds * 1000
    if age_ms < 0:
        return 0
    return age_ms if age_ms < MAX_AGE_MS else MAX_AGE_MS


def _pair(host: str, first_port: int, last_port: int, start: int) -> tuple[socket.socket, socket.socket]:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    evens = range(first_port + first_port % 2, last_port, 2) if last_port else range(0)
    for attempt in range(PORT_TRIES if not last_port else len(evens)):
        port = evens[(start + attempt) % len(evens)] if last_port else 0
        rtp, rtcp = socket.socket(family, socket.SOCK_DGRAM), socket.socket(family, socket.SOCK_DGRAM)
        try:
            rtp.bind((host, port))
            port = rtp.getsockname()[1]
            if port % 2 or port == 65535:
                raise OSError("odd")
            rtcp.bind((host, port + 1))
        except OSError:
            rtp.close()
            rtcp.close()
            continue
        for one in (rtp, rtcp):
            one.setblocking(False)
            one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
        if sys.platform == "linux":
            rtp.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        return rtp, rtcp
    raise NoPort("no UDP port is free for media")


def _usable(host: str) -> bool:
    """An address to which one may send."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return not (address.is_multicast or address.is_unspecified or host == "255.255.255.255")
