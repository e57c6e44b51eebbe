"""Several charts in one SVG file that stands by itself, light and dark."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

from app.load.charts import HEIGHT, LEFT, WIDTH, Format, Limit, Series, plain, plot

COLUMNS: Final = 2
HEAD: Final = 34  # above each chart, for what it shows
LEGEND: Final = 40  # above all
GAP: Final = 12

STYLE: Final = """
svg { --bg: #fff; --ink: #1c2128; --soft: #59636e; --grid: #e6e9ed; --c1: #1f5fd0; --c2: #b3580a; --c3: #a1278f;
  --c4: #0a7d68; --bad: #b3261e; }
@media (prefers-color-scheme: dark) { svg { --bg: #14171b; --ink: #e7eaee; --soft: #a3adb8; --grid: #2a3038;
  --c1: #78a9ff; --c2: #f0a35a; --c3: #e58ad8; --c4: #4cc9b0; --bad: #ff8a80; } }
.bg { fill: var(--bg); } text { fill: var(--soft); font: 12px system-ui, sans-serif; }
text.head { fill: var(--ink); font-size: 15px; font-weight: 500; } text.name { fill: var(--ink); font-size: 14px; }
.grid { stroke: var(--grid); } line.limit { stroke: var(--bad); stroke-dasharray: 6 4; }
text.limit { fill: var(--bad); }
.s1 { fill: var(--c1); } .s2 { fill: var(--c2); } .s3 { fill: var(--c3); } .s4 { fill: var(--c4); }
.line { fill: none; stroke-width: 2; stroke-linejoin: round; } .dashed { stroke-dasharray: 5 4; }
.line.s1 { stroke: var(--c1); } .line.s2 { stroke: var(--c2); } .line.s3 { stroke: var(--c3); }
.line.s4 { stroke: var(--c4); }
"""


@dataclass(frozen=True, slots=True)
class Panel:
    title: str
    series: Sequence[Series]  # of the same names and styles in all of a sheet
    limits: Sequence[Limit] = ()
    form: Format = plain


def sheet(title: str, panels: Sequence[Panel], across: str) -> str:
    """With one legend over all panels."""
    rows = -(-len(panels) // COLUMNS)
    width, height = COLUMNS * WIDTH + GAP, LEGEND + rows * (HEAD + HEIGHT)
    right = max((x for panel in panels for one in panel.series for x, _ in one.points), default=0.0)
    parts = [f'<rect class="bg" width="{width}" height="{height}"/>', _legend(panels)]
    for at, panel in enumerate(panels):
        left, top = at % COLUMNS * (WIDTH + GAP), LEGEND + at // COLUMNS * (HEAD + HEIGHT)
        parts.append(f'<text class="head" x="{left + LEFT}" y="{top + 22}">{escape(panel.title)}</text>')
        drawn = plot(panel.title, panel.series, across, limits=panel.limits, form=panel.form, right=right)
        place = f'x="{left}" y="{top + HEAD}" width="{WIDTH}" height="{HEIGHT}"'
        parts.append(drawn.replace("<svg ", f"<svg {place} ", 1))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img"'
        f' aria-label="{escape(title)}"><style>{STYLE}</style>{"".join(parts)}</svg>\n'
    )


def _legend(panels: Sequence[Panel]) -> str:
    styles = {one.name: one.style for panel in panels for one in panel.series}
    parts, left = [], LEFT
    for name, style in styles.items():
        parts.append(f'<line class="line {style}" x1="{left}" x2="{left + 26}" y1="22" y2="22"/>')
        parts.append(f'<text class="name" x="{left + 34}" y="27">{escape(name)}</text>')
        left += 34 + 9 * len(name) + 24
    return "".join(parts)
