"""What short stretches sound like, at either rate; espeak's voices are all that it has heard."""

import asyncio

import numpy as np
import pytest

from app.providers.espeak import EspeakTts
from app.providers.sounding import HEARD_MS, MAX_LOG_ODDS, WHOLE_MS, Stretch, features, log_odds, mel_bands
from flows.model import Voice
from media.audio import FRAME_MS, Pcm

RATES_HZ = (8000, 16_000)


async def _spoken(texts: tuple[str, ...], rate_hz: int) -> dict[str, Pcm]:
    """Each as an utterance: 300 ms before it, and the silence that ends it."""
    tts = EspeakTts()
    await tts.start()
    room = np.random.default_rng(1)
    try:
        said = {}
        for text in texts:
            chunks = [chunk.pcm async for chunk in tts.speak(text, Voice("espeak", "en-us+m1", 170), rate_hz)]
            silence = np.zeros(rate_hz // 4, dtype=np.int16)
            pcm = np.concatenate((silence, *chunks, silence))
            said[text] = (pcm + room.normal(0, 20, len(pcm))).astype(np.int16)
        return said
    finally:
        await tts.stop()


@pytest.mark.parametrize("rate_hz", RATES_HZ)
def test_backchannels_leave_the_floor_and_cut_ins_want_it(rate_hz: int) -> None:
    backchannels, cut_ins = ("okay", "yeah", "uh-huh", "all right"), ("stop", "wait", "Tuesday", "hello")
    said = asyncio.run(_spoken(backchannels + cut_ins, rate_hz))
    odds = {text: log_odds(pcm, rate_hz) for text, pcm in said.items()}
    assert max(odds[text] for text in backchannels) < 0 < min(odds[text] for text in cut_ins)


@pytest.mark.parametrize("rate_hz", RATES_HZ)
def test_level_and_pre_roll_say_nothing(rate_hz: int) -> None:
    tone = np.sin(np.arange(rate_hz // 3) * (2 * np.pi * 300 / rate_hz)) * 8000
    around = np.random.default_rng(2).normal(0, 20, rate_hz)
    around[rate_hz // 4 : rate_hz // 4 + len(tone)] += tone
    loud = around.astype(np.int16)
    odds = log_odds(loud, rate_hz)
    assert log_odds(np.roll(loud, rate_hz // 50), rate_hz) == pytest.approx(odds, abs=0.5)
    assert log_odds((loud // 2).astype(np.int16), rate_hz) == pytest.approx(odds, abs=1.5)


@pytest.mark.parametrize("pcm", [np.zeros(0), np.zeros(6720), np.full(6720, 32_767), np.tile([32_767, -32_768], 3360)])
def test_whatever_comes_has_its_odds(pcm: Pcm) -> None:
    pcm = pcm.astype(np.int16)
    assert abs(log_odds(pcm, 8000)) <= MAX_LOG_ODDS
    assert np.isfinite(features(mel_bands(pcm, 8000))).all()


def test_a_stretch_is_judged_once_when_enough_of_it_is_there() -> None:
    frame = np.random.default_rng(3).normal(0, 3000, 160).astype(np.int16)
    stretch = Stretch(8000)
    found = []
    for _ in range(WHOLE_MS // FRAME_MS):
        stretch.feed(frame)
        found.append(stretch.wants_floor)
    before = HEARD_MS // FRAME_MS - 1
    assert not any(found[:before])
    assert len(set(found[before:])) == 1
    assert stretch.finish() == found[-1] != 0
    stretch.feed(frame)
    assert stretch.finish() == 0, "it went on after that"


def test_a_short_stretch_is_judged_at_its_end_and_no_other_rate_is() -> None:
    pcm = np.random.default_rng(3).normal(0, 3000, 4000).astype(np.int16)
    short, other = Stretch(8000), Stretch(24_000)
    for stretch in (short, other):
        stretch.feed(pcm)
        assert stretch.wants_floor == 0
    assert short.finish() == log_odds(pcm, 8000)
    assert other.finish() == 0
