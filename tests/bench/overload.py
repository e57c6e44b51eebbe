"""Twice as many callers as the server bears: what those inside hear before any is refused, and while many are.

`python -m tests.bench.overload [--per-s 40] [--hold 20] [--seconds 60] [--max-load 0.85] [--processes 1]`. Callers are
processes of their own. Printed, never asserted.
"""

import argparse
import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import uvloop
from rich.console import Console
from rich.table import Table

from app.load import figures, scenario
from app.load.dial import Dial
from app.load.figures import Summary
from app.load.record import Record, load_steps
from app.load.results import CallResult, What
from app.load.run import Plan, Run
from tests.bench import machine
from tests.bench.server import Server, running

SCENARIO = "talk"
SHOWN = (What.set_up, What.response, What.barge_in, What.to_clear)
SETTLE_S = 2.0  # after the first calls, and before the last ones end

Within = Callable[[float], bool]


async def play(server: Server, path: str, given: argparse.Namespace) -> Record:
    url = f"{server.host}:{server.port}"
    plan = Plan(
        dial=Dial(f"ws://{url}{path}"),
        scenarios=(scenario.find(SCENARIO),),
        names=(SCENARIO,),
        calls=round(given.per_s * given.seconds),
        ramp_per_s=given.per_s,
        hold_s=given.hold,
        processes=given.processes,
        server=f"http://{url}",
        cache=Path(tempfile.gettempdir()) / "voicegate-bench-sounds",
    )
    return await Run(plan).run()


def part(calls: Sequence[CallResult], within: Within) -> Summary:
    """Of measurements made then, and of calls begun then."""
    return figures.summary(
        [
            msgspec.structs.replace(call, measures=[one for one in call.measures if within(one.at_s)])
            for call in calls
            if within(call.began_s) or any(within(one.at_s) for one in call.measures)
        ]
    )


def show(out: Console, record: Record, seconds: float) -> None:
    refused_s = [call.began_s for call in record.calls if call.refused]
    first_s = min(refused_s, default=seconds)
    steps = load_steps(record.calls)
    parts: dict[str, Within] = {
        f"before, until {first_s:.0f} s": lambda at_s: SETTLE_S <= at_s < first_s,
        f"while callers are refused, until {seconds:.0f} s": lambda at_s: first_s <= at_s < seconds,
    }
    table = Table("", "calls up", "begun", "refused", *(f"{what} p50 / p99 (n)" for what in SHOWN), "own")
    for name, within in parts.items():
        made = part(record.calls, within)
        up = [calls for at_s, calls in steps if within(at_s)]
        begun = [call for call in record.calls if within(call.began_s)]
        row = [name, f"{min(up, default=0)} to {max(up, default=0)}", str(len(begun))]
        row.append(str(sum(bool(call.refused) for call in begun)))
        for what in SHOWN:
            one = made.figures.get(what)
            row.append(f"{one.p50:.0f} / {one.p99:.0f} ({one.count})" if one else "")
        table.add_row(*row, str(made.own))
    out.print(table)
    errors = figures.summary(record.calls).errors
    out.print(f"late frames: {sum(call.late for call in record.calls)} of {sum(call.frames for call in record.calls)}")
    out.print(f"errors: {errors or 'none'}; the callers' own clock was late by {record.tester_late_ms:.0f} ms in all")
    values: dict[str, list[float]] = {}
    for sample in record.server:
        if first_s <= sample.at_s < seconds:
            for name, value in sample.values.items():
                values.setdefault(name, []).append(value)
    for name, found in values.items():
        out.print(f"  server, while refusing: {name}: mean {sum(found) / len(found):.2f}, most {max(found):.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.overload", description=__doc__)
    parser.add_argument("--per-s", type=float, default=40.0, help="callers who come in a second")
    parser.add_argument("--hold", type=float, default=20.0, help="seconds that each stays")
    parser.add_argument("--seconds", type=float, default=60.0, help="for which they come")
    parser.add_argument("--max-load", type=float, default=0.85, help="0: nobody is refused")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--path", default="/ws/twilio")
    given = parser.parse_args()
    out = Console(highlight=False, width=max(150, Console().width))
    os.chdir(Path(__file__).parents[2])
    machine.take_turn()
    machine.pin(os.getpid(), machine.LOAD_CORE)  # and so the callers
    alone = machine.prefer(os.getpid())
    for line in machine.describe():
        out.print(line)
    out.print(f"server and callers have {'real-time' if alone else 'no'} priority")
    limits = {"MAX_CALLS": 10_000, "MAX_CALLS_PER_ADDRESS": 10_000}
    limits |= {"MAX_LOAD": given.max_load, "MAX_LAG_MS": 10 if given.max_load else 0}
    with running(extra={f"VOICEGATE_{name}": str(value) for name, value in limits.items()}) as server:
        show(out, uvloop.run(play(server, given.path, given)), given.seconds)


if __name__ == "__main__":
    main()
