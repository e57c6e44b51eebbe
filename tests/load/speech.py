"""An agent's audio made by hand: frames whose levels and times are known."""

from collections.abc import Iterable, Sequence
from typing import Final

import numpy as np

from app.load.ear import Ear
from media.audio import pcm_to_ulaw
from media.codec import Pcmu

FRAME_S: Final = 0.02


def _frame(peak: int) -> bytes:
    return pcm_to_ulaw(np.asarray(peak * np.sin(2 * np.pi * 400 * np.arange(160) / 8000), dtype=np.int16))


LOUD: Final = _frame(6000)
SOFT: Final = _frame(60)


def ear(*, tells_clears: bool = True) -> Ear:
    return Ear(Pcmu(), tells_clears=tells_clears)


def play(into: Ear, at_s: float, frames: str | Sequence[bytes], *, ahead_s: float = 0.0) -> float:
    """Frames that follow one another in real time, each `ahead_s` early; returns when the last is over.

    In a text each `#` is a loud frame, each `.` a soft one, and each space one that is left out.
    """
    for frame in frames:
        if frame != " ":
            into.audio({"#": LOUD, ".": SOFT}.get(frame, LOUD) if isinstance(frame, str) else frame, at_s - ahead_s)
        at_s += FRAME_S
    return at_s


def packets(into: Ear, arrivals: Iterable[tuple[float, float]], payload: bytes = LOUD) -> None:
    """(arrival, sender's time) of each."""
    for at_s, media_s in arrivals:
        into.audio(payload, at_s, media_s)


def spans(of: Ear) -> list[tuple[float, float]]:
    return [(round(start, 6), round(end, 6)) for start, end in zip(of.starts, of.ends, strict=True)]


def holes(of: Ear) -> list[tuple[float, float]]:
    return [(round(hole.at_s, 6), round(hole.length_s, 6)) for hole in of.holes]
