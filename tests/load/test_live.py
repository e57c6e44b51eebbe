"""What a terminal shows while a run goes on."""

import io

import pytest
from rich.console import Console

from app.load import figures, tell
from app.load.live import Drawn, Lines, Silent, sparkline
from app.load.results import Measure, What
from app.load.run import Moment
from tests.load.made import whole


def moment(at_s: float, up: int = 2, over: int = 0, **fields: object) -> Moment:
    given: dict[str, object] = {
        "measures": [Measure(What.barge_in, 100.0, at_s), Measure(What.barge_in, 9999.0, at_s, True)],
        "frames": int(50 * at_s),
        "late": 1,
        "errors": {"cut": 1},
        "server": {"cpu_share": 0.25, "lag_ms": 3.0},
    }
    plain = {"begun": 2, "per_s": 1.0, "own": 1, "cpu_share": 0.1}
    return Moment(at_s=at_s, up=up, over=over, **(plain | given | fields))  # type: ignore[arg-type]  # by their names


def test_bars_stand_for_shares_of_the_largest() -> None:
    assert sparkline([0, 1, 2, 4]) == "▁▃▅█"
    assert sparkline([None, 0.0, 0.0]) == " ▁▁"
    assert sparkline([]) == ""
    assert sparkline([None]) == " "


def test_without_a_terminal_there_are_lines_now_and_then() -> None:
    out = io.StringIO()
    with Lines(Console(file=out, width=200), 2) as view:
        for second in range(1, 13):
            view.moment(moment(float(second)))
        view.moment(moment(13.0, up=0, over=2))
        view.moment(moment(14.0, up=0, over=2))
        view.note("[bold]ending")
    lines = out.getvalue().splitlines()
    assert [line.split()[0] for line in lines] == ["5", "10", "13", "[bold]ending"]
    assert "barge-in p50 100 p99 100 ms (n 5)" in lines[0]
    assert "errors 1" in lines[0]


def test_a_terminal_has_a_table_of_the_main_figures() -> None:
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=120, color_system=None)
    with Drawn(console, "2 calls of talk", 2) as view:
        view.moment(moment(1.0))
        view.moment(moment(2.0, errors={"cut": 3}))
        view.note("ending all calls")
    shown = out.getvalue()
    for words in ("2 calls of talk", "2 of 2, 0 over", "barge-in", "response", "late frames", "cut 3", "25% of a core"):
        assert words in shown
    assert "ending all calls" in shown


def test_the_quiet_say_nothing() -> None:
    with Silent() as view:
        view.moment(moment(1.0))
        view.note("x")


@pytest.mark.parametrize("columns", [20, 59, 100])
def test_what_was_measured_is_whole_on_every_terminal(columns: int) -> None:
    out = Console(file=io.StringIO(), width=columns)
    run = whole()
    tell.show(out, run)
    tell.show_comparison(out, figures.compare(run, run), "old.json")
    assert isinstance(out.file, io.StringIO)
    told = out.file.getvalue()
    assert "…" not in told
    for what, one in figures.summary(run.calls).figures.items():
        assert tell.LABELS[what] in told
        assert f"{one.p99:,.0f}" in told
    assert "response_p99_ms" in told
