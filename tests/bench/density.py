"""How many calls one core bears, and what each costs: as many as the goals name, measured by the load tester.

`python -m tests.bench.density [--quick] [--only twilio sip webrtc] [--calls N] [--hold 20]
[--curve]`. A server of its own for each transport, on one core, its callers on another; they listen and interrupt.
Printed, never asserted.
"""

import argparse
import itertools
import json
import os
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import uvloop
from rich.console import Console
from rich.table import Table

from app.load import figures, limits, scenario
from app.load.capacity import FULL, at_full_load
from app.load.dial import Dial
from app.load.record import Record
from app.load.run import Moment, Plan, Run
from app.load.tell import slow_tester
from tests.bench import curve, machine, setup
from tests.bench.machine import Usage
from tests.bench.server import Server, running
from tests.bench.sip import free_port

SCENARIO: Final = "talk"
HOLD_S: Final = 20.0  # for which all calls are up
WARM_UP_S: Final = 1.0  # of a call before all others: what the first one loads is the process's, and no call's
QUICK_HOLD_S: Final = 4.0
QUICK_SHARE: Final = 0.25  # of the calls
SET_UP_CALLS: Final = 11  # one by one; the first three do not count
WAITED_PERCENT: Final = 5.0  # of the time, for the core: more is worth a note
FULL_PERCENT: Final = 93.0  # of the core in use
SPARE_CALLS: Final = 10  # that the server would take as well
LIMITS: Final = limits.conditions(limits.DEFAULT)
SPEECH: Final = {"LLM_TOKEN_MS": 10, "LLM_TOKENS": 39}  # as `--speech scripted` declares it by default


@dataclass(frozen=True, slots=True)
class Case:
    name: str
    address: str  # of the HTTP side's host and port, or of SIP's port
    calls: int  # the goal
    ramp_per_s: float
    step: int  # of the curve
    cpu_goal_ms: float | None = None


CASES: Final = {
    "twilio": Case("Twilio WebSocket", "ws://{at}/ws/twilio", 400, 40, 100, 2.2),
    "sip": Case("SIP G.711", "sip:talk@127.0.0.1:{sip_port}", 500, 25, 100),
    "webrtc": Case("WebRTC Opus", "http://{at}/webrtc", 100, 10, 25),
}


@dataclass(frozen=True, slots=True)
class Row:
    name: str
    figure: str  # as in `figures.metrics`, and those of `Window`
    digits: int
    goal: float | None = None


ROWS: Final = (
    Row("memory, MB a call", "server_memory_mb_per_call", 2, 0.25),
    Row("barge-in, onset to silence, p50 ms", "barge_in_p50_ms", 0, 120),
    Row("the same, p99 ms", "barge_in_p99_ms", 0, 200),
    Row("of so many barge-ins", "barge_in_count", 0),
    Row("barge-in, server's own part, p99 ms", "server_barge_in_p99_ms", 1, 60),
    Row("response, p50 ms", "response_p50_ms", 0),
    Row("the same, p99 ms", "response_p99_ms", 0, 1000),
    Row("of so many responses", "response_count", 0),
    Row("late frames, %", "late_percent", 3, 0.1),
    Row("event-loop lag, p99 ms", "server_loop_lag_p99_ms", 1, 15),
    Row("set-up, CPU of the event loop, ms", "set_up_cpu_ms", 1, 2),
    Row("set-up, at the caller, p50 ms", "set_up_p50_ms", 0),
    Row("the same, p99 ms", "set_up_p99_ms", 0),
    Row("the server's core, used %", "used_percent", 0),
    Row("others had it while its event loop waited, %", "waited_percent", 1),
    Row("the callers' core, used %", "callers_percent", 0),
    Row("left out: callers were late", "own", 0),
)


class Window:
    """What the server's process used while all calls were up."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._notes: list[tuple[Moment, Usage]] = []

    def note(self, moment: Moment) -> None:
        self._notes.append((moment, machine.usage(self._pid)))

    def found(self) -> dict[str, float]:
        """Nothing where the calls were not up for two seconds."""
        full = FULL * max((moment.up for moment, _ in self._notes), default=0)
        notes = [(moment, used) for moment, used in self._notes if full and moment.up >= full]
        if len(notes) < 3:
            return {}
        (first, before), (last, after) = notes[0], notes[-1]
        used, passed_s = after - before, last.at_s - first.at_s
        calls = sum(moment.up for moment, _ in notes) / len(notes)
        return {
            "cpu_ms": used.cpu_ms / passed_s / calls,
            "used_percent": used.cpu_ms / passed_s / 10,
            "waited_percent": used.taken_ms / passed_s / 10,
            "callers_percent": _callers_share([moment for moment, _ in notes]) * 100,
        }


def _callers_share(moments: Sequence[Moment]) -> float:
    """Of one core, each moment's by the time that it stands for."""
    spans = [(after.at_s - before.at_s, after.cpu_share) for before, after in itertools.pairwise(moments)]
    return sum(passed_s * share for passed_s, share in spans) / sum(passed_s for passed_s, _ in spans)


