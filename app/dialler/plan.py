"""Who of a list is called when: events in, orders out, time an argument.

    waiting until its time -> ready, in hours -> placing -> done, or waiting again

A row is called at most `max_attempts` times, and again only where its outcome has a retry. What was decided is
saved before it is acted on: `Save` comes before the `Dial` that it is about.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from heapq import heapify, heappop, heappush
from types import MappingProxyType
from typing import assert_never

from app.dialler.hours import Hours, read_zone
from app.dialler.outcome import Outcome, Placed, Progress
from app.dialler.rows import Row

MAX_CONCURRENCY = 1000
MAX_CALLS_PER_SECOND = 100.0
MAX_ATTEMPTS = 20
MAX_ANSWER_TIMEOUT_S = 180.0
MIN_RETRY_S = 60.0
MIN_HOLD_S = 1.0
"""A row that our limits hold back is not asked for sooner, whatever they say."""


class BadOptions(ValueError):
    """Options that mean nothing, or too much."""


@dataclass(frozen=True, slots=True)
class Retry:
    times: int
    after_s: float


RETRIES: Mapping[Outcome, Retry] = MappingProxyType(
    {
        Outcome.busy: Retry(3, 10 * 60),
        Outcome.no_answer: Retry(2, 60 * 60),
        Outcome.voicemail: Retry(1, 4 * 3600),
        Outcome.failed: Retry(2, 30 * 60),
        Outcome.unknown: Retry(1, 60 * 60),
    }
)


@dataclass(frozen=True, slots=True)
class Options:
    flow: str
    caller_id: str = ""
    calls_per_second: float = 1.0
    concurrency: int = 1
    hours: Hours = field(default_factory=Hours)
    zone: str = "UTC"  # of rows that name none
    answer_timeout_s: float = 30.0
    retries: Mapping[Outcome, Retry] = field(default_factory=lambda: RETRIES)
    max_attempts: int = 5

    def __post_init__(self) -> None:
        """Raises `BadOptions`, and `BadHours` for the zone."""
        read_zone(self.zone)
        for name, value, most in (
            ("calls_per_second", self.calls_per_second, MAX_CALLS_PER_SECOND),
            ("concurrency", self.concurrency, MAX_CONCURRENCY),
            ("max_attempts", self.max_attempts, MAX_ATTEMPTS),
            ("answer_timeout_s", self.answer_timeout_s, MAX_ANSWER_TIMEOUT_S),
        ):
            if not 0 < value <= most:
                raise BadOptions(f"{name} is more than 0 and at most {most}")
        for outcome, retry in self.retries.items():
            if outcome in (Outcome.answered, Outcome.refused, Outcome.invalid):
                raise BadOptions(f"after {outcome} nobody is called again")
            if not 0 <= retry.times <= MAX_ATTEMPTS or not retry.after_s >= MIN_RETRY_S:
                raise BadOptions(f"retries are at most {MAX_ATTEMPTS}, each after at least {MIN_RETRY_S:.0f} s")


# Events


@dataclass(frozen=True, slots=True)
class Begun:
    """The first event: what is known of the rows from before."""

    progress: Mapping[str, Progress]


@dataclass(frozen=True, slots=True)
class Ticked:
    """It is `deadline_s`."""


@dataclass(frozen=True, slots=True)
class Ended:
    """What became of a `Dial`. One for each."""

    key: str
    placed: Placed


@dataclass(frozen=True, slots=True)
class Stopping:
    """Place no more calls; those that are under way end as they do."""


Event = Begun | Ticked | Ended | Stopping


# Orders, to be carried out one after another


@dataclass(frozen=True, slots=True)
class Save:
    rows: dict[str, Progress]


@dataclass(frozen=True, slots=True)
class Dial:
    row: Row
    attempt: int  # from 1
    flow: str
    caller_id: str
    answer_timeout_s: float


@dataclass(frozen=True, slots=True)
class Done:
    """The last order. `finished`: every row is done; otherwise it was stopped before."""

    finished: bool


Order = Save | Dial | Done


class Plan:
    """One list on its way. `handle` is the only way to change it; not to be shared between threads."""

    def __init__(self, rows: Iterable[Row], options: Options) -> None:
        self._options = options
        self._rows = {row.key: row for row in rows}
        zones = {row.zone or options.zone for row in self._rows.values()}
        self._zones = {name: read_zone(name) for name in zones}
        self._progress: dict[str, Progress] = {}
        self._later: list[tuple[float, str]] = []  # a heap: when it is due, its key
        self._ready: dict[str, list[tuple[bool, float, int, str]]] = {}  # by zone, heaps: those tried before first
        self._placing: set[str] = set()
        self._next_start_s = 0.0
        self._now_s = 0.0
        self._stopping = False
        self._over = False

    @property
    def placing(self) -> int:
        return len(self._placing)

    @property
    def left(self) -> int:
        """Rows that are not done."""
        return sum(not known.done for known in self._progress.values())

    def outcomes(self) -> Counter[Outcome]:
        """The last outcome of each row that has one."""
        return Counter(known.outcomes[-1] for known in self._progress.values() if known.outcomes)

    @property
    def deadline_s(self) -> float | None:
        """When to come back with `Ticked` if nothing happens before; None: only an event changes anything."""
        if self._over or self._stopping:
            return None
        times = [self._later[0][0]] if self._later else []
        if len(self._placing) < self._options.concurrency:
            times += [max(self._opens_s(zone), self._next_start_s) for zone, heap in self._ready.items() if heap]
        return min(times, default=None)

    def handle(self, event: Event, now_s: float) -> list[Order]:
        """`now_s`: seconds since 1970."""
        self._now_s = now_s
        # The clock may be set back while we wait for the next start.
        self._next_start_s = min(self._next_start_s, now_s + 1 / self._options.calls_per_second)
        changed: dict[str, Progress] = {}
        match event:
            case Begun(progress):
                changed = self._begin(progress)
            case Ended(key, placed):
                changed = {key: self._ended(key, placed)}
            case Stopping():
                self._stopping = True
            case Ticked():
                pass
            case _:
                assert_never(event)
        dials = [] if self._stopping else self._start()
        for dial in dials:
            changed[dial.row.key] = self._progress[dial.row.key]
        orders: list[Order] = [Save(changed)] if changed else []
        orders += dials
        finished = not (self._later or any(self._ready.values()))
        if not self._over and not self._placing and (finished or self._stopping):
            self._over = True
            orders.append(Done(finished))
        return orders

    def _begin(self, known: Mapping[str, Progress]) -> dict[str, Progress]:
        changed = {}
        for key in self._rows:
            progress = known.get(key, Progress(next_at_s=0.0))
            if progress.placing:
                # Nobody knows whether it rang: it was an attempt.
                progress = changed[key] = self._after(progress, Outcome.unknown)
            self._progress[key] = progress
            if progress.next_at_s is not None:
                self._later.append((progress.next_at_s, key))
        heapify(self._later)
        return changed

    def _ended(self, key: str, placed: Placed) -> Progress:
        assert key in self._placing, "an end of a call that was not placed"
        self._placing.discard(key)
        before = self._progress[key]
        if placed.outcome is Outcome.refused and placed.hold_until_s is not None:
            hold_s = max(placed.hold_until_s, self._now_s + MIN_HOLD_S)
            progress = replace(before, placing=False, next_at_s=hold_s)
        else:
            progress = self._after(before, placed.outcome)
        self._progress[key] = progress
        if progress.next_at_s is not None:
            heappush(self._later, (progress.next_at_s, key))
        return progress

    def _after(self, before: Progress, outcome: Outcome) -> Progress:
        outcomes = (*before.outcomes, outcome)
        retry = self._options.retries.get(outcome)
        again = retry and outcomes.count(outcome) <= retry.times and len(outcomes) < self._options.max_attempts
        return Progress(outcomes, next_at_s=self._now_s + retry.after_s if retry and again else None)

    def _start(self) -> list[Dial]:
        while self._later and self._later[0][0] <= self._now_s:
            at_s, key = heappop(self._later)
            row = self._rows[key]
            heap = self._ready.setdefault(row.zone or self._options.zone, [])
            heappush(heap, (not self._progress[key].outcomes, at_s, row.line, key))
        dials = []
        while len(self._placing) < self._options.concurrency and self._next_start_s <= self._now_s:
            open_now = [heap for zone, heap in self._ready.items() if heap and self._opens_s(zone) <= self._now_s]
            if not open_now:
                break
            *_, key = heappop(min(open_now))
            dials.append(self._dial(key))
        return dials

    def _dial(self, key: str) -> Dial:
        options = self._options
        self._next_start_s = self._now_s + 1 / options.calls_per_second
        self._placing.add(key)
        before = self._progress[key]
        self._progress[key] = Progress(before.outcomes, placing=True)
        attempt = len(before.outcomes) + 1
        return Dial(self._rows[key], attempt, options.flow, options.caller_id, options.answer_timeout_s)

    def _opens_s(self, zone: str) -> float:
        return self._options.hours.next_open_s(self._now_s, self._zones[zone])
