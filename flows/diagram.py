"""A flow as a drawing: its steps with what they ask and what they admit, and its ways with their guards.

`svg` needs nothing else: no script, no font, no link. Pages colour it by `--flow-*` or by their own `--ink`,
`--surface`, `--accent` and so on; alone it follows the reader's light or dark. Each step is `g.step[data-step]`,
each way `g.edge[data-from][data-to]`; a page adds the class `current` to the step where a call is.
"""

import unicodedata
from collections.abc import Iterator
from html import escape
from math import ceil

from msgspec import Struct

from flows.check import STAY
from flows.layout import Line, Point, Size, layout
from flows.model import Flow, Slot, Step, Tool, ToolEffect, Transition

MAX_LABEL_CHARS = 24  # of one line of a guard
MAX_ROW_CHARS = 30
MAX_NAME_CHARS = 54  # the longest name, and what may stand behind it
MAX_LINES = 7  # of one guard; what is longer stands in the title
MARGIN = 16.0
BAND_X = 22.0  # between the boxes that any step may visit

NAME_PX, TEXT_PX, LABEL_PX = 13.0, 12.0, 11.0
MONO_EM = 0.62  # the widest of the usual fixed-width faces is 0.602
WIDE_EM = 1.4  # emoji and East Asian letters, from whatever face has them
OTHER_EM = 1.1
PAD_X, HEAD, LINE, FOOT = 12.0, 30.0, 17.0, 8.0
WORDS_X = 54.0  # the column of "asks", "tools" and so on
LABEL_LINE, LABEL_PAD_X, LABEL_PAD_Y = 14.0, 8.0, 5.0
RADIUS = 8.0
START = ""  # no step can have this name

_COLOURS = (  # name, a page's own, light, dark
    ("surface", "--surface", "#ffffff", "#161b22"),
    ("head", "--raised", "#eef1f4", "#1f262f"),
    ("ink", "--ink", "#161b22", "#e7ebf0"),
    ("quiet", "--quiet", "#57616e", "#9ba6b4"),
    ("rule", "--flow-border", "#8d99a6", "#8d99a6"),
    ("line", "--flow-edge", "#7b8794", "#7b8794"),
    ("accent", "--accent", "#2457d6", "#86adff"),
    ("accent-soft", "--busy-soft", "#e3ebfd", "#1d2c4d"),
    ("good", "--good", "#137a54", "#5fd0a0"),
    ("wait", "--wait", "#8a5a00", "#f0bb55"),
    ("bad", "--bad", "#b8282f", "#ff8a85"),
)


def _style() -> str:
    def tokens(which: int) -> str:
        return "".join(f"--d-{one[0]}:{one[which]};" for one in _COLOURS)

    def colour(name: str) -> str:
        page = next(one[1] for one in _COLOURS if one[0] == name)
        return f"var(--flow-{name},var({page},var(--d-{name})))"

    mono = "ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono','Liberation Mono',monospace"
    plain = "ui-sans-serif,system-ui,-apple-system,'Segoe UI',Roboto,'Helvetica Neue',Arial,sans-serif"
    rules = (
        f".vg-flow{{{tokens(2)}background:transparent}}",
        f"@media(prefers-color-scheme:dark){{.vg-flow{{{tokens(3)}}}}}",
        f".vg-flow:root{{background:{colour('surface')}}}",
        f".vg-flow text{{font-family:{mono};font-size:{TEXT_PX}px;fill:{colour('ink')};white-space:pre}}",
        f".vg-flow .word{{font-family:{plain};font-size:{LABEL_PX}px;fill:{colour('quiet')}}}",
        f".vg-flow .name{{font-size:{NAME_PX}px;font-weight:600}}",
        f".vg-flow .box{{fill:{colour('surface')}}}.vg-flow .frame{{stroke:{colour('rule')};stroke-opacity:.5}}",
        f".vg-flow .head{{fill:{colour('head')}}}",
        f".vg-flow .detail{{fill:{colour('quiet')};font-size:{LABEL_PX}px}}",
        f".vg-flow .edge .run{{stroke:{colour('line')};stroke-width:1.4}}",
        f".vg-flow .edge .tip,.vg-flow .dot{{fill:{colour('line')};}}",
        f".vg-flow .label rect{{fill:{colour('surface')};stroke:{colour('rule')};stroke-opacity:.5}}",
        f".vg-flow .label text{{font-size:{LABEL_PX}px}}",
        ".vg-flow .any .frame{stroke-dasharray:5 4}",
        f".vg-flow .end .frame{{stroke:{colour('ink')};stroke-width:1.8;stroke-opacity:1}}",
        f".vg-flow .read{{fill:{colour('good')}}}.vg-flow .write{{fill:{colour('wait')}}}",
        f".vg-flow .irreversible{{fill:{colour('bad')}}}",
        f".vg-flow .current .frame{{stroke:{colour('accent')};stroke-width:2.5;stroke-opacity:1}}",
        f".vg-flow .current .head{{fill:{colour('accent-soft')}}}",
        f".vg-flow .current .name{{fill:{colour('accent')}}}",
    )
    return "".join(rules)


