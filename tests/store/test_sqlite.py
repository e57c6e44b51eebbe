"""The SQLite store under bad conditions: full disks, wrong files, two servers, sudden death."""

import os
import signal
import sqlite3
import stat
import subprocess
import sys
import textwrap
from contextlib import closing
from pathlib import Path

import pytest

from app.core.codec import CORE_VERSION, CallHeader, Codec, Record
from app.core.events import Tick
from app.ports import Append, Begin, Finish, NoSuchCall, Reserve, StoreError, Written
from app.store.sqlite import LOCK_NAME, PURGE_CALLS, SCHEMA_VERSION, SqliteStore

KEY = bytes(range(32))


def begin(call: str, key: bytes = KEY, started_at: str = "2030-01-01T10:00:00.000Z") -> Begin:
    return Begin(CallHeader(call, "f", "hash", CORE_VERSION, 1, started_at), b"{}", key)


def record(seq: int, body: bytes = b"{}") -> Record:
    return Record(seq, 1, seq, False, body, bytes(16), bytes(32))


def child(code: str, *arguments: str) -> subprocess.Popen[str]:
    program = "from app.store.sqlite import SqliteStore\nfrom pathlib import Path\nimport sys\n" + textwrap.dedent(code)
    return subprocess.Popen([sys.executable, "-c", program, *arguments], stdout=subprocess.PIPE, text=True)


def test_folder_and_file_are_for_the_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "var" / "journal.db"
    with SqliteStore(path) as store:
        store.commit([begin("c1")])
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        for file in path.parent.iterdir():
            assert stat.S_IMODE(file.stat().st_mode) == 0o600, file


