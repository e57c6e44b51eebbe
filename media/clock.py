"""One 20 ms clock for all of a process's media."""

import asyncio
from collections.abc import Callable
from typing import Protocol

from media.audio import FRAME_MS

MAX_BEHIND_MS = 5 * FRAME_MS
"""A clock further behind than this gives up the ticks it missed."""


class Tickable(Protocol):
    def tick(self, now_ms: int) -> None: ...


Failed = Callable[[Exception], None]


class Ticker:
    """Calls `tick` of everything added, on an absolute schedule. Its task runs `run` until it is cancelled.

    A tickable that raises is discarded and its exception is given to the handler that came with it.
    """

    def __init__(self, period_ms: int = FRAME_MS) -> None:
        self._period_ms = period_ms
        self._failed: dict[Tickable, Failed] = {}
        self._all: tuple[Tickable, ...] = ()  # renewed at every change, so that a tick may change it
        self.missed_ticks = 0

    def add(self, tickable: Tickable, failed: Failed) -> None:
        self._failed[tickable] = failed
        self._all = tuple(self._failed)

    def discard(self, tickable: Tickable) -> None:
        if self._failed.pop(tickable, None) is not None:
            self._all = tuple(self._failed)

    def tick(self, now_ms: int) -> None:
        for tickable in self._all:
            try:
                if tickable in self._failed:
                    tickable.tick(now_ms)
            except Exception as error:  # noqa: BLE001  # it ends its own call, and no other call's clock
                failed = self._failed[tickable]
                self.discard(tickable)
                failed(error)

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        due_ms = loop.time() * 1000
        while True:
            now_ms = loop.time() * 1000
            self.tick(int(now_ms))
            due_ms += self._period_ms
            behind_ms = loop.time() * 1000 - due_ms
            if behind_ms > MAX_BEHIND_MS:
                missed = int(behind_ms // self._period_ms)
                self.missed_ticks += missed
                due_ms += missed * self._period_ms
            await asyncio.sleep(max(0.0, due_ms / 1000 - loop.time()))
