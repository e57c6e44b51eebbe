"""Reads the calls on record for the console, in a thread of its own, so that neither loop nor journal waits for it."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Final, TypeVar

from msgspec import Struct

from app.core import cdr
from app.core.cdr import Cdr, CdrError
from app.ports import CallRow, Journal, JournalStore, NoSuchCall
from app.runtime.board import Row, past_row
from app.runtime.figures import FlowFigures, figures
from app.runtime.past import Past
from flows.model import Flow

T = TypeVar("T")

MAX_KEPT_CALLS: Final = 16
"""Told calls that are kept; one of an hour takes a few megabytes."""

MAX_WAITING: Final = 64
"""Requests that wait for the thread."""

PAGE_ROWS: Final = 500
MAX_SCANNED_ROWS: Final = 20_000
"""How far back a filtered page looks for calls that fit."""

MAX_COUNTED_CALLS: Final = 5_000
"""Of each flow, the newest ones."""


NO_RECORDS: Final = 1 << 62


class Busy(Exception):
    """Too many requests wait already."""


class Wanted(Struct, frozen=True):
    """Which calls a page lists."""

    flow: str = ""
    outcome: str = ""
    trouble: bool = False

    def fits(self, row: Row) -> bool:
        return self.outcome in ("", row.outcome) and (row.trouble > 0 or not self.trouble)


class Archive:
    """On one loop. It does not own the store: close the archive first."""

    def __init__(self, store: JournalStore) -> None:
        self._store = store
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="archive")
        self._waiting = 0
        self._kept: OrderedDict[str, Past] = OrderedDict()  # the thread's alone; last used last

    async def read(self, call: str, job: Callable[[Past], T]) -> T:
        """What `job` makes of the call as it is on record now; it runs in the thread.

        Raises `NoSuchCall`, `StoreError` and `Busy`.
        """
        return await self._do(lambda: job(self._past(call)))

    async def row(self, call: str) -> CallRow:
        """Without its records. Raises `NoSuchCall`, `StoreError` and `Busy`."""
        return await self._do(lambda: self._load(call, NO_RECORDS).row)

    async def page(
        self, limit: int, before: str, wanted: Wanted, alive: Callable[[str], Row | None]
    ) -> tuple[list[Row], bool]:
        """Rows, newest first, and whether there may be older ones; `alive` gives the row of a live call, on the loop.

        Raises `StoreError` and `Busy`.
        """
        found: list[Row] = []
        for _ in range(MAX_SCANNED_ROWS // PAGE_ROWS):
            size = PAGE_ROWS if wanted.outcome or wanted.trouble else limit + 1
            kept = await self._do(partial(self._rows, size, wanted.flow, before))
            for one in kept:
                row = (alive(one.call) if one.state == "died" else None) or one
                if wanted.fits(row):
                    found.append(row)
                if len(found) > limit:
                    return found[:limit], True
            if len(kept) < size:
                return found, False
            before = kept[-1].call
        return found, True

    async def figures(self, flows: Mapping[str, Flow]) -> list[FlowFigures]:
        """Raises `StoreError` and `Busy`."""
        return await self._do(lambda: [figures(flow, self._records(flow.name)) for flow in flows.values()])

    def close(self) -> None:
        self._thread.shutdown(wait=True, cancel_futures=True)

    async def _do(self, job: Callable[[], T]) -> T:
        if self._waiting >= MAX_WAITING:
            raise Busy("too many requests are waiting")
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, job)
        finally:
            self._waiting -= 1

    # In the thread

    def _rows(self, limit: int, flow: str, before: str) -> list[Row]:
        return [past_row(row) for row in self._store.calls(limit, flow, before)]

    def _records(self, flow: str) -> list[Cdr]:
        return [record for row in self._store.calls(MAX_COUNTED_CALLS, flow) if (record := _record(row)) is not None]

    def _past(self, call: str) -> Past:
        past = self._kept.get(call)
        journal = self._load(call, past.seq if past is not None else 0)
        if past is None or journal.row.purged:
            past = Past(journal)
        self._kept[call] = past
        self._kept.move_to_end(call)
        past.extend(journal)
        while len(self._kept) > MAX_KEPT_CALLS:
            self._kept.popitem(last=False)
        return past

    def _load(self, call: str, after: int) -> Journal:
        journal = self._store.load(call, after)
        if journal.row.header.call != call:
            raise NoSuchCall(f"no call {call!r}")  # it only begins so
        return journal


def _record(row: CallRow) -> Cdr | None:
    with suppress(CdrError):
        return cdr.read(row.cdr) if row.cdr is not None else None
    return None
