"""May this call be placed? Where to, how many, how much. Nothing may, until somebody allows it.

Pure: the counts come from the store (`Used`), the time is an argument. Costs are whole millionths of the currency
("micros"), so that sums are exact.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from app.dialler.address import (
    MAX_TEXT_CHARS,
    Address,
    BadAddress,
    Numbering,
    parse,
    read_host,
    split_port,
)

MAX_PATTERNS = 10_000
MAX_CALL_S = 4 * 3600
SIP_PORTS = (0, 5060, 5061)
"""A host that is allowed without a port is allowed at these only."""


class Rule(StrEnum):
    malformed = "malformed"
    denied = "denied"
    not_allowed = "not-allowed"
    unnamed = "unnamed"  # emergency numbers and service codes
    ambiguous = "ambiguous"
    no_rate = "no-rate"
    spend_per_call = "spend-per-call"
    spend_per_day = "spend-per-day"
    calls_per_day = "calls-per-day"
    calls_per_destination = "calls-per-destination"
    concurrent = "concurrent-calls"
    calls_per_second = "calls-per-second"


TILL_TOMORROW = frozenset({Rule.spend_per_day, Rule.calls_per_day, Rule.calls_per_destination})
FOR_NOW = frozenset({Rule.concurrent, Rule.calls_per_second})


@dataclass(frozen=True, slots=True)
class Refusal:
    rule: Rule
    line: str  # one line for people; holds nothing of the destination


class BadRule(ValueError):
    """A setting that means nothing: better no start than a rule that is not there."""


class _Kind(StrEnum):
    everything = "*"
    domain = "domain"
    prefix = "prefix"
    exact = "exact"


@dataclass(frozen=True, slots=True)
class Pattern:
    """One line of an allow-list, a deny-list or a rate table.

    "*": everything. "@example.com", "@10.0.0.1:5070": all users there. "+49", "0900": plain numbers that begin so.
    "tel:+4930123456", "tel:112", "bob@example.com", "sip:bob@example.com": this one alone.
    """

    text: str
    kind: _Kind
    address: Address

    @property
    def weight(self) -> tuple[int, int]:
        """The heavier pattern is the more special one."""
        order = list(_Kind).index(self.kind)
        return order, len(self.address.number) if self.kind is _Kind.prefix else 0

    def allows(self, to: Address) -> bool:
        """No more than it says: a number's prefix allows no host, a host no unusual port."""
        mine = self.address
        match self.kind:
            case _Kind.everything:
                return True
            case _Kind.domain:
                return to.host == mine.host and (to.port == mine.port if mine.port else to.port in SIP_PORTS)
            case _Kind.prefix:
                return not to.host and to.number.startswith(mine.number)
            case _Kind.exact:
                return to.key == mine.key and (to.port == mine.port if mine.port else to.port in SIP_PORTS)

    def denies(self, to: Address) -> bool:
        """Anything that somebody might take for what it says, at any host and port."""
        mine = self.address
        match self.kind:
            case _Kind.everything:
                return True
            case _Kind.domain:
                return to.host == mine.host and mine.port in (0, to.port)
            case _Kind.prefix | _Kind.exact if not mine.host:
                if mine.international:
                    return any(_begins(reading, mine.number[1:], self.kind) for reading in to.readings)
                return not to.international and _begins(to.number or to.user, mine.number, self.kind)
            case _:
                return to.key == mine.key and mine.port in (0, to.port)


def _begins(reading: str, number: str, kind: _Kind) -> bool:
    return reading == number if kind is _Kind.exact else reading.startswith(number)


def read_pattern(text: str, numbering: Numbering, homes: frozenset[str] = frozenset()) -> Pattern:
    """Raises `BadRule`."""
    stripped = text.strip()
    try:
        if stripped == "*":
            return Pattern(stripped, _Kind.everything, Address("", ""))
        if not stripped.isascii() or len(stripped) > MAX_TEXT_CHARS:
            raise BadAddress("neither a number, an address, @host nor *")
        if stripped.startswith("@"):
            host, port = split_port(stripped[1:])
            return Pattern(stripped, _Kind.domain, Address("", "", host=host, port=port))
        if ":" in stripped or "@" in stripped:
            return Pattern(stripped, _Kind.exact, parse(stripped, numbering, homes))
        number = _read_prefix(stripped, numbering)
        return Pattern(stripped, _Kind.prefix, Address(number, number))
    except BadAddress as error:
        raise BadRule(f"{text[:80]!r}: {error}") from error


def _read_prefix(text: str, numbering: Numbering) -> str:
    """The beginning of a number: shorter than any number may be."""
    bare = re.sub(r"[ ().\-/]", "", text)
    if not re.fullmatch(r"\+?[0-9]*", bare) or not bare:
        raise BadAddress("neither the beginning of a number nor an address, @host or *")
    if bare.startswith(numbering.international):
        bare = "+" + bare.removeprefix(numbering.international)
    elif numbering.country and numbering.trunk and bare.startswith(numbering.trunk):
        bare = f"+{numbering.country}{bare.removeprefix(numbering.trunk)}"
    if bare.startswith("+0") or len(bare) > 16:
        raise BadAddress("no number begins so")
    return bare


