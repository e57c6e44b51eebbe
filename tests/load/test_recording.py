"""Recordings of what callers said and heard."""

import errno
import wave
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from app.load import recording
from app.load.plain import LINEAR
from app.load.recording import save_recording
from media.audio import pcm_to_bytes

RATE_HZ = 8000


def payload(value: int) -> bytes:
    return pcm_to_bytes(np.full(160, value, np.int16))


def read(path: Path) -> NDArray[np.int16]:
    with wave.open(str(path)) as file:
        assert (file.getnchannels(), file.getframerate()) == (2, RATE_HZ)
        return np.frombuffer(file.readframes(file.getnframes()), "<i2").reshape(-1, 2)


def save(path: Path, *sides: list[tuple[float, bytes]]) -> NDArray[np.int16]:
    said, heard = sides
    save_recording(path, said, heard, LINEAR[RATE_HZ]())
    return read(path)


def test_of_a_recording_that_does_not_fit_nothing_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(file: wave.Wave_write, data: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(wave.Wave_write, "writeframes", full)
    with pytest.raises(OSError, match="No space"):
        save(tmp_path / "a.wav", [(1.0, payload(1))], [])
    assert list(tmp_path.iterdir()) == []


def test_both_sides_stand_where_they_were(tmp_path: Path) -> None:
    made = save(
        tmp_path / "a.wav",
        [(100.0, payload(1)), (100.0213, payload(2)), (100.04, b""), (100.0605, payload(3))],
        [(100.5, payload(7)), (100.519, payload(8))],
    )
    left, right = made[:, 0], made[:, 1]
    assert [int(left[at]) for at in (0, 159, 160, 319, 320, 480, 640)] == [1, 1, 2, 2, 0, 3, 0]
    assert [int(right[at]) for at in (0, 3999, 4000, 4159, 4160, 4319, 4320)] == [0, 0, 7, 7, 8, 8, 0]


def test_a_call_in_which_nothing_was_heard(tmp_path: Path) -> None:
    assert not save(tmp_path / "a.wav", [], []).any()
    assert save(tmp_path / "b.wav", [(5.0, payload(4))], [])[:160, 0].all()


def test_the_longest_calls_are_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recording, "MAX_S", 1.0)
    made = save(tmp_path / "a.wav", [(0.0, payload(1)), (500.0, payload(2))], [(0.5, payload(3))])
    assert len(made) == pytest.approx(RATE_HZ, abs=400)
