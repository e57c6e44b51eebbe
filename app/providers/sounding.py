"""What a short stretch of a caller's voice sounds like: "mm-hm", "okay" and their like, or words that want the floor.

A second opinion beside the recogniser's, which knows single short words badly: mel bands of the stretch, brought to one
length and one colour, through a small network. `app/load/suite/teach.py` makes its weights; it heard espeak alone.
"""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from app.ports import Pcm

HEARD_MS = 840
"""It judges so much of an utterance: 300 ms before the onset, and 540 after it, just before a hold has to end."""

WHOLE_MS = HEARD_MS + 240
"""An utterance that is longer, with the silence that ends it, went on after that."""

RATES_HZ = (8000, 16_000)
SLOTS = 14
"""Parts of equal length that a stretch is cut into."""

BANDS = 18
LOW_HZ, HIGH_HZ = 120, 3700
WINDOW_MS, STEP_MS = 25, 10
LEAST = 1e5
"""Of a band's energy: what is softer is silence."""
LOUD = 5.5
ABOVE = 1.2
"""Natural logarithms of energy: what counts as the stretch lies so little below its peak, or so much above the room."""

MAX_LOG_ODDS = 8.0
WEIGHTS = Path(__file__).with_name("sounding.npz")

Floats = NDArray[np.float32]


class Stretch:
    """One utterance as it comes, from its pre-roll on; judged as soon as enough is there."""

    def __init__(self, rate_hz: int) -> None:
        self.wants_floor = 0.0  # as in `ports.Heard`
        self._rate_hz = rate_hz
        self._pcm: list[Pcm] = []
        self._ms = 0.0

    def feed(self, pcm: Pcm) -> None:
        if self._rate_hz not in RATES_HZ:
            return
        before_ms, self._ms = self._ms, self._ms + len(pcm) * 1000 / self._rate_hz
        if before_ms < HEARD_MS:
            self._pcm.append(pcm)
            if self._ms >= HEARD_MS:
                self._judge()

    def finish(self) -> float:
        """What it is taken for as a whole; 0 where the end was not in what was judged."""
        if 0 < self._ms < HEARD_MS:
            self._judge()
        return self.wants_floor if self._ms <= WHOLE_MS else 0.0

    def _judge(self) -> None:
        self.wants_floor = log_odds(np.concatenate(self._pcm), self._rate_hz)
        self._pcm.clear()


def log_odds(pcm: Pcm, rate_hz: int) -> float:
    """Above 0: words, not a backchannel, as natural logarithm; at most `MAX_LOG_ODDS`. At 8 or 16 kHz: 0.4 or 0.8 ms.

    `pcm` is an utterance from its pre-roll on, of which the first `HEARD_MS` count.
    """
    bands = mel_bands(pcm[: rate_hz * HEARD_MS // 1000], rate_hz)
    return round(min(max(judged(bands, _network()), -MAX_LOG_ODDS), MAX_LOG_ODDS), 2)


def judged(bands: Floats, network: Sequence[Floats]) -> float:
    """What a network says of mel bands, as natural logarithm without bounds. Its layers are those of the file."""
    scale, *layers = network
    x = (features(bands) - scale[0]) / scale[1]
    for layer in layers[:-1]:
        x = np.maximum(x @ layer[:-1] + layer[-1], 0)
    return float((x @ layers[-1][:-1] + layers[-1][-1])[0])


def mel_bands(pcm: Pcm, rate_hz: int) -> Floats:
    """Logarithms of energy, shape (steps, `BANDS`): the same at either rate."""
    window, bank = _analysis(rate_hz)
    if len(pcm) < len(window):
        pcm = np.pad(pcm, (0, len(window) - len(pcm)))
    windows = np.lib.stride_tricks.sliding_window_view(pcm, len(window))[:: rate_hz * STEP_MS // 1000]
    spectrum = np.abs(np.fft.rfft(windows * window, _size(rate_hz))) ** 2 * (16_000 / rate_hz) ** 2
    return np.asarray(np.log(spectrum @ bank + LEAST), dtype=np.float32)


def features(bands: Floats) -> Floats:
    """Shape (`SLOTS` * (`BANDS` + 1) + 3,): the stretch without the line's colour and level, and how long it is."""
    energy = np.log(np.exp(bands).sum(1))
    top = float(energy.max())
    least = max(top - LOUD, min(float(np.percentile(energy, 10)) + ABOVE, top - 1))
    loud = energy > least
    heard = np.flatnonzero(loud)
    stretch = slice(heard[0], heard[-1] + 1)
    colour = bands[stretch][loud[stretch]].mean(0)
    shape = np.hstack((np.maximum(bands - colour, -6), np.maximum(energy - top, -8)[:, None]))[stretch]
    length = len(shape)
    rest = (np.log(length), loud[stretch].mean(), heard[-1] + 2 >= len(bands))
    return np.concatenate((_parts(shape).ravel(), rest)).astype(np.float32)


def _parts(shape: Floats) -> Floats:
    """Means over `SLOTS` parts of equal length, whose borders may lie between steps."""
    sums = np.vstack((np.zeros((1, shape.shape[1])), np.cumsum(shape, 0)))
    borders = np.linspace(0, len(shape), SLOTS + 1)
    below = np.minimum(borders.astype(int), len(shape) - 1)
    part = (borders - below)[:, None]
    at = sums[below] * (1 - part) + sums[below + 1] * part
    return np.asarray(np.diff(at, axis=0) * (SLOTS / len(shape)), dtype=np.float32)


@lru_cache(2)
def _analysis(rate_hz: int) -> tuple[Floats, Floats]:
    """The window, and the triangles of the mel bands over the spectrum."""
    low, high = (2595 * np.log10(1 + hz / 700) for hz in (LOW_HZ, HIGH_HZ))
    edges = 700 * (10 ** (np.linspace(low, high, BANDS + 2) / 2595) - 1)
    hz = np.arange(_size(rate_hz) // 2 + 1)[:, None] * rate_hz / _size(rate_hz)
    rise = (hz - edges[:-2]) / (edges[1:-1] - edges[:-2])
    fall = (edges[2:] - hz) / (edges[2:] - edges[1:-1])
    bank = np.maximum(np.minimum(rise, fall), 0)
    return np.hanning(rate_hz * WINDOW_MS // 1000).astype(np.float32), bank.astype(np.float32)


def _size(rate_hz: int) -> int:
    return 256 if rate_hz == 8000 else 512


@lru_cache(1)
def _network() -> tuple[Floats, ...]:
    """Mean and scale of the features, then each layer's weights with its biases as the last row."""
    with np.load(WEIGHTS) as kept:
        return tuple(kept[name].astype(np.float32) for name in sorted(kept.files))
