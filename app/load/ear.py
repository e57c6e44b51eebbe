"""What a caller hears: arriving frames played one after another, and from that when the agent was audible.

A frame is played when the one before it is over; one that comes later than that leaves a hole. Where frames carry
their own time, a missing one leaves a hole as well. Times are those at a peer that adds no delay of its own.
"""

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Callable
from typing import Final

from msgspec import Struct

from app.load.line import FRAME_S
from media.audio import FRAME_MS, FULL_SCALE, alaw_to_pcm, rms, ulaw_to_pcm
from media.codec import Codec, PayloadError

AUDIBLE_DBFS: Final = -45.0  # a frame that is softer counts as silence
LASTS_S: Final = 0.6  # of silence: the agent has stopped. Shorter ones are pauses, holds and holes
JOIN_S: Final = 0.03  # spans that are nearer are one
STREAM_SLACK_S: Final = 0.005  # over a stream, a frame is late when it is behind its time by more
NEAR_S: Final = 0.0005  # times that differ by less are the same
PACKET_SLACK_S: Final = 0.06  # over packets, what any telephone's jitter buffer bridges
STALL_S: Final = 0.15  # a shorter hole is one wherever it is; a longer one in silence is the agent's pause
BACK_S: Final = 10.0  # a sender's time that jumps by more has begun anew

AUDIBLE_RMS: Final = round(FULL_SCALE * 10 ** (AUDIBLE_DBFS / 20))

Meter = Callable[[bytes], int]
"""A payload's level, as the root mean square of its samples."""


def meter(codec: Codec) -> Meter:
    """For what comes over one line. The codec is used where its payloads have to be decoded."""
    match codec.name:
        case "PCMU":
            return lambda payload: rms(ulaw_to_pcm(payload).tobytes())
        case "PCMA":
            return lambda payload: rms(alaw_to_pcm(payload).tobytes())
        case _:
            return lambda payload: _decoded_rms(codec, payload)


def _decoded_rms(codec: Codec, payload: bytes) -> int:
    try:
        return rms(codec.decode(payload).tobytes())
    except PayloadError:
        return 0


class Hole(Struct, frozen=True):
    """Nothing was there to be played, for less than a lasting silence."""

    at_s: float
    length_s: float


