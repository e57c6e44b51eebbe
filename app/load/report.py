"""The report of a run: one HTML page that needs nothing but the recordings beside it."""

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Final
from urllib.parse import quote

import numpy as np

from app.load import charts, figures
from app.load.charts import Format, Limit, Series
from app.load.figures import Change, Summary, condition
from app.load.limits import number
from app.load.page import page
from app.load.record import Capacity, Probe, Record, load_steps
from app.load.results import Measure, What
from app.load.tell import (
    LABELS,
    SERVER,
    SHARES,
    SURE_OF_P99,
    TOO_SLOW,
    capacity_words,
    server_values,
    slow_tester,
    tester,
    verdict,
)
from app.load.worst import reasons, worst

WORST: Final = 10
TIMES: Final = 60  # points over time, at most
MAX_STEPS: Final = 1000  # of the line of calls up
LOADS: Final = 12  # points against load
FEW: Final = 3  # measurements that make no point against load
CHARTED: Final = (What.response, What.barge_in, What.set_up, What.key_response, What.gap, What.hold)
CAPACITY: Final = ("barge_in_p50_ms", "barge_in_p99_ms", "response_p50_ms", "response_p99_ms", "late_share")


def html(record: Record, changes: Sequence[Change] = (), old: str = "") -> str:
    """`changes` are against the run of the file `old`."""
    made = figures.summary(record.calls)
    parts = [
        _head(record, made),
        _tiles(made, record),
        _judged(record),
        _capacity(record.capacity) if record.capacity is not None else "",
        _figures(made),
        _distributions(record),
        _over_time(record),
        _against_load(record),
        _scenarios(record),
        _comparison(changes, old),
        _worst(record),
        _about(record, made),
    ]
    return page(f"Load test of {record.address}", "".join(parts))


# What a person looks at first


def _head(record: Record, made: Summary) -> str:
    bad = [one for one in record.judged if one.broken]
    if record.troubles or not made.up:
        mark, words = "bad", "The run is not whole" if made.up else "No call was up"
    elif bad:
        mark, words = "bad", f"{len(bad)} of {len(record.judged)} limits broken"
    elif record.capacity is not None:
        mark, words = ("good" if record.capacity.most else "bad"), _sentence(capacity_words(record.capacity)[:-1])
    elif record.judged:
        mark, words = "good", "All limits held"
    else:
        mark, words = "none", "No limits were set"
    notes = [*record.troubles, *(["It was stopped before its time."] if record.stopped else [])]
    if warning := slow_tester(made):
        notes.append(_sentence(warning) + ".")
    began = record.began.replace("T", " ").replace("+00:00", " UTC")
    return (
        f"<header><h1>Load test of <span>{escape(record.address)}</span></h1>"
        f"<p>{escape(', '.join(record.scenarios))} · {escape(began)} · {record.seconds:,.0f} s</p>"
        f'<p class="verdict {mark}">{escape(words)}</p>'
        + "".join(f'<p class="note">{escape(note)}</p>' for note in notes)
        + "</header>"
    )


def _tiles(made: Summary, record: Record) -> str:
    tiles = [("calls at once", f"{record.peak_calls:,}", f"{made.up:,} of {made.calls:,} were up")]
    for what in (What.response, What.barge_in):
        if (one := made.figures.get(what)) is not None:
            few = "" if one.count >= SURE_OF_P99 else ", few"
            tiles.append((LABELS[what], f"{one.p50:,.0f} ms", f"p99 {one.p99:,.0f} ms (n {one.count:,}{few})"))
    if (late := made.shares.get("late")) is not None:
        tiles.append(("late frames", f"{late.value:.3%}", f"{late.part:,} of {late.of:,}"))
    wrong = made.refused + made.failed
    tiles.append(("errors", f"{wrong:,}", f"{made.refused:,} refused, {made.failed:,} failed"))
    return (
        '<section class="tiles" aria-label="Main figures">'
        + "".join(
            f"<div><h2>{escape(name)}</h2><p>{value}</p><small>{escape(more)}</small></div>"
            for name, value, more in tiles
        )
        + "</section>"
    )


def _judged(record: Record) -> str:
    rows = [
        [
            escape(one.condition),
            "not measured" if one.value is None else number(one.value, one.condition.partition(" ")[0]),
            '<span class="bad">broken</span>' if one.broken else '<span class="good">held</span>',
        ]
        for one in record.judged
    ]
    return _section("Limits", _table(["fails if", "found", ""], rows)) if rows else ""


