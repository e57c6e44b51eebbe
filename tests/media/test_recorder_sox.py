"""A recording as another program reads it."""

import subprocess
from pathlib import Path

import numpy as np

from media.recorder import Recorder
from tests.conftest import needs

RATE_HZ = 8000


def tone(hz: int, samples: int) -> np.ndarray[tuple[int], np.dtype[np.int16]]:
    return (8000 * np.sin(2 * np.pi * hz * np.arange(samples) / RATE_HZ)).astype(np.int16)


def test_sox_hears_the_caller_left_and_the_agent_right(tmp_path: Path) -> None:
    sox = needs("sox", "apt-get install sox")
    file = tmp_path / "call.wav"
    recorder = Recorder(file, RATE_HZ, 0)
    for at_ms in range(0, 2000, 20):
        recorder.caller(tone(400, 160), at_ms)
        if at_ms >= 1000:
            recorder.agent(tone(1600, 160), at_ms)
    recorder.close(2000)

    told = subprocess.run([sox, "--i", str(file)], capture_output=True, text=True, check=True).stdout
    assert "Channels       : 2" in told
    assert f"Sample Rate    : {RATE_HZ}" in told
    assert "Precision      : 16-bit" in told
    assert "00:00:02.00" in told

    def rough_hz(channel: int, start_s: float) -> int:
        command = [sox, str(file), "-n", "remix", str(channel), "trim", str(start_s), "0.8", "stat"]
        stat = subprocess.run(command, capture_output=True, text=True, check=True).stderr
        return int(next(line for line in stat.splitlines() if line.startswith("Rough")).split()[-1])

    assert abs(rough_hz(1, 0.1) - 400) < 40
    assert abs(rough_hz(2, 1.1) - 1600) < 160
    silent = subprocess.run(
        [sox, str(file), "-n", "remix", "2", "trim", "0", "0.9", "stat"], capture_output=True, text=True
    )
    assert "Maximum amplitude:     0.000000" in silent.stderr