@dataclass(frozen=True, slots=True)
class Found:
    case: Case
    calls: int  # that were tried
    values: dict[str, float]
    broken: list[str]  # of the limits
    doubts: list[str]  # why the figures may not be the server's
    notes: list[str]  # what else there is to know


def measure(case: Case, calls: int, hold_s: float) -> Found:
    """With a server of its own. Raises `CannotRun` and `RuntimeError` where there is nothing to measure."""
    sip_port = free_port()
    extra = SPEECH | {"MAX_CALLS": calls + SPARE_CALLS, "MAX_CALLS_PER_ADDRESS": calls + SPARE_CALLS}
    extra |= {"SIP_PORT": sip_port}
    with running(extra={f"VOICEGATE_{name}": str(value) for name, value in extra.items()}) as server:
        uvloop.run(_play(case, server, sip_port, 1, WARM_UP_S, Window(server.pid)))
        window = Window(server.pid)
        record = uvloop.run(_play(case, server, sip_port, calls, hold_s, window))
    whole, full = figures.metrics(record), at_full_load(record)
    values = figures.metrics(full) | window.found()
    values |= {name: value for name, value in whole.items() if name.startswith("set_up")}  # before all are up
    if "late_share" in values:
        values["late_percent"] = values["late_share"] * 100
    broken = [f"{one.condition}: {_number(one.value)}" for one in limits.judge(values, LIMITS) if one.broken]
    doubts = [*record.troubles, slow_tester(figures.summary(full.calls)), _waited(values)]
    notes = [f"{count} calls: {kind}" for kind, count in figures.summary(record.calls).errors.items()]
    if values.get("used_percent", 0.0) >= FULL_PERCENT:
        notes.append(_full())
    return Found(case, calls, values, broken, [doubt for doubt in doubts if doubt], notes)


def _waited(values: Mapping[str, float]) -> str:
    if (waited := values.get("waited_percent", 0.0)) <= WAITED_PERCENT:
        return ""
    return f"the server's event loop waited for its core for {waited:.0f} % of the time: others had it"


def _full() -> str:
    throttled = machine.throttled_percent()
    still = f"; besides, the system stops real-time programs for {throttled:.0f} % of each second" if throttled else ""
    return f"the core is full{still}"


async def _play(case: Case, server: Server, sip_port: int, calls: int, hold_s: float, window: Window) -> Record:
    plan = Plan(
        dial=Dial(_address(case, server, sip_port)),
        scenarios=(scenario.find(SCENARIO),),
        names=(SCENARIO,),
        calls=calls,
        ramp_per_s=case.ramp_per_s,
        hold_s=hold_s + calls / case.ramp_per_s,
        cache=Path(tempfile.gettempdir()) / "voicegate-bench-sounds",
        server=f"http://{server.host}:{server.port}",
        server_named=True,
    )
    return await Run(plan, window.note).run()


def set_up_cpu_ms(case: Case) -> dict[str, float]:
    """Of the event loop's thread, the median of calls one after another; empty where none could be told apart."""
    with tempfile.TemporaryDirectory(prefix="voicegate-bench-") as folder:
        ticks = Path(folder) / "ticks.json"
        program = (sys.executable, "-m", setup.__name__)
        with running(program, {setup.TICKS: str(ticks), **setup.QUIET}) as server:
            address = _address(case, server, setup.SIP_PORT)
            uvloop.run(setup.play(server, address, SET_UP_CALLS, Path(folder)))
        found = setup.costs_ms(json.loads(ticks.read_text()))
    return {"set_up_cpu_ms": statistics.median(found)} if found else {}


def _address(case: Case, server: Server, sip_port: int) -> str:
    return case.address.format(at=f"{server.host}:{server.port}", sip_port=sip_port)


def _number(value: float | None) -> str:
    return "not measured" if value is None else f"{value:.4g}"


