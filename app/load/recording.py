"""What a call sounded like at the caller's ear, as a WAV file: the caller left, the agent right."""

import wave
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np

from app.load.line import FRAME_S
from media.audio import Pcm
from media.codec import Codec, PayloadError

SNAP_S: Final = 0.015  # frames that begin so near the end of the one before follow it without a seam
MAX_S: Final = 600.0

Kept = Sequence[tuple[float, bytes]]
"""Payloads with the times at which they were said or played, in order."""


def save_recording(path: Path, said: Kept, heard: Kept, codec: Codec) -> None:
    """Of a call that is over, whose codec is used for decoding. Raises `OSError`. What is beyond `MAX_S` is cut."""
    times = [at_s for side in (said, heard) for at_s, _ in side[:1]]
    origin_s = min(times, default=0.0)
    sides = [_laid_out(side, codec, origin_s) for side in (said, heard)]
    both = np.zeros((max(map(len, sides)), 2), dtype="<i2")
    for channel, side in enumerate(sides):
        both[: len(side), channel] = side
    try:
        with path.open("wb") as out, wave.open(out, "wb") as file:
            file.setnchannels(2)
            file.setsampwidth(2)
            file.setframerate(codec.rate_hz)
            file.writeframes(both.tobytes())
    except OSError:
        path.unlink(missing_ok=True)  # half of one helps nobody, least of all on a full disk
        raise


def _laid_out(side: Kept, codec: Codec, origin_s: float) -> Pcm:
    codec.reset()
    line = np.zeros(0, dtype=np.int16)
    if not side:
        return line
    lasts_s = min(side[-1][0] - origin_s + FRAME_S, MAX_S)
    line = np.zeros(round((lasts_s + FRAME_S) * codec.rate_hz), dtype=np.int16)
    next_s = 0.0
    for at_s, payload in side:
        start_s = at_s - origin_s
        if abs(start_s - next_s) < SNAP_S:
            start_s = next_s
        pcm = _decoded(payload, codec)
        at = round(start_s * codec.rate_hz)
        part = line[at : at + len(pcm)]
        part[:] = pcm[: len(part)]
        next_s = start_s + (len(pcm) / codec.rate_hz if len(pcm) else FRAME_S)
    return line


def _decoded(payload: bytes, codec: Codec) -> Pcm:
    """Nothing for a frame that was left out."""
    try:
        return codec.decode(payload) if payload else np.zeros(0, dtype=np.int16)
    except PayloadError:
        return np.zeros(0, dtype=np.int16)
