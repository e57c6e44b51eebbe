"""RTP packets and their counts (RFC 3550, RFC 3551). Sans-IO: time is an argument."""

import secrets
import struct
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from media import rtcp
from media.rtcp import RtpError as RtpError

VERSION: Final = 2
HEADER_BYTES: Final = 12
MAX_DROPOUT: Final = 3000  # a jump ahead beyond this is another stream or an attack (RFC 3550, A.1)
MAX_MISORDER: Final = 100
MAX_REPORTS: Final = 8  # of ours, remembered for the round trip
LOCK_PACKETS: Final = 2  # in sequence, before a source is believed (RFC 3550, A.1)

HEADER: Final = struct.Struct("!BBHII")  # first byte, marker and type, sequence, timestamp, SSRC
PLAIN: Final = VERSION << 6  # first byte of a packet without sources, extension and padding

_SEQUENCE: Final = 0xFFFF
_TIMESTAMP: Final = 0xFFFFFFFF
_MARKER: Final = 0x80


class RtpPacket:
    """RFC 3550, 5.1, without what nobody here uses: contributing sources and extensions are passed over."""

    __slots__ = ("marker", "payload", "payload_type", "sequence", "ssrc", "timestamp")

    def __init__(
        self, payload_type: int, sequence: int, timestamp: int, ssrc: int, payload: bytes, *, marker: bool = False
    ) -> None:
        self.payload_type = payload_type
        self.sequence = sequence
        self.timestamp = timestamp
        self.ssrc = ssrc
        self.payload = payload
        self.marker = marker

    @classmethod
    def parse(cls, data: bytes) -> "RtpPacket":
        """Raises `RtpError`."""
        if len(data) < HEADER_BYTES:
            raise RtpError("shorter than a header")
        first, second, sequence, timestamp, ssrc = HEADER.unpack_from(data)
        payload = data[HEADER_BYTES:] if first == PLAIN else _payload(first, data)
        return cls(second & 0x7F, sequence, timestamp, ssrc, payload, marker=second > 0x7F)

    def pack(self) -> bytes:
        second = self.payload_type | _MARKER if self.marker else self.payload_type
        return HEADER.pack(PLAIN, second, self.sequence, self.timestamp, self.ssrc) + self.payload


def _payload(first: int, data: bytes) -> bytes:
    """Of a packet that has more than the plain header. Raises `RtpError`."""
    if first >> 6 != VERSION:
        raise RtpError("not version 2")
    start = HEADER_BYTES + 4 * (first & 0x0F)
    end = len(data)
    if first & 0x10:
        if end < start + 4:
            raise RtpError("the extension is cut off")
        start += 4 + 4 * int.from_bytes(data[start + 2 : start + 4])
    if first & 0x20:
        padding = data[-1]
        if not padding:
            raise RtpError("padding of nothing")
        end -= padding
    if end < start:
        raise RtpError("shorter than it says")
    return data[start:end]


@dataclass(frozen=True, slots=True)
class Heard:
    """What the peer says of how it hears us."""

    lost_percent: float  # since its last report
    jitter_ticks: int
    round_trip_ms: int | None


