"""One-use tokens: a page that is signed in takes one for each leg, so that no lasting secret goes with the audio."""

import hashlib
import secrets
import time
from collections import Counter, OrderedDict
from collections.abc import Callable
from typing import Final, NamedTuple

from app.api.access import Identity

TICKET_S: Final = 60
MAX_TICKETS: Final = 10_000  # that were neither used nor ended
MAX_TICKETS_PER_ADDRESS: Final = 30


class TooManyTickets(Exception):
    """This address, or everyone together, has too many that are not used."""


class _Ticket(NamedTuple):
    identity: Identity
    address: str
    ends_s: float


class Tickets:
    """Known by their hashes alone, in memory: they end with the process."""

    def __init__(self, *, monotonic_s: Callable[[], float] = time.monotonic) -> None:
        self._monotonic_s = monotonic_s
        self._open: OrderedDict[bytes, _Ticket] = OrderedDict()  # the oldest first
        self._by_address: Counter[str] = Counter()

    def mint(self, identity: Identity, address: str) -> str:
        """For `identity`, asked for from `address`. Raises `TooManyTickets`."""
        self._forget_ended()
        if len(self._open) >= MAX_TICKETS or self._by_address[address] >= MAX_TICKETS_PER_ADDRESS:
            raise TooManyTickets
        token = secrets.token_urlsafe(32)
        self._open[_digest(token)] = _Ticket(identity, address, self._monotonic_s() + TICKET_S)
        self._by_address[address] += 1
        return token

    def redeem(self, token: str) -> Identity | None:
        """Whose it is, once; None when it is none, or was used, or has ended."""
        self._forget_ended()
        ticket = self._open.pop(_digest(token), None) if token else None
        if ticket is None:
            return None
        self._left(ticket.address)
        return ticket.identity

    def _forget_ended(self) -> None:
        now_s = self._monotonic_s()
        while self._open and next(iter(self._open.values())).ends_s <= now_s:
            _, ticket = self._open.popitem(last=False)
            self._left(ticket.address)

    def _left(self, address: str) -> None:
        self._by_address[address] -= 1
        if not self._by_address[address]:
            del self._by_address[address]


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "replace")).digest()
