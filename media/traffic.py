"""What comes and goes on all legs, by transport: sums that never fall, and how each leg had been heard when it ended.

Nothing is counted here that is not counted anyway: it is gathered when somebody asks, and when a leg ends.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from operator import add
from typing import Final, NamedTuple, cast

from media.clock import Tickable, Ticker
from media.histogram import Histogram
from media.leg import Leg
from media.rtp_audio import RtpAudio

LOSS_BOUNDS: Final = (0.0, 0.001, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
JITTER_BOUNDS_S: Final = (0.001, 0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.1, 0.2)
OPINION_BOUNDS: Final = (1.5, 2.0, 2.5, 3.0, 3.5, 3.8, 4.0, 4.2, 4.4)


class Sums(NamedTuple):
    """Of one transport's legs, or of one leg."""

    sent_frames: int = 0  # of 20 ms
    late_frames: int = 0  # that left after their time
    underruns: int = 0  # moments in which speech had to wait for its synthesis
    received_packets: int = 0  # of RTP, as all below
    sent_packets: int = 0
    lost_packets: int = 0
    late_packets: int = 0  # that came after they were given up
    concealed_frames: int = 0
    bad_packets: int = 0
    stray_packets: int = 0  # not of the source that is listened to
    excess_packets: int = 0

    @property
    def rtp(self) -> bool:
        """Whether there was any."""
        return self.sent_packets > 0 or self.received_packets > 0

    def plus(self, other: "Sums") -> "Sums":
        return Sums(*map(add, self, other))


@dataclass(slots=True)
class Quality:
    """How a transport's legs had been heard, each at its end."""

    loss: Histogram = field(default_factory=lambda: Histogram(LOSS_BOUNDS))  # share of packets, late ones included
    jitter_s: Histogram = field(default_factory=lambda: Histogram(JITTER_BOUNDS_S))
    opinion: Histogram = field(default_factory=lambda: Histogram(OPINION_BOUNDS))  # MOS


class Now(NamedTuple):
    """The legs of one transport that live and were heard."""

    legs: int
    jitter_s: float  # mean
    opinion: float  # mean; 0 without a leg


@dataclass(slots=True)
class _Known:
    """What a tickable was seen to have last."""

    leg: Leg
    stream: RtpAudio | None
    lost_packets: int = 0  # at most so far: one that comes after all would make it fall

    def frames(self) -> Sums:
        playout = self.leg.playout
        return Sums(playout.sent_frames, playout.late_frames, playout.underruns)

    def packets(self) -> Sums:
        return self.sums()._replace(sent_frames=0, late_frames=0, underruns=0)

    def sums(self) -> Sums:
        frames, stream = self.frames(), self.stream
        if stream is None:
            return frames
        receiver = stream.receiver
        packets, lost = receiver.before
        self.lost_packets = max(self.lost_packets, lost + max(0, receiver.lost))
        return Sums(
            *frames[:3],
            received_packets=packets + receiver.packets,
            sent_packets=stream.sender.packets,
            lost_packets=self.lost_packets,
            late_packets=stream.buffer.late,
            concealed_frames=stream.concealed_frames,
            bad_packets=stream.bad_packets,
            stray_packets=stream.strays,
            excess_packets=stream.excess_packets,
        )


class Traffic:
    """All legs that `ticker` serves; it is asked on the loop's thread."""

    def __init__(self, ticker: Ticker) -> None:
        self.quality: dict[str, Quality] = {}  # by transport
        self._ticker = ticker
        self._known: dict[Tickable, _Known] = {}
        self._over: dict[str, Sums] = {}  # of legs that ended, by transport
        ticker.discarded = self._ended

    def sums(self) -> dict[str, Sums]:
        """By transport, since the start."""
        live = list(self._live())  # which may find that something has ended
        totals = dict(self._over)
        for known in live:
            transport = known.leg.transport
            totals[transport] = totals.get(transport, Sums()).plus(known.sums())
        return totals

    def now(self) -> dict[str, Now]:
        """By transport that has RTP."""
        found: dict[str, list[RtpAudio]] = {}
        for known in self._live():
            if known.stream is not None and known.stream.receiver.packets:
                found.setdefault(known.leg.transport, []).append(known.stream)
        return {
            transport: Now(
                len(streams),
                sum(stream.receiver.jitter_ms for stream in streams) / len(streams) / 1000,
                sum(stream.opinion for stream in streams) / len(streams),
            )
            for transport, streams in found.items()
        }

    def _live(self) -> Iterator[_Known]:
        for tickable in self._ticker.all:
            if (known := self._look(tickable)) is not None:
                yield known

    def _look(self, tickable: Tickable) -> _Known | None:
        """Its leg and stream as they are now. Where they are others than before, those have ended."""
        known = self._known.get(tickable)
        leg, stream = _parts(tickable)
        if leg is None or (known is not None and known.leg is leg and known.stream is stream):
            return known
        if known is not None:
            if known.leg is not leg:
                self._fold_frames(known)
            if known.stream is not stream:
                self._fold_packets(known)
        lost = known.lost_packets if known is not None and known.stream is stream else 0
        self._known[tickable] = known = _Known(leg, stream, lost)
        return known

    def _ended(self, tickable: Tickable) -> None:
        known = self._look(tickable)
        self._known.pop(tickable, None)
        if known is not None:
            self._fold_frames(known)
            self._fold_packets(known)

    def _fold_frames(self, known: _Known) -> None:
        self._add(known.leg.transport, known.frames())

    def _add(self, transport: str, sums: Sums) -> None:
        self._over[transport] = self._over.get(transport, Sums()).plus(sums)

    def _fold_packets(self, known: _Known) -> None:
        sums, transport = known.packets(), known.leg.transport
        self._add(transport, sums)
        if known.stream is not None and sums.received_packets:
            quality = self.quality.setdefault(transport, Quality())
            missed = sums.lost_packets + sums.late_packets
            quality.loss.observe(min(1.0, missed / (sums.received_packets + sums.lost_packets)))
            quality.jitter_s.observe(known.stream.receiver.jitter_ms / 1000)
            quality.opinion.observe(known.stream.opinion)


def _parts(tickable: Tickable) -> tuple[Leg | None, RtpAudio | None]:
    """A leg is ticked by itself, or by a session that has one, and a stream."""
    if isinstance(tickable, Leg):
        return tickable, None
    return cast(Leg | None, getattr(tickable, "leg", None)), cast(
        RtpAudio | None, getattr(tickable, "audio_stream", None)
    )
