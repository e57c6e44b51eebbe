"""The journal's file cannot be written any more, in the middle of calls: nothing acts unrecorded, and nothing hangs."""

import asyncio
import resource
import signal
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import aiohttp
import pytest

from app import main
from app.core.events import CallFailed
from app.demo.backend import clinic_backend
from app.demo.clinic import appointments
from app.runtime.switchboard import UNRECORDED
from app.store.sqlite import SqliteStore
from tests.cli.process import serving
from tests.e2e.clients import dial, ringing
from tests.e2e.server import LECTURE, PATIENCE_S, TALK, Server, running
from tests.e2e.test_overload import refused_everywhere
from tests.e2e.typist import Typist


class Disk(SqliteStore):
    """The real store, whose file can become read-only."""

    opened: "Disk"

    def __init__(self, path: Path, **options: Any) -> None:
        super().__init__(path, **options)
        if not options:
            Disk.opened = self

    def fail(self) -> None:
        self._allow("ON")

    def work(self) -> None:
        self._allow("OFF")

    def _allow(self, query_only: str) -> None:
        with self._writing:
            self._connection().execute(f"PRAGMA query_only = {query_only}")


@contextmanager
def disk() -> Iterator[None]:
    with mock.patch.object(main, "SqliteStore", Disk):
        yield


async def health(server: Server) -> tuple[int, str]:
    async with aiohttp.ClientSession() as http, http.get(server.url + "/health") as answer:
        return answer.status, (await answer.json())["status"]


async def until_health(server: Server, wanted: tuple[int, str]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while await health(server) != wanted:  # noqa: ASYNC110 - another thread makes it so
            await asyncio.sleep(0.02)


@pytest.mark.parametrize(("question", "tool"), [("is that right", "find_patient"), ("shall i book", "book")])
async def test_nothing_acts_unrecorded(tmp_path: Path, question: str, tool: str) -> None:
    database = tmp_path / "clinic.sqlite"
    with disk():
        async with (
            clinic_backend(database) as variables,
            running(tmp_path / "var", flows=["clinic", LECTURE], environment=variables, words_per_s=20) as server,
            dial(server.ws("/ws/audio/lecture")) as neighbour,
            dial(server.ws("/ws/audio/clinic")) as caller,
        ):
            assert await health(server) == (200, "ok")
            typist = Typist(caller, before={question: Disk.opened.fail})
            await typist.call()
            assert caller.ended == ("flow", "referred")
            assert (tool, "refused", "journal") in server.verdicts(caller.call)
            assert appointments(database) == []
            assert await health(server) == (503, "journal")
            async with ringing(server.ws("/ws/audio/clinic")) as late:
                assert await late.until_closed() == (4503, "no call can be recorded now")

            assert neighbour.closed is None
            await neighbour.type("monday")
            await neighbour.asked("Monday")
            await neighbour.key("#")
            await neighbour.until_closed()
            assert neighbour.ended == ("flow", "told")

            Disk.opened.work()
            for call in (caller.call, neighbour.call):
                record = await server.over(call)
                assert record["outcome"] in ("referred", "told")
                assert server.replayed(call).phase == "ended", "nothing of it is lost"
            assert not server.facts(CallFailed)
            assert await health(server) == (200, "ok")


async def test_callers_are_turned_away_everywhere_until_the_journal_works_again(tmp_path: Path) -> None:
    with disk():
        async with (
            running(tmp_path, flows=[TALK], sip_port=0, media_host="127.0.0.1", dial_allow=["@127.0.0.1"]) as server,
            aiohttp.ClientSession(server.url) as http,
            dial(server.ws("/ws/audio")) as caller,
        ):
            Disk.opened.fail()
            await caller.key("1")
            await until_health(server, (503, "journal"))
            await refused_everywhere(server, http, UNRECORDED)
            async with http.get("/ready") as ready:
                assert (ready.status, int(ready.headers["Retry-After"]) > 0) == (503, True)
            async with http.get("/metrics") as page:
                lines = (await page.text()).splitlines()
            assert {"voicegate_admits 0.0", "voicegate_journal_failing 1.0"} <= set(lines)
            for transport in ("audio", "twilio", "webrtc", "sip"):
                assert f'voicegate_calls_refused_total{{reason="journal",transport="{transport}"}} 1.0' in lines
            async with http.post("/api/calls", json={"to": "sip:desk@127.0.0.1"}) as ordered:
                assert (ordered.status, (await ordered.json())["detail"]) == (503, f"journal: {UNRECORDED}")

            Disk.opened.work()
            await until_health(server, (200, "ok"))
            assert caller.closed is None
            async with dial(server.ws("/ws/audio")):
                pass


async def test_a_server_whose_journal_stays_broken_still_stops(tmp_path: Path) -> None:
    with disk():
        async with asyncio.timeout(40):
            async with running(tmp_path, flows=[TALK]) as server, dial(server.ws("/ws/audio")) as caller:
                await caller.asked("Which day")
                Disk.opened.fail()
                await caller.type("monday")
                await caller.asked("Monday. Is that right?")
    with sqlite3.connect(tmp_path / main.JOURNAL_FILE) as db:
        assert db.execute("SELECT call, cdr FROM calls").fetchall() == [(caller.call, None)]


@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="only Linux limits another process")
async def test_a_process_that_may_write_no_more(tmp_path: Path) -> None:
    """A real limit on a real process: the system refuses to let any file grow."""
    async with serving(LECTURE, TALK, folder=tmp_path) as gate, dial(gate.ws("/ws/audio/talk")) as caller:
        await caller.until(lambda: caller.frames)
        resource.prlimit(gate.process.pid, resource.RLIMIT_FSIZE, (4096, 4096))
        await caller.type("monday")
        await caller.asked("Monday. Is that right?")
        assert (await gate.health())[0] == 503
        await caller.key("#")
        await caller.until_closed()
        assert caller.ended == ("flow", "told")
        gate.process.send_signal(signal.SIGTERM)
        assert await gate.over() == 0
        assert "Traceback" not in gate.err
        assert "the journal's store fails" in gate.err
