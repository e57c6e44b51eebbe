"""A whole call with a date of birth in it: afterwards it is nowhere, and after the purge its key is gone too."""

import logging
import re
import sqlite3
import wave
from pathlib import Path

import numpy as np
import pytest

from app.core.events import Digit
from app.demo.backend import clinic_backend
from app.store.sqlite import SqliteStore
from tests.cli.inside import Inside
from tests.e2e.clients import dial
from tests.e2e.server import TALK, running
from tests.e2e.typist import Typist

BIRTH = (b"1980-05-31", b"31051980", b"May 31st", b"31 05 1980", b"19800531")
OTHER = (b"14021975", b"1975-02-14", b"february 14th", b"February 14th")


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


async def booked(folder: Path, caplog: pytest.LogCaptureFixture) -> str:
    """One call that keys and says the date, corrects it, and books."""
    caplog.set_level(logging.DEBUG)
    async with (
        clinic_backend(folder.parent / "clinic.sqlite") as variables,
        running(folder, environment=variables) as server,
        dial(server.ws("/ws/audio/clinic")) as caller,
    ):
        await Typist(
            caller,
            date_of_birth=["14021975", "my birthday is May 31st 1980"],
            is_that_right=["no", "yes"],
            which_day=["sorry, my birthday is february 14th 1975", "tuesday"],
        ).call()
        record = await server.over(caller.call)
        assert record["outcome"] == "booked"
        assert server.facts(Digit)
        during = files(folder)
        for name, data in during.items():
            for secret in (*BIRTH, *OTHER):
                assert secret not in data, f"{secret!r} in {name}"
        return caller.call


async def test_the_date_of_birth_is_nowhere_and_the_purge_deletes_its_key(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "var"
    call = await booked(folder, caplog)
    inside = Inside(tmp_path, monkeypatch)
    told = inside("calls", call)
    assert told.status == 0
    assert "tuesday" in told.out.lower(), "what is not sensitive can be read"
    logged = "".join(record.getMessage() for record in caplog.records if record.name != "websockets.client")
    seen = [logged, told.out, told.err, inside("calls").out, inside("calls", call, "--json").out]
    seen.append(inside("replay", call).out)
    for text in seen:
        for secret in (*BIRTH, *OTHER, b"Alex"):
            assert secret.decode() not in text
    left = files(folder)
    assert "journal.sqlite" in left
    for name, data in left.items():
        for secret in (*BIRTH, *OTHER, b"Alex"):
            assert secret not in data, f"{secret!r} in {name}"
    with sqlite3.connect(folder / "journal.sqlite") as db:
        for table in ("records", "calls", "once"):
            for row in db.execute(f"SELECT * FROM {table}"):
                for value in row:
                    text = value if isinstance(value, str) else ""
                    assert not re.search(r"\bp1\b", text), f"the patient's number in {table}"
    forget(folder, call, inside)


def forget(folder: Path, call: str, inside: Inside) -> None:
    """The key keeps the secret, and the purge deletes the key."""
    store = SqliteStore(folder / "journal.sqlite")
    try:
        key = store.load(call).key
        sealed = [record.body for record in store.load(call).records if record.sealed]
        assert len(key) == 32
        assert len(sealed) > 8
        assert (folder / "recordings" / f"{call}.wav").is_file()
        assert store.purge("2999-01-01T00:00:00.000Z") == 1
    finally:
        store.close()
    for name, data in files(folder).items():
        assert key not in data, f"the key is still in {name}"
        assert not any(body in data for body in sealed), f"a sealed record is still in {name}"
    assert not (folder / "recordings" / f"{call}.wav").exists()
    assert "purged" in inside("calls").out
    told = inside("replay", call)
    assert told.status == 2
    assert "purged" in told.err
    assert "purged" in inside("calls", call).err + inside("calls", call).out


async def test_the_recording_has_both_sides(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with (
        clinic_backend(tmp_path / "clinic.sqlite") as variables,
        running(tmp_path / "var", environment=variables, words_per_s=6.0) as server,
        dial(server.ws("/ws/audio/clinic"), rate=16000) as caller,
    ):
        await caller.until(lambda: caller.frames)
        await caller.room(0.6)
        await caller.speak(caller.tones(0.6))
        await caller.room(0.8)
        path = tmp_path / "var" / "recordings" / f"{caller.call}.wav"
        with wave.open(str(path)) as file:
            assert file.getnchannels() == 2, "readable while the call goes on"
        await caller.send({"type": "stop"})
        await caller.until_closed()
        record = await server.over(caller.call)
        row = server.journal(caller.call).row
        assert row.recording == f"recordings/{caller.call}.wav"
        agent_s = len(caller.frames) * 0.02
    assert path.stat().st_mode & 0o077 == 0, "nobody else's to hear"
    with wave.open(str(path)) as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (2, 2, 16000)
        both = np.frombuffer(file.readframes(file.getnframes()), dtype="<i2").reshape(-1, 2)
    assert path.stat().st_size == 44 + both.nbytes
    assert abs(len(both) / 16000 - record["duration_ms"] / 1000) < 0.5
    caller_s, heard_s = ((np.abs(both[:, side].astype(np.int32)) > 1000).sum() / 16000 for side in (0, 1))
    assert 0.3 < caller_s < 0.8
    assert 0.1 * agent_s < heard_s < agent_s + 0.1


async def test_no_recording_where_settings_or_flow_say_so(tmp_path: Path) -> None:
    quiet = tmp_path / "quiet.yaml"
    quiet.write_text(TALK.read_text().replace("record: true\n", ""))
    async with running(tmp_path / "a", flows=[quiet]) as server, dial(server.ws("/ws/audio/talk")) as caller:
        await caller.quiet()
    async with (
        running(tmp_path / "b", flows=[TALK], recordings=False) as server,
        dial(server.ws("/ws/audio/talk")) as caller,
    ):
        await caller.quiet()
    assert not [name for name in files(tmp_path) if name.endswith(".wav")]
