"""The demo as a new user sees it: real speech, both ways, over a real connection, in real time."""

import json
import re
import wave
from pathlib import Path

import aiohttp
import pytest

from app.demo.clinic import appointments
from app.providers import sphinx
from tests.cli.inside import Inside
from tests.cli.process import run, start

DEMO_S = 240  # it takes about a minute; on a busy machine more


async def recorded(folder: Path, arguments: list[str]) -> list[str]:
    """The outcomes that a server's console shows."""
    process = await start("serve", *arguments, "--port", "0", cwd=folder)
    try:
        assert process.stdout is not None
        found = re.search(r"http://\S+", (await process.stdout.readline()).decode())
        assert found is not None
        async with aiohttp.ClientSession() as http, http.get(f"{found[0]}/api/calls") as response:
            return [row["outcome"] for row in (await response.json())["calls"]]
    finally:
        process.terminate()
        await process.communicate()


@pytest.mark.slow
@pytest.mark.timeout(DEMO_S)
@pytest.mark.skipif(not sphinx.available(), reason="pocketsphinx has no build for this Python: the demo needs ears")
async def test_the_demo_keeps_its_promises(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = await run("demo", "--data-dir", tmp_path / "var", cwd=tmp_path, patience_s=DEMO_S)
    assert done.status == 0, done.out + done.err
    assert done.err == ""
    for words in (
        "the appointment stands, once",
        "In the clinic's database: thursday morning",
        "interrupts with",
        "agent is cut off",
        "book: withdrawn [rev]",
        "book: started [all]",
        "over: booked (flow)",
        "Interrupted: the agent was silent",
        "Responses: median",
    ):
        assert words in done.out, words
    for secret in ("1980-05-31", "31051980", "31051990", "May 31st"):
        assert secret not in done.out
    (folder,) = (tmp_path / "var").glob("demo-*")
    (booked,) = appointments(folder / "clinic.sqlite")
    assert (booked.day, booked.part) == ("thursday", "morning")

    shown = re.findall(r"voicegate (serve|replay|chat) (.*?)(?:  |$)", done.out, re.MULTILINE)
    assert [name for name, _ in shown] == ["serve", "replay", "chat"], "the next three commands"
    inside = Inside(tmp_path, monkeypatch)
    assert inside("replay", *shown[1][1].split()).status == 0
    assert await recorded(tmp_path, shown[0][1].split()) == ["booked"]
    (row,) = json.loads(inside("calls", "--json", "--data-dir", folder).out)
    assert row["cdr"]["outcome"] == "booked"
    assert row["cdr"]["barge_ins"] >= 1
    assert str(folder / row["recording"]) in done.out.replace("\n", "").replace("│", "").replace(" ", "")
    with wave.open(str(folder / row["recording"])) as file:
        assert (file.getnchannels(), file.getframerate()) == (2, 16000)
        assert file.getnframes() / 16000 == pytest.approx(row["cdr"]["duration_ms"] / 1000, abs=2)
