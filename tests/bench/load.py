"""Many callers in this process, each with its own place in the 20 ms, on one absolute schedule."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from app.load.wire import open_wire
from media.audio import FRAME_MS
from tests.bench.caller import Caller, Clock, Heard
from tests.bench.dialect import Plain, Twilio
from tests.bench.server import Server
from tests.bench.voices import Voices

SLOT_S: Final = 0.001
SLOTS: Final = FRAME_MS  # of 1 ms
OWN_S: Final = 0.01  # a clock that is later than this spoils what is being measured

Spoken = type[Plain] | type[Twilio]


class Load:
    """Use `calls`."""

    def __init__(self) -> None:
        self.callers: list[Caller] = []
        self.heard = Heard()
        self.clock = Clock()
        self.late_slots = 0
        self._numbers = 0

    def fresh(self) -> Heard:
        """Measure anew from here; what a caller has begun counts where it ends."""
        self.heard = Heard(errors=self.heard.errors)
        for caller in self.callers:
            caller.heard = self.heard
        return self.heard

    def interrupt(self, yes: bool) -> None:
        for caller in self.callers:
            caller.interrupts = yes

    async def run(self) -> None:
        """The clock, until cancelled."""
        due_s = time.perf_counter()
        slot = 0
        while True:
            late_s = time.perf_counter() - due_s
            if late_s > OWN_S:
                self.clock.was_late(due_s, due_s + late_s)
                self.late_slots += 1
            for caller in self.callers[slot::SLOTS]:
                caller.frame()
            slot = (slot + 1) % SLOTS
            due_s += SLOT_S
            wait_s = due_s - time.perf_counter()
            if wait_s > 0:
                await asyncio.sleep(wait_s)
            else:
                await asyncio.sleep(0)

    async def dial(self, server: Server, spoken: Spoken, voices: Voices, count: int, *, interrupts: bool) -> None:
        made = None
        for number in range(count):
            dialect = spoken(voices, time.time_ns() % 10**12 * 1000 + number, made)
            made = dialect.made
            caller = Caller(dialect, voices, self.heard, self.clock, number, interrupts=interrupts)
            url = f"ws://{server.host}:{server.port}{dialect.path}"
            caller.wire = await open_wire(url, caller.receive, caller.closed, {})
            caller.hello()
            self.callers.append(caller)

    async def hang_up(self) -> None:
        for caller in self.callers:
            caller.wire.send(caller.dialect.goodbye())
        await asyncio.sleep(0.3)
        for caller in self.callers:
            await caller.wire.close()


@asynccontextmanager
async def calls(
    server: Server, spoken: Spoken, voices: Voices, count: int, *, interrupts: bool = False
) -> AsyncIterator[Load]:
    """`count` calls that run as long as this does."""
    load = Load()
    async with asyncio.TaskGroup() as group:
        clock = group.create_task(load.run())
        try:
            await load.dial(server, spoken, voices, count, interrupts=interrupts)
            yield load
            await load.hang_up()
        finally:
            clock.cancel()
