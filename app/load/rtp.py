"""The audio of a simulated caller over RTP: what was encoded before goes out under a header, what comes is passed on.

Nothing is decoded and nothing waits: the ear judges by the packets' own times.
"""

import secrets
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Final

from app.load.line import FRAME_S
from media.audio import FRAME_MS
from media.codec import Codec
from media.digits import DigitSender
from media.rtp import RtpError, RtpPacket, RtpReceiver, RtpSender

WATCH_FRAMES: Final = 50  # of ours, from one look to the next at whether the agent is still there
REPORT_LOOKS: Final = 5  # from one RTCP report to the next (RFC 3550, 6.2)
QUIET_S: Final = 15.0  # without RTP and RTCP the agent is gone: an endpoint that is silent on purpose still reports
MAX_DIGITS: Final = 64  # that wait to be sent

_HALF: Final = 1 << 31
_WRAP: Final = 1 << 32

Heard = Callable[[bytes, float, float | None], None]
"""A payload, when it came, and its place in the sender's time: as `Listener.audio`."""
Transmit = Callable[[bytes], None]
Watch = Callable[[float], None]
"""Told the time about once a second."""


class RtpStream:
    """Both directions of one call. Times are `time.perf_counter` seconds."""

    __slots__ = (
        "_base_ticks",
        "_clock_hz",
        "_cname",
        "_digit_type",
        "_digits",
        "_frame_ticks",
        "_frames",
        "_heard",
        "_last_ticks",
        "_looks",
        "_paused",
        "_pressing",
        "_report",
        "_ssrc",
        "_transmit",
        "_type",
        "_watch",
        "heard_s",
        "receiver",
        "sender",
    )

    def __init__(self, codec: Codec, heard: Heard, transmit: Transmit, report: Transmit, watch: Watch) -> None:
        """`transmit` and `report` are given packets of RTP and RTCP. Nothing goes out before `agree`."""
        self.heard_s = time.perf_counter()  # when anything came last
        self.receiver = RtpReceiver(codec.clock_hz)
        self._cname = secrets.token_hex(8)
        self.sender = RtpSender(secrets.randbits(32), 0, codec.clock_hz, cname=self._cname)
        self._clock_hz = codec.clock_hz
        self._frame_ticks = codec.clock_hz * FRAME_MS // 1000
        self._heard = heard
        self._transmit = transmit
        self._report = report
        self._watch = watch
        self._type = -1
        self._digit_type: int | None = None
        self._digits: deque[tuple[str, int]] = deque()
        self._pressing: Iterator[list[bytes]] | None = None
        self._paused = True  # nothing went out just before
        self._frames = 0
        self._looks = 0
        self._ssrc: int | None = None
        self._last_ticks = 0  # of RTP, of the latest packet
        self._base_ticks = 0  # that count goes on, however often RTP's begins anew

    def agree(self, payload_type: int, receive_type: int, digit_type: int | None) -> None:
        """At first and again: what goes out is numbered on, as SRTP needs it."""
        before = self.sender
        self.sender = RtpSender(
            before.ssrc,
            payload_type,
            self._clock_hz,
            sequence=before.sequence,
            timestamp=before.timestamp,
            cname=self._cname,
        )
        self._type = receive_type
        self._digit_type = digit_type
        self.heard_s = time.perf_counter()

    # Out

    def send(self, payload: bytes) -> None:
        """20 ms, empty where nothing goes out. The marker is on what follows a pause (RFC 3551, 4.1)."""
        self._frames += 1
        if self._frames % WATCH_FRAMES == 0:
            self._look(time.perf_counter())
        if (self._digits or self._pressing is not None) and self._press(send=bool(payload)):
            return
        if payload:
            self._transmit(self.sender.packet(payload, self._frame_ticks, marker=self._paused))
            self._paused = False
        else:
            self.sender.skip(self._frame_ticks)
            self._paused = True

    def digit(self, digit: str, duration_ms: int) -> bool:
        """Instead of the next frames (RFC 4733). False: the peer takes none."""
        if self._digit_type is None:
            return False
        if len(self._digits) < MAX_DIGITS:
            self._digits.append((digit, max(1, round(duration_ms / FRAME_MS))))
        return True

    def _press(self, *, send: bool) -> bool:
        """The part of a digit that belongs into this frame's place. False: none does."""
        if self._pressing is None:
            digit, frames = self._digits.popleft()
            assert self._digit_type is not None
            self._pressing = DigitSender(self.sender, self._digit_type, self._frame_ticks).send(digit, frames)
        packets = next(self._pressing, None)
        if packets is None:
            self._pressing = None
            self._paused = True
            return False
        for packet in packets if send else ():
            self._transmit(packet)
        return True

    def _look(self, now_s: float) -> None:
        self._looks += 1
        if self._looks % REPORT_LOOKS == 0:
            self._report(self.sender.report(int(now_s * 1000), time.time(), self.receiver))
        self._watch(now_s)

    # In

    def received(self, packet: bytes, at_s: float) -> None:
        """RTP; what makes no sense is passed over."""
        try:
            parsed = RtpPacket.parse(packet)
        except RtpError:
            return
        if parsed.payload_type != self._type or not parsed.payload:
            return
        self.receiver.received(parsed, int(at_s * 1000))
        ticks = parsed.timestamp
        if parsed.ssrc == self._ssrc:
            self._base_ticks += (ticks - self._last_ticks + _HALF) % _WRAP - _HALF
        else:  # another source: its time begins where the other's would be by now
            passed_s = at_s - self.heard_s if self._ssrc is not None else FRAME_S
            self._base_ticks += round(passed_s * self._clock_hz)
            self._ssrc = parsed.ssrc
        self._last_ticks = ticks
        self.heard_s = at_s
        self._heard(parsed.payload, at_s, self._base_ticks / self._clock_hz)

    def reported(self, packet: bytes, at_s: float) -> None:
        """RTCP."""
        self.heard_s = at_s
        self.receiver.rtcp(packet, int(at_s * 1000), self.sender.ssrc)
