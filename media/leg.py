"""One media connection: its ear, its playout, its recording, and the two sides that it stands between."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from media.audio import FRAME_MS, Pcm, Resampler, silence
from media.ear import Ear, EarListener
from media.mixer import Bus, Tap, mixed
from media.playout import Playout, PlayoutListener, Sink
from media.recorder import Recorder
from media.vad import EAR_RATES_HZ

WIDE_EAR_RATE_HZ = 16000
MAX_TURN_CHARS = 2000
"""Of a typed turn, over any transport."""


class CloseCode(StrEnum):
    """Why a leg was closed or refused. Each transport has its own numbers for these."""

    normal = "normal"
    bad_message = "bad-message"
    too_large = "too-large"
    too_fast = "too-fast"
    too_slow = "too-slow"  # the peer does not read what it is sent
    unauthorized = "unauthorized"
    forbidden = "forbidden"  # known, but not allowed this
    busy = "busy"
    unknown_flow = "unknown-flow"
    unknown_call = "unknown-call"  # the one to be listened to
    timeout = "timeout"
    replaced = "replaced"  # another connection resumed the call
    going_away = "going-away"  # the server stops
    internal_error = "internal-error"


class Wire(Sink, Protocol):
    """The transport's side of a leg. Nothing here blocks; after `end` or `close` the rest does nothing."""

    @property
    def stalled(self) -> bool:
        """The peer does not take what was sent: nothing more is sent until it does, so it is not taken for heard."""
        ...

    def caption(self, text: str) -> None:
        """Words that are about to be spoken, for a peer that asked to read along."""
        ...

    def tell(self, message: str) -> None:
        """A JSON message about the call, for a peer that shows it; transports without a place for it drop it."""
        ...

    def end(self, cause: str, outcome: str) -> None:
        """The call is over: tell the peer, where the transport can, and close normally."""
        ...

    def close(self, code: CloseCode, reason: str) -> None: ...


class LegHandler(EarListener, PlayoutListener, Protocol):
    """The call's side of a leg. Called in the audio path: nothing here may block.

    `attach` comes first; one of `hung_up`, `lost` and `failed` comes last, unless the call itself ended the leg.
    """

    def attach(self, leg: "Leg") -> None: ...

    def digit(self, digit: str) -> None:
        """One of 0-9 * #."""
        ...

    def text(self, text: str) -> None:
        """A whole turn, typed."""
        ...

    def held(self, *, on: bool) -> None:
        """The peer put the call on hold, or took it back."""
        ...

    def measured(self, packets: int, lost: int, jitter_ms: float, opinion: float) -> None:
        """How the peer is heard so far; now and then, where packets are counted."""
        ...

    def hung_up(self) -> None:
        """The peer said goodbye."""
        ...

    def lost(self) -> None:
        """The connection broke, or the peer did not keep to the protocol; it may come back."""
        ...

    def failed(self, error: Exception) -> None:
        """Our own code broke while it served this leg. The call is to end; the leg closes by itself."""
        ...


Monitor = Callable[[Pcm, int], None]
"""Also given all that the peer sends, at the leg's rate, with the time."""


@dataclass(frozen=True, slots=True)
class Instead:
    """Whom a peer wants to be called in its own place. All of it is the peer's claim."""

    to: str  # a SIP URI or a telephone number
    replaces: str = ""  # the call there whose place is to be taken (RFC 3891)
    by: str = ""  # who says so (RFC 3892)


Refer = Callable[[str, Callable[[int], None]], None]
"""Asks the peer to call somebody else, where its transport can; then it tells SIP statuses, the last from 200 on."""


Referred = Callable[[Instead, Callable[[int], None]], bool]
"""Whether the call will tell, by SIP statuses, what comes of it: the last from 200 on, perhaps that it may not be."""


