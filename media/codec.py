"""Payloads and samples: what a leg needs of a codec, G.711, and what is heard where a packet is missing."""

from collections import deque
from functools import cache
from typing import ClassVar, Final, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from media.audio import FULL_SCALE, Pcm, alaw_to_pcm, frame_samples, pcm_to_alaw, pcm_to_ulaw, rms, ulaw_to_pcm

Samples: TypeAlias = NDArray[np.float32]
"""Mono at the scale of `Pcm`, while they are computed with."""

MAX_PACKET_MS: Final = 200  # of G.711 in one packet (RFC 3551, 4.2: receivers should accept 0 to 200 ms)
MAX_G711_BYTES: Final = 8 * MAX_PACKET_MS
TOO_LONG: Final = "a packet of G.711 carries up to 200 ms"

PITCH_HZ: Final = (66, 400)
COMPARED_MS: Final = 20  # of the latest sound, with itself earlier, to find its period
PERIODIC: Final = 0.5  # correlation from which it counts as a voice
FADE_MS: Final = 60  # from full level to comfort noise
JOIN_MS: Final = 4  # cross-fade between what was made up and what came

NOISE_START_DBFS: Final = -65.0  # until the caller's own noise is known
MAX_NOISE_DBFS: Final = -45.0
NOISE_RISE: Final = 1.08  # each time it is measured: doubles in 0.7 s without a pause
NOISE_MS: Final = 1000  # one round of it
NOISE_FRAMES: Final = 4  # of which one is measured: pauses are longer


class PayloadError(ValueError):
    """The peer's payload is not of this codec. The codec's state is as before."""


class Codec(Protocol):
    """One direction each way of one leg; both have state. Frames are 20 ms at `rate_hz`."""

    name: ClassVar[str]
    """As SDP has it (RFC 3551, RFC 7587)."""
    rate_hz: ClassVar[int]
    """Of the samples."""
    clock_hz: ClassVar[int]
    """Of RTP's timestamps."""
    bytes_per_ms: ClassVar[int] = 0
    """Of a payload that can be cut anywhere; 0: it cannot."""

    def encode(self, frame: Pcm) -> bytes: ...

    def decode(self, payload: bytes) -> Pcm:
        """As long as the packet says, at most `MAX_PACKET_MS`; the array is the caller's. Raises `PayloadError`."""
        ...

    def conceal(self) -> Pcm:
        """20 ms for a packet that did not come: the sound before goes on and fades to comfort noise."""
        ...

    def recover(self, payload: bytes) -> Pcm | None:
        """The missing packet out of the one after it, which is to be decoded next. None where it cannot be had.

        As long as the later packet's own frames, at least 20 ms. Never raises on what came from outside.
        """
        ...

    def reset(self) -> None:
        """As new: another stream begins."""
        ...


class ComfortNoise:
    """Soft noise as loud as the pauses of what was heard, so that a gap does not sound like a dead line."""

    __slots__ = ("_at", "_level", "_most", "_table")

    def __init__(self, rate_hz: int) -> None:
        self._table = _noise(rate_hz)
        self._at = 0
        self._level = FULL_SCALE * 10 ** (NOISE_START_DBFS / 20)
        self._most = FULL_SCALE * 10 ** (MAX_NOISE_DBFS / 20)

    def heard(self, pcm: Pcm) -> None:
        """One of `NOISE_FRAMES`. Falls at once to a quieter one, rises slowly: speech has pauses, noise has none."""
        self._level = min(max(self._level, 1.0) * NOISE_RISE, rms(pcm.tobytes()), self._most)

    def make(self, samples: int) -> Samples:
        if self._at + samples > len(self._table):
            self._at = 0
        self._at += samples
        made: Samples = self._table[self._at - samples : self._at] * np.float32(self._level)
        return made


