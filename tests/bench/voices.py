"""What callers send: a quiet line, and short real sentences, cut into frames once for all callers."""

import asyncio
from dataclasses import dataclass
from typing import Final

import numpy as np

from app.providers.espeak import EspeakTts
from flows.model import Voice
from media.audio import FRAME_MS, Pcm, frame_samples, pcm_to_ulaw, rms, ulaw_to_pcm

SENTENCES: Final = (
    ("No, wait a moment please.", "en-us+m3"),
    ("Actually, I would like to say something.", "en-us+f3"),
    ("Monday in the morning would be better.", "en-us+m1"),
    ("All right, and what about the other one?", "en-us+f2"),
    ("Excuse me, that is not what I wanted.", "en-us+m7"),
    ("Yes, I heard you, go ahead.", "en-us+f4"),
    ("Could you repeat that for me?", "en-us+m5"),
    ("Thank you, but I have another question.", "en-us+f1"),
)
PEAK: Final = 9000
NOISE_SIGMA: Final = 12.0
NOISE_S: Final = 3
ONSET_RMS: Final = 328  # -40 dBFS: an utterance begins with its first frame that is louder


@dataclass(frozen=True, slots=True)
class Frame:
    pcm: Pcm  # as the server's ear gets it
    loud: bool


Frames = tuple[Frame, ...]


@dataclass(frozen=True, slots=True)
class Voices:
    line: Frames
    utterances: tuple[Frames, ...]


def record(rate_hz: int, *, ulaw: bool) -> Voices:
    """At a rate; `ulaw` as mu-law leaves it. Takes half a second."""
    noise = np.random.default_rng(1)

    def on_the_line(pcm: Pcm) -> Frames:
        heard = np.clip(pcm + noise.normal(0, NOISE_SIGMA, len(pcm)), -32768, 32767).astype(np.int16)
        if ulaw:
            heard = ulaw_to_pcm(pcm_to_ulaw(heard))
        size = frame_samples(rate_hz)
        return tuple(
            Frame(part, rms(part.tobytes()) >= ONSET_RMS)
            for part in (heard[at : at + size] for at in range(0, len(heard) - size + 1, size))
        )

    spoken = asyncio.run(_speak(rate_hz))
    return Voices(on_the_line(np.zeros(NOISE_S * rate_hz, np.int16)), tuple(on_the_line(pcm) for pcm in spoken))


async def _speak(rate_hz: int) -> list[Pcm]:
    tts = EspeakTts()
    await tts.start()
    try:
        out = []
        for text, name in SENTENCES:
            chunks = [chunk.pcm async for chunk in tts.speak(text, Voice("espeak", name), rate_hz)]
            pcm = np.concatenate(chunks)
            scale = PEAK / max(1, int(np.abs(pcm.astype(np.int32)).max()))
            out.append(_trimmed((pcm * scale).astype(np.int16), rate_hz))
        return out
    finally:
        await tts.stop()


def _trimmed(pcm: Pcm, rate_hz: int) -> Pcm:
    """Without the silence before and after."""
    sounding = np.flatnonzero(np.abs(pcm.astype(np.int32)) > PEAK // 50)
    return pcm[max(0, sounding[0] - rate_hz * FRAME_MS // 1000) : sounding[-1] + 1]
