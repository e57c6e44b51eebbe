"""Uncompressed samples over RTP."""

from typing import ClassVar

import numpy as np

from media.audio import Pcm
from media.codec import MAX_PACKET_MS, Codec, PayloadError, Stateless

_SAMPLE_BYTES = 2


class _Linear(Stateless, Codec):
    """16-bit samples in network byte order, mono (RFC 3551, 4.5.11)."""

    name: ClassVar[str] = "L16"
    rate_hz: ClassVar[int]
    clock_hz: ClassVar[int]
    bytes_per_ms: ClassVar[int]

    def encode(self, frame: Pcm) -> bytes:
        return frame.astype(">i2").tobytes()

    def decode(self, payload: bytes) -> Pcm:
        if not 0 < len(payload) <= self.bytes_per_ms * MAX_PACKET_MS or len(payload) % _SAMPLE_BYTES:
            raise PayloadError("a packet of L16 carries whole samples, up to 200 ms")
        return self._concealer.heard(np.frombuffer(payload, dtype=">i2").astype(np.int16))


class L16(_Linear):
    """At a telephone's bandwidth."""

    rate_hz: ClassVar[int] = 8000
    clock_hz: ClassVar[int] = 8000
    bytes_per_ms: ClassVar[int] = 16


class L16Wide(_Linear):
    """At twice that."""

    rate_hz: ClassVar[int] = 16_000
    clock_hz: ClassVar[int] = 16_000
    bytes_per_ms: ClassVar[int] = 32
