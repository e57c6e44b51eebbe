"""What became of a moment, from what was played at the caller's ear. Pure: histories in, findings out.

A *hole* is time in which the telephone had nothing of the agent's to play. Pauses of the agent's voice are no holes,
since silence is sent as well. Times are in seconds of one clock.
"""

from collections.abc import Sequence
from typing import Final

from msgspec import Struct, field

from app.load.suite.moment import Moment, Right
from app.load.suite.render import Span

STOP_S: Final = 0.6
"""A hole that lasts so long is a stop. One that ends sooner, in place, is a hold."""

HOLD_S: Final = 0.06
"""A shorter hole is the network's."""

YIELD_S: Final = 1.5
"""An agent that has not stopped so long after the caller began did not yield."""

ANSWER_S: Final = 4.0
"""No answer so long after the caller's last word is a missed end."""

AFTER_S: Final = 2.5
"""How long after a caller's last word stops count, where the agent ought to go on."""

BEFORE_CLEAR_S: Final = 0.1
"""The order to clear comes when what was sent has played: it belongs to a hole that began so shortly after it."""


class Played(Struct, frozen=True):
    """A stretch of the agent's frames, played without a hole. `heard` are its audible frames' beginnings and ends."""

    start_s: float
    end_s: float
    heard: tuple[tuple[float, float], ...]


class History(Struct):
    """What happened at the ear. `said` is what the caller said, in parts."""

    said: tuple[Span, ...]
    played: Sequence[Played]
    clears: Sequence[float]
    until_s: float  # it was listened to until then


class Finding(Struct):
    """`latency_ms`: of a yield or of an answer, where there was one."""

    ok: bool
    why: str = ""
    latency_ms: float | None = None
    holds_ms: list[float] = field(default_factory=list)


def judge(moment: Moment, history: History) -> Finding:
    match moment.right:
        case Right.yields:
            return _yields(history)
        case Right.goes_on:
            return _goes_on(history)
        case Right.answers:
            return _answers(history)


def _yields(history: History) -> Finding:
    onset_s = history.said[0].start_s
    holds_ms: list[float] = []
    for start_s, end_s, is_stop in _holes(history, onset_s):
        if not is_stop:
            holds_ms.append(1000 * (end_s - start_s))
            continue
        heard = [end for stretch in history.played for _, end in stretch.heard if end <= start_s + HOLD_S]
        latency_s = max(0.0, max(heard, default=onset_s) - onset_s)
        if latency_s > YIELD_S:
            break
        return Finding(True, latency_ms=1000 * latency_s, holds_ms=holds_ms)
    return Finding(False, "talked on", holds_ms=holds_ms)


def _goes_on(history: History) -> Finding:
    holds_ms: list[float] = []
    until_s = history.said[-1].end_s + AFTER_S
    for start_s, end_s, is_stop in _holes(history, history.said[0].start_s):
        if start_s > until_s:
            break
        if is_stop:
            return Finding(False, "stopped", latency_ms=None, holds_ms=holds_ms)
        holds_ms.append(1000 * (end_s - start_s))
    return Finding(True, holds_ms=holds_ms)


def _answers(history: History) -> Finding:
    start_s, end_s = history.said[0].start_s, history.said[-1].end_s
    heard = sorted(start for stretch in history.played for start, _ in stretch.heard if start >= start_s)
    if not heard or heard[0] > end_s + ANSWER_S:
        return Finding(False, "no answer")
    if heard[0] < end_s:
        return Finding(False, "came in early")
    return Finding(True, latency_ms=1000 * (heard[0] - end_s))


def _holes(history: History, since_s: float) -> list[tuple[float, float, bool]]:
    """Start, end and whether it is a stop, of those that end after `since_s`."""
    ends = [stretch.end_s for stretch in history.played]
    starts = [stretch.start_s for stretch in history.played[1:]]
    starts += [history.until_s] * bool(ends)
    holes = []
    for start_s, end_s in zip(ends, starts, strict=True):
        if end_s <= since_s or end_s - start_s < HOLD_S:
            continue
        cleared = any(start_s - BEFORE_CLEAR_S <= at_s <= end_s and at_s >= since_s for at_s in history.clears)
        holes.append((start_s, end_s, cleared or end_s - start_s >= STOP_S))
    return holes
