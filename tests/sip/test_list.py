"""`voicegate dial` and `dial-list` as a person types them, against real telephones."""

import asyncio
import os
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from app.main import JOURNAL_FILE
from app.store.sqlite import SqliteStore
from tests.clients.baresip import baresip
from tests.clients.sipp import running as callee
from tests.e2e.server import TALK

VOICEGATE = Path(sys.executable).parent / "voicegate"


@dataclass
class Done:
    status: int
    out: str


async def voicegate(folder: Path, *arguments: str, stop_at: str = "", **variables: str) -> Done:
    """`stop_at`: once it says this, it gets a SIGINT."""
    environment: Mapping[str, str] = {**os.environ, "COLUMNS": "200", **variables}
    process = await asyncio.create_subprocess_exec(
        VOICEGATE,
        *arguments,
        "--data-dir",
        str(folder / "var"),
        env=environment,
        cwd=folder,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    assert process.stdout is not None
    out = ""
    try:
        async with asyncio.timeout(60):
            while line := (await process.stdout.readline()).decode():
                out += line
                if stop_at and stop_at in out:
                    process.send_signal(signal.SIGINT)
                    stop_at = ""
            return Done(await process.wait(), out)
    finally:
        if process.returncode is None:
            print(out)
            process.kill()


async def test_one_call_is_told_as_it_goes(tmp_path: Path) -> None:
    async with baresip(tmp_path / "phone") as phone:
        slots = ("--slot", "day=friday")
        refused = await voicegate(tmp_path, "dial", phone.uri, "--flow", str(TALK), *slots)
        assert refused.status == 2
        assert "not-allowed" in refused.out
        assert "VOICEGATE_DIAL_ALLOW" in refused.out
        wrong = await voicegate(tmp_path, "dial", phone.uri, "--flow", str(TALK), "--slot", "day=someday")
        assert wrong.status == 2
        assert "day" in wrong.out
        done = await voicegate(tmp_path, "dial", phone.uri, "--flow", str(TALK), *slots, VOICEGATE_DIAL_ALLOW="*")
        assert done.status == 0
        for words in ("Until Friday. Goodbye.", "over: told", "answered"):
            assert words in done.out


async def test_a_list_goes_on_where_it_was(tmp_path: Path) -> None:
    async with (
        baresip(tmp_path / "phone") as phone,
        callee("busy", tmp_path / "callee") as busy,
    ):
        rows = [
            "to,id,day,dya",
            f"{phone.uri},a,friday,x",
            "tel:+15550100,b,monday,x",
            f"{busy.uri},c,monday,x",
            "?,d,,",
        ]
        (tmp_path / "people.csv").write_text("\n".join(rows) + "\n")
        hours = ("--hours", "00:00-24:00", "--days", "mon-sun")
        line: tuple[str, ...] = ("dial-list", "people.csv", "--flow", str(TALK), *hours)
        line = (*line, "--no-detect", "--rate", "20")
        allow = f"@127.0.0.1:{phone.port},@127.0.0.1:{busy.port}"
        first = await voicegate(tmp_path, *line, stop_at="c: busy", VOICEGATE_DIAL_ALLOW=allow)
        assert first.status == 1, first.out
        for words in (
            "people.csv:5",
            "a: answered",
            "b: not called (not-allowed): no ",
            "column dya",
            "c: busy, attempt 1",
            "1 left",
        ):
            assert words in first.out
        store = SqliteStore(tmp_path / "var" / JOURNAL_FILE, read_only=True)
        try:
            assert len(store.calls()) == 2
        finally:
            store.close()
