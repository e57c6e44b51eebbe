"""From what calls were like to figures: percentiles with their counts, shares, conditions on them, and two runs beside
each other. What the tester itself was too slow to measure is counted, and left out."""

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

import numpy as np
from msgspec import Struct

from app.load.results import CallResult, Measure, RunResult, What
from flows.problems import did_you_mean

QUANTILES: Final = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99}
SURE: Final = 1.96  # standard deviations: 95 in 100
MAX_CONDITION_CHARS: Final = 200
MAX_KINDS: Final = 20  # of errors, the most frequent; a server may give another code each time
OTHERS: Final = "others"
SERVER_NAMES: Final = frozenset(
    {"calls", "refused", "late_frames", "cpu_share", "memory_mb", "lag_ms"}  # of each look at it
    | {"cpu_ms", "memory_mb_per_call", "loop_lag_p99_ms", "barge_in_p99_ms", "late_share"}  # of the whole run
)
"""What our own servers tell."""


class Figure(Struct, frozen=True):
    """In milliseconds. A percentile of few is what it is: look at `count`."""

    count: int
    own: int  # left out
    mean: float
    p50: float
    p90: float
    p95: float
    p99: float
    max: float


class Share(Struct, frozen=True):
    part: int
    of: int

    @property
    def value(self) -> float:
        return self.part / self.of


class Summary(Struct, frozen=True):
    calls: int
    up: int  # that had media
    refused: int
    failed: int  # something went wrong that no scenario did
    unexpected: int  # ended otherwise than their scenario says
    own: int  # judgements and measurements that the tester was too slow for
    call_seconds: float
    errors: dict[str, int]  # by kind; refusals by "refused CODE"
    figures: dict[What, Figure]  # those of which there is at least one
    shares: dict[str, Share]  # those that are of something


_SHARES: Final[Mapping[str, tuple[Callable[[CallResult], int], Callable[[CallResult], int]]]] = {
    "late": (lambda call: call.late, lambda call: call.frames),
    "unyielded": (lambda call: call.unyielded, lambda call: call.interruptions),
    "stopped_by_noise": (lambda call: call.stopped_by_noise, lambda call: call.noises),
    "stopped_by_backchannel": (lambda call: call.stopped_by_backchannel, lambda call: call.backchannels),
    "false_ends": (lambda call: call.false_ends, lambda call: call.turns),
    "missed_ends": (lambda call: call.missed_ends, lambda call: call.turns),
    "lost_words": (lambda call: call.lost_words, lambda call: call.words),
    "resumed": (lambda call: call.resumed, lambda call: call.dropped),
    "refused": (lambda call: bool(call.refused), lambda call: 1),
    "failed": (lambda call: bool(call.error), lambda call: 1),
    "unexpected": (lambda call: call.as_expected is False, lambda call: call.as_expected is not None),
}


def summary(calls: Sequence[CallResult]) -> Summary:
    by_kind: dict[What, list[Measure]] = {}
    for call in calls:
        for measure in call.measures:
            by_kind.setdefault(measure.what, []).append(measure)
    figures = {what: made for what in What if (made := figure(by_kind.get(what, []))) is not None}
    shares = {}
    for name, (part, of) in _SHARES.items():
        share = Share(sum(map(part, calls)), sum(map(of, calls)))
        if share.of:
            shares[name] = share
    errors = Counter(call.error or f"refused {call.refused}" for call in calls if call.error or call.refused)
    kinds = dict(errors.most_common(MAX_KINDS))
    if others := errors.total() - sum(kinds.values()):
        kinds[OTHERS] = others
    return Summary(
        calls=len(calls),
        up=sum(call.talked_s > 0 for call in calls),
        refused=sum(bool(call.refused) for call in calls),
        failed=sum(bool(call.error) for call in calls),
        unexpected=sum(call.as_expected is False for call in calls),
        own=sum(call.own + sum(measure.own for measure in call.measures) for call in calls),
        call_seconds=round(sum(call.talked_s for call in calls), 3),
        errors=kinds,
        figures=figures,
        shares=shares,
    )


def figure(measures: Iterable[Measure]) -> Figure | None:
    """None where nothing is left to be reported."""
    own, values = 0, []
    for measure in measures:
        if measure.own:
            own += 1
        else:
            values.append(measure.ms)
    if not values:
        return None
    quantiles = np.percentile(values, [100 * each for each in QUANTILES.values()])
    p50, p90, p95, p99 = (round(float(each), 1) for each in quantiles)
    return Figure(len(values), own, round(float(np.mean(values)), 1), p50, p90, p95, p99, max(values))


# Names of single numbers


