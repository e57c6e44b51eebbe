"""What callers say and what is heard around them, made once and encoded once for all of them.

Words come from the embedded voice, noises from seeded chance, recordings from WAV files; the room lies under all.
"""

import asyncio
import hashlib
import wave
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import msgspec
import numpy as np
import soxr

from app.load import noise
from app.load.levels import STEP_MS, active_rms, at_level, levels
from app.load.noise import RATE_HZ, Wave
from app.load.noise import Noise as Kind
from app.load.steps import PAUSE, Noise, Scenario, Sound, Speech, Voice
from app.ports import Tts
from app.providers.espeak import EspeakTts
from flows import model
from media.audio import FRAME_MS, FULL_SCALE, Pcm, bytes_to_pcm, frame_samples, pcm_to_bytes
from media.codec import Codec

FORMAT: Final = 1  # of what is cached; raised when the same words would sound otherwise
CACHE_SUFFIX: Final = ".pcm"
MAX_CACHE_BYTES: Final = 256 << 20
MAX_WAV_S: Final = 120
WAV_RATES_HZ: Final = range(4000, 384_001)
MAX_WAV_CHANNELS: Final = 16

EDGE_DB: Final = -20.0  # below a sound's level: there it begins and ends

BABBLE: Final = (
    ("we moved the meeting to Thursday because the painters will be in that room", "en-us+m2", 165),
    ("then the train went on without stopping and she had to walk all the way", "en-us+f4", 185),
    ("three coffees please and a glass of water for the lady by the door", "en-us+m6", 150),
    ("has anybody seen the blue folder that was lying here this morning", "en-us+f2", 175),
    ("if the rain stops we might take the children to the park after lunch", "en-us+m4", 190),
)


class SoundError(Exception):
    """A sound that cannot be had. `str()` says which and why."""


@dataclass(frozen=True, slots=True)
class Reel:
    """A sound over its room, as a line sends it: 20 ms each. `first` and `last` are its first and last loud frames."""

    payloads: tuple[bytes, ...]
    first: int
    last: int
    words: str = ""

    @property
    def ms(self) -> int:
        return len(self.payloads) * FRAME_MS


@dataclass(frozen=True, slots=True)
class Kit:
    """All that one scenario needs on one kind of line. `room` goes round while nothing is said."""

    room: tuple[bytes, ...]
    reels: dict[Sound, Reel]


