"""Legs that hear each other: levels, rates, jitter, and who hears what."""

import numpy as np
import pytest

from media.audio import Pcm
from media.mixer import MAX_WAITING_MS, Bus, Mixer, Tap, mixed

RATE_HZ = 8000
FRAME = RATE_HZ // 50


def level(value: int, samples: int = FRAME) -> Pcm:
    return np.full(samples, value, dtype=np.int16)


class FakeLeg:
    def __init__(self, rate_hz: int = RATE_HZ) -> None:
        self.rate_hz = rate_hz
        self.tap: Tap | None = None
        self.bus: Bus | None = None

    def heard(self, frames: int = 1) -> list[Pcm | None]:
        assert self.bus is not None
        return [self.bus.take() for _ in range(frames)]


def test_a_source_is_heard_after_two_frames_and_without_gaps() -> None:
    bus = Bus(RATE_HZ, ["a"])
    bus.put("a", level(5))
    assert bus.take() is None
    bus.put("a", level(6))
    bus.put("a", level(7))
    taken = [bus.take() for _ in range(4)]
    assert [None if frame is None else int(frame[0]) for frame in taken] == [5, 6, 7, None]


def test_audio_of_any_length_comes_out_in_frames() -> None:
    bus = Bus(RATE_HZ, ["a"])
    whole = np.arange(FRAME * 4, dtype=np.int16)
    for part in np.split(whole, [7, 100, 350, 351, 600]):
        bus.put("a", part)
    taken = [frame for frame in (bus.take() for _ in range(5)) if frame is not None]
    assert np.array_equal(np.concatenate(taken), whole)


def test_what_is_too_old_is_dropped() -> None:
    bus = Bus(RATE_HZ, ["a"])
    for value in range(20):
        bus.put("a", level(value))
    kept = MAX_WAITING_MS // 20
    assert bus.dropped_samples == (20 - kept) * FRAME
    first = bus.take()
    assert first is not None
    assert first[0] == 20 - kept


def test_sums_are_clipped() -> None:
    assert mixed((level(30_000), level(30_000)))[0] == 32_767
    assert mixed((level(-30_000), level(-30_000)))[0] == -32_768
    assert mixed((level(30_000), level(-29_999)))[0] == 1


@pytest.fixture
def call() -> tuple[Mixer, FakeLeg, FakeLeg]:
    mixer, caller, operator = Mixer(), FakeLeg(), FakeLeg()
    mixer.join("caller", caller, own="agent")
    mixer.join("operator", operator)
    return mixer, caller, operator


def test_nothing_is_tapped_until_somebody_hears_it(call: tuple[Mixer, FakeLeg, FakeLeg]) -> None:
    mixer, caller, operator = call
    assert (caller.tap, caller.bus, operator.tap, operator.bus) == (None, None, None, None)
    mixer.connect({"caller": ("agent",)})
    assert (caller.tap, caller.bus) == (None, None), "its own playout says it already"


def test_a_listener_hears_both_sides(call: tuple[Mixer, FakeLeg, FakeLeg]) -> None:
    mixer, caller, operator = call
    mixer.connect({"caller": ("agent",), "operator": ("agent", "caller")})
    assert caller.tap is not None
    assert caller.bus is None
    for _ in range(2):
        caller.tap.heard(level(100))
        caller.tap.said(level(20))
    assert [int(frame[0]) for frame in operator.heard(2) if frame is not None] == [120, 120]


def test_nobody_hears_himself(call: tuple[Mixer, FakeLeg, FakeLeg]) -> None:
    mixer, caller, operator = call
    mixer.connect({"caller": ("agent", "caller", "operator"), "operator": ("operator",)})
    assert operator.bus is None
    assert operator.tap is not None
    for _ in range(2):
        operator.tap.heard(level(3))
    assert [int(frame[0]) for frame in caller.heard(2) if frame is not None] == [3, 3]


def test_who_leaves_is_not_heard_and_hears_nothing(call: tuple[Mixer, FakeLeg, FakeLeg]) -> None:
    mixer, caller, operator = call
    mixer.connect({"operator": ("agent", "caller"), "ghost": ("agent",)})
    mixer.leave("operator")
    mixer.leave("operator")
    assert (operator.bus, operator.tap, caller.tap) == (None, None, None)


def test_rates_may_differ() -> None:
    mixer, caller, operator = Mixer(), FakeLeg(8000), FakeLeg(16_000)
    mixer.join("caller", caller, own="agent")
    mixer.join("operator", operator)
    mixer.connect({"operator": ("caller",)})
    tone = (8000 * np.sin(2 * np.pi * 440 * np.arange(8000) / 8000)).astype(np.int16)
    frames = []
    assert caller.tap is not None
    for at in range(0, len(tone), FRAME):
        caller.tap.heard(tone[at : at + FRAME])
        frames += [frame for frame in operator.heard() if frame is not None]
    heard = np.concatenate(frames)
    spectrum = np.abs(np.fft.rfft(heard[2000:12_000]))
    assert len(heard) >= 15_000
    assert abs(np.argmax(spectrum) * 16_000 / 10_000 - 440) < 3
