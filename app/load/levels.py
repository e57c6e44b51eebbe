"""How loud a sound is: speech and noises alike are as loud as their loud parts, whatever pauses they have."""

from typing import Final

import numpy as np

from app.load.noise import RATE_HZ, Wave

STEP_MS: Final = 5  # in which levels and edges are looked for
ACTIVE_DB: Final = -15.0  # below the loudest step: what is softer does not count for a sound's level
PEAK: Final = 0.95
MIN_RMS: Final = 1e-12  # silence stays silence


def levels(wave: Wave, rate_hz: int = RATE_HZ) -> Wave:
    """The root mean square of each `STEP_MS`; what is left at the end is in none, unless it is all there is."""
    size = rate_hz * STEP_MS // 1000
    steps = max(1, len(wave) // size)
    return np.asarray(np.sqrt((wave[: steps * size].reshape(steps, -1) ** 2).mean(axis=1)))


def active_rms(stepwise: Wave) -> float:
    """Of the loud ones of these levels."""
    loud = stepwise[stepwise >= stepwise.max() * 10 ** (ACTIVE_DB / 20)]
    return float(np.sqrt((loud**2).mean()))


def at_level(wave: Wave, level_dbfs: float, rate_hz: int = RATE_HZ) -> Wave:
    """Its loud parts have this level; what would go over `PEAK` of full scale (1.0) is clipped."""
    rms = active_rms(levels(wave, rate_hz))
    return np.clip(wave * (10 ** (level_dbfs / 20) / max(rms, MIN_RMS)), -PEAK, PEAK)
