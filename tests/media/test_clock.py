import asyncio

from media.clock import Ticker


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
