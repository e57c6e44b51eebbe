"""`voicegate serve` as a process: signals, and a death in the middle of a call."""

import asyncio
import json
import signal
from pathlib import Path

import pytest

from app.store.sqlite import SqliteStore
from tests.cli.inside import Inside
from tests.cli.process import serving
from tests.e2e.clients import dial, ringing
from tests.e2e.server import LECTURE, TALK


async def test_sigterm_drains(tmp_path: Path) -> None:
    async with serving(TALK, folder=tmp_path) as gate, dial(gate.ws("/ws/audio/talk")) as caller:
        assert (await gate.health())[1]["calls"] == 1
        await caller.asked("Which day")
        gate.process.send_signal(signal.SIGTERM)
        await gate.draining()
        status, told = await gate.health()
        assert (status, told["status"], told["calls"]) == (503, "draining", 1)
        async with ringing(gate.ws("/ws/audio/talk")) as late:
            assert await late.until_closed() == (4503, "the server is about to stop")
        await caller.type("monday")
        await caller.asked("Monday. Is that right?")
        await caller.key("#")
        assert (await caller.until_closed())[0] == 1000
        assert caller.ended == ("flow", "told")
        assert await gate.over() == 0
        assert "Traceback" not in gate.err


async def test_draining_has_an_end(tmp_path: Path) -> None:
    async with (
        serving(LECTURE, folder=tmp_path, VOICEGATE_DRAIN_S="1") as gate,
        dial(gate.ws("/ws/audio")) as caller,
    ):
        await caller.until(lambda: caller.frames)
        gate.process.send_signal(signal.SIGTERM)
        await caller.until_closed()
        assert caller.ended == ("drain", "hung-up")
        assert await gate.over() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_second_signal_stops_at_once(tmp_path: Path, number: signal.Signals) -> None:
    async with (
        serving(LECTURE, folder=tmp_path, VOICEGATE_DRAIN_S="600") as gate,
        dial(gate.ws("/ws/audio")) as caller,
    ):
        await caller.until(lambda: caller.frames)
        gate.process.send_signal(number)
        await gate.draining()
        assert gate.process.returncode is None
        gate.process.send_signal(number)
        assert await gate.over() != 0
        assert "Traceback" not in gate.err


async def test_an_idle_server_stops_with_status_0(tmp_path: Path) -> None:
    async with serving(TALK, folder=tmp_path) as gate:
        gate.process.send_signal(signal.SIGINT)
        assert await gate.over() == 0
        assert "Traceback" not in gate.err


async def test_a_killed_server_leaves_readable_calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inside = Inside(tmp_path, monkeypatch)
    async with serving(TALK, folder=tmp_path) as gate, dial(gate.ws("/ws/audio/talk")) as caller:
        await caller.asked("Which day")
        await caller.type("monday")
        await caller.asked("Monday. Is that right?")
        gate.process.kill()
        await gate.over()
        call = caller.call
    before = inside("replay", call[:6])
    assert before.status == 0, before.err
    assert "live" in before.out
    assert call in inside("calls").out
    async with serving(TALK, folder=tmp_path):
        listed = json.loads(inside("calls", "--json").out)
        assert [row["call"] for row in listed] == [call]
        record = listed[0]["cdr"]
        assert (record["cause"], record["outcome"], record["last_step"]) == ("server-died", "server-died", "ask")
        assert record["turns"] == 1
        assert record["duration_ms"] > 0
        assert listed[0]["recording"] == f"recordings/{call}.wav"
        assert (tmp_path / "var" / listed[0]["recording"]).is_file()
        assert inside("replay", call).status == 0
    store = SqliteStore(tmp_path / "var" / "journal.sqlite")
    try:
        assert store.purge("2999-01-01T00:00:00.000Z") == 1, "retention can delete it now"
        assert store.load(call).key == b""
        assert not (tmp_path / "var" / listed[0]["recording"]).exists()
    finally:
        store.close()


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="asks Linux which processes there are")
async def test_helper_processes_die_with_their_server(tmp_path: Path) -> None:
    async with serving(TALK, folder=tmp_path, VOICEGATE_SPEECH="embedded", VOICEGATE_STT_WORKERS="1") as gate:
        helpers = descendants(gate.process.pid)
        assert helpers, "speech runs in processes of its own"
        gate.process.kill()
        await gate.over()
        for _ in range(200):
            if not any(map(is_alive, helpers)):
                return
            await asyncio.sleep(0.05)
    raise AssertionError("helpers outlive their server")


def descendants(pid: int) -> list[int]:
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in map(int, (task / "children").read_text().split()):
            found += [child, *descendants(child)]
    return found


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


async def test_the_most_talkative_log_tells_no_words_keys_or_tokens(tmp_path: Path) -> None:
    token = "a-token-that-is-long-enough"
    tokens = json.dumps([{"name": "desk", "role": "admin", "token": token}])
    async with (
        serving(TALK, folder=tmp_path, VOICEGATE_LOG_LEVEL="debug", VOICEGATE_TOKENS=tokens) as gate,
        dial(gate.ws(f"/ws/audio/talk?token={token}"), token=token) as caller,
    ):
        await caller.until(lambda: caller.frames)
        await caller.type("on wednesday")
        await caller.asked("Wednesday. Is that right?")
        await caller.key("#")
        await caller.until_closed()
        gate.process.send_signal(signal.SIGTERM)
        assert await gate.over() == 0
        assert gate.err, "it does log"
        for secret in (token, "wednesday", "Wednesday", '"digit"'):
            assert secret not in gate.err


async def test_the_demo_s_clinic_comes_along(tmp_path: Path) -> None:
    async with serving("clinic", "--demo", folder=tmp_path) as gate, dial(gate.ws("/ws/audio")) as caller:
        await caller.asked("date of birth")
        assert gate.process.stdout is not None
        told = [(await gate.process.stdout.readline()).decode().split() for _ in range(5)]
        assert told[:2] == [["talk", f"{gate.url}/"], ["console", f"{gate.url}/console"]]
        assert told[4][-1] == "31051980"
        await caller.key("31051980")
        await caller.asked("Is that right?")
        await caller.key("#")
        await caller.until(lambda: any("your record" in text for text in caller.captions))
        assert "not set" not in gate.err
