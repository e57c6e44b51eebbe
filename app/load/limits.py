"""Conditions under which a run fails, and how it fared."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from app.load.figures import Condition, condition
from app.load.record import Judged

DEFAULT: Final = (
    "refused > 0",
    "failed > 0",
    "unexpected > 0",
    "barge_in_p50_ms > 120",
    "barge_in_p99_ms > 200",
    "response_p99_ms > 1000",
    "late_share > 0.1%",
)
"""What a server's capacity is measured by, unless other conditions are given."""


def conditions(texts: Iterable[str]) -> tuple[Condition, ...]:
    """Raises `BadCondition`."""
    return tuple(condition(text) for text in texts)


def judge(found: Mapping[str, float], asked: Sequence[Condition]) -> list[Judged]:
    """What was not measured cannot be vouched for: it counts as broken."""
    return [Judged(str(one), found.get(one.name), one.holds(found) is not False) for one in asked]


def broken(found: Mapping[str, float], asked: Sequence[Condition]) -> list[str]:
    """Those that came true, with what was found; what was not measured, did not."""
    return [f"{one}: {number(found[one.name], one.name)}" for one in asked if one.holds(found)]


def number(value: float, name: str) -> str:
    """As a person reads it, by the unit in the figure's name."""
    if name.endswith("_ms"):
        return f"{value:,.1f} ms" if value < 100 else f"{value:,.0f} ms"
    if name.endswith("_share"):
        return f"{value:.2%}"
    return f"{value:,.0f}" if value == round(value) else f"{value:,.2f}"
