"""The callers' clock: everybody every 20 ms, spread over it, and it knows when it was late itself."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from app.load.clock import OWN_S, SLOTS, Clock

PATIENCE_S = 10


class Counter:
    def __init__(self) -> None:
        self.at_s: list[float] = []

    def frame(self, now_s: float) -> None:
        self.at_s.append(now_s)


@asynccontextmanager
async def ticking(clock: Clock) -> AsyncIterator[None]:
    async with asyncio.TaskGroup() as group:
        task = group.create_task(clock.run())
        try:
            yield
        finally:
            task.cancel()


async def frames(counter: Counter, count: int) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while len(counter.at_s) < count:  # noqa: ASYNC110  # a frame is no event
            await asyncio.sleep(0.005)


async def test_members_are_spread_over_the_slots_and_all_get_as_many_frames() -> None:
    clock, members = Clock(), [Counter() for _ in range(SLOTS * 2)]
    for member in members:
        clock.add(member)
    async with ticking(clock):
        await frames(members[0], 10)
    counts = {len(member.at_s) for member in members}
    assert max(counts) - min(counts) <= 1
    rounds = [[member.at_s[at] for member in members] for at in range(9)]
    assert max(max(one) - min(one) for one in rounds) > 0.01


async def test_its_pace_is_real_time_in_the_mean() -> None:
    clock, member = Clock(), Counter()
    clock.add(member)
    async with ticking(clock):
        began_s = time.perf_counter()
        await frames(member, 25)
        lasted_s = time.perf_counter() - began_s
    assert lasted_s >= 24 * 0.02 - 0.005, "never faster"


async def test_who_is_discarded_gets_no_more_even_in_the_middle_of_a_frame() -> None:
    clock, other = Clock(), Counter()

    class Leaving(Counter):
        def frame(self, now_s: float) -> None:
            super().frame(now_s)
            clock.discard(self)

    member = Leaving()
    clock.add(member)
    clock.add(other)
    async with ticking(clock):
        await frames(other, 5)
    assert len(member.at_s) == 1


async def test_it_knows_that_it_was_late_and_when() -> None:
    clock, member = Clock(), Counter()
    clock.add(member)
    async with ticking(clock):
        await frames(member, 3)
        before_s = time.perf_counter()
        time.sleep(0.05)  # noqa: ASYNC251  # the loop is held up on purpose
        assert clock.was_late(before_s, time.perf_counter()), "at once, before it had a chance to notice"
        await frames(member, 6)
        after_s = time.perf_counter()
    assert clock.was_late(before_s - 0.01, after_s)
    assert clock.late_ms >= 50 - 20 - OWN_S * 1000
    assert not clock.was_late(after_s - 60, after_s), "what took a minute bears it"
    assert not clock.was_late(0.0, before_s - 10)
    assert not clock.was_late(after_s + 10, after_s + 20)


async def test_a_clock_that_was_stopped_does_not_send_everything_at_once() -> None:
    clock, member = Clock(), Counter()
    clock.add(member)
    async with ticking(clock):
        await frames(member, 2)
        held = len(member.at_s)
        time.sleep(0.4)  # noqa: ASYNC251  # the loop is held up on purpose
        went_on_s = time.perf_counter()
        await asyncio.sleep(0.03)
        assert len(member.at_s) - held < (time.perf_counter() - went_on_s) / 0.02 + 8
    assert clock.missed_slots >= 300
