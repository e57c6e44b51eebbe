"""How a call looks in a terminal."""

import re
from collections.abc import Iterable

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from app.core.timeline import Entry

STYLES = {
    "call": ("☎", "bold"),
    "caller": ("◂ caller", "bold cyan"),
    "agent": ("▸ agent", "bold green"),
    "floor": ("  floor", "yellow"),
    "step": ("  step", "bold magenta"),
    "slot": ("  slot", "blue"),
    "gate": ("  gate", "bright_white"),
    "tool": ("  tool", "bright_white"),
    "time": ("  time", "dim"),
    "trouble": ("! trouble", "bold red"),
}

DECISIONS = {"allowed": "green", "started": "green", "held": "yellow", "refused": "red", "withdrawn": "yellow"}


CONTROLS = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
"""What moves a terminal's cursor, changes its state or turns its lines around (Unicode TR 36, section 3)."""


class Screen(Console):
    """A console on which callers, models and tools cannot draw: of their text, control characters are replaced."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for text, style, control in super().render(renderable, options):
            yield Segment(text if control else CONTROLS.sub("\N{REPLACEMENT CHARACTER}", text), style, control)


def print_entry(console: Console, entry: Entry) -> None:
    label, style = STYLES[entry.kind]
    text = Text(entry.text, style="" if entry.kind in ("caller", "agent") else style.removeprefix("bold "))
    if entry.kind == "gate":
        for decision, colour in DECISIONS.items():
            text.highlight_words([f"{decision} ["], colour)
    row = Table.grid(padding=(0, 1))
    row.add_column(width=8, justify="right")
    row.add_column(width=9)
    row.add_column(overflow="fold")
    row.add_row(Text(f"{entry.ms / 1000:.2f}", style="dim"), Text(label, style=style), text)
    console.print(row)
