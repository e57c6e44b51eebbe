"""The telephone that code talks into, in a call with the whole server."""

import asyncio
from pathlib import Path

import numpy as np
import pytest

from app.load.line import LineError, Refused
from app.load.phone import Phone, dial
from app.load.results import What
from app.providers.scripted import ScriptedStt
from tests.e2e.server import PATIENCE_S, running
from tests.e2e.voices import spoken

FLOWS = Path(__file__).parents[1] / "e2e" / "flows"
SANE_MS = 2000


async def until_said(phone: Phone, words: str) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while True:
            said = [caption.at_s for caption in phone.heard.captions if words in caption.text]
            if said and phone.last_audible_s > said[-1] and phone.quiet_for() > 0.3:
                return
            await phone.changed(0.05)


async def test_a_conversation_by_voice_and_keys(tmp_path: Path) -> None:
    async with running(tmp_path, flows=[FLOWS / "talk.yaml"], stt=ScriptedStt(["on monday"])) as server:
        async with dial(server.ws("/ws/audio"), caller="+15550100") as phone:
            await until_said(phone, "Which day")
            await phone.say(await spoken("on monday please", phone.rate_hz))
            await until_said(phone, "Is that right")
            await phone.key("#")
            async with asyncio.timeout(PATIENCE_S):
                await phone.over.wait()
        assert (phone.heard.cause, phone.heard.outcome, phone.heard.error) == ("flow", "told", "")
        (response,) = phone.measured(What.response)
        assert 0 < response < SANE_MS
        assert phone.measured(What.barge_in) == []


async def test_an_interruption_is_measured(tmp_path: Path) -> None:
    stt = ScriptedStt(["on monday please"])
    async with running(tmp_path, flows=[FLOWS / "lecture.yaml"], stt=stt, words_per_s=3.0) as server:
        async with dial(server.ws("/ws/audio")) as phone:
            async with asyncio.timeout(PATIENCE_S):
                while len(phone.ear.starts) == 0 or phone.ear.last_end_s - phone.ear.starts[0] < 1:
                    await phone.changed(0.05)
            await phone.say(await spoken("on monday please", phone.rate_hz), interrupting=True)
            await until_said(phone, "Monday")
        (barge_in,) = phone.measured(What.barge_in)
    assert 0 < barge_in < SANE_MS
    assert phone.ear.clears


async def test_where_nobody_answers_or_no_call_is_taken(tmp_path: Path) -> None:
    async with running(tmp_path, flows=[FLOWS / "talk.yaml"]) as server:
        url = server.ws("/ws/audio")
        with pytest.raises(Refused):
            async with dial(url + "/nobody"):
                pass
    with pytest.raises(LineError):
        async with dial(url):
            pass


async def test_what_is_said_after_the_end_is_said_to_nobody(tmp_path: Path) -> None:
    async with running(tmp_path, flows=[FLOWS / "talk.yaml"]) as server, dial(server.ws("/ws/audio")) as phone:
        await phone.hang_up()
        await phone.say(np.zeros(16_000, np.int16))
        await phone.key("1")
        assert phone.measured(What.response) == []
