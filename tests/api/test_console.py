"""What the console asks of a server: real calls on a real store, asked over HTTP."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx2
import msgspec
import pytest
from fastapi import FastAPI
from msgspec.structs import replace
from pydantic import SecretStr

from app.api import console as module
from app.api import streams
from app.api.access import Access
from app.api.console import MAX_PAGE, Console, router
from app.api.session import SignIn
from app.api.web import WebServer
from app.core import cdr, codec
from app.core.codec import CORE_VERSION, CallHeader, Codec
from app.core.core import CallCore
from app.core.events import HangupOrdered
from app.core.view import view
from app.ports import Append, Begin, Finish, StoreError
from app.runtime import archive as archive_module
from app.runtime.archive import Archive
from app.runtime.hub import Hub
from app.settings import Settings
from app.store.memory import MemoryStore
from flows import load
from tests.core.stories import PIN, SPOKEN_PIN, confirming
from tests.journals.stories import STORIES
from tests.support.driver import Driver
from tests.support.shop import shop

KEY = bytes(range(codec.KEY_BYTES))
VIEWER, OPERATOR = "v" * 20, "o" * 20
SETTINGS = Settings.model_validate(
    {
        "tokens": [
            {"name": "wall", "role": "viewer", "token": SecretStr(VIEWER)},
            {"name": "desk", "role": "operator", "token": SecretStr(OPERATOR)},
        ],
        "trust_loopback": False,
    }
)
Json = dict[str, Any]


def keep(
    store: MemoryStore, call: str, driver: Driver, *, at: str = "10:00", over: bool = True, recording: str = ""
) -> None:
    """Put a call that was told by hand on record."""
    header = CallHeader(
        call, driver.flow.name, load.flow_hash(driver.flow), CORE_VERSION, 1, f"2030-01-01T{at}:00.000Z"
    )
    core, writer = CallCore(driver.flow, call), Codec(KEY, header)
    records = []
    for seq, (ms, event, _) in enumerate(driver.log, 1):
        effects = core.handle(event, ms)
        records.append(writer.encode(seq, core.state.now_ms, event, effects, sealed=core.sealed))
    store.commit([Begin(header, load.flow_bytes(driver.flow), KEY), Append(call, 1, tuple(records))])
    if over:
        store.commit([Finish(call, 1, msgspec.json.encode(cdr.told(driver.flow, core.state)), recording)])


class Site:
    def __init__(self, folder: Path) -> None:
        self.store = MemoryStore()
        self.archive = Archive(self.store)
        self.actors: dict[str, Any] = {}
        registry: Any = SimpleNamespace(get=self.actors.get, calls=lambda: list(self.actors.values()))
        registry.max_calls, registry.draining = 10, False
        self.registry = registry
        self.hub = Hub(registry)
        self.folder = folder
        self.sign_in = SignIn(Access(SETTINGS))
        self.console = Console(self.sign_in, registry, self.hub, self.archive, {"shop": shop()}, folder)
        self.app = FastAPI()
        self.app.include_router(router(self.console))
        self.posted: list[Any] = []
        self.client = httpx2.AsyncClient(
            transport=httpx2.ASGITransport(app=self.app, client=("203.0.113.5", 1)),
            base_url="http://voice",
            headers={"Authorization": f"Bearer {OPERATOR}"},
        )

    def alive(self, call: str, driver: Driver) -> None:
        """A live call in the registry, as far as the console looks at it."""
        header = CallHeader(call, driver.flow.name, "", CORE_VERSION, 1, "2030-01-01T12:00:00.000Z")
        self.actors[call] = SimpleNamespace(
            call=call, core=driver.core, header=header, now_ms=driver.now_ms, recording="", post=self.posted.append
        )

    async def get(self, path: str, **query: Any) -> Any:
        said = await self.client.get(path, params=query)
        assert said.status_code == 200, said.text
        assert said.headers["cache-control"] == "no-store"
        return said.json()

    async def status(self, path: str, **query: Any) -> int:
        said = await self.client.get(path, params=query)
        if said.status_code >= 400:
            assert isinstance(said.json()["detail"], str)
        return said.status_code


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    made = Site(tmp_path)
    async with made.client:
        yield made
    made.archive.close()


# Who may


PATHS = [
    "/api/calls", "/api/live", "/api/flows", "/api/calls/c1", "/api/calls/c1/timeline", "/api/calls/c1/state?seq=1",
    "/api/calls/c1/records", "/api/calls/c1/recording", "/api/calls/c1/download", "/api/calls/c1/events",
    "/api/flows/shop/graph.svg", "/api/flows/shop/graph.mmd",
]  # fmt: skip


@pytest.mark.parametrize("path", PATHS)
async def test_nobody_reads_without_a_token(site: Site, path: str) -> None:
    said = await site.client.get(path, headers={"Authorization": ""})
    assert said.status_code == 401


async def test_a_viewer_reads_and_an_operator_acts(site: Site) -> None:
    site.alive("c1", confirming())
    viewer = {"Authorization": f"Bearer {VIEWER}"}
    assert (await site.client.get("/api/calls", headers=viewer)).status_code == 200
    refused = await site.client.post("/api/calls/c1/hangup", headers=viewer)
    assert refused.status_code == 403
    assert site.posted == []
    assert (await site.client.post("/api/calls/c1/hangup")).status_code == 202
    assert site.posted == [HangupOrdered("desk")]
    assert (await site.client.post("/api/calls/other/hangup")).status_code == 409


@pytest.mark.parametrize("call", ["..", "%2e%2e", "..%2f..%2fetc", "c1%00", "a" * 65, "-c", "c1%20", "%C3%BC", "*"])
@pytest.mark.parametrize("rest", ["", "/timeline", "/state?seq=0", "/records", "/recording", "/download", "/events"])
async def test_what_is_no_call_is_found_nowhere(site: Site, call: str, rest: str) -> None:
    keep(site.store, "c1", confirming())
    said = await site.client.get(f"/api/calls/{call}{rest}")
    assert said.status_code == 404


# The list


async def test_calls_are_listed_newest_first_and_page_by_page(site: Site) -> None:
    for n in range(5):
        keep(site.store, f"c{n}", confirming(), at=f"1{n}:00", recording="x.wav" if n == 2 else "")
    first = await site.get("/api/calls", limit=2)
    assert ([row["call"] for row in first["calls"]], first["more"]) == (["c4", "c3"], True)
    rest = await site.get("/api/calls", limit=3, before="c3")
    assert ([row["call"] for row in rest["calls"]], rest["more"]) == (["c2", "c1", "c0"], False)
    assert [row["recording"] for row in rest["calls"]] == [True, False, False]
    assert (await site.get("/api/calls", before="none"))["calls"] == []


async def test_the_list_says_which_call_lives_and_which_has_died(site: Site) -> None:
    keep(site.store, "ended", STORIES["ordered"](), at="10:00")
    keep(site.store, "live", confirming(), at="11:00", over=False)
    keep(site.store, "dead", confirming(), at="12:00", over=False)
    keep(site.store, "purged", confirming(), at="09:00")
    site.store.purge("2030-01-01T09:30:00.000Z")
    driver = confirming()
    site.alive("live", driver)
    rows = {row["call"]: row for row in (await site.get("/api/calls"))["calls"]}
    assert {call: row["state"] for call, row in rows.items()} == {
        "ended": "ended", "live": "live", "dead": "died", "purged": "ended",
    }  # fmt: skip
    assert rows["ended"]["outcome"] == "ordered"
    assert rows["ended"]["turns"] > 0
    assert (rows["live"]["step"], rows["live"]["duration_ms"]) == (driver.state.step, driver.now_ms)
    assert rows["dead"]["trouble"] == 1
    assert (rows["purged"]["cause"], rows["purged"]["trouble"]) == ("purged", 0)


async def test_filters_look_past_what_does_not_fit(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive_module, "PAGE_ROWS", 3)
    for n in range(8):
        keep(site.store, f"c{n}", STORIES["observed" if n == 2 else "ordered"](), at=f"1{n}:00", over=n != 1)
    trouble = await site.get("/api/calls", trouble="1")
    assert ([row["call"] for row in trouble["calls"]], trouble["more"]) == (["c1"], False)
    hung_up = await site.get("/api/calls", outcome="hung-up", limit=1)
    assert ([row["call"] for row in hung_up["calls"]], hung_up["more"]) == (["c2"], False)
    assert len((await site.get("/api/calls", outcome="ordered"))["calls"]) == 6
    assert (await site.get("/api/calls", flow="other"))["calls"] == []
    monkeypatch.setattr(archive_module, "MAX_SCANNED_ROWS", 3)
    assert await site.get("/api/calls", trouble="1") == {"calls": [], "more": True}


@pytest.mark.parametrize(
    ("path", "query"),
    [
        ("/api/calls", {"limit": 0}),
        ("/api/calls", {"limit": MAX_PAGE + 1}),
        ("/api/calls", {"limit": "many"}),
        ("/api/calls", {"flow": "x" * 201}),
        ("/api/calls", {"trouble": "perhaps"}),
        ("/api/calls/c1/records", {"from": -1}),
        ("/api/calls/c1/records", {"limit": 10**9}),
        ("/api/calls/c1/state", {"seq": "last"}),
        ("/api/calls/c1/state", {}),
        ("/api/calls/c1/state", {"seq": 10**30}),
        ("/api/calls/c1/timeline", {"from_ms": "now"}),
    ],
)
async def test_a_query_that_makes_no_sense_is_told_so(site: Site, path: str, query: Json) -> None:
    assert await site.status(path, **query) == 422


# One call


async def test_one_call_from_all_sides(site: Site) -> None:
    driver = STORIES["ordered"]()
    keep(site.store, "c1", driver)
    about = await site.get("/api/calls/c1")
    assert about["row"]["state"] == "ended"
    assert about["records"] == len(driver.log)
    assert about["flow"] == {"name": "shop", "version": 1, "hash": load.flow_hash(driver.flow)}
    assert about["cdr"]["outcome"] == "ordered"
    assert {slot["name"]: slot["sensitive"] for slot in about["slots"]} == {
        "pin": True, "item": False, "day": False, "customer": True,
    }  # fmt: skip
    assert about["problem"] == ""
    timeline = await site.get("/api/calls/c1/timeline")
    assert timeline["duration_ms"] == driver.log[-1][0]
    assert [(v["tool"], v["decision"], v["rule"]) for v in timeline["verdicts"]] == driver.verdicts()
    assert all(span["to_ms"] is not None for lane in timeline["lanes"] for span in lane["spans"])
    part = await site.get("/api/calls/c1/timeline", from_ms=5000, to_ms=9000)
    assert part["entries"] == [entry for entry in timeline["entries"] if 5000 <= entry["ms"] <= 9000]
    assert 0 < len(part["entries"]) < len(timeline["entries"])


async def test_the_state_after_each_record_is_what_it_was(site: Site) -> None:
    driver = STORIES["troubled"]()
    keep(site.store, "c1", driver)
    core = CallCore(driver.flow, "c1")
    seen = [json.loads(msgspec.json.encode(view(core)))]
    for ms, event, _ in driver.log:
        core.handle(event, ms)
        seen.append(json.loads(msgspec.json.encode(view(core))))
    for seq in (*range(0, len(seen), 7), len(seen) - 1, 64, 63, 1):
        assert await site.get("/api/calls/c1/state", seq=seq) == seen[seq]
    assert await site.get("/api/calls/c1/state", seq=10_000) == seen[-1]


async def test_records_come_in_pages_without_a_gap(site: Site) -> None:
    driver = STORIES["modelled"]()
    keep(site.store, "c1", driver)
    found: list[Json] = []
    while page := (await site.get("/api/calls/c1/records", **{"from": len(found), "limit": 25}))["records"]:
        assert len(page) <= 25
        found += page
    assert [record["seq"] for record in found] == list(range(1, len(driver.log) + 1))
    assert [record["event"]["type"] for record in found] == [type(event).__name__ for _, event, _ in driver.log]
    assert (await site.get("/api/calls/c1/records", **{"from": 10_000}))["records"] == []


@pytest.mark.parametrize("name", STORIES)
async def test_nothing_that_is_told_of_a_call_holds_the_secret(site: Site, name: str) -> None:
    driver = STORIES[name]()
    keep(site.store, "c1", driver)
    told = [(await site.client.get(f"/api/calls/c1{rest}")).text for rest in ("", "/timeline", "/download")]
    told += [(await site.client.get(f"/api/calls/c1/state?seq={seq}")).text for seq in range(0, len(driver.log), 5)]
    for text in told:
        assert PIN not in text.replace('"2030', "")
        assert SPOKEN_PIN not in text


async def test_a_call_can_be_taken_away_whole(site: Site) -> None:
    driver = STORIES["ordered"]()
    keep(site.store, "c1", driver)
    said = await site.client.get("/api/calls/c1/download")
    assert said.headers["content-disposition"] == 'attachment; filename="call-c1.json"'
    whole = said.json()
    assert len(whole["records"]) == len(driver.log)
    assert whole["call"] == await site.get("/api/calls/c1")
    assert whole["timeline"] == await site.get("/api/calls/c1/timeline")


async def test_a_live_call_goes_on_where_it_was(site: Site) -> None:
    driver = confirming()
    keep(site.store, "c1", driver, over=False)
    site.alive("c1", driver)
    about = await site.get("/api/calls/c1")
    assert (about["row"]["state"], about["cdr"]) == ("live", None)
    before = await site.get("/api/calls/c1/timeline")
    assert any(span["to_ms"] is None for lane in before["lanes"] for span in lane["spans"])
    assert before["duration_ms"] == driver.now_ms
    told = len(driver.log)
    driver.hear_all()
    driver.key("#")
    driver.hear_all()
    header = site.store.load("c1").row.header
    core, writer = CallCore(driver.flow, "c1"), Codec(KEY, header)
    late = []
    for seq, (ms, event, _) in enumerate(driver.log, 1):
        record = writer.encode(seq, ms, event, core.handle(event, ms), sealed=core.sealed)
        late += [record] if seq > told else []
    site.store.commit([Append("c1", 1, tuple(late))])
    after = await site.get("/api/calls/c1/timeline")
    assert after["entries"][: len(before["entries"])] == before["entries"]
    assert len(after["entries"]) > len(before["entries"])
    assert (await site.get("/api/calls/c1"))["records"] == len(driver.log)
    assert (await site.get("/api/calls/c1/state", seq=10_000))["step"] == driver.state.step


async def test_a_purged_call_is_not_told_from_memory(site: Site) -> None:
    keep(site.store, "c1", confirming())
    assert (await site.get("/api/calls/c1/timeline"))["entries"]
    site.store.purge("2031-01-01T00:00:00.000Z")
    assert (await site.get("/api/calls/c1/timeline"))["entries"] == []
    assert (await site.get("/api/calls/c1"))["problem"] == "it was purged"
    assert await site.status("/api/calls/c1/state", seq=3) == 409


async def test_a_damaged_journal_is_told_up_to_the_damage(site: Site) -> None:
    driver = STORIES["ordered"]()
    keep(site.store, "c1", driver)
    records = site.store._records["c1"]
    records[20] = replace(records[20], body=b"{}")
    about = await site.get("/api/calls/c1")
    assert about["records"] == 20
    assert "record 21" in about["problem"]
    assert (await site.get("/api/calls/c1/timeline"))["entries"][-1]["seq"] <= 20
    assert (await site.get("/api/calls/c1/state", seq=30)) == (await site.get("/api/calls/c1/state", seq=20))


async def test_a_call_is_not_found_by_its_beginning(site: Site) -> None:
    keep(site.store, "c100", confirming())
    assert await site.status("/api/calls/c1") == 404
    assert await site.status("/api/calls/c100") == 200


async def test_what_is_kept_of_told_calls_is_bounded(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive_module, "MAX_KEPT_CALLS", 2)
    for n in range(4):
        keep(site.store, f"c{n}", confirming())
        await site.get(f"/api/calls/c{n}")
    assert list(site.archive._kept) == ["c2", "c3"]
    await site.get("/api/calls/c0")
    assert list(site.archive._kept) == ["c3", "c0"]


async def test_too_many_requests_and_a_broken_store_are_clear(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    keep(site.store, "c1", confirming())
    monkeypatch.setattr(archive_module, "MAX_WAITING", 0)
    assert await site.status("/api/calls/c1") == 503
    monkeypatch.undo()

    def broken(*_: object) -> None:
        raise StoreError("disk")

    monkeypatch.setattr(site.store, "load", broken)
    assert await site.status("/api/calls/c1") == 503


# The recording


async def test_a_recording_is_given_in_parts(site: Site) -> None:
    (site.folder / "recordings").mkdir()
    (site.folder / "recordings" / "c1.wav").write_bytes(bytes(range(200)))
    keep(site.store, "c1", confirming(), recording="recordings/c1.wav")
    whole = await site.client.get("/api/calls/c1/recording")
    assert (whole.status_code, whole.headers["content-type"]) == (200, "audio/wav")
    assert whole.headers["accept-ranges"] == "bytes"
    part = await site.client.get("/api/calls/c1/recording", headers={"Range": "bytes=10-19"})
    assert (part.status_code, part.content) == (206, bytes(range(10, 20)))
    assert part.headers["content-range"] == "bytes 10-19/200"
    beyond = await site.client.get("/api/calls/c1/recording", headers={"Range": "bytes=500-"})
    assert beyond.status_code == 416


@pytest.mark.parametrize(
    "path", ["", "recordings/none.wav", "../secret.wav", "/etc/hostname", "recordings", "link.wav"]
)
async def test_no_other_file_is_given(site: Site, path: str) -> None:
    (site.folder / "recordings").mkdir()
    (site.folder.parent / "secret.wav").write_bytes(b"secret")
    (site.folder / "link.wav").symlink_to(site.folder.parent / "secret.wav")
    keep(site.store, "c1", confirming(), recording=path)
    assert await site.status("/api/calls/c1/recording") == 404


async def test_a_recording_is_not_given_while_it_is_made(site: Site) -> None:
    keep(site.store, "c1", confirming(), recording="c1.wav")
    (site.folder / "c1.wav").write_bytes(b"x")
    site.alive("c1", confirming())
    assert await site.status("/api/calls/c1/recording") == 409


# Flows


async def test_a_flow_is_counted_over_its_calls(site: Site) -> None:
    keep(site.store, "c1", STORIES["ordered"]())
    keep(site.store, "c2", STORIES["modelled"]())
    keep(site.store, "c3", confirming(), over=False)
    flow = (await site.get("/api/flows"))[0]
    assert (flow["name"], flow["version"], flow["hash"]) == ("shop", 1, load.flow_hash(shop()))
    assert flow["steps"] == list(shop().steps)
    assert flow["calls"] == 2
    assert flow["outcomes"] == {"ordered": 1, "hung-up": 1}
    assert flow["dropoff"] == {"choose": 1}
    assert flow["tools"].keys() == shop().tools.keys()
    asked = flow["tools"]["order"]
    assert asked["requested"] == asked["allowed"] + sum(asked["refused"].values())
    assert asked["refused"]


async def test_a_flow_is_drawn(site: Site) -> None:
    svg = await site.client.get("/api/flows/shop/graph.svg")
    assert (svg.status_code, svg.headers["content-type"]) == (200, "image/svg+xml")
    assert 'data-step="identify"' in svg.text
    text = await site.client.get("/api/flows/shop/graph.mmd")
    assert text.status_code == 200
    assert "identify" in text.text
    assert await site.status("/api/flows/none/graph.svg") == 404


# Streams


class Viewer:
    """A browser's end of a stream, by hand: what was sent, and when it goes."""

    def __init__(self, site: Site, path: str) -> None:
        self.pieces: list[bytes] = []
        self.status = 0
        self.gone = asyncio.Event()
        self.reads = asyncio.Event()
        self.reads.set()
        self._sent = asyncio.Event()
        self._scope = {
            "type": "http", "method": "GET", "path": path, "raw_path": path.encode(), "query_string": b"",
            "headers": [(b"authorization", f"Bearer {VIEWER}".encode()), (b"host", b"voice")],
            "client": ("203.0.113.5", 1), "server": ("voice", 80), "scheme": "http", "http_version": "1.1",
            "root_path": "", "asgi": {"version": "3.0"},
        }  # fmt: skip
        self._asked = False
        self._app = site.app

    async def run(self) -> None:
        await self._app(self._scope, self._receive, self._send)

    async def _receive(self) -> Any:
        if not self._asked:
            self._asked = True
            return {"type": "http.request", "body": b"", "more_body": False}
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            return
        await self.reads.wait()
        self.pieces.append(message.get("body", b""))
        self._sent.set()

    def events(self) -> list[tuple[str, Json]]:
        found = []
        for block in b"".join(self.pieces).decode().split("\n\n"):
            fields = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
            if "data" in fields:
                found.append((fields.get("event", "message"), json.loads(fields["data"])))
        return found

    async def until(self, count: int) -> list[tuple[str, Json]]:
        async with asyncio.timeout(10):
            await self._until(lambda: len(self.events()) >= count)
        return self.events()

    async def over(self) -> None:
        async with asyncio.timeout(10):
            await self._until(lambda: self.pieces[-1] == b"")

    async def _until(self, true: Callable[[], bool]) -> None:
        while not true():
            self._sent.clear()
            await self._sent.wait()