STYLE = _style()
"""Constant: a page with a strict content policy can allow it by its digest."""


class _Row(Struct, frozen=True):
    word: str
    text: str
    effect: str = ""
    detail: bool = False


class _Box(Struct, frozen=True):
    step: Step
    rows: tuple[_Row, ...]
    size: Size


def svg(flow: Flow) -> str:
    """The whole drawing, equal for equal flows. Everything that the flow's author wrote is escaped."""
    boxes = {name: _box(flow, step) for name, step in flow.steps.items()}
    main = {name: box.size for name, box in boxes.items() if name not in flow.digressions}
    ways = [(step, at, way) for step in flow.steps.values() for at, way in enumerate(step.next)]
    ways = [(step, at, way) for step, at, way in ways if step.name in main and way.to in main]
    labels = [wrapped(label(step, way), MAX_LABEL_CHARS) for step, _, way in ways]
    start = [Line(START, flow.start)] if flow.start in main else []
    lines = [Line(s.name, w.to, _label_size(text)) for (s, _, w), text in zip(ways, labels, strict=True)]
    drawing = layout({START: Size(16, 16), **main}, [*start, *lines])

    width = max(drawing.width, max((boxes[name].size.width for name in flow.digressions if name in boxes), default=0))
    shift = MARGIN + (width - drawing.width) // 2
    parts: list[str] = []
    for line, route, at in zip([*start, *lines], drawing.routes, [None, *ways] if start else ways, strict=True):
        why = label(at[0], at[2]) if at else ""
        parts.append(_edge(line, [(x + shift, y + MARGIN) for x, y in route], why))
    shown = zip(ways, labels, drawing.labels[len(start) :], strict=True)
    parts += [
        _label(step, way, text, (place[0] + shift, place[1] + MARGIN)) for (step, _, way), text, place in shown if place
    ]
    x, y = drawing.boxes[START]
    parts.append(f'<circle class="dot" cx="{_n(x + 8 + shift)}" cy="{_n(y + 8 + MARGIN)}" r="7" fill="#7b8794"/>')
    for name in main:
        x, y = drawing.boxes[name]
        parts.append(_step(flow, boxes[name], x + shift, y + MARGIN))
    bottom = drawing.height + 2 * MARGIN
    band = [boxes[name] for name in flow.digressions if name in boxes]
    if band:
        parts.append(f'<text class="word" x="{_n(MARGIN)}" y="{_n(bottom + 12)}">From any step, and back</text>')
        bottom += 24
        bottom = _band(flow, band, width, bottom, parts) + MARGIN
    return _document(flow, width + 2 * MARGIN, bottom, parts)


def label(step: Step, way: Transition) -> str:
    """What stands at a way; empty where the step simply goes on."""
    if way.when:
        return " ".join(way.when.split())
    if len(step.next) > 1:
        return "else, when done"
    return f"done: {' '.join(step.done.split())}" if step.done else ""


def wrapped(text: str, chars: int) -> list[str]:
    """Lines of at most this many columns, broken between words where there are any."""
    lines: list[str] = []
    line = ""
    for word in clean(text).split():
        while word:
            room = chars - (_columns(line) + 1 if line else 0)
            if _columns(word) <= room:
                line = f"{line} {word}" if line else word
                word = ""
            elif line:
                lines.append(line)
                line = ""
            else:
                head = _head(word, chars)
                lines.append(head)
                word = word[len(head) :]
    lines += [line] if line else []
    return lines if len(lines) <= MAX_LINES else [*lines[: MAX_LINES - 1], _head(lines[MAX_LINES - 1], chars - 1) + "…"]


def clean(text: str) -> str:
    """Without what XML forbids, and without marks that would turn the direction of what follows."""
    return "".join("\ufffd" if _is_foul(char) else char for char in text)


def _is_foul(char: str) -> bool:
    if char in "\t\n\r":
        return False
    return unicodedata.category(char) in ("Cc", "Cs", "Cf", "Cn", "Co")


def _head(word: str, columns: float) -> str:
    head = word[:1]
    for char in word[1:]:
        if _columns(head + char) > columns:
            break
        head += char
    return head


def _columns(text: str) -> float:
    """How wide it is at most, in letters of a fixed-width face."""
    return sum(_em(char) for char in text) / MONO_EM


def _em(char: str) -> float:
    if char < "\u0250":
        return MONO_EM
    if unicodedata.combining(char):
        return 0
    return WIDE_EM if unicodedata.east_asian_width(char) in "WF" else OTHER_EM


# Boxes


