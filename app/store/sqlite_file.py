"""SQLite files of ours: made for their owner alone, in WAL, on the disk when a transaction has returned."""

import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from app.ports import StoreError

BUSY_MS: Final = 5_000


def connect(path: Path) -> sqlite3.Connection:
    """An existing file, in autocommit and for any thread, with a wait where it is locked."""
    db = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=rw",
        uri=True,
        timeout=BUSY_MS / 1000,
        isolation_level=None,
        check_same_thread=False,
    )
    db.text_factory = lambda text: text.decode(errors="replace")  # one damaged name must not hide all others
    return db


def open_writer(path: Path, schema: str, check: Callable[[sqlite3.Connection], None]) -> sqlite3.Connection:
    """The file, made (0600) with its folder (0700) where it is missing. What is deleted in it is overwritten.

    `schema`: statements that make an empty file ours. `check` raises where it is not, before anything is changed.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    path.chmod(0o600)
    db = connect(path)
    try:
        db.execute("PRAGMA foreign_keys = ON")
        db.execute("PRAGMA secure_delete = ON")
        with transaction(db):  # two that make the file at once: one does, the other finds it made
            if not db.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]:
                for statement in filter(str.strip, schema.split(";")):
                    db.execute(statement)
        check(db)
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
    except BaseException:
        db.close()
        raise
    return db


@contextmanager
def transaction(db: sqlite3.Connection) -> Iterator[None]:
    """All of what is done in it, or nothing."""
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
        db.execute("COMMIT")
    finally:
        if db.in_transaction:
            with suppress(sqlite3.Error):
                db.execute("ROLLBACK")


@contextmanager
def clear_errors(path: Path) -> Iterator[None]:
    """What SQLite and the system say becomes a `StoreError` that names the file."""
    try:
        yield
    except sqlite3.Error as error:
        raise StoreError(f"{path}: {error}") from error
    except OSError as error:
        raise StoreError(f"{path}: {error.strerror}") from error