class RtpSender:
    """Numbers what goes out. Time goes on in silence too, whether or not a packet says so."""

    __slots__ = ("_cname", "_payload_type", "_sequence", "clock_hz", "octets", "packets", "ssrc", "timestamp")

    def __init__(
        self,
        ssrc: int,
        payload_type: int,
        clock_hz: int,
        *,
        sequence: int | None = None,
        timestamp: int | None = None,
        cname: str = "",
    ) -> None:
        """Sequence and timestamp start by chance unless they are given (RFC 3550, 5.1)."""
        self.ssrc = ssrc
        self.clock_hz = clock_hz
        self.packets = 0
        self.octets = 0  # of payload
        self.timestamp = (secrets.randbits(32) if timestamp is None else timestamp) & _TIMESTAMP
        self._payload_type = payload_type
        self._sequence = (secrets.randbits(15) if sequence is None else sequence) & _SEQUENCE
        self._cname = cname

    @property
    def sequence(self) -> int:
        """Of the next packet."""
        return self._sequence

    def packet(self, payload: bytes, samples: int, *, marker: bool = False) -> bytes:
        """`samples` of the RTP clock pass with it."""
        timestamp, sequence = self.timestamp, self._sequence
        self.timestamp = (timestamp + samples) & _TIMESTAMP
        self._sequence = (sequence + 1) & _SEQUENCE
        self.packets += 1
        self.octets += len(payload)
        second = self._payload_type | _MARKER if marker else self._payload_type
        return HEADER.pack(PLAIN, second, sequence, timestamp, self.ssrc) + payload

    def event(self, payload: bytes, payload_type: int, timestamp: int, *, marker: bool = False) -> bytes:
        """A packet of another type, for which no time passes (RFC 4733)."""
        second = payload_type | _MARKER if marker else payload_type
        header = HEADER.pack(PLAIN, second, self._sequence, timestamp, self.ssrc)
        self._sequence = (self._sequence + 1) & _SEQUENCE
        self.packets += 1
        self.octets += len(payload)
        return header + payload

    def skip(self, samples: int) -> None:
        """Silence that is not sent."""
        self.timestamp = (self.timestamp + samples) & _TIMESTAMP

    def report(self, now_ms: int, unix_s: float, receiver: "RtpReceiver | None" = None) -> bytes:
        """A compound packet: SR (RR before anything was sent), then SDES (RFC 3550, 6.1)."""
        block = receiver.report(now_ms) if receiver is not None else None
        if self.packets:
            ntp = rtcp.ntp(unix_s)
            if receiver is not None:
                receiver.reported(ntp >> 16 & 0xFFFFFFFF, now_ms)
            first = rtcp.sender_report(self.ssrc, ntp, self.timestamp, self.packets, self.octets, block)
        else:
            first = rtcp.receiver_report(self.ssrc, block)
        return first + rtcp.source_description(self.ssrc, self._cname)

    def goodbye(self, now_ms: int, unix_s: float, receiver: "RtpReceiver | None" = None) -> bytes:
        """The last report, and BYE (RFC 3550, 6.6)."""
        return self.report(now_ms, unix_s, receiver) + rtcp.goodbye(self.ssrc)


