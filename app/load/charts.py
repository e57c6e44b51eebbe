"""Charts as SVG texts for one page: colours are the page's (`.s1` and so on), so that they follow its theme.

Each has a title and a description for those who hear it, and numbers behind its marks for those who point at them.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from html import escape
from typing import Final

import numpy as np
from msgspec import Struct

from app.load.record import Span, Tape
from app.load.results import Measure, What

WIDTH: Final = 560
HEIGHT: Final = 230
LEFT, RIGHT, TOP, BOTTOM = 58, 14, 10, 40
TICKS: Final = 5
BINS: Final = 36
TAIL: Final = 0.99  # of the values have bins of their own; the rest is in the last one

LANE_LEFT: Final = 70
LANE_WIDTH: Final = 1000
LANE_HEIGHT: Final = 22
LANES: Final = ("caller", "agent", "measured")
SHORT_LANE_S: Final = 5.0

Point = tuple[float, float]
Format = Callable[[float], str]


class Series(Struct, frozen=True):
    name: str
    points: list[Point]
    style: str = "s1"  # s1 ... s4, see the page's own styles
    dashed: bool = False
    dots: bool = False
    steps: bool = False  # holds its value until the next point


class Limit(Struct, frozen=True):
    name: str
    value: float


def plain(value: float) -> str:
    return f"{value:,.0f}" if value == round(value) or abs(value) >= 100 else f"{value:,.3g}"


def percent(value: float) -> str:
    return f"{value:.3g} %" if (value := value * 100) < 10 else f"{value:.0f} %"


def lines(
    title: str,
    series: Sequence[Series],
    across: str,
    *,
    form: Format = plain,
    limits: Sequence[Limit] = (),
    right: float = 0.0,
) -> str:
    """As `plot`, with what the lines are below it, in HTML."""
    return plot(title, series, across, form=form, limits=limits, right=right) + _legend(series)


def plot(
    title: str,
    series: Sequence[Series],
    across: str,
    *,
    form: Format = plain,
    limits: Sequence[Limit] = (),
    right: float = 0.0,
) -> str:
    """Several series over one axis, from 0 up, and as far to the right as there are points, or to `right`."""
    points = [point for one in series for point in one.points]
    top = max([y for _, y in points] + [limit.value for limit in limits], default=1.0) or 1.0
    axes = Axes(max([x for x, _ in points] + [right]) or 1.0, top, across, form)
    parts = [axes.drawn()]
    for limit in limits:
        y = axes.y(limit.value)
        beside = y - 4 if y > TOP + 14 else y + 14
        parts.append(f'<line class="limit" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text class="limit" x="{LEFT + 4}" y="{beside:.1f}">{escape(limit.name)}</text>')
    for one in series:
        parts.append(_path(one, axes))
        if one.dots:
            parts += [
                f'<circle class="{one.style}" cx="{axes.x(x):.1f}" cy="{axes.y(y):.1f}" r="3.5">'
                f"<title>{escape(one.name)}: {plain(x)}, {form(y)}</title></circle>"
                for x, y in one.points
            ]
    told = "; ".join(f"{one.name} {_range(one, form)}" for one in series if one.points)
    return _svg(title, told, parts)


def bars(
    title: str, points: Sequence[Point], width: float, across: str, *, style: str = "s1", right: float = 0.0
) -> str:
    """One bar for each (from, height)."""
    top = max((y for _, y in points), default=1.0) or 1.0
    axes = Axes(max([x + width for x, _ in points] + [right]) or 1.0, top, across, plain, whole=True)
    parts = [axes.drawn()]
    for x, y in points:
        if y:
            parts.append(_bar(axes, x, x + width, y, style, f"{plain(x)} to {plain(x + width)}: {plain(y)}"))
    return _svg(title, f"{len(points)} bars, {plain(sum(y for _, y in points))} in all", parts)


def histogram(title: str, values: Sequence[float], marks: Sequence[Limit], across: str = "ms") -> str:
    """How often values fell where, each hundredth and above in one last bar; marks stand at percentiles."""
    edges = _edges(values)
    inside = np.minimum(np.asarray(values), (edges[-2] + edges[-1]) / 2)
    counts, _ = np.histogram(inside, edges)
    beyond = sum(value > edges[-1] for value in values)
    axes = Axes(float(edges[-1]), float(counts.max()), across, plain, begin=float(edges[0]), whole=True)
    parts = [axes.drawn()]
    for at, count in enumerate(counts):
        if count:
            more = f" and more ({beyond} beyond)" if beyond and at == len(counts) - 1 else ""
            words = f"{plain(edges[at])} to {plain(edges[at + 1])}{more}: {count}"
            parts.append(_bar(axes, edges[at], edges[at + 1], float(count), "s1", words))
    for number, mark in enumerate(marks):
        x, y = axes.x(min(mark.value, float(edges[-1]))), TOP + 10 + 13 * number
        parts.append(f'<line class="mark" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>')
        anchor, shift = ("end", -4) if x > WIDTH * 0.7 else ("start", 4)
        words = f"{escape(mark.name)} {plain(mark.value)}"
        parts.append(f'<text class="mark" x="{x + shift:.1f}" y="{y}" text-anchor="{anchor}">{words}</text>')
    told = f"{len(values)} values; " + ", ".join(f"{mark.name} {plain(mark.value)} {across}" for mark in marks)
    return _svg(title, told, parts)


def timeline(title: str, tape: Tape | None, measures: Iterable[Measure], began_s: float, seconds: float) -> str:
    """Who was audible when in one call, and what was measured there. Times of measures are since the run began."""
    right = max(seconds, SHORT_LANE_S)
    lanes = LANES if tape is not None else LANES[-1:]
    height = len(lanes) * (LANE_HEIGHT + 3) + 25

    def x(at_s: float) -> float:
        return LANE_LEFT + min(max(at_s, 0.0), right) / right * (LANE_WIDTH - LANE_LEFT)

    def box(span: Span, lane: int, style: str, words: str) -> str:
        left, width = x(span[0]), max(x(span[1]) - x(span[0]), 1.0)
        return (
            f'<rect class="{style}" x="{left:.1f}" width="{width:.1f}" y="{lane * (LANE_HEIGHT + 3)}"'
            f' height="{LANE_HEIGHT}"><title>{escape(words)}</title></rect>'
        )

    parts = []
    for lane, name in enumerate(lanes):
        top = lane * (LANE_HEIGHT + 3)
        parts.append(f'<text x="{LANE_LEFT - 8}" y="{top + 15}" text-anchor="end">{name}</text>')
        parts.append(
            f'<rect class="lane" x="{LANE_LEFT}" width="{LANE_WIDTH - LANE_LEFT}" y="{top}" height="{LANE_HEIGHT}"/>'
        )
    if tape is not None:
        for lane, (who, spans) in enumerate((("caller", tape.caller), ("agent", tape.agent))):
            parts += [box(one, lane, f"s{lane + 1}", f"{who} {one[0]:.2f} to {one[1]:.2f} s") for one in spans]
    found: dict[What, int] = {}
    for one in measures:
        if one.what in DRAWN:
            style, words = DRAWN[one.what]
            from_s = one.at_s - began_s
            left_out = ", left out: the tester was late" if one.own else ""
            parts.append(
                box(
                    (from_s, from_s + one.ms / 1000),
                    len(lanes) - 1,
                    style,
                    f"{words} {one.ms:,.0f} ms at {from_s:.2f} s{left_out}",
                )
            )
            found[one.what] = found.get(one.what, 0) + 1
    step = _step(right, 10)
    for tick in np.arange(0, right + step / 100, step):
        anchor = "start" if tick == 0 else "end" if tick > right * 0.98 else "middle"
        parts.append(
            f'<text x="{x(float(tick)):.1f}" y="{height - 8}" text-anchor="{anchor}">{plain(float(tick))} s</text>'
        )
    told = ", ".join(f"{count} times {DRAWN[what][1]}" for what, count in found.items()) or "nothing was measured"
    return _svg(title, told, parts, LANE_WIDTH, height, "timeline")


DRAWN: Final = {
    What.barge_in: ("s3", "barge-in"),
    What.key_barge_in: ("s3", "barge-in by key"),
    What.response: ("s4", "response"),
    What.key_response: ("s4", "response to keys"),
    What.gap: ("bad", "gap"),
    What.hold: ("s2", "hold"),
}


class Axes:
    """From values to places, and the lines and numbers around them."""

    def __init__(
        self, right: float, top: float, across: str, form: Format, *, begin: float = 0.0, whole: bool = False
    ) -> None:
        """`whole`: no number on either side is broken."""
        self._whole = whole
        self._begin = begin
        self._right = right if right > begin else begin + 1
        self._step = max(_step(top, TICKS), 1.0) if whole else _step(top, TICKS)
        self._top = math.ceil(top / self._step - 1e-9) * self._step
        self._across = across
        self._form = form

    def x(self, value: float) -> float:
        return LEFT + (value - self._begin) / (self._right - self._begin) * (WIDTH - LEFT - RIGHT)

    def y(self, value: float) -> float:
        return HEIGHT - BOTTOM - value / self._top * (HEIGHT - TOP - BOTTOM)

    def drawn(self) -> str:
        parts = []
        for number in range(round(self._top / self._step) + 1):
            value = number * self._step
            y = self.y(value)
            parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
            parts.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{escape(self._form(value))}</text>')
        step = max(_step(self._right - self._begin, 7), 1.0 if self._whole else 0.0)
        value = math.ceil(self._begin / step - 1e-9) * step
        while value <= self._right * (1 + 1e-9):
            parts.append(
                f'<text x="{self.x(value):.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{plain(value)}</text>'
            )
            value += step
        middle = (LEFT + WIDTH - RIGHT) / 2
        parts.append(
            f'<text class="across" x="{middle}" y="{HEIGHT - 6}" text-anchor="middle">{escape(self._across)}</text>'
        )
        return "".join(parts)


def _path(series: Series, axes: Axes) -> str:
    if not series.points:
        return ""
    places: list[Point] = []
    for x, y in series.points:
        if series.steps and places:
            places.append((axes.x(x), places[-1][1]))
        places.append((axes.x(x), axes.y(y)))
    drawn = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    return f'<polyline class="line {series.style}{" dashed" if series.dashed else ""}" points="{drawn}"/>'


def _bar(axes: Axes, left: float, right: float, height: float, style: str, words: str) -> str:
    x, y = axes.x(left), axes.y(height)
    return (
        f'<rect class="{style}" x="{x:.1f}" width="{max(axes.x(right) - x - 1, 1):.1f}" y="{y:.1f}"'
        f' height="{axes.y(0) - y:.1f}"><title>{escape(words)}</title></rect>'
    )


def _svg(
    title: str, told: str, parts: Iterable[str], width: int = WIDTH, height: int = HEIGHT, kind: str = "chart"
) -> str:
    words = escape(f"{title}: {told}")
    return f'<svg class="{kind}" viewBox="0 0 {width} {height}" role="img" aria-label="{words}">{"".join(parts)}</svg>'


def _legend(series: Sequence[Series]) -> str:
    if len(series) < 2:
        return ""
    keys = "".join(
        f'<li><svg class="key" viewBox="0 0 26 8" aria-hidden="true">'
        f'<line class="line {one.style}{" dashed" if one.dashed else ""}" x1="0" x2="26" y1="4" y2="4"/></svg>'
        f"{escape(one.name)}</li>"
        for one in series
        if one.points
    )
    return f'<ul class="legend">{keys}</ul>'


def _range(series: Series, form: Format) -> str:
    ys = [y for _, y in series.points]
    return f"{form(min(ys))} to {form(max(ys))}"


def _step(length: float, parts: int) -> float:
    """1, 2 or 5 times a power of ten, so that about so many fit."""
    rough = max(length, 1e-9) / parts
    power = 10 ** math.floor(math.log10(rough))
    return float(power * next((nice for nice in (1, 2, 5) if rough <= nice * power * 1.0001), 10))


def _edges(values: Sequence[float]) -> list[float]:
    """Of bins of a round width, over all but the last hundredth."""
    low, high = min(values), float(np.quantile(values, TAIL))
    step = max(_step(high - low, BINS), 1.0)
    first = math.floor(low / step) * step
    count = max(2, math.floor((high - first) / step) + 1)
    return [round(first + step * number, 6) for number in range(count + 1)]
