"""What the tests of telephone calls share: where the server is called, what was said, and what was heard of it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np

from app.core.effects import Speak
from app.providers.espeak import EspeakTts
from app.providers.sphinx import SphinxStt
from flows.model import Voice
from media.audio import Pcm
from media.playout import Playout
from media.sip.server import SipServer
from media.sip.session import Session
from tests.clients import audio
from tests.e2e.server import LECTURE as LECTURE
from tests.e2e.server import TALK as TALK
from tests.e2e.server import Server, running
from tests.e2e.voices import spoken
from tests.pages.browser import likeness

LOUD = 200  # of a root mean square, where the agent's voice has thousands
ALIKE = 0.5  # of `likeness`; two different sentences have 0.2


@asynccontextmanager
async def speaking(folder: Path, **given: Any) -> AsyncIterator[Server]:
    """A server that hears and speaks with real voices."""
    usual: dict[str, Any] = {"flows": [TALK], "sip_port": 0, "tts": EspeakTts()}
    if "stt" not in given:
        usual["stt"] = SphinxStt(workers=1)
    async with running(folder, **usual | given) as server:
        yield server


def gate(server: Server) -> SipServer:
    assert server.gate.sip is not None
    return server.gate.sip


def address(server: Server, transport: str = "udp") -> str:
    """`host:port`"""
    return f"127.0.0.1:{gate(server).tls_port if transport == 'tls' else gate(server).port}"


def uri(server: Server, user: str = "talk", transport: str = "udp") -> str:
    return f"sip:{user}@{address(server, transport)};transport={transport}"


def session(server: Server) -> Session:
    """Of the one call."""
    (found,) = gate(server).sessions
    return found


def only_call(server: Server) -> str:
    """Its name. There was no other."""
    (call,) = {seen.call for seen in server.seen}
    return call


async def asked(server: Server, words: str) -> None:
    """The agent has said this, and nobody speaks."""
    await server.until(lambda: any(words in order.text for order in server.orders(Speak)))
    await server.until(lambda: all(call.at_rest for call in server.gate.registry.calls()))


async def said_by_a_caller(folder: Path, text: str) -> Path:
    """In `folder`."""
    return audio.write(folder / f"{text.replace(' ', '-')}.wav", await spoken(text, audio.RATE_HZ))


def playout_of(server: Server) -> Playout:
    leg = session(server).leg
    assert leg is not None
    return leg.playout


async def packets_came(server: Server, count: int) -> None:
    """Of 20 ms each."""
    stream = session(server).audio_stream
    assert stream is not None
    end = stream.receiver.packets + count
    await server.until(lambda: stream.receiver.packets >= end)


def agent_said(server: Server, call: str) -> list[str]:
    """As the journal has it: what was heard."""
    return [message.text for message in server.replayed(call).history if message.role == "agent"]


def loudness(pcm: Pcm) -> float:
    return float(np.sqrt(np.mean(pcm.astype(np.float64) ** 2))) if len(pcm) else 0.0


async def share_heard(sound: Pcm, text: str) -> float:
    """How much of the agent's sentence is in what a telephone received: `likeness`."""
    if text not in _said:
        tts = EspeakTts()
        await tts.start()
        try:
            _said[text] = np.concatenate([chunk.pcm async for chunk in tts.speak(text, Voice(), audio.RATE_HZ)])
        finally:
            await tts.stop()
    return likeness(sound, _said[text])


_said: dict[str, Pcm] = {}
