"""The journal in one SQLite file: WAL, one writer, readers with connections of their own.

The writer holds a lock on the data folder for its life, so two servers never share one; the system releases it
when the process dies, however it dies. What `commit` has answered is on the disk.
"""

import fcntl
import glob
import os
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, Self, assert_never

from app.core.codec import CallHeader, Record
from app.ports import Append, Begin, CallRow, Finish, Journal, NoSuchCall, Release, Reserve, StoreError, Write, Written
from app.store.sqlite_file import BUSY_MS, clear_errors, connect, open_writer, transaction

SCHEMA_VERSION = 1
MAX_CALLS_LISTED = 10_000
PURGE_CALLS = 100  # of one transaction, so that a long purge lets commits in between
LOCK_NAME = "voicegate.lock"

# STRICT came with SQLite 3.37, and some systems that have Python 3.11 are older.
_STRICT = "STRICT" if sqlite3.sqlite_version_info >= (3, 37) else ""
_STRICT_WITHOUT_ROWID = f"{_STRICT}, WITHOUT ROWID".lstrip(", ")

_SCHEMA = f"""
CREATE TABLE flows (hash TEXT PRIMARY KEY, body BLOB NOT NULL) {_STRICT};
CREATE TABLE calls (
    number INTEGER PRIMARY KEY,
    call TEXT NOT NULL UNIQUE,
    flow TEXT NOT NULL,
    flow_hash TEXT NOT NULL REFERENCES flows (hash),
    core_version INTEGER NOT NULL,
    epoch INTEGER NOT NULL,
    started_at TEXT NOT NULL,
    records INTEGER NOT NULL DEFAULT 0,
    cdr BLOB,
    recording TEXT NOT NULL DEFAULT '',
    purged INTEGER NOT NULL DEFAULT 0
) {_STRICT};
CREATE INDEX calls_by_start ON calls (started_at);
CREATE INDEX calls_unfinished ON calls (number) WHERE cdr IS NULL;
CREATE TABLE keys (call TEXT PRIMARY KEY REFERENCES calls (call), key BLOB NOT NULL) {_STRICT};
CREATE TABLE records (
    call TEXT NOT NULL REFERENCES calls (call),
    seq INTEGER NOT NULL,
    epoch INTEGER NOT NULL,
    ms INTEGER NOT NULL,
    sealed INTEGER NOT NULL,
    body BLOB NOT NULL,
    digest BLOB NOT NULL,
    chain BLOB NOT NULL,
    PRIMARY KEY (call, seq)
) {_STRICT_WITHOUT_ROWID};
CREATE TABLE once (once TEXT PRIMARY KEY, call TEXT NOT NULL, n INTEGER NOT NULL) {_STRICT};
CREATE INDEX once_by_call ON once (call, n);
PRAGMA user_version = {SCHEMA_VERSION};
"""

_ROW = "call, flow, flow_hash, core_version, epoch, started_at, records, cdr, recording, purged"