class Destinations:
    """Where calls may go: what `allow` says and `deny` does not. Immutable. Raises `BadRule`."""

    def __init__(
        self,
        allow: Iterable[str] = (),
        deny: Iterable[str] = (),
        *,
        numbering: Numbering | None = None,
        homes: Iterable[str] = (),
    ) -> None:
        """`homes`: hosts of our own trunk, where a number is judged as if it stood alone."""
        self.numbering = numbering or Numbering()
        try:
            self.homes = frozenset(read_host(host) for host in homes)
        except BadAddress as error:
            raise BadRule(f"a trunk's host: {error}") from error
        self.allow = self.patterns(allow)
        self.deny = self.patterns(deny)
        self._numbers_denied = any(not p.address.host and p.kind is not _Kind.everything for p in self.deny)

    def patterns(self, texts: Iterable[str]) -> tuple[Pattern, ...]:
        found = tuple(read_pattern(text, self.numbering, self.homes) for text in texts)
        if len(found) > MAX_PATTERNS:
            raise BadRule(f"at most {MAX_PATTERNS} patterns")
        return found

    def judge(self, text: str) -> Address | Refusal:
        try:
            to = parse(text, self.numbering, self.homes)
        except BadAddress as error:
            return Refusal(Rule.malformed, str(error))
        for pattern in self.deny:
            if pattern.denies(to):
                return Refusal(Rule.denied, f"the deny-list has {pattern.text}")
        allowing = [pattern for pattern in self.allow if pattern.allows(to)]
        if not allowing:
            return Refusal(Rule.not_allowed, "no outbound calls are allowed to this destination")
        if any(pattern.kind is _Kind.exact for pattern in allowing):
            return to
        if to.unnamed:
            return Refusal(Rule.unnamed, "emergency numbers and service codes must be allowed by their own name")
        if to.ambiguous and self._numbers_denied and all(p.kind is not _Kind.prefix for p in allowing):
            return Refusal(Rule.ambiguous, "a number that may be read in two ways: write it with + and country code")
        return to


@dataclass(frozen=True, slots=True)
class Limits:
    """How many calls and how much money. Days are those that the guard is told.

    Money is limited by what calls can cost at most: each reserves `call_s` seconds at its rate.
    """

    calls_per_day: int = 0
    calls_per_destination: int = 5  # a day
    spend_per_day_micros: int | None = 0  # None: costs are not limited, and need no rates
    spend_per_call_micros: int | None = None  # None: as the day
    concurrent: int = 1
    calls_per_second: float = 1.0
    call_s: int = 600  # the longest call; who places it ends it then

    def __post_init__(self) -> None:
        counts = (self.calls_per_day, self.calls_per_destination, self.concurrent)
        money = (self.spend_per_day_micros or 0, self.spend_per_call_micros or 0)
        if min(*counts, *money) < 0 or not 0 < self.call_s <= MAX_CALL_S or not 0 < self.calls_per_second <= 1000:
            raise BadRule(f"limits are not negative, calls last 1 to {MAX_CALL_S} s, calls a second are 0 to 1000")


@dataclass(frozen=True, slots=True)
class Used:
    """What stands against the limits, at the moment of the question."""

    calls: int = 0  # today
    calls_there: int = 0  # today, to this destination
    spent_micros: int = 0  # today: settled or reserved
    live: int = 0
    last_start_s: float | None = None


@dataclass(frozen=True, slots=True)
class Quote:
    minute_micros: int
    reserve_micros: int
    call_s: int


@dataclass(frozen=True, slots=True)
class Rules:
    destinations: Destinations = field(default_factory=Destinations)
    limits: Limits = field(default_factory=Limits)
    rates: tuple[tuple[Pattern, int], ...] = ()  # micros a minute

    @classmethod
    def of(cls, destinations: Destinations, limits: Limits, rates: Mapping[str, int] | None = None) -> "Rules":
        """`rates`: pattern to micros a minute; of those that match, the longest prefix counts. Raises `BadRule`."""
        rates = rates or {}
        if any(micros < 0 for micros in rates.values()):
            raise BadRule("no rate is negative")
        patterns = destinations.patterns(rates)
        return cls(destinations, limits, tuple(zip(patterns, rates.values(), strict=True)))

    def quote(self, to: Address) -> Quote | Refusal:
        """What a call there reserves."""
        limits = self.limits
        found = [(pattern.weight, micros) for pattern, micros in self.rates if pattern.allows(to)]
        if not found and limits.spend_per_day_micros is None and limits.spend_per_call_micros is None:
            return Quote(0, 0, limits.call_s)
        if not found:
            return Refusal(Rule.no_rate, "spending is limited and no rate is known for this destination")
        micros = max(found)[1]
        reserve = cost_micros(micros, limits.call_s)
        for limit in (limits.spend_per_call_micros, limits.spend_per_day_micros):
            if limit is not None and reserve > limit:
                return Refusal(Rule.spend_per_call, "a call there of full length costs more than one call may")
        return Quote(micros, reserve, limits.call_s)

    def admit(self, quote: Quote, used: Used, now_s: float) -> Refusal | None:
        """Whether one more call stays within all limits; what holds longest is told first."""
        limits = self.limits
        if used.calls >= limits.calls_per_day:
            return Refusal(Rule.calls_per_day, "today's number of outbound calls is reached")
        if used.calls_there >= limits.calls_per_destination:
            return Refusal(Rule.calls_per_destination, "today's number of calls to this destination is reached")
        budget = limits.spend_per_day_micros
        if budget is not None and used.spent_micros + quote.reserve_micros > budget:
            return Refusal(Rule.spend_per_day, "today's budget does not cover another call of full length")
        if used.live >= limits.concurrent:
            return Refusal(Rule.concurrent, "as many outbound calls as allowed are under way")
        # A clock that was set back must not stop all calls until it has caught up.
        if used.last_start_s is not None and 0 <= now_s - used.last_start_s < 1 / limits.calls_per_second:
            return Refusal(Rule.calls_per_second, "the last outbound call began too short a time ago")
        return None


def cost_micros(minute_micros: int, seconds: float) -> int:
    """Each minute that was begun counts; a call of no length costs nothing."""
    return minute_micros * -int(-seconds // 60) if seconds > 0 else 0
