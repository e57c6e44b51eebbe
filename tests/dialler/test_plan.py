"""The list dialler's decisions on a simulated clock."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from heapq import heappop, heappush
from itertools import pairwise
from random import Random
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.dialler.hours import BadHours, Hours, read_hours
from app.dialler.outcome import Outcome, Placed, Progress
from app.dialler.plan import (
    RETRIES,
    BadOptions,
    Begun,
    Dial,
    Done,
    Ended,
    Options,
    Plan,
    Retry,
    Save,
    Stopping,
    Ticked,
)
from app.dialler.rows import Row

ALWAYS = read_hours("00:00-24:00")
NOON_S = datetime(2030, 1, 31, 12, tzinfo=ZoneInfo("UTC")).timestamp()
Script = Callable[[Dial, float], tuple[float, Placed]]
"""Of a dial at a time: how long its call takes, and how it ends."""


def rows(count: int, zone: str = "") -> list[Row]:
    return [Row(f"r{n}", f"+4930{n:07}", n + 2, zone) for n in range(count)]


def always(*outcomes: Outcome, takes_s: float = 10.0) -> Script:
    """Each row's attempts end so, one after another, the last again and again."""
    return lambda dial, _: (takes_s, Placed(outcomes[min(dial.attempt, len(outcomes)) - 1]))


@dataclass
class World:
    """Drives a plan and checks what must always hold."""

    options: Options
    script: Script
    now_s: float = NOON_S
    saved: dict[str, Progress] = field(default_factory=dict)
    dials: list[tuple[float, Dial]] = field(default_factory=list)
    live: list[tuple[float, str, Placed]] = field(default_factory=list)
    most_live: int = 0
    done: Done | None = None

    def run(self, list_rows: list[Row], *, crash_after: int | None = None, stop_after: int | None = None) -> Plan:
        plan = Plan(list_rows, self.options)
        self.live.clear()
        self.done = None
        self.carry_out(plan, Begun(dict(self.saved)))
        steps = 0
        while self.done is None:
            steps += 1
            assert steps < 20_000, "the plan goes round in circles"
            if crash_after is not None and len(self.dials) >= crash_after:
                return plan
            if stop_after is not None and len(self.dials) >= stop_after:
                stop_after = None
                self.carry_out(plan, Stopping())
                continue
            deadline_s = plan.deadline_s
            assert deadline_s is not None or self.live, "nothing will ever happen"
            if self.live and (deadline_s is None or self.live[0][0] <= deadline_s):
                ends_s, key, placed = heappop(self.live)
                self.now_s = max(self.now_s, ends_s)
                self.carry_out(plan, Ended(key, placed))
            else:
                assert deadline_s is not None
                self.now_s = max(self.now_s, deadline_s)
                self.carry_out(plan, Ticked())
        return plan

    def carry_out(self, plan: Plan, event: Begun | Ended | Ticked | Stopping) -> None:
        for order in plan.handle(event, self.now_s):
            assert self.done is None, "an order after the last one"
            match order:
                case Save(changed):
                    self.saved |= changed
                case Dial():
                    assert self.saved[order.row.key].placing, "dialled before it was saved"
                    assert order.row.key not in {key for _, key, _ in self.live}
                    takes_s, placed = self.script(order, self.now_s)
                    heappush(self.live, (self.now_s + takes_s, order.row.key, placed))
                    self.most_live = max(self.most_live, len(self.live))
                    self.dials.append((self.now_s, order))
                case Done():
                    self.done = order
        assert plan.placing == len(self.live)

    def times(self, key: str = "r0") -> list[float]:
        return [at_s - NOON_S for at_s, dial in self.dials if dial.row.key == key]


