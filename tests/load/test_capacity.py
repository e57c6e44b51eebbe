"""The search for the most calls that a server bears."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.load import capacity
from app.load.capacity import FINE, MAX_PROBES, Search, at_full_load, find
from app.load.limits import conditions
from app.load.record import Probe, Record
from app.load.results import What
from tests.load.made import call, record

ASKED = conditions(["failed > 0", "response_p99_ms > 1000"])


def searched(search: Search, holds: Callable[[int, int], bool]) -> list[int]:
    """What was tried; `holds` is told the calls and how many runs there were before."""
    tried: list[int] = []
    while (calls := search.next()) is not None:
        held = holds(calls, len(tried))
        tried.append(calls)
        search.told(calls, held=held)
        assert len(tried) <= MAX_PROBES
    return tried


@given(st.integers(1, 5000), st.integers(1, 3000), st.integers(1, 4000))
def test_what_is_found_is_what_the_server_bears(first: int, bears: int, most: int) -> None:
    search = Search(first, most)
    tried = searched(search, lambda calls, before: calls <= bears)
    assert max(tried) <= most
    reachable = min(bears, most)
    assert search.held <= reachable
    assert reachable - search.held <= max(1, reachable * FINE)


def test_it_doubles_and_then_halves_what_is_between() -> None:
    search = Search(10, 1000)
    assert searched(search, lambda calls, before: calls <= 70) == [10, 20, 40, 80, 80, 60, 70, 75, 75, 72, 72]
    assert (search.held, search.broke) == (70, 72)


def test_a_limit_that_breaks_once_is_chance() -> None:
    search = Search(10, 100)
    searched(search, lambda calls, before: before != 1)
    assert search.held == 100


def test_a_server_that_bears_nobody() -> None:
    search = Search(10, 100)
    searched(search, lambda calls, before: False)
    assert (search.held, search.broke) == (0, 1)


# With runs


def run(calls: int, ms: float = 500.0) -> Record:
    return record(*(call(number, *((What.response, ms, 5.0) for _ in range(5))) for number in range(calls)))


async def test_the_best_run_is_told_with_the_whole_search() -> None:
    told: list[Probe] = []

    async def play(calls: int) -> Record:
        return run(calls, 500.0 if calls <= 30 else 2000.0)

    made = await find(play, ASKED, first=10, most=1000, told=told.append)
    assert made.capacity is not None
    assert (made.capacity.most, len(made.calls), made.capacity.bound) == (30, 30, False)
    assert made.capacity.probes == told
    assert [probe.calls for probe in told if probe.held] == [10, 20, 30]
    assert told[2].broken == ["response_p99_ms > 1000: 2,000 ms"]
    assert "with 31 a limit broke" in made.capacity.why


async def test_it_ends_at_the_most_that_may_be_tried() -> None:
    async def play(calls: int) -> Record:
        return run(calls)

    made = await find(play, ASKED, first=8, most=20)
    assert made.capacity is not None
    assert (made.capacity.most, made.capacity.bound) == (20, True)
    assert "no more than 20" in made.capacity.why


@pytest.mark.parametrize("fields", [{"stopped": True}, {"troubles": ["process 1 died"]}])
async def test_it_ends_with_a_run_that_is_stopped_or_broken(fields: dict[str, object]) -> None:
    async def play(calls: int) -> Record:
        made = run(calls)
        for name, value in fields.items() if calls == 20 else ():
            setattr(made, name, value)
        return made

    made = await find(play, ASKED, first=10, most=1000)
    assert made.capacity is not None
    assert (made.capacity.most, made.capacity.bound) == (10, True)
    assert (made.stopped, made.troubles) == (fields.get("stopped", False), fields.get("troubles", []))


async def test_a_tester_that_is_too_slow_ends_it_and_blames_itself() -> None:
    async def play(calls: int) -> Record:
        made = run(calls)
        for one in made.calls:
            one.own = 20 if calls > 10 else 0
        return made

    made = await find(play, ASKED, first=10, most=1000)
    assert made.capacity is not None
    assert (made.capacity.most, made.capacity.bound) == (10, True)
    assert "tester itself was too slow for 20" in made.capacity.why


async def test_it_never_makes_more_runs_than_it_may(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capacity, "MAX_PROBES", 3)

    async def play(calls: int) -> Record:
        return run(calls)

    made = await find(play, ASKED, first=1, most=1000)
    assert made.capacity is not None
    assert (made.capacity.most, made.capacity.why) == (4, "3 runs were made")


def test_only_what_was_measured_under_the_full_load_counts() -> None:
    times = (1.0, 12.0, 18.0, 24.0)
    calls = [call(0, *((What.response, at_s * 10, at_s) for at_s in times)), call(1, began_s=10.0)]
    kept = at_full_load(record(*calls)).calls[0].measures
    assert [one.at_s for one in kept if one.what is What.response] == [12.0, 18.0]