def metrics(run: RunResult) -> dict[str, float]:
    """Every number that a condition may name: `barge_in_p99_ms`, `late_share`, `refused`, `tester_cpu_ms` and so on.

    CPU is in milliseconds per call-second. Of the server's own values each is its worst.
    """
    made = summary(run.calls)
    found: dict[str, float] = {
        "calls": made.calls,
        "up": made.up,
        "refused": made.refused,
        "failed": made.failed,
        "unexpected": made.unexpected,
        "own": made.own,
        "peak_calls": run.peak_calls,
    }
    for what, one in made.figures.items():
        for name in ("mean", *QUANTILES, "max"):
            found[f"{what}_{name}_ms"] = getattr(one, name)
        found[f"{what}_count"] = one.count
    for name, share in made.shares.items():
        found[f"{name}_share"] = share.value
    if made.call_seconds:
        found["tester_cpu_ms"] = run.tester_cpu_ms / made.call_seconds
    for sample in run.server:
        for name, value in sample.values.items():
            found[f"server_{name}"] = max(value, found.get(f"server_{name}", -math.inf))
    return found


_FIXED_NAMES: Final = frozenset(
    {"calls", "up", "refused", "failed", "unexpected", "own", "peak_calls", "tester_cpu_ms"}
    | {f"{what}_{name}_ms" for what in What for name in ("mean", *QUANTILES, "max")}
    | {f"{what}_count" for what in What}
    | {f"{name}_share" for name in _SHARES}
    | {f"server_{name}" for name in SERVER_NAMES}
)


class BadCondition(ValueError):
    """Says what was meant."""


class Condition(Struct, frozen=True):
    name: str
    sign: str
    bound: float

    def __str__(self) -> str:
        bound = f"{self.bound * 100:g}%" if self.name.endswith("_share") else f"{self.bound:g}"
        return f"{self.name} {self.sign} {bound}"

    def holds(self, found: Mapping[str, float]) -> bool | None:
        """None where there is no such number: nothing of the kind was measured."""
        value = found.get(self.name)
        return None if value is None else _SIGNS[self.sign](value, self.bound)


_SIGNS: Final[Mapping[str, Callable[[float, float], bool]]] = {
    ">=": lambda value, bound: value >= bound,
    "<=": lambda value, bound: value <= bound,
    "==": lambda value, bound: value == bound,
    "!=": lambda value, bound: value != bound,
    ">": lambda value, bound: value > bound,
    "<": lambda value, bound: value < bound,
}
_CONDITION: Final = re.compile(r"\s*([a-z][a-z0-9_]*)\s*(>=|<=|==|!=|>|<)\s*([0-9]+(?:\.[0-9]+)?)\s*(%?)\s*")


def condition(text: str) -> Condition:
    """Of "barge_in_p99_ms > 300" or "late_share > 0.1%". Raises `BadCondition`."""
    found = _CONDITION.fullmatch(text) if len(text) <= MAX_CONDITION_CHARS else None
    if found is None:
        raise BadCondition('a condition is such as "barge_in_p99_ms > 300" or "late_share > 0.1%"')
    name, sign, bound, percent = found.groups()
    if name not in _FIXED_NAMES:
        raise BadCondition(f"there is no figure {name}: {did_you_mean(name, _FIXED_NAMES)}")
    return Condition(name, sign, float(bound) / (100 if percent else 1))


# Two runs


class Change(Struct, frozen=True):
    name: str  # as in `metrics`
    before: float
    after: float
    sure: bool
    """The 95 % intervals of the two lie apart. Measurements of one call are alike, so it is a hint and no proof."""

    @property
    def ratio(self) -> float | None:
        return self.after / self.before if self.before else None


def compare(before: RunResult, after: RunResult) -> list[Change]:
    """What both have measured: p50, p95 and p99 of each figure, and each share."""
    changes = []
    for what in What:
        values = [_values(run, what) for run in (before, after)]
        if not all(values):
            continue
        for name in ("p50", "p95", "p99"):
            old, new = (float(np.percentile(each, 100 * QUANTILES[name])) for each in values)
            spans = [_quantile_span(each, QUANTILES[name]) for each in values]
            changes.append(Change(f"{what}_{name}_ms", round(old, 1), round(new, 1), _apart(*spans)))
    shares = [summary(run.calls).shares for run in (before, after)]
    for name in _SHARES:
        if all(name in each for each in shares):
            first, second = (each[name] for each in shares)
            sure = _apart(_share_span(first), _share_span(second))
            changes.append(Change(f"{name}_share", first.value, second.value, sure))
    return changes


Span = tuple[float, float]


def _values(run: RunResult, what: What) -> list[float]:
    return [one.ms for call in run.calls for one in call.measures if one.what is what and not one.own]


def _quantile_span(values: Sequence[float], share: float) -> Span:
    """By ranks, without a guess at how they are distributed; without end where there are too few."""
    ordered = sorted(values)
    count = len(ordered)
    middle, width = count * share, SURE * math.sqrt(count * share * (1 - share))
    low, high = math.floor(middle - width), math.ceil(middle + width)
    return (ordered[low] if low >= 0 else -math.inf, ordered[high] if high < count else math.inf)


def _share_span(share: Share) -> Span:
    """Wilson's interval."""
    total, value, sure2 = share.of, min(max(share.value, 0.0), 1.0), SURE**2
    middle = (value + sure2 / (2 * total)) / (1 + sure2 / total)
    width = SURE / (1 + sure2 / total) * math.sqrt(value * (1 - value) / total + sure2 / (4 * total**2))
    return middle - width, middle + width


def _apart(first: Span, second: Span) -> bool:
    return first[1] < second[0] or second[1] < first[0]
