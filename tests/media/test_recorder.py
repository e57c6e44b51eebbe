import wave
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from media.audio import Pcm
from media.recorder import HEADER, Recorder

RATE_HZ = 8000


def frame(value: int) -> Pcm:
    return np.full(160, value, dtype=np.int16)


def read(path: Path) -> NDArray[np.int16]:
    with wave.open(str(path)) as file:
        assert file.getnchannels() == 2
        assert file.getsampwidth() == 2
        assert file.getframerate() == RATE_HZ
        return np.frombuffer(file.readframes(file.getnframes()), dtype="<i2").reshape(-1, 2)


def test_both_sides_stand_where_they_were_in_time(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "a" / "call.wav", RATE_HZ, 1000)
    for now_ms in range(1000, 4000, 20):
        recorder.caller(frame(100), now_ms)
        if 2000 <= now_ms < 2500:
            recorder.agent(frame(-7), now_ms)
    recorder.close(5000)
    both = read(recorder.path)
    assert len(both) == 4 * RATE_HZ
    assert (both[: 3 * RATE_HZ, 0] == 100).all()
    assert not both[3 * RATE_HZ :, 0].any()
    agent = np.flatnonzero(both[:, 1])
    assert (agent[0], agent[-1]) == (RATE_HZ, RATE_HZ + RATE_HZ // 2 - 1)
    assert recorder.error is None


def test_jitter_leaves_no_holes(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "call.wav", RATE_HZ, 0)
    for at in range(200):
        recorder.caller(frame(5), at * 20 + (45 if at % 3 else 0))
    recorder.close(4000)
    assert (read(recorder.path)[: 200 * 160, 0] == 5).all()


def test_a_flood_is_bounded(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "call.wav", RATE_HZ, 0)
    for _ in range(1000):
        recorder.caller(frame(5), 10)
    recorder.close(20)
    assert len(read(recorder.path)) <= 1.1 * RATE_HZ


def test_the_header_is_valid_before_the_end(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "call.wav", RATE_HZ, 0)
    assert len(read(recorder.path)) == 0
    for now_ms in range(0, 2500, 20):
        recorder.caller(frame(3), now_ms)
    assert len(read(recorder.path)) >= RATE_HZ
    recorder.close(2500)
    size = recorder.path.stat().st_size
    assert HEADER.unpack(recorder.path.read_bytes()[: HEADER.size])[-1] == size - HEADER.size


def test_what_is_said_while_paused_is_silence(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "call.wav", RATE_HZ, 0)
    for now_ms in range(0, 3000, 20):
        recorder.paused = 1000 <= now_ms < 2000
        recorder.caller(frame(9), now_ms)
    recorder.close(3000)
    left = read(recorder.path)[:, 0]
    assert (left[:RATE_HZ] == 9).all()
    assert not left[RATE_HZ : 2 * RATE_HZ].any()
    assert (left[2 * RATE_HZ :] == 9).all()


def test_a_full_disk_ends_the_recording_and_nothing_else() -> None:
    recorder = Recorder(Path("/dev/full"), RATE_HZ, 0)
    for now_ms in range(0, 3000, 20):
        recorder.caller(frame(9), now_ms)
    recorder.close(3000)
    assert isinstance(recorder.error, OSError)


def test_a_folder_that_cannot_be_made_is_an_error_that_waits(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    recorder = Recorder(tmp_path / "file" / "call.wav", RATE_HZ, 0)
    recorder.agent(frame(1), 20)
    recorder.close(40)
    assert isinstance(recorder.error, OSError)
