"""Real speech for callers: synthesized once in a process, by another voice than the agent's."""

import numpy as np

from app.providers.espeak import EspeakTts
from flows.model import Voice
from tests.e2e.clients import Pcm

VOICE = Voice("espeak", "en-us+m3", 150)
PEAK = 12_000

_made: dict[tuple[str, int], Pcm] = {}


async def spoken(text: str, rate_hz: int) -> Pcm:
    if (text, rate_hz) not in _made:
        tts = EspeakTts()
        await tts.start()
        try:
            chunks = [chunk.pcm async for chunk in tts.speak(text, VOICE, rate_hz)]
        finally:
            await tts.stop()
        pcm = np.concatenate(chunks).astype(np.float64)
        _made[text, rate_hz] = (pcm * (PEAK / np.abs(pcm).max())).astype(np.int16)
    return _made[text, rate_hz]