def _capacity(capacity: Capacity) -> str:
    rows = [
        [
            f"{one.calls:,}",
            _held(one),
            escape("; ".join(one.broken)),
            *(number(one.found[name], name) if name in one.found else "-" for name in CAPACITY),
        ]
        for one in capacity.probes
    ]
    drawn = [
        _by_calls(capacity, "Response, ms", {"response_p50_ms": "p50", "response_p99_ms": "p99"}),
        _by_calls(capacity, "Barge-in, ms", {"barge_in_p50_ms": "p50", "barge_in_p99_ms": "p99"}),
        _by_calls(capacity, "Late frames", {"late_share": "late"}, charts.percent),
        _by_calls(capacity, "The server's CPU, ms per call-second", {"server_cpu_ms": "CPU"}),
    ]
    words = f"<p>{escape(_sentence(capacity_words(capacity)))} {escape(capacity.why)}.</p>"
    held = (
        f"<p>Limits: it breaks if {escape(', '.join(capacity.limits))}. Figures are those while all calls were up; of"
        " several runs with as many calls the lines go through the last.</p>"
    )
    heads = ["calls", "", "because", *(name.replace("_", " ") for name in CAPACITY)]
    return _section("Capacity", words + held + _grid(drawn) + _table(heads, rows, numbers=range(3, 3 + len(CAPACITY))))


def _held(probe: Probe) -> str:
    if probe.broken == [TOO_SLOW]:
        return "left out"
    return '<span class="good">held</span>' if probe.held else '<span class="bad">broke</span>'


def _by_calls(capacity: Capacity, words: str, names: Mapping[str, str], form: Format = charts.plain) -> str:
    """Empty where nothing of it was measured."""
    probes = {one.calls: one for one in capacity.probes if one.broken != [TOO_SLOW]}  # the last of each number
    series = []
    for at, (name, label) in enumerate(names.items()):
        points = sorted((float(calls), one.found[name]) for calls, one in probes.items() if name in one.found)
        series.append(Series(label, points, f"s{at + 1}", dots=True))
    if not any(one.points for one in series):
        return ""
    asked = [condition(text) for text in capacity.limits]
    bounds = [Limit(str(one), one.bound) for one in asked if one.name in names]
    return _figure(f"{words}, by calls", charts.lines(words, series, "calls", form=form, limits=bounds))


# Figures and their charts


def _figures(made: Summary) -> str:
    rows = []
    for what, one in made.figures.items():
        p99 = f"{one.p99:,.0f}" + ("" if one.count >= SURE_OF_P99 else '<abbr title="fewer than 100 values">*</abbr>')
        values = [f"{value:,.0f}" for value in (one.mean, one.p50, one.p90, one.p95)]
        rows.append(
            [LABELS[what], f"{one.count:,}", f"{one.own:,}" if one.own else "", *values, p99, f"{one.max:,.0f}"]
        )
    heads = ["ms", "n", "left out", "mean", "p50", "p90", "p95", "p99", "max"]
    body = _table(heads, rows, numbers=range(1, len(heads))) if rows else "<p>Nothing was measured.</p>"
    body += (
        "<p><small>Times at the caller's ear. “Left out” are measurements for which the tester itself was too slow."
        " * of fewer than 100 values, a p99 is hardly more than the largest.</small></p>"
    )
    shares = [
        [SHARES[name], f"{share.value:.2%}", f"{share.part:,}", f"{share.of:,}"] for name, share in made.shares.items()
    ]
    body += _table(["", "share", "count", "of"], shares, numbers=range(1, 4))
    errors = [[escape(kind), f"{count:,}"] for kind, count in made.errors.items()]
    if errors:
        body += "<h3>Errors by kind</h3>" + _table(["kind", "calls"], errors, numbers=(1,))
    return _section("Figures", body)


def _distributions(record: Record) -> str:
    drawn = []
    for what in CHARTED:
        if values := [one.ms for one in _measures(record, what)]:
            p50, p95, p99 = (float(each) for each in np.percentile(values, (50, 95, 99)))
            marks = [Limit("p50", p50), Limit("p95", p95), Limit("p99", p99)]
            name = f"{_sentence(LABELS[what])}, ms (n {len(values):,})"
            drawn.append(_figure(name, charts.histogram(LABELS[what], values, marks)))
    return _section("Distributions", _grid(drawn)) if drawn else ""


