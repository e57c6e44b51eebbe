"""A table of times."""

from collections.abc import Mapping, Sequence

import numpy as np
from rich.console import Console
from rich.table import Table


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