@asynccontextmanager
async def viewing(site: Site, path: str) -> AsyncIterator[Viewer]:
    viewer = Viewer(site, path)
    async with asyncio.TaskGroup() as group:
        group.create_task(viewer.run())
        yield viewer
        viewer.gone.set()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "UPDATE_S", 0.02)
    monkeypatch.setattr(module, "KEEP_ALIVE_S", 0.05)


@pytest.mark.usefixtures("quick")
async def test_live_calls_are_followed(site: Site) -> None:
    driver = confirming()
    site.alive("c1", driver)
    async with viewing(site, "/api/live") as viewer:
        ((name, all_),) = await viewer.until(1)
        assert (name, all_["max_calls"], all_["draining"]) == ("all", 10, False)
        assert [row["call"] for row in all_["calls"]] == ["c1"]
        site.alive("c2", confirming())
        site.hub.board.touch("c1")
        name, change = (await viewer.until(2))[1]
        assert name == "change"
        assert {row["call"] for row in change["set"]} == {"c1", "c2"}
        del site.actors["c1"]
        assert (await viewer.until(3))[2][1]["gone"] == ["c1"]
    assert not site.console.streams
    assert not site.hub.board._changed


@pytest.mark.usefixtures("quick")
async def test_a_call_is_followed_to_its_end(site: Site) -> None:
    site.alive("c1", confirming())
    async with viewing(site, "/api/calls/c1/events") as viewer:
        name, first = (await viewer.until(1))[0]
        assert (name, first["kind"]) == ("message", "view")
        site.hub.close()
    assert not site.console.streams
    assert not site.hub._feeds