def test_a_list_is_dialled_from_top_to_bottom() -> None:
    world = World(
        Options("clinic", "+4930", concurrency=2, hours=ALWAYS, answer_timeout_s=20.0),
        always(Outcome.answered, takes_s=2.5),
    )
    plan = world.run(rows(5))
    assert [(at_s - NOON_S, dial.row.key) for at_s, dial in world.dials] == [
        (0.0, "r0"),
        (1.0, "r1"),
        (2.5, "r2"),
        (3.5, "r3"),
        (5.0, "r4"),
    ]
    first = world.dials[0][1]
    assert first == Dial(rows(1)[0], 1, "clinic", "+4930", 20.0)
    assert world.done == Done(finished=True)
    assert plan.outcomes() == {Outcome.answered: 5}
    assert plan.left == 0
    assert plan.deadline_s is None
    assert all(known.done for known in world.saved.values())


def test_an_empty_list_is_done() -> None:
    world = World(Options("f"), always(Outcome.answered))
    world.run([])
    assert world.done == Done(finished=True)


@pytest.mark.parametrize(
    ("script", "minutes"),
    [
        (always(Outcome.busy, takes_s=0.0), [0, 10, 20, 30]),
        (always(Outcome.no_answer, takes_s=0.0), [0, 60, 120]),
        (always(Outcome.voicemail, takes_s=0.0), [0, 240]),
        (always(Outcome.unknown, takes_s=0.0), [0, 60]),
        (always(Outcome.refused), [0]),
        (always(Outcome.invalid), [0]),
        (always(Outcome.answered), [0]),
        (always(Outcome.busy, Outcome.no_answer, Outcome.answered, takes_s=0.0), [0, 10, 70]),
        (always(Outcome.busy, Outcome.voicemail, Outcome.busy, Outcome.voicemail, takes_s=0.0), [0, 10, 250, 260]),
        (always(Outcome.busy, Outcome.busy, Outcome.busy, Outcome.no_answer, takes_s=0.0), [0, 10, 20, 30, 90]),
    ],
)
def test_retries(script: Script, minutes: list[int]) -> None:
    world = World(Options("f", hours=ALWAYS), script)
    world.run(rows(1))
    assert [at_s / 60 for at_s in world.times()] == minutes
    assert [dial.attempt for _, dial in world.dials] == list(range(1, len(minutes) + 1))


def test_the_pause_begins_with_the_end_of_the_call() -> None:
    world = World(Options("f", hours=ALWAYS), always(Outcome.busy, Outcome.answered, takes_s=30.0))
    world.run(rows(1))
    assert world.times() == [0.0, 630.0]


def test_a_due_retry_goes_before_new_rows() -> None:
    world = World(Options("f", hours=ALWAYS), always(Outcome.busy, Outcome.answered, takes_s=100.0))
    world.run(rows(20))
    assert world.times("r0") == [0.0, 700.0]


def test_nobody_is_called_outside_the_hours() -> None:
    options = Options("f", hours=read_hours("09:00-20:00", "mon-sat"), zone="Europe/Berlin")
    list_rows = [
        Row("berlin", "1", 2),
        Row("tokyo", "2", 3, "Asia/Tokyo"),
        Row("ny", "3", 4, "America/New_York"),
        Row("late", "4", 5, "Pacific/Auckland"),
    ]
    world = World(options, always(Outcome.answered))
    world.run(list_rows)
    started = {
        dial.row.key: datetime.fromtimestamp(at_s, ZoneInfo(dial.row.zone or options.zone)).isoformat()[:16]
        for at_s, dial in world.dials
    }
    assert started == {
        "berlin": "2030-01-31T13:00",
        "ny": "2030-01-31T09:00",
        "late": "2030-02-01T09:00",
        "tokyo": "2030-02-01T09:00",
    }


def test_a_retry_waits_for_the_morning_and_over_sunday() -> None:
    saturday_s = datetime(2030, 3, 30, 19, 55, tzinfo=ZoneInfo("Europe/Berlin")).timestamp()
    options = Options("f", hours=read_hours("09:00-20:00", "mon-sat"), zone="Europe/Berlin")
    world = World(options, always(Outcome.busy, Outcome.answered), now_s=saturday_s)
    world.run(rows(1))
    again = datetime.fromtimestamp(world.dials[1][0], ZoneInfo("Europe/Berlin"))
    assert again.isoformat() == "2030-04-01T09:00:00+02:00"  # the clocks went forward in between


