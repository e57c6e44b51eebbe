"""What simulated callers cost: CPU of the tester for each call-second, on one core, against the real server.

`python -m tests.bench.load_cost [--calls 100] [--hold 15] [--scenario talk]`; both WebSocket protocols, printed.
"""

import argparse
import asyncio
import gc
import os
import time
from collections.abc import Callable, Coroutine
from typing import Any

import uvloop

from app.load import figures, scenario
from app.load.calls import run_calls
from app.load.clock import Clock
from app.load.lines import websocket_lines
from app.load.results import CallResult
from app.load.sounds import Sounds
from app.load.steps import Scenario
from tests.bench import machine
from tests.bench.server import Server, running

RAMP_PER_S = 40.0
CPU_GOAL_MS = 2.0

Run = Callable[[Coroutine[Any, Any, Any]], Any]


async def cost(server: Server, path: str, played: Scenario, count: int, hold_s: float) -> None:
    lines = websocket_lines(f"ws://{server.host}:{server.port}{path}")
    clock = Clock()
    async with Sounds() as sounds:
        await sounds.kit(played, lines(0).codec)
        gc.collect()
        gc.freeze()
        served = machine.usage(server.pid)
        began_s, cpu_s = time.perf_counter(), time.process_time()
        results: list[CallResult] = await run_calls(
            lines, [played], count, RAMP_PER_S, hold_s, sounds=sounds, clock=clock
        )
        cpu_s, lasted_s = time.process_time() - cpu_s, time.perf_counter() - began_s
        served = machine.usage(server.pid) - served
    made = figures.summary(results)
    per_ms = cpu_s * 1000 / made.call_seconds
    print(
        f"{path}: {made.up} of {made.calls} calls up, {made.call_seconds:.0f} call-seconds in {lasted_s:.0f} s:"
        f" {per_ms:.2f} ms of CPU each (goal {CPU_GOAL_MS:g}), {1000 / per_ms:.0f} calls on one core;"
        f" the server {served.cpu_ms / made.call_seconds:.2f} ms"
    )
    print(f"  the tester's clock was late by {clock.late_ms:.0f} ms in all, {clock.missed_slots} slots missed")
    for what, one in made.figures.items():
        print(f"  {what}: n {one.count}, own {one.own}, p50 {one.p50:.0f}, p99 {one.p99:.0f}, max {one.max:.0f} ms")
    for name, share in made.shares.items():
        print(f"  {name}: {share.part} of {share.of}")
    if made.errors:
        print(f"  errors: {made.errors}")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.load_cost", description=__doc__)
    parser.add_argument("--calls", type=int, default=100)
    parser.add_argument("--hold", type=float, default=15.0, help="seconds")
    parser.add_argument("--scenario", default="talk")
    parser.add_argument("--asyncio", action="store_true", help="without uvloop")
    given = parser.parse_args()
    for line in machine.describe():
        print(line)
    machine.pin(os.getpid(), machine.LOAD_CORE)
    alone = machine.prefer(os.getpid())
    print(f"callers {'have' if alone else 'have no'} real-time priority")
    played = scenario.load(scenario.find(given.scenario))
    run: Run = asyncio.run if given.asyncio else uvloop.run
    limits = {"VOICEGATE_MAX_CALLS": str(given.calls + 10), "VOICEGATE_MAX_CALLS_PER_ADDRESS": str(given.calls + 10)}
    for path in ("/ws/audio", "/ws/twilio"):
        with running(extra=limits) as server:
            run(cost(server, path, played, given.calls, given.hold))


if __name__ == "__main__":
    main()
