"""The tables."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from rich.console import Console
from rich.table import Table

from tests.bench.caller import Heard


@dataclass(frozen=True, slots=True)
class Steady:
    """One window of calls whose agents talk all the time."""

    protocol: str
    calls: int
    talk: str
    window_s: float
    cpu_ms: float  # of the server, in the window
    waited_ms: float
    heard: Heard
    resident_mb: float
    resident_mb_a_call: float | None

    @property
    def cpu_ms_a_call_second(self) -> float:
        return self.cpu_ms / self.window_s / self.calls


def show_cost(out: Console, rows: Sequence[Steady]) -> None:
    table = Table(title="The server's CPU and memory, on one core", title_justify="left", box=None)
    for name in ("protocol", "calls", "what they do"):
        table.add_column(name, no_wrap=True)
    for name in ("CPU ms a call-second", "core used", "waited for it", "RSS MB", "MB a call", "frames", "late"):
        table.add_column(name, justify="right")
    for row in rows:
        table.add_row(
            row.protocol,
            str(row.calls),
            row.talk,
            f"{row.cpu_ms_a_call_second:.2f}",
            f"{row.cpu_ms / row.window_s / 10:.0f} %",
            f"{row.waited_ms / row.window_s / 10:.1f} %",
            f"{row.resident_mb:.0f}",
            f"{row.resident_mb_a_call:.2f}" if row.resident_mb_a_call is not None else "",
            str(row.heard.frames),
            str(row.heard.late),
        )
    out.print(table)
    out.print()


def show_times(
    out: Console, title: str, unit: str, rows: Mapping[str, Sequence[float]], goals: Mapping[str, str]
) -> None:
    table = Table(title=title, title_justify="left", box=None)
    table.add_column(unit)
    for name in ("n", "p50", "p90", "p99", "max"):
        table.add_column(name, justify="right")
    table.add_column("promised")
    for name, times in rows.items():
        goal = goals.get(name, "")
        if times:
            p50, p90, p99 = np.percentile(times, (50, 90, 99))
            table.add_row(name, str(len(times)), *(f"{each:.1f}" for each in (p50, p90, p99, max(times))), goal)
        else:
            table.add_row(name, "0", "", "", "", "", goal)
    out.print(table)
    out.print()
