"""Whole calls over WebRTC, with aiortc's own audio path as the client."""

import asyncio
from pathlib import Path

from app.providers.scripted import ScriptedStt
from tests.e2e.server import LECTURE, running
from tests.e2e.voices import spoken
from tests.webrtc.caller import caller

WORDS_PER_S = 4.0


async def test_a_caller_hears_interrupts_and_hangs_up(tmp_path: Path) -> None:
    async with (
        running(tmp_path, flows=[LECTURE], stt=ScriptedStt(["on monday please"]), words_per_s=WORDS_PER_S) as server,
        caller(server.url) as one,
    ):
        await one.dial()
        started = await one.started()
        assert started["flow"] == "lecture"
        await one.hears()
        await asyncio.sleep(1)
        one.microphone.put(await spoken("on monday please", 16_000), 16_000)
        await one.hears_nothing()
        await server.until(lambda: any("monday" in str(m) for m in server.replayed(started["call"]).history))
        assert await one.hang_up() == 200
        record = await server.over(started["call"])
        assert record["cause"] == "caller-hangup"
        assert server.replayed(started["call"])
