"""`python -m app.load.suite.teach FILE` makes the weights of `app/providers/sounding.py`; it takes two minutes."""

import argparse
import asyncio
import random
from itertools import pairwise
from pathlib import Path
from typing import Final

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from app.load.suite.moment import Band, Half, Kind, Moment, Murmur, Part, Say, Scene, Voice, Wire
from app.load.suite.moments import LEVELS_DBFS, LOUD_MARGIN_DB, LOUD_ROOMS, LOUD_SHARE, QUIET_ROOMS
from app.load.suite.render import Renderer, frames, mixed
from app.load.suite.taught import BACKCHANNELS, BEGINNINGS, SHORT, VOICES
from app.providers import sounding
from app.providers.espeak import EspeakTts
from media.audio import Pcm, pcm_to_ulaw, ulaw_to_pcm
from media.ear import Ear

CLIPS: Final = 12_000
SEED: Final = 7
SHORT_SHARE: Final = 0.6  # of what is no backchannel
MURMUR_SHARE: Final = 0.2
BEFORE_FRAMES, AFTER_FRAMES = 20, 50  # of the room around a clip
HIDDEN: Final = (96, 24)
EPOCHS: Final = 16
BATCH: Final = 128
RATE: Final = 2e-3
DECAY: Final = 1e-3
DROPOUT: Final = 0.2
BLUR: Final = 0.3  # of the features, in their scales
THROATS: Final = (0.87, 1.15)  # each clip is heard again from one that is longer or shorter by so much

Floats = NDArray[np.float32]


class Clip(Struct, frozen=True):
    is_words: bool
    bands: Floats


class Heard:
    """An ear's first utterance, from its pre-roll on."""

    def __init__(self) -> None:
        self.pcm: list[Pcm] = []

    def speech_started(self, utterance: int, now_ms: int) -> None: ...

    def speech_audio(self, utterance: int, pcm: Pcm) -> None:
        if utterance == 1:
            self.pcm.append(pcm)

    def speech_confirmed(self, utterance: int) -> None: ...

    def speech_paused(self, utterance: int, *, on: bool) -> None: ...

    def speech_ended(self, utterance: int, speech_ms: int, voice: bool) -> None: ...


async def clips(count: int) -> list[Clip]:
    """Half of them backchannels. Those that no ear takes for speech are left out."""
    rng = random.Random(SEED)  # noqa: S311  # to be repeated, not to be secret
    tts = EspeakTts()
    await tts.start()
    try:
        renderer = Renderer(tts)
        made = [await _clip(_moment(rng, is_words=number % 2 == 1), renderer) for number in range(count)]
    finally:
        await tts.stop()
    return [clip for clip in made if clip is not None]


def _moment(rng: random.Random, *, is_words: bool) -> Moment:
    part: Part = Say(rng.choice(BACKCHANNELS))
    if is_words:
        part = Say(rng.choice(SHORT if rng.random() < SHORT_SHARE else BEGINNINGS))
    elif rng.random() < MURMUR_SHARE:
        part = Murmur(rng.choice((1, 2, 2)), rng.randrange(140, 260), rng.random() < 0.5)
    room = rng.choice(LOUD_ROOMS if rng.random() < LOUD_SHARE else QUIET_ROOMS)
    return Moment(
        name="",
        half=Half.tuning,
        kind=Kind.interruption if is_words else Kind.backchannel,
        scene=Scene.talk,
        parts=(part,),
        at_ms=0,
        voice=Voice(rng.choice(VOICES), rng.randrange(130, 215, 5), rng.choice((0.94, 0.97, 1.0, 1.03, 1.06))),
        level_dbfs=max(rng.choice(LEVELS_DBFS), room.level_dbfs + LOUD_MARGIN_DB),
        room=room,
        band=rng.choice(tuple(Band)),
        wire=rng.choice(tuple(Wire)),
        seed=rng.randrange(1 << 30),
    )