def show(out: Console, rows: Sequence[Found]) -> None:
    table = Table(title="Density: one core, scripted speech", title_justify="left", box=None)
    table.add_column("")
    table.add_column("goal", justify="right")
    for found in rows:
        table.add_column(found.case.name, justify="right")
    table.add_row("calls up at once", "", *(_calls(found) for found in rows))
    table.add_row("all limits held", "yes", *(_held(found) for found in rows))
    cpu = [_cell(found, Row("", "cpu_ms", 2, found.case.cpu_goal_ms)) for found in rows]
    table.add_row("CPU, ms a call-second", "2.2 (WebSocket)", *cpu)
    for row in ROWS:
        goal = f"{row.goal:g}" if row.goal is not None else ""
        table.add_row(row.name, goal, *(_cell(found, row) for found in rows))
    out.print(table)
    for found in rows:
        for words in (*found.broken, *found.doubts, *found.notes):
            out.print(f"{found.case.name}: {words}", markup=False, soft_wrap=True)
    out.print(
        "Goals are for the goal's load. Percentiles are of what was measured while all calls were up, CPU is of that"
        " time; lag, memory and late frames are of the whole run with its beginning and end. Memory is all that the"
        " server grew by since its first call was over, which loads what all have in common. What the callers' own"
        " clock was late for is left out."
        " What set-up costs the event loop is measured without other calls: the median.\n",
        style="dim",
    )


def _held(found: Found) -> str:
    return ("no" if found.broken else "yes") + (", see below" if found.doubts else "")


def _calls(found: Found) -> str:
    return f"{found.values.get('peak_calls', 0):.0f} of {found.calls}, goal {found.case.calls}"


def _cell(found: Found, row: Row) -> str:
    value = found.values.get(row.figure)
    if value is None:
        return "not measured"
    missed = row.goal is not None and value > row.goal
    return f"{'missed ' if missed else ''}{value:.{row.digits}f}"


def bench(out: Console, cases: Sequence[Case], *, quick: bool, calls: int = 0, hold_s: float = 0.0) -> None:
    """`calls` and `hold_s`: 0 for the goal's and the usual."""
    hold_s = hold_s or (QUICK_HOLD_S if quick else HOLD_S)
    rows = []
    for case in cases:
        found = measure(case, calls or round(case.calls * (QUICK_SHARE if quick else 1)), hold_s)
        if not quick:
            found.values.update(set_up_cpu_ms(case))
        rows.append(found)
    show(out, rows)


def climb(out: Console, cases: Sequence[Case], hold_s: float) -> None:
    """From one call to the breaking point."""
    for case in cases:

        def point(calls: int, case: Case = case) -> curve.Point:
            found = measure(case, calls, hold_s)
            values = {name: round(found.values[name], 4) for name in curve.COLUMNS if name in found.values}
            return curve.Point(calls, values, found.broken, found.doubts)

        points = curve.climb(out, point, case.step)
        curve.show(out, case.name, points)
        curve.keep(case.name, points)
    out.print(f"wrote {curve.PLOT} and {curve.POINTS.name}\n", style="dim", soft_wrap=True)


def begin(out: Console) -> None:
    """This process, and so its callers, on their core; tells what is measured and where."""
    os.chdir(Path(__file__).parents[2])
    machine.take_turn()
    machine.pin(os.getpid(), machine.LOAD_CORE)
    alone = machine.prefer(os.getpid())
    for line in machine.describe():
        out.print(line)
    priority = "have real-time priority: other programs hardly delay them" if alone else "have no priority"
    out.print(f"server and callers {priority}; speech services are scripted\n")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.density", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a quarter of the calls, for a shorter time: a minute")
    parser.add_argument("--only", nargs="+", choices=list(CASES), default=list(CASES))
    parser.add_argument("--calls", type=int, default=0, help="other than the goal's")
    parser.add_argument("--hold", type=float, default=0.0, help="seconds for which all are up")
    parser.add_argument("--curve", action="store_true", help="from one call to the breaking point, drawn into docs/")
    given = parser.parse_args()
    out = Console(highlight=False, width=max(120, Console().width))
    begin(out)
    if given.curve:
        climb(out, [CASES[name] for name in given.only], given.hold or HOLD_S)
        return
    bench(out, [CASES[name] for name in given.only], quick=given.quick, calls=given.calls, hold_s=given.hold)


if __name__ == "__main__":
    main()
