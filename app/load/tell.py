"""How a run's results read in a terminal."""

from collections.abc import Mapping, Sequence
from typing import Final

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from app.load import figures
from app.load.figures import Change, Figure, Summary
from app.load.limits import number
from app.load.line import Trouble
from app.load.record import Capacity, Judged, Record
from app.load.results import What

TABLE_COLUMNS: Final = 60  # a narrower terminal gets lines, which it may wrap
SURE_OF_P99: Final = 100  # with fewer, a p99 is hardly more than the largest
OWN_SHARE: Final = 0.05  # of all measurements: the tester was too slow for the run
OWN_LEAST: Final = 10  # fewer say nothing

TOO_SLOW: Final = "the tester itself was too slow"
"""Instead of the limits that broke: such a run says nothing about the server."""

NO_FIGURES: Final = "no figures of the server"
"""Among a record's options: why."""

LABELS: Final = {
    What.set_up: "call set-up",
    What.response: "response",
    What.key_response: "response to keys",
    What.barge_in: "barge-in, to silence",
    What.to_clear: "barge-in, to clear",
    What.key_barge_in: "barge-in by key",
    What.hold: "hold, resumed",
    What.gap: "gap in speech",
    What.resume: "resumed call",
}
SHARES: Final = {
    "late": "late frames",
    "unyielded": "interruptions it talked over",
    "stopped_by_noise": "stopped by noise",
    "stopped_by_backchannel": "stopped by backchannel",
    "false_ends": "came in too early",
    "missed_ends": "did not answer",
    "lost_words": "words that it did not understand",
    "resumed": "dropped calls resumed",
    "refused": "calls refused",
    "failed": "calls failed",
    "unexpected": "calls ended otherwise than expected",
}
SERVER: Final = {
    "cpu_ms": "CPU, ms per call-second",
    "memory_mb_per_call": "memory, MB per call",
    "loop_lag_p99_ms": "event-loop lag p99, ms",
    "barge_in_p99_ms": "its own part of barge-in p99, ms",
    "late_share": "frames that left late, share",
    "refused": "calls refused",
}


HINTS: Final[Mapping[str, str]] = {
    Trouble.unreachable: "nobody listens there, or there is no such host",
    Trouble.tls: "its certificate is not believed: --ca FILE names who vouches for it",
    Trouble.timeout: "it did not answer in time: does it take calls of this kind at that address?",
    Trouble.protocol: "it does not keep to the protocol that --to asks for",
    Trouble.cut: "the connection ended without a goodbye: its log may say why",
    Trouble.flood: "it sent far more than anybody can hear",
    Trouble.silent: "no sound of the agent came, or no more",
    Trouble.tester: "a fault of the load tester itself: please report it",
    Trouble.unsupported: "the scenario asks for what calls of this kind cannot do",
    "refused 200": "a web server answered that takes no calls at this path",
    "refused 301": "it has moved: give the new address as --to",
    "refused 401": "it asks who is calling: --token, by SIP --user and LOAD_PASSWORD",
    "refused 403": "it does not let this caller in: --token, by SIP --user and LOAD_PASSWORD",
    "refused 404": "it takes no calls at this path, or has no such flow",
    "refused busy": "it has as many calls as it takes, or more than it bears; or its /health says why it takes none",
    "refused internal-error": "something is wrong with it: its /health and its log say what",
    "refused 503": "it has as many calls as it takes, or more than it bears; or its /health says why it takes none",
}
"""What a person may look at, by kind of error."""


def show(out: Console, record: Record) -> None:
    """All of it, in the order in which a person wants to know."""
    made = figures.summary(record.calls)
    for trouble in record.troubles:
        out.print(f"[bold red]not whole:[/] {escape(trouble)}", soft_wrap=True)
    out.print(
        f"[bold]{made.up} of {made.calls} calls were up[/], {record.peak_calls} at once, {made.call_seconds:,.0f}"
        f" call-seconds in {record.seconds:,.0f} s{'; stopped before its time' if record.stopped else ''}",
        soft_wrap=True,
    )
    _show_figures(out, made)
    for name, share in made.shares.items():
        if share.part or name == "late":
            out.print(f"  {SHARES[name]}: {share.value:.2%} ({share.part:,} of {share.of:,})", soft_wrap=True)
    for kind, count in made.errors.items():
        hint = f" [dim]({HINTS[kind]})[/]" if kind in HINTS else ""
        out.print(f"  [red]{escape(kind)}[/]: {count}{hint}", soft_wrap=True)
    if whole := server_values(record):
        out.print(
            "server: " + ", ".join(f"{SERVER[name]} {value:.3g}" for name, value in whole.items()), soft_wrap=True
        )
    if why := record.options.get(NO_FIGURES):
        out.print(f"[yellow]{NO_FIGURES}: {escape(why)}[/]", soft_wrap=True)
    out.print(tester(record, made), soft_wrap=True)
    if warning := slow_tester(made):
        out.print(f"[yellow]{warning}[/]", soft_wrap=True)
    if record.capacity is not None:
        show_capacity(out, record.capacity)
    show_judged(out, record.judged)


