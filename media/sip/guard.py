"""Who may send us anything at all: looked at before a message is read. Pure; time is an argument.

SIP ports are found by scanners within minutes. A source that is neither allowed nor able to sign in gets no answer.
"""

import ipaddress
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from media.source import Network

LOOPBACK: Final[tuple[Network, ...]] = (ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("::1"))
MAX_PER_S: Final = 2000  # messages of one allowed address
MAX_UNKNOWN_PER_S: Final = 20  # of one address that has to sign in
MAX_UNKNOWN_IN_ALL_PER_S: Final = 500
MAX_OFFENCES: Final = 10  # in `OFFENCES_MS`: wrong passwords, and what cannot be read
OFFENCES_MS: Final = 60_000
BAN_MS: Final = 600_000
MAX_SOURCES: Final = 10_000  # that are remembered


class Trust(StrEnum):
    allowed = "allowed"
    unknown = "unknown"  # has to sign in
    dropped = "dropped"


@dataclass(slots=True)
class _Source:
    since_ms: int = 0
    count: int = 0
    offences: int = 0
    offended_ms: int = 0
    banned_ms: int = 0  # until then


class Guard:
    """One for a server."""

    def __init__(
        self, allow: Sequence[Network], *, sign_in: bool, also: Callable[[str], bool] = lambda host: False
    ) -> None:
        """`sign_in`: there are users, so that an unknown source may show who it is. `also`: our trunks' addresses."""
        self.dropped = 0
        self.bans = 0
        self._allow = (*LOOPBACK, *allow)
        self._sign_in = sign_in
        self._also = also
        self._sources: OrderedDict[str, _Source] = OrderedDict()
        self._all = _Source()

    def allows(self, host: str) -> bool:
        try:
            address = ipaddress.ip_address(host.partition("%")[0])
        except ValueError:
            return False
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
            address = address.ipv4_mapped
        return any(address in network for network in self._allow) or self._also(str(address))

    def admits(self, host: str, now_ms: int) -> Trust:
        """For each message, before it is read."""
        allowed = self.allows(host)
        if not allowed and not self._sign_in:
            self.dropped += 1
            return Trust.dropped
        source = self._source(host)
        most = MAX_PER_S if allowed else MAX_UNKNOWN_PER_S
        banned = not allowed and now_ms < source.banned_ms
        if banned or not _counts(source, most, now_ms):
            self.dropped += 1
            return Trust.dropped
        if not allowed and not _counts(self._all, MAX_UNKNOWN_IN_ALL_PER_S, now_ms):
            self.dropped += 1
            return Trust.dropped
        return Trust.allowed if allowed else Trust.unknown

    def offended(self, host: str, now_ms: int) -> None:
        """A wrong password, or something that nobody who means well would send."""
        if self.allows(host):
            return
        source = self._source(host)
        if now_ms - source.offended_ms > OFFENCES_MS:
            source.offences, source.offended_ms = 0, now_ms
        source.offences += 1
        if source.offences >= MAX_OFFENCES:
            source.offences = 0
            source.banned_ms = now_ms + BAN_MS
            self.bans += 1

    def _source(self, host: str) -> _Source:
        found = self._sources.setdefault(host, _Source())
        self._sources.move_to_end(host)
        while len(self._sources) > MAX_SOURCES:
            self._sources.popitem(last=False)
        return found


def _counts(source: _Source, most: int, now_ms: int) -> bool:
    if now_ms - source.since_ms >= 1000:
        source.since_ms, source.count = now_ms, 0
    source.count += 1
    return source.count <= most
