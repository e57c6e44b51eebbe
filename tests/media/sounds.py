"""Sounds for detectors of voice: words of espeak's, noises, tones."""

import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np

from media.audio import Pcm, Resampler

ESPEAK_RATE_HZ = 22050


@cache
def speech(text: str, rate_hz: int) -> Pcm:
    helper = Path(__file__).with_name("synthesize.py")
    done = subprocess.run([sys.executable, str(helper), "en-us", text], capture_output=True, check=True, timeout=60)
    resampler = Resampler(ESPEAK_RATE_HZ, rate_hz, live=False)
    pcm = resampler.process(np.frombuffer(done.stdout, dtype=np.int16))
    return np.concatenate([pcm, resampler.flush()])


def noise(rate_hz: int, duration_ms: int, level: int) -> Pcm:
    samples = np.random.default_rng(7).standard_normal(rate_hz * duration_ms // 1000) * level
    return np.clip(samples, -32768, 32767).astype(np.int16)


def loud_tone(rate_hz: int, duration_ms: int, hz: float = 440) -> Pcm:
    at = np.arange(rate_hz * duration_ms // 1000) / rate_hz
    return (8000 * np.sin(2 * np.pi * hz * at)).astype(np.int16)
