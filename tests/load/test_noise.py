"""Noises are made of chance alone."""

import numpy as np
import pytest

from app.load import noise
from app.load.noise import RATE_HZ, Noise


@pytest.mark.parametrize("kind", [kind for kind in Noise if kind is not Noise.babble])
def test_noises_are_sound(kind: Noise) -> None:
    made = noise.make(kind, RATE_HZ // 2, np.random.default_rng(1))
    assert len(made) == RATE_HZ // 2
    assert np.isfinite(made).all()
    assert np.abs(made).max() > 0


def test_nobody_makes_babble_of_chance() -> None:
    with pytest.raises(ValueError, match="babble"):
        noise.make(Noise.babble, 100, np.random.default_rng(1))


def test_unequal_parts_of_a_murmur() -> None:
    made = noise.murmur(RATE_HZ // 5, 100, 120, np.random.default_rng(1))
    assert np.abs(made[:10]).max() < np.abs(made).max() / 10, "it fades in"