async def test_a_call_that_is_not_live_cannot_be_followed(site: Site) -> None:
    keep(site.store, "c1", confirming())
    assert await site.status("/api/calls/c1/events") == 404


@pytest.mark.usefixtures("quick")
async def test_the_stream_ends_when_its_viewer_is_nobody_any_more(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    async with viewing(site, "/api/live") as viewer:
        await viewer.until(1)
        monkeypatch.setattr(site.sign_in, "still", lambda request: False)
        await viewer.over()


@pytest.mark.usefixtures("quick")
async def test_a_viewer_that_takes_nothing_in_is_let_go(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "SEND_S", 0.05)
    viewer = Viewer(site, "/api/live")
    viewer.reads.clear()
    async with asyncio.timeout(10):
        await viewer.run()
    assert viewer.pieces == []
    assert not site.console.streams


async def test_streams_are_bounded(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_STREAMS", 0)
    assert await site.status("/api/live") == 503
    site.alive("c1", confirming())
    assert await site.status("/api/calls/c1/events") == 503
    assert not site.hub._feeds


@pytest.mark.usefixtures("quick")
async def test_a_browser_that_goes_is_noticed(site: Site) -> None:
    site.alive("c1", confirming())
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        server = WebServer(site.app)
        headers = {"Authorization": f"Bearer {VIEWER}"}
        async with asyncio.timeout(20), asyncio.TaskGroup() as group:
            serving = group.create_task(server.serve([listener]))
            async with httpx2.AsyncClient(base_url=url, headers=headers) as browser:
                for path, first in (("/api/live", "event: all"), ("/api/calls/c1/events", "data: ")):
                    async with browser.stream("GET", path) as said:
                        assert said.headers["content-type"].startswith("text/event-stream")
                        assert (await anext(said.aiter_lines())).startswith(first)
                        assert site.console.streams.total() == 1
                    for _ in range(500):
                        await asyncio.sleep(0.01)
                        if not site.console.streams:
                            break
                    assert not site.console.streams
            assert not site.hub._feeds
            server.should_exit = True
            await serving


async def test_only_an_operator_hears_a_recording(site: Site) -> None:
    (site.folder / "recordings").mkdir()
    (site.folder / "recordings" / "c1.wav").write_bytes(bytes(20))
    keep(site.store, "c1", confirming(), recording="recordings/c1.wav")
    viewer = {"Authorization": f"Bearer {VIEWER}"}
    assert (await site.client.get("/api/calls/c1/recording", headers=viewer)).status_code == 403
    assert (await site.client.get("/api/calls/c1/recording")).status_code == 200


async def test_one_token_cannot_take_all_streams(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_STREAMS_EACH", 1)
    site.console.streams["wall"] = 1
    viewer = {"Authorization": f"Bearer {VIEWER}"}
    refused = await site.client.get("/api/live", headers=viewer)
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "5")
