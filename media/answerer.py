"""Who answered an outbound call: a person or a voicemail, and when its beep has ended. Sans-IO.

A person says something short and waits; a machine talks on. The beep is a pure, steady tone with quiet after it.
"""

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import numpy as np

from media.audio import FRAME_MS, FULL_SCALE, Pcm, frame_samples
from media.vad import Vad

GAP_MS: Final = 200  # audio that is later than this was not sent: the time counts as silence
MAX_GAP_MS: Final = 60_000  # of such time at once
CLICK_MS: Final = 40  # a gap in a word up to this does not end it

SOFT_POWER: Final = 0.006  # of the loudest frame of the greeting: softer ones are its echo, or the line
FLOOR_POWER: Final = 3.0  # a voice has this much more than the line's own noise, however loud that is
FLOOR_RISE: Final = 1.008  # of the noise's power, a frame; down at once

STEP_HZ: Final = 50  # between the places where a frame's spectrum is looked at: one over 20 ms
LOBE_STEPS: Final = 2  # to either side of a tone, by the window
FRAME_PURITY: Final = 0.6  # of a frame's energy in one lobe: a tone, perhaps
DRIFT_HZ: Final = 30  # between frames of one tone
MIN_TONE_DBFS: Final = -45.0
MIN_TONE_FRAMES: Final = 5  # whole ones: 120 ms of tone have five wherever they begin
QUIET_FRAMES: Final = 5  # after a tone, before it is a beep: the next note of a melody would come in them
QUIET_POWER: Final = 0.25  # of the tone's, at most
NOTE_POWER: Final = 0.03  # likewise, of another tone
MELODY_FRAMES: Final = 6  # since a tone that did not end in quiet: what begins within them is no beep either
KEPT_FRAMES: Final = 25  # of a tone, for the careful look
FINE_HZ: Final = 2.0  # at most, between the lines of that look
PURITY: Final = 0.75
SECOND_POWER: Final = 0.06  # of the strongest line: more is a dual tone, of which DTMF's parts may be 8 dB apart
SECOND_HZ: Final = 22.0  # nearer ones belong to the tone, as Opus bends it; dual tones are 40 or more apart
HUM_HZ: Final = 150.0  # what is below is not looked at
SIGNALS_HZ: Final = ((400, 8), (425, 8), (450, 8), (2100, 15))  # call progress (ITU-T E.180), a fax's answer (V.25)


class Verdict(StrEnum):
    human = "human"
    machine = "machine"
    beep = "beep"
    """A message may be left now. Says also that it is a machine, whatever was said before."""
    unsure = "unsure"
    """Time is up; treat it as a person."""
    silence = "silence"
    """Nobody said anything."""


@dataclass(frozen=True, slots=True)
class AnswererLimits:
    silence_ms: int = 5000
    """Without a word since the answer: `silence`."""
    word_ms: int = 100
    """Shorter sounds are clicks."""
    short_ms: int = 1000
    """A greeting up to this is short."""
    after_short_ms: int = 1120
    """Of silence after a short greeting: `human`."""
    after_long_ms: int = 1800
    """Of silence after a longer one: `human`."""
    greeting_ms: int = 4000
    """From the first word to the latest: `machine`."""
    pause_ms: int = 500
    """Between sentences: longer than a breath."""
    paused_ms: int = 2600
    """As `greeting_ms`, once there has been a pause: `machine`."""
    analysis_ms: int = 9000
    """Since the answer: `unsure`."""
    beep_low_hz: int = 300
    beep_high_hz: int = 2500
    beep_max_ms: int = 6000
    """A longer tone is none."""


