"""What one leg's RTP and RTCP read and send, and how the sockets of all legs are read together."""

import asyncio
import ipaddress
import select
import socket
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

from media.sip.peer import TIMESPEC, Came, Peer, Received
from media.sip.sockets import open_pair

MAX_DATAGRAM_BYTES: Final = 2048
MAX_AT_ONCE: Final = 64  # datagrams that one reading takes, so that a flood does not hold everybody up

_ANCILLARY_BYTES: Final = socket.CMSG_SPACE(TIMESPEC.size)


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
    """Even port for RTP, the next one for RTCP (RFC 3550, 11). What is read goes to its `peer`."""

    __slots__ = ("_came", "_loop", "_now_ms", "_paced", "_poll", "_rtcp", "_rtp", "peer", "port", "report_port")

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
        self._now_ms = now_ms
        self._rtp, self._rtcp = open_pair(host, first_port, last_port, start)
        self.port: int = self._rtp.getsockname()[1]
        self.report_port: int = self._rtcp.getsockname()[1]
        self.peer = Peer()
        # Not `AbstractEventLoop`: compiled, it is held to its types, and uvloop's `remove_reader` gives no bool.
        self._loop: Any = None
        self._paced = False
        self._poll = poll or Poll()
        self._came: list[Came] = []  # and is not taken yet

    def listen(self, received: Received, reported: Callable[[bytes], None]) -> None:
        """From now on. What came before is thrown away, but for handshakes."""
        self.peer.received, self.peer.reported = received, reported
        if self._loop is None:
            if not self.peer.greets:
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
            self.peer.take(self._came, now_ms, poll.read_ns)
            self._came.clear()

    def talk_to(self, host: str, port: int, report_port: int, *, mux: bool) -> None:
        """Where the peer says that it is."""
        usable = _usable(host) and (":" in host) == (self._rtp.family == socket.AF_INET6)
        self.peer.expect(host, port, report_port, mux=mux, usable=usable)

    def send(self, data: bytes) -> None:
        to = self.peer.address
        if to is not None:
            try:
                self._rtp.sendto(data, to)
            except (OSError, OverflowError):  # a full buffer, or nobody there, or past the last port: RTP goes on
                return

    def send_report(self, data: bytes) -> None:
        to = self.peer.report_address
        if self.peer.mux:
            self.send(data)
        elif to is not None:
            with suppress(OSError, OverflowError):
                self._rtcp.sendto(data, to)

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
            came = self._rtp.recvmsg(MAX_DATAGRAM_BYTES, _ANCILLARY_BYTES)
        except OSError:
            return
        self.peer.take([came], self._now_ms(), time.time_ns())

    def _read_report(self) -> None:
        for _ in range(MAX_AT_ONCE):
            try:
                data, address = self._rtcp.recvfrom(MAX_DATAGRAM_BYTES)
            except OSError:
                return
            self.peer.take_report(data, address)


def _usable(host: str) -> bool:
    """An address to which one may send."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return not (address.is_multicast or address.is_unspecified or host == "255.255.255.255")
