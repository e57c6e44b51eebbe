"""Dials a list: the plan decides, the store remembers, `place` places."""

import asyncio
import time
from asyncio import Event, Queue, TaskGroup
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Protocol, TypeVar, assert_never

from app.dialler import plan
from app.dialler.outcome import Outcome, Placed, Progress
from app.dialler.plan import Begun, Dial, Done, Ended, Options, Plan, Save, Stopping, Ticked
from app.dialler.rows import Row
from app.ports import StoreError

MAX_WAIT_S = 60.0
"""The longest sleep: the wall clock may be set while we wait."""

T = TypeVar("T")

Place = Callable[[Dial], Awaitable[Placed]]
"""Places one call and returns when it is over. What it raises is a fault of ours and ends the whole list; cancelling
it ends its call."""


class Lists(Protocol):
    """How far each list is, on disk once a method returns. All may block, and raise `StoreError`. For any thread."""

    def take(self, name: str, /) -> int:
        """From now on it is ours, under this epoch."""
        ...

    def progress(self, name: str, /) -> dict[str, Progress]: ...

    def put(self, name: str, epoch: int, rows: dict[str, Progress], /) -> bool:
        """All of them, or none where somebody else took the list."""
        ...


class Offload(Protocol):
    def __call__(self, work: Callable[[], T], /) -> Awaitable[T]:
        """Do it where it may block."""
        ...


class ListTaken(Exception):
    """Somebody else dials this list now."""


@dataclass(frozen=True, slots=True)
class Summary:
    finished: bool  # every row is done; otherwise it was stopped before
    left: int
    outcomes: Counter[Outcome]  # the last one of each row that has one


class ListRun:
    """One list, dialled once: `go` goes on where it was, until all rows are done or `stop` is set."""

    def __init__(
        self,
        name: str,
        rows: Iterable[Row],
        options: Options,
        store: Lists,
        place: Place,
        *,
        stop: Event | None = None,
        wall_s: Callable[[], float] = time.time,
        offload: Offload = asyncio.to_thread,
    ) -> None:
        self.plan = Plan(rows, options)
        self._name = name
        self._store = store
        self._place = place
        self._stop = stop or Event()
        self._wall_s = wall_s
        self._offload = offload
        self._epoch = 0
        self._mailbox: Queue[plan.Event] = Queue()  # one entry for each call under way, and one to stop
        self._failure: ListTaken | StoreError | None = None

    async def go(self) -> Summary:
        """After `stop` the calls under way are waited for. Cancelling ends them: their outcome is unknown then.

        Raises `ListTaken` and `StoreError`, once the calls under way are over; those have not been saved.
        """
        self._epoch = await self._offload(partial(self._store.take, self._name))
        known = await self._offload(partial(self._store.progress, self._name))
        async with TaskGroup() as tasks:
            watching = tasks.create_task(self._watch())
            done = await self._carry_on(tasks, Begun(known))
            watching.cancel()
        if self._failure is not None:
            raise self._failure
        return Summary(done.finished, self.plan.left, self.plan.outcomes())

    async def _carry_on(self, tasks: TaskGroup, event: plan.Event) -> Done:
        while True:
            for order in self.plan.handle(event, self._wall_s()):
                match order:
                    case Save():
                        await self._save(order)
                    case Dial() if self._failure is not None:
                        # It was not written down, so it does not happen.
                        self._mailbox.put_nowait(Ended(order.row.key, Placed(Outcome.refused, self._wall_s())))
                    case Dial():
                        tasks.create_task(self._call(order))
                    case Done():
                        return order
                    case _:
                        assert_never(order)
            event = await self._next()

    async def _next(self) -> plan.Event:
        deadline_s = self.plan.deadline_s
        wait_s = MAX_WAIT_S if deadline_s is None else min(max(deadline_s - self._wall_s(), 0.0), MAX_WAIT_S)
        try:
            async with asyncio.timeout(wait_s):
                return await self._mailbox.get()
        except TimeoutError:
            return Ticked()

    async def _save(self, order: Save) -> None:
        try:
            if await self._offload(partial(self._store.put, self._name, self._epoch, order.rows)):
                return
            failure: ListTaken | StoreError = ListTaken(f"{self._name}: dialled by somebody else")
        except StoreError as error:
            failure = error
        if self._failure is None:
            self._failure = failure
            self._mailbox.put_nowait(Stopping())

    async def _call(self, dial: Dial) -> None:
        self._mailbox.put_nowait(Ended(dial.row.key, await self._place(dial)))

    async def _watch(self) -> None:
        await self._stop.wait()
        self._mailbox.put_nowait(Stopping())