class SqliteStore:
    """`JournalStore` in the file `path`; its folder is the data folder, below which recordings lie.

    A writer (the default) makes the folder (0700) and the file (0600) and takes the folder's lock. A reader takes
    none and may read beside a writer. `commit` and `purge` may be called from different threads.
    """

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        """Raises `StoreError`: a folder in use by another server, not writable, a file that is not ours or newer."""
        self._path = path
        self._lock: _FolderLock | None = None
        self._writer: sqlite3.Connection | None = None
        self._writing = threading.Lock()
        self._log_is_old = False  # what was deleted is still in the write-ahead log
        if read_only:
            if not path.exists():
                raise StoreError(f"{path}: there is no journal here")
            return
        with clear_errors(path):
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock = _FolderLock(path.parent)
        try:
            with clear_errors(path):
                self._writer = open_writer(path, _SCHEMA, lambda db: _check_version(db, path))
        except StoreError:
            self._lock.release()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def commit(self, writes: Sequence[Write]) -> list[Written]:
        """All in one transaction that is durable on return; each write has its own answer.

        A refused `Append` refuses what follows it of the same call in this commit, so that no `once` key is taken
        for a record that is not there. Raises `StoreError`: then nothing of it was done.
        """
        refused: dict[str, Written] = {}
        answers = []
        with self._transaction() as db:
            for write in writes:
                call = write.header.call if isinstance(write, Begin) else write.call
                answer = refused.get(call) or _apply(db, write)
                if isinstance(write, Append) and answer is not Written.ok:
                    refused[call] = answer
                answers.append(answer)
        return answers

    def epoch(self, call: str) -> int:
        with self._reader() as db:
            row = db.execute("SELECT epoch FROM calls WHERE call = ?", (call,)).fetchone()
        return int(row[0]) if row else 0

    def calls(self, limit: int = 50, flow: str = "", before: str = "") -> list[CallRow]:
        with self._reader() as db:
            rows = db.execute(
                f"SELECT {_ROW} FROM calls WHERE (?1 = '' OR flow = ?1) AND (?3 = '' OR "  # noqa: S608 - our own names
                "(started_at, number) < (SELECT started_at, number FROM calls WHERE call = ?3)) "
                "ORDER BY started_at DESC, number DESC LIMIT ?2",
                (flow, min(max(limit, 0), MAX_CALLS_LISTED), before),
            ).fetchall()
        return [_call_row(row) for row in rows]

    def unfinished(self) -> list[str]:
        with self._reader() as db:
            rows = db.execute("SELECT call FROM calls WHERE cdr IS NULL AND NOT purged ORDER BY number").fetchall()
        return [call for (call,) in rows]

    def load(self, call: str, after: int = 0) -> Journal:
        with self._reader() as db:
            db.execute("BEGIN")  # one snapshot for all that follows
            rows = db.execute(
                f"SELECT {_ROW} FROM calls WHERE call BETWEEN ?1 AND ?1 || char(1114111) "  # noqa: S608 - by its index
                "AND substr(call, 1, length(?1)) = ?1 ORDER BY call <> ?1 LIMIT 2",
                (call,),
            ).fetchall()
            if not call or not rows:
                raise NoSuchCall(f"no call {call!r}")
            row = _call_row(rows[0])
            if len(rows) > 1 and row.header.call != call:
                raise NoSuchCall(f"several calls begin with {call!r}")
            name = (row.header.call,)
            flow = db.execute("SELECT body FROM flows WHERE hash = ?", (row.header.flow_hash,)).fetchone()
            key = db.execute("SELECT key FROM keys WHERE call = ?", name).fetchone()
            records = db.execute(
                "SELECT seq, epoch, ms, sealed, body, digest, chain FROM records "
                "WHERE call = ? AND seq > ? ORDER BY seq",
                (*name, after),
            ).fetchall()
        return Journal(
            row=row,
            flow=flow[0] if flow else b"",
            key=key[0] if key else b"",
            records=tuple(Record(seq, epoch, ms, bool(sealed), *rest) for seq, epoch, ms, sealed, *rest in records),
        )

    def purge(self, before_iso: str) -> int:
        """Delete the ended calls that started before then: recordings' files, records, call records and keys.

        What was deleted is overwritten in the file. `once` keys stay: a side effect does not come back with age.
        Raises `StoreError`, after it has purged the rest, where a recording cannot be deleted.
        """
        purged = 0
        after = 0
        undeleted: Path | None = None
        while batch := self._expired(before_iso, after):
            after = batch[-1][0]
            calls = []
            for _, call, recording in batch:
                if self._delete_recording(recording):
                    calls.append((call,))
                else:
                    undeleted = self._path.parent / recording
            with self._transaction() as db:
                db.executemany("DELETE FROM records WHERE call = ?", calls)
                db.executemany("DELETE FROM keys WHERE call = ?", calls)
                db.executemany("UPDATE calls SET cdr = NULL, recording = '', purged = 1 WHERE call = ?", calls)
            purged += len(calls)
        if purged or self._log_is_old:
            self._empty_log()
        if undeleted:
            raise StoreError(f"{undeleted}: the recording cannot be deleted")
        return purged

    def close(self) -> None:
        with self._writing:
            if self._writer:
                with suppress(sqlite3.Error):
                    self._writer.close()
                self._writer = None
            if self._lock:
                self._lock.release()
                self._lock = None

    def _empty_log(self) -> None:
        """The old pages are in it until then. Who reads, such as a backup, is in the way: then the next purge does it.

        Nobody is waited for, since nothing can be committed meanwhile.
        """
        with self._writing, clear_errors(self._path):
            db = self._connection()
            db.execute("PRAGMA busy_timeout = 0")
            try:
                self._log_is_old = bool(db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0])
            finally:
                db.execute(f"PRAGMA busy_timeout = {BUSY_MS}")

    def _expired(self, before_iso: str, after: int) -> list[tuple[int, str, str]]:
        with self._reader() as db:
            return db.execute(
                "SELECT number, call, recording FROM calls "
                "WHERE started_at < ? AND number > ? AND cdr IS NOT NULL ORDER BY number LIMIT ?",
                (before_iso, after, PURGE_CALLS),
            ).fetchall()

    def _delete_recording(self, recording: str) -> bool:
        if not recording:
            return True
        folder = self._path.parent.resolve()
        file = (folder / recording).resolve()
        if not file.is_relative_to(folder):
            return False
        try:
            for later in file.parent.glob(f"{glob.escape(file.stem)}-*{glob.escape(file.suffix)}"):
                later.unlink(missing_ok=True)  # a leg that came back has a file of its own
            file.unlink(missing_ok=True)
        except OSError:
            return False
        return True

    def _connection(self) -> sqlite3.Connection:
        if self._writer is None:
            raise StoreError(f"{self._path}: not open for writing")
        return self._writer

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._writing, clear_errors(self._path):
            db = self._connection()
            with transaction(db):
                yield db

    @contextmanager
    def _reader(self) -> Iterator[sqlite3.Connection]:
        # Not `mode=ro`: a log that a killed writer left behind must be recovered, which writes.
        with clear_errors(self._path), closing(connect(self._path)) as db:
            db.execute("PRAGMA query_only = ON")
            _check_version(db, self._path)
            yield db


