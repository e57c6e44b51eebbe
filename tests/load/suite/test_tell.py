"""The figures: what counts for what, what is left out, and what was not measured."""

import msgspec
import pytest
from rich.console import Console

from app.load.suite.judge import Finding
from app.load.suite.moment import Half, Kind, Moment
from app.load.suite.moments import moments
from app.load.suite.play import Outcome
from app.load.suite.run import to_json
from app.load.suite.tell import figures, show, show_faults


def one(kind: Kind, half: Half = Half.tuning) -> Moment:
    return next(moment for moment in moments(half) if moment.kind is kind)


def outcomes(kind: Kind, *findings: Finding, own: bool = False) -> list[Outcome]:
    return [Outcome(one(kind), finding, own=own) for finding in findings]


def test_shares_and_percentiles() -> None:
    yields = outcomes(Kind.interruption, *(Finding(True, latency_ms=ms) for ms in (100, 110, 300)), Finding(False))
    goes = outcomes(Kind.noise, Finding(True, holds_ms=[300, 400]), Finding(False, "stopped", holds_ms=[200]))
    answers = outcomes(
        Kind.word, Finding(True, latency_ms=500), Finding(False, "came in early"), Finding(False, "no answer")
    )
    found = figures([*yields, *goes, *answers, Outcome(one(Kind.word), error="busy")])
    assert (found.yields, found.yield_rate, found.yield_p50_ms) == (4, 0.75, 110)
    assert (found.goings_on, found.selectivity) == (2, 0.5)
    assert (found.holds, found.hold_p50_ms, found.hold_max_ms) == (3, 300, 400)
    assert (found.answers, found.endpoint_p50_ms) == (3, 500)
    assert found.early == found.missed == pytest.approx(1 / 3)
    assert (found.own, found.errors) == (0, 1)


def test_what_the_tester_was_too_late_for_counts_for_nothing_but_itself() -> None:
    found = figures(outcomes(Kind.noise, Finding(False, "stopped"), own=True))
    assert (found.own, found.goings_on, found.selectivity) == (1, 0, None)


def test_nothing_at_all_is_no_figure() -> None:
    found = figures([])
    assert found.yield_rate is found.yield_p95_ms is found.selectivity is found.early is found.endpoint_p50_ms is None


def test_it_can_be_read() -> None:
    some = [
        Outcome(one(Kind.noise), Finding(True)),
        Outcome(one(Kind.interruption, Half.held_out), Finding(False, "talked on"), call="c1"),
        Outcome(one(Kind.word), Finding(False, "no answer"), own=True),
    ]
    out = Console(record=True, width=150)
    show(out, some)
    show_faults(out, some)
    text = out.export_text()
    for words in ("selectivity", "1.000 of 1", "0.000 of 1", "both", "talked on", "c1"):
        assert words in text
    assert "no answer:" not in text, "that was the tester's own"


def test_it_can_be_kept() -> None:
    kept = msgspec.json.decode(to_json(outcomes(Kind.noise, Finding(True))))
    assert kept["figures"]["tuning"]["selectivity"] == 1.0
    assert kept["figures"]["held-out"]["selectivity"] is None
    assert kept["moments"][0]["moment"]["kind"] == "noise"
