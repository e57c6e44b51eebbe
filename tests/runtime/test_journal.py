"""The journal's writer: group commit, the write-ahead barrier, and what happens when the store does not work."""

import asyncio
import contextlib
import subprocess
import sys
import textwrap
import threading
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from app.core.codec import CORE_VERSION, MAX_RECORD_BYTES, CallHeader, CodecError, digest
from app.core.effects import EndCall
from app.core.events import AnyEvent, Digit, TextReceived, Tick
from app.ports import Finish, Reserve, StoreError, Write, Written
from app.runtime import journal as module
from app.runtime.journal import CallJournal, JournalFailed, JournalWriter, Loss, kept_once, read
from app.store.memory import MemoryStore
from app.store.sqlite import SqliteStore
from tests.support.inline import InlineJournalWriter

KEY = bytes(range(32))
WAIT_S = 20


class Store(MemoryStore):
    """A memory store that can be held back, can fail, and counts."""

    def __init__(self) -> None:
        super().__init__()
        self.open = threading.Event()
        self.open.set()
        self.fault: BaseException | None = None
        self.commits: list[list[Write]] = []

    def commit(self, writes: Sequence[Write]) -> list[Written]:
        assert self.open.wait(WAIT_S)
        self.commits.append(list(writes))
        if self.fault:
            raise self.fault
        return super().commit(writes)


class Desk:
    """A writer with its store and what it told about failures."""

    def __init__(self, kind: type[JournalWriter]) -> None:
        self.store = Store()
        self.failures: list[tuple[str, Loss]] = []
        self.writer = kind(self.store, lambda call, error: self.failures.append((call, error.loss)))

    def call(self, name: str = "c1", epoch: int = 1) -> CallJournal:
        header = CallHeader(name, "f", "hash", CORE_VERSION, epoch, "2030-01-01T00:00:00.000Z")
        return CallJournal(self.writer, header, b"{}", KEY)

    async def until(self, condition: Any) -> None:
        async with asyncio.timeout(WAIT_S):
            while not condition():  # noqa: ASYNC110 - what is waited for happens in another thread
                await asyncio.sleep(0.002)


@pytest.fixture(params=[JournalWriter, InlineJournalWriter])
async def desk(request: pytest.FixtureRequest) -> AsyncIterator[Desk]:
    """Both writers."""
    made = Desk(request.param)
    yield made
    made.store.open.set()
    made.store.fault = None
    await made.writer.close()


@pytest.fixture
async def threaded() -> AsyncIterator[Desk]:
    made = Desk(JournalWriter)
    yield made
    made.store.open.set()
    made.store.fault = None
    await made.writer.close()


def events(desk: Desk, call: str = "c1") -> list[AnyEvent]:
    return [event for _, event in read(desk.store.load(call))]


async def test_after_a_flush_everything_before_it_is_in_the_store(desk: Desk) -> None:
    call = desk.call()
    effects = [EndCall("done", "booked")]
    assert [call.write(10 * i, Digit(str(i)), effects, i == 2) for i in range(1, 4)] == [1, 2, 3]
    assert call.seq == 3
    assert await call.flush() is Written.ok
    journal = desk.store.load("c1")
    assert [event for _, event in read(journal)] == [Digit("1"), Digit("2"), Digit("3")]
    assert [(r.seq, r.ms, r.sealed, r.epoch) for r in journal.records] == [
        (1, 10, False, 1),
        (2, 20, True, 1),
        (3, 30, False, 1),
    ]
    assert all(record.digest == digest(effects, KEY) for record in journal.records)
    assert (journal.flow, journal.key) == (b"{}", KEY)


async def test_records_are_written_without_a_flush(desk: Desk) -> None:
    call = desk.call()
    call.write(0, Tick(), [], False)
    call.finish(b"{}", "recordings/c1.wav")
    await desk.until(lambda: desk.store.epoch("c1") and desk.store.load("c1").row.cdr)
    row = desk.store.load("c1").row
    assert (row.records, row.cdr, row.recording) == (1, b"{}", "recordings/c1.wav")


async def test_a_reservation_comes_with_its_records_or_conflicts_and_leaves_them(desk: Desk) -> None:
    one, two = desk.call("c1"), desk.call("c2")
    for call in (one, two):
        call.write(0, Tick(), [], False)
    assert await one.flush(4, "order-17") is Written.ok
    assert await one.flush(4, "order-17") is Written.ok
    assert await two.flush(1, "order-17") is Written.conflict
    assert desk.store.load("c2").row.records == 1
    assert two.lease_held(), "a conflict is an answer, not a failure"
    one.release(4)
    await one.flush()
    assert await two.flush(2, "order-17") is Written.ok
    assert desk.failures == []