def server_values(record: Record) -> dict[str, float]:
    """Of the whole run, where the server is ours."""
    last = record.server[-1].values if record.server else {}
    return {name: last[name] for name in SERVER if name in last} if "cpu_ms" in last or "late_share" in last else {}


def tester(record: Record, made: Summary) -> str:
    each = f", {record.tester_cpu_ms / made.call_seconds:.2f} ms per call-second" if made.call_seconds else ""
    processes = f"{record.tester_processes} processes" if record.tester_processes > 1 else "one process"
    return (
        f"tester: {record.tester_cpu_ms / 1000:,.1f} s of CPU in {processes}{each};"
        f" its clocks were late by {record.tester_late_ms:,.0f} ms in all"
    )


def too_slow(made: Summary) -> bool:
    """The tester itself, for so many calls."""
    measured = sum(one.count for one in made.figures.values()) + made.own
    return made.own > max(OWN_LEAST, OWN_SHARE * measured)


def slow_tester(made: Summary) -> str:
    """Why the figures of the run say little; empty where they are sound."""
    if not too_slow(made):
        return ""
    return (
        f"the tester itself was too slow for {made.own:,} measurements, which were left out:"
        " give it more processes, a core of its own, or fewer calls"
    )


def _show_figures(out: Console, made: Summary) -> None:
    if not made.figures:
        return
    if out.width < TABLE_COLUMNS:
        for what, one in made.figures.items():
            told = f"p50 {one.p50:,.0f}, p90 {one.p90:,.0f}, p95 {one.p95:,.0f}, p99 {one.p99:,.0f}, max {one.max:,.0f}"
            out.print(f"{LABELS[what]}: {told} ms, n {counted(one)}", soft_wrap=True)
        return
    table = Table("ms", "n", "p50", "p90", "p95", "p99", "max", box=None, header_style="dim", padding=(0, 2, 0, 0))
    for column in table.columns[1:]:
        column.justify = "right"
    for what, one in made.figures.items():
        values = (one.p50, one.p90, one.p95, one.p99, one.max)
        table.add_row(LABELS[what], counted(one), *(f"{value:,.0f}" for value in values))
    out.print(table)


def counted(one: Figure) -> str:
    return f"{one.count:,} (+{one.own:,} own)" if one.own else f"{one.count:,}"


def show_judged(out: Console, judged: Sequence[Judged]) -> None:
    for one in judged:
        name, _, bound = one.condition.partition(" ")
        found = "was not measured" if one.value is None else number(one.value, name)
        mark = "[bold red]broken[/]" if one.broken else "[green]held[/]  "
        out.print(f"{mark} {name}: {found} (fails if {bound})", soft_wrap=True)


def show_capacity(out: Console, capacity: Capacity) -> None:
    out.print(f"[bold]{capacity_words(capacity)}[/] {escape(capacity.why)}", soft_wrap=True)


def capacity_words(capacity: Capacity) -> str:
    if not capacity.most:
        return "no number of calls held the limits:"
    more = "at least " if capacity.bound else ""
    return f"{more}{capacity.most} calls held all limits:"


def show_comparison(out: Console, changes: Sequence[Change], name: str) -> None:
    if not changes:
        out.print(f"nothing that {escape(name)} measured, too", soft_wrap=True)
        return
    table = Table(
        f"against {escape(name)}", "before", "now", "ratio", "", box=None, header_style="dim", padding=(0, 2, 0, 0)
    )
    for column in table.columns[1:4]:
        column.justify = "right"
    for one in changes:
        ratio = f"{one.ratio:.2f}" if one.ratio is not None else "-"
        row = (one.name, number(one.before, one.name), number(one.after, one.name), ratio, verdict(one))
        if out.width < TABLE_COLUMNS:
            out.print("{}: {}, now {}, ratio {}, {}".format(*row), soft_wrap=True)
        else:
            table.add_row(*row)
    if table.rows:
        out.print(table)


def verdict(change: Change) -> str:
    """All compared figures are better when they are less, but one."""
    if not change.sure:
        return "within chance"
    less = change.after < change.before
    return "better" if less != (change.name == "resumed_share") else "worse"
