"""The journal's writer: many calls, one thread, group commit; and each call's own facade over it.

Everything but `store.commit` happens on the loop's thread, so nothing here is locked. While one commit runs, the
next gathers; its end wakes the loop once. Records are written behind; `flush` is the write-ahead barrier.
"""

import asyncio
import hashlib
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from msgspec.structs import replace

from app.core.codec import MAX_RECORD_BYTES, CallHeader, Codec, CodecError, Record
from app.core.effects import AnyEffect
from app.core.events import AnyEvent
from app.ports import Append, Begin, Finish, Journal, JournalStore, Release, Reserve, StoreError, Write, Written

GATHER_MS = 50  # that a record may wait for others, and what a crash may lose; a flush does not wait
MAX_UNWRITTEN_RECORDS = 2_000  # of one call
MAX_UNWRITTEN_BYTES = 64 * 1024 * 1024  # of all calls
RETRY_MIN_MS = 50
RETRY_MAX_MS = 1_000
CLOSE_MS = 5_000
STUCK_MS = 6_000  # that the store may take, more than it waits for a lock: then it fails, whatever becomes of it
STUCK = f"no answer for {STUCK_MS} ms"
ONCE_BYTES = 16

_log = logging.getLogger(__name__)


class Loss(StrEnum):
    """Why a call's journal cannot go on."""

    overflow = "journal-overflow"  # the store is too slow or down: too much is waiting
    too_large = "journal-record-too-large"
    stale = "lease-lost"  # another epoch holds the call: whoever this is, it is not the owner
    gap = "journal-gap"
    broken = "journal-broken"  # our own fault inside the store
    closed = "journal-closed"


class JournalFailed(StoreError):
    """One call's journal ended before its call. `str()` is safe to log."""

    def __init__(self, loss: Loss) -> None:
        super().__init__(str(loss))
        self.loss = loss


OnFailure = Callable[[str, JournalFailed], None]
"""Told once, on the loop and from nobody's call, for each call (by id) whose journal cannot go on."""


@dataclass(eq=False, slots=True)
class Lane:
    """One owner's place in the writer."""

    call: str
    epoch: int
    unwritten: int = 0
    failed: JournalFailed | None = None
    refused: Written = Written.ok  # `stale` or `gap` from the commit that was refused on


@dataclass(eq=False, slots=True)
class _Item:
    lane: Lane
    write: Record | Write | None  # None: only a barrier
    done: asyncio.Future[Written] | None = None


class Waiting(NamedTuple):
    records: int
    octets: int
    longest_s: float  # that any of it has waited


_Step = tuple[_Item, Write]  # the last item that the write carries out


