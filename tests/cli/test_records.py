"""`voicegate calls` and `replay` over a call that was really made, and over journals that were meddled with."""

import asyncio
import json
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from app.core.codec import Codec, first_link, link
from app.main import JOURNAL_FILE
from app.store.sqlite import SqliteStore
from tests.cli.inside import Inside
from tests.e2e.clients import dial
from tests.e2e.server import TALK, running


async def talk(folder: Path) -> str:
    async with running(folder, flows=[TALK]) as server, dial(server.ws("/ws/audio"), caller="+15550100") as caller:
        await caller.asked("Which day")
        await caller.type("on friday please")
        await caller.asked("Friday. Is that right?")
        await caller.key("#")
        await caller.until_closed()
        await server.over(caller.call)
        return caller.call


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    folder = tmp_path_factory.mktemp("made")
    return folder, asyncio.run(talk(folder / "var"))


class Desk:
    """A copy of the data folder, the command over it, and a way to meddle with the file."""

    def __init__(self, folder: Path, call: str, inside: Inside) -> None:
        self.call = call
        self.run = inside
        self.file = folder / "var" / JOURNAL_FILE

    def meddle(self, *statements: str) -> None:
        with sqlite3.connect(self.file) as db:
            for statement in statements:
                assert db.execute(statement).rowcount > 0