def _apply(db: sqlite3.Connection, write: Write) -> Written:
    if isinstance(write, Begin):
        return _begin(db, write)
    if isinstance(write, Append) and _append(db, write):
        return Written.ok
    row = db.execute("SELECT epoch, purged FROM calls WHERE call = ?", (write.call,)).fetchone()
    if row is None or row[0] != write.epoch or row[1]:
        return Written.stale
    match write:
        case Append():
            return Written.gap
        case Reserve():
            return _reserve(db, write)
        case Release(call, _, n):
            db.execute("DELETE FROM once WHERE call = ? AND n = ?", (call, n))
        case Finish(call, _, cdr, recording):
            db.execute("UPDATE calls SET cdr = ?, recording = ? WHERE call = ?", (cdr, recording, call))
        case _:
            assert_never(write)
    return Written.ok


def _begin(db: sqlite3.Connection, write: Begin) -> Written:
    header = write.header
    held = db.execute("SELECT epoch, purged FROM calls WHERE call = ?", (header.call,)).fetchone()
    if held:
        if held[0] >= header.epoch or held[1]:
            return Written.stale
        db.execute("UPDATE calls SET epoch = ? WHERE call = ?", (header.epoch, header.call))
        return Written.ok
    db.execute("INSERT OR IGNORE INTO flows VALUES (?, ?)", (header.flow_hash, write.flow))
    db.execute(
        "INSERT INTO calls (call, flow, flow_hash, core_version, epoch, started_at) VALUES (?, ?, ?, ?, ?, ?)",
        (header.call, header.flow, header.flow_hash, header.core_version, header.epoch, header.started_at),
    )
    db.execute("INSERT INTO keys VALUES (?, ?)", (header.call, write.key))
    return Written.ok


def _append(db: sqlite3.Connection, write: Append) -> bool:
    """False, and nothing is done, where the records are not the next ones of a call that this epoch holds."""
    call, first, count = write.call, write.records[0].seq, len(write.records)
    if any(record.seq != first + i for i, record in enumerate(write.records)):
        return False
    held = db.execute(
        "UPDATE calls SET records = records + ? WHERE call = ? AND epoch = ? AND records = ? AND NOT purged",
        (count, call, write.epoch, first - 1),
    )
    if held.rowcount:
        db.executemany(
            "INSERT INTO records VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            [(call, r.seq, r.epoch, r.ms, r.sealed, r.body, r.digest, r.chain) for r in write.records],
        )
    return bool(held.rowcount)


def _reserve(db: sqlite3.Connection, write: Reserve) -> Written:
    holder = db.execute("SELECT call, n FROM once WHERE once = ?", (write.once,)).fetchone()
    if holder:
        return Written.ok if holder == (write.call, write.n) else Written.conflict
    db.execute("INSERT INTO once VALUES (?, ?, ?)", (write.once, write.call, write.n))
    return Written.ok


def _call_row(row: tuple[Any, ...]) -> CallRow:
    *header, records, cdr, recording, purged = row
    return CallRow(CallHeader(*header), records, cdr, recording, bool(purged))


def _check_version(db: sqlite3.Connection, path: Path) -> None:
    version = db.execute("PRAGMA user_version").fetchone()[0]
    if version > SCHEMA_VERSION:
        raise StoreError(f"{path}: written by a newer voicegate (format {version}, this one reads {SCHEMA_VERSION})")
    if version != SCHEMA_VERSION:
        raise StoreError(f"{path}: not a voicegate journal")


class _FolderLock:
    """At most one writer per data folder: a POSIX lock between processes, a set of names within this one.

    A POSIX lock because helper processes that are forked do not inherit it and so cannot outlive their server with it.
    """

    _mine: set[Path] = set()  # noqa: RUF012 - of the whole process: POSIX locks are
    _guard = threading.Lock()

    def __init__(self, folder: Path) -> None:
        self._name = folder.resolve() / LOCK_NAME
        with self._guard:
            if self._name in self._mine:
                raise StoreError(f"{folder}: in use by this process already")
            with clear_errors(self._name):
                self._file = os.open(self._name, os.O_RDWR | os.O_CREAT, 0o600)
            try:
                fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                os.ftruncate(self._file, 0)
                os.write(self._file, str(os.getpid()).encode())
            except OSError as error:
                owner = os.pread(self._file, 20, 0).decode("ascii", "replace").strip()
                os.close(self._file)
                if isinstance(error, BlockingIOError | PermissionError):
                    raise StoreError(f"{folder}: in use by another voicegate server (process {owner})") from error
                raise StoreError(f"{self._name}: {error.strerror}") from error
            self._mine.add(self._name)

    def release(self) -> None:
        with self._guard:
            self._mine.discard(self._name)
            os.close(self._file)
