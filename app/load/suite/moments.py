"""The suite: the same moments each time, from one seed for each half."""

import random
from collections.abc import Iterator, Sequence
from typing import Final, TypeVar

from msgspec import Struct

from app.load.noise import Noise
from app.load.suite.moment import (
    Band,
    Half,
    Kind,
    Moment,
    Murmur,
    Part,
    Pause,
    Room,
    Say,
    Scene,
    Sound,
    Voice,
    Wire,
)
from app.load.suite.words import WORDS, Words

T = TypeVar("T")

SEEDS: Final = {Half.tuning: 11, Half.held_out: 4242}

LEVELS_DBFS: Final = (-16.0, -20.0, -23.0, -26.0, -30.0)
QUIET_ROOMS: Final = (
    Room(Noise.hush, -66), Room(Noise.hush, -58), Room(Noise.fan, -55), Room(Noise.hum, -56),
)  # fmt: skip
LOUD_ROOMS: Final = (Room(Noise.street, -48), Room(Noise.fan, -45), Room(Noise.babble, -48), Room(Noise.hush, -48))
LOUD_SHARE: Final = 0.3
LOUD_MARGIN_DB: Final = 18.0  # a caller in a loud room speaks up to at least so much above it
SINGLE_NOISES: Final = (
    (Noise.cough, 250), (Noise.cough, 380), (Noise.cough, 600), (Noise.click, 60), (Noise.click, 700),
    (Noise.typing, 1200), (Noise.door, 300), (Noise.door, 450), (Noise.breath, 500), (Noise.rustle, 900),
    (Noise.horn, 800), (Noise.hum, 2000), (Noise.street, 2500), (Noise.fan, 2000), (Noise.babble, 2500),
)  # fmt: skip
BACKGROUND: Final = (Noise.hum, Noise.street, Noise.fan, Noise.babble)
"""These are softer than what happens at the telephone itself."""
BACKGROUND_DB: Final = -12.0


class Count(Struct, frozen=True):
    """Moments of one half."""

    interruptions: int = 36
    short_interruptions: int = 16
    overlaps: int = 14
    spoken_backchannels: int = 36
    murmurs: int = 14
    laughs: int = 6
    noises: int = 40
    paused: int = 24
    continued: int = 6
    numbers: int = 18
    words: int = 16
    yesno: int = 12

    @property
    def all(self) -> int:
        return sum(getattr(self, name) for name in self.__struct_fields__)


COUNT: Final = Count()


def suite(count: Count = COUNT) -> list[Moment]:
    return [moment for half in Half for moment in moments(half, count)]


def moments(half: Half, count: Count = COUNT) -> list[Moment]:
    return list(_Maker(half, WORDS[half]).moments(count))


class _Maker:
    def __init__(self, half: Half, words: Words) -> None:
        self._half = half
        self._words = words
        self._rng = random.Random(SEEDS[half])  # noqa: S311  # to be repeated, not to be secret
        self._numbers = dict.fromkeys(Kind, 0)

    def moments(self, count: Count) -> Iterator[Moment]:
        words, rng = self._words, self._rng
        for text in self._some(words.interruptions, count.interruptions):
            yield self._make(Kind.interruption, Scene.talk, (Say(text),), rng.randrange(600, 13_000))
        for text in self._some(words.short_interruptions, count.short_interruptions):
            yield self._make(Kind.interruption, Scene.talk, (Say(text),), rng.randrange(600, 13_000))
        for text in self._some((*words.interruptions, *words.short_interruptions), count.overlaps):
            yield self._make(Kind.overlap, Scene.talk, (Say(text),), rng.choice((0, 20, 60, 120, 200, 300)))
        for text in self._some(words.backchannels, count.spoken_backchannels):
            yield self._make(Kind.backchannel, Scene.talk, (Say(text),), rng.randrange(600, 13_000))
        for _ in range(count.murmurs):
            murmur = Murmur(rng.choice((1, 2, 2)), rng.randrange(140, 260), rng.random() < 0.5)
            yield self._make(Kind.backchannel, Scene.talk, (murmur,), rng.randrange(600, 13_000))
        for text in self._some(words.laughs, count.laughs):
            yield self._make(Kind.backchannel, Scene.talk, (Say(text),), rng.randrange(600, 13_000))
        for noise, ms in self._some(SINGLE_NOISES, count.noises):
            above_db = BACKGROUND_DB if noise in BACKGROUND else rng.choice((-6.0, 0.0, 3.0))
            sound = Sound(noise, round(ms * rng.uniform(0.8, 1.25)), above_db)
            yield self._make(Kind.noise, Scene.talk, (sound,), rng.randrange(600, 12_000))
        yield from self._answers(count)

    def _answers(self, count: Count) -> Iterator[Moment]:
        words = self._words
        for texts in self._some(words.paused, count.paused):
            yield self._answer(Kind.pause, Scene.day, texts, (300, 900))
        for texts in self._some(words.continued, count.continued):
            yield self._answer(Kind.pause, Scene.day, texts, (150, 350))
        for texts in self._some(words.numbers, count.numbers):
            yield self._answer(Kind.spelled, Scene.number, texts, (250, 900))
        for text in self._some(words.answers, count.words):
            yield self._answer(Kind.word, Scene.day, (text,), (0, 1))
        for text in self._some(words.yesno, count.yesno):
            yield self._answer(Kind.word, Scene.yesno, (text,), (0, 1))

    def _answer(self, kind: Kind, scene: Scene, texts: Sequence[str], pause_ms: tuple[int, int]) -> Moment:
        parts: list[Part] = [Say(texts[0])]
        for text in texts[1:]:
            parts += [Pause(self._rng.randrange(*pause_ms)), Say(text)]
        return self._make(kind, scene, tuple(parts), self._rng.randrange(250, 900))

    def _some(self, choices: Sequence[T], count: int) -> list[T]:
        """Each as often as the others, in any order."""
        dealt = list(choices) * (count // len(choices) + 1)
        dealt = dealt[:count]
        self._rng.shuffle(dealt)
        return dealt

    def _make(self, kind: Kind, scene: Scene, parts: tuple[Part, ...], at_ms: int) -> Moment:
        rng = self._rng
        self._numbers[kind] += 1
        room = rng.choice(LOUD_ROOMS if rng.random() < LOUD_SHARE else QUIET_ROOMS)
        voice = Voice(rng.choice(self._words.voices), rng.randrange(135, 205, 5), rng.choice((0.94, 1.0, 1.0, 1.06)))
        return Moment(
            name=f"{self._half}/{kind}/{self._numbers[kind]:02}",
            half=self._half,
            kind=kind,
            scene=scene,
            parts=parts,
            at_ms=at_ms,
            voice=voice,
            level_dbfs=max(rng.choice(LEVELS_DBFS), room.level_dbfs + LOUD_MARGIN_DB),
            room=room,
            band=rng.choice(tuple(Band)),
            wire=rng.choice(tuple(Wire)),
            seed=rng.randrange(1 << 30),
        )
