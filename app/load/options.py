"""What a person writes behind the options of a run, read: lengths, rates, names of scenarios."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from app.load import scenario

MAX_CALLS: Final = 100_000
MAX_HOLD_S: Final = 24 * 3600.0
MAX_RAMP_PER_S: Final = 1000.0
MIN_RAMP_PER_S: Final = 1 / 3600
MAX_SCENARIOS: Final = 50

_LENGTH: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h|)")
_UNITS_S: Final = {"ms": 0.001, "s": 1.0, "": 1.0, "m": 60.0, "h": 3600.0}
_RATE: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?)(?:/(s|m|min|h))?")
_PER_S: Final = {None: 1.0, "s": 1.0, "m": 1 / 60, "min": 1 / 60, "h": 1 / 3600}


class BadOption(ValueError):
    """Says which, and what is meant."""


def length_s(text: str) -> float:
    """Of "60s", "500ms", "5m", "1h" or "60". Raises `BadOption`."""
    found = _LENGTH.fullmatch(text.strip())
    value = float(found[1]) * _UNITS_S[found[2]] if found else -1.0
    if not 0 <= value <= MAX_HOLD_S:
        raise BadOption(f"--hold: {text[:40]!r} is no length: write 60s, 5m or 1h (at most 24h)")
    return value


def rate_per_s(text: str) -> float:
    """Of "10/s", "30/min" or "10". Raises `BadOption`."""
    found = _RATE.fullmatch(text.strip())
    value = float(found[1]) * _PER_S[found[2]] if found else 0.0
    if not MIN_RAMP_PER_S <= value <= MAX_RAMP_PER_S:
        raise BadOption(f"--ramp: {text[:40]!r} is no rate: write 10/s or 30/min (at most {MAX_RAMP_PER_S:g}/s)")
    return value


def scenarios(given: Sequence[str]) -> tuple[tuple[Path, ...], tuple[str, ...]]:
    """Files and names. Raises `ScenarioError` where one cannot be played, and `BadOption` for too many."""
    if len(given) > MAX_SCENARIOS:
        raise BadOption(f"--scenario: at most {MAX_SCENARIOS}")
    paths = tuple(scenario.find(one).resolve() for one in given)
    return paths, tuple(scenario.load(path).name for path in paths)
