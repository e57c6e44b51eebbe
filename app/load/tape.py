"""Which calls' sound is kept while a run goes on, so that in the end the worst can be heard."""

import wave
from pathlib import Path
from typing import Final

import numpy as np

from app.load.caller import Caller
from app.load.ear import AUDIBLE_RMS
from app.load.record import Span, Tape
from app.load.recording import MAX_S, save_recording
from app.load.worst import weight
from media.audio import FRAME_MS, FULL_SCALE, Pcm

MAX_BYTES: Final = 256 << 20
"""Of sound that one process keeps in memory; calls beyond that are not recorded."""

ESTIMATED_S: Final = 60.0  # at least so long may any call last
OVERHEAD_BYTES_PER_S: Final = 12_000  # what Python needs around 100 payloads
STEP_MS: Final = 20
JOIN_S: Final = 0.25  # shorter pauses are not drawn
ROOM_SHARE: Final = 10  # percent of a caller's time, at least, in which only the room is heard
OVER_ROOM: Final = 2.8  # times as loud as the room: 9 dB
MAX_FLOOR: Final = FULL_SCALE * 10 ** (-32 / 20)  # who never pauses is still heard above this

Frames = list[tuple[float, bytes]]


class Taped:
    """One caller's, while the call lasts and after."""

    def __init__(self, caller: Caller, said: Frames, heard: Frames) -> None:
        self.caller = caller
        self.said = said
        self.heard = heard

    def shorten(self) -> None:
        """No more of a call that lasts too long."""
        if len(self.said) * FRAME_MS > MAX_S * 1000:
            self.caller.said = None
            self.caller.ear.kept = None


class Tapes:
    """Keeps the sound of the `most` worst calls that are over, and of live ones as long as there is room."""

    def __init__(self, most: int, hold_s: float) -> None:
        self.recorded = 0
        self._most = most
        self._seconds = min(max(hold_s, ESTIMATED_S), MAX_S)
        self._live: dict[int, Taped] = {}
        self._worst: list[tuple[float, Taped]] = []

    def begun(self, caller: Caller) -> None:
        """Before its first frame; a call for which there is no room forgets its sound at once."""
        said, heard = caller.said, caller.ear.kept
        if said is None or heard is None:
            return
        bytes_per_s = 2 * 1000 * max(caller.line.codec.bytes_per_ms, 1) + OVERHEAD_BYTES_PER_S
        if (len(self._live) + self._most + 1) * bytes_per_s * self._seconds > MAX_BYTES:
            caller.said = caller.ear.kept = None
        else:
            self._live[caller.result.number] = Taped(caller, said, heard)

    def shorten(self) -> None:
        for taped in self._live.values():
            taped.shorten()

    def over(self, caller: Caller) -> None:
        taped = self._live.pop(caller.result.number, None)
        if taped is None or not caller.result.talked_s:
            return
        self.recorded += 1
        self._worst.append((weight(caller.result), taped))
        self._worst.sort(key=lambda one: one[0], reverse=True)
        del self._worst[self._most :]

    def write(self, folder: Path, origin_s: float) -> list[Tape]:
        """One file for each. Raises `OSError`."""
        folder.mkdir(parents=True, exist_ok=True)
        return [_write(taped, folder, origin_s) for _, taped in self._worst if taped.said]


def file_name(number: int) -> str:
    return f"call-{number}.wav"


def _write(taped: Taped, folder: Path, origin_s: float) -> Tape:
    path = folder / file_name(taped.caller.result.number)
    save_recording(path, taped.said, taped.heard, taped.caller.line.codec)
    with wave.open(str(path), "rb") as file:
        rate_hz, samples = file.getframerate(), file.getnframes()
        sides = np.frombuffer(file.readframes(samples), dtype="<i2").reshape(-1, 2)
    return Tape(
        taped.caller.result.number,
        round(min(side[0][0] for side in (taped.said, taped.heard) if side) - origin_s, 3),
        round(samples / rate_hz, 3),
        _spans(_levels(sides[:, 0], rate_hz), None),
        _spans(_levels(sides[:, 1], rate_hz), AUDIBLE_RMS),
    )


def _levels(pcm: Pcm, rate_hz: int) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    size = rate_hz * STEP_MS // 1000
    steps = len(pcm) // size
    return np.asarray(np.sqrt((pcm[: steps * size].reshape(steps, size).astype(np.float64) ** 2).mean(axis=1)))


def _spans(levels: np.ndarray[tuple[int], np.dtype[np.float64]], floor: float | None) -> list[Span]:
    """When it was louder; without a floor, than the room around it."""
    if not len(levels):
        return []
    if floor is None:
        floor = min(max(float(np.percentile(levels, ROOM_SHARE)) * OVER_ROOM, AUDIBLE_RMS), MAX_FLOOR)
    spans: list[Span] = []
    for at in np.flatnonzero(levels >= floor).tolist():
        begin_s, end_s = at * STEP_MS / 1000, (at + 1) * STEP_MS / 1000
        if spans and begin_s - spans[-1][1] <= JOIN_S:
            spans[-1] = (spans[-1][0], round(end_s, 3))
        else:
            spans.append((round(begin_s, 3), round(end_s, 3)))
    return spans
