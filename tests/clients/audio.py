"""What the clients say and what they have heard, as WAV files."""

import struct
import wave
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from media.audio import Pcm, Resampler, bytes_to_pcm, pcm_to_bytes, silence

RATE_HZ = 16_000
HEADER_BYTES = 4096
ENDLESS_MS = 300_000  # of silence after what is said: a client may hang up where its file ends


def tone(hz: float, duration_ms: int, rate_hz: int = RATE_HZ, level: int = 8000) -> Pcm:
    at = np.arange(rate_hz * duration_ms // 1000)
    return (level * np.sin(2 * np.pi * hz * at / rate_hz)).astype(np.int16)


def write(file: Path, pcm: Pcm, rate_hz: int = RATE_HZ) -> Path:
    with wave.open(str(file), "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(rate_hz)
        out.writeframes(pcm_to_bytes(pcm))
    return file


@dataclass(frozen=True, slots=True)
class Header:
    """What is needed of a WAV file's beginning; `begin` is where its samples are."""

    rate_hz: int
    channels: int
    begin: int


def read(file: Path, rate_hz: int = RATE_HZ) -> Pcm:
    """16-bit, first channel only; also of a file that is still being written, whose header has no length yet."""
    data = file.read_bytes()
    header = _header(data)
    if header is None:
        return silence(rate_hz, 0)
    frame_bytes = 2 * header.channels
    end = header.begin + (len(data) - header.begin) // frame_bytes * frame_bytes
    pcm = np.ascontiguousarray(bytes_to_pcm(data[header.begin : end])[:: header.channels])
    resampler = Resampler(header.rate_hz, rate_hz, live=False)
    return np.concatenate((resampler.process(pcm), resampler.flush()))


def complete(file: Path) -> bool:
    """It has a header."""
    return file.exists() and _header_of(file) is not None


def duration_ms(file: Path, like: Path | None = None) -> int:
    """As `read` has it, without reading it all; `like` has the same header, while `file` has none yet."""
    header = _header_of(file) or (_header_of(like) if like else None)
    if header is None:
        return 0
    return (file.stat().st_size - header.begin) * 1000 // (2 * header.channels * header.rate_hz)


def _header_of(file: Path) -> Header | None:
    with file.open("rb") as opened:
        return _header(opened.read(HEADER_BYTES))


def _header(data: bytes) -> Header | None:
    at = data.find(b"data", 0, HEADER_BYTES)
    if at < 0:
        return None
    channels, rate_hz = struct.unpack_from("<HI", data, data.index(b"fmt ") + 10)
    return Header(rate_hz, channels, at + 8)


def padded(speech: Path | None, file: Path) -> int:
    """Writes `file`: what is said and then silence. Its rate."""
    if speech is None:
        write(file, silence(RATE_HZ, ENDLESS_MS))
        return RATE_HZ
    with wave.open(str(speech)) as given:
        assert given.getnchannels() == 1, f"{speech} is not mono"
        assert given.getsampwidth() == 2, f"{speech} has no 16-bit samples"
        rate_hz: int = given.getframerate()
        pcm = bytes_to_pcm(given.readframes(given.getnframes()))
    write(file, np.concatenate((pcm, silence(rate_hz, ENDLESS_MS))), rate_hz)
    return rate_hz


def loudest_hz(pcm: Pcm, rate_hz: int = RATE_HZ) -> float:
    """The frequency with the most energy."""
    spectrum = np.abs(np.fft.rfft(pcm.astype(np.float64)))
    return float(np.argmax(spectrum) * rate_hz / max(len(pcm), 1))