async def test_a_record_and_its_reservation_are_one_commit(desk: Desk) -> None:
    call = desk.call()
    await call.flush()
    desk.store.commits.clear()
    call.write(0, Tick(), [], False)
    await call.flush(1, "k")
    kinds = [[type(write).__name__ for write in commit] for commit in desk.store.commits]
    if isinstance(desk.writer, InlineJournalWriter):
        assert kinds == [["Append"], ["Reserve"]]
    else:
        assert kinds == [["Append", "Reserve"]]


async def test_another_owner_makes_the_old_one_stale(desk: Desk) -> None:
    old = desk.call(epoch=1)
    assert await old.flush() is Written.ok
    new = desk.call(epoch=2)
    assert await new.flush() is Written.ok
    assert old.lease_held(), "nobody has told the old owner yet"
    old.write(0, Tick(), [], False)
    assert await old.flush(1, "k") is Written.stale
    assert await old.flush(1, "k") is Written.stale
    old.write(0, Tick(), [], False)
    assert not old.lease_held()
    assert await new.flush(1, "k") is Written.ok
    assert new.lease_held()
    await desk.until(lambda: desk.failures)
    assert desk.failures == [("c1", Loss.stale)]


async def test_a_lease_that_is_not_granted_is_told_by_the_first_flush(desk: Desk) -> None:
    assert await desk.call(epoch=2).flush() is Written.ok
    assert await desk.call(epoch=2).flush() is Written.stale


async def test_a_gap_ends_the_calls_journal_but_not_its_call_record(desk: Desk) -> None:
    call = desk.call()
    call.write(0, Tick(), [], False)
    call.seq += 1
    call.write(0, Tick(), [], False)
    assert await call.flush(1, "k") is Written.gap
    call.finish(b"{}")
    assert await desk.call("c2").flush(1, "k") is Written.ok, "nothing was reserved"
    assert desk.store.load("c1").row.cdr == b"{}"
    await desk.until(lambda: desk.failures)
    assert desk.failures == [("c1", Loss.gap)]


async def test_a_record_over_the_limit_ends_the_calls_journal(desk: Desk) -> None:
    call, other = desk.call(), desk.call("c2")
    call.write(0, Tick(), [], False)
    call.write(0, TextReceived("x" * MAX_RECORD_BYTES), [], False)
    call.write(0, Tick(), [], False)
    assert not call.lease_held()
    with pytest.raises(JournalFailed, match="journal-record-too-large"):
        await call.flush()
    call.finish(b"{}")
    other.write(0, Tick(), [], False)
    assert await other.flush() is Written.ok
    await desk.until(lambda: desk.failures and desk.store.load("c1").row.cdr == b"{}")
    assert events(desk) == [Tick()], "what came before is kept"
    assert desk.failures == [("c1", Loss.too_large)]


async def test_a_failing_store_fails_the_barrier_and_loses_no_record(desk: Desk) -> None:
    call = desk.call()
    await call.flush()
    desk.store.fault = StoreError("disk full")
    call.write(0, Digit("1"), [], False)
    with pytest.raises(StoreError, match="disk full"):
        await call.flush(1, "k")
    assert str(desk.writer.error) == "disk full"
    assert call.lease_held()
    call.write(0, Digit("2"), [], False)
    desk.store.fault = None
    assert await call.flush() is Written.ok
    assert desk.writer.error is None
    assert events(desk) == [Digit("1"), Digit("2")]
    assert desk.failures == []
    assert await desk.call("c2").flush(1, "k") is Written.ok, "a barrier that failed reserves nothing later"


async def test_a_store_that_fails_at_a_barrier_alone_is_tried_again(desk: Desk) -> None:
    """Nothing is left to be written then, and still the next write must not wait for ever."""
    call = desk.call()
    call.write(0, Tick(), [], False)
    assert await call.flush() is Written.ok
    desk.store.fault = StoreError("full")
    with pytest.raises(StoreError):
        await call.flush(1, "order-17")
    assert desk.writer.error
    desk.store.fault = None
    call.write(10, Tick(), [], False)
    async with asyncio.timeout(WAIT_S):
        assert await call.flush(1, "order-17") is Written.ok
    assert desk.writer.error is None
    assert len(events(desk)) == 2


