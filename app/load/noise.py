"""Sounds that nobody recorded: made of seeded chance and filters, so that everybody has the same ones."""

from enum import StrEnum
from typing import Final

import numpy as np
from numpy.typing import NDArray

Wave = NDArray[np.float64]

RATE_HZ: Final = 16_000
"""Of every sound, before it is made to suit a line."""

HUM_HZ: Final = 50.0


class Noise(StrEnum):
    hush = "hush"  # a line's own, white
    street = "street"  # low, with cars that pass
    hum = "hum"  # of the mains
    fan = "fan"
    babble = "babble"  # many people far away: made of voices, elsewhere
    cough = "cough"
    click = "click"
    typing = "typing"
    door = "door"
    breath = "breath"
    rustle = "rustle"  # a hand on the microphone
    horn = "horn"


def make(kind: Noise, samples: int, rng: np.random.Generator) -> Wave:
    """Any level: whoever plays it sets one. `babble` is none of these."""
    time_s = np.arange(samples) / RATE_HZ
    match kind:
        case Noise.hush:
            return rng.standard_normal(samples)
        case Noise.fan:
            return shaped(rng.standard_normal(samples), ((80, 1.0), (400, 0.7), (1500, 0.15), (4000, 0.02)))
        case Noise.street:
            low = shaped(rng.standard_normal(samples), ((40, 1.0), (200, 0.6), (800, 0.2), (3000, 0.05)))
            return low * (1 + 0.8 * np.sin(2 * np.pi * (0.15 * time_s + rng.random())))
        case Noise.hum:
            return np.asarray(sum(np.sin(2 * np.pi * HUM_HZ * n * time_s) / n for n in (1, 2, 3, 5, 7)))
        case Noise.cough:
            return _cough(samples, rng)
        case Noise.click:
            return _knocks(samples, rng, apart_ms=180, decay_ms=2)
        case Noise.typing:
            return _knocks(samples, rng, apart_ms=110, decay_ms=7)
        case Noise.door:
            return _door(samples, rng)
        case Noise.breath:
            puff = shaped(rng.standard_normal(samples), ((100, 0.3), (500, 1.0), (2000, 0.7), (6000, 0.3)))
            return puff * _swell(samples)
        case Noise.rustle:
            flutter = np.repeat(rng.random(samples // 400 + 1) ** 3, 400)[:samples]
            return shaped(rng.standard_normal(samples), ((60, 1.0), (300, 0.9), (2500, 0.5), (7000, 0.2))) * flutter
        case Noise.horn:
            tones = sum(np.sin(2 * np.pi * hz * n * time_s) / n for hz in (410.0, 510.0) for n in (1, 2, 3, 4))
            return np.asarray(tones) * _faded(samples)
    raise ValueError(f"{kind} is not made of chance")


def shaped(wave: Wave, curve: tuple[tuple[float, float], ...]) -> Wave:
    """Through a filter given by some of its (hertz, gain)."""
    lines = np.fft.rfft(wave)
    hz = np.fft.rfftfreq(len(wave), 1 / RATE_HZ)
    lines *= np.interp(hz, [at for at, _ in curve], [gain for _, gain in curve])
    return np.asarray(np.fft.irfft(lines, len(wave)))


def murmur(samples: int, start_hz: float, end_hz: float, rng: np.random.Generator) -> Wave:
    """A voice behind closed lips: pulses of the vocal cords through the nose."""
    hz = (
        np.linspace(start_hz, end_hz, samples)
        * (1 + 0.01 * np.repeat(rng.standard_normal(samples // 160 + 1), 160))[:samples]
    )
    phase = 2 * np.pi * np.cumsum(hz) / RATE_HZ
    buzz = np.asarray(sum(np.sin(n * phase) / n for n in range(1, 24)))
    nose = ((100, 0.8), (250, 1.0), (450, 0.35), (900, 0.12), (1100, 0.16), (2200, 0.06), (4000, 0.005))
    return shaped(buzz, nose) * _faded(samples, ramp_ms=40)


def _cough(samples: int, rng: np.random.Generator) -> Wave:
    """A burst of air with the throat's resonance, then a hoarse tail; longer ones are two."""
    wave = np.zeros(samples)
    count = 1 if samples < RATE_HZ * 400 // 1000 else 2
    each = samples // count
    for at in range(count):
        air = shaped(
            rng.standard_normal(each),
            ((100, 0.2), (400, 0.7), (900, 1.0), (1600, 0.8), (2600, 0.5), (5000, 0.3), (7500, 0.15)),
        )
        time_s = np.arange(each) / RATE_HZ
        envelope = np.minimum(time_s / 0.012, 1) * (np.exp(-time_s / 0.05) + 0.25 * np.exp(-time_s / 0.16))
        wave[at * each : (at + 1) * each] = air * envelope * (1.0 if at == 0 else 0.7)
    return wave


def _knocks(samples: int, rng: np.random.Generator, *, apart_ms: int, decay_ms: float) -> Wave:
    wave = np.zeros(samples)
    size = RATE_HZ * 40 // 1000
    at = 0
    while at < samples:
        knock = rng.standard_normal(size) * np.exp(-np.arange(size) / (RATE_HZ * decay_ms / 1000))
        end = min(at + size, samples)
        wave[at:end] += knock[: end - at] * (0.5 + rng.random())
        at += int(RATE_HZ * apart_ms / 1000 * (0.5 + rng.random()))
    return wave


def _door(samples: int, rng: np.random.Generator) -> Wave:
    """A slam and what it leaves in the room."""
    time_s = np.arange(samples) / RATE_HZ
    slam = shaped(rng.standard_normal(samples), ((40, 1.0), (150, 1.0), (500, 0.4), (2000, 0.15), (6000, 0.05)))
    return slam * (np.exp(-time_s / 0.03) + 0.2 * np.exp(-time_s / 0.15))


def _swell(samples: int) -> Wave:
    return np.asarray(np.sin(np.pi * np.arange(samples) / samples) ** 2)


def _faded(samples: int, ramp_ms: int = 20) -> Wave:
    ramp = min(RATE_HZ * ramp_ms // 1000, samples // 2)
    envelope = np.ones(samples)
    envelope[:ramp] = np.linspace(0, 1, ramp)
    envelope[samples - ramp :] = np.linspace(1, 0, ramp)
    return envelope