class Ear:
    """One call's. `starts` and `ends` are of the spans in which the agent was audible, in order; all in seconds."""

    def __init__(self, codec: Codec, *, tells_clears: bool = False, keep: bool = False) -> None:
        """`tells_clears`: so does the line. `keep`: all that was played is kept, with its time."""
        self.tells_clears = tells_clears
        self.frames = 0
        self.starts = array("d")
        self.ends = array("d")
        self.clears: list[float] = []
        self.holes: list[Hole] = []
        self.speech_began_s = 0.0  # of the latest speech: what no lasting silence and no clear divides
        self.kept: list[tuple[float, bytes]] | None = [] if keep else None
        self._meter = meter(codec)
        self._frame_bytes = codec.bytes_per_ms * FRAME_MS
        self._next_s = 0.0  # when all that came has been played
        self._anchor_s: float | None = None  # the sender's time 0
        self._audible = False  # the latest frame
        self._cleared = True  # no frame since

    # What comes

    def audio(self, payload: bytes, at_s: float, media_s: float | None = None) -> None:
        """A frame, or several in one payload where the codec's payloads can be cut."""
        size = self._frame_bytes
        if not size or len(payload) <= size:
            self._frame(payload, at_s, media_s)
            return
        for at in range(0, len(payload), size):
            part_s = None if media_s is None else media_s + at / size * FRAME_S
            self._frame(payload[at : at + size], at_s, part_s)

    def clear(self, at_s: float) -> None:
        """What is not played yet is thrown away."""
        self.clears.append(at_s)
        while self.starts and self.starts[-1] >= at_s:
            self.starts.pop()
            self.ends.pop()
        if self.ends and self.ends[-1] > at_s:
            self.ends[-1] = at_s
        if self.kept is not None:
            while self.kept and self.kept[-1][0] >= at_s:
                self.kept.pop()
        self._next_s = min(self._next_s, at_s)
        self._cleared = True

    def restart(self) -> None:
        """The line is another one from here on: what comes next is no hole."""
        self._anchor_s = None
        self._cleared = True

    def _frame(self, payload: bytes, at_s: float, media_s: float | None) -> None:
        self.frames += 1
        next_s = self._next_s
        left_out = False
        if media_s is not None:
            start_s, in_time = self._place(at_s, media_s)
            if start_s < next_s - NEAR_S:
                self._mend(start_s, at_s)
                return
            left_out = in_time and not self._audible  # silence need not be sent (RFC 3551, 4.1)
        else:
            start_s = next_s if at_s <= next_s + STREAM_SLACK_S else at_s
        missing_s = start_s - next_s
        bridges_s = LASTS_S if self._audible else STALL_S
        if NEAR_S < missing_s < bridges_s and not self._cleared and not left_out:
            self.holes.append(Hole(next_s, missing_s))
        end_s = start_s + (len(payload) / self._frame_bytes if self._frame_bytes else 1) * FRAME_S
        audible = self._meter(payload) >= AUDIBLE_RMS
        if audible:
            self._hear(start_s, end_s)
        if self.kept is not None:
            self.kept.append((start_s, payload))
        self._audible = audible
        self._cleared = False
        self._next_s = end_s

    def _place(self, at_s: float, media_s: float) -> tuple[float, bool]:
        """When a frame is to be played that says its own time, in the past where it came too late for that.

        And whether its own time is the one: else a new reckoning begins with it.
        """
        if self._anchor_s is not None and at_s - self._next_s <= STALL_S and not self._cleared:
            start_s = self._anchor_s + media_s
            in_time = at_s <= start_s + PACKET_SLACK_S
            if in_time and start_s - at_s < BACK_S:
                return start_s, True
            if start_s + FRAME_S <= self._next_s and self._next_s - start_s < BACK_S:
                return start_s, False
        self._anchor_s = at_s - media_s
        return at_s, False

    def _mend(self, start_s: float, at_s: float) -> None:
        """A packet that another one overtook; in time, it fills the hole that was taken for its loss."""
        if not self.holes or at_s > start_s + PACKET_SLACK_S:
            return
        hole = self.holes[-1]
        if hole.at_s - JOIN_S < start_s < hole.at_s + hole.length_s:
            self.holes.pop()
            if hole.length_s > 1.5 * FRAME_S:
                self.holes.append(Hole(hole.at_s, hole.length_s - FRAME_S))

    def _hear(self, start_s: float, end_s: float) -> None:
        silent_s = start_s - self.last_end_s
        cleared = self._cleared_since(self.last_end_s)
        if self.ends and silent_s <= JOIN_S and not cleared:
            self.ends[-1] = end_s
            return
        if silent_s >= LASTS_S or cleared:
            self.speech_began_s = start_s
        self.starts.append(start_s)
        self.ends.append(end_s)

    def _cleared_since(self, at_s: float) -> bool:
        return bool(self.clears) and self.clears[-1] >= at_s

    # What was heard

    @property
    def last_start_s(self) -> float:
        return self.starts[-1] if self.starts else 0.0

    @property
    def last_end_s(self) -> float:
        """May lie ahead: what has come and is still to be played."""
        return self.ends[-1] if self.ends else 0.0

    def spoke_at(self, at_s: float, within_s: float) -> bool:
        """Whether the agent was audible then, or not longer before than that."""
        at = bisect_right(self.starts, at_s)
        return at > 0 and self.ends[at - 1] >= at_s - within_s

    def next_start_s(self, after_s: float) -> float | None:
        at = bisect_left(self.starts, after_s)
        return self.starts[at] if at < len(self.starts) else None

    def stop_s(self, after_s: float, until_s: float) -> float | None:
        """The end of the last audible frame before the first silence that lasts; not before `after_s`.

        None where the agent did not stop, or where `until_s` is too soon to say.
        """
        at = max(0, bisect_right(self.starts, after_s) - 1)
        while at < len(self.ends):
            end_s = self.ends[at]
            reaches_s = min(self.starts[at + 1], until_s) if at + 1 < len(self.starts) else until_s
            if reaches_s > after_s and end_s < until_s and self._stopped(end_s, reaches_s, after_s):
                return max(end_s, after_s)
            at += 1
        return None

    def _stopped(self, end_s: float, reaches_s: float, after_s: float) -> bool:
        return reaches_s - end_s >= LASTS_S or self.clear_s(max(end_s - JOIN_S, after_s), reaches_s) is not None

    def clear_s(self, after_s: float, until_s: float) -> float | None:
        """The first order to clear in that time."""
        at = bisect_left(self.clears, after_s)
        return self.clears[at] if at < len(self.clears) and self.clears[at] <= until_s else None
