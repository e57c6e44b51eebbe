"""From packets to a stream that goes on: reordering, loss and pauses. Sans-IO: time is an argument.

An ear needs no even rhythm, so nothing waits here that could be heard now. What is next in order is given at once, and
what came late is given in one go. Only a gap makes the packets behind it wait: for `wait_ms`, 20 to 200 ms, which
follows the jitter and forgets a bad moment within two seconds. Then the gap is filled, and the stream is on time again.
"""

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from media.rtp import RtpPacket

MIN_WAIT_MS: Final = 20
MAX_WAIT_MS: Final = 200
JITTERS: Final = 3  # that are waited for, on top of the least
MAX_PACKETS: Final = 50  # that wait behind a gap; with one more the gap is not waited for
MAX_GAP_MS: Final = 500  # of one gap that is filled; a longer one is a pause of the sender's or a lost network
MAX_PACKET_MS: Final = 120
RESTART: Final = 1000  # a sequence number further off than this begins the stream anew

_SEQUENCES: Final = 1 << 16
_SEQUENCE: Final = _SEQUENCES - 1
_TICKS: Final = 1 << 32
_TIMESTAMP: Final = _TICKS - 1


class Due(NamedTuple):
    payload: bytes | None
    """None: a frame is missing, or the sender pauses."""
    following: bytes | None = None
    """Of the packet right after a missing frame, which may hold a copy of it."""


_PAUSE: Final = Due(None)


class JitterBuffer:
    """One stream at a time; another SSRC begins anew."""

    __slots__ = (
        "_base_ms",
        "_filled",
        "_frame_ticks",
        "_jitter_ms",
        "_latest_ticks",
        "_packet_ticks",
        "_sequence",
        "_ssrc",
        "_ticks",
        "_ticks_per_ms",
        "_transit_ms",
        "_waiting",
        "late",
        "missing",
    )

    def __init__(self, clock_hz: int, frame_ticks: int) -> None:
        self.late = 0  # came after their gap was filled
        self.missing = 0  # frames filled where packets were lost
        self._ticks_per_ms = clock_hz / 1000
        self._frame_ticks = frame_ticks
        self._ssrc: int | None = None
        self._restart()

    def _restart(self) -> None:
        self._waiting: dict[int, tuple[int, int, bytes]] = {}  # by sequence: timestamp, arrival, payload
        self._sequence = -1  # the next to give, extended by its cycles
        self._ticks = 0  # its timestamp, likewise
        self._latest_ticks = 0
        self._packet_ticks = self._frame_ticks
        self._base_ms = 0.0  # arrival minus timestamp of a packet that was on time
        self._transit_ms = 0.0
        self._jitter_ms = 0.0
        self._filled = 0  # frames since the last packet

    @property
    def wait_ms(self) -> float:
        """How long a gap is waited for, with the jitter as it is just now."""
        return min(MAX_WAIT_MS, MIN_WAIT_MS + JITTERS * self._jitter_ms)

    def push(self, packet: RtpPacket, now_ms: int) -> None:
        if packet.ssrc != self._ssrc:
            self._ssrc = packet.ssrc
            self._restart()
        if self._sequence < 0:
            self._begin(packet, now_ms)
        sequence = self._sequence
        ahead = (packet.sequence - sequence) & _SEQUENCE
        if ahead:
            ahead = (ahead + _SEQUENCES // 2) % _SEQUENCES - _SEQUENCES // 2
            if abs(ahead) > RESTART:
                self._restart()
                self._begin(packet, now_ms)
                sequence, ahead = self._sequence, 0
            if ahead < 0:
                self.late += ahead < -1  # else the network doubled it
                return
            sequence += ahead
        if sequence in self._waiting:
            return  # the network doubled it
        ticks = latest = self._latest_ticks
        ticks += (packet.timestamp - latest + _TICKS // 2) % _TICKS - _TICKS // 2
        if ticks > latest:
            self._latest_ticks = ticks
        self._waiting[sequence] = ticks, now_ms, packet.payload
        self._time(ticks, now_ms)

    def passes(self, ssrc: int, sequence: int, timestamp: int, now_ms: int) -> bool:
        """Whether this packet is the very next and nothing waits: then it is given at once, and needs no `push`."""
        ticks = self._ticks
        if (
            sequence != self._sequence & _SEQUENCE
            or timestamp != ticks & _TIMESTAMP
            or ssrc != self._ssrc
            or self._waiting
            or self._filled
            or self._sequence < 0
        ):
            return False
        self._time(ticks, now_ms)
        self._sequence += 1
        self._ticks = ticks + self._packet_ticks
        if ticks > self._latest_ticks:
            self._latest_ticks = ticks
        return True

    def _time(self, ticks: int, now_ms: int) -> None:
        """The jitter, and what counts as on time: the quickest, or the latest that came after it was given up."""
        transit_ms = now_ms - ticks / self._ticks_per_ms
        moved_ms = transit_ms - self._transit_ms
        if moved_ms < 0:
            moved_ms = -moved_ms
        self._jitter_ms += ((moved_ms if moved_ms < MAX_GAP_MS else MAX_GAP_MS) - self._jitter_ms) / 16
        self._transit_ms = transit_ms
        if transit_ms < self._base_ms or (self._filled and ticks < self._ticks):
            self._base_ms = transit_ms

    def take(self) -> bytes | None:
        """The next payload in order, if it is here: the quick way to most of what `due` would give."""
        if not self._waiting:
            return None
        found = self._waiting.pop(self._sequence, None)
        if found is None:
            return None
        ticks, _, payload = found
        if ticks != self._ticks or self._filled:
            length = ticks - self._ticks + self._packet_ticks  # of the packet before
            if 0 < length <= MAX_PACKET_MS * self._ticks_per_ms and not self._filled:
                self._packet_ticks = length
            self._filled = 0
        self._sequence += 1
        self._ticks = ticks + self._packet_ticks
        return payload

    def due(self, now_ms: int) -> Sequence[Due]:
        """All that can be given now, in order; to be asked every 20 ms."""
        given: Sequence[Due] = ()
        if self._waiting:
            given = list(self._past_gaps(now_ms))
        if not self._waiting and self._sequence >= 0:
            behind_ms = now_ms - self._base_ms - self._ticks / self._ticks_per_ms
            if behind_ms >= MIN_WAIT_MS and behind_ms >= self.wait_ms:
                self._filled += 1
                self._ticks += self._frame_ticks
                given = (*given, _PAUSE)
        return given

    def _past_gaps(self, now_ms: int) -> Iterator[Due]:
        while self._waiting:
            payload = self.take()
            if payload is not None:
                yield Due(payload)
                continue
            sequence = min(self._waiting)
            ticks, arrival_ms, payload = self._waiting[sequence]
            if now_ms - arrival_ms < self.wait_ms and len(self._waiting) <= MAX_PACKETS:
                return
            yield from self._fill(ticks, payload)
            self._sequence = sequence
            self._ticks = ticks

    def _begin(self, packet: RtpPacket, now_ms: int) -> None:
        self._sequence = packet.sequence
        self._ticks = self._latest_ticks = packet.timestamp
        self._base_ms = self._transit_ms = now_ms - packet.timestamp / self._ticks_per_ms

    def _fill(self, until_ticks: int, following: bytes) -> Iterator[Due]:
        """What is left of a gap; a part may have been filled while nothing came at all."""
        frames = min(until_ticks - self._ticks, int(MAX_GAP_MS * self._ticks_per_ms)) // self._frame_ticks
        for left in range(frames, 0, -1):
            self.missing += 1
            yield Due(None, following if left == 1 else None)