class Concealer:
    """Repeats the last period of the pitch while it fades to comfort noise, as G.711 appendix I does.

    No delay is added: the seam to what was played is bent, the seam to what comes is cross-faded.
    """

    __slots__ = (
        "_bend",
        "_fade_samples",
        "_frame_samples",
        "_heard",
        "_history",
        "_join_samples",
        "_made",
        "_noise",
        "_period",
        "_rate_hz",
    )

    def __init__(self, rate_hz: int) -> None:
        self._rate_hz = rate_hz
        self._frame_samples = frame_samples(rate_hz)
        self._join_samples = rate_hz * JOIN_MS // 1000
        self._fade_samples = rate_hz * FADE_MS // 1000
        self._history: deque[Pcm] = deque(maxlen=4)
        self._noise = ComfortNoise(rate_hz)
        self._heard = 0  # frames, since the level of the pauses was measured
        self._period: Samples | None = None  # while concealing
        self._bend = np.float32(0)
        self._made = 0  # samples since the last that came

    def heard(self, pcm: Pcm) -> Pcm:
        """Each frame that came, in order; what is to be played for it."""
        if self._period is not None:
            pcm = self._join(pcm)
            self._period = None
        self._heard += 1
        if self._heard >= NOISE_FRAMES:
            self._heard = 0
            self._noise.heard(pcm)
        self._history.append(pcm)
        return pcm

    def conceal(self) -> Pcm:
        """20 ms in place of what did not come."""
        made = _to_pcm(self._continue(self._frame_samples))
        self._history.append(made)
        return made

    def _join(self, pcm: Pcm) -> Pcm:
        samples = min(self._join_samples, len(pcm))
        rising = _rising(samples)
        joined = pcm.copy()
        joined[:samples] = _to_pcm(self._continue(samples) * (1 - rising) + pcm[:samples] * rising)
        return joined

    def _continue(self, samples: int) -> Samples:
        if self._period is None:
            self._begin()
        noise = self._noise.make(samples)
        if self._made >= self._fade_samples:
            return noise
        assert self._period is not None
        at = np.arange(self._made, self._made + samples)
        voice = self._period[at % len(self._period)]
        voice += self._bend * np.maximum(0, 1 - at / self._join_samples, dtype=np.float32)
        loud = np.maximum(0, 1 - at / self._fade_samples, dtype=np.float32)
        self._made += samples
        mixed: Samples = voice * loud + noise * (1 - loud)
        return mixed

    def _begin(self) -> None:
        longest, shortest = self._rate_hz // PITCH_HZ[0], self._rate_hz // PITCH_HZ[1]
        compared = self._rate_hz * COMPARED_MS // 1000
        past = np.zeros(longest + compared + longest // 4, dtype=np.float32)
        if self._history:
            known = np.concatenate(self._history)[-len(past) :]
            past[len(past) - len(known) :] = known
        lag = _period(past[-longest - compared :], compared, shortest, longest)
        period = past[-lag:].copy()
        blend = lag // 4
        rising = _rising(blend)
        before = past[-lag - blend : -lag]
        period[-blend:] = period[-blend:] * (1 - rising) + before * rising  # so that it can follow itself
        self._period = period
        self._bend = past[-1] - past[-lag - 1]  # what the first seam would jump by
        self._made = 0


class Stateless:
    """What codecs share whose packets stand alone: no state but the listener's, no copy of one in the next."""

    rate_hz: ClassVar[int]

    def __init__(self) -> None:
        self._concealer = Concealer(self.rate_hz)

    def conceal(self) -> Pcm:
        return self._concealer.conceal()

    def recover(self, payload: bytes) -> Pcm | None:
        return None

    def reset(self) -> None:
        self._concealer = Concealer(self.rate_hz)


class _G711(Stateless):
    """8 kHz, a byte a sample (ITU-T G.711)."""

    rate_hz: ClassVar[int] = 8000
    clock_hz: ClassVar[int] = 8000
    bytes_per_ms: ClassVar[int] = 8


class Pcmu(_G711, Codec):
    name: ClassVar[str] = "PCMU"

    def encode(self, frame: Pcm) -> bytes:
        return pcm_to_ulaw(frame)

    def decode(self, payload: bytes) -> Pcm:
        if not 0 < len(payload) <= MAX_G711_BYTES:
            raise PayloadError(TOO_LONG)
        return self._concealer.heard(ulaw_to_pcm(payload))


class Pcma(_G711, Codec):
    name: ClassVar[str] = "PCMA"

    def encode(self, frame: Pcm) -> bytes:
        return pcm_to_alaw(frame)

    def decode(self, payload: bytes) -> Pcm:
        if not 0 < len(payload) <= MAX_G711_BYTES:
            raise PayloadError(TOO_LONG)
        return self._concealer.heard(alaw_to_pcm(payload))


def _period(past: Samples, compared: int, shortest: int, longest: int) -> int:
    """Samples after which the last `compared` look most like themselves; the longest when nothing is periodic."""
    latest = past[-compared:]
    products = np.correlate(past[: len(past) - shortest], latest, "valid")  # at lags longest, ..., shortest
    sums = np.concatenate((np.zeros(1, np.float32), np.cumsum(past * past)))
    energies = (sums[compared:] - sums[:-compared])[: len(products)]
    likeness = products / np.sqrt(np.maximum(energies, 1) * max(float(latest @ latest), 1))
    best = int(likeness.argmax())
    return longest - best if likeness[best] >= PERIODIC else longest


@cache
def _noise(rate_hz: int) -> Samples:
    """One second of softened white noise with an effective level of 1, the same each time."""
    white = np.random.default_rng(rate_hz).standard_normal(rate_hz * NOISE_MS // 1000 + 1)
    soft = white[1:] + white[:-1]
    table = np.asarray(soft / np.sqrt(np.mean(soft * soft)), dtype=np.float32)
    table.flags.writeable = False  # all calls share it
    return table


def _rising(samples: int) -> Samples:
    """From nearly 0 to nearly 1."""
    return np.arange(1, samples + 1, dtype=np.float32) / np.float32(samples + 1)


def _to_pcm(samples: Samples) -> Pcm:
    return np.clip(samples, -FULL_SCALE, FULL_SCALE - 1).astype(np.int16)
