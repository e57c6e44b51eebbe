"""The suite's figures, and how they read."""

from collections.abc import Iterable, Sequence
from typing import Final

import numpy as np
from msgspec import Struct
from rich.console import Console
from rich.table import Table

from app.load.suite.moment import Half, Kind, Right
from app.load.suite.play import Outcome

GOALS: Final = {
    "yield_p50_ms": (200.0, False),
    "yield_p95_ms": (400.0, False),
    "yield_rate": (0.98, True),
    "selectivity": (0.95, True),
    "early": (0.02, False),
}
"""The limit, and whether a larger figure is a better one."""


class Figures(Struct, frozen=True):
    """Of one half, or of all. Counts stand beside what they are counts of; what is None was not measured."""

    yields: int  # moments in which the agent was to yield
    yield_rate: float | None
    yield_p50_ms: float | None
    yield_p95_ms: float | None
    goings_on: int
    selectivity: float | None
    holds: int  # resumed in place, in moments in which it was to go on
    hold_p50_ms: float | None
    hold_max_ms: float | None
    answers: int
    early: float | None  # share of answers that came before the caller's end
    missed: float | None  # share that never came
    endpoint_p50_ms: float | None
    endpoint_p95_ms: float | None
    own: int  # moments left out, since the tester itself was late
    errors: int


def figures(outcomes: Iterable[Outcome]) -> Figures:
    outcomes = list(outcomes)
    found = [
        (outcome.moment, outcome.finding) for outcome in outcomes if outcome.finding is not None and not outcome.own
    ]
    by_right = {right: [finding for moment, finding in found if moment.right is right] for right in Right}
    yields, goings_on, answers = by_right[Right.yields], by_right[Right.goes_on], by_right[Right.answers]
    holds_ms = [ms for finding in goings_on for ms in finding.holds_ms]
    yield_ms = [finding.latency_ms for finding in yields if finding.latency_ms is not None]
    endpoint_ms = [finding.latency_ms for finding in answers if finding.latency_ms is not None]
    return Figures(
        yields=len(yields),
        yield_rate=_share([finding.ok for finding in yields]),
        yield_p50_ms=_percentile(yield_ms, 50),
        yield_p95_ms=_percentile(yield_ms, 95),
        goings_on=len(goings_on),
        selectivity=_share([finding.ok for finding in goings_on]),
        holds=len(holds_ms),
        hold_p50_ms=_percentile(holds_ms, 50),
        hold_max_ms=max(holds_ms, default=None),
        answers=len(answers),
        early=_share([finding.why == "came in early" for finding in answers]),
        missed=_share([finding.why == "no answer" for finding in answers]),
        endpoint_p50_ms=_percentile(endpoint_ms, 50),
        endpoint_p95_ms=_percentile(endpoint_ms, 95),
        own=sum(outcome.own for outcome in outcomes),
        errors=sum(bool(outcome.error) for outcome in outcomes),
    )


def show(out: Console, outcomes: Sequence[Outcome]) -> None:
    columns = {str(half): [o for o in outcomes if o.moment.half is half] for half in Half}
    columns = {name: some for name, some in columns.items() if some}
    if len(columns) > 1:
        columns["both"] = list(outcomes)
    made = [figures(some) for some in columns.values()]
    table = Table("", *columns, "goal", title="Turn-taking", title_justify="left")
    for name, label, counted in ROWS:
        cells = [_cell(name, getattr(one, name), getattr(one, counted) if counted else None) for one in made]
        table.add_row(label, *cells, _goal(name))
    out.print(table)
    kinds = Table("kind", *columns, title="Right by kind", title_justify="left")
    for kind in Kind:
        kinds.add_row(str(kind), *(_right(some, kind) for some in columns.values()))
    out.print(kinds)


def show_faults(out: Console, outcomes: Sequence[Outcome]) -> None:
    """One line for each moment that was not right. Its words are the suite's own, nobody's."""
    for outcome in sorted(outcomes, key=lambda outcome: outcome.moment.name):
        moment, finding = outcome.moment, outcome.finding
        why = outcome.error or (finding.why if finding is not None and not finding.ok else "")
        if why and not outcome.own:
            where = (
                f"{moment.voice.name} {moment.level_dbfs:.0f} dBFS, {moment.room.noise}, {moment.band}, {moment.wire}"
            )
            out.print(f"{moment.name}: {why}: {moment.said!r} ({where}, {moment.wire}) {outcome.call}")


ROWS: Final = (
    ("yield_rate", "yield rate", "yields"),
    ("yield_p50_ms", "onset to silence, median", ""),
    ("yield_p95_ms", "onset to silence, p95", ""),
    ("selectivity", "selectivity", "goings_on"),
    ("holds", "holds resumed in place", ""),
    ("hold_p50_ms", "their length, median", ""),
    ("hold_max_ms", "their length, most", ""),
    ("early", "early cut-ins", "answers"),
    ("missed", "missed ends", "answers"),
    ("endpoint_p50_ms", "end of speech to answer, median", ""),
    ("endpoint_p95_ms", "end of speech to answer, p95", ""),
    ("own", "left out: the tester was late", ""),
    ("errors", "errors", ""),
)


def _cell(name: str, value: float | None, count: int | None) -> str:
    if value is None:
        return "-"
    text = f"{value:.0f} ms" if name.endswith("_ms") else f"{value:.3f}" if isinstance(value, float) else str(value)
    if name in GOALS:
        limit, more = GOALS[name]
        good = value >= limit if more else value <= limit
        text = f"[green]{text}[/]" if good else f"[red]{text}[/]"
    return f"{text} of {count}" if count is not None else text


def _goal(name: str) -> str:
    if name not in GOALS:
        return ""
    limit, more = GOALS[name]
    return f"{'≥' if more else '≤'} {limit:.0f} ms" if name.endswith("_ms") else f"{'≥' if more else '≤'} {limit:g}"


def _right(outcomes: Iterable[Outcome], kind: Kind) -> str:
    oks = [o.finding.ok for o in outcomes if o.moment.kind is kind and o.finding is not None and not o.own]
    return f"{sum(oks)} of {len(oks)}" if oks else "-"


def _share(flags: Sequence[bool]) -> float | None:
    return sum(flags) / len(flags) if flags else None


def _percentile(values: Sequence[float], percent: float) -> float | None:
    return float(np.percentile(values, percent)) if values else None
