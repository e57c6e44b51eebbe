"""The suite is the same each time, large enough, and what it plays is as loud and as long as it says."""

from collections import Counter
from collections.abc import AsyncIterator
from itertools import pairwise

import numpy as np
import pytest
import pytest_asyncio

from app.load.noise import RATE_HZ
from app.load.suite.moment import Half, Kind, Moment, Pause, Right, Say, Scene, Wire
from app.load.suite.moments import COUNT, moments, suite
from app.load.suite.render import Renderer, frames, mixed
from app.load.suite.serving import FLOWS
from app.load.suite.words import WORDS
from app.providers.espeak import EspeakTts
from flows import load
from media.audio import rms

ALL = suite()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def renderer() -> AsyncIterator[Renderer]:
    tts = EspeakTts()
    await tts.start()
    yield Renderer(tts)
    await tts.stop()


def test_it_is_the_same_each_time() -> None:
    assert suite() == ALL
    assert moments(Half.held_out) == [moment for moment in ALL if moment.half is Half.held_out]


def test_there_are_enough_of_each_kind_in_each_half() -> None:
    assert len(ALL) == 2 * COUNT.all >= 300
    assert len({moment.name for moment in ALL}) == len(ALL)
    for half in Half:
        kinds = Counter(moment.kind for moment in ALL if moment.half is half)
        assert all(kinds[kind] >= 10 for kind in Kind)
        for right in Right:
            wires = {moment.wire for moment in ALL if moment.half is half and moment.right is right}
            assert wires == set(Wire)


def test_the_halves_share_no_voice_and_no_sentence() -> None:
    tuning, held_out = WORDS[Half.tuning], WORDS[Half.held_out]
    assert not set(tuning.voices) & set(held_out.voices)
    for part in ("interruptions", "backchannels", "laughs", "paused", "continued", "numbers"):
        assert not set(getattr(tuning, part)) & set(getattr(held_out, part)), part
    assert not {moment.seed for moment in moments(Half.tuning)} & {moment.seed for moment in moments(Half.held_out)}


def test_each_scene_has_its_flow() -> None:
    found = {load.load(path).name for path in FLOWS.glob("*.yaml")}
    assert found == set(Scene)


def some() -> list[Moment]:
    """One of each kind in each half."""
    return [next(one for one in moments(half) if one.kind is kind) for half in Half for kind in Kind]


@pytest.mark.asyncio(loop_scope="module")
async def test_it_is_heard_at_once_and_to_its_end(renderer: Renderer) -> None:
    for moment in some():
        made = await renderer.moment(moment)
        assert made.spans[0].start_s == 0
        assert made.spans[-1].end_s == pytest.approx(len(made.pcm) / RATE_HZ)
        pauses = [part.ms for part in moment.parts if isinstance(part, Pause)]
        between = [round(1000 * (later.start_s - before.end_s)) for before, later in pairwise(made.spans)]
        assert between == pauses
        assert len(made.spans) == len(moment.parts) - len(pauses)


@pytest.mark.asyncio(loop_scope="module")
async def test_a_voice_has_its_level(renderer: Renderer) -> None:
    for moment in ALL[:40]:
        made = await renderer.moment(moment)
        if moment.band == "wide" and all(isinstance(part, Say) for part in moment.parts):
            size = RATE_HZ // 50
            levels = [rms(made.pcm[at : at + size].tobytes()) for at in range(0, len(made.pcm) - size, size)]
            loudest_dbfs = 20 * np.log10(max(levels) / 32768)
            assert moment.level_dbfs - 1 <= loudest_dbfs <= moment.level_dbfs + 9


@pytest.mark.asyncio(loop_scope="module")
async def test_the_same_seed_makes_the_same_sound(renderer: Renderer) -> None:
    for moment in some():
        assert (await renderer.moment(moment)) is (await renderer.moment(moment))
    made = []
    for _ in range(2):
        tts = EspeakTts()
        await tts.start()
        fresh = Renderer(tts)
        await fresh.all(some())
        await tts.stop()
        made.append([await fresh.moment(moment) for moment in some()])
    for one, other in zip(*made, strict=True):
        assert one.pcm.shape == other.pcm.shape
        # The resampler's last bit depends on where its memory lies.
        assert np.abs(one.pcm.astype(int) - other.pcm).max() <= 4


@pytest.mark.asyncio(loop_scope="module")
async def test_the_room_is_under_it_and_as_loud_as_it_says(renderer: Renderer) -> None:
    for moment in {one.room: one for one in ALL}.values():
        room = await renderer.room(moment.room)
        dbfs = 20 * np.log10(rms(room.tobytes()) / 32768)
        assert dbfs == pytest.approx(moment.room.level_dbfs, abs=6)
        made = await renderer.moment(moment)
        assert len(mixed(made.pcm, room)) == len(made.pcm)


@pytest.mark.parametrize("rate_hz", [8000, 16_000])
def test_frames_lose_nothing(rate_hz: int) -> None:
    pcm = np.full(RATE_HZ // 2 + 7, 1000, np.int16)
    cut = frames(pcm, rate_hz)
    assert {len(frame) for frame in cut} == {rate_hz // 50}
    assert len(cut) == 26
    assert abs(int(cut[10][0]) - 1000) < 20


def test_what_people_read_of_it() -> None:
    said = {moment.kind: moment.said for moment in ALL}
    assert "[" in said[Kind.pause]
    assert "(" in said[Kind.noise]