class Leg:
    """Made by a transport, handed to the call with `LegHandler.attach`. Sync; one thread.

    The playout runs at `rate_hz`, the peer's own; the ear at `ear_rate_hz`, 8 or 16 kHz. A call that records sets
    `recorder`, at `rate_hz`, and closes it itself. A call of several legs joins them by a `media.mixer.Mixer`.
    """

    def __init__(
        self,
        leg_id: str,
        transport: str,
        rate_hz: int,
        wire: Wire,
        handler: LegHandler,
        *,
        peer_buffer_ms: int = 0,
        marks: bool = False,
        shows: bool = False,
    ) -> None:
        """`shows`: the peer takes what `tell` says of its call."""
        self.id = leg_id
        self.shows = shows
        self.transport = transport
        self.rate_hz = rate_hz
        self.ear_rate_hz = rate_hz if rate_hz in EAR_RATES_HZ else WIDE_EAR_RATE_HZ
        self.ear = Ear(self.ear_rate_hz, handler)
        self.playout = Playout(rate_hz, self, handler, peer_buffer_ms=peer_buffer_ms, marks=marks)
        self.recorder: Recorder | None = None
        self.monitor: Monitor | None = None
        self.refer: Refer | None = None
        self.measure: Callable[[], None] | None = None  # tells `measured` now, where the transport can
        self.referred: Referred | None = None  # set by a call whose peer may ask for that
        self.muted = False  # the peer does not hear the playout; others may
        self.tap: Tap | None = None  # the mixer's, as is `bus`
        self.bus: Bus | None = None
        self._wire = wire
        self._handler = handler
        self._resampler = Resampler(rate_hz, self.ear_rate_hz) if rate_hz != self.ear_rate_hz else None
        self._now_ms = 0
        self._over = False

    # The call's orders

    def caption(self, text: str) -> None:
        self._wire.caption(text)

    def tell(self, message: str) -> None:
        self._wire.tell(message)

    def end(self, cause: str, outcome: str) -> None:
        """The call is over. No goodbye of the peer is reported any more."""
        self._stop()
        self._wire.end(cause, outcome)

    def close(self, code: CloseCode, reason: str) -> None:
        """Close without an outcome. No goodbye of the peer is reported any more."""
        self._stop()
        self._wire.close(code, reason)

    # The transport's facts

    def receive(self, pcm: Pcm, now_ms: int) -> None:
        """Audio from the peer, any length, at `rate_hz`."""
        if self._over:
            return
        if self.recorder is not None:
            self.recorder.caller(pcm, now_ms)
        if self.tap is not None:
            self.tap.heard(pcm)
        if self.monitor is not None:
            self.monitor(pcm, now_ms)
        if self._resampler is not None:
            pcm = self._resampler.process(pcm)
        self.ear.feed(pcm, now_ms)

    def tick(self, now_ms: int) -> None:
        self._now_ms = now_ms
        if not self._wire.stalled:
            sent_frames = self.playout.sent_frames
            self.playout.tick(now_ms)
            if self.bus is not None and self.playout.sent_frames == sent_frames:
                others = self.bus.take()
                if others is not None:
                    self._send(others)
        if self.ear.speaking:
            self.ear.tick(now_ms)

    def digit(self, digit: str) -> None:
        if not self._over:
            self._handler.digit(digit)

    def text(self, text: str) -> None:
        if not self._over:
            self._handler.text(text)

    def held(self, *, on: bool) -> None:
        if not self._over:
            self._handler.held(on=on)

    def measured(self, packets: int, lost: int, jitter_ms: float, opinion: float) -> None:
        if not self._over:
            self._handler.measured(packets, lost, jitter_ms, opinion)

    def gone(self, *, goodbye: bool) -> None:
        """The peer went away."""
        if not self._over:
            self._stop()
            if goodbye:
                self._handler.hung_up()
            else:
                self._handler.lost()

    def failed(self, error: Exception) -> None:
        """Something raised while it served this leg; whoever caught it has discarded or is discarding the leg."""
        if not self._over:
            self._over = True
            self._handler.failed(error)
        self._wire.close(CloseCode.internal_error, "internal error")

    def _stop(self) -> None:
        if not self._over:
            self._over = True
            self.ear.stop()
            self.playout.lost()

    # The playout's sink

    def audio(self, frame: Pcm) -> None:
        if self.tap is not None:
            self.tap.said(frame)
        if self.muted:
            frame = silence(self.rate_hz, FRAME_MS)
        if self.bus is not None and (others := self.bus.take()) is not None:
            frame = mixed((frame, others))
        self._send(frame)

    def mark(self, name: str) -> None:
        self._wire.mark(name)

    def clear(self) -> None:
        self._wire.clear()

    def _send(self, frame: Pcm) -> None:
        if self.recorder is not None:
            self.recorder.agent(frame, self._now_ms)
        self._wire.audio(frame)
