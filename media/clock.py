"""One 20 ms clock for all of a process's media."""

import asyncio
from collections.abc import Callable
from typing import Final, Protocol

from media.audio import FRAME_MS
from media.histogram import Histogram

MAX_BEHIND_MS = 5 * FRAME_MS
"""A clock further behind than this gives up the ticks it missed."""

LAG_BOUNDS_S: Final = (0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.04, 0.06, 0.1, 0.25, 0.5, 1.0)


class Tickable(Protocol):
    def tick(self, now_ms: int) -> None: ...


Step = Callable[[int], None]
Steps = tuple[tuple[Tickable, Step], ...]
Failed = Callable[[Exception], None]


class Ticker:
    """Calls `tick` of everything added, on an absolute schedule. Its task runs `run` until it is cancelled.

    Before that it calls the first steps of those that have one. So what they hear is decided before anything they say
    leaves; and the same code for all of them in a row takes a sixth less than all the code for one after the other.

    A tickable that raises is discarded and its exception is given to the handler that came with it.
    """

    def __init__(self, period_ms: int = FRAME_MS) -> None:
        self._period_ms = period_ms
        self._failed: dict[Tickable, Failed] = {}
        self._first: dict[Tickable, Step] = {}
        # Renewed at every change, so that a tick may change what is ticked.
        self._firsts: Steps = ()
        self._ticks: Steps = ()
        self.missed_ticks = 0
        self.lag_s = Histogram(LAG_BOUNDS_S)  # how late each tick began: how long others held the loop up
        self.busy_ms = 0.0  # spent in ticks so far
        self.began: Callable[[float, float], None] = lambda now_ms, lag_ms: None  # told of each tick that begins
        self.discarded: Callable[[Tickable], None] = lambda tickable: None  # told of each that goes

    @property
    def all(self) -> tuple[Tickable, ...]:
        """What is ticked now."""
        return tuple(self._failed)

    def add(self, tickable: Tickable, failed: Failed, first: Step | None = None) -> None:
        """`first` is what it does before anything ticks."""
        self._failed[tickable] = failed
        if first is not None:
            self._first[tickable] = first
        self._renew()

    def discard(self, tickable: Tickable) -> None:
        if self._failed.pop(tickable, None) is not None:
            self._first.pop(tickable, None)
            self._renew()
            self.discarded(tickable)

    def _renew(self) -> None:
        self._firsts = tuple(self._first.items())
        self._ticks = tuple((tickable, tickable.tick) for tickable in self._failed)

    def first(self, now_ms: int) -> None:
        self._run(self._firsts, now_ms)

    def tick(self, now_ms: int) -> None:
        self._run(self._ticks, now_ms)

    def _run(self, steps: Steps, now_ms: int) -> None:
        failed_of = self._failed
        for tickable, step in steps:
            try:
                if tickable in failed_of:
                    step(now_ms)
            except Exception as error:  # noqa: BLE001  # it ends its own call, and no other call's clock
                failed = failed_of[tickable]
                self.discard(tickable)
                failed(error)

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        due_ms = loop.time() * 1000
        while True:
            now_ms = loop.time() * 1000
            lag_ms = max(0.0, now_ms - due_ms)
            self.lag_s.observe(lag_ms / 1000)
            self.began(now_ms, lag_ms)
            began_ms = now_ms
            if self._firsts:
                self.first(int(now_ms))
                self.busy_ms += loop.time() * 1000 - now_ms
                await asyncio.sleep(0)  # whoever was told something acts on it
                began_ms = loop.time() * 1000
            self.tick(int(now_ms))
            due_ms += self._period_ms
            over_ms = loop.time() * 1000
            self.busy_ms += over_ms - began_ms
            behind_ms = over_ms - due_ms
            if behind_ms > MAX_BEHIND_MS:
                missed = int(behind_ms // self._period_ms)
                self.missed_ticks += missed
                due_ms += missed * self._period_ms
            await asyncio.sleep(max(0.0, due_ms / 1000 - loop.time()))