@pytest.fixture
def desk(made: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    folder, call = made
    shutil.copytree(folder / "var", tmp_path / "var")
    return Desk(tmp_path, call, Inside(tmp_path, monkeypatch))


def test_the_list(desk: Desk) -> None:
    listed = desk.run("calls", COLUMNS="80")
    assert listed.status == 0
    (line,) = [line for line in listed.out.splitlines() if desk.call in line]
    assert "talk" in line
    assert "told" in line
    assert max(map(len, listed.out.splitlines())) <= 80
    assert desk.call not in desk.run("calls", "--flow", "clinic").out
    assert desk.call in desk.run("calls", "--flow", "talk", "--limit", "1").out
    (row,) = json.loads(desk.run("calls", "--json").out)
    assert (row["call"], row["flow"], row["purged"]) == (desk.call, "talk", False)
    assert row["cdr"]["slots"] == {"day": "friday"}


def test_one_call_told_again(desk: Desk) -> None:
    told = desk.run("calls", desk.call[:5])
    assert (told.status, told.err) == (0, "")
    for words in ("“on friday please”", "“Friday. Is that right?”", "day = friday", "+15550100", "over: told (flow)"):
        assert words in told.out
    assert json.loads(desk.run("calls", desk.call, "--json").out)["call"] == desk.call


@pytest.mark.parametrize("command", ["calls", "replay"])
def test_a_call_that_is_not_there(desk: Desk, command: str) -> None:
    done = desk.run(command, "nothing")
    assert (done.status, done.out) == (2, "")
    assert done.err == "error: no call 'nothing'\n"


def test_a_replay_makes_every_decision_again(desk: Desk) -> None:
    done = desk.run("replay", desk.call[:5])
    assert (done.status, done.err) == (0, "")
    assert desk.call in done.out
    assert "every decision the same" in done.out


TAMPERED: dict[str, tuple[list[str], str]] = {
    "an event": (
        [
            "UPDATE records SET body = CAST(replace(body, 'friday', 'monday') AS BLOB)"
            " WHERE instr(body, CAST('friday' AS BLOB))"
        ],
        "record ",
    ),
    "a byte": (["UPDATE records SET body = CAST(body || ' ' AS BLOB) WHERE seq = 4"], "record 4"),
    "a time": (["UPDATE records SET ms = ms + 1 WHERE seq = 5"], "record 5"),
    "a digest": (["UPDATE records SET digest = zeroblob(16) WHERE seq = 6"], "record 6"),
    "a link": (["UPDATE records SET chain = zeroblob(32) WHERE seq = 3"], "record 3"),
    "a seal": (["UPDATE records SET sealed = 1 - sealed WHERE seq = 2"], "record 2"),
    "an owner": (["UPDATE records SET epoch = 2 WHERE seq = 2"], "record 2"),
    "a record that is gone": (["DELETE FROM records WHERE seq = 3"], "record 3"),
    "the last record": (["DELETE FROM records WHERE seq = (SELECT max(seq) FROM records)"], "missing"),
    "the first record": (["DELETE FROM records WHERE seq = 1"], "record 1"),
    "two records swapped": (
        [
            "UPDATE records SET seq = 1000 WHERE seq = 3",
            "UPDATE records SET seq = 3 WHERE seq = 4",
            "UPDATE records SET seq = 4 WHERE seq = 1000",
        ],
        "record 3",
    ),
    "the flow": (["UPDATE flows SET body = CAST(replace(body, 'Hello', 'Jello') AS BLOB)"], "flow was changed"),
    "the flow's length": (["UPDATE flows SET body = x'7b7d'"], "flow was changed"),
    "the flow that is gone": (["DELETE FROM flows"], "its flow is missing"),
    "the core's version": (["UPDATE calls SET core_version = 99"], "core version 99"),
    "the flow's name": (["UPDATE calls SET flow = 'other'"], "record 1"),
    "the start": (["UPDATE calls SET started_at = '[/]'"], "record 1"),
    "the call's name": (
        [f"UPDATE {table} SET call = call || '[/]'" for table in ("calls", "records", "keys")],
        "record 1",
    ),
    "the key's length": (["UPDATE keys SET key = x'00'"], "its key is damaged"),
    "the key that is gone": (["DELETE FROM keys"], "its key is deleted"),
    "a time before the start": (["UPDATE records SET ms = -5 WHERE seq = 5"], "record 5"),
    "an owner below 0": (["UPDATE records SET epoch = -1 WHERE seq = 2"], "record 2"),
    "an owner beyond all": (["UPDATE records SET epoch = 99999999999 WHERE seq = 2"], "record 2"),
    "the call record": (["UPDATE calls SET cdr = x'ff'"], "call record is damaged"),
    "the call record's kind": (["UPDATE calls SET cdr = CAST('[1]' AS BLOB)"], "call record is damaged"),
    "the call record's length": (["UPDATE calls SET cdr = x''"], "call record is damaged"),
}
DIFFERS: dict[str, tuple[list[str], str]] = {
    "its outcome": (["UPDATE calls SET cdr = CAST(replace(cdr, 'told', 'sold') AS BLOB)"], "outcome"),
    "a value": (["UPDATE calls SET cdr = CAST(replace(cdr, 'friday', 'monday') AS BLOB)"], "slots"),
    "another cause": (
        ["""UPDATE calls SET cdr = CAST(replace(cdr, '"cause":"flow"', '"cause":"internal-error"') AS BLOB)"""],
        "cause",
    ),
    "the journal's end": (["DELETE FROM records WHERE seq > 5", "UPDATE calls SET records = 5"], "cause, outcome"),
    "the whole journal": (["DELETE FROM records", "UPDATE calls SET records = 0"], "transport"),
}


@pytest.mark.parametrize("what", TAMPERED)
def test_a_journal_that_was_meddled_with_is_not_replayed(desk: Desk, what: str) -> None:
    statements, words = TAMPERED[what]
    desk.meddle(*statements)
    done = desk.run("replay", desk.call)
    assert (done.status, done.out) == (2, ""), what
    assert done.err.startswith("error: ")
    assert len(done.err.splitlines()) == 1
    assert words in done.err
    assert desk.run("calls", desk.call).status == 0, "what can be told is told"
    assert desk.call in desk.run("calls").out


@pytest.mark.parametrize("what", DIFFERS)
def test_a_call_record_that_its_journal_does_not_tell(desk: Desk, what: str) -> None:
    statements, words = DIFFERS[what]
    desk.meddle(*statements)
    done = desk.run("replay", desk.call)
    assert (done.status, done.out) == (1, ""), what
    assert done.err.startswith("diverged: the call record differs from what the journal tells: ")
    assert len(done.err.splitlines()) == 1
    assert words in done.err
    told = desk.run("calls", desk.call)
    assert told.status == 0
    assert "the call record differs" in told.err


def test_a_damaged_call_record_in_the_list(desk: Desk) -> None:
    desk.meddle("UPDATE calls SET cdr = x'7b'")
    (line,) = [line for line in desk.run("calls").out.splitlines() if desk.call in line]
    assert "damaged" in line
    (row,) = json.loads(desk.run("calls", "--json").out)
    assert (row["cdr"], row["damaged"]) == (None, True)


def test_another_key_opens_nothing(desk: Desk) -> None:
    desk.meddle("UPDATE keys SET key = randomblob(32)")
    done = desk.run("replay", desk.call)
    assert done.status in (1, 2)
    assert "record 1" in done.err


def test_a_decision_that_differs_is_named_and_ends_with_status_1(desk: Desk) -> None:
    """A journal whose chain is whole, but in which somebody else decided: as after a change of the core."""
    with SqliteStore(desk.file, read_only=True) as store:
        journal = store.load(desk.call)
    chain = first_link(journal.row.header)
    with sqlite3.connect(desk.file) as db:
        for record in journal.records:
            digest = bytes(16) if record.seq == 7 else record.digest
            chain = link(chain, record.seq, record.epoch, record.ms, record.sealed, record.body, digest)
            db.execute("UPDATE records SET digest = ?, chain = ? WHERE seq = ?", (digest, chain, record.seq))
    done = desk.run("replay", desk.call)
    assert (done.status, done.out) == (1, "")
    assert done.err.startswith("diverged: record 7 (")
    told = desk.run("calls", desk.call)
    assert told.status == 0
    assert "record 7" in told.err


@pytest.mark.parametrize("damage", [lambda data: b"", lambda data: data[:3000], lambda data: b"x" * len(data)])
def test_a_broken_file(desk: Desk, damage: Callable[[bytes], bytes]) -> None:
    desk.file.write_bytes(damage(desk.file.read_bytes()))
    for extra in ("-wal", "-shm"):
        desk.file.with_name(desk.file.name + extra).unlink(missing_ok=True)
    for arguments in (["calls"], ["replay", desk.call]):
        done = desk.run(*arguments)
        assert done.status == 2
        assert done.err.startswith("error: ")
        assert len(done.err.splitlines()) == 1
        assert JOURNAL_FILE in done.err


def test_codec_is_what_the_meddling_above_assumes(desk: Desk) -> None:
    with SqliteStore(desk.file, read_only=True) as store:
        journal = store.load(desk.call)
    codec = Codec(journal.key, journal.row.header)
    assert all(codec.decode(record) for record in journal.records)
