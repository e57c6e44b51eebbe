"""The jitter buffer: packets in as they come, 20 ms out at each pull. Sans-IO: time is an argument.

The transit times of the last second's packets are kept. The least is the base, and the delay aimed for is what 19 of
20 packets kept to beyond it. An empty buffer holds the playout, so that what is only late is still heard. What is then
too much delay is given back by leaving out frames: one in `SHRINK_EVERY` pulls, or at once above the most. A packet
that is missing while later ones wait is lost when its turn comes, so that one straggler delays nothing.
"""

from bisect import bisect_left
from collections import deque
from collections.abc import Callable
from typing import Final

from media.rtp import RtpPacket

MIN_DELAY_MS: Final = 20
MAX_DELAY_MS: Final = 200
WINDOW_MS: Final = 1000  # of transit times that set the delay
MIN_TRANSITS: Final = 8  # kept however old
MAX_TRANSITS: Final = 100
MAX_PACKETS: Final = 64  # waiting; the oldest go first
SHRINK_EVERY: Final = 3  # pulls for one frame left out
MAX_CONCEALED_FRAMES: Final = 6  # in a row; after them it is silence
RESYNC_MS: Final = 2000  # a transit time further off than this is another clock
DTX_BYTES: Final = 2  # a payload that only says that silence goes on

_HALF: Final = 1 << 31
_WRAP: Final = 1 << 32
_REVIEW_PUSHES: Final = 4  # between looks at the transit times


class Taken:
    """One pull's audio. `payload`: decode it. `lost`: conceal `ticks`. Neither: `ticks` of silence.

    `more`: the packet was shorter than a frame, so pull again at the same time. A packet of 60 ms comes whole
    (`ticks` says 60 ms) and the two pulls after it give 0 ticks: nothing is to be added.
    """

    __slots__ = ("lost", "more", "payload", "ticks")

    def __init__(self, payload: bytes | None, ticks: int, *, lost: bool = False, more: bool = False) -> None:
        self.payload = payload
        self.ticks = ticks
        self.lost = lost
        self.more = more


