"""What every journal store does, shown on each of them."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.core.codec import CORE_VERSION, CallHeader, Codec, Record
from app.core.events import Tick
from app.ports import Append, Begin, Finish, JournalStore, Release, Reserve, StoreError, Write, Written
from app.store.memory import MemoryStore
from app.store.sqlite import SqliteStore

KEY = bytes(range(32))
START = "2030-01-01T10:00:00.000Z"


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[JournalStore]:
    opened: JournalStore = MemoryStore() if request.param == "memory" else SqliteStore(tmp_path / "journal.db")
    yield opened
    opened.close()


def header(call: str = "c1", epoch: int = 1, started_at: str = START, flow: str = "f") -> CallHeader:
    return CallHeader(call, flow, f"hash-of-{flow}", CORE_VERSION, epoch, started_at)


def begin(call: str = "c1", epoch: int = 1, started_at: str = START, flow: str = "f") -> Begin:
    return Begin(header(call, epoch, started_at, flow), b"{}", KEY)


def records(first: int, last: int, epoch: int = 1) -> tuple[Record, ...]:
    codec = Codec(KEY, header(epoch=epoch))
    return tuple(codec.encode(seq, seq * 10, Tick(), [], sealed=seq % 2 == 0) for seq in range(first, last + 1))


def commit(store: JournalStore, *writes: Write) -> list[Written]:
    return store.commit(writes)


def test_what_is_committed_can_be_loaded(store: JournalStore) -> None:
    written = records(1, 3)
    assert commit(store, begin(), Append("c1", 1, written)) == [Written.ok, Written.ok]
    journal = store.load("c1")
    assert journal.records == written
    assert (journal.flow, journal.key) == (b"{}", KEY)
    assert (journal.row.header, journal.row.records, journal.row.cdr, journal.row.purged) == (header(), 3, None, False)


def test_only_the_later_records_can_be_loaded(store: JournalStore) -> None:
    written = records(1, 5)
    commit(store, begin(), Append("c1", 1, written))
    assert store.load("c1", 3).records == written[3:]
    assert store.load("c1", 5).records == store.load("c1", 99).records == ()
    assert store.load("c1", 0).records == store.load("c1", -1).records == written
    assert store.load("c1", 3).row.records == 5


def test_an_empty_commit_is_fine(store: JournalStore) -> None:
    assert commit(store) == []


def test_no_gap_and_no_duplicate(store: JournalStore) -> None:
    commit(store, begin(), Append("c1", 1, records(1, 2)))
    assert commit(store, Append("c1", 1, records(4, 4))) == [Written.gap]
    assert commit(store, Append("c1", 1, records(2, 3))) == [Written.gap]
    one, two, three, four = records(1, 4)
    assert commit(store, Append("c1", 1, (three, one))) == [Written.gap]
    assert store.load("c1").records == (one, two)
    assert commit(store, Append("c1", 1, (three,)), Append("c1", 1, (four,))) == [Written.ok, Written.ok]
    assert store.load("c1").row.records == 4


def test_a_refused_write_leaves_the_others(store: JournalStore) -> None:
    answers = commit(
        store,
        begin("c1"),
        begin("c2"),
        Append("c1", 1, records(2, 2)),
        Append("c2", 1, records(1, 2)),
        Append("nobody", 1, records(1, 1)),
    )
    assert answers == [Written.ok, Written.ok, Written.gap, Written.ok, Written.stale]
    assert (store.load("c1").records, store.load("c2").records) == ((), records(1, 2))


def test_no_once_key_is_taken_for_a_record_that_was_refused(store: JournalStore) -> None:
    commit(store, begin("c1"), begin("c2"))
    answers = commit(store, Append("c1", 1, records(2, 2)), Reserve("c1", 1, 1, "k"), Reserve("c2", 1, 1, "k"))
    assert answers == [Written.gap, Written.gap, Written.ok]


def test_a_higher_epoch_takes_the_call_and_the_old_owner_is_stale(store: JournalStore) -> None:
    assert store.epoch("c1") == 0
    commit(store, begin(epoch=1), Append("c1", 1, records(1, 1)))
    assert commit(store, begin(epoch=2, started_at="2031-01-01T00:00:00.000Z")) == [Written.ok]
    assert store.epoch("c1") == 2
    late: list[Write] = [
        Append("c1", 1, records(2, 2)),
        Reserve("c1", 1, 1, "k"),
        Release("c1", 1, 1),
        Finish("c1", 1, b"{}"),
    ]
    for write in late:
        assert commit(store, write) == [Written.stale]
    assert commit(store, Append("c1", 2, records(2, 2, epoch=2))) == [Written.ok]
    journal = store.load("c1")
    assert [record.epoch for record in journal.records] == [1, 2]
    assert journal.row.header.started_at == header().started_at, "the call started when it started"
    assert journal.row.cdr is None


@pytest.mark.parametrize("epoch", [1, 2])
def test_an_epoch_that_is_not_higher_cannot_take_the_call(store: JournalStore, epoch: int) -> None:
    commit(store, begin(epoch=2))
    assert commit(store, begin(epoch=epoch)) == [Written.stale]
    assert store.epoch("c1") == 2


def test_a_once_key_has_one_holder_over_all_calls(store: JournalStore) -> None:
    commit(store, begin("c1"), begin("c2"))
    assert commit(store, Reserve("c1", 1, 7, "k")) == [Written.ok]
    assert commit(store, Reserve("c1", 1, 7, "k")) == [Written.ok], "the same tool call may ask again"
    assert commit(store, Reserve("c1", 1, 8, "k")) == [Written.conflict]
    assert commit(store, Reserve("c2", 1, 7, "k")) == [Written.conflict]
    assert commit(store, Release("c2", 1, 7), Reserve("c2", 1, 7, "k")) == [Written.ok, Written.conflict]
    assert commit(store, Release("c1", 1, 7), Reserve("c2", 1, 7, "k")) == [Written.ok, Written.ok]


def test_a_conflict_leaves_the_records_of_its_commit(store: JournalStore) -> None:
    commit(store, begin("c1"), begin("c2"), Reserve("c1", 1, 1, "k"))
    answers = commit(store, Append("c2", 1, records(1, 1)), Reserve("c2", 1, 1, "k"), Append("c2", 1, records(2, 2)))
    assert answers == [Written.ok, Written.conflict, Written.ok]
    assert store.load("c2").row.records == 2


def test_the_next_owner_may_reserve_again_what_the_call_holds(store: JournalStore) -> None:
    commit(store, begin(epoch=1), Reserve("c1", 1, 3, "k"), begin(epoch=2))
    assert commit(store, Reserve("c1", 2, 3, "k")) == [Written.ok]


def test_records_may_follow_the_end(store: JournalStore) -> None:
    commit(store, begin(), Append("c1", 1, records(1, 1)))
    assert commit(store, Finish("c1", 1, b'{"cause":"done"}', "recordings/c1.wav")) == [Written.ok]
    assert commit(store, Append("c1", 1, records(2, 2))) == [Written.ok]
    row = store.load("c1").row
    assert (row.cdr, row.recording, row.records) == (b'{"cause":"done"}', "recordings/c1.wav", 2)


def test_calls_are_listed_newest_first(store: JournalStore) -> None:
    for number, flow in enumerate(["f", "g", "f", "f"]):
        commit(store, begin(f"c{number}", started_at=f"2030-01-0{number + 1}T00:00:00.000Z", flow=flow))
    commit(store, begin("twin", started_at="2030-01-04T00:00:00.000Z"))
    assert [row.header.call for row in store.calls()] == ["twin", "c3", "c2", "c1", "c0"]
    assert [row.header.call for row in store.calls(limit=2, flow="f")] == ["twin", "c3"]
    assert [row.header.call for row in store.calls(flow="g")] == ["c1"]
    assert store.calls(flow="none") == store.calls(limit=0) == store.calls(limit=-1) == []
    assert [row.header.call for row in store.calls(before="twin")] == ["c3", "c2", "c1", "c0"]
    assert [row.header.call for row in store.calls(before="c3", limit=2)] == ["c2", "c1"]
    assert [row.header.call for row in store.calls(before="c1", flow="f")] == ["c0"]
    assert store.calls(before="c0") == store.calls(before="none") == store.calls(before="c") == []


def test_calls_without_a_record_are_unfinished(store: JournalStore) -> None:
    commit(store, begin("c1"), begin("c2"), begin("c3"), begin("c4", started_at="2029-01-01T10:00:00.000Z"))
    commit(store, Finish("c2", 1, b"{}"), Finish("c4", 1, b"{}"))
    store.purge(START)
    assert store.unfinished() == ["c1", "c3"]


def test_a_call_may_be_named_by_its_beginning(store: JournalStore) -> None:
    commit(store, begin("ab1"), begin("ab2"), begin("ab"), begin("x_%"), begin("xyz"))
    assert store.load("ab1").row.header.call == "ab1"
    assert store.load("ab").row.header.call == "ab", "a whole name is not ambiguous"
    assert store.load("x_").row.header.call == "x_%", "nothing in a name is a wildcard"
    for name, complaint in [("a", "several"), ("x", "several"), ("%", "no call"), ("AB1", "no call"), ("", "no call")]:
        with pytest.raises(LookupError, match=complaint):
            store.load(name)


def test_purge_deletes_old_ended_calls_and_keeps_their_once_keys(store: JournalStore) -> None:
    for call, started_at in [("old", "2030-01-01"), ("live", "2030-01-01"), ("new", "2030-03-01")]:
        commit(store, begin(call, started_at=f"{started_at}T00:00:00.000Z"), Append(call, 1, records(1, 2)))
        commit(store, Reserve(call, 1, 1, f"key-{call}"))
    commit(store, Finish("old", 1, b"{}", "recordings/old.wav"), Finish("new", 1, b"{}"))
    assert store.purge("2030-02-01T00:00:00.000Z") == 1
    old = store.load("old")
    assert (old.key, old.records, old.flow) == (b"", (), b"{}")
    assert (old.row.purged, old.row.cdr, old.row.recording, old.row.records) == (True, None, "", 2)
    assert [store.load(call).row.records for call in ("live", "new")] == [2, 2]
    assert store.load("new").key == store.load("live").key == KEY
    assert commit(store, Reserve("new", 1, 2, "key-old")) == [Written.conflict]
    assert store.purge("2030-02-01T00:00:00.000Z") == 0


def test_a_purged_call_takes_nothing_any_more(store: JournalStore) -> None:
    commit(store, begin(), Finish("c1", 1, b"{}"))
    store.purge("2040-01-01")
    assert commit(store, Append("c1", 1, records(1, 1)), begin(epoch=2)) == [Written.stale, Written.stale]


def test_a_flow_is_kept_as_it_was_first_written(store: JournalStore) -> None:
    commit(store, begin("c1"), Begin(header("c2"), b"other", KEY))
    assert store.load("c2").flow == b"{}"


def test_readers_see_whole_commits(store: JournalStore) -> None:
    """A reader in another thread never sees half of a commit."""
    commit(store, begin())
    stop = threading.Event()
    torn: list[int] = []

    def read() -> None:
        while not stop.is_set():
            journal = store.load("c1")
            if len(journal.records) != journal.row.records or len(journal.records) % 5:
                torn.append(len(journal.records))

    reader = threading.Thread(target=read)
    reader.start()
    try:
        for first in range(1, 200, 5):
            assert commit(store, Append("c1", 1, records(first, first + 4))) == [Written.ok]
    finally:
        stop.set()
        reader.join()
    assert torn == []


def test_a_closed_store_says_so(store: JournalStore) -> None:
    store.close()
    store.close()
    with pytest.raises(StoreError):
        commit(store, begin())
