"""Moments to sound: what the caller's microphone takes up, and when in it the caller really speaks."""

from collections.abc import Sequence
from typing import Final

import numpy as np
import soxr
from msgspec import Struct

from app.load import noise
from app.load.levels import STEP_MS, at_level, levels
from app.load.noise import RATE_HZ, Noise, Wave
from app.load.suite.moment import Band, Moment, Murmur, Part, Pause, Room, Say, Sound, Voice
from app.ports import Tts
from flows.model import Voice as TtsVoice
from media.audio import FRAME_MS, FULL_SCALE, Pcm

STEP: Final = RATE_HZ * STEP_MS // 1000
AUDIBLE_DB: Final = -26.0  # below a sound's loudest step: it begins and ends there
ROOM_S: Final = 8  # of the room's own sound, which goes round

NARROW: Final = ((0, 0.0), (200, 0.05), (300, 1.0), (3300, 1.0), (3600, 0.05), (4000, 0.0))
DULL: Final = ((0, 0.0), (150, 0.1), (250, 1.0), (900, 1.0), (2000, 0.5), (3400, 0.2), (5000, 0.03))
ECHOES_MS: Final = 90
ECHOES_DB: Final = -14.0

BABBLE: Final = (
    ("the meeting was moved to the third floor because of the painters", "en-us+m2", 165, 1.02),
    ("and then she told him that the train would not stop there any more", "en-us+f4", 185, 0.97),
    ("two coffees and one tea with milk for the table at the window", "en-us+m6", 150, 1.05),
    ("nobody knows where the keys are but the car is still outside", "en-us+f2", 170, 1.0),
    ("we could go by bus if it does not rain in the afternoon", "en-us+m4", 190, 0.95),
    ("the children have a day off and want to see the animals", "en-gb-x-rp", 175, 1.03),
)


class Span(Struct, frozen=True):
    """In seconds from the first sample."""

    start_s: float
    end_s: float


class Rendered(Struct, frozen=True):
    """`pcm` at `RATE_HZ`, without the room, begins as the caller begins. `spans` are what was said, without pauses."""

    pcm: Pcm
    spans: tuple[Span, ...]