def test_hours_over_midnight() -> None:
    zone = ZoneInfo("Europe/Berlin")
    evening_s = datetime(2030, 10, 25, 23, 0, tzinfo=zone).timestamp()
    options = Options("f", hours=read_hours("22:00-03:00", "fri,sat"), zone=zone.key, calls_per_second=0.001)
    world = World(options, always(Outcome.answered), now_s=evening_s)
    world.run(rows(37))
    for at_s, _ in world.dials:
        local = datetime.fromtimestamp(at_s, zone)
        assert (local.weekday() in (4, 5) and local.hour >= 22) or (local.weekday() in (5, 6) and local.hour < 3)
    # Four hours are left of the first night; the second has an hour more than others.
    second = [at_s for at_s, _ in world.dials if at_s > evening_s + 12 * 3600]
    assert len(second) == 22
    assert second[-1] - second[0] == 21_000


def test_what_our_limits_hold_back_is_no_attempt() -> None:
    held: list[float] = []

    def script(dial: Dial, now_s: float) -> tuple[float, Placed]:
        if len(held) < 8:
            held.append(now_s)
            return 0.0, Placed(Outcome.refused, hold_until_s=now_s + (50.0 if len(held) < 8 else -1000.0))
        return 1.0, Placed(Outcome.answered)

    world = World(Options("f", calls_per_second=100.0, hours=ALWAYS), script)
    world.run(rows(1))
    assert [dial.attempt for _, dial in world.dials] == [1] * 9
    assert world.times() == [0.0, 50.0, 100.0, 150.0, 200.0, 250.0, 300.0, 350.0, 351.0]
    assert world.saved["r0"] == Progress((Outcome.answered,))


def test_stopping_lets_calls_end_and_going_on_starts_where_it_was() -> None:
    world = World(Options("f", concurrency=3, hours=ALWAYS), always(Outcome.answered, takes_s=100.0))
    plan = world.run(rows(10), stop_after=3)
    assert world.done == Done(finished=False)
    assert len(world.dials) == 3
    assert plan.left == 7
    world.run(rows(10))
    assert world.done == Done(finished=True)
    assert Counter(dial.row.key for _, dial in world.dials) == Counter(row.key for row in rows(10))


def test_after_a_crash_nobody_is_called_again_at_once() -> None:
    world = World(Options("f", concurrency=2, hours=ALWAYS), always(Outcome.answered, takes_s=100.0))
    world.run(rows(3), crash_after=2)
    assert {key for key, known in world.saved.items() if known.placing} == {"r0", "r1"}
    world.dials.clear()
    crashed_s = world.now_s
    world.run(rows(3))
    assert [dial.row.key for _, dial in world.dials] == ["r2", "r0", "r1"]
    assert [dial.attempt for _, dial in world.dials] == [1, 2, 2]
    assert world.dials[1][0] >= crashed_s + RETRIES[Outcome.unknown].after_s
    assert world.saved["r0"].outcomes == (Outcome.unknown, Outcome.answered)


def test_rows_that_left_the_list_are_left_alone_and_new_ones_are_called() -> None:
    world = World(Options("f", hours=ALWAYS), always(Outcome.answered))
    world.saved = {"r0": Progress((Outcome.answered,)), "gone": Progress((Outcome.busy,), next_at_s=0.0)}
    world.run(rows(2))
    assert [dial.row.key for _, dial in world.dials] == ["r1"]


def test_a_clock_that_is_set_back_does_not_stop_the_list() -> None:
    plan = Plan(rows(3), Options("f", concurrency=3, hours=ALWAYS))
    plan.handle(Begun({}), NOON_S)
    assert plan.handle(Ticked(), NOON_S - 7200) == []
    assert plan.deadline_s == NOON_S - 7199
    assert len(plan.handle(Ticked(), NOON_S - 7199)) == 2


