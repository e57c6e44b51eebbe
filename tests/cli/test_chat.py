"""`voicegate chat`: the clinic's flow, typed."""

import asyncio
import re
from pathlib import Path

import pytest

from tests.cli.process import PATIENCE_S, run, start

BOOKING = "31051980\n#\ntuesday\nyes\nmorning\nyes\nno, make it thursday\nyes\nyes\n"

ODD = """\
flow: odd
version: 1
slots:
  day: {type: weekday, ask: "Which [bold]day[/nothing]?"}
start: ask
steps:
  ask: {collect: [day], next: [{when: day.confirmed, to: bye}]}
  bye: {say: Goodbye., end: told}
"""


async def test_a_script_books_an_appointment(tmp_path: Path) -> None:
    done = await run("chat", "clinic", "--demo", "-v", cwd=tmp_path, typed=BOOKING)
    assert done.status == 0, done.err
    assert done.err == ""
    assert "over: booked (flow)" in done.out
    assert re.search(r"#\d book: held \[confirm\]", done.out)
    assert re.search(r"#\d book: withdrawn \[rev\]", done.out)
    assert "You are booked for Thursday morning" in done.out
    assert "1980-05-31" not in done.out
    assert not (tmp_path / "var").exists(), "a chat leaves nothing behind"


async def test_it_ends_with_the_call_though_nobody_types_any_more(tmp_path: Path) -> None:
    process = await start("chat", "clinic", "--demo", cwd=tmp_path)
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(BOOKING.encode())
    async with asyncio.timeout(PATIENCE_S):
        told = (await process.stdout.read()).decode()
        assert await process.wait() == 0
    assert told.rstrip().endswith("over: booked (flow)")


@pytest.mark.parametrize("typed", ["", "hello\nhow are you\n/hangup\nyes\n"])
async def test_hanging_up(tmp_path: Path, typed: str) -> None:
    done = await run("chat", "clinic", "--demo", cwd=tmp_path, typed=typed)
    assert (done.status, done.err) == (0, "")
    assert done.out.rstrip().endswith("over: hung-up (caller-hangup)")


async def test_without_its_backend_the_flow_refers_the_caller(tmp_path: Path) -> None:
    done = await run("chat", "clinic", cwd=tmp_path, typed="31051980\n#\n")
    assert done.status == 0
    assert "over: referred (flow)" in done.out


async def test_odd_words_are_shown_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "odd.yaml").write_text(ODD)
    done = await run("chat", "odd.yaml", cwd=tmp_path, typed="[red]monday[/]\nnot \x1b[31m[/bold]\n")
    assert (done.status, done.err) == (0, "")
    assert "Which [bold]day[/nothing]?" in done.out
