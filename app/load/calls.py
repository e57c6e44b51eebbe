"""Calls begun one after another and held, in this process: what runs and workers are built of."""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence

from app.load.caller import Caller, Given
from app.load.clock import Clock
from app.load.line import LineFactory, Trouble
from app.load.results import CallResult
from app.load.sounds import Kit, Sounds
from app.load.steps import Scenario

log = logging.getLogger("voicegate.load")

Begun = Callable[[Caller], None]
"""Told of each caller as it dials; it may be looked at from then on."""


async def run_calls(
    lines: LineFactory,
    scenarios: Sequence[Scenario],
    count: int,
    ramp_per_s: float,
    hold_s: float,
    *,
    sounds: Sounds | None = None,
    first: int = 0,
    step: int = 1,
    origin_s: float | None = None,
    seed: int = 0,
    keep: bool = False,
    clock: Clock | None = None,
    begun: Begun | None = None,
) -> list[CallResult]:
    """`count` calls, `ramp_per_s` of them dialled in a second; returns when the last is over.

    Call n plays scenario n modulo their number. Of several workers, each takes the numbers from `first` on by `step`,
    and `origin_s` (a `perf_counter` time, the same for all) is when the run began. Cancelling hangs up all calls.
    `sounds` is the caller's to open and close. Raises `SoundError` and `ProviderError` before the first call.
    """
    clock = clock or Clock()
    results: list[CallResult] = []
    kits = await _kits(lines, scenarios, sounds)
    origin_s = time.perf_counter() if origin_s is None else origin_s
    givens = [
        Given(scenario, kit, clock, origin_s, hold_s, seed, keep) for scenario, kit in zip(scenarios, kits, strict=True)
    ]

    async def call(number: int) -> None:
        caller = Caller(number, lines(number), givens[number % len(givens)])
        if begun is not None:
            begun(caller)
        try:
            await caller.run()
        except Exception:  # ours, and it ends this call only
            log.exception("a simulated call")
            caller.result.error = Trouble.tester
        results.append(caller.result)

    async with asyncio.TaskGroup() as ticking:
        clock_task = ticking.create_task(clock.run())
        try:
            async with asyncio.TaskGroup() as group:
                for number in range(first, first + count * step, step):
                    due_s = origin_s + number / ramp_per_s
                    await asyncio.sleep(max(0.0, due_s - time.perf_counter()))
                    group.create_task(call(number), name=f"caller {number}")
        finally:
            clock_task.cancel()
    return sorted(results, key=lambda result: result.number)


async def _kits(lines: LineFactory, scenarios: Sequence[Scenario], sounds: Sounds | None) -> list[Kit]:
    if sounds is None:
        async with Sounds() as own:
            return await _kits(lines, scenarios, own)
    return [await sounds.kit(scenario, lines(0).codec) for scenario in scenarios]
