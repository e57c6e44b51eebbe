"""G.722 (ITU-T G.722 at 64 kbit/s, RFC 3551, 4.5.2) by FFmpeg, through PyAV."""

from typing import ClassVar, Literal

import av
import numpy as np
from av.audio.codeccontext import AudioCodecContext

from media.audio import Pcm, frame_samples
from media.codec import MAX_PACKET_MS, Codec, Concealer, PayloadError


class G722(Codec):
    """16 kHz, of which RTP counts only half: an error that RFC 3551 keeps on purpose. The sound comes 1.4 ms later."""

    name: ClassVar[str] = "G722"
    rate_hz: ClassVar[int] = 16_000
    clock_hz: ClassVar[int] = 8000
    bytes_per_ms: ClassVar[int] = 8

    def __init__(self) -> None:
        self.reset()

    def encode(self, frame: Pcm) -> bytes:
        if len(frame) != len(self._input):
            raise ValueError("a frame is 20 ms")
        self._input[:] = frame
        (packet,) = self._encoder.encode(self._frame)
        return bytes(packet)

    def decode(self, payload: bytes) -> Pcm:
        if not 0 < len(payload) <= self.bytes_per_ms * MAX_PACKET_MS:
            raise PayloadError("a packet of G.722 carries up to 200 ms")
        (frame,) = self._decoder.decode(av.Packet(payload))
        return self._concealer.heard(np.frombuffer(memoryview(frame.planes[0]), np.int16, frame.samples).copy())

    def conceal(self) -> Pcm:
        return self._concealer.conceal()

    def recover(self, payload: bytes) -> Pcm | None:
        return None

    def reset(self) -> None:
        self._encoder, self._decoder = self._context("w"), self._context("r")
        self._concealer = Concealer(self.rate_hz)
        self._frame = av.AudioFrame("s16", "mono", frame_samples(self.rate_hz))  # the same one each time
        self._frame.sample_rate = self.rate_hz
        self._input: Pcm = np.frombuffer(memoryview(self._frame.planes[0]), np.int16)  # its samples

    def _context(self, mode: Literal["r", "w"]) -> AudioCodecContext:
        context = av.CodecContext.create("g722", mode)
        assert isinstance(context, AudioCodecContext)
        context.sample_rate = self.rate_hz
        context.layout = "mono"
        context.format = "s16"
        context.open()
        return context