class JournalWriter:
    """One per process, used on one loop. It does not own the store: close the writer first, then the store."""

    def __init__(self, store: JournalStore, on_failure: OnFailure | None = None) -> None:
        self._store = store
        self._on_failure = on_failure
        self._queue: list[_Item] = []
        self._bytes = 0
        self._records = 0
        self._since_s = 0.0  # the first in the queue waits
        self._committing_since_s = 0.0  # the first in the commit under way has waited; 0: none is
        self._committing = False
        self._alarm: asyncio.Handle | None = None
        self._watch: asyncio.Handle | None = None  # over the commit under way
        self._urgent = False
        self._retry_ms = 0  # above 0: the store fails, and this is the wait before the next try
        self._settled: asyncio.Future[None] | None = None
        self._closed = False  # nothing is taken any more
        self._over = False  # nor written
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="journal")
        self.error: StoreError | None = None
        """Why the store fails at present; for the health page."""

    @property
    def waiting(self) -> Waiting:
        """What is not durable yet."""
        since_s = self._committing_since_s or (self._since_s if self._queue else 0.0)
        return Waiting(self._records, self._bytes, time.monotonic() - since_s if since_s else 0.0)

    def begin(self, header: CallHeader, flow: bytes, key: bytes) -> Lane:
        """Take the call's lease for `header.epoch`. A refusal is learned by the next `flush`."""
        lane = Lane(header.call, header.epoch)
        self._put(_Item(lane, Begin(header, flow, key)))
        return lane

    def append(self, lane: Lane, record: Record) -> None:
        """Never blocks. What cannot be taken ends the call's journal with a named `JournalFailed`."""
        if lane.failed:
            return
        if len(record.body) > MAX_RECORD_BYTES:
            self._fail(lane, Loss.too_large)
        elif lane.unwritten >= MAX_UNWRITTEN_RECORDS or self._bytes + len(record.body) > MAX_UNWRITTEN_BYTES:
            self._fail(lane, Loss.overflow)
        else:
            lane.unwritten += 1
            self._records += 1
            self._bytes += len(record.body)
            self._put(_Item(lane, record))

    async def flush(self, lane: Lane, reserve: Reserve | None = None) -> Written:
        """Returns when all that was given before is durable; `reserve` is in the same transaction, or none.

        Raises `StoreError` where that failed or took too long: then nothing is reserved, and records go on being
        tried. Cancelling gives the reservation back.
        """
        if lane.refused is not Written.ok:
            return lane.refused
        if lane.failed:
            raise JournalFailed(lane.failed.loss)
        done: asyncio.Future[Written] = asyncio.get_running_loop().create_future()
        self._put(_Item(lane, reserve, done))
        try:
            async with asyncio.timeout(STUCK_MS / 1000):
                return await done
        except (asyncio.CancelledError, TimeoutError) as error:
            if reserve:
                self.release(lane, reserve.n)
            if isinstance(error, TimeoutError):
                raise StoreError(STUCK) from None
            raise

    def release(self, lane: Lane, n: int) -> None:
        """Give back what tool call `n` reserved."""
        self._put(_Item(lane, Release(lane.call, lane.epoch, n)))

    def finish(self, lane: Lane, cdr: bytes, recording: str = "") -> None:
        """Write the call record. It is taken even where the call's records were not."""
        self._put(_Item(lane, Finish(lane.call, lane.epoch, cdr, recording)))

    async def load(self, call: str) -> Journal:
        """Read a journal without disturbing the writing or the loop. Raises `StoreError` and `NoSuchCall`."""
        return await asyncio.to_thread(self._store.load, call)

    async def close(self) -> None:
        """Write all that waits, for at most `CLOSE_MS`; calls whose writes are lost then are told."""
        self._closed = True
        try:
            async with asyncio.timeout(CLOSE_MS / 1000):
                while self._queue or self._committing:
                    self._settled = asyncio.get_running_loop().create_future()
                    self._schedule(urgent=True)
                    await self._settled
        except TimeoutError:
            _log.error("the journal closes with %d writes undone", len(self._queue))
        finally:
            self._end()

    def _end(self) -> None:
        self._over = True
        self._thread.shutdown(wait=False)
        if self._alarm:
            self._alarm.cancel()
        left, self._queue = self._queue, []
        self._drop(left, Loss.closed)

    def _put(self, item: _Item) -> None:
        if self._closed:
            self._drop([item], Loss.closed)
        else:
            if not self._queue:
                self._since_s = time.monotonic()
            self._queue.append(item)
            self._schedule(urgent=item.done is not None)

    def _schedule(self, *, urgent: bool) -> None:
        if self._committing or self._retry_ms or (self._alarm and (self._urgent or not urgent)):
            return
        if self._alarm:
            self._alarm.cancel()
        self._urgent = urgent
        loop = asyncio.get_running_loop()
        self._alarm = loop.call_soon(self._start) if urgent else loop.call_later(GATHER_MS / 1000, self._start)

    def _start(self) -> None:
        self._alarm = None
        batch, self._queue = self._queue, []
        self._committing_since_s = self._since_s if batch else 0.0
        if batch or self.error:  # with nothing left to write, the store is asked whether it works again
            self._committing = True
            self._watch = asyncio.get_running_loop().call_later(STUCK_MS / 1000, self._fails, StoreError(STUCK))
            self._commit(batch, _steps(batch))

    def _commit(self, batch: list[_Item], steps: list[_Step]) -> None:
        loop = asyncio.get_running_loop()
        result = self._thread.submit(self._store.commit, [write for _, write in steps])
        result.add_done_callback(lambda done: loop.call_soon_threadsafe(self._committed, batch, steps, done))

    def _committed(self, batch: list[_Item], steps: list[_Step], result: Future[list[Written]]) -> None:
        self._committing = False
        if self._watch:
            self._watch.cancel()
        since_s, self._committing_since_s = self._committing_since_s, 0.0
        error = result.exception()
        if isinstance(error, StoreError):
            self._keep(batch, error)
            self._since_s = since_s or self._since_s  # the first of those that go back to the queue
        elif error:
            self._drop(batch, Loss.broken)
        else:
            if self.error:
                _log.warning("the journal's store works again")
            self.error, self._retry_ms = None, 0
            self._settle(batch, steps, result.result())
        if self._queue and not self._retry_ms:
            self._schedule(urgent=any(item.done for item in self._queue))
        if self._settled and not self._settled.done():
            self._settled.set_result(None)
        if error and not isinstance(error, StoreError):
            raise error

    def _settle(self, batch: list[_Item], steps: list[_Step], answers: list[Written]) -> None:
        own: dict[_Item, Written] = {}
        losers = []
        for (item, _), answer in zip(steps, answers, strict=True):
            own[item] = answer
            if answer in (Written.stale, Written.gap) and item.lane.refused is Written.ok:
                item.lane.refused = answer
                losers.append(item.lane)
        for item in batch:
            self._forget(item)
            if item.done and not item.done.done():
                refused = item.lane.refused
                item.done.set_result(own.get(item, Written.ok) if refused is Written.ok else refused)
        for lane in losers:
            self._fail(lane, Loss.stale if lane.refused is Written.stale else Loss.gap)

    def _fails(self, error: StoreError) -> None:
        if not self.error:
            _log.error("the journal's store fails: %s", error)
        self.error = error

    def _keep(self, batch: list[_Item], error: StoreError) -> None:
        """The store failed: waiting flushes are told, and all but their reservations is tried again later."""
        self._fails(error)
        self._retry_ms = min(max(RETRY_MIN_MS, 2 * self._retry_ms), RETRY_MAX_MS)
        for item in batch:
            if item.done and not item.done.done():
                item.done.set_exception(error)
        left = [item for item in batch if item.done is None]
        if self._over:
            self._drop(left, Loss.closed)
            return
        self._queue[:0] = left
        self._alarm = asyncio.get_running_loop().call_later(self._retry_ms / 1000, self._start)

    def _drop(self, items: list[_Item], loss: Loss) -> None:
        for item in items:
            self._forget(item)
        for item in items:
            self._fail(item.lane, loss)
            if item.done and not item.done.done():
                item.done.set_exception(JournalFailed(loss))

    def _forget(self, item: _Item) -> None:
        if isinstance(item.write, Record):
            item.lane.unwritten -= 1
            self._records -= 1
            self._bytes -= len(item.write.body)

    def _fail(self, lane: Lane, loss: Loss) -> None:
        if lane.failed is None:
            lane.failed = JournalFailed(loss)
            _log.error("call %s: %s", lane.call, loss)
            if self._on_failure:
                asyncio.get_running_loop().call_soon(self._on_failure, lane.call, lane.failed)


