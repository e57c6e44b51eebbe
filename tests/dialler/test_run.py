"""Lists dialled against the real file: to the end, stopped, taken away, killed."""

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
from asyncio import Event
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest

from app.dialler.hours import read_hours
from app.dialler.outcome import Outcome, Placed, Progress
from app.dialler.plan import Dial, Options
from app.dialler.rows import Row, read_rows
from app.dialler.run import ListRun, ListTaken, Place
from app.ports import StoreError
from app.store.dials import FILE_NAME, DialStore
from tests.support import virtual

ALWAYS = read_hours("00:00-24:00")
START_S = 1_900_000_000.0
OPTIONS = Options("clinic", concurrency=2, hours=ALWAYS)

T = TypeVar("T")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[DialStore]:
    with DialStore(tmp_path / FILE_NAME) as store:
        yield store


def rows(count: int) -> list[Row]:
    return list(read_rows("\n".join(["to", *(f"+49301{n:05}" for n in range(count))]).encode()).rows)


def wall_s() -> float:
    return START_S + asyncio.get_running_loop().time() - virtual.START_S


async def inline(work: Callable[[], T], /) -> T:
    return work()


def list_run(store: DialStore, place: Place, count: int, *, stop: Event | None = None) -> ListRun:
    return ListRun("spring", rows(count), OPTIONS, store, place, stop=stop, wall_s=wall_s, offload=inline)


class Line:
    """Places calls: each rings and talks for `takes_s` and ends as the script of its number says."""

    def __init__(self, outcomes: dict[str, list[Outcome]] | None = None, takes_s: float = 5.0) -> None:
        self.dialled: list[tuple[float, str]] = []
        self.live = 0
        self.most_live = 0
        self.cancelled = 0
        self._outcomes = outcomes or {}
        self._takes_s = takes_s

    async def place(self, dial: Dial) -> Placed:
        self.dialled.append((wall_s() - START_S, dial.row.to))
        self.live += 1
        self.most_live = max(self.most_live, self.live)
        try:
            await asyncio.sleep(self._takes_s)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.live -= 1
        outcomes = self._outcomes.get(dial.row.to, [Outcome.answered])
        return Placed(outcomes[min(dial.attempt, len(outcomes)) - 1])


def test_a_list_to_its_end(store: DialStore) -> None:
    line = Line({"+4930100001": [Outcome.busy, Outcome.answered], "+4930100002": [Outcome.invalid]})
    summary = virtual.run(list_run(store, line.place, 6).go())
    assert summary.finished
    assert summary.left == 0
    assert summary.outcomes == {Outcome.answered: 5, Outcome.invalid: 1}
    assert line.most_live == 2
    at_s = [at_s for at_s, to in line.dialled if to == "+4930100001"]
    assert at_s[1] - at_s[0] == pytest.approx(605.0)
    assert Counter(to for _, to in line.dialled)["+4930100001"] == 2
    assert len(line.dialled) == 7
    assert all(known.done for known in store.progress("spring").values())
    again = Line()
    assert virtual.run(list_run(store, again.place, 6).go()).finished
    assert again.dialled == []


def test_stop_waits_for_the_calls_under_way(store: DialStore) -> None:
    line = Line(takes_s=50.0)

    async def job() -> None:
        stop = Event()
        asyncio.get_running_loop().call_later(60.0, stop.set)
        summary = await list_run(store, line.place, 10, stop=stop).go()
        assert not summary.finished
        assert summary.outcomes == {Outcome.answered: 4}
        assert summary.left == 6

    virtual.run(job())
    assert line.cancelled == 0
    assert virtual.run(list_run(store, line.place, 10).go()).finished
    assert set(Counter(to for _, to in line.dialled).values()) == {1}


def test_cancelling_ends_the_calls_and_nobody_is_called_again_at_once(store: DialStore) -> None:
    line = Line(takes_s=50.0)

    async def job() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(20.0):
                await list_run(store, line.place, 3).go()

    virtual.run(job())
    assert line.cancelled == 2
    assert line.live == 0
    after = Line()
    virtual.run(list_run(store, after.place, 3).go())
    assert [to for _, to in after.dialled] == ["+4930100002", "+4930100000", "+4930100001"]
    assert after.dialled[1][0] >= 3600.0
    assert store.progress("spring")["to +4930100000"].outcomes == (Outcome.unknown, Outcome.answered)


