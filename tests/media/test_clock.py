import asyncio
import time
from bisect import bisect_left

from media.clock import LAG_BOUNDS_S, Ticker


class Counting:
    def __init__(self) -> None:
        self.at: list[int] = []

    def tick(self, now_ms: int) -> None:
        self.at.append(now_ms)


def ignore(error: Exception) -> None:
    raise AssertionError("nothing fails here") from error


class Broken(Counting):
    def tick(self, now_ms: int) -> None:
        super().tick(now_ms)
        raise AssertionError("torn")


def test_one_broken_tickable_ends_alone_and_its_error_is_handed_over() -> None:
    ticker = Ticker()
    before, broken, after = Counting(), Broken(), Counting()
    errors: list[Exception] = []
    for tickable in (before, broken, after):
        ticker.add(tickable, errors.append)
    ticker.tick(20)
    ticker.tick(40)
    assert before.at == after.at == [20, 40]
    assert broken.at == [20]
    assert [str(error) for error in errors] == ["torn"]


def test_a_tick_may_add_and_discard() -> None:
    ticker = Ticker()
    late, victim = Counting(), Counting()

    class Meddler(Counting):
        def tick(self, now_ms: int) -> None:
            super().tick(now_ms)
            ticker.discard(victim)
            ticker.discard(self)
            ticker.add(late, ignore)

    meddler = Meddler()
    ticker.add(meddler, ignore)
    ticker.add(victim, ignore)
    ticker.tick(20)
    ticker.tick(40)
    assert meddler.at == [20]
    assert victim.at == []
    assert late.at == [40]
    ticker.discard(victim)


async def test_the_schedule_does_not_drift_and_gives_up_what_it_missed() -> None:
    enough = asyncio.Event()

    class Until(Counting):
        def tick(self, now_ms: int) -> None:
            super().tick(now_ms)
            if len(self.at) == 20:
                enough.set()

    ticker = Ticker(period_ms=5)
    counting = Until()
    ticker.add(counting, ignore)
    loop = asyncio.get_running_loop()
    started_ms = loop.time() * 1000
    async with asyncio.TaskGroup() as group:
        task = group.create_task(ticker.run())
        await enough.wait()
        elapsed_ms = loop.time() * 1000 - started_ms
        task.cancel()
    assert counting.at == sorted(counting.at)
    assert (19 + ticker.missed_ticks) * 5 <= elapsed_ms + 5


async def test_how_late_ticks_begin_and_how_long_they_take() -> None:
    enough = asyncio.Event()

    class Slow(Counting):
        def tick(self, now_ms: int) -> None:
            super().tick(now_ms)
            time.sleep(0.002)
            if len(self.at) == 10:
                enough.set()

    ticker = Ticker(period_ms=5)
    ticker.add(Slow(), ignore)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(ticker.run())
        await asyncio.sleep(0)
        time.sleep(0.06)  # noqa: ASYNC251  # somebody holds the loop up
        await enough.wait()
        task.cancel()
    assert ticker.lag_s.count >= 10
    assert ticker.lag_s.sum > 0.05
    assert sum(ticker.lag_s.counts[bisect_left(LAG_BOUNDS_S, 0.04) :]) >= 1
    assert ticker.busy_ms >= 20


def test_whoever_goes_is_told_of_once() -> None:
    ticker = Ticker()
    gone: list[object] = []
    ticker.discarded = gone.append
    calm, broken = Counting(), Broken()
    ticker.add(calm, ignore)
    ticker.add(broken, lambda error: None)
    assert ticker.all == (calm, broken)
    ticker.tick(20)
    assert gone == [broken]
    ticker.discard(calm)
    ticker.discard(calm)
    assert gone == [broken, calm]
    assert not ticker.all


def test_first_steps_come_before_anything_ticks_and_a_broken_one_ends_alone() -> None:
    ticker = Ticker()
    order: list[str] = []
    errors: list[Exception] = []

    class Stepping:
        def __init__(self, name: str) -> None:
            self.name = name

        def first(self, now_ms: int) -> None:
            order.append(f"first {self.name}")
            if self.name == "broken":
                raise AssertionError("torn")

        def tick(self, now_ms: int) -> None:
            order.append(f"tick {self.name}")

    for name in ("one", "broken", "two"):
        stepping = Stepping(name)
        ticker.add(stepping, errors.append, stepping.first)
    ticker.first(20)
    ticker.tick(20)
    assert order == ["first one", "first broken", "first two", "tick one", "tick two"]
    assert [str(error) for error in errors] == ["torn"]
    order.clear()
    ticker.first(40)
    ticker.tick(40)
    assert order == ["first one", "first two", "tick one", "tick two"]


async def test_what_was_heard_in_first_steps_is_acted_on_before_the_ticks() -> None:
    ticker = Ticker(period_ms=5)
    order: list[str] = []
    mailbox: asyncio.Queue[str] = asyncio.Queue()
    over = asyncio.Event()

    class Hearing:
        def first(self, now_ms: int) -> None:
            order.append("heard")
            mailbox.put_nowait("onset")

        def tick(self, now_ms: int) -> None:
            order.append("said")
            over.set()

    async def decide() -> None:
        await mailbox.get()
        order.append("decided")

    hearing = Hearing()
    ticker.add(hearing, ignore, hearing.first)
    async with asyncio.TaskGroup() as group:
        group.create_task(decide())
        await asyncio.sleep(0)
        clock = group.create_task(ticker.run())
        await over.wait()
        clock.cancel()
    assert order[:3] == ["heard", "decided", "said"]
