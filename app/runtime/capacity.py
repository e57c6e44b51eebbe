"""Whether this process bears one more call: by what the live ones cost it now, and not by their number.

Sans-IO: it is told of each tick of the media's clock, in plain numbers, and has no time of its own.
"""

from collections import deque
from typing import Final

WINDOW_MS: Final = 2000  # that is looked back: what is measured is the mean of it
REOPEN: Final = 0.95  # of the load at which it closed, before it opens again: calls that end make room for several
REOPEN_LAG: Final = 0.5
FEW_CALLS: Final = 5  # fewer do not tell what a call costs: the process's own work is most of the load
FIRST_COST: Final = 0.01  # of a core, what a call is taken to cost until then


class Capacity:
    """`ticked` at each tick, `admitted` for each new call; `admits` in between.

    A call that has just come does not show in the load yet, so it counts as what the others cost on average. That
    bounds how many may come in a second, the more the nearer the limit is.
    """

    def __init__(self, *, max_load: float = 0.0, max_lag_ms: float = 0.0) -> None:
        """`max_load`: of one core. `max_lag_ms`: how late ticks may begin on average. 0: no such limit."""
        self.load = 0.0  # of one core
        self.lag_ms = 0.0  # how late ticks began, on average
        self._max_load = max_load
        self._max_lag_ms = max_lag_ms
        self._closed = False
        self._ticks: deque[tuple[float, float, float, int]] = deque()  # when, CPU until then, lag, live calls
        self._lags_ms = 0.0  # their sums
        self._calls = 0
        self._live = 0
        self._fresh_ms: deque[float] = deque()  # calls that came within the window
        self._fresh_sum_ms = 0.0

    def ticked(self, now_ms: float, cpu_ms: float, lag_ms: float, calls: int) -> None:
        """`cpu_ms`: what the process has used so far. `lag_ms`: how late the tick began. `calls`: that live."""
        ticks, fresh_ms = self._ticks, self._fresh_ms
        ticks.append((now_ms, cpu_ms, lag_ms, calls))
        self._lags_ms += lag_ms
        self._calls += calls
        self._live = calls
        since_ms = now_ms - WINDOW_MS
        while ticks[0][0] < since_ms:
            _, _, gone_ms, gone = ticks.popleft()
            self._lags_ms -= gone_ms
            self._calls -= gone
        while fresh_ms and fresh_ms[0] < since_ms:
            self._fresh_sum_ms -= fresh_ms.popleft()
        self.lag_ms = self._lags_ms / len(ticks)
        first_ms, first_cpu_ms, *_ = ticks[0]
        if now_ms - first_ms >= WINDOW_MS / 2:  # of less, one burst would be all of it
            self.load = (cpu_ms - first_cpu_ms) / (now_ms - first_ms)
        self._closed = self._is_over(REOPEN, REOPEN_LAG) if self._closed else self._is_over(1, 1)

    def admitted(self) -> None:
        """A call came, whether or not it was asked for."""
        self._live += 1
        if self._ticks:
            now_ms = self._ticks[-1][0]
            self._fresh_ms.append(now_ms)
            self._fresh_sum_ms += now_ms

    def admits(self) -> bool:
        """Whether one more call harms none. Where there is none to be harmed, it does not."""
        if not self._ticks or not self._live:
            return True
        if self._closed:
            return False
        return not self._max_load or self.load + (self._unseen() + 1) * self._cost() <= self._max_load

    def _is_over(self, load_share: float, lag_share: float) -> bool:
        busy = self._max_load and self.load >= load_share * self._max_load
        late = self._max_lag_ms and self.lag_ms >= lag_share * self._max_lag_ms
        return bool(busy or late)

    def _cost(self) -> float:
        """Of one call, as a share of a core."""
        calls = self._calls / len(self._ticks)
        return self.load / calls if calls >= FEW_CALLS else FIRST_COST

    def _unseen(self) -> float:
        """Calls that came within the window, each by the part of it in which it was not there."""
        now_ms = self._ticks[-1][0]
        age_ms = len(self._fresh_ms) * now_ms - self._fresh_sum_ms
        return len(self._fresh_ms) - age_ms / WINDOW_MS
