"""How many calls a server bears: runs with more and more of them, until a limit breaks twice, then between the two."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import msgspec

from app.load import figures, limits
from app.load.figures import Condition
from app.load.record import Capacity, Probe, Record, load_steps
from app.load.results import CallResult, RunResult
from app.load.tell import TOO_SLOW, too_slow

FIRST_CALLS: Final = 10
MAX_CALLS: Final = 10_000
MAX_PROBES: Final = 40
FINE: Final = 0.05  # the answer is known to this share of itself
TRIES: Final = 2  # so often in a row does a limit break, or is the tester too slow: once may be chance
SETTLE_S: Final = 2.0  # between two runs, for the server to be done with the calls before
FULL: Final = 0.95  # of the calls up: what is measured then, is measured under the full load

Play = Callable[[int], Awaitable[Record]]
"""A run with so many calls."""
Told = Callable[[Probe], None]


class Search:
    """Which number of calls to try next. Pure: it is told how each went."""

    def __init__(self, first: int, most: int) -> None:
        self.held = 0  # the most that held
        self.broke = 0  # the fewest that did not; 0: none did
        self._first = max(1, min(first, most))
        self._most = most
        self._tries = 0

    def next(self) -> int | None:
        """None: that is it."""
        if not self.broke:
            return None if self.held >= self._most else min(self.held * 2 or self._first, self._most)
        if self.broke - self.held <= max(1, int(self.held * FINE)):
            return None
        return (self.held + self.broke) // 2

    def told(self, calls: int, *, held: bool) -> None:
        if held:
            self.held, self._tries = calls, 0
            return
        self._tries += 1
        if self._tries == TRIES:
            self.broke, self._tries = calls, 0


async def find(
    play: Play,
    asked: Sequence[Condition],
    *,
    first: int = FIRST_CALLS,
    most: int = MAX_CALLS,
    told: Told = lambda probe: None,
) -> Record:
    """The run with the most calls at which nothing of what was asked came true, with the whole search in it.

    Ends by itself: after `MAX_PROBES` runs, at `most` calls, when the tester itself is too slow, or when a run is
    stopped or broken.
    """
    search = Search(first, most)
    probes: list[Probe] = []
    best: Record | None = None
    last: Record | None = None
    why, bound = f"{MAX_PROBES} runs were made", True
    slow = 0
    for _ in range(MAX_PROBES):
        calls = search.next()
        if calls is None:
            why, bound = _reason(search, most), not search.broke
            break
        last = await play(calls)
        if last.stopped or last.troubles:
            why = last.troubles[0] if last.troubles else "it was stopped"
            break
        probe = judged(calls, last, asked)
        is_slow = too_slow(figures.summary(last.calls)) and not _refuses(last)
        if is_slow:
            probe = msgspec.structs.replace(probe, held=False, broken=[TOO_SLOW])
        probes.append(probe)
        told(probe)
        if is_slow:
            slow += 1
            if slow == TRIES:
                why = f"the tester itself was too slow for {calls}: give it more processes, or a core of its own"
                break
            continue
        slow = 0
        search.told(calls, held=probe.held)
        if probe.held:
            best = last
    record = best or last
    assert record is not None
    if last is not None:
        record.stopped, record.troubles = last.stopped, last.troubles
    record.capacity = Capacity(search.held, why, [str(one) for one in asked], probes, bound=bound)
    return record


def _reason(search: Search, most: int) -> str:
    if not search.broke:
        return f"no more than {most} were to be tried"
    return f"with {search.broke} a limit broke, {TRIES} times in a row"


def judged(calls: int, record: Record, asked: Sequence[Condition]) -> Probe:
    found = figures.metrics(at_full_load(record))
    broken = limits.broken(found, asked)
    return Probe(calls, not broken, broken, {name: round(value, 5) for name, value in found.items()})


def at_full_load(run: RunResult) -> RunResult:
    """The same run with only those measurements that were made while all calls were up. Counts are of whole calls."""
    steps = load_steps(run.calls)
    full = FULL * max(up for _, up in steps)
    since_s = next((at_s for at_s, up in steps if up >= full), 0.0)
    until_s = next((at_s for at_s, up in reversed(steps) if up >= full), 0.0)
    until_s = next((at_s for at_s, _ in steps if at_s > until_s), until_s)
    return msgspec.structs.replace(run, calls=[_within(call, since_s, until_s) for call in run.calls])


def _within(call: CallResult, since_s: float, until_s: float) -> CallResult:
    kept = [one for one in call.measures if since_s <= one.at_s <= until_s]
    return msgspec.structs.replace(call, measures=kept)


def _refuses(record: Record) -> bool:
    return any(call.refused for call in record.calls)
