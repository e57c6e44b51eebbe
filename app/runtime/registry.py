"""The process's live calls: who may come in, which call is which, and how they all end."""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable

from app.core.events import DRAIN, HangupOrdered
from app.runtime.actor import CallActor
from app.runtime.capacity import Capacity

log = logging.getLogger(__name__)

OVERLOAD = "overload"
"""The rule of a refusal that another server may not have to make."""


class Full(Exception):
    """No call more can be taken; the reason may be told to the caller. `rule` is a word for it."""

    def __init__(self, rule: str, reason: str) -> None:
        super().__init__(reason)
        self.rule = rule


class Registry:
    """Owns every call's task. `run` must be running before calls are added; it returns when `drain` is through."""

    def __init__(self, *, max_calls: int, max_calls_per_address: int, capacity: Capacity | None = None) -> None:
        self.max_calls = max_calls
        self.max_calls_per_address = max_calls_per_address
        self.capacity = capacity or Capacity()
        self.draining = False
        self.ended = 0  # calls, so far
        self.over: Callable[[CallActor], None] = lambda actor: None  # told of each call that has ended
        self._calls: dict[str, CallActor] = {}
        self._addresses: Counter[str] = Counter()
        self._resume: dict[str, str] = {}
        self._group: asyncio.TaskGroup | None = None
        self._changed = asyncio.Event()
        self._over = asyncio.Event()

    def __len__(self) -> int:
        return len(self._calls)

    def __getitem__(self, call: str) -> CallActor:
        return self._calls[call]

    def get(self, call: str) -> CallActor | None:
        return self._calls.get(call)

    def calls(self) -> list[CallActor]:
        return list(self._calls.values())

    @property
    def admits(self) -> bool:
        """Whether one more call can be taken, from an address that has few."""
        return not self.draining and len(self._calls) < self.max_calls and self.capacity.admits()

    def check(self, address: str) -> None:
        """Raises `Full` where one more call from this address cannot be taken."""
        if self.draining:
            raise Full("draining", "the server is about to stop")
        if len(self._calls) >= self.max_calls:
            raise Full("full", "all lines are busy")
        if self._addresses[address] >= self.max_calls_per_address:
            raise Full("address", "too many calls from this address")
        if not self.capacity.admits():
            raise Full(OVERLOAD, "the server has all the calls that it can bear")

    def start(self, actor: CallActor, address: str, ended: Callable[[CallActor], None] | None = None) -> None:
        """Admit a call and run it. Raises `Full`."""
        self.check(address)
        assert self._group is not None, "the registry is not running"
        self._calls[actor.call] = actor
        self._addresses[address] += 1
        self.capacity.admitted()
        self._group.create_task(self._run(actor, address, ended))

    # Resuming

    def bind(self, token: str, call: str) -> None:
        """A lost leg of this call may come back with this token; it takes the place of the call's earlier ones."""
        self._unbind(call)
        self._resume[token] = call

    def _unbind(self, call: str) -> None:
        for token in [token for token, bound in self._resume.items() if bound == call]:
            del self._resume[token]

    def knows(self, token: str) -> bool:
        """Whether a live call is bound to this token."""
        return token in self._resume

    def resumable(self, token: str) -> CallActor | None:
        """The live call that this token names."""
        return self._calls.get(self._resume.get(token, ""))

    # The whole

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            self._group = group
            await self._over.wait()

    async def drain(self, timeout_s: float) -> None:
        """Admit none, let live calls finish, and after the timeout order the rest to end."""
        self.draining = True
        try:
            async with asyncio.timeout(timeout_s):
                await self._empty()
        except TimeoutError:
            for actor in self.calls():
                actor.post(HangupOrdered(DRAIN))
            await self._empty()
        self._over.set()

    async def _empty(self) -> None:
        while self._calls:
            self._changed.clear()
            await self._changed.wait()

    async def _run(self, actor: CallActor, address: str, ended: Callable[[CallActor], None] | None) -> None:
        try:
            await actor.run()
            self._unbind(actor.call)
            await actor.recorded()
        except Exception:  # a fault of ours in one call is never another call's
            log.exception("call %s: ended by an internal error", actor.call)
        finally:
            del self._calls[actor.call]
            self.ended += 1
            self._addresses[address] -= 1
            if not self._addresses[address]:
                del self._addresses[address]
            self._unbind(actor.call)
            self._changed.set()
            self.over(actor)
            if ended is not None:
                ended(actor)