def _box(flow: Flow, step: Step) -> _Box:
    rows = tuple(_rows(flow, step))
    texts = [PAD_X * 2 + _columns(step.name) * MONO_EM * NAME_PX]
    for row in rows:
        px = LABEL_PX if row.detail else TEXT_PX
        texts.append(PAD_X + WORDS_X + _columns(row.text) * MONO_EM * px + PAD_X + (12 if row.effect else 0))
    height = HEAD + (len(rows) * LINE + FOOT + 4 if rows else 0)
    return _Box(step, rows, Size(_even(max(96.0, *texts)), height))


def _rows(flow: Flow, step: Step) -> Iterator[_Row]:
    yield from _listed("needs", step.requires)
    yield from _listed("asks", [_slot(flow.slots.get(name), name) for name in step.collect])
    for at, name in enumerate(step.tools):
        tool = flow.tools.get(name)
        effect = tool.effect.value if tool else ""
        yield _Row("" if at else "tools" if len(step.tools) > 1 else "tool", name, effect)
        for one in _conditions(tool) if tool else ():
            for line, text in enumerate(wrapped(one, MAX_ROW_CHARS)):
                yield _Row("", ("  " if line else "") + text, detail=True)
    yield from _listed("grants", [step.grants] if step.grants else [])
    yield from _listed("forgets", step.forget)
    for way in step.next:
        if way.to == STAY:
            for line, text in enumerate(wrapped(label(step, way), MAX_ROW_CHARS)):
                yield _Row("" if line else "stays", text, detail=True)
    if step.name == flow.give_up:
        yield _Row("also", "when it gives up", detail=True)
    if step.end:
        yield from _listed("ends", [step.end])


def _listed(word: str, names: list[str] | tuple[str, ...]) -> Iterator[_Row]:
    for at, name in enumerate(names):
        lines = wrapped(name, MAX_NAME_CHARS)
        for line in lines:
            yield _Row(word if at == 0 and line is lines[0] else "", line)


def _slot(slot: Slot | None, name: str) -> str:
    return f"{name} (sealed)" if slot is not None and slot.sensitive else name


def _conditions(tool: Tool) -> Iterator[str]:
    if tool.effect is not ToolEffect.read:
        yield tool.effect.value
    if tool.when:
        yield f"when {tool.when}"
    if tool.level != "anonymous":
        yield f"level {tool.level}"
    if tool.confirm:
        yield "asks the caller first"
    if tool.once:
        yield f"once per {tool.once}"


def _band(flow: Flow, band: list[_Box], width: float, y: float, parts: list[str]) -> float:
    """Digressions in rows; where the last one ends."""
    x, tallest = MARGIN, 0.0
    for box in band:
        if x > MARGIN and x + box.size.width > MARGIN + width:
            x, y, tallest = MARGIN, y + tallest + 16, 0
        parts.append(_step(flow, box, x, y))
        x += box.size.width + BAND_X
        tallest = max(tallest, box.size.height)
    return y + tallest


def _step(flow: Flow, box: _Box, x: float, y: float) -> str:
    step, width, height = box.step, box.size.width, box.size.height
    kinds = [("start", step.name == flow.start), ("end", bool(step.end)), ("any", step.name in flow.digressions)]
    classes = " ".join(("step", *(kind for kind, holds in kinds if holds)))
    radius = 14 if step.end else RADIUS
    head = (
        f"M0 {_n(HEAD)}V{radius}a{radius} {radius} 0 0 1 {radius} -{radius}H{_n(width - radius)}"
        f"a{radius} {radius} 0 0 1 {radius} {radius}V{_n(HEAD)}z"
    )
    frame = f'width="{_n(width)}" height="{_n(height)}" rx="{radius}"'
    parts = [
        f'<g class="{classes}" data-step="{_e(step.name)}" transform="translate({_n(x)} {_n(y)})">',
        f"<title>{_e(_told(step))}</title>",
        f'<rect class="box" {frame} fill="#ffffff"/>',
        f'<path class="head" d="{head}" fill="#eef1f4"/>'
        if box.rows
        else f'<rect class="head" {frame} fill="#eef1f4"/>',
        f'<rect class="frame" {frame} fill="none" stroke="#c3cbd4"/>',
        _text("name", PAD_X, 20, step.name, NAME_PX, bold=True),
    ]
    y = HEAD + 17
    for row in box.rows:
        if row.word:
            parts.append(_text("word", PAD_X, y, row.word, LABEL_PX))
        across = PAD_X + WORDS_X
        if row.effect:
            parts.append(f'<circle class="{row.effect}" cx="{_n(across + 4)}" cy="{_n(y - 4)}" r="4" fill="#57616e"/>')
            across += 12
        parts.append(
            _text("detail" if row.detail else "value", across, y, row.text, LABEL_PX if row.detail else TEXT_PX)
        )
        y += LINE
    return "".join((*parts, "</g>"))


