"""Who may send us anything at all: looked at before a message is read. Pure; time is an argument.

SIP ports are found by scanners within minutes. A source that is neither allowed nor able to sign in gets no answer.

Datagrams carry whatever source their sender writes into them. So they are counted apart from streams, whose source is
proven, and whoever signed in lately is not banned for what comes in its name.
"""

import functools
import ipaddress
from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from media.source import IPV6_SITE_BITS, Network

LOOPBACK: Final[tuple[Network, ...]] = (ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("::1"))
MAX_PER_S: Final = 2000  # messages of one allowed address
MAX_KNOWN_PER_S: Final = 200  # of one from which somebody signed in
MAX_UNKNOWN_PER_S: Final = 20  # of one address that has to sign in
MAX_UNKNOWN_IN_ALL_PER_S: Final = 500  # by datagrams, and as many by streams
STREAM_MESSAGES: Final = 5  # that a new stream counts as: a handshake of TLS takes as long
MAX_OFFENCES: Final = 10  # in `OFFENCES_MS`: wrong passwords, and what cannot be read
OFFENCES_MS: Final = 60_000
BAN_MS: Final = 600_000
KNOWN_MS: Final = 3_600_000  # since somebody signed in there
MAX_SOURCES: Final = 10_000  # that are remembered
MAX_BANS: Final = 2 * MAX_UNKNOWN_IN_ALL_PER_S * BAN_MS // 1000 // MAX_OFFENCES  # no flood makes us forget one
READ_AGAIN: Final = 256  # addresses kept as they were read: most come with every message

Key = tuple[str, bool]  # a network, and whether by streams


class Trust(StrEnum):
    allowed = "allowed"
    unknown = "unknown"  # has to sign in
    dropped = "dropped"


class Reason(StrEnum):
    """Why something is dropped."""

    stranger = "stranger"  # it may not call, and there is nobody to sign in as
    banned = "banned"
    flood = "flood"  # too many messages, of one source or of all who have to sign in


@dataclass(slots=True)
class _Source:
    since_ms: int = 0
    count: int = 0
    offences: int = 0
    offended_ms: int = 0


class Guard:
    """One for a server."""

    def __init__(
        self,
        allow: Sequence[Network],
        *,
        sign_in: bool,
        also: Callable[[str], bool] = lambda host: False,
        expects: Callable[[str], bool] = lambda host: False,
    ) -> None:
        """`sign_in`: there are users, so that an unknown source may show who it is. `also`: our trunks' addresses.

        `expects`: whom we call. It may answer, and no more.
        """
        self.drops: Counter[Reason] = Counter()  # of messages and streams
        self.offences = 0
        self.bans = 0
        self._allow = (*LOOPBACK, *allow)
        self._sign_in = sign_in
        self._also = also
        self._expects = expects
        self._sources: OrderedDict[Key, _Source] = OrderedDict()
        self._known: OrderedDict[Key, int] = OrderedDict()  # until then
        self._banned: OrderedDict[Key, int] = OrderedDict()
        self._all = {False: _Source(), True: _Source()}  # whether by streams

    @property
    def dropped(self) -> int:
        return self.drops.total()

    def allows(self, host: str) -> bool:
        address = _address(host)
        if address is None:
            return False
        return any(address in network for network in self._allow) or self._also(str(address))

    def admits(self, host: str, now_ms: int, *, stream: bool = False) -> Trust:
        """For each message, before it is read."""
        judged = self._judge(host, now_ms, stream=stream)
        return judged if isinstance(judged, Trust) else self._drop(judged)

    def welcomes(self, host: str, now_ms: int) -> Trust:
        """For a new stream, before anything is read of it."""
        judged = self._judge(host, now_ms, stream=True, messages=STREAM_MESSAGES)
        return judged if isinstance(judged, Trust) else self._drop(judged)

    def _drop(self, reason: Reason) -> Trust:
        self.drops[reason] += 1
        return Trust.dropped

    def _shuts_out(self, host: str, key: Key, now_ms: int) -> Reason | None:
        if not (self._sign_in or self._expects(host)):
            return Reason.stranger
        return Reason.banned if _before(self._banned, key, now_ms) else None

    def _judge(self, host: str, now_ms: int, *, stream: bool, messages: int = 1) -> Trust | Reason:
        key = _key(host, stream=stream)
        if self.allows(host):
            return Trust.allowed if _counts(self._source(key), MAX_PER_S, now_ms, messages) else Reason.flood
        if _before(self._known, key, now_ms):
            return Trust.unknown if _counts(self._source(key), MAX_KNOWN_PER_S, now_ms, messages) else Reason.flood
        if (shut_out := self._shuts_out(host, key, now_ms)) is not None:
            return shut_out
        source = self._sources.get(key)
        if source is not None and not _counts(source, MAX_UNKNOWN_PER_S, now_ms, messages):
            return Reason.flood
        if not _counts(self._all[stream], MAX_UNKNOWN_IN_ALL_PER_S, now_ms, messages):
            return Reason.flood
        if source is None:
            _counts(self._source(key), MAX_UNKNOWN_PER_S, now_ms, messages)
        return Trust.unknown

    def signed_in(self, host: str, now_ms: int, *, stream: bool = False) -> None:
        """Somebody there knows a password."""
        key = _key(host, stream=stream)
        self._known[key] = now_ms + KNOWN_MS
        self._banned.pop(key, None)
        _shorten(self._known, key, MAX_SOURCES)

    def offended(self, host: str, now_ms: int, *, stream: bool = False) -> None:
        """A wrong password, or something that nobody who means well would send."""
        self.offences += 1
        key = _key(host, stream=stream)
        if self.allows(host) or _before(self._known, key, now_ms):
            return
        source = self._source(key)
        if now_ms - source.offended_ms > OFFENCES_MS:
            source.offences, source.offended_ms = 0, now_ms
        source.offences += 1
        if source.offences >= MAX_OFFENCES:
            source.offences = 0
            self._banned[key] = now_ms + BAN_MS
            _shorten(self._banned, key, MAX_BANS)
            self.bans += 1

    def _source(self, key: Key) -> _Source:
        found = self._sources.setdefault(key, _Source())
        _shorten(self._sources, key, MAX_SOURCES)
        return found


def _before(table: OrderedDict[Key, int], key: Key, now_ms: int) -> bool:
    """Whether `key` is in it, and its time is not over."""
    until_ms = table.get(key)
    return until_ms is not None and now_ms < until_ms


def _shorten(table: OrderedDict[Key, Any], newest: Key, most: int) -> None:
    table.move_to_end(newest)
    while len(table) > most:
        table.popitem(last=False)


def _counts(source: _Source, most: int, now_ms: int, messages: int) -> bool:
    if now_ms - source.since_ms >= 1000:
        source.since_ms, source.count = now_ms, 0
    source.count += messages
    return source.count <= most


@functools.lru_cache(READ_AGAIN)
def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        return address.ipv4_mapped
    return address


@functools.lru_cache(READ_AGAIN)
def _key(host: str, *, stream: bool) -> Key:
    address = _address(host)
    if isinstance(address, ipaddress.IPv6Address):
        return str(ipaddress.IPv6Network((address, IPV6_SITE_BITS), strict=False)), stream
    return str(address or host), stream