def test_an_existing_folder_keeps_its_mode_and_the_file_loses_loose_bits(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    path = tmp_path / "journal.db"
    SqliteStore(path).close()
    path.chmod(0o644)
    SqliteStore(path).close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o755


def test_a_path_with_odd_characters_is_only_a_path(tmp_path: Path) -> None:
    path = tmp_path / "a b?mode=memory#%41" / "journal.db"
    with SqliteStore(path) as store:
        store.commit([begin("c1")])
    assert path.exists()
    assert SqliteStore(path, read_only=True).load("c1").row.records == 0


def test_a_second_store_on_the_folder_is_refused(tmp_path: Path) -> None:
    with SqliteStore(tmp_path / "journal.db"):
        with pytest.raises(StoreError, match="in use"):
            SqliteStore(tmp_path / "other.db")
        assert not (tmp_path / "other.db").exists()
        (tmp_path / "link").symlink_to(tmp_path)
        with pytest.raises(StoreError, match="in use"):
            SqliteStore(tmp_path / "link" / "journal.db")
    SqliteStore(tmp_path / "journal.db").close()


def test_the_lock_holds_between_processes_and_ends_with_a_killed_one(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    # The forked helper outlives its server and must not keep the lock.
    server = child(
        """
        import os, time
        store = SqliteStore(Path(sys.argv[1]))
        helper = os.fork()
        if not helper:
            time.sleep(60)
        print(helper, flush=True)
        time.sleep(60)
        """,
        str(path),
    )
    assert server.stdout
    helper = int(server.stdout.readline())
    try:
        with pytest.raises(StoreError, match=rf"in use by another voicegate server \(process {server.pid}\)"):
            SqliteStore(path)
        SqliteStore(path, read_only=True).calls()
        server.kill()
        server.wait()
        SqliteStore(path).close()
    finally:
        os.kill(helper, signal.SIGKILL)
        server.kill()
        server.wait()
        server.stdout.close()


def test_a_store_that_failed_to_open_leaves_no_lock(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    path.write_bytes(b"not a database at all, but long enough to have a header" * 100)
    for _ in range(2):
        with pytest.raises(StoreError, match="not a database"):
            SqliteStore(path)


def test_a_reader_beside_the_writer_needs_no_lock(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    with SqliteStore(path) as store:
        store.commit([begin("c1"), Append("c1", 1, (record(1),))])
        reader = SqliteStore(path, read_only=True)
        assert reader.load("c1").row.records == 1
        assert reader.epoch("c1") == 1
        with pytest.raises(StoreError, match="not open for writing"):
            reader.commit([begin("c2")])


def test_a_reader_makes_nothing(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="there is no journal here"):
        SqliteStore(tmp_path / "var" / "journal.db", read_only=True)
    assert list(tmp_path.iterdir()) == []


def test_a_newer_format_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    SqliteStore(path).close()
    db = sqlite3.connect(path)
    db.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    db.close()
    with pytest.raises(StoreError, match="newer voicegate"):
        SqliteStore(path)
    with pytest.raises(StoreError, match="newer voicegate"):
        SqliteStore(path, read_only=True).calls()


def test_another_programs_database_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    db = sqlite3.connect(path)
    db.execute("CREATE TABLE theirs (x)")
    db.close()
    before = path.read_bytes()
    with pytest.raises(StoreError, match="not a voicegate journal"):
        SqliteStore(path)
    assert path.read_bytes() == before


def test_a_damaged_file_is_one_clear_line(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    with SqliteStore(path) as store:
        store.commit([begin("c1"), Append("c1", 1, tuple(record(seq, bytes(2000)) for seq in range(1, 100)))])
    content = bytearray(path.read_bytes())
    content[4096:] = bytes(len(content) - 4096)
    path.write_bytes(content)
    with pytest.raises(StoreError) as caught:
        SqliteStore(path, read_only=True).load("c1")
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_a_damaged_row_hides_no_other_call(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    with SqliteStore(path) as store:
        store.commit([begin("c1"), begin("c2"), begin("c3")])
        store._connection().execute("PRAGMA foreign_keys = OFF")
        store._connection().execute("UPDATE calls SET call = CAST(x'ff' AS TEXT), flow = call WHERE call = 'c1'")
        store._connection().execute("UPDATE calls SET flow = CAST(x'ff' AS TEXT), flow_hash = '' WHERE call = 'c2'")
        assert [row.header.call for row in store.calls()] == ["c3", "c2", "\ufffd"]
        assert store.unfinished() == ["\ufffd", "c2", "c3"]
        with pytest.raises(NoSuchCall):
            store.load("\ufffd")
        assert (store.load("c2").flow, store.load("c2").row.header.flow) == (b"", "\ufffd")
        assert store.load("c3").flow == b"{}"


def test_a_read_only_folder_is_one_clear_line(tmp_path: Path) -> None:
    folder = tmp_path / "var"
    folder.mkdir(mode=0o500)
    process = child(
        """
        import os
        from app.ports import StoreError
        if os.geteuid() == 0:
            os.setuid(65534)  # the superuser may write everywhere
        try:
            SqliteStore(Path(sys.argv[1]))
        except StoreError as error:
            print(error)
        """,
        str(folder / "journal.db"),
    )
    out, _ = process.communicate(timeout=60)
    assert out.startswith(str(tmp_path))
    assert out.endswith("Permission denied\n")
    assert out.count("\n") == 1


def test_a_file_where_the_folder_should_be_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "var").write_text("")
    with pytest.raises(StoreError, match=r"File exists|Not a directory"):
        SqliteStore(tmp_path / "var" / "journal.db")


def test_a_full_database_undoes_the_whole_commit_and_goes_on_when_there_is_room(tmp_path: Path) -> None:
    with SqliteStore(tmp_path / "journal.db") as store:
        store.commit([begin("c1"), Append("c1", 1, (record(1),))])
        db = store._connection()
        pages = db.execute("PRAGMA page_count").fetchone()[0]
        db.execute(f"PRAGMA max_page_count = {pages + 2}")
        big = Append("c1", 1, tuple(record(seq, bytes(4000)) for seq in range(2, 40)))
        with pytest.raises(StoreError, match="full"):
            store.commit([begin("c2"), Reserve("c1", 1, 1, "k"), big])
        assert store.load("c1").row.records == 1
        assert store.epoch("c2") == 0
        db.execute("PRAGMA max_page_count = 100000")
        assert store.commit([begin("c2"), big, Reserve("c2", 1, 1, "k")]) == [Written.ok] * 3


def test_a_file_that_may_not_grow_is_one_clear_line(tmp_path: Path) -> None:
    """A real refusal by the system in mid-write: the process's limit on file sizes."""
    path = tmp_path / "journal.db"
    process = child(
        """
        import resource
        from app.ports import Append, Begin, StoreError
        from app.core.codec import CallHeader, Record
        store = SqliteStore(Path(sys.argv[1]))
        store.commit([Begin(CallHeader("c1", "f", "h", 1, 1, "2030"), b"{}", bytes(32))])
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, resource.RLIM_INFINITY))
        seq = 0
        try:
            while seq < 1000:
                store.commit([Append("c1", 1, (Record(seq + 1, 1, 0, False, bytes(5000), bytes(16), bytes(32)),))])
                seq += 1
        except StoreError as error:
            print(seq, str(error).replace(sys.argv[1], "PATH"))
        """,
        str(path),
    )
    out, _ = process.communicate(timeout=60)
    count, _, message = out.strip().partition(" ")
    assert message.startswith("PATH: ")
    assert 0 < int(count) < 1000
    assert SqliteStore(path, read_only=True).load("c1").row.records == int(count)


def test_a_file_that_another_program_locks_is_one_clear_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.store.sqlite_file.BUSY_MS", 50)
    path = tmp_path / "journal.db"
    with SqliteStore(path) as store:
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreError, match="locked"):
            store.commit([begin("c1")])
        other.execute("ROLLBACK")
        other.close()
        assert store.commit([begin("c1")]) == [Written.ok]


def test_a_killed_writer_leaves_every_acknowledged_record_and_no_gap(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    for round_number in range(3):
        process = child(
            """
            from app.ports import Append, Begin
            from app.core.codec import CallHeader, Record
            store = SqliteStore(Path(sys.argv[1]))
            call = sys.argv[2]
            store.commit([Begin(CallHeader(call, "f", "h", 1, 1, "2030"), b"{}", bytes(32))])
            seq = 0
            while True:
                batch = tuple(Record(seq + i, 1, 0, False, b"x" * 300, bytes(16), bytes(32)) for i in range(1, 8))
                store.commit([Append(call, 1, batch)])
                seq += 7
                print(seq, flush=True)
            """,
            str(path),
            f"c{round_number}",
        )
        assert process.stdout
        for _ in range(20 + 7 * round_number):
            process.stdout.readline()
        process.kill()
        rest = process.stdout.read().split("\n")
        process.stdout.close()
        process.wait()
        whole_lines = [int(line) for line in rest[:-1]]  # the last may be cut
        acknowledged = whole_lines[-1] if whole_lines else 7 * (20 + 7 * round_number)
        with SqliteStore(path) as store:
            journal = store.load(f"c{round_number}")
            assert len(journal.records) >= acknowledged
            assert len(journal.records) == journal.row.records
            assert [one.seq for one in journal.records] == list(range(1, len(journal.records) + 1))
            assert store.commit([Append(f"c{round_number}", 1, (record(len(journal.records) + 1),))]) == [Written.ok]


def test_purge_leaves_no_key_and_no_words_on_the_disk(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    key, words = b"K" * 32, b"W" * 400
    with SqliteStore(path) as store:
        store.commit([begin("c1", key), Append("c1", 1, tuple(record(seq, words) for seq in range(1, 50)))])
        store.commit([Finish("c1", 1, b'{"summary":"' + words + b'"}')])

        def on_disk() -> bytes:
            return b"".join(file.read_bytes() for file in tmp_path.iterdir() if file.name != LOCK_NAME)

        assert key in on_disk()
        assert words in on_disk()
        assert store.purge("2031") == 1
        assert key not in on_disk()
        assert words not in on_disk()


def test_purge_finishes_after_a_backup_that_was_in_its_way(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    with SqliteStore(path) as store, closing(sqlite3.connect(path, isolation_level=None)) as backup:
        store.commit([begin("c1", b"K" * 32), Finish("c1", 1, b"{}")])
        backup.execute("BEGIN")
        backup.execute("SELECT * FROM calls").fetchall()
        assert store.purge("2031") == 1
        backup.execute("COMMIT")
        assert store.purge("2031") == 0
        assert b"K" * 32 not in path.read_bytes() + path.with_name(path.name + "-wal").read_bytes()


def test_purge_deletes_recordings_but_nothing_outside_the_folder(tmp_path: Path) -> None:
    folder = tmp_path / "var"
    outside = tmp_path / "precious.wav"
    outside.write_bytes(b"x")
    with SqliteStore(folder / "journal.db") as store:
        (folder / "recordings").mkdir()
        for name in ["here", "gone", "evil", "stuck", "none"]:
            store.commit([begin(name)])
        (folder / "recordings" / "here.wav").write_bytes(b"x")
        (folder / "recordings" / "here-2.wav").write_bytes(b"x")
        (folder / "recordings" / "hereafter.wav").write_bytes(b"x")
        (folder / "recordings" / "stuck").mkdir()
        store.commit(
            [
                Finish("evil", 1, b"{}", "../precious.wav"),
                Finish("stuck", 1, b"{}", "recordings/stuck"),
                Finish("here", 1, b"{}", "recordings/here.wav"),
                Finish("gone", 1, b"{}", "recordings/gone.wav"),
                Finish("none", 1, b"{}"),
            ]
        )
        with pytest.raises(StoreError, match="the recording cannot be deleted"):
            store.purge("2031")
        assert {row.header.call for row in store.calls() if row.purged} == {"here", "gone", "none"}
        assert outside.exists()
        assert not (folder / "recordings" / "here.wav").exists()
        assert not (folder / "recordings" / "here-2.wav").exists(), "of a leg that came back"
        assert (folder / "recordings" / "hereafter.wav").exists()


def test_purge_goes_through_many_calls(tmp_path: Path) -> None:
    with SqliteStore(tmp_path / "journal.db") as store:
        total = PURGE_CALLS * 2 + 3
        for number in range(total):
            store.commit([begin(f"c{number}"), Finish(f"c{number}", 1, b"{}")])
        assert store.purge("2031") == total


def test_a_real_journal_survives_the_file(tmp_path: Path) -> None:
    codec = Codec(KEY, begin("c1").header)
    written = tuple(codec.encode(seq, seq, Tick(), [], sealed=True) for seq in range(1, 4))
    with SqliteStore(tmp_path / "journal.db") as store:
        store.commit([begin("c1"), Append("c1", 1, written)])
    reader = Codec(KEY, begin("c1").header)
    loaded = SqliteStore(tmp_path / "journal.db", read_only=True).load("c1")
    assert [reader.decode(one) for one in loaded.records] == [Tick()] * 3