class JitterBuffer:
    """Of one source; another SSRC starts it anew. `ticks_of` gives a payload's length; without it each is one frame."""

    def __init__(self, clock_hz: int, frame_ticks: int, ticks_of: Callable[[bytes], int] | None = None) -> None:
        self.late = 0
        self.duplicates = 0
        self.lost = 0  # frames that were due and had not come
        self.left_out = 0  # packets given up to win back delay or room
        self.resyncs = 0
        self._clock_hz = clock_hz
        self._frame = frame_ticks
        self._ticks_of = ticks_of
        self._per_ms = clock_hz / 1000
        self._silence = Taken(None, frame_ticks)
        self._lost = Taken(None, frame_ticks, lost=True)
        self._covered = Taken(None, 0)
        self._ssrc: int | None = None
        self._reset(0)

    def _reset(self, timestamp: int) -> None:
        self._times: list[int] = []  # unwrapped, in order
        self._packets: list[RtpPacket] = []  # of these times
        self._transits: deque[int] = deque(maxlen=MAX_TRANSITS)
        self._transits_ms: deque[int] = deque(maxlen=MAX_TRANSITS)
        self._pushes: int = 0
        self._base: int = 0  # the least transit, in ticks
        self._target: int = int(MIN_DELAY_MS * self._per_ms)
        self._newest: int = timestamp
        self._next: int = timestamp  # what plays next
        self._sequence: int = 0  # of what played last
        self._playing: bool = False
        self._talking: bool = False  # what played last was no silence
        self._concealed = 0  # frames since then
        self._held: int = 0  # frames of them for which the playout stood still
        self._since_shrink: int = 0
        self._surplus: int = 0  # ticks handed over before their time
        self._need: int = 0  # ticks that this pull still lacks

    @property
    def waiting(self) -> int:
        return len(self._times)

    @property
    def target_ms(self) -> float:
        """The delay aimed for, beyond the quickest packet's."""
        return self._target / self._per_ms

    def delay_ms(self, now_ms: int) -> float:
        """Of what plays now, beyond the quickest packet's."""
        return max(0.0, now_ms - (self._base + self._next) / self._per_ms) if self._playing else self.target_ms

    def push(self, packet: RtpPacket, now_ms: int) -> None:
        if packet.ssrc != self._ssrc:
            self._ssrc = packet.ssrc
            self._reset(packet.timestamp)
        now = int(now_ms * self._per_ms)
        time = self._newest + ((packet.timestamp - self._newest + _HALF) % _WRAP) - _HALF
        transit = now - time
        if self._transits and abs(transit - self._base) > RESYNC_MS * self._per_ms:
            self._reset(packet.timestamp)
            self.resyncs += 1
            time = packet.timestamp
            transit = now - time
        self._note(transit, now_ms)
        times = self._times
        if self._playing and time < self._next:
            self.late += 1
            return
        if not times or time > times[-1]:
            self._newest = max(self._newest, time)
            times.append(time)
            self._packets.append(packet)
        else:
            at = bisect_left(times, time)
            if times[at] == time:
                self.duplicates += 1
                return
            times.insert(at, time)
            self._packets.insert(at, packet)
        if len(times) > MAX_PACKETS:
            self._leave_out()

    def pull(self, now_ms: int) -> Taken:
        """Once each frame's time, and again while `more` says so."""
        need = self._need or self._frame
        if self._surplus >= need:
            self._surplus -= need
            self._need = 0
            return self._covered
        taken = self._take(now_ms)
        left = self._surplus + taken.ticks - need
        if left < 0:
            self._surplus, self._need = 0, -left
            return Taken(taken.payload, taken.ticks, lost=taken.lost, more=True)
        self._surplus, self._need = left, 0
        return taken

    def peek(self) -> bytes | None:
        """After a lost frame: the payload right behind it, which may repair it (Opus FEC)."""
        return self._packets[0].payload if self._times and self._times[0] == self._next else None

    def _note(self, transit: int, now_ms: int) -> None:
        transits, noted_ms = self._transits, self._transits_ms
        transits.append(transit)
        noted_ms.append(now_ms)
        self._pushes += 1
        if self._pushes > MIN_TRANSITS and self._pushes % _REVIEW_PUSHES:
            return
        while len(noted_ms) > MIN_TRANSITS and now_ms - noted_ms[0] > WINDOW_MS:
            noted_ms.popleft()
            transits.popleft()
        ordered = sorted(transits)
        self._base = ordered[0]
        usual = ordered[len(ordered) - 1 - len(ordered) // 20] - self._base
        self._target = min(max(usual, int(MIN_DELAY_MS * self._per_ms)), int(MAX_DELAY_MS * self._per_ms))

    def _take(self, now_ms: int) -> Taken:
        if not self._times:
            self._held += 1
            return self._conceal()
        due = int(now_ms * self._per_ms) - self._base - self._target
        first = self._times[0]
        if self._playing and first > self._next and self._missing():
            held = min(self._held, (first - self._next) // self._frame)
            self._next += held * self._frame  # concealed already
            self._held = 0
            if first >= self._next + self._frame:
                self._next += self._frame
                self.lost += 1
                return self._conceal()
        elif (not self._playing or first > self._next) and due < first:
            self._talking = False
            return self._silence
        self._shrink(due)
        return self._play()

    def _missing(self) -> bool:
        """Not a pause of the sender's: those leave no gap in the sequence."""
        return (self._sequence + 1) & 0xFFFF != self._packets[0].sequence

    def _conceal(self) -> Taken:
        self._concealed += 1
        return self._lost if self._talking and self._concealed <= MAX_CONCEALED_FRAMES else self._silence

    def _shrink(self, due: int) -> None:
        times = self._times
        most = int(MAX_DELAY_MS * self._per_ms) - self._target
        while len(times) > 1 and due - times[0] > most + self._frame:
            self._leave_out()
        self._since_shrink += 1
        if len(times) > 1 and due - times[0] > self._frame and self._since_shrink >= SHRINK_EVERY:
            self._since_shrink = 0
            self._leave_out()

    def _leave_out(self) -> None:
        time = self._times.pop(0)
        packet = self._packets.pop(0)
        self._sequence = packet.sequence
        self._next = max(self._next, min(time + self._frame, self._times[0]))
        self.left_out += 1

    def _play(self) -> Taken:
        time = self._times.pop(0)
        packet = self._packets.pop(0)
        payload = packet.payload
        ticks = self._ticks_of(payload) if self._ticks_of is not None else self._frame
        self._next = time + ticks
        self._sequence = packet.sequence
        self._playing = True
        self._talking = len(payload) > DTX_BYTES
        self._concealed = self._held = 0
        return Taken(payload, ticks)