async def test_a_store_that_works_again_is_noticed_though_nobody_writes(threaded: Desk) -> None:
    call = threaded.call()
    assert await call.flush() is Written.ok
    threaded.store.fault = StoreError("full")
    with pytest.raises(StoreError):
        await call.flush()
    threaded.store.fault = None
    await threaded.until(lambda: threaded.writer.error is None)


async def test_a_store_that_hangs_counts_as_failing_until_it_answers(
    threaded: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "STUCK_MS", 20)
    call = threaded.call()
    assert await call.flush() is Written.ok
    threaded.store.open.clear()
    call.write(0, Digit("1"), [], False)
    with pytest.raises(StoreError, match="no answer"):
        await call.flush(1, "k")
    await threaded.until(lambda: threaded.writer.error)
    call.write(10, Digit("2"), [], False)
    monkeypatch.undo()
    threaded.store.open.set()
    assert await threaded.call("c2").flush(1, "k") is Written.ok, "a barrier that took too long reserves nothing"
    assert threaded.writer.error is None
    assert events(threaded) == [Digit("1"), Digit("2")]
    assert threaded.failures == []


async def test_a_cancelled_barrier_gives_its_reservation_back(threaded: Desk) -> None:
    call = threaded.call()
    await call.flush()
    threaded.store.open.clear()
    task = asyncio.get_running_loop().create_task(call.flush(1, "k"))
    await asyncio.sleep(0.02)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    threaded.store.open.set()
    assert await threaded.call("c2").flush(1, "k") is Written.ok


async def test_what_gathers_during_a_commit_goes_in_the_next(threaded: Desk) -> None:
    calls = [threaded.call(f"c{i}") for i in range(10)]
    async with asyncio.TaskGroup() as group:
        for call in calls:
            group.create_task(call.flush())
    threaded.store.commits.clear()
    threaded.store.open.clear()
    async with asyncio.TaskGroup() as group:
        group.create_task(calls[0].flush(1, "first"))
        await asyncio.sleep(0.02)
        for number in range(3):
            for call in calls:
                call.write(number, Tick(), [], False)
        for call in calls:
            group.create_task(call.flush())
        await asyncio.sleep(0.02)
        threaded.store.open.set()
    assert [len(commit) for commit in threaded.store.commits] == [1, 10]
    assert all(threaded.store.load(f"c{i}").row.records == 3 for i in range(10))


