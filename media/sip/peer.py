"""Where the peer of one leg is: whose packets are taken, and where ours go (RFC 4961). Sans-IO: time is an argument."""

import struct
from collections.abc import Callable
from typing import Any, Final

from media.rtp import LOCK_PACKETS

QUIET_MS: Final = 3000  # without a packet of the chosen source, another one may be chosen
MAX_AGE_MS: Final = 1000  # of a packet that waits to be read, as far as that is believed: wall clocks jump

TIMESPEC: Final = struct.Struct("@ll")  # what the kernel notes: seconds and nanoseconds since 1970

Address = tuple[str, int]
Received = Callable[[bytes, int], bool]
"""A packet, and when it came. Was it worth anything?"""
Came = tuple[bytes, list[tuple[int, int, bytes]], int, Any]
"""As `recvmsg` gives it. The address begins with host and port, and has more by IPv6."""


class Peer:
    """Packets are taken from the negotiated address. As long as none comes from there, the first source that sends
    several may take its place: a peer behind an address translation does not know its own address (RFC 4961). The
    negotiated address takes it back with its first packet, and once anything of worth came, no other host may have it.
    """

    __slots__ = (
        "_candidate",
        "_heard_ms",
        "_locked",
        "_negotiated",
        "_reports_heard",
        "_worth",
        "address",
        "greets",
        "moved",
        "mux",
        "received",
        "report_address",
        "reported",
        "strays",
    )

    def __init__(self) -> None:
        self.strays = 0
        self.greets = False  # a DTLS handshake may be begun from anywhere: the certificate tells by whom
        self.moved: Callable[[], None] = _nothing  # told when another source is chosen
        self.received: Received = _worthless  # told of each packet that is taken
        self.reported: Callable[[bytes], None] = _nobody  # and of each of RTCP
        self.address: Address | None = None  # where packets go
        self.report_address: Address | None = None
        self.mux = True  # RTCP goes where RTP goes (RFC 5761)
        self._negotiated: Address = ("", 0)
        self._locked: Address | None = None
        self._heard_ms = 0  # when the chosen source was last heard
        self._worth = False  # something that it sent was worth anything
        self._reports_heard = False
        self._candidate: tuple[Address, int] = (("", 0), 0)

    @property
    def heard(self) -> bool:
        """Whether anybody there sends to us, too."""
        return self._locked is not None or self._reports_heard

    def expect(self, host: str, port: int, report_port: int, *, mux: bool, usable: bool) -> None:
        """Where the peer says that it is. `usable`: something may be sent there."""
        self.mux = mux
        if (host, port) == self._negotiated:
            return
        self._negotiated = (host, port)
        self.address = (host, port) if usable else None
        self.report_address = (host, report_port) if usable else None
        self._locked = None
        self._worth = self._reports_heard = False
        self._candidate = (("", 0), 0)

    def take(self, came: list[Came], now_ms: int, read_ns: int) -> None:
        """What came by RTP's port. `read_ns`: when it was read, since 1970."""
        received, mux = self.received, self.mux
        for data, ancillary, _, address in came:
            chosen = address == self._locked or address[:2] == self._locked
            if not chosen and not self._chosen(address[:2], data, now_ms):
                self.strays += 1
            elif mux and len(data) > 1 and 192 <= data[1] <= 223:
                self.reported(data)  # RFC 5761, 4
            elif received(data, now_ms - _age_ms(ancillary, read_ns)):
                self._heard_ms = now_ms
                self._worth = True

    def take_report(self, data: bytes, address: Any) -> None:
        """What came by RTCP's own port."""
        source = self._locked or self._negotiated
        if address[0] == source[0]:
            self.report_address = address[:2]
            self._reports_heard = True
            self.reported(data)

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
        self._locked = self.address = address
        self._heard_ms, self._worth = now_ms, False
        if self.report_address is not None and self.report_address[0] != address[0]:
            self.report_address = address[0], address[1] + 1
        return True


def _age_ms(ancillary: list[tuple[int, int, bytes]], read_ns: int) -> int:
    """For how long a packet has waited; 0 where the system does not say."""
    if not ancillary:
        return 0
    seconds, nanoseconds = TIMESPEC.unpack(ancillary[0][2])
    age_ms: int = (read_ns - nanoseconds) // 1_000_000 - seconds * 1000
    if age_ms < 0:
        return 0
    return age_ms if age_ms < MAX_AGE_MS else MAX_AGE_MS


def _worthless(data: bytes, arrived_ms: int) -> bool:
    return False


def _nobody(data: bytes) -> None:
    """Nobody is told."""


def _nothing() -> None:
    """Nobody is told."""
