"""A stereo WAV of one leg: the caller left, the agent as it was really sent right."""

import os
import struct
from pathlib import Path
from typing import BinaryIO, Final

import numpy as np

from media.audio import Pcm

MAX_RECORDING_MS: Final = 4 * 3600 * 1000
MAX_GAP_MS: Final = 60  # a chunk that comes no later than this follows the one before without a gap
MAX_LEAD_MS: Final = 1000  # a channel further ahead of the clock than this drops what comes
FLUSH_MS: Final = 1000  # between writes to the disk
HEADER: Final = struct.Struct("<4sI4s4sIHHIIHH4sI")  # RIFF/WAVE with a "fmt " chunk of 16 bytes and the data chunk


class _Channel:
    """Samples that are not on the disk yet; `start` and `end` count from the recording's beginning."""

    def __init__(self) -> None:
        self.chunks: list[Pcm] = []
        self.start = 0
        self.end = 0
        self.silent = True  # it ends in silence that was filled in

    def put(self, pcm: Pcm, at: int, rate_hz: int) -> None:
        if self.silent or at - self.end > MAX_GAP_MS * rate_hz // 1000:
            self.pad(at)
        if self.end - at <= MAX_LEAD_MS * rate_hz // 1000:
            self.chunks.append(pcm)
            self.end += len(pcm)
            self.silent = False

    def pad(self, to: int) -> None:
        if to > self.end:
            self.chunks.append(np.zeros(to - self.end, dtype=np.int16))
            self.end = to
            self.silent = True

    def take(self, to: int) -> Pcm:
        self.pad(to)
        samples = np.concatenate(self.chunks) if self.chunks else np.zeros(0, dtype=np.int16)
        count = to - self.start
        self.chunks = [samples[count:].copy()]
        self.start = to
        return samples[:count]


class Recorder:
    """Written about once a second, with a valid header each time, so a crash costs the last second.

    A disk that fails ends the recording, never the call: `error` says so, and nothing raises.
    """

    def __init__(self, path: Path, rate_hz: int, now_ms: int) -> None:
        self.path = path
        self.rate_hz = rate_hz
        self.error: OSError | None = None
        self.paused = False  # silence is recorded instead
        self._begun_ms = now_ms
        self._flush_ms = now_ms + FLUSH_MS
        self._caller = _Channel()
        self._agent = _Channel()
        self._samples = 0  # on the disk, of each channel
        self._file: BinaryIO | None = None
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = open(path, "wb", buffering=0, opener=_private)  # noqa: SIM115 - open as long as the leg
        except OSError as error:
            self.error = error
        self._write(b"")

    def caller(self, pcm: Pcm, now_ms: int) -> None:
        self._put(self._caller, pcm, now_ms)

    def agent(self, pcm: Pcm, now_ms: int) -> None:
        self._put(self._agent, pcm, now_ms)

    def close(self, now_ms: int) -> None:
        """Writes the rest; silence up to now."""
        if self._file is not None:
            self._flush(max(self._at(now_ms), self._caller.end, self._agent.end))
        if self._file is not None:
            self._file.close()
            self._file = None

    def _put(self, channel: _Channel, pcm: Pcm, now_ms: int) -> None:
        if self._file is None or now_ms - self._begun_ms > MAX_RECORDING_MS:
            return
        if not self.paused:
            channel.put(pcm, self._at(now_ms), self.rate_hz)
        if now_ms >= self._flush_ms:
            self._flush_ms = now_ms + FLUSH_MS
            self._flush(self._at(now_ms - MAX_GAP_MS))

    def _at(self, now_ms: int) -> int:
        return min(now_ms - self._begun_ms, MAX_RECORDING_MS) * self.rate_hz // 1000

    def _flush(self, to: int) -> None:
        if to <= self._samples:
            return
        both = np.empty((to - self._samples, 2), dtype="<i2")
        both[:, 0] = self._caller.take(to)
        both[:, 1] = self._agent.take(to)
        self._samples = to
        self._write(both.tobytes())

    def _write(self, data: bytes) -> None:
        if self._file is None:
            return
        size = 4 * self._samples
        try:
            self._file.seek(0, 2)
            if self._file.write(data) != len(data):
                raise OSError("the disk took only a part")
            self._file.seek(0)
            self._file.write(_header(self.rate_hz, size))
        except OSError as error:
            self.error = error
            self._file.close()
            self._file = None


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _header(rate_hz: int, data_bytes: int) -> bytes:
    return HEADER.pack(
        b"RIFF", 36 + data_bytes, b"WAVE", b"fmt ", 16, 1, 2, rate_hz, 4 * rate_hz, 4, 16, b"data", data_bytes
    )