@st.composite
def options(draw: st.DrawFn) -> Options:
    start = draw(st.integers(0, 1439))
    hours = Hours(start, draw(st.integers(1, 1440).filter(lambda end: end != start)), frozenset({1, 3, 5, 6}))
    retries = {
        outcome: Retry(draw(st.integers(0, 3)), draw(st.sampled_from([60.0, 600.0, 40_000.0])))
        for outcome in (Outcome.busy, Outcome.no_answer, Outcome.failed, Outcome.unknown)
    }
    return Options(
        "f",
        calls_per_second=draw(st.sampled_from([0.01, 0.3, 1.0, 7.0, 100.0])),
        concurrency=draw(st.integers(1, 5)),
        hours=hours,
        zone=draw(st.sampled_from(["UTC", "Europe/Berlin", "Australia/Lord_Howe"])),
        retries=retries,
        max_attempts=draw(st.integers(1, 5)),
    )


@given(
    options(),
    st.integers(0, 12),
    st.randoms(use_true_random=False),
    st.integers(int(NOON_S), int(NOON_S) + 365 * 86400),
    st.lists(st.integers(0, 12), max_size=3),
)
@settings(max_examples=150, deadline=None)
def test_what_always_holds(options: Options, count: int, random: Random, start_s: int, crashes: list[int]) -> None:
    def script(dial: Dial, now_s: float) -> tuple[float, Placed]:
        outcome = random.choice(list(Outcome))
        hold = now_s + random.choice([-5.0, 5.0, 90_000.0]) if random.random() < 0.5 else None
        return random.choice([0.0, 1.0, 45.0, 400.0]), Placed(outcome, hold)

    list_rows = [Row(f"r{n}", str(n), n, random.choice(["", "America/St_Johns"])) for n in range(count)]
    world = World(options, script, now_s=float(start_s))
    starts: list[float] = []
    for crash in [*crashes, None]:
        world.dials.clear()
        world.most_live = 0
        world.run(list_rows, crash_after=crash)
        starts = [at_s for at_s, _ in world.dials]
        assert world.most_live <= options.concurrency
        assert all(b - a >= 1 / options.calls_per_second - 1e-6 for a, b in pairwise(starts))
        for at_s, dial in world.dials:
            assert options.hours.open_at(at_s, ZoneInfo(dial.row.zone or options.zone))
            assert dial.attempt <= options.max_attempts
    assert world.done == Done(finished=True)
    assert set(world.saved) == {row.key for row in list_rows}
    for known in world.saved.values():
        assert known.done
        assert 1 <= len(known.outcomes) <= options.max_attempts
        final = {Outcome.answered, Outcome.invalid, Outcome.refused}
        assert not final & set(known.outcomes[:-1])


@pytest.mark.parametrize(
    "wrong",
    [
        {"calls_per_second": 0.0},
        {"calls_per_second": float("nan")},
        {"calls_per_second": 1000.0},
        {"concurrency": 0},
        {"concurrency": 10_000},
        {"max_attempts": 0},
        {"answer_timeout_s": -1.0},
        {"retries": {Outcome.refused: Retry(1, 600.0)}},
        {"retries": {Outcome.busy: Retry(1, 0.0)}},
        {"retries": {Outcome.busy: Retry(-1, 600.0)}},
        {"zone": "Mars/Olympus"},
    ],
)
def test_options_that_mean_nothing(wrong: Mapping[str, object]) -> None:
    with pytest.raises((BadOptions, BadHours)):
        Options("f", **wrong)  # type: ignore[arg-type]  # a table of one option each


def test_ten_thousand_rows_at_closing_time() -> None:
    """Rows that are ready while it is closed cost nothing: each hour's tick is one look at the clock."""
    evening_s = datetime(2030, 1, 31, 19, 59, 50, tzinfo=ZoneInfo("UTC")).timestamp()
    plan = Plan(rows(10_000), Options("f", concurrency=100))
    plan.handle(Begun({}), evening_s)
    for second in range(1, 10):
        assert len(plan.handle(Ticked(), evening_s + second)) == 2
    assert plan.handle(Ticked(), evening_s + 10) == []
    assert plan.deadline_s == evening_s + 10 + 13 * 3600