async def _clip(moment: Moment, renderer: Renderer) -> Clip | None:
    # Not `renderer.moment`, which keeps what it made, by name.
    rendered, room = await renderer.make(moment), await renderer.room(moment.room)
    rate_hz = 16_000 if moment.wire is Wire.plain_16k else 8000
    around = frames(room, rate_hz)
    heard = Heard()
    ear = Ear(rate_hz, heard)
    for number, frame in enumerate(
        (*around[:BEFORE_FRAMES], *frames(mixed(rendered.pcm, room), rate_hz), *around[:AFTER_FRAMES])
    ):
        ear.feed(ulaw_to_pcm(pcm_to_ulaw(frame)) if moment.wire is Wire.twilio else frame, number * 20)
    ear.stop()
    if not heard.pcm:
        return None
    pcm = np.concatenate(heard.pcm)[: rate_hz * sounding.HEARD_MS // 1000]
    return Clip(moment.kind is Kind.interruption, sounding.mel_bands(pcm, rate_hz))


def taught(heard: list[Clip]) -> list[Floats]:
    """The network as `sounding` reads it: scales, then layers. Adam (Kingma and Ba, 2015) on the cross entropy."""
    rng = np.random.default_rng(SEED)
    x = np.array([sounding.features(clip.bands) for clip in heard])
    x = np.vstack((x, [sounding.features(_other_throat(clip.bands, rng.uniform(*THROATS))) for clip in heard]))
    y = np.tile(np.array([clip.is_words for clip in heard], dtype=np.float32), 2)
    scales = np.array((x.mean(0), x.std(0) + 1e-3))
    x = (x - scales[0]) / scales[1]
    sizes = (x.shape[1], *HIDDEN, 1)
    layers = [_layer(rng, size, after) for size, after in pairwise(sizes)]
    means = [np.zeros_like(layer) for layer in layers]
    squares = [np.zeros_like(layer) for layer in layers]
    step, steps = 0, EPOCHS * -(-len(y) // BATCH)
    for _ in range(EPOCHS):
        order = rng.permutation(len(y))
        for at in range(0, len(y), BATCH):
            some = order[at : at + BATCH]
            blurred = x[some] + rng.normal(0, BLUR, (len(some), x.shape[1])).astype(np.float32)
            step += 1
            rate = RATE * 0.5 * (1 + np.cos(np.pi * step / steps)) + 1e-5
            for layer, slope, mean, square in zip(
                layers, _slopes(layers, blurred, y[some], rng), means, squares, strict=True
            ):
                mean += 0.1 * (slope - mean)
                square += 0.001 * (slope**2 - square)
                layer -= rate * (mean / (1 - 0.9**step)) / (np.sqrt(square / (1 - 0.999**step)) + 1e-8)
    return [scales, *layers]


def _layer(rng: np.random.Generator, size: int, after: int) -> Floats:
    weights = rng.normal(0, (2 / size) ** 0.5, (size, after))
    return np.vstack((weights, np.zeros((1, after)))).astype(np.float32)


def _slopes(layers: list[Floats], x: Floats, y: Floats, rng: np.random.Generator) -> list[Floats]:
    """Of the loss, by each layer's weights and biases."""
    inputs, kept = [x], []
    for layer in layers[:-1]:
        kept.append((rng.random((len(x), layer.shape[1])) > DROPOUT) / np.float32(1 - DROPOUT))
        inputs.append(np.maximum(inputs[-1] @ layer[:-1] + layer[-1], 0) * kept[-1])
    odds = inputs[-1] @ layers[-1][:-1] + layers[-1][-1]
    error = (1 / (1 + np.exp(-odds)) - y[:, None]) / np.float32(len(y))
    slopes: list[Floats] = []
    for number in reversed(range(len(layers))):
        weights = layers[number][:-1]
        slope = inputs[number].T @ error + DECAY * weights
        slopes.insert(0, np.vstack((slope, error.sum(0, keepdims=True))).astype(np.float32))
        if number:
            error = (error @ weights.T) * (inputs[number] > 0) * kept[number - 1]
    return slopes


def _other_throat(bands: Floats, factor: float) -> Floats:
    """As if the vocal tract were shorter by this factor."""
    places = np.clip(np.arange(bands.shape[1]) * factor + 2 * (factor - 1), 0, bands.shape[1] - 1)
    below = places.astype(int)
    part = (places - below).astype(np.float32)
    bent: Floats = bands[:, below] * (1 - part) + bands[:, np.minimum(below + 1, bands.shape[1] - 1)] * part
    return bent


def main() -> None:
    parser = argparse.ArgumentParser("python -m app.load.suite.teach", description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--clips", type=int, default=CLIPS)
    given = parser.parse_args()
    network = taught(asyncio.run(clips(given.clips)))
    with given.file.open("wb") as file:
        np.savez_compressed(file, *(layer.astype(np.float16) for layer in network))


if __name__ == "__main__":
    main()
