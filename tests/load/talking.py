"""What tests of lines over RTP share: a caller's mouth, and a listener that hears sounds."""

import asyncio
import itertools
from collections.abc import Sequence
from typing import Final

import numpy as np

from app.load.line import Line
from media.audio import Resampler
from media.codec import Codec
from tests.e2e.voices import spoken
from tests.load.far_end import Heard

LOUD: Final = 1000
FRAME_S: Final = 0.02


class Ears(Heard):
    """Also the places of what came, in the sender's time."""

    def __init__(self) -> None:
        super().__init__()
        self.media_s: list[float] = []

    def audio(self, payload: bytes, at_s: float, media_s: float | None) -> None:
        assert media_s is not None
        self.media_s.append(media_s)
        super().audio(payload, at_s, media_s)

    def loudest(self, codec: Codec, since: int = 0) -> int:
        return max((int(np.abs(codec.decode(one).astype(int)).max()) for one in self.payloads[since:]), default=0)

    def captions(self, who: str = "agent") -> list[str]:
        return [told[2] for told in self.told if told[:2] == ("caption", who)]

    @property
    def ends(self) -> list[tuple[str, ...]]:
        return [told for told in self.told if told[0] != "caption"]

    @property
    def steps(self) -> list[float]:
        """In frames, from each packet to the next one."""
        return [round((after - before) / FRAME_S, 3) for before, after in itertools.pairwise(self.media_s)]


async def loud(ears: Ears, line: Line, since: int = 0) -> None:
    """The agent is heard."""
    await ears.until(lambda: ears.loudest(line.codec, since) > LOUD)


async def say(line: Line, payloads: Sequence[bytes]) -> None:
    """In real time."""
    loop = asyncio.get_running_loop()
    due_s = loop.time()
    for payload in payloads:
        line.send(payload)
        due_s += FRAME_S
        await asyncio.sleep(max(0.0, due_s - loop.time()))


def hush(codec: Codec, frames: int) -> list[bytes]:
    """Digital silence."""
    return [codec.encode(np.zeros(codec.rate_hz // 50, np.int16))] * frames


async def encoded(codec: Codec, text: str, silent_s: float = 1.0) -> list[bytes]:
    pcm = Resampler(16_000, codec.rate_hz).process(await spoken(text, 16_000))
    pcm = np.concatenate([pcm, np.zeros(int(silent_s * codec.rate_hz), np.int16)])
    size = codec.rate_hz // 50
    return [codec.encode(pcm[at : at + size]) for at in range(0, len(pcm) - size + 1, size)]
