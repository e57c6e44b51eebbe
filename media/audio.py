"""Samples: G.711, resampling, levels, and the sizes that everything else counts in."""

import math
import sys
import warnings
from functools import cache
from typing import TypeAlias

import numpy as np
import soxr
from numpy.typing import NDArray

with warnings.catch_warnings():
    # Deprecated in 3.11 and 3.12, gone in 3.13, where audioop-lts gives the same module.
    warnings.simplefilter("ignore", DeprecationWarning)
    import audioop

Pcm: TypeAlias = NDArray[np.int16]
"""Mono samples, shape (n,), at a rate that the place says."""

FRAME_MS = 20
RATES_HZ = (8000, 16000, 24000, 48000)
FULL_SCALE = 32768
SILENCE_DBFS = -96.0

_SAMPLE = np.dtype(np.int16)  # made once: finding it takes as long as the view itself
_LOW_PASS_TAPS = 33  # 0.3 ms of delay at 48 kHz, 1 ms at 16 kHz
_LOW_PASS_CUT = 0.42  # of the lower rate: 6.7 kHz where that is 16 kHz


def frame_samples(rate_hz: int) -> int:
    return rate_hz * FRAME_MS // 1000


def silence(rate_hz: int, duration_ms: int) -> Pcm:
    return np.zeros(rate_hz * duration_ms // 1000, dtype=np.int16)


def dbfs(pcm: Pcm) -> float:
    """Level of the whole, `SILENCE_DBFS` for nothing or digital silence."""
    level = audioop.rms(pcm.tobytes(), 2)
    return 20 * math.log10(level / FULL_SCALE) if level else SILENCE_DBFS


def rms(data: bytes) -> int:
    """Root mean square of native 16-bit samples."""
    return audioop.rms(data, 2)


# G.711 (ITU-T G.711): one byte a sample, 8 kHz


def ulaw_to_pcm(data: bytes) -> Pcm:
    return np.frombuffer(audioop.ulaw2lin(data, 2), _SAMPLE)


def pcm_to_ulaw(pcm: Pcm) -> bytes:
    return audioop.lin2ulaw(pcm.tobytes(), 2)


def alaw_to_pcm(data: bytes) -> Pcm:
    return np.frombuffer(audioop.alaw2lin(data, 2), _SAMPLE)


def pcm_to_alaw(pcm: Pcm) -> bytes:
    return audioop.lin2alaw(pcm.tobytes(), 2)


# Little-endian 16-bit, as L16 on little-endian wires and in WAV files


def bytes_to_pcm(data: bytes) -> Pcm:
    """A read-only view of `data` where the machine is little-endian too. Raises `ValueError` on half a sample."""
    return np.frombuffer(data, dtype="<i2").astype(np.int16, copy=False)


def pcm_to_bytes(pcm: Pcm) -> bytes:
    if sys.byteorder == "big":
        return pcm.astype("<i2").tobytes()
    return pcm.tobytes()


class Resampler:
    """One stream of samples from one rate to another; the total length is kept to the sample, no delay is added up.

    `live` gives each frame's samples at once: cubic interpolation behind a short low-pass, for what arrives in real
    time. Otherwise soxr's HQ, which is cleaner and gives its output in bursts of up to 100 ms: for synthesized speech.
    """

    def __init__(self, from_hz: int, to_hz: int, *, live: bool = True) -> None:
        same = from_hz == to_hz
        self._stream = None if same else soxr.ResampleStream(from_hz, to_hz, 1, "int16", "QQ" if live else "HQ")
        filtered = live and not same
        self._before = _LowPass(from_hz, to_hz) if filtered and from_hz > to_hz else None
        self._after = _LowPass(to_hz, from_hz) if filtered and to_hz > from_hz else None

    def process(self, pcm: Pcm) -> Pcm:
        return pcm if self._stream is None else self._run(self._stream, pcm, last=False)

    def flush(self) -> Pcm:
        """What is still inside; the next `process` begins a new stream."""
        if self._stream is None:
            return np.zeros(0, dtype=np.int16)
        rest = self._run(self._stream, np.zeros(0, dtype=np.int16), last=True)
        self._stream.clear()
        for low_pass in (self._before, self._after):
            if low_pass:
                low_pass.clear()
        return rest

    def _run(self, stream: soxr.ResampleStream, pcm: Pcm, *, last: bool) -> Pcm:
        if self._before:
            pcm = self._before.process(pcm)
        out: Pcm = stream.resample_chunk(pcm, last=last)
        return self._after.process(out) if self._after else out


class _LowPass:
    """Cuts what the lower of two rates cannot carry; a windowed sinc at the higher rate."""

    def __init__(self, high_hz: int, low_hz: int) -> None:
        self._taps = _sinc(low_hz / high_hz)
        self._tail = np.zeros(_LOW_PASS_TAPS - 1, dtype=np.float32)

    def process(self, pcm: Pcm) -> Pcm:
        if not len(pcm):
            return pcm
        samples = np.concatenate((self._tail, pcm), dtype=np.float32)
        self._tail = samples[len(samples) - (_LOW_PASS_TAPS - 1) :]
        out = np.convolve(samples, self._taps, "valid")
        np.clip(out, -FULL_SCALE, FULL_SCALE - 1, out=out)
        return out.astype(np.int16)

    def clear(self) -> None:
        self._tail = np.zeros(_LOW_PASS_TAPS - 1, dtype=np.float32)


@cache
def _sinc(ratio: float) -> NDArray[np.float32]:
    """Taps of the low-pass for this ratio of rates."""
    at = np.arange(_LOW_PASS_TAPS) - (_LOW_PASS_TAPS - 1) / 2
    taps = np.sinc(2 * _LOW_PASS_CUT * ratio * at) * np.hamming(_LOW_PASS_TAPS)
    return np.asarray(taps / taps.sum(), dtype=np.float32)
