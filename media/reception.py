"""Where all transports wait for the gateway: so many at once, so many of one address, and none for long."""

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from media.gateway import Admission, Gateway, LegRequest, Refused
from media.leg import CloseCode

ADMIT_TIMEOUT_S: Final = 10


class Reception:
    """One for a transport."""

    def __init__(self, gateway: Gateway, *, most: int, most_of_an_address: int) -> None:
        self._gateway = gateway
        self.most = most
        self.most_of_an_address = most_of_an_address
        self._waiting: Counter[str] = Counter()  # by address

    @contextmanager
    def place(self, address: str) -> Iterator[None]:
        """Among those who are not admitted yet. Raises `Refused` where there is none."""
        if self._waiting.total() >= self.most:
            raise Refused(CloseCode.busy, "too many connections are waiting")
        if self._waiting[address] >= self.most_of_an_address:
            raise Refused(CloseCode.busy, "too many connections from this address are waiting")
        self._waiting[address] += 1
        try:
            yield
        finally:
            self._waiting[address] -= 1
            if not self._waiting[address]:
                del self._waiting[address]

    def turn_away(self, request: LegRequest) -> None:
        """Before anything is made ready for it. Raises `Refused`."""
        self._gateway.turn_away(request)

    async def admit(self, request: LegRequest) -> Admission:
        """Raises `Refused`, also when it takes too long."""
        try:
            async with asyncio.timeout(ADMIT_TIMEOUT_S):
                return await self._gateway.admit(request)
        except TimeoutError:
            raise Refused(CloseCode.busy, "the server did not answer in time") from None