def _told(step: Step) -> str:
    """What a screen reader, or a resting pointer, tells of a step."""
    words = [f"Step {step.name}"]
    words += [f"says: {step.say}"] if step.say else []
    words += [f"prompt: {step.prompt}"] if step.prompt else []
    words += [f"asks {', '.join(step.collect)}"] if step.collect else []
    words += [f"tools {', '.join(step.tools)}"] if step.tools else []
    words += [f"ends the call: {step.end}"] if step.end else []
    return "; ".join(words)


# Lines


def _label_size(lines: list[str]) -> Size | None:
    if not lines:
        return None
    widest = max(_columns(line) for line in lines)
    return Size(_even(widest * MONO_EM * LABEL_PX + 2 * LABEL_PAD_X), len(lines) * LABEL_LINE + 2 * LABEL_PAD_Y)


def _edge(line: Line, route: list[Point], why: str) -> str:
    x, y = route[-1]
    title = f"From {line.source or 'the start'} to {line.target}" + (f" when {why}" if why else "")
    return (
        f'<g class="edge" data-from="{_e(line.source)}" data-to="{_e(line.target)}"><title>{_e(title)}</title>'
        f'<path class="run" d="{_rounded([*route[:-1], (x, y - 4)])}" fill="none" stroke="#7b8794"/>'
        f'<path class="tip" d="M{_n(x)} {_n(y)}l-4.5 -8.5h9z" fill="#7b8794"/></g>'
    )


def _rounded(points: list[Point]) -> str:
    path = [f"M{_n(points[0][0])} {_n(points[0][1])}"]
    for before, corner, after in zip(points, points[1:], points[2:], strict=False):
        radius = min(RADIUS, _far(before, corner) / 2, _far(corner, after) / 2)
        a, b = _towards(corner, before, radius), _towards(corner, after, radius)
        path.append(f"L{_n(a[0])} {_n(a[1])}Q{_n(corner[0])} {_n(corner[1])} {_n(b[0])} {_n(b[1])}")
    path.append(f"L{_n(points[-1][0])} {_n(points[-1][1])}")
    return "".join(path)


def _even(width: float) -> float:
    return 2.0 * ceil(width / 2)


def _far(a: Point, b: Point) -> float:
    return abs(a[0] - b[0]) + abs(a[1] - b[1])


def _towards(a: Point, b: Point, length: float) -> Point:
    far = _far(a, b) or 1.0
    return a[0] + (b[0] - a[0]) * length / far, a[1] + (b[1] - a[1]) * length / far


def _label(step: Step, way: Transition, lines: list[str], at: Point) -> str:
    size = _label_size(lines)
    assert size is not None
    x, y = at[0] - size.width / 2, at[1] - size.height / 2
    parts = [
        f'<g class="label" data-from="{_e(step.name)}" data-to="{_e(way.to)}"><title>{_e(label(step, way))}</title>',
        f'<rect x="{_n(x)}" y="{_n(y)}" width="{_n(size.width)}" height="{_n(size.height)}" rx="7" '
        'fill="#ffffff" stroke="#c3cbd4"/>',
    ]
    for count, line in enumerate(lines):
        parts.append(_text("guard", x + LABEL_PAD_X, y + LABEL_PAD_Y + 10.5 + count * LABEL_LINE, line, LABEL_PX))
    return "".join((*parts, "</g>"))


# XML


def _document(flow: Flow, width: float, height: float, parts: list[str]) -> str:
    about = " ".join((f"It begins in {flow.start}.", *(_led(step) for step in flow.steps.values())))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="vg-flow" role="img" width="{_n(width)}" '
        f'height="{_n(height)}" viewBox="0 0 {_n(width)} {_n(height)}" font-family="monospace" fill="#161b22">'
        f"<title>{_e(f'Flow {flow.name}, version {flow.version}')}</title><desc>{_e(about)}</desc>"
        f"<style>{STYLE}</style>{''.join(parts)}</svg>\n"
    )


def _led(step: Step) -> str:
    """Where a step leads, for those who hear the drawing."""
    if step.end:
        return f"{step.name} ends the call: {step.end}."
    ways = [f"to {way.to}" + (f" ({why})" if (why := label(step, way)) else "") for way in step.next]
    return f"{step.name} leads {', '.join(ways) if ways else 'back'}."


def _text(kind: str, x: float, y: float, text: str, px: float, *, bold: bool = False) -> str:
    weight = ' font-weight="600"' if bold else ""
    place = f'x="{_n(x)}" y="{_n(y)}" font-size="{_n(px)}"{weight}'
    return f'<text class="{kind}" {place} xml:space="preserve">{_e(text)}</text>'


def _e(text: str) -> str:
    return escape(clean(text))


def _n(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")
