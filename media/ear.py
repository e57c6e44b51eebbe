"""What a leg hears: frames in, and where speech begins and ends."""

from collections import deque
from typing import Final, Protocol

import numpy as np

from media.audio import FRAME_MS, Pcm, frame_samples
from media.vad import Vad, VoiceCheck

WINDOW_FRAMES: Final = 5
ONSET_FRAMES: Final = 3  # voiced ones among the window open an utterance
PRE_ROLL_MS: Final = 300  # heard before the onset and given with the utterance: the gate misses soft beginnings
LOOK_FRAMES: Final = 220 // FRAME_MS  # of it that the careful detector hears; with more it decides no sooner
OFFSET_MS: Final = 240  # without voice ends it; each leg may set its own
PAUSE_FRAMES: Final = 4  # without voice are a pause in it: longer than most consonants
KEEP_FRAMES: Final = 2  # voiced ones among the last three keep it open: a lone click does not
GAP_MS: Final = 200  # frames that are later than this have stopped coming: the clock makes the offset
MAX_UTTERANCE_MS: Final = 30_000
MAX_SPEED: Final = 2  # times real time that may come in for long
MAX_BURST_MS: Final = 1000  # on top of that


class EarListener(Protocol):
    """Called in the audio path: it must not block. `utterance` counts from 1 in an ear."""

    def speech_started(self, utterance: int, now_ms: int) -> None: ...

    def speech_audio(self, utterance: int, pcm: Pcm) -> None:
        """20 ms at the ear's rate, beginning with the pre-roll; the array is the listener's to keep, not to change."""
        ...

    def speech_confirmed(self, utterance: int) -> None:
        """The careful detector agrees that it is a voice: at most once, before the end."""
        ...

    def speech_paused(self, utterance: int, *, on: bool) -> None:
        """The voice is silent for a moment; off: it went on before that was an end."""
        ...

    def speech_ended(self, utterance: int, speech_ms: int, voice: bool) -> None:
        """Exactly once for each start. `speech_ms` is from the first to the last voiced frame."""
        ...


class Ear:
    """One leg's hearing at 8 or 16 kHz. All time is given in; one thread."""

    __slots__ = (
        "_burst_samples",
        "_check",
        "_credit_samples",
        "_earned_per_ms",
        "_fed_ms",
        "_frame_samples",
        "_frames",
        "_last_voiced",
        "_listener",
        "_paused",
        "_rest",
        "_ring",
        "_vad",
        "_window",
        "dropped_frames",
        "offset_ms",
        "rate_hz",
        "speaking",
        "utterance",
    )

    def __init__(self, rate_hz: int, listener: EarListener, *, offset_ms: int = OFFSET_MS) -> None:
        self.rate_hz = rate_hz
        self.offset_ms = offset_ms
        self.utterance = 0  # the latest
        self.speaking = False
        self.dropped_frames = 0
        self._listener = listener
        self._vad = Vad(rate_hz)
        self._check = VoiceCheck(rate_hz)
        self._frame_samples = frame_samples(rate_hz)
        self._rest: Pcm | None = None  # less than a frame
        self._ring: deque[Pcm] = deque(maxlen=PRE_ROLL_MS // FRAME_MS)
        self._window = 0  # one bit a frame, the latest lowest
        self._frames = 0  # of this utterance, from its first voiced one
        self._last_voiced = 0  # the frame, counted likewise
        self._paused = False
        self._fed_ms: int | None = None
        self._earned_per_ms = rate_hz * MAX_SPEED // 1000
        self._credit_samples = self._burst_samples = rate_hz * MAX_BURST_MS // 1000

    def feed(self, pcm: Pcm, now_ms: int) -> None:
        """Any length. What comes faster than `MAX_SPEED` beyond the burst is dropped and counted."""
        pcm = self._admit(pcm, now_ms)
        size = self._frame_samples
        if self._rest is None and len(pcm) == size:
            self._frame(pcm, now_ms)
            return
        if self._rest is not None:
            pcm = np.concatenate((self._rest, pcm))
        start = 0
        while start + size <= len(pcm):
            self._frame(pcm[start : start + size], now_ms)
            start += size
        self._rest = pcm[start:] if start < len(pcm) else None

    def tick(self, now_ms: int) -> None:
        """Ends an utterance whose frames have stopped coming."""
        if self.speaking and self._fed_ms is not None and now_ms - self._fed_ms >= max(GAP_MS, self.offset_ms):
            self._end()

    def stop(self) -> None:
        """The leg is over: ends an utterance that is open."""
        if self.speaking:
            self._end()
        self._check.end()

    def _admit(self, pcm: Pcm, now_ms: int) -> Pcm:
        credit = self._credit_samples
        if self._fed_ms is not None and now_ms > self._fed_ms:
            credit += (now_ms - self._fed_ms) * self._earned_per_ms
            if credit > self._burst_samples:
                credit = self._burst_samples
        self._fed_ms = now_ms
        if len(pcm) > credit:
            self.dropped_frames += -(-(len(pcm) - credit) // self._frame_samples)
            pcm = pcm[:credit]
        self._credit_samples = credit - len(pcm)
        return pcm

    def _frame(self, frame: Pcm, now_ms: int) -> None:
        voiced = self._vad.voiced(frame, speaking=self.speaking)
        self._window = (self._window << 1 | voiced) & (1 << WINDOW_FRAMES) - 1
        if self.speaking:
            self._goes_on(frame)
            return
        self._ring.append(frame)
        if self._window.bit_count() >= ONSET_FRAMES:
            self._start(now_ms)

    def _start(self, now_ms: int) -> None:
        self.utterance += 1
        self.speaking = True
        self._frames = self._last_voiced = self._window.bit_length()
        self._paused = False
        self._listener.speech_started(self.utterance, now_ms)
        self._check.begin()
        for frame in self._ring:
            self._listener.speech_audio(self.utterance, frame)
        if self._check.feed(np.concatenate(list(self._ring)[-LOOK_FRAMES:])):
            self._listener.speech_confirmed(self.utterance)
        self._ring.clear()

    def _goes_on(self, frame: Pcm) -> None:
        self._frames += 1
        if self._window & 1 and (self._window & 0b111).bit_count() >= KEEP_FRAMES:
            self._last_voiced = self._frames
        self._listener.speech_audio(self.utterance, frame)
        if not self._check.voice and self._check.feed(frame):
            self._listener.speech_confirmed(self.utterance)
        silent = self._frames - self._last_voiced
        if silent == PAUSE_FRAMES:
            self._paused = True
            self._listener.speech_paused(self.utterance, on=True)
        elif not silent and self._paused:
            self._paused = False
            self._listener.speech_paused(self.utterance, on=False)
        silent_ms = silent * FRAME_MS
        if silent_ms >= self.offset_ms or self._frames * FRAME_MS >= MAX_UTTERANCE_MS:
            self._end()

    def _end(self) -> None:
        self.speaking = False
        self._check.end()
        self._listener.speech_ended(self.utterance, self._last_voiced * FRAME_MS, self._check.voice)
