"""The one door for outbound calls: whoever places one, for whatever reason, asks here first and settles after."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol
from zoneinfo import ZoneInfo

from app.dialler.address import Address
from app.dialler.hours import day_of, next_day_s
from app.dialler.outcome import Outcome, Placed
from app.dialler.rules import FOR_NOW, TILL_TOMORROW, Quote, Refusal, Rules, Used, cost_micros

WAIT_S = 5.0
"""After which a call may be tried again that was one too many at its moment."""

KEEP_S = 2 * 86_400
"""Whom we called is forgotten after that: no limit asks for it any more."""


class Ledger(Protocol):
    """Each day's counts and spending, on disk once a method returns. All raise `StoreError`. For any thread."""

    def reserve(
        self, day: str, destination: str, micros: int, now_s: float, admit: Callable[[Used], Refusal | None], /
    ) -> int | Refusal:
        """The call's number, or what `admit` has against it. Nobody else reserves between question and entry."""
        ...

    def settle(self, call: int, micros: int | None, /) -> None:
        """What it cost; None: what was reserved."""
        ...

    def forget_days(self, before_day: str, /) -> int: ...


@dataclass(frozen=True, slots=True)
class Permit:
    """One call may be placed: to `to.dial`, of at most `quote.call_s` seconds; then `Guard.settle` it."""

    call: int
    to: Address
    quote: Quote


@dataclass(frozen=True, slots=True)
class Refused:
    refusal: Refusal
    until_s: float | None = None  # None: this stays so

    @property
    def placed(self) -> Placed:
        """What a list is told: a row that is held back keeps its turn."""
        return Placed(Outcome.refused, self.until_s)


class Guard:
    """Sync: each method is a few milliseconds of SQLite; call them in a thread, from as many as you like."""

    def __init__(self, rules: Rules, store: Ledger, zone: ZoneInfo) -> None:
        """`zone`: where the days of the limits begin and end."""
        self._rules = rules
        self._store = store
        self._zone = zone
        self._day = ""
        self._unsettled: dict[int, int | None] = {}  # calls that are over, and what they cost

    def admit(self, to: str, now_s: float) -> Permit | Refused:
        """Count and reserve one call now. `now_s`: seconds since 1970. Raises `StoreError`: then place no call."""
        address = self._rules.destinations.judge(to)
        if isinstance(address, Refusal):
            return Refused(address)
        quote = self._rules.quote(address)
        if isinstance(quote, Refusal):
            return Refused(quote)

        def judge(used: Used) -> Refusal | None:
            return self._rules.admit(quote, used, now_s)

        day = day_of(now_s, self._zone)
        if day != self._day:
            self._store.forget_days(day_of(now_s - KEEP_S, self._zone))
            self._day = day
        self._settle()  # what is over must not count against those that come
        call = self._store.reserve(day, address.key, quote.reserve_micros, now_s, judge)
        if isinstance(call, int):
            return Permit(call, address, quote)
        if call.rule in TILL_TOMORROW:
            return Refused(call, next_day_s(now_s, self._zone))
        return Refused(call, now_s + WAIT_S if call.rule in FOR_NOW else None)

    def settle(self, permit: Permit, talked_s: float | None) -> None:
        """The call is over. `talked_s` from its answer on, 0 without one; None if nobody knows: it costs the most.

        Where it raises `StoreError`, it is done by the next that the store takes.
        """
        cost = None if talked_s is None else cost_micros(permit.quote.minute_micros, talked_s)
        self._unsettled[permit.call] = cost
        self._settle()

    def _settle(self) -> None:
        """Several threads may do the same at once: settling twice changes nothing."""
        for call, cost in list(self._unsettled.items()):
            self._store.settle(call, cost)
            self._unsettled.pop(call, None)
