"""What simulated callers cost: CPU of the tester for each call-second, on one core, against the real server.

`python -m tests.bench.load_cost [--calls 100] [--hold 15] [--scenario talk] [--by plain twilio sip webrtc]`.
"""

import argparse
import asyncio
import gc
import os
import time
from collections.abc import Callable, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Any, Final

import uvloop

from app.load import figures, scenario
from app.load.calls import run_calls
from app.load.clock import Clock
from app.load.line import LineFactory
from app.load.lines import websocket_lines
from app.load.results import CallResult
from app.load.sip import Telephone, sip_lines
from app.load.sounds import Sounds
from app.load.steps import Scenario
from app.load.webrtc import Browser, webrtc_lines
from tests.bench import machine
from tests.bench.server import Server, running
from tests.bench.sip import free_port

CPU_GOALS_MS: Final = {"plain": 2.0, "twilio": 2.0, "sip": 2.0, "webrtc": 10.0}

Run = Callable[[Coroutine[Any, Any, Any]], Any]


def lines_by(name: str, server: Server, sip_port: int, codec: str) -> AbstractAsyncContextManager[LineFactory]:
    at = f"{server.host}:{server.port}"
    match name:
        case "sip":
            return sip_lines(f"sip:talk@{server.host}:{sip_port}", Telephone(codec=codec or "pcmu"))
        case "webrtc":
            return webrtc_lines(f"http://{at}", Browser(codec=codec or "opus"))
        case _:
            path = "/ws/audio" if name == "plain" else "/ws/twilio"
            return nullcontext(websocket_lines(f"ws://{at}{path}"))


async def cost(
    name: str,
    server: Server,
    opened: AbstractAsyncContextManager[LineFactory],
    played: Scenario,
    count: int,
    hold_s: float,
    ramp_per_s: float,
) -> None:
    clock = Clock()
    async with Sounds() as sounds, opened as lines:
        await sounds.kit(played, lines(0).codec)
        gc.collect()
        gc.freeze()
        served = machine.usage(server.pid)
        began_s, cpu_s = time.perf_counter(), time.process_time()
        results: list[CallResult] = await run_calls(
            lines, [played], count, ramp_per_s, hold_s, sounds=sounds, clock=clock
        )
        cpu_s, lasted_s = time.process_time() - cpu_s, time.perf_counter() - began_s
        served = machine.usage(server.pid) - served
    made = figures.summary(results)
    per_ms = cpu_s * 1000 / made.call_seconds
    print(
        f"{name}: {made.up} of {made.calls} calls up, {made.call_seconds:.0f} call-seconds in {lasted_s:.0f} s:"
        f" {per_ms:.2f} ms of CPU each (goal {CPU_GOALS_MS[name]:g}), {1000 / per_ms:.0f} calls on one core;"
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
    parser.add_argument("--ramp", type=float, default=40.0, help="calls a second")
    parser.add_argument("--by", nargs="+", choices=list(CPU_GOALS_MS), default=list(CPU_GOALS_MS))
    parser.add_argument("--codec", default="", help="of SIP and WebRTC")
    parser.add_argument("--asyncio", action="store_true", help="without uvloop")
    given = parser.parse_args()
    machine.take_turn()
    for line in machine.describe():
        print(line)
    machine.pin(os.getpid(), machine.LOAD_CORE)
    alone = machine.prefer(os.getpid())
    print(f"callers {'have' if alone else 'have no'} real-time priority")
    played = scenario.load(scenario.find(given.scenario))
    run: Run = asyncio.run if given.asyncio else uvloop.run
    by: Sequence[str] = given.by
    for name in by:
        port = free_port()
        limits = {
            "VOICEGATE_MAX_CALLS": str(given.calls + 10),
            "VOICEGATE_MAX_CALLS_PER_ADDRESS": str(given.calls + 10),
            "VOICEGATE_SIP_PORT": str(port),
        }
        with running(extra=limits) as server:
            opened = lines_by(name, server, port, given.codec)
            run(cost(name, server, opened, played, given.calls, given.hold, given.ramp))


if __name__ == "__main__":
    main()