class Renderer:
    """Everything is made once.

    espeak's voices flutter by chance, from the same beginning in each of its processes: only with speech of its own,
    in the same order, is a moment the same sample for sample.
    """

    def __init__(self, tts: Tts) -> None:
        self._tts = tts
        self._spoken: dict[tuple[str, Voice], Wave] = {}
        self._rooms: dict[Room, Pcm] = {}
        self._made: dict[str, Rendered] = {}
        self._babble: Wave | None = None

    async def all(self, moments: Sequence[Moment]) -> None:
        for moment in moments:
            await self.moment(moment)
            await self.room(moment.room)

    async def moment(self, moment: Moment) -> Rendered:
        if moment.name not in self._made:
            self._made[moment.name] = await self.make(moment)
        return self._made[moment.name]

    async def make(self, moment: Moment) -> Rendered:
        """Anew, and not kept."""
        rng = np.random.default_rng(moment.seed)
        pieces: list[Wave] = []
        spans: list[Span] = []
        at = 0
        for part in moment.parts:
            wave = await self._part(part, moment, rng)
            if not isinstance(part, Pause):
                spans.append(Span(at / RATE_HZ, (at + len(wave)) / RATE_HZ))
            pieces.append(wave)
            at += len(wave)
        wave = _through(moment.band, np.concatenate(pieces), rng)
        return Rendered(_pcm(wave), tuple(spans))

    async def room(self, room: Room) -> Pcm:
        """Some seconds of what is heard on a line where nobody speaks; it may go round."""
        if room not in self._rooms:
            samples = RATE_HZ * ROOM_S
            wave = await self._noise(room.noise, samples, np.random.default_rng(round(-room.level_dbfs * 10)))
            self._rooms[room] = _pcm(at_level(wave, room.level_dbfs))
        return self._rooms[room]

    async def _part(self, part: Part, moment: Moment, rng: np.random.Generator) -> Wave:
        match part:
            case Pause(ms=ms):
                return np.zeros(RATE_HZ * ms // 1000)
            case Say(text=text):
                return at_level(await self.say(text, moment.voice), moment.level_dbfs)
            case Sound(noise=kind, ms=ms, above_db=above_db):
                wave = await self._noise(kind, RATE_HZ * ms // 1000, rng)
                return at_level(wave, moment.level_dbfs + above_db)
            case Murmur(beats=beats, ms=ms, rises=rises):
                low = 110 * moment.voice.pitch * (1.7 if "f" in moment.voice.name.partition("+")[2] else 1.0)
                beat = noise.murmur(RATE_HZ * ms // 1000, low * 1.05, low * (1.25 if rises else 0.9), rng)
                gap = 0.08 * noise.make(Noise.breath, RATE_HZ * 60 // 1000, rng)
                return at_level(np.concatenate([beat, *([gap, beat] * (beats - 1))]), moment.level_dbfs)

    async def say(self, text: str, voice: Voice) -> Wave:
        """Without silence around it."""
        key = text, voice
        if key not in self._spoken:
            spoken = self._tts.speak(text, TtsVoice("espeak", voice.name, voice.rate_wpm), RATE_HZ)
            wave = np.concatenate([chunk.pcm async for chunk in spoken]).astype(np.float64)
            if voice.pitch != 1.0:
                wave = np.asarray(soxr.resample(wave, RATE_HZ, round(RATE_HZ / voice.pitch)))
            self._spoken[key] = _trimmed(wave)
        return self._spoken[key]

    async def _noise(self, kind: Noise, samples: int, rng: np.random.Generator) -> Wave:
        if kind is not Noise.babble:
            return noise.make(kind, samples, rng)
        if self._babble is None:
            self._babble = await self._make_babble()
        start = int(rng.integers(len(self._babble)))
        return np.take(self._babble, np.arange(start, start + samples), mode="wrap")

    async def _make_babble(self) -> Wave:
        samples = RATE_HZ * ROOM_S
        crowd = np.zeros(samples)
        for number, (text, name, rate_wpm, pitch) in enumerate(BABBLE):
            wave = await self.say(text, Voice(name, rate_wpm, pitch))
            wave = at_level(np.concatenate((wave, np.zeros(RATE_HZ * 150 // 1000))), -20)
            places = np.arange(number * 7919, number * 7919 + samples)
            crowd += np.take(wave, places, mode="wrap") + 0.7 * np.take(wave, places + len(wave) // 2, mode="wrap")
        return _echoed(crowd, np.random.default_rng(5), 250, -3.0)


def mixed(moment: Pcm, room: Pcm) -> Pcm:
    """The moment with the room under it."""
    under = np.take(room, np.arange(len(moment)), mode="wrap")
    return np.asarray(np.clip(moment.astype(np.int32) + under, -32768, 32767).astype(np.int16))


def frames(pcm: Pcm, rate_hz: int) -> list[Pcm]:
    """At a line's rate, in 20 ms; the last is filled up with silence."""
    if rate_hz != RATE_HZ:
        pcm = np.asarray(soxr.resample(pcm, RATE_HZ, rate_hz))
    size = rate_hz * FRAME_MS // 1000
    pcm = np.concatenate((pcm, np.zeros(-len(pcm) % size, np.int16)))
    return [pcm[at : at + size] for at in range(0, len(pcm), size)]


def _trimmed(wave: Wave) -> Wave:
    stepwise = levels(wave)
    heard = np.flatnonzero(stepwise > stepwise.max() * 10 ** (AUDIBLE_DB / 20))
    return wave[heard[0] * STEP : (heard[-1] + 1) * STEP]


def _through(band: Band, wave: Wave, rng: np.random.Generator) -> Wave:
    match band:
        case Band.wide:
            return wave
        case Band.telephone:
            return noise.shaped(wave, NARROW)
        case Band.handset:
            return _echoed(noise.shaped(wave, DULL), rng, ECHOES_MS, ECHOES_DB)


def _echoed(wave: Wave, rng: np.random.Generator, ms: int, level_db: float) -> Wave:
    """With what walls send back; as long as before."""
    size = RATE_HZ * ms // 1000
    tail = rng.standard_normal(size) * np.exp(-np.arange(size) / (size / 4))
    tail *= 10 ** (level_db / 20) / float(np.sqrt((tail**2).sum()))
    total = len(wave) + size
    echo = np.fft.irfft(np.fft.rfft(wave, total) * np.fft.rfft(tail, total), total)
    return wave + np.asarray(echo)[: len(wave)]


def _pcm(wave: Wave) -> Pcm:
    return np.asarray(np.clip(wave * FULL_SCALE, -32768, 32767)).astype(np.int16)
