"""Transfers between real telephones: joined here, announced, by REFER, and to nobody."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np

from app.core.events import LegJoined, LegRole, TransferFailed
from app.core.state import TransferStage
from app.providers.espeak import EspeakTts
from media.audio import Pcm
from tests.clients import audio
from tests.clients.baresip import Baresip, baresip
from tests.clients.sipp import running as callee
from tests.e2e.server import Server, running
from tests.pages.browser import likeness

SWITCH = Path(__file__).parent.parent / "e2e" / "flows" / "switch.yaml"


@asynccontextmanager
async def serving(folder: Path, desk: str, **settings: Any) -> AsyncIterator[Server]:
    given: dict[str, Any] = {"sip_port": 0, "dial_allow": ["*"], "tts": EspeakTts()} | settings
    async with running(folder, flows=[SWITCH], environment={"FLOW_DESK": desk}, **given) as server:
        yield server


async def calls(phone: Baresip, server: Server, way: str) -> None:
    assert server.gate.sip is not None
    await phone.dial(f"sip:switch@127.0.0.1:{server.gate.sip.port}")
    await server.until(lambda: all(call.at_rest for call in server.gate.registry.calls()))
    await phone.key({"bridge": "1", "announced": "2", "moved": "3"}[way])


async def joined(server: Server) -> None:
    await server.until(lambda: any(fact.role is LegRole.target for fact in server.facts(LegJoined)))


async def talking(server: Server) -> None:
    def talks() -> bool:
        states = [call.core.state for call in server.gate.registry.calls()]
        return any(s.transfer is not None and s.transfer.stage is TransferStage.joined for s in states)

    await server.until(talks)


async def record(server: Server) -> dict[str, Any]:
    (call,) = {seen.call for seen in server.seen}
    found = await server.over(call)
    assert server.replayed(call).outcome == found["outcome"]
    return found


def pitch(sound: Pcm, hz: float) -> float:
    """How much of the sound is this tone: 1 is all of it."""
    spectrum = np.abs(np.fft.rfft(sound.astype(float))) ** 2
    freqs = np.fft.rfftfreq(len(sound), 1 / audio.RATE_HZ)
    return float(spectrum[np.abs(freqs - hz) < 20].sum() / max(spectrum.sum(), 1))


async def test_the_two_hear_each_other_until_one_leaves(tmp_path: Path) -> None:
    low, high = (audio.write(tmp_path / f"{hz}.wav", audio.tone(hz, 30_000)) for hz in (440, 900))
    async with (
        baresip(tmp_path / "desk", speech=high, codecs=("PCMA",)) as desk,
        serving(tmp_path, desk.uri) as server,
        baresip(tmp_path / "phone", speech=None) as phone,
    ):
        await calls(phone, server, "bridge")
        await joined(server)
        await phone.say(low)
        await talking(server)
        assert pitch((await phone.hears(3000))[-audio.RATE_HZ :], 900) > 0.5
        assert pitch((await desk.hears(3000))[-audio.RATE_HZ :], 440) > 0.5
        await desk.hangup()
        await phone.event("CALL_CLOSED")
        found = await record(server)
        assert (found["outcome"], found["transfers"]) == ("back", [{"by": "bridge", "outcome": "answered"}])


async def test_the_other_side_is_told_who_is_calling(tmp_path: Path) -> None:
    async with (
        baresip(tmp_path / "desk") as desk,
        serving(tmp_path, desk.uri) as server,
        baresip(tmp_path / "phone") as phone,
    ):
        await calls(phone, server, "announced")
        await joined(server)
        await talking(server)
        await desk.hears(500)
        tts = EspeakTts()
        await tts.start()
        voice = server.gate.flows["switch"].voice
        words = "A caller who wants to be announced."
        told = np.concatenate([c.pcm async for c in tts.speak(words, voice, audio.RATE_HZ)])
        await tts.stop()
        assert likeness(desk.heard(), told) > 0.5
        assert likeness(phone.heard(), told) < 0.5
        await phone.hangup()
        await desk.event("CALL_CLOSED")
        assert (await record(server))["outcome"] == "hung-up"


async def test_a_telephone_is_asked_to_call_there_itself(tmp_path: Path) -> None:
    async with (
        baresip(tmp_path / "desk") as desk,
        serving(tmp_path, desk.uri) as server,
        baresip(tmp_path / "phone") as phone,
    ):
        await calls(phone, server, "moved")
        await desk.event("CALL_ESTABLISHED")
        found = await record(server)
        assert (found["cause"], found["outcome"]) == ("transferred", "transferred")


async def test_nobody_is_reached(tmp_path: Path) -> None:
    async with (
        callee("busy", tmp_path / "desk") as desk,
        serving(tmp_path, desk.uri) as server,
        baresip(tmp_path / "phone") as phone,
    ):
        await calls(phone, server, "bridge")
        await phone.event("CALL_CLOSED")
        found = await record(server)
        assert (found["outcome"], found["transfers"]) == ("unreached", [{"by": "bridge", "outcome": "busy"}])


async def test_a_transfer_is_a_call_out_and_has_to_be_allowed(tmp_path: Path) -> None:
    async with (
        serving(tmp_path, "sip:x@127.0.0.1:9", dial_allow=["@example.com"]) as server,
        baresip(tmp_path / "phone") as phone,
    ):
        await calls(phone, server, "bridge")
        await phone.event("CALL_CLOSED")
        assert [fact.outcome for fact in server.facts(TransferFailed)] == ["refused"]
        assert (await record(server))["outcome"] == "unreached"


async def test_the_caller_hangs_up_while_it_rings_there(tmp_path: Path) -> None:
    async with (
        callee("ringing", tmp_path / "desk") as desk,
        serving(tmp_path, desk.uri) as server,
        baresip(tmp_path / "phone") as phone,
    ):
        await calls(phone, server, "bridge")
        await desk.seen("INVITE")
        await phone.hangup()
        async with asyncio.timeout(20):
            await desk.seen("CANCEL")
        assert (await record(server))["outcome"] == "hung-up"