class RtpReceiver:
    """What came of one source: loss and jitter as RFC 3550 counts them (A.1, A.3, A.8)."""

    __slots__ = (
        "_before",
        "_clock_hz",
        "_first",
        "_jitter",
        "_last_report",
        "_last_report_ms",
        "_reports",
        "_ticks_per_ms",
        "_transit",
        "bad_reports",
        "before",
        "highest",
        "packets",
        "round_trip_ms",
        "said_goodbye",
        "ssrc",
    )

    def __init__(self, clock_hz: int) -> None:
        self.packets = 0
        self.before = (0, 0)  # packets and losses of sources that came before this one
        self.bad_reports = 0
        self.said_goodbye = False
        self.round_trip_ms: int | None = None
        self._clock_hz = clock_hz
        self._ticks_per_ms = clock_hz / 1000
        self._reports: OrderedDict[int, int] = OrderedDict()  # ours: the middle of NTP, and when
        self._begin(None, 0)

    def _begin(self, ssrc: int | None, sequence: int) -> None:
        if self.packets:
            self.before = self.before[0] + self.packets, self.before[1] + max(0, self.lost)
        self.ssrc = ssrc  # of the source, once it is known
        self.packets = 0
        self.highest = sequence  # extended by its cycles
        self._first = sequence
        self._jitter = 0.0  # in ticks
        self._transit: float | None = None
        self._before = (0, 0)  # expected and received at the last report
        self._last_report = 0  # the middle of the peer's last NTP time
        self._last_report_ms = 0

    def received(self, packet: RtpPacket, now_ms: int, *, timed: bool = True) -> None:
        """`timed`: its timestamp goes on with time. That of a key's packets stands still (RFC 4733, 2.2)."""
        self.counted(packet.ssrc, packet.sequence, packet.timestamp if timed else None, now_ms)

    def counted(self, ssrc: int, sequence: int, timestamp: int | None, now_ms: int) -> None:
        """As `received`, of a packet that nobody made an object of. `timestamp` None: it stands still."""
        if ssrc != self.ssrc:
            self._begin(ssrc, sequence)
        ahead = (sequence - self.highest) & _SEQUENCE
        if ahead < MAX_DROPOUT:
            self.highest += ahead
        elif ahead < _SEQUENCE - MAX_MISORDER:
            self._begin(ssrc, sequence)
        self.packets += 1
        if timestamp is None:
            return
        before, self._transit = self._transit, now_ms * self._ticks_per_ms - timestamp
        if before is not None:
            moved = self._transit - before
            if moved < 0:
                moved = -moved
            if moved < self._clock_hz:  # else the clock wrapped or began anew
                self._jitter += (moved - self._jitter) / 16

    @property
    def expected(self) -> int:
        return self.highest - self._first + 1 if self.ssrc is not None else 0

    @property
    def lost(self) -> int:
        """Duplicates may make it negative (RFC 3550, 6.4.1)."""
        return self.expected - self.packets

    @property
    def jitter_ms(self) -> float:
        return self._jitter * 1000 / self._clock_hz

    def report(self, now_ms: int) -> rtcp.Block | None:
        """How the source is heard; None before anything came. The loss in it counts from the report before."""
        if self.ssrc is None:
            return None
        expected, received = self.expected - self._before[0], self.packets - self._before[1]
        self._before = (self.expected, self.packets)
        lost = expected - received
        lately = min(255, (lost << 8) // expected) if expected > 0 and lost > 0 else 0
        since_ms = max(now_ms - self._last_report_ms, 0) if self._last_report else 0
        delay = min(since_ms * 65536 // 1000, 0xFFFFFFFF)
        return rtcp.Block(self.ssrc, lately, self.lost, self.highest, int(self._jitter), self._last_report, delay)

    def reported(self, ntp_middle: int, now_ms: int) -> None:
        """A sender's report of ours went out."""
        self._reports[ntp_middle] = now_ms
        while len(self._reports) > MAX_REPORTS:
            self._reports.popitem(last=False)

    def rtcp(self, data: bytes, now_ms: int, our_ssrc: int) -> Heard | None:
        """The peer's compound packet; what it says of our stream, if it does. Malformed ones are counted."""
        try:
            said = rtcp.parse(data)
        except RtpError:
            self.bad_reports += 1
            return None
        if said.ntp_middle is not None and said.ssrc == self.ssrc:
            self._last_report, self._last_report_ms = said.ntp_middle, now_ms
        self.said_goodbye |= self.ssrc in said.goodbyes
        block = next((one for one in said.blocks if one.ssrc == our_ssrc), None)
        if block is None:
            return None
        sent_ms = self._reports.get(block.last_report) if block.last_report else None
        trip_ms = None
        if sent_ms is not None:
            trip_ms = now_ms - sent_ms - block.delay_65536ths_s * 1000 // 65536
            trip_ms = max(0, trip_ms)
            self.round_trip_ms = trip_ms
        return Heard(block.lost_256ths * 100 / 256, block.jitter_ticks, trip_ms)


class Stream:
    """Locks onto the first source that sends `LOCK_PACKETS` in sequence of the right types; the rest are strays."""

    __slots__ = ("_candidate", "_payload_types", "ssrc", "strays")

    def __init__(self, payload_types: frozenset[int]) -> None:
        self.ssrc: int | None = None
        self.strays = 0
        self._payload_types = payload_types
        self._candidate = (-1, -1, 0)  # SSRC, next sequence number, packets so far

    def admit(self, packet: RtpPacket) -> bool:
        if packet.payload_type in self._payload_types:
            if packet.ssrc == self.ssrc:
                return True
            if self.ssrc is None and self._proven(packet):
                self.ssrc = packet.ssrc
                return True
        self.strays += 1
        return False

    def release(self) -> None:
        """The source may change: after its BYE, or when nothing came for a while."""
        self.ssrc = None
        self._candidate = (-1, -1, 0)

    def _proven(self, packet: RtpPacket) -> bool:
        ssrc, following, count = self._candidate
        count = count + 1 if (ssrc, following) == (packet.ssrc, packet.sequence) else 1
        self._candidate = (packet.ssrc, (packet.sequence + 1) & _SEQUENCE, count)
        return count >= LOCK_PACKETS


def mean_opinion(delay_ms: float, lost_percent: float, *, impairment: float = 0.0, robustness: float = 10.0) -> float:
    """MOS, 1 to 4.5, by a simplified E-model (ITU-T G.107).

    `delay_ms` is one way, mouth to ear; `impairment` (Ie) and `robustness` (Bpl) are the codec's (G.113).
    """
    late = max(0.0, delay_ms - 177.3)
    loss = impairment + (95 - impairment) * lost_percent / (lost_percent + robustness)
    r = min(100.0, max(0.0, 93.2 - 0.024 * delay_ms - 0.11 * late - loss))
    return max(1.0, 1 + 0.035 * r + r * (r - 60) * (100 - r) * 7e-6)
