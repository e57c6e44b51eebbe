"""A run as it goes on, in a terminal: what is up, and the four main figures with a small history each."""

import math
from collections import deque
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Final, Protocol, Self

import numpy as np
from rich.console import Console, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from app.load.results import What
from app.load.run import Moment

HISTORY: Final = 40  # seconds, one sign each
NAME_WIDTH: Final = 11
NOW_WIDTH: Final = 44
WINDOW_S: Final = 10  # what a figure "now" is made of
LINE_S: Final = 5.0  # between plain lines
BARS: Final = "▁▂▃▄▅▆▇█"


class View(Protocol):
    """Shows what it is told, from when it is entered."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def moment(self, moment: Moment) -> None: ...

    def note(self, text: str) -> None:
        """Something that a person wants to know now."""
        ...


def sparkline(values: Sequence[float | None]) -> str:
    """A bar for each, from 0 to the largest; a space where there is none."""
    top = max((value for value in values if value is not None), default=0.0)
    return "".join(
        " " if value is None else BARS[min(int(value / top * len(BARS)), len(BARS) - 1)] if top else BARS[0]
        for value in values
    )


class Course:
    """The last seconds of a run."""

    def __init__(self) -> None:
        self.now: Moment | None = None
        self._recent: deque[Moment] = deque(maxlen=HISTORY)
        self._before: deque[tuple[int, int]] = deque(maxlen=HISTORY)  # frames and late frames until each

    def add(self, moment: Moment) -> None:
        self._before.append((self.now.frames, self.now.late) if self.now is not None else (0, 0))
        self.now = moment
        self._recent.append(moment)

    def measured(self, what: What) -> list[float]:
        """In the last seconds, without what the tester spoilt."""
        return [ms for moment in list(self._recent)[-WINDOW_S:] for ms in _of(moment, what)]

    def medians(self, what: What) -> list[float | None]:
        return [float(np.median(found)) if (found := _of(moment, what)) else None for moment in self._recent]

    def late(self) -> list[float | None]:
        """Share of each second's frames."""
        return [
            (moment.late - late) / (moment.frames - frames) if moment.frames > frames else None
            for moment, (frames, late) in zip(self._recent, self._before, strict=True)
        ]

    def errors(self) -> list[float | None]:
        totals = [float(sum(moment.errors.values())) for moment in self._recent]
        return [after - before for before, after in zip([0.0, *totals], totals, strict=False)] if totals else []

    def ups(self) -> list[float | None]:
        return [float(moment.up) for moment in self._recent]


def _of(moment: Moment, what: What) -> list[float]:
    return [one.ms for one in moment.measures if one.what is what and not one.own]


class Silent:
    """For who wants to hear of nothing but the end."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return

    def moment(self, moment: Moment) -> None:
        return

    def note(self, text: str) -> None:
        return


class Lines(Silent):
    """Plain lines, where nothing can be drawn over."""

    def __init__(self, out: Console, calls: int) -> None:
        self._out = out
        self._calls = calls
        self._course = Course()
        self._due_s = LINE_S
        self._over = False

    def moment(self, moment: Moment) -> None:
        self._course.add(moment)
        over = moment.over == moment.begun == self._calls
        if moment.at_s >= self._due_s or (over and not self._over):
            self._due_s = math.inf if over else moment.at_s + LINE_S - 0.5
            self._over = over
            self._out.print(self._line(moment), soft_wrap=True, markup=False)

    def note(self, text: str) -> None:
        self._out.print(text, soft_wrap=True, markup=False)

    def _line(self, moment: Moment) -> str:
        errors = sum(moment.errors.values())
        return (
            f"{moment.at_s:5.0f} s  {moment.up} up of {moment.begun} begun, {moment.over} over"
            f"  response {_two(self._course.measured(What.response))}"
            f"  barge-in {_two(self._course.measured(What.barge_in))}"
            f"  late {_percent(moment.late, moment.frames)}  errors {errors}"
        )


class Drawn(Silent):
    """A table that is drawn anew each second."""

    def __init__(self, out: Console, title: str, calls: int) -> None:
        self._title = title
        self._calls = calls
        self._out = out
        self._course = Course()
        self._notes: deque[str] = deque(maxlen=3)
        self._live = Live(console=out, auto_refresh=False, transient=True, get_renderable=self._table)

    def __enter__(self) -> Self:
        self._live.start(refresh=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def moment(self, moment: Moment) -> None:
        self._course.add(moment)
        self._live.refresh()

    def note(self, text: str) -> None:
        self._notes.append(text)
        self._live.refresh()

    def _table(self) -> RenderableType:
        table = Table(title=Text(self._title, style="bold"), title_justify="left", box=None, padding=(0, 2, 0, 0))
        table.add_column("", width=NAME_WIDTH)
        table.add_column("now", width=NOW_WIDTH)
        table.add_column("", no_wrap=True)
        bars = min(max(self._out.width - NAME_WIDTH - NOW_WIDTH - 6, 1), HISTORY)
        course, now = self._course, self._course.now
        if now is not None:
            errors = sum(now.errors.values())
            kinds = ", ".join(f"{kind} {count}" for kind, count in now.errors.items())
            rows: list[tuple[str, str, Callable[[], list[float | None]], str]] = [
                (
                    "calls up",
                    f"{now.up} of {self._calls}, {now.over} over, {now.per_s:.1f}/s begun",
                    course.ups,
                    "cyan",
                ),
                ("response", _two(course.measured(What.response)), lambda: course.medians(What.response), "green"),
                ("barge-in", _two(course.measured(What.barge_in)), lambda: course.medians(What.barge_in), "green"),
                (
                    "late frames",
                    f"{_percent(now.late, now.frames)} of {now.frames:,}",
                    course.late,
                    "red" if now.late else "",
                ),
                ("errors", f"{errors}  {kinds}", course.errors, "red" if errors else ""),
            ]
            for name, text, history, style in rows:
                table.add_row(Text(name, style="dim"), Text(text), Text(sparkline(history()[-bars:]), style=style))
            table.add_row(Text("tester", style="dim"), Text(_tester(now)), Text())
            if now.server:
                table.add_row(Text("server", style="dim"), Text(_server(now.server)), Text())
            table.caption = Text(f"{now.at_s:.0f} s; Ctrl-C ends the calls and tells what was measured", style="dim")
            table.caption_justify = "left"
        for note in self._notes:
            table.add_row(Text(), Text(note, style="yellow"), Text())
        return table


def _two(measured: Sequence[float]) -> str:
    if not measured:
        return "-"
    p50, p99 = np.percentile(measured, (50, 99))
    return f"p50 {p50:.0f} p99 {p99:.0f} ms (n {len(measured)})"


def _percent(part: int, of: int) -> str:
    return f"{part / of:.2%}" if of else "-"


def _tester(now: Moment) -> str:
    spoilt = f"; too slow for {now.own} judgements" if now.own else ""
    return f"{now.cpu_share:.0%} of a core{spoilt}"


def _server(values: dict[str, float]) -> str:
    told = {
        "calls": "{:.0f} calls",
        "cpu_share": "{:.0%} of a core",
        "memory_mb": "{:.0f} MB",
        "lag_ms": "{:.1f} ms loop lag",
        "refused": "{:.0f} refused",
    }
    return ", ".join(words.format(values[name]) for name, words in told.items() if name in values)
