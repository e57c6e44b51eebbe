"""The figures of one server core from one call to the breaking point: a table, and a plot for the documentation.

`python -m tests.bench.density --curve [--only twilio sip webrtc]`. Points that were measured earlier stay in the plot:
`curve.json` beside it has them.
"""

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct, field
from rich.console import Console
from rich.table import Table

from app.load.charts import Limit, Series, percent, plain
from tests.bench import machine
from tests.bench.sheet import Panel, sheet

FOLDER: Final = Path(__file__).parents[2] / "docs"
PLOT, POINTS = FOLDER / "curve.svg", FOLDER / "curve.json"
FIRST: Final = (1, 10, 50)
TRIES: Final = 3  # of each number: once may be chance
MOST: Final = 5000
STYLES: Final = {"Twilio WebSocket": "s1", "SIP G.711": "s2", "WebRTC Opus": "s3"}

COLUMNS: Final[dict[str, tuple[str, Callable[[float], str]]]] = {
    "cpu_ms": ("CPU, ms a call-second", "{:.2f}".format),
    "used_percent": ("core used, %", "{:.0f}".format),
    "barge_in_p50_ms": ("barge-in p50", "{:.0f}".format),
    "barge_in_p99_ms": ("p99, ms", "{:.0f}".format),
    "response_p99_ms": ("response p99, ms", "{:.0f}".format),
    "late_percent": ("late, %", "{:.3f}".format),
    "server_loop_lag_p99_ms": ("lag p99, ms", "{:.1f}".format),
    "server_memory_mb_per_call": ("MB a call", "{:.2f}".format),
}


class Point(Struct):
    calls: int
    values: dict[str, float]  # those of `COLUMNS`
    broken: list[str]  # limits
    doubts: list[str]  # why they may not be the server's


class Curves(Struct):
    points: dict[str, list[Point]] = field(default_factory=dict)  # by transport
    machine: dict[str, list[str]] = field(default_factory=dict)  # on which each was measured


Measure = Callable[[int], Point]
"""With so many calls."""


def climb(out: Console, measure: Measure, step: int) -> list[Point]:
    """More and more calls, the last of which break a limit."""
    points: list[Point] = []
    for calls in _numbers(step):
        for _ in range(TRIES):
            point = measure(calls)
            if not point.broken and not point.doubts:
                break
        told = "; ".join([*point.broken, *point.doubts])
        out.print(f"  {calls} calls: " + (told or "all limits held"), markup=False, style="dim", soft_wrap=True)
        points.append(point)
        if point.broken and (not point.doubts or (len(points) > 1 and points[-2].broken)):
            break
    return points


def _numbers(step: int) -> Iterator[int]:
    yield from (number for number in FIRST if number < step)
    yield from range(step, MOST, step)


def keep(name: str, points: list[Point], plot: Path = PLOT, kept: Path = POINTS) -> None:
    """Beside those of the other transports. Raises `OSError`."""
    curves = msgspec.json.decode(kept.read_bytes(), type=Curves) if kept.exists() else Curves()
    curves.points[name], curves.machine[name] = points, machine.describe()
    kept.write_bytes(msgspec.json.format(msgspec.json.encode(curves), indent=1) + b"\n")
    plot.write_text(drawn(curves))


def drawn(curves: Curves) -> str:
    def panel(title: str, name: str, *limits: Limit, part: float = 1.0, form: Callable[[float], str] = plain) -> Panel:
        series = [
            Series(
                transport,
                [(one.calls, one.values[name] * part) for one in points if name in one.values],
                STYLES[transport],
                dots=True,
            )
            for transport in STYLES
            if (points := curves.points.get(transport))
        ]
        return Panel(title, series, limits, form)

    panels = [
        panel("CPU, ms a call-second (from 10 calls on)", "cpu_ms"),
        panel("The core in use", "used_percent", part=0.01, form=percent),
        panel("Barge-in, onset to silence, p50, ms", "barge_in_p50_ms", Limit("goal 120", 120)),
        panel("The same, p99, ms", "barge_in_p99_ms", Limit("limit 200", 200)),
        panel("Late frames", "late_percent", Limit("limit 0.1 %", 0.001), part=0.01, form=percent),
        panel("Event-loop lag, p99, ms", "server_loop_lag_p99_ms", Limit("goal 15", 15)),
    ]
    first = panels[0]
    panels[0] = Panel(first.title, [_from_ten(one) for one in first.series])
    return sheet("How the figures of one core grow with its calls", panels, "calls at once")


def _from_ten(series: Series) -> Series:
    """One call alone costs many times as much as each of ten, and would press all others flat."""
    return msgspec.structs.replace(series, points=[(x, y) for x, y in series.points if x >= FIRST[1]])


def show(out: Console, name: str, points: list[Point]) -> None:
    table = Table("calls", *(words for words, _ in COLUMNS.values()), title=name, title_justify="left", box=None)
    for point in points:
        found = (form(point.values.get(name, math.nan)) for name, (_, form) in COLUMNS.items())
        table.add_row(f"{point.calls}{' broke' if point.broken else ''}", *found)
    out.print(table)
