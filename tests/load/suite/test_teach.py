"""The weights that judge by sound can be made anew, by what the project itself has."""

import asyncio
import sys
from pathlib import Path

import numpy as np
import pytest

from app.load.suite import teach
from app.providers import sounding

TAUGHT = 240
HELD_OUT = 80


@pytest.fixture(scope="module")
def heard() -> list[teach.Clip]:
    return asyncio.run(teach.clips(TAUGHT + HELD_OUT))


def test_a_few_clips_teach_more_than_chance(heard: list[teach.Clip]) -> None:
    network = teach.taught(heard[:-HELD_OUT])
    right = [(sounding.judged(clip.bands, network) > 0) == clip.is_words for clip in heard[-HELD_OUT:]]
    assert np.mean(right) > 0.75
    assert 0.3 < np.mean([clip.is_words for clip in heard]) < 0.7


def test_the_file_is_one_that_the_server_reads(
    heard: list[teach.Clip], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def given(count: int) -> list[teach.Clip]:
        return heard[:count]

    monkeypatch.setattr(teach, "clips", given)
    monkeypatch.setattr(sys, "argv", ["teach", str(tmp_path / "made.npz"), "--clips", "64"])
    teach.main()
    with np.load(tmp_path / "made.npz") as made, np.load(sounding.WEIGHTS) as ours:
        layers = [made[name] for name in made.files]
        assert [layer.shape for layer in layers] == [ours[name].shape for name in ours.files]
        assert {layer.dtype for layer in layers} == {ours[name].dtype for name in ours.files}
        assert all(np.isfinite(layer).all() for layer in layers)