def _over_time(record: Record) -> str:
    width, right = _bin_s(record.seconds), record.seconds
    steps = _thinned(load_steps(record.calls))
    drawn = [_figure("Calls up", charts.lines("Calls up", [Series("calls", steps, steps=True)], "s", right=right))]
    for what in (What.response, What.barge_in):
        if found := _measures(record, what):
            bins = _bins(found, width)
            medians = [(at_s, float(np.median(values))) for at_s, values in bins]
            most = [(at_s, max(values)) for at_s, values in bins]
            series = [Series("median", medians, "s1", dots=True), Series("worst", most, "s2", dashed=True)]
            name = f"{_sentence(LABELS[what])}, ms, in each {width:g} s"
            drawn.append(_figure(name, charts.lines(LABELS[what], series, "s", right=right)))
    if gaps := _measures(record, What.gap):
        points = [(at_s, float(len(values))) for at_s, values in _bins(gaps, width)]
        drawn.append(
            _figure(
                f"Late frames in each {width:g} s",
                charts.bars("Late frames", points, width, "s", style="bad", right=right),
            )
        )
    for name, words, form in (
        ("cpu_share", "The server's CPU, of one core", charts.percent),
        ("memory_mb", "The server's memory, MB", charts.plain),
        ("lag_ms", "The server's event-loop lag, p99, ms", charts.plain),
    ):
        points = [(max(one.at_s, 0.0), one.values[name]) for one in record.server if name in one.values]
        if len(points) > 1:
            drawn.append(_figure(words, charts.lines(words, [Series(name, points)], "s", form=form, right=right)))
    slow = [(one.at_s, one.values.get("late_ms", 0.0)) for one in record.tester]
    if any(ms for _, ms in slow):
        words = "The tester's own clocks were late, ms in each second"
        drawn.append(_figure(words, charts.lines(words, [Series("late", slow, "s3")], "s", right=right)))
    return _section("Over time", _grid(drawn))