async def test_one_commit_wakes_the_loop_once(threaded: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    loop = asyncio.get_running_loop()
    wakes = []
    wake = loop.call_soon_threadsafe

    def counted(callback: Any, *arguments: Any, **options: Any) -> Any:
        wakes.append(callback)
        return wake(callback, *arguments, **options)

    monkeypatch.setattr(loop, "call_soon_threadsafe", counted)
    call = threaded.call()
    for _ in range(100):
        call.write(0, Tick(), [], False)
    async with asyncio.TaskGroup() as group:
        for _ in range(10):
            group.create_task(call.flush())
    assert len(wakes) == len(threaded.store.commits)
    assert len(wakes) <= 2


async def test_writing_never_waits_for_a_slow_store_and_overflow_has_a_name(
    threaded: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_UNWRITTEN_RECORDS", 5)
    call, other = threaded.call(), threaded.call("c2")
    await call.flush()
    threaded.store.open.clear()
    for number in range(9):
        assert call.write(number, Tick(), [], False) == number + 1
    other.write(0, Tick(), [], False)
    with pytest.raises(JournalFailed, match="journal-overflow"):
        await call.flush()
    call.finish(b"{}")
    threaded.store.open.set()
    assert await other.flush() is Written.ok
    await threaded.until(lambda: threaded.store.load("c1").row.cdr == b"{}")
    assert len(events(threaded)) == 5, "the journal is whole as far as it goes"
    assert threaded.failures == [("c1", Loss.overflow)]
    assert other.lease_held()


async def test_all_calls_together_have_a_limit_in_bytes(threaded: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_UNWRITTEN_BYTES", 2_000)
    call = threaded.call()
    await call.flush()
    threaded.store.open.clear()
    call.write(0, TextReceived("x" * 1_500), [], False)
    late = threaded.call("c2")
    late.write(0, TextReceived("x" * 1_500), [], False)
    assert call.lease_held()
    assert not late.lease_held()
    threaded.store.open.set()
    assert await call.flush() is Written.ok
    threaded.call("c3").write(0, TextReceived("x" * 1_500), [], False)
    await threaded.until(lambda: threaded.store.epoch("c3") and threaded.store.load("c3").row.records == 1)
    assert threaded.failures == [("c2", Loss.overflow)]


async def test_our_own_fault_in_a_commit_ends_its_calls_and_not_the_writer(threaded: Desk) -> None:
    faults: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: faults.append(context.get("exception")))
    victim, other = threaded.call(), threaded.call("c2")
    await victim.flush()
    await other.flush()
    threaded.store.fault = ZeroDivisionError()
    victim.write(0, Tick(), [], False)
    with pytest.raises(JournalFailed, match="journal-broken"):
        await victim.flush()
    threaded.store.fault = None
    other.write(0, Tick(), [], False)
    assert await other.flush() is Written.ok
    await threaded.until(lambda: threaded.failures)
    assert threaded.failures == [("c1", Loss.broken)]
    assert [type(fault) for fault in faults] == [ZeroDivisionError]


async def test_close_writes_what_waits(desk: Desk) -> None:
    call = desk.call()
    for number in range(50):
        call.write(number, Tick(), [], False)
    call.finish(b"{}")
    await desk.writer.close()
    assert desk.store.load("c1").row == replace(desk.store.load("c1").row, records=50, cdr=b"{}")
    call.write(51, Tick(), [], False)
    assert not call.lease_held()
    with pytest.raises(JournalFailed, match="journal-closed"):
        await call.flush()


async def test_close_gives_a_failing_store_up_after_its_limit(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CLOSE_MS", 100)
    call = desk.call()
    await call.flush()
    desk.store.fault = StoreError("disk full")
    call.write(0, Tick(), [], False)
    async with asyncio.timeout(WAIT_S):
        await desk.writer.close()
    await asyncio.sleep(0)
    assert desk.failures == [("c1", Loss.closed)]


async def test_a_commit_that_fails_after_the_close_is_lost_and_told(
    threaded: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CLOSE_MS", 50)
    call = threaded.call()
    await call.flush()
    threaded.store.open.clear()
    threaded.store.fault = StoreError("disk full")
    call.write(0, Tick(), [], False)
    await threaded.writer.close()
    assert threaded.failures == []
    threaded.store.open.set()
    await threaded.until(lambda: threaded.failures)
    assert threaded.failures == [("c1", Loss.closed)]


async def test_the_writer_tries_again_by_itself(threaded: Desk) -> None:
    call = threaded.call()
    threaded.store.fault = StoreError("disk full")
    call.write(0, Tick(), [], False)
    await threaded.until(lambda: len(threaded.store.commits) >= 3)
    threaded.store.fault = None
    await threaded.until(lambda: threaded.store.epoch("c1") and threaded.store.load("c1").row.records == 1)
    await threaded.until(lambda: threaded.writer.error is None)  # the loop learns of a commit after the store


async def test_resume_goes_on_where_the_journal_ends(desk: Desk) -> None:
    call = desk.call()
    call.write(5, Digit("1"), [], True)
    call.write(6, Digit("2"), [], False)
    await call.flush()
    resumed, past = CallJournal.resume(desk.writer, desk.store.load("c1"))
    assert [event for _, event in past] == [Digit("1"), Digit("2")]
    assert await resumed.flush() is Written.ok
    assert resumed.header.epoch == 2
    assert resumed.write(7, Digit("3"), [], True) == 3
    assert await resumed.flush() is Written.ok
    assert events(desk) == [Digit("1"), Digit("2"), Digit("3")]
    assert [record.epoch for record in desk.store.load("c1").records] == [1, 1, 2]
    assert await call.flush(1, "k") is Written.stale


async def test_stored_holds_all_that_was_written(desk: Desk) -> None:
    call = desk.call()
    call.write(5, Digit("1"), [], True)
    journal = await call.stored()
    assert [event for _, event in read(journal)] == [Digit("1")]
    assert await desk.call(epoch=2).flush() is Written.ok
    call.write(6, Digit("2"), [], True)
    with pytest.raises(JournalFailed, match="lease-lost"):
        await call.stored()


async def test_reading_finds_what_was_changed_or_is_missing(desk: Desk) -> None:
    call = desk.call()
    for number in range(1, 5):
        call.write(number, Digit(str(number)), [], number == 2)
    await call.flush()
    good = desk.store.load("c1")
    assert len(list(read(good))) == 4
    changed = replace(good.records[1], ms=99)
    cases = [
        ((good.records[0], changed, *good.records[2:]), "record 2: the chain is broken"),
        ((good.records[0], *good.records[2:]), "record 2: missing"),
        (good.records[:3], "record 4: missing"),
        ((good.records[1], good.records[0]), "record 1: missing"),
    ]
    for records, complaint in cases:
        with pytest.raises(CodecError, match=complaint):
            list(read(replace(good, records=tuple(records))))
    with pytest.raises(CodecError, match="record 2: sealed with another key"):
        list(read(replace(good, key=bytes(32))))


async def test_a_purged_journal_cannot_be_read_or_resumed(desk: Desk) -> None:
    desk.call().finish(b"{}")
    await desk.call("other").flush()
    assert desk.store.purge("2031") == 1
    for attempt in (lambda j: list(read(j)), lambda j: CallJournal.resume(desk.writer, j)):
        with pytest.raises(CodecError, match="purged"):
            attempt(desk.store.load("c1"))


async def test_many_calls_over_a_real_file(tmp_path: Path) -> None:
    with SqliteStore(tmp_path / "journal.db") as store:
        writer = JournalWriter(store)

        async def talk(name: str) -> None:
            header = CallHeader(name, "f", "hash", CORE_VERSION, 1, "2030-01-01T00:00:00.000Z")
            call = CallJournal(writer, header, b"{}", KEY)
            for turn in range(5):
                for _ in range(4):
                    call.write(turn, Digit("5"), [], True)
                assert await call.flush(turn, f"{name}:{turn}") is Written.ok
            call.finish(b"{}")

        async with asyncio.timeout(WAIT_S), asyncio.TaskGroup() as group:
            for number in range(40):
                group.create_task(talk(f"c{number}"))
        await writer.close()
        rows = store.calls()
        assert len(rows) == 40
        assert all(row.cdr and len(list(read(store.load(row.header.call)))) == 20 for row in rows)


def test_a_killed_process_keeps_all_that_a_flush_has_answered(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    program = textwrap.dedent("""
        import asyncio, sys
        from pathlib import Path
        from app.core.codec import CallHeader
        from app.core.events import Digit
        from app.runtime.journal import CallJournal, JournalWriter
        from app.store.sqlite import SqliteStore

        async def main():
            writer = JournalWriter(SqliteStore(Path(sys.argv[1])))
            call = CallJournal(writer, CallHeader("c1", "f", "h", 1, 1, "2030"), b"{}", bytes(range(32)))
            n = 0
            while True:
                n += 1
                for _ in range(3):
                    call.write(n, Digit("7"), [], True)
                await call.flush(n, f"k{n}")
                print(call.seq, flush=True)

        asyncio.run(main())
    """)
    process = subprocess.Popen([sys.executable, "-c", program, str(path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout
    with process, contextlib.closing(process.stdout) as out:
        for _ in range(30):
            out.readline()
        process.kill()
        whole = [int(line) for line in out.read().split("\n")[:-1]] or [90]
    with SqliteStore(path) as store:
        journal = store.load("c1")
        assert len(list(read(journal))) >= whole[-1]
        answered = whole[-1] // 3
        assert (
            store.commit([Reserve("c1", 1, 0, kept_once(f"k{answered}")), Finish("c1", 1, b"{}")])[0]
            is Written.conflict
        )


async def test_what_waits_for_the_store_is_known(threaded: Desk) -> None:
    assert threaded.writer.waiting == (0, 0, 0.0)
    threaded.store.open.clear()
    call = threaded.call()
    call.write(0, Tick(), [], False)
    await threaded.until(lambda: threaded.writer._committing)
    call.write(10, Digit("1"), [], False)
    first = threaded.writer.waiting
    assert first.records == 2
    assert first.octets > 0
    await asyncio.sleep(0.02)
    assert threaded.writer.waiting.longest_s >= first.longest_s + 0.02
    threaded.store.open.set()
    await call.flush()
    assert threaded.writer.waiting == (0, 0, 0.0)


async def test_what_a_broken_store_did_not_take_waits_on(threaded: Desk) -> None:
    threaded.store.fault = StoreError("full")
    call = threaded.call()
    call.write(0, Tick(), [], False)
    await threaded.until(lambda: threaded.writer.error)
    await asyncio.sleep(0.1)
    assert threaded.writer.waiting.records == 1
    assert threaded.writer.waiting.longest_s >= 0.1
    threaded.store.fault = None
    await threaded.until(lambda: threaded.writer.waiting.records == 0)
    assert threaded.writer.waiting == (0, 0, 0.0)