class Answerer:
    """Hears one answered leg at 8 or 16 kHz, from its answer on. About 10 microseconds for each 20 ms.

    At most one of `human`, `machine`, `unsure` and `silence` is given, and never after a beep; each beep is given,
    within 140 ms of its end. `decided` is the verdict that holds: a beep makes it `machine`. Durations are those of
    the audio; `now_ms` only finds the time in which none came, and may jump.
    """

    def __init__(self, rate_hz: int, limits: AnswererLimits = AnswererLimits()) -> None:
        """Raises `ValueError` for another rate."""
        self.decided: Verdict | None = None
        self._vad = Vad(rate_hz)
        self._greeting = _Greeting(limits)
        self._tones = _Tones(rate_hz, limits)
        self._frame_samples = frame_samples(rate_hz)
        self._rest: Pcm = np.zeros(0, dtype=np.int16)  # less than a frame
        self._silence: Pcm = np.zeros(self._frame_samples, dtype=np.int16)
        self._rate_hz = rate_hz
        self._known_ms: int | None = None  # until when everything has been heard

    def feed(self, pcm: Pcm, now_ms: int) -> Verdict | None:
        """Any length, ending at `now_ms`. The latest verdict, should there be more than one."""
        before_ms = now_ms - len(pcm) * 1000 // self._rate_hz
        verdict = self._miss(before_ms)
        self._known_ms = now_ms
        if len(self._rest):
            pcm = np.concatenate((self._rest, pcm))
        size, start = self._frame_samples, 0
        while start + size <= len(pcm):
            verdict = self._frame(pcm[start : start + size]) or verdict
            start += size
        self._rest = pcm[start:].copy()
        return verdict

    def tick(self, now_ms: int) -> Verdict | None:
        """From time to time, so that a verdict comes even when audio does not."""
        verdict = self._miss(now_ms)
        if self._known_ms is None:
            self._known_ms = now_ms
        return verdict

    def _miss(self, now_ms: int) -> Verdict | None:
        """Silence for the time until `now_ms` if it is long enough to have been left out."""
        if self._known_ms is None:
            return None
        missing_ms = min(now_ms - self._known_ms, MAX_GAP_MS)
        if missing_ms < GAP_MS:
            self._known_ms = min(self._known_ms, now_ms)  # a clock that was put back
            return None
        self._known_ms = now_ms
        verdict = None
        for _ in range(missing_ms // FRAME_MS):
            verdict = self._frame(self._silence) or verdict
        return verdict

    def _frame(self, frame: Pcm) -> Verdict | None:
        beep = self._tones.feed(frame)
        if beep:
            self.decided = Verdict.machine
            return Verdict.beep
        if self.decided is not None:
            return None
        voiced = self._vad.voiced(frame, speaking=self._greeting.speaking)
        self.decided = self._greeting.feed(voiced and not self._tones.steady, self._tones.energy)
        return self.decided


class _Greeting:
    """The classic rule: how long they spoke, and how long they were silent then."""

    def __init__(self, limits: AnswererLimits) -> None:
        self._limits = limits
        self._at_ms = 0
        self._word_ms = 0  # voiced, of what may become a word
        self._gap_ms = 0
        self._began_ms: int | None = None  # of the first word
        self._spoken_ms = 0  # until here
        self._paused = False
        self._loudest = 0.0
        self._floor = math.inf

    @property
    def speaking(self) -> bool:
        return self._word_ms >= self._limits.word_ms

    def feed(self, voiced: bool, energy: float) -> Verdict | None:
        """The next 20 ms and its energy."""
        self._at_ms += FRAME_MS
        self._floor = min(self._floor * FLOOR_RISE, max(energy, 1.0))
        if voiced and energy >= max(SOFT_POWER * self._loudest, FLOOR_POWER * self._floor):
            self._word_ms += FRAME_MS
            self._gap_ms = 0
            if self.speaking:
                self._speak()
                self._loudest = max(self._loudest, energy)
        else:
            self._gap_ms += FRAME_MS
            if self._gap_ms > CLICK_MS:
                self._word_ms = 0
        return self._verdict()

    def _speak(self) -> None:
        word_began_ms = self._at_ms - self._word_ms
        if self._began_ms is None:
            self._began_ms = word_began_ms
        elif word_began_ms - self._spoken_ms >= self._limits.pause_ms:
            self._paused = True
        self._spoken_ms = self._at_ms

    def _verdict(self) -> Verdict | None:
        limits = self._limits
        if self._began_ms is None:
            return Verdict.silence if self._at_ms >= limits.silence_ms else None
        greeting_ms = self._spoken_ms - self._began_ms
        if greeting_ms >= (limits.paused_ms if self._paused else limits.greeting_ms):
            return Verdict.machine
        enough_ms = limits.after_short_ms if greeting_ms <= limits.short_ms else limits.after_long_ms
        if self._at_ms - self._spoken_ms >= enough_ms:
            return Verdict.human
        return Verdict.unsure if self._at_ms >= limits.analysis_ms else None


class _Tones:
    """Finds beeps: a cheap look at each frame, and a careful one at a tone that has ended in quiet."""

    def __init__(self, rate_hz: int, limits: AnswererLimits) -> None:
        self._rate_hz = rate_hz
        self._limits = limits
        samples = frame_samples(rate_hz)
        self._window = np.hanning(samples + 1)[:-1].astype(np.float32)
        low = limits.beep_low_hz // STEP_HZ - LOBE_STEPS
        high = limits.beep_high_hz // STEP_HZ + LOBE_STEPS
        self._lines_hz = np.arange(max(low, 1), high + 1) * STEP_HZ
        turns = np.outer(np.arange(samples), self._lines_hz) * (2 * np.pi / rate_hz)
        self._waves = np.concatenate((np.cos(turns), np.sin(turns)), axis=1).astype(np.float32)
        self._scale = 2 / samples  # Parseval: of the power of lines in the energy of samples
        self._min_energy = float(self._window @ self._window) * (FULL_SCALE * 10 ** (MIN_TONE_DBFS / 20)) ** 2
        self._kept: list[Pcm] = []
        self._hz = 0.0  # of the latest tone
        self._energy = 0.0
        self.energy = 0.0  # of the latest frame, under its window
        self._frames = 0
        self._quiet = 0  # frames since it ended
        self._melody = False  # it followed another
        self._since_tone = MELODY_FRAMES  # frames since one that did not end in quiet

    @property
    def steady(self) -> bool:
        """There is a tone, and it is longer than one in a voice."""
        return self._frames >= MIN_TONE_FRAMES

    def feed(self, frame: Pcm) -> bool:
        """The next 20 ms. True where a beep is known to be over."""
        hz, energy = self._look(frame)
        self.energy = energy
        self._since_tone += 1
        if self._frames and hz and abs(hz - self._hz) <= DRIFT_HZ:
            self._go_on(frame, hz, energy)
            return False
        if not self.steady:
            self._begin(frame, hz, energy)
            return False
        self._quiet += 1
        loud = energy > (NOTE_POWER if hz else QUIET_POWER) * self._energy
        if loud and self._quiet > 1:  # the first may have the end of the tone
            self._since_tone = 0
            self._begin(frame, hz, energy)
            return False
        if self._quiet < QUIET_FRAMES:
            return False
        if self._melody:
            self._since_tone = 0
        beep = self._is_beep()
        self._begin(frame, hz, energy)
        return beep

    def _look(self, frame: Pcm) -> tuple[float, float]:
        """The frequency, 0 where there is no single tone, and the energy."""
        samples = self._window * frame
        energy = float(samples @ samples)
        if energy < self._min_energy:
            return 0.0, energy
        parts = samples @ self._waves
        parts *= parts
        lines = parts[: len(self._lines_hz)] + parts[len(self._lines_hz) :]
        at = int(lines.argmax())
        lobe = lines[max(at - LOBE_STEPS, 0) : at + LOBE_STEPS + 1]
        lobe_power = float(lobe.sum())
        if lobe_power * self._scale < FRAME_PURITY * energy:
            return 0.0, energy
        return float(lobe @ self._lines_hz[max(at - LOBE_STEPS, 0) : at + LOBE_STEPS + 1]) / lobe_power, energy

    def _begin(self, frame: Pcm, hz: float, energy: float) -> None:
        """Another tone, or none."""
        self._melody = self._since_tone < MELODY_FRAMES
        self._kept.clear()
        self._hz = hz
        self._energy = energy
        self._quiet = 0
        self._frames = 0
        if hz:
            self._frames = 1
            self._kept.append(frame.copy())

    def _go_on(self, frame: Pcm, hz: float, energy: float) -> None:
        self._quiet = 0
        self._frames += 1
        share = 1 / min(self._frames, KEPT_FRAMES)
        self._hz += (hz - self._hz) * share
        self._energy += (energy - self._energy) * share
        if len(self._kept) < KEPT_FRAMES:
            self._kept.append(frame.copy())

    def _is_beep(self) -> bool:
        """The careful look, with a line for every few hertz."""
        if self._melody or self._frames * FRAME_MS > self._limits.beep_max_ms:
            return False
        samples = np.concatenate(self._kept).astype(np.float32)
        samples *= np.hanning(len(samples))
        size = 1 << int(np.ceil(np.log2(max(self._rate_hz / FINE_HZ, len(samples)))))
        power = np.abs(np.fft.rfft(samples, size)) ** 2
        line_hz = self._rate_hz / size
        power[: round(HUM_HZ / line_hz)] = 0
        at = int(power.argmax())
        lobe = round(max(SECOND_HZ, 2 * self._rate_hz / len(samples)) / line_hz)
        low, high = max(at - lobe, 0), at + lobe + 1
        total = float(power.sum())
        if float(power[low:high].sum()) < PURITY * total:
            return False
        others = max(float(power[:low].max(initial=0)), float(power[high:].max(initial=0)))
        hz = at * line_hz
        return (
            others <= SECOND_POWER * float(power[at])
            and self._limits.beep_low_hz <= hz <= self._limits.beep_high_hz
            and not any(abs(hz - signal_hz) <= within_hz for signal_hz, within_hz in SIGNALS_HZ)
        )