def _against_load(record: Record) -> str:
    steps = load_steps(record.calls)
    times = [at_s for at_s, _ in steps]
    most = max(up for _, up in steps)
    if most < 2:
        return ""
    size = max(1, -(-most // LOADS))
    drawn = []
    for what in (What.response, What.barge_in, What.set_up):
        found: dict[int, list[tuple[int, float]]] = {}
        for one in _measures(record, what):
            up = max(1, steps[max(0, bisect_right(times, one.at_s) - 1)][1])
            found.setdefault((up - 1) // size, []).append((up, one.ms))
        places = {
            float(np.mean([up for up, _ in some])): [ms for _, ms in some]
            for _, some in sorted(found.items())
            if len(some) >= FEW
        }
        if len(places) < 2:
            continue
        series = [
            Series(name, [(x, float(np.percentile(ms, share))) for x, ms in places.items()], style, dots=True)
            for name, share, style in (("p50", 50, "s1"), ("p95", 95, "s2"))
        ]
        name = f"{_sentence(LABELS[what])}, ms, by calls up"
        drawn.append(_figure(name, charts.lines(LABELS[what], series, "calls up")))
    return _section("Against load", _grid(drawn)) if drawn else ""


def _scenarios(record: Record) -> str:
    names = list(dict.fromkeys(call.scenario for call in record.calls))
    if len(names) < 2:
        return ""
    rows = []
    for name in names:
        made = figures.summary([call for call in record.calls if call.scenario == name])
        cells = []
        for what in (What.response, What.barge_in):
            one = made.figures.get(what)
            cells += [f"{one.p50:,.0f}", f"{one.p99:,.0f}", f"{one.count:,}"] if one is not None else ["-"] * 3
        wrong = made.refused + made.failed
        rows.append([escape(name), f"{made.calls:,}", f"{wrong:,}", f"{made.unexpected:,}", *cells])
    heads = ["", "calls", "errors", "unexpected", "response p50", "p99", "n", "barge-in p50", "p99", "n"]
    return _section("By scenario", _table(heads, rows, numbers=range(1, len(heads))))


def _comparison(changes: Sequence[Change], old: str) -> str:
    if not old:
        return ""
    rows = []
    for one in changes:
        words = verdict(one)
        mark = {"better": "good", "worse": "bad"}.get(words, "")
        ratio = f"{one.ratio:.2f}" if one.ratio is not None else "-"
        found = [number(value, one.name) for value in (one.before, one.after)]
        rows.append([one.name.replace("_", " "), *found, ratio, f'<span class="{mark}">{words}</span>'])
    body = _table(["", "before", "now", "ratio", ""], rows, numbers=(1, 2, 3)) if rows else "<p>Nothing in common.</p>"
    return _section(f"Against {old}", body + "<p><small>Better or worse: the 95 % intervals lie apart.</small></p>")


# Single calls


def _worst(record: Record) -> str:
    tapes = {tape.number: tape for tape in record.tapes}
    made = []
    for call in worst(record.calls, max(WORST, len(tapes))):
        tape = tapes.get(call.number)
        began_s = tape.began_s if tape is not None else call.began_s
        seconds = tape.seconds if tape is not None else call.talked_s
        drawn = charts.timeline(f"Call {call.number}", tape, call.measures, began_s, seconds)
        sound = ""
        if call.audio:
            link = escape("./" + quote(call.audio))  # beside this page, whatever its name
            sound = (
                f'<p><audio controls preload="none" src="{link}" aria-label="Recording of call {call.number}"></audio>'
            )
            sound += f'<br><a href="{link}">{escape(call.audio)}</a></p>'
        why = "; ".join(reasons(call)) or "nothing was wrong"
        about = f"{call.scenario}, {call.talked_s:,.0f} s, began at {call.began_s:,.1f} s"
        server = f", the server's {call.call}" if call.call else ""
        made.append(
            f"<article><h3>Call {call.number}: {escape(why)}</h3><p><small>{escape(about + server)}</small></p>"
            f'<div class="wide" tabindex="0" role="group" aria-label="Timeline of call {call.number}">{drawn}</div>'
            f"{sound}</article>"
        )
    if not made:
        return ""
    key = (
        '<ul class="legend"><li><i class="s1"></i>caller speaks</li>'
        '<li><i class="s2"></i>agent speaks; below, holds</li>'
        '<li><i class="s3"></i>barge-in: until it is silent</li><li><i class="s4"></i>response: until it speaks</li>'
        '<li><i class="bad"></i>gap</li></ul>'
    )
    missing = ""
    if record.recorded and record.recorded < sum(call.talked_s > 0 for call in record.calls):
        missing = f"<p><small>{record.recorded:,} of the calls were recorded; there is no sound of others.</small></p>"
    return _section("The worst calls", key + missing + "".join(made))


# What it was


def _about(record: Record, made: Summary) -> str:
    rows = [[escape(name), escape(value)] for name, value in record.options.items()]
    body = f"<p>{escape(_sentence(tester(record, made)))}.</p>"
    own = sum(one.own for one in made.figures.values())
    body += (
        f"<p>{own:,} measurements and {made.own - own:,} judgements were left out, since the tester's own clock was"
        " late while they were made: they are not the server's.</p>"
    )
    if whole := server_values(record):
        body += "<h3>The server, by its own account</h3>"
        body += _table(
            ["", ""], [[escape(SERVER[name]), f"{value:,.4g}"] for name, value in whole.items()], numbers=(1,)
        )
    body += "<h3>Options</h3>" + _table(["", ""], rows)
    body += (
        "<h3>The tester's machine</h3><ul>" + "".join(f"<li>{escape(line)}</li>" for line in record.machine) + "</ul>"
    )
    return _section("The test itself", body)


# Pieces


def _measures(record: Record, what: What) -> list[Measure]:
    return [one for call in record.calls for one in call.measures if one.what is what and not one.own]


def _bin_s(seconds: float) -> float:
    return next((nice for nice in (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800) if seconds / nice <= TIMES), 3600)


def _thinned(steps: Sequence[tuple[float, int]]) -> list[tuple[float, float]]:
    """Of very many, those at which a page still shows a difference: the highest of each short time."""
    size = -(-len(steps) // MAX_STEPS)
    parts = [steps[at : at + size] for at in range(0, len(steps), size)]
    return [(part[0][0], float(max(up for _, up in part))) for part in parts[:-1]] + [
        (at_s, up) for at_s, up in steps[-1:]
    ]


def _bins(measures: Iterable[Measure], width: float) -> list[tuple[float, list[float]]]:
    found: dict[int, list[float]] = {}
    for one in measures:
        found.setdefault(int(one.at_s // width), []).append(one.ms)
    return [(at * width, values) for at, values in sorted(found.items())]


def _section(title: str, body: str) -> str:
    return f"<section><h2>{escape(title)}</h2>{body}</section>"


def _grid(drawn: Sequence[str]) -> str:
    return f'<div class="charts">{"".join(drawn)}</div>'


def _figure(caption: str, drawn: str) -> str:
    return f"<figure><figcaption>{escape(caption)}</figcaption>{drawn}</figure>"


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]], *, numbers: Iterable[int] = ()) -> str:
    """Cells are HTML already; columns of numbers stand to the right."""
    right = set(numbers)

    def cell(tag: str, at: int, text: str) -> str:
        scope = ' scope="row"' if tag == "th" else ""
        return f"<{tag}{scope}{' class=n' if at in right else ''}>{text}</{tag}>"

    top = "".join(
        f'<th scope="col"{" class=n" if at in right else ""}>{escape(head)}</th>' if head else "<td></td>"
        for at, head in enumerate(heads)
    )
    body = "".join(
        "<tr>" + "".join(cell("th" if at == 0 else "td", at, text) for at, text in enumerate(row)) + "</tr>"
        for row in rows
    )
    head = f"<thead><tr>{top}</tr></thead>" if any(heads) else ""
    table = f"<table>{head}<tbody>{body}</tbody></table>"
    return f'<div class="wide" tabindex="0" role="group" aria-label="Table">{table}</div>'


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]
