"""What outbound calls must not forget: the day's counts and spending, and how far each list is.

One SQLite file of its own in the data folder. What a method has answered is on the disk: a reservation that a
crash leaves behind counts in full until its day is over, and a row that was being called counts as called.
"""

import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Self

from app.dialler.outcome import Outcome, Progress
from app.dialler.rules import Refusal, Used
from app.ports import StoreError
from app.store.sqlite_file import clear_errors, open_writer, transaction

FILE_NAME = "dials.sqlite"
SCHEMA_VERSION = 1
APPLICATION_ID = 0x56474449  # "VGDI"
MAX_NAME_CHARS = 200

_SCHEMA = f"""
CREATE TABLE runs (run INTEGER PRIMARY KEY AUTOINCREMENT);
CREATE TABLE calls (
    call INTEGER PRIMARY KEY AUTOINCREMENT,
    run INTEGER NOT NULL,
    day TEXT NOT NULL,
    destination TEXT NOT NULL,
    started_s REAL NOT NULL,
    micros INTEGER NOT NULL,
    live INTEGER NOT NULL DEFAULT 1
);
CREATE INDEX calls_by_day ON calls (day, destination, micros);
CREATE INDEX calls_live ON calls (run) WHERE live;
CREATE TABLE lists (list TEXT PRIMARY KEY, epoch INTEGER NOT NULL);
CREATE TABLE rows (
    list TEXT NOT NULL REFERENCES lists (list) ON DELETE CASCADE,
    row TEXT NOT NULL,
    outcomes TEXT NOT NULL,
    placing INTEGER NOT NULL,
    next_at_s REAL,
    PRIMARY KEY (list, row)
) WITHOUT ROWID;
PRAGMA application_id = {APPLICATION_ID};
PRAGMA user_version = {SCHEMA_VERSION};
"""


class DialStore:
    """The file `path`, made (0600) with its folder (0700) where it is missing. Methods may come from any thread.

    Each opening is a run: calls that an earlier run left open are live no more, and cost what they reserved. Two
    processes may share the file: counts and spending are common, `Used.live` is of each run alone.
    """

    def __init__(self, path: Path) -> None:
        """Raises `StoreError`, as all methods do: a folder that is not writable, a file that is not ours or newer."""
        self._path = path
        self._guard = threading.Lock()
        self._db: sqlite3.Connection | None = None
        with clear_errors(path):
            self._db = open_writer(path, _SCHEMA, lambda db: _check(db, path))
        try:
            with self._transaction() as db:
                self._run = db.execute("INSERT INTO runs DEFAULT VALUES").lastrowid
                db.execute("DELETE FROM runs WHERE run < ?", (self._run,))
        except StoreError:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        with self._guard:
            if self._db:
                with suppress(sqlite3.Error):
                    self._db.close()
                self._db = None

    # Counts and spending

    def reserve(
        self, day: str, destination: str, micros: int, now_s: float, admit: Callable[[Used], Refusal | None]
    ) -> int | Refusal:
        """Count one call on `day` ("2030-01-31") and reserve its cost, if `admit` has nothing against it.

        Question and entry are one transaction: no second call comes between. Returns the call's number.
        """
        with self._transaction() as db:
            refusal = admit(self._used(db, day, destination))
            if refusal is not None:
                return refusal
            call = db.execute(
                "INSERT INTO calls (run, day, destination, started_s, micros) VALUES (?, ?, ?, ?, ?)",
                (self._run, day, destination, now_s, micros),
            ).lastrowid
        assert call is not None
        return call

    def settle(self, call: int, micros: int | None = None) -> None:
        """The call is over and cost `micros`, by default what was reserved. Later settlements change nothing."""
        with self._transaction() as db:
            db.execute(
                "UPDATE calls SET live = 0, micros = coalesce(?, micros) WHERE call = ? AND live AND run = ?",
                (micros, call, self._run),
            )

    def used(self, day: str, destination: str = "") -> Used:
        with self._transaction() as db:
            return self._used(db, day, destination)

    def forget_days(self, before_day: str) -> int:
        """Delete the calls of the days before; returns how many."""
        with self._transaction() as db:
            return db.execute(
                "DELETE FROM calls WHERE day < ? AND NOT (live AND run = ?)", (before_day, self._run)
            ).rowcount

    def _used(self, db: sqlite3.Connection, day: str, destination: str) -> Used:
        calls, there, spent = db.execute(
            "SELECT count(*), coalesce(sum(destination = ?), 0), coalesce(sum(micros), 0) FROM calls WHERE day = ?",
            (destination, day),
        ).fetchone()
        (live,) = db.execute("SELECT count(*) FROM calls WHERE run = ? AND live", (self._run,)).fetchone()
        last = db.execute("SELECT started_s FROM calls ORDER BY call DESC LIMIT 1").fetchone()
        return Used(calls, there, spent, live, last[0] if last else None)

    # Lists

    def take(self, name: str) -> int:
        """Make the list `name` ours, new or not: whoever had it before can write no more. Returns our epoch."""
        _check_name(name)
        with self._transaction() as db:
            (epoch,) = db.execute(
                "INSERT INTO lists VALUES (?, 1) ON CONFLICT (list) DO UPDATE SET epoch = epoch + 1 RETURNING epoch",
                (name,),
            ).fetchone()
        return int(epoch)

    def put(self, name: str, epoch: int, rows: dict[str, Progress]) -> bool:
        """Write how far these rows are, all or none. False: another epoch holds the list, nothing was written."""
        for row in rows:
            _check_name(row)
        with self._transaction() as db:
            held = db.execute("SELECT epoch FROM lists WHERE list = ?", (name,)).fetchone()
            if held is None or held[0] != epoch:
                return False
            db.executemany(
                "INSERT OR REPLACE INTO rows VALUES (?, ?, ?, ?, ?)",
                [(name, row, " ".join(p.outcomes), p.placing, p.next_at_s) for row, p in rows.items()],
            )
        return True

    def progress(self, name: str) -> dict[str, Progress]:
        """Of all rows of the list that were ever written; empty for a list that is not known."""
        with self._transaction() as db:
            rows = db.execute("SELECT row, outcomes, placing, next_at_s FROM rows WHERE list = ?", (name,)).fetchall()
        return {
            row: Progress(tuple(_outcome(word) for word in outcomes.split()), bool(placing), next_at_s)
            for row, outcomes, placing, next_at_s in rows
        }

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._guard, clear_errors(self._path):
            if self._db is None:
                raise StoreError(f"{self._path}: closed")
            with transaction(self._db):
                yield self._db


def _outcome(word: str) -> Outcome:
    try:
        return Outcome(word)
    except ValueError:  # of a newer version, or damaged: it was an attempt
        return Outcome.unknown


def _check_name(name: str) -> None:
    if not 0 < len(name) <= MAX_NAME_CHARS:
        raise StoreError(f"lists and rows have names of 1 to {MAX_NAME_CHARS} characters")


def _check(db: sqlite3.Connection, path: Path) -> None:
    if db.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
        raise StoreError(f"{path}: not a file of voicegate's outbound calls")
    version = db.execute("PRAGMA user_version").fetchone()[0]
    if version != SCHEMA_VERSION:
        raise StoreError(f"{path}: format {version}, this voicegate reads {SCHEMA_VERSION}")
