"""Digits as named telephone events (RFC 4733). Sans-IO."""

import struct
from collections.abc import Iterator
from typing import Final

from media.rtp import RtpPacket, RtpSender

DIGITS: Final = "0123456789*#ABCD"  # by event code (RFC 4733, 3.2)
END_REPEATS: Final = 3  # the end is sent this often (RFC 4733, 2.5.1.4)
VOLUME: Final = 10  # -10 dBm0

_EVENT: Final = struct.Struct("!BBH")
_END: Final = 0x80


class DigitReader:
    """One digit for each event, however often it is sent. The timestamp names an event (RFC 4733, 2.5.1.2)."""

    def __init__(self) -> None:
        self._last: tuple[int, int] | None = None  # SSRC and timestamp

    def received(self, packet: RtpPacket) -> str | None:
        """The digit, at the first packet of it. None: its repeats, no digit, or one from the past."""
        if len(packet.payload) < _EVENT.size or packet.payload[0] >= len(DIGITS):
            return None
        if self._last is not None and self._last[0] == packet.ssrc:
            ahead = (packet.timestamp - self._last[1]) & 0xFFFFFFFF
            if ahead == 0 or ahead >= 1 << 31:
                return None
        self._last = (packet.ssrc, packet.timestamp)
        return DIGITS[packet.payload[0]]


class DigitSender:
    """`send` gives one packet for each frame that the digit lasts, then the repeats of its end."""

    def __init__(self, sender: RtpSender, payload_type: int, frame_ticks: int) -> None:
        self._sender = sender
        self._payload_type = payload_type
        self._frame_ticks = frame_ticks

    def send(self, digit: str, frames: int) -> Iterator[list[bytes]]:
        """One list for each frame's time. The sender's clock goes on with each. Raises `ValueError` for no digit."""
        code = DIGITS.index(digit)
        start = self._sender.timestamp
        for frame in range(1, frames + 1):
            last = frame == frames
            flags = VOLUME | (_END if last else 0)
            event = _EVENT.pack(code, flags, min(frame * self._frame_ticks, 0xFFFF))
            packets = [
                self._sender.event(event, self._payload_type, start, marker=frame == 1 and at == 0)
                for at in range(END_REPEATS if last else 1)
            ]
            self._sender.skip(self._frame_ticks)
            yield packets
