"""A small clinic behind HTTP: patients, free slots, appointments, in one SQLite file.

It stands for the business system that a flow's tools call, so it keeps the two promises that such a system should: a
slot is booked once, and the same idempotency key gives the same answer.
"""

import asyncio
import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

from fastapi import FastAPI, Header, HTTPException, Query
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel, ConfigDict, Field

BUSY_MS = 5_000
MAX_ID_CHARS = 40
MAX_KEY_CHARS = 200
FIRST_REFERENCE = 4101

PATIENTS = (("p1", "1980-05-31", "Alex"), ("p2", "1975-02-14", "Sam"), ("p3", "2001-11-03", "Robin"))
DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday")
TIMES = {
    "morning": ("nine thirty", "ten fifteen", "eleven o'clock"),
    "afternoon": ("two o'clock", "three twenty", "four forty"),
}

_SCHEMA = """
CREATE TABLE IF NOT EXISTS patients (id TEXT PRIMARY KEY, dob TEXT NOT NULL UNIQUE, first_name TEXT NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS slots (
    id TEXT PRIMARY KEY, position INTEGER NOT NULL, day TEXT NOT NULL, part TEXT NOT NULL, time TEXT NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS appointments (
    reference TEXT PRIMARY KEY, patient_id TEXT NOT NULL REFERENCES patients, slot_id TEXT NOT NULL UNIQUE
    REFERENCES slots
) STRICT;
CREATE TABLE IF NOT EXISTS answers (key TEXT PRIMARY KEY, request TEXT NOT NULL, answer TEXT NOT NULL) STRICT;
"""


class Part(StrEnum):
    morning = "morning"
    afternoon = "afternoon"


class Day(StrEnum):
    monday = "monday"
    tuesday = "tuesday"
    wednesday = "wednesday"
    thursday = "thursday"
    friday = "friday"
    saturday = "saturday"
    sunday = "sunday"


class Booking(BaseModel):
    model_config = ConfigDict(extra="forbid")

    patient_id: str = Field(min_length=1, max_length=MAX_ID_CHARS)
    slot_id: str = Field(min_length=1, max_length=MAX_ID_CHARS)


@dataclass(frozen=True, slots=True)
class Appointment:
    reference: str
    patient_id: str
    slot_id: str
    day: str
    part: str
    time: str  # as it is spoken


class Refused(Exception):
    """The clinic says no. `status` is an HTTP status, `reason` holds nothing of the request."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


def seed(database: Path) -> None:
    """Make the file, its tables, patients and slots. What is there already stays."""
    with _open(database) as db:
        db.executescript(_SCHEMA)
        db.execute("BEGIN IMMEDIATE")
        db.executemany("INSERT OR IGNORE INTO patients VALUES (?, ?, ?)", PATIENTS)
        db.executemany("INSERT OR IGNORE INTO slots VALUES (?, ?, ?, ?, ?)", list(_slots()))
        db.execute("COMMIT")


def _slots() -> Iterator[tuple[str, int, str, str, str]]:
    """Each day's times begin with another one, so that a changed day can be heard."""
    for day_number, day in enumerate(DAYS):
        for part, times in TIMES.items():
            for number in range(len(times)):
                time = times[(number + day_number) % len(times)]
                yield f"{day[:3]}-{part[:2]}-{number + 1}", number, day, part, time


def find_patient(database: Path, dob: date) -> dict[str, Any]:
    with _open(database) as db:
        row = db.execute("SELECT id, first_name FROM patients WHERE dob = ?", (dob.isoformat(),)).fetchone()
    return {"found": True, "patient_id": row[0], "first_name": row[1]} if row else {"found": False}


def find_slot(database: Path, day: Day, part: Part) -> dict[str, Any]:
    """The first free one."""
    with _open(database) as db:
        row = db.execute(
            "SELECT id, time FROM slots WHERE day = ? AND part = ? AND id NOT IN (SELECT slot_id FROM appointments)"
            " ORDER BY position LIMIT 1",
            (day, part),
        ).fetchone()
    return {"found": True, "slot_id": row[0], "time": row[1]} if row else {"found": False}


def book(database: Path, booking: Booking, key: str) -> dict[str, Any]:
    """All or nothing. Raises `Refused`: 404 unknown, 409 taken, 422 the key was used for something else."""
    request = json.dumps([booking.patient_id, booking.slot_id])
    with _open(database) as db:
        db.execute("BEGIN IMMEDIATE")
        earlier = db.execute("SELECT request, answer FROM answers WHERE key = ?", (key,)).fetchone() if key else None
        if earlier is not None:
            if earlier[0] != request:
                raise Refused(422, "this key belongs to another request")
            return dict(json.loads(earlier[1]))
        for table, wanted in (("patients", booking.patient_id), ("slots", booking.slot_id)):
            if db.execute(f"SELECT 1 FROM {table} WHERE id = ?", (wanted,)).fetchone() is None:  # noqa: S608  # our own names
                raise Refused(404, f"not one of the {table}")
        if db.execute("SELECT 1 FROM appointments WHERE slot_id = ?", (booking.slot_id,)).fetchone():
            raise Refused(409, "this slot is taken")
        count = db.execute("SELECT count(*) FROM appointments").fetchone()[0]
        answer = {"booked": True, "reference": str(FIRST_REFERENCE + count)}
        db.execute(
            "INSERT INTO appointments VALUES (?, ?, ?)", (answer["reference"], booking.patient_id, booking.slot_id)
        )
        if key:
            db.execute("INSERT INTO answers VALUES (?, ?, ?)", (key, request, json.dumps(answer)))
        db.execute("COMMIT")
    return answer


def appointments(database: Path) -> list[Appointment]:
    """All of them, in the order in which they were made."""
    with _open(database) as db:
        rows = db.execute(
            "SELECT reference, patient_id, slot_id, day, part, time FROM appointments JOIN slots ON slots.id = slot_id"
            " ORDER BY appointments.rowid"
        ).fetchall()
    return [Appointment(*row) for row in rows]


@contextmanager
def _open(database: Path) -> Iterator[sqlite3.Connection]:
    """A connection for one piece of work; what it did not commit is undone."""
    with closing(sqlite3.connect(database, timeout=BUSY_MS / 1000, isolation_level=None)) as db:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA foreign_keys = ON")
        yield db


def clinic_app(database: Path, *, latency_ms: int = 0) -> FastAPI:
    """The clinic's HTTP side over `database`, which is made if it is not there. Each answer waits `latency_ms`."""
    seed(database)
    app = FastAPI(title="Clinic", docs_url=None, redoc_url=None, openapi_url=None)

    @app.get("/patients")
    async def patients(dob: date) -> dict[str, Any]:
        await asyncio.sleep(latency_ms / 1000)
        return await run_in_threadpool(find_patient, database, dob)

    @app.get("/slots")
    async def slots(day: Annotated[Day, Query()], part: Annotated[Part, Query()]) -> dict[str, Any]:
        await asyncio.sleep(latency_ms / 1000)
        return await run_in_threadpool(find_slot, database, day, part)

    @app.post("/appointments")
    async def book_slot(
        booking: Booking, idempotency_key: Annotated[str, Header(max_length=MAX_KEY_CHARS)] = ""
    ) -> dict[str, Any]:
        await asyncio.sleep(latency_ms / 1000)
        try:
            return await run_in_threadpool(book, database, booking, idempotency_key)
        except Refused as refused:
            raise HTTPException(refused.status, refused.reason) from None

    return app
