"""A real telephone program calls the real server."""

from pathlib import Path
from typing import Any

import numpy as np

from app.core.effects import Speak
from app.providers.espeak import EspeakTts
from app.providers.sphinx import SphinxStt
from tests.clients import audio
from tests.clients.baresip import baresip
from tests.e2e.server import Server, running
from tests.e2e.voices import spoken
from tests.pages.browser import likeness

FLOWS = Path(__file__).parent.parent / "e2e" / "flows"
TALK = FLOWS / "talk.yaml"


def sip(server: Server, user: str = "talk", transport: str = "udp") -> str:
    assert server.gate.sip is not None
    port = server.gate.sip.tls_port if transport == "tls" else server.gate.sip.port
    return f"sip:{user}@127.0.0.1:{port};transport={transport}"


async def agent_says(server: Server, tts: EspeakTts, text: str) -> Any:
    voice = server.gate.flows["talk"].voice
    return np.concatenate([chunk.pcm async for chunk in tts.speak(text, voice, audio.RATE_HZ)])


async def asked(server: Server, words: str) -> None:
    """The agent has said this, and nobody speaks."""
    await server.until(lambda: any(words in order.text for order in server.orders(Speak)))
    await server.until(lambda: all(call.at_rest for call in server.gate.registry.calls()))


async def test_a_call_by_voice(tmp_path: Path) -> None:
    friday = audio.write(tmp_path / "friday.wav", await spoken("friday please", 16_000))
    tts = EspeakTts()
    async with (
        running(tmp_path, flows=[TALK], stt=SphinxStt(workers=1), tts=tts, sip_port=0) as server,
        baresip(tmp_path / "phone") as phone,
    ):
        await phone.dial(sip(server))
        await asked(server, "Which day")
        await phone.say(friday)
        await asked(server, "Friday. Is that right?")
        await phone.key("#")
        await phone.event("CALL_CLOSED")
        (call,) = {seen.call for seen in server.seen}
        record = await server.over(call)
        assert record["outcome"] == "told"
        assert server.replayed(call).slots["day"].value == "friday"
        sound = phone.heard()
        assert likeness(sound, await agent_says(server, tts, "Which day would you like?")) > 0.5
        assert likeness(sound, await agent_says(server, tts, "Until friday. Goodbye.")) > 0.5
