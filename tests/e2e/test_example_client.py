"""The client of the documentation, as a program of its own, against a real server."""

import asyncio
import json
import sys
import wave
from pathlib import Path

import numpy as np

from app.core.events import PlayoutStopped, SpeechStarted, Transcript
from app.providers.scripted import ScriptedStt
from tests.cli.process import environment
from tests.e2e.server import TALK, running
from tests.e2e.voices import spoken

CLIENT = Path(__file__).parents[2] / "docs" / "examples" / "client.py"
TOKEN = "a-token-that-is-long-enough"
TOKENS = json.dumps([{"name": "example", "role": "viewer", "token": TOKEN}])


async def client(folder: Path, *arguments: str | Path, token: str = TOKEN) -> tuple[int, str, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        CLIENT,
        *map(str, arguments),
        cwd=folder,
        env=environment(VOICEGATE_TOKEN=token),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(60):
            out, err = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


async def test_it_makes_a_whole_call(tmp_path: Path) -> None:
    """It says Monday over the greeting, is understood by a recogniser that knows its script, and is silent from then
    on, so the agent asks again and gives up."""
    said = await spoken("on monday please", 16000)
    with wave.open(str(tmp_path / "said.wav"), "wb") as file:
        file.setparams((1, 2, 16000, 0, "NONE", ""))
        file.writeframes(np.concatenate((np.zeros(16000, dtype=np.int16), said)).astype("<i2").tobytes())
    flow = tmp_path / "hasty.yaml"
    flow.write_text(TALK.read_text().replace("version: 1", "version: 1\nlimits: {silence_s: 2, silences: 2}"))
    async with running(
        tmp_path / "var", flows=[flow], stt=ScriptedStt(["monday"]), tokens=TOKENS, trust_loopback=False
    ) as server:
        status, out, err = await client(tmp_path, server.ws("/ws/audio/talk"), "said.wav", "heard.wav")
        assert (status, err) == (0, "")
        told = [json.loads(line) for line in out.splitlines()]
        assert [one["type"] for one in told if one["type"] != "clear"] == ["started", "ended"]
        assert told[-1] == {"type": "ended", "cause": "silence", "outcome": "silence"}
        call = told[0]["call"]
        record = await server.over(call)
        assert record["caller"] == "example"
        assert server.facts(SpeechStarted, call)
        assert [fact.text for fact in server.facts(Transcript, call)] == ["monday"]
        done = [fact for fact in server.facts(PlayoutStopped, call) if fact.cause == "done"]
        assert done
        assert all((fact.sentence, fact.chars) > (0, 0) for fact in done), "its marks say what it heard"
    with wave.open(str(tmp_path / "heard.wav")) as file:
        assert (file.getnchannels(), file.getframerate()) == (1, 16000)
        heard = np.frombuffer(file.readframes(file.getnframes()), dtype="<i2")
    assert len(heard) > 16000
    assert int(np.abs(heard.astype(np.int32)).max()) > 1000


async def test_a_wrong_token_is_told(tmp_path: Path) -> None:
    async with running(tmp_path / "var", flows=[TALK], tokens=TOKENS, trust_loopback=False) as server:
        status, out, err = await client(tmp_path, server.ws("/ws/audio/talk"), token="wrong-wrong-wrong-wrong")
        assert status == 1
        assert json.loads(out)["code"] == "unauthorized"
        assert "4401" in err
