"""Two detectors of voice: a cheap gate for every frame, and a careful one that runs only where the gate opened."""

from typing import Final

import numpy as np
import webrtcvad

from media.audio import FRAME_MS, Pcm, Resampler, rms
from media.silero import CHUNK_SAMPLES, RATE_HZ, Silero

EAR_RATES_HZ = (8000, 16000)

ONSET_MODE: Final = 2  # webrtcvad's aggressiveness, 0 to 3
KEEP_MODE: Final = 0  # within an utterance: soft consonants belong to it
MIN_RMS: Final = 60  # -55 dBFS: what is softer is no voice on any line
FLOOR_FACTOR: Final = 1.5  # a voice is this much louder than the line's own noise
FLOOR_RISE: Final = 1.004  # a frame; twofold in 3.5 s, and down at once: speech has a pause in that time
MAX_FLOOR_RMS: Final = 600.0  # -35 dBFS: steady noise above this has to pass the careful detector

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
        self._floor_rms = MAX_FLOOR_RMS  # the first frame of a quiet line brings it down

    def voiced(self, frame: Pcm, *, speaking: bool) -> bool:
        data = frame.tobytes()
        assert len(data) == self._frame_bytes
        level = rms(data)
        floor = self._floor_rms * FLOOR_RISE
        if floor > MAX_FLOOR_RMS:
            floor = MAX_FLOOR_RMS
        if level < floor:
            floor = float(level or 1)
        self._floor_rms = floor
        if level < MIN_RMS or level < FLOOR_FACTOR * floor:
            return False
        gate = self._keep if speaking else self._onset
        return bool(gate.is_speech(data, self._rate_hz))


class VoiceCheck:
    """Decides whether one stretch of sound is a voice. About 0.05 ms for each 32 ms, until it has decided."""

    __slots__ = ("_missing", "_pending", "_rate_hz", "_resampler", "_silero", "_waiting", "_wanted", "voice")

    def __init__(self, rate_hz: int) -> None:
        if rate_hz not in EAR_RATES_HZ:
            raise ValueError(f"no voice detection at {rate_hz} Hz")
        self._rate_hz = rate_hz
        self._silero: Silero | None = None  # while it listens
        self._resampler: Resampler | None = None  # likewise: 9 KB
        self._waiting: list[Pcm] = []  # as it came
        self._pending: Pcm = _NOTHING  # less than a chunk, at Silero's rate
        self._missing = VOICE_CHUNKS  # chunks of voice, until it is one
        self._wanted = 0  # samples, until there are as many chunks: fewer decide nothing, and cost less together
        self.voice = False

    def begin(self) -> None:
        """A new stretch: what was found before is forgotten."""
        self.end()
        self._silero = Silero()
        self._resampler = Resampler(self._rate_hz, RATE_HZ)
        self._missing = VOICE_CHUNKS
        self._want()
        self.voice = False

    def feed(self, pcm: Pcm) -> bool:
        """True from the moment the stretch is known to be a voice; any length of `pcm`, which is not copied."""
        if self._silero is None or self._resampler is None:
            return self.voice
        self._waiting.append(pcm)
        self._wanted -= len(pcm)
        if self._wanted > 0:
            return False
        heard = np.concatenate((self._pending, self._resampler.process(np.concatenate(self._waiting))))
        self._waiting.clear()
        whole = len(heard) - len(heard) % CHUNK_SAMPLES
        self._pending = heard[whole:]
        if whole:
            self._missing -= int(np.count_nonzero(self._silero.hear(heard[:whole]) >= VOICE_PROBABILITY))
        if self._missing <= 0:
            self.voice = True
            self.end()
        else:
            self._want()
        return self.voice

    def end(self) -> None:
        """The stretch is over."""
        self._silero = None
        self._resampler = None
        self._waiting.clear()
        self._pending = _NOTHING

    def _want(self) -> None:
        self._wanted = (self._missing * CHUNK_SAMPLES - len(self._pending)) * self._rate_hz // RATE_HZ
