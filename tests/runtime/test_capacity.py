"""Admission by load, on a clock of the test's own: what is measured, what just came, and when it opens again."""

import random

import pytest

from app.runtime.capacity import FIRST_COST, REOPEN, WINDOW_MS, Capacity

TICK_MS = 20
MAX_LOAD = 0.8
MAX_LAG_MS = 10.0


class Machine:
    """A server whose calls cost `cost` of a core each, from the moment they are there."""

    def __init__(self, cost: float = 0.002, base: float = 0.0) -> None:
        self.capacity = Capacity(max_load=MAX_LOAD, max_lag_ms=MAX_LAG_MS)
        self.cost = cost
        self.base = base
        self.calls = 0
        self.lag_ms = 0.0
        self.now_ms = 5_000_000.0
        self.cpu_ms = 1234.0

    def run(self, ms: float) -> None:
        for _ in range(round(ms / TICK_MS)):
            self.now_ms += TICK_MS
            self.cpu_ms += TICK_MS * (self.base + self.calls * self.cost)
            self.capacity.ticked(self.now_ms, self.cpu_ms, self.lag_ms, self.calls)

    def ask(self) -> bool:
        """A caller comes."""
        if not self.capacity.admits():
            return False
        self.capacity.admitted()
        self.calls += 1
        return True

    def come(self, per_tick: int, ms: float) -> int:
        """So many callers each tick; how many of them were admitted."""
        admitted = 0
        for _ in range(round(ms / TICK_MS)):
            admitted += sum(self.ask() for _ in range(per_tick))
            self.run(TICK_MS)
        return admitted

    def hang_up(self, calls: int) -> None:
        self.calls -= calls


def test_calls_are_admitted_up_to_the_limit_and_no_further() -> None:
    machine = Machine()
    machine.run(WINDOW_MS)
    machine.come(1, 20_000)
    machine.run(WINDOW_MS)
    assert MAX_LOAD - 0.02 < machine.capacity.load <= MAX_LOAD
    assert machine.calls == pytest.approx(MAX_LOAD / machine.cost, rel=0.03)
    assert not machine.capacity.admits() or machine.capacity.load < MAX_LOAD


@pytest.mark.parametrize("cost", [0.0005, 0.002, 0.008, 0.02])
@pytest.mark.parametrize("per_tick", [1, 5, 40])
def test_however_fast_they_come_the_limit_is_never_passed(cost: float, per_tick: int) -> None:
    """Nothing of what was admitted in the last moment shows in the load, and yet it counts."""
    machine = Machine(cost)
    machine.run(WINDOW_MS)
    machine.come(1, 1000)  # these tell what a call costs, unless it costs more than is thought at first
    machine.come(per_tick, 20_000)
    most = MAX_LOAD if cost <= FIRST_COST else 1.1 * cost / FIRST_COST * MAX_LOAD
    assert machine.calls * cost <= most + cost
    assert machine.calls >= min(1000, 0.9 * MAX_LOAD / cost)


def test_near_the_limit_few_are_admitted_in_a_second() -> None:
    machine = Machine()
    machine.run(WINDOW_MS)
    machine.calls = 360
    machine.run(WINDOW_MS)
    assert machine.come(10, 1000) <= 40
    assert machine.calls * machine.cost <= MAX_LOAD


def test_it_opens_again_only_when_there_is_room_for_several() -> None:
    machine = Machine()
    machine.calls = 410
    machine.run(WINDOW_MS)
    assert not machine.ask()
    machine.hang_up(15)  # a load of 0.79 now: below the limit, but only just
    machine.run(2 * WINDOW_MS)
    assert REOPEN * MAX_LOAD < machine.capacity.load < MAX_LOAD
    assert not machine.ask()
    machine.hang_up(20)
    machine.run(2 * WINDOW_MS)
    assert machine.ask()


def test_a_late_clock_closes_it_though_there_is_cpu_left() -> None:
    """Others use the core: what this process used tells nothing."""
    machine = Machine()
    machine.calls = 10
    machine.run(WINDOW_MS)
    assert machine.capacity.admits()
    machine.lag_ms = 15
    machine.run(WINDOW_MS)
    assert not machine.capacity.admits()
    machine.lag_ms = 8
    machine.run(2 * WINDOW_MS)
    assert not machine.capacity.admits(), "below the limit, but not by much"
    machine.lag_ms = 1
    machine.run(2 * WINDOW_MS)
    assert machine.capacity.admits()


def test_one_long_pause_closes_nothing() -> None:
    machine = Machine()
    machine.calls = 100
    machine.run(WINDOW_MS)
    for machine.lag_ms in (80, 60, 40, 20):
        machine.run(TICK_MS)
    machine.lag_ms = 0
    machine.run(TICK_MS)
    assert machine.capacity.admits()


def test_where_nobody_is_harmed_a_call_is_taken() -> None:
    machine = Machine(base=1.0)
    machine.lag_ms = 100
    machine.run(2 * WINDOW_MS)
    assert machine.ask()
    assert not machine.ask(), "there is one now"
    machine.run(2 * WINDOW_MS)
    machine.hang_up(1)
    machine.run(TICK_MS)
    assert machine.ask()


def test_before_the_first_tick_and_without_limits_all_are_admitted() -> None:
    assert Capacity(max_load=0.1, max_lag_ms=1).admits()
    capacity = Capacity()
    for tick in range(200):
        capacity.ticked(tick * TICK_MS, 3.0 * tick * TICK_MS, 500, 1000)
        capacity.admitted()
        assert capacity.admits()
    assert capacity.load == pytest.approx(3)
    assert capacity.lag_ms == pytest.approx(500)


def test_an_idle_server_does_not_take_a_crowd_at_once() -> None:
    machine = Machine()
    machine.run(WINDOW_MS)
    assert sum(machine.ask() for _ in range(1000)) == pytest.approx(MAX_LOAD / FIRST_COST, abs=2)


def test_what_is_looked_back_at_stays_small() -> None:
    machine = Machine(cost=0)
    machine.come(3, 60_000)
    assert len(machine.capacity._ticks) <= WINDOW_MS / TICK_MS + 1
    assert len(machine.capacity._fresh_ms) <= 3 * (WINDOW_MS / TICK_MS + 1)


@pytest.mark.parametrize("seed", range(5))
def test_calls_that_come_and_go_by_chance_never_pass_the_limit_by_much(seed: int) -> None:
    """Twice as many come as there is room for."""
    chance = random.Random(seed)
    machine = Machine(cost=0.004)
    machine.run(WINDOW_MS)
    worst = 0.0
    for _ in range(6000):
        if chance.random() < 0.8:  # 40 a second, for 10 s each: 400 calls, where 200 have room
            machine.ask()
        machine.hang_up(sum(chance.random() < TICK_MS / 10_000 for _ in range(machine.calls)))
        machine.run(TICK_MS)
        worst = max(worst, machine.calls * machine.cost)
    assert MAX_LOAD * 0.9 < worst <= MAX_LOAD + 0.02