class Sounds:
    """Use as an asynchronous context: it starts the embedded voice when it first needs one."""

    def __init__(self, folder: Path | None = None, tts: Tts | None = None) -> None:
        """Words are kept in `folder` from one run to the next; without one, as long as this lives."""
        self._folder = folder
        self._tts = tts
        self._own_tts: EspeakTts | None = None
        self._starting = asyncio.Lock()
        self._spoken: dict[str, Wave] = {}
        self._babble: Wave | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._own_tts is not None:
            await self._own_tts.stop()
            self._own_tts = self._tts = None

    async def kit(self, scenario: Scenario, codec: Codec) -> Kit:
        """The codec is the line's, before its call; it is as new afterwards.

        Raises `SoundError`, and `ProviderError` where the embedded voice does not work.
        """
        room = _at_rate(await self._noise(scenario.room), codec.rate_hz, scenario.room.level_dbfs)
        reels = {sound: _reel(await self._wave(sound), room, codec, sound) for sound in scenario.sounds()}
        whole = len(room) - len(room) % frame_samples(codec.rate_hz)
        return Kit(_encoded(room[:whole], codec), reels)

    async def _wave(self, sound: Sound) -> Wave:
        """Without its room, at any level, at `noise.RATE_HZ`."""
        if isinstance(sound, Noise):
            return await self._noise(sound)
        return _trimmed(_wav(Path(sound.wav)) if sound.wav else await self._speech(sound))

    async def _speech(self, speech: Speech) -> Wave:
        pieces: list[Wave] = []
        for at, part in enumerate(PAUSE.split(speech.text)):
            if at % 2:
                pieces.append(np.zeros(RATE_HZ * int(part) // 1000))
            elif part.strip():
                pieces.append(_trimmed(await self._words(part.strip(), speech.voice)))
        if not any(piece.any() for piece in pieces):
            raise SoundError("there are no words to say")
        return np.concatenate(pieces)

    async def _words(self, text: str, voice: Voice) -> Wave:
        key = hashlib.blake2b(
            msgspec.json.encode([FORMAT, text, voice.name, voice.rate_wpm]), digest_size=16
        ).hexdigest()
        if key not in self._spoken:
            made = self._cached(key)
            if made is None:
                made = await self._synthesize(text, voice)
                self._cache(key, made)
            self._spoken[key] = made / FULL_SCALE
        return self._spoken[key]

    async def _synthesize(self, text: str, voice: Voice) -> Pcm:
        async with self._starting:
            if self._tts is None:
                own = EspeakTts()
                await own.start()
                self._tts = self._own_tts = own
        spoken = self._tts.speak(text, model.Voice("espeak", voice.name, voice.rate_wpm), RATE_HZ)
        made = np.concatenate([np.zeros(0, np.int16), *[chunk.pcm async for chunk in spoken]])
        if not made.any():
            raise SoundError(f"the voice {voice.name} says nothing for: {text[:60]}")
        return made

    def _cached(self, key: str) -> Pcm | None:
        if self._folder is None:
            return None
        try:
            data = (self._folder / (key + CACHE_SUFFIX)).read_bytes()
        except OSError:
            return None
        return bytes_to_pcm(data) if data and len(data) % 2 == 0 else None

    def _cache(self, key: str, made: Pcm) -> None:
        """Another process may write the same at the same time: what is there is whole, or not there."""
        if self._folder is None:
            return
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            _make_room(self._folder)
            part = self._folder / f"{key}.{id(self):x}.part"
            part.write_bytes(pcm_to_bytes(made))
            part.replace(self._folder / (key + CACHE_SUFFIX))
        except OSError:
            self._folder = None  # it only saves time

    async def _noise(self, one: Noise) -> Wave:
        samples = RATE_HZ * one.ms // 1000
        rng = np.random.default_rng(one.seed)
        if one.kind is Kind.babble:
            if self._babble is None:
                self._babble = await self._crowd()
            return np.take(self._babble, np.arange(samples) + rng.integers(len(self._babble)), mode="wrap")
        return noise.make(one.kind, samples, rng)

    async def _crowd(self) -> Wave:
        """Some people at once, each at it again and again."""
        voices = [at_level(await self._words(text, Voice(name, rate)), -20) for text, name, rate in BABBLE]
        samples = max(map(len, voices)) * 2
        places = [np.arange(samples) + number * 7001 for number in range(len(voices))]
        return np.asarray(sum(np.take(one, at, mode="wrap") for one, at in zip(voices, places, strict=True)))


def _reel(made: Wave, room: Pcm, codec: Codec, sound: Sound) -> Reel:
    pcm = _at_rate(made, codec.rate_hz, sound.level_dbfs)
    size = frame_samples(codec.rate_hz)
    pcm = np.concatenate((pcm, np.zeros(-len(pcm) % size, np.int16)))
    stepwise = np.sqrt((pcm.reshape(-1, size).astype(np.float64) ** 2).mean(axis=1))
    loud = np.flatnonzero(stepwise >= active_rms(stepwise) * 10 ** (EDGE_DB / 20))
    mixed = np.clip(pcm.astype(np.int32) + np.take(room, np.arange(len(pcm)), mode="wrap"), -FULL_SCALE, FULL_SCALE - 1)
    words = " ".join(PAUSE.sub(" ", sound.text).split()) if isinstance(sound, Speech) else ""
    return Reel(_encoded(mixed.astype(np.int16), codec), int(loud[0]), int(loud[-1]), words)


def _trimmed(made: Wave) -> Wave:
    """Without the silence before and after."""
    stepwise, size = levels(made), RATE_HZ * STEP_MS // 1000
    heard = np.flatnonzero(stepwise >= active_rms(stepwise) * 10 ** (EDGE_DB / 20))
    return made[heard[0] * size : (heard[-1] + 1) * size]


def _at_rate(made: Wave, rate_hz: int, level_dbfs: float | None) -> Pcm:
    if rate_hz != RATE_HZ:
        made = np.asarray(soxr.resample(made, RATE_HZ, rate_hz))
    if level_dbfs is not None:
        made = at_level(made, level_dbfs, rate_hz)
    return np.asarray(np.clip(made * FULL_SCALE, -FULL_SCALE, FULL_SCALE - 1)).astype(np.int16)


def _encoded(pcm: Pcm, codec: Codec) -> tuple[bytes, ...]:
    codec.reset()
    made = tuple(codec.encode(frame) for frame in _frames(pcm, frame_samples(codec.rate_hz)))
    codec.reset()
    return made


def _frames(pcm: Pcm, size: int) -> Iterator[Pcm]:
    for at in range(0, len(pcm), size):
        yield pcm[at : at + size]


def _wav(path: Path) -> Wave:
    try:
        with wave.open(str(path), "rb") as file:
            if file.getsampwidth() != 2:
                raise SoundError(f"{path.name}: only 16-bit WAV files can be read")
            rate_hz, channels = file.getframerate(), file.getnchannels()
            if rate_hz not in WAV_RATES_HZ or channels > MAX_WAV_CHANNELS:
                raise SoundError(f"{path.name}: {channels} channels at {rate_hz} Hz are no sound that can be played")
            data = file.readframes(rate_hz * MAX_WAV_S + 1)
    except (OSError, EOFError, wave.Error) as error:
        why = str(error) or "it ends too soon"
        raise SoundError(f"{path.name} cannot be read as 16-bit PCM WAV: {why}") from None
    data = data[: len(data) - len(data) % (2 * channels)]  # a file that was cut
    samples = np.frombuffer(data, dtype="<i2").astype(np.float64).reshape(-1, channels).mean(axis=1) / FULL_SCALE
    if len(samples) > rate_hz * MAX_WAV_S:
        raise SoundError(f"{path.name} is longer than {MAX_WAV_S} s")
    if not samples.any():
        raise SoundError(f"{path.name} is silent")
    return samples if rate_hz == RATE_HZ else np.asarray(soxr.resample(samples, rate_hz, RATE_HZ))


def _make_room(folder: Path) -> None:
    """The oldest go."""
    kept = sorted((file.stat().st_mtime, file.stat().st_size, file) for file in folder.glob("*" + CACHE_SUFFIX))
    total = sum(size for _, size, _ in kept)
    for _, size, file in kept:
        if total <= MAX_CACHE_BYTES:
            return
        file.unlink(missing_ok=True)
        total -= size