def _steps(batch: Sequence[_Item]) -> list[_Step]:
    """The store's writes for a batch: neighbouring records of a call in one `Append`, each call's order kept."""
    steps: list[_Step] = []
    records: dict[Lane, list[tuple[_Item, Record]]] = {}

    def append(lane: Lane) -> None:
        if gathered := records.pop(lane, None):
            write = Append(lane.call, lane.epoch, tuple(record for _, record in gathered))
            steps.append((gathered[-1][0], write))

    for item in batch:
        if isinstance(item.write, Record):
            records.setdefault(item.lane, []).append((item, item.write))
        elif item.write is not None:
            append(item.lane)
            steps.append((item, item.write))
    for lane in list(records):
        append(lane)
    return steps


class CallJournal:
    """One call's journal: encodes, numbers and hands on. Used by the call's actor and its tool jobs alone."""

    def __init__(self, writer: JournalWriter, header: CallHeader, flow: bytes, key: bytes) -> None:
        """A new call; `flow` is the resolved flow's JSON, `key` 32 secret random bytes."""
        self._writer = writer
        self._codec = Codec(key, header)
        self._lane = writer.begin(header, flow, key)
        self.header = header
        self.seq = 0
        """Of the last record written."""

    @classmethod
    def resume(cls, writer: JournalWriter, journal: Journal) -> "tuple[CallJournal, list[tuple[Record, AnyEvent]]]":
        """Take over a call with the next epoch: its journal, to go on with, and all that it holds.

        The lease is ours when `flush` answers `ok`. Raises `CodecError` for a journal that cannot be read.
        """
        header = replace(journal.row.header, epoch=journal.row.header.epoch + 1)
        codec = _codec(journal, header)
        past = list(read(journal, codec))
        own = cls(writer, header, journal.flow, journal.key)
        own._codec = codec  # which knows the chain so far
        own.seq = len(past)
        return own, past

    def write(self, ms: int, event: AnyEvent, effects: Sequence[AnyEffect], sealed: bool) -> int:
        """Record what happened and what was ordered for it; returns its `seq`. Never blocks, raises nothing."""
        self.seq += 1
        self._writer.append(self._lane, self._codec.encode(self.seq, ms, event, effects, sealed=sealed))
        return self.seq

    async def flush(self, n: int = 0, once: str = "") -> Written:
        """The write-ahead barrier: all written so far is durable and, if asked, `once` is reserved for tool call `n`.

        Raises `StoreError`: then the tool must not start, and nothing is reserved for it.
        """
        reserve = Reserve(self._lane.call, self._lane.epoch, n, kept_once(once)) if once else None
        return await self._writer.flush(self._lane, reserve)

    async def stored(self) -> Journal:
        """This call's journal with all that was written so far. Raises `StoreError`."""
        written = await self.flush()
        if written is not Written.ok:
            raise JournalFailed(Loss.stale if written is Written.stale else Loss.gap)
        return await self._writer.load(self.header.call)

    def release(self, n: int) -> None:
        """Tool call `n` definitely has no effect: its `once` key is free again."""
        self._writer.release(self._lane, n)

    def finish(self, cdr: bytes, recording: str = "") -> None:
        """Write the call record (JSON) and the recording's path below the data folder. Records may still follow."""
        self._writer.finish(self._lane, cdr, recording)

    def lease_held(self) -> bool:
        """False from the commit on that told us of another owner, or when the journal could not go on."""
        return self._lane.failed is None


def kept_once(once: str) -> str:
    """What the store gets of a `once` key: it may hold a sensitive value, and it outlives the call and its key."""
    return hashlib.blake2b(once.encode(), digest_size=ONCE_BYTES).hexdigest()


def read(journal: Journal, codec: Codec | None = None) -> Iterator[tuple[Record, AnyEvent]]:
    """A journal's records with their events. Raises `CodecError` at the first that is missing, changed or unreadable.

    A codec that is given knows the chain afterwards and can go on with it.
    """
    codec = codec or _codec(journal, journal.row.header)
    for seq, record in enumerate(journal.records, 1):
        if record.seq != seq:
            raise CodecError(f"record {seq}: missing")
        yield record, codec.decode(record)
    if len(journal.records) != journal.row.records:
        raise CodecError(f"record {len(journal.records) + 1}: missing")


def _codec(journal: Journal, header: CallHeader) -> Codec:
    if not journal.key:
        raise CodecError(f"call {header.call}: {'it was purged, ' if journal.row.purged else ''}its key is deleted")
    return Codec(journal.key, header)