def test_a_list_that_is_taken_places_no_more_calls(store: DialStore) -> None:
    line = Line(takes_s=50.0)

    async def job() -> None:
        asyncio.get_running_loop().call_later(20.0, store.take, "spring")
        await list_run(store, line.place, 10).go()

    with pytest.raises(ListTaken):
        virtual.run(job())
    assert len(line.dialled) == 2
    assert line.cancelled == 0


def test_what_cannot_be_written_down_does_not_happen(store: DialStore) -> None:
    line = Line(takes_s=50.0)

    async def job() -> None:
        asyncio.get_running_loop().call_later(0.5, store.close)
        await list_run(store, line.place, 10).go()

    with pytest.raises(StoreError):
        virtual.run(job())
    assert len(line.dialled) == 1
    assert line.cancelled == 0


def test_a_fault_in_placing_ends_the_list_and_its_calls(store: DialStore) -> None:
    line = Line(takes_s=50.0)

    async def place(dial: Dial) -> Placed:
        if dial.row.to == "+4930100001":
            raise ZeroDivisionError
        return await line.place(dial)

    with pytest.raises(ExceptionGroup) as raised:
        virtual.run(list_run(store, place, 3).go())
    assert raised.group_contains(ZeroDivisionError)
    assert line.cancelled == 1


async def test_with_real_threads_and_the_real_clock(store: DialStore) -> None:
    placed: list[str] = []

    async def place(dial: Dial) -> Placed:
        placed.append(dial.row.to)
        return Placed(Outcome.answered)

    options = Options("clinic", concurrency=3, calls_per_second=100.0, hours=ALWAYS)
    async with asyncio.timeout(60.0):
        summary = await ListRun("spring", rows(10), options, store, place).go()
    assert summary.finished
    assert placed == [row.to for row in rows(10)]


CHILD = """
    import asyncio, sys
    from pathlib import Path
    from app.dialler.hours import read_hours
    from app.dialler.outcome import Outcome, Placed
    from app.dialler.plan import Dial, Options
    from app.dialler.rows import Row
    from app.dialler.run import ListRun
    from app.store.dials import DialStore

    async def place(dial):
        print(dial.row.key, dial.attempt, flush=True)
        if int(dial.row.key) % 3 == 2:
            await asyncio.sleep(3600)
        return Placed(Outcome.answered)

    rows = [Row(str(n), str(100 + n), n) for n in range(30)]
    options = Options("f", concurrency=3, calls_per_second=50.0, hours=read_hours("00:00-24:00"))
    asyncio.run(ListRun("spring", rows, options, DialStore(Path(sys.argv[1])), place).go())
"""


def test_killed_again_and_again_each_row_is_called_once(tmp_path: Path) -> None:
    """Each life gets stuck in three calls and is killed in them: the next goes on behind them."""
    path = tmp_path / FILE_NAME
    dialled: list[str] = []
    for life in range(3):
        child = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(CHILD), str(path)], stdout=subprocess.PIPE, text=True
        )
        assert child.stdout is not None
        try:
            for line in child.stdout:
                dialled.append(line.strip())
                if len(dialled) == 9 * (life + 1):
                    break
        finally:
            os.kill(child.pid, signal.SIGKILL)
            child.wait()
            child.stdout.close()
    assert dialled == [f"{n} 1" for n in range(27)]
    with DialStore(path) as store:
        known = store.progress("spring")
    stuck = [key for key, progress in known.items() if progress.outcomes == (Outcome.unknown,)]
    assert sorted(map(int, stuck)) == [2, 5, 8, 11, 14, 17]
    assert all(known[key].next_at_s is not None for key in stuck)
    assert [key for key, progress in known.items() if progress.placing and int(key) % 3 == 2] != []
    assert known["0"] == Progress((Outcome.answered,))
