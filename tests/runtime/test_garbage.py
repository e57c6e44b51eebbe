"""When everything is looked at: in a quiet moment, or when it cannot be put off."""

import asyncio
import gc
import weakref

import pytest

from app.runtime import garbage
from app.runtime.garbage import MOST_CALLS, QUIET_CALLS, Sweeps, sweep


def test_while_calls_talk_it_is_put_off_but_not_for_ever() -> None:
    sweeps = Sweeps()
    assert [ended for ended in range(2 * MOST_CALLS + 1) if sweeps.due(ended, live=1)] == [MOST_CALLS, 2 * MOST_CALLS]


def test_in_a_quiet_moment_a_few_calls_are_worth_it() -> None:
    sweeps = Sweeps()
    assert not sweeps.due(QUIET_CALLS - 1, live=0)
    assert not sweeps.due(QUIET_CALLS, live=1)
    assert sweeps.due(QUIET_CALLS, live=0)
    assert not sweeps.due(QUIET_CALLS + 1, live=0)


class Knot:
    """Knows itself, as a leg and its connection know each other."""

    def __init__(self) -> None:
        self.self = self


async def test_what_ended_calls_leave_behind_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(garbage, "LOOK_S", 0.001)
    gc.disable()
    try:
        gone = asyncio.Event()
        knot = weakref.ref(Knot(), lambda _: gone.set())
        ended = 0
        async with asyncio.TaskGroup() as group:
            task = group.create_task(sweep(lambda: (ended, 0)))
            await asyncio.sleep(0.05)
            assert knot() is not None
            ended = QUIET_CALLS
            async with asyncio.timeout(10):
                await gone.wait()
            task.cancel()
    finally:
        gc.enable()
