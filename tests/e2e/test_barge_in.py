"""Real speech over a talking agent, on the real path: what stops, and what is remembered."""

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from app.core.effects import HoldPlayout, ResumePlayout
from app.core.events import PlayoutStopped
from app.providers.scripted import ScriptedStt
from tests.e2e.clients import Plain, dial
from tests.e2e.models import Body, ThinkingServer
from tests.e2e.server import FLOWS, LECTURE, PATIENCE_S, Server, running
from tests.e2e.voices import spoken
from tests.fakes.openai_server import Pause, Stall, end, words

ADVICE = FLOWS / "advice.yaml"
WORDS_PER_S = 4.0
STOPS_WITHIN_S = 1.0  # on a busy machine; the benchmarks have the real figure
RATE_HZ = 16000


async def interrupt(caller: Plain, text: str) -> float:
    """Speak over the agent; returns when the first word left."""
    began_s = asyncio.get_running_loop().time()
    await caller.speak(await spoken(text, caller.rate_hz))
    await caller.room(0.6)
    await caller.until(lambda: caller.clears)
    return began_s


def agent_said(server: Server, call: str) -> list[str]:
    return [message.text for message in server.replayed(call).history if message.role == "agent"]


def words_sent(caller: Plain, before_s: float) -> float:
    return sum(at_s <= before_s for at_s, _ in caller.frames) * 0.02 * WORDS_PER_S


async def test_a_voice_stops_the_agent_and_only_played_words_are_remembered(tmp_path: Path) -> None:
    async with (
        running(tmp_path, flows=[LECTURE], stt=ScriptedStt(["on monday please"]), words_per_s=WORDS_PER_S) as server,
        dial(server.ws("/ws/audio"), rate=RATE_HZ, buffer_ms=100) as caller,
    ):
        await caller.until(lambda: len(caller.frames) > 75)
        began_s = await interrupt(caller, "on monday please")
        lecture = server.gate.flows["lecture"].steps["hello"].say
        (heard, *_) = agent_said(server, caller.call)
        assert heard
        assert lecture.startswith(heard)
        assert lecture[len(heard)] == " ", "a half-played word is unheard"
        assert len(heard.split()) <= words_sent(caller, caller.clears[0])
        over = [at_s for at_s, _ in caller.frames if began_s <= at_s <= caller.clears[0]]
        assert max(over, default=0) - began_s < STOPS_WITHIN_S
        await caller.asked("Monday")
        await caller.send({"type": "stop"})
        record = await server.over(caller.call)
        assert record["barge_ins"] == 1


async def test_a_sound_that_is_no_voice_holds_the_agent_and_lets_it_go_on(tmp_path: Path) -> None:
    async with (
        running(tmp_path, flows=[LECTURE], words_per_s=WORDS_PER_S) as server,
        dial(server.ws("/ws/audio"), rate=RATE_HZ) as caller,
    ):
        await caller.until(lambda: len(caller.frames) > 50)
        await caller.speak(caller.tones(0.4))
        await caller.room(1.2)
        before = len(caller.frames)
        await caller.room(0.5)
        assert len(caller.frames) > before, "it goes on"
        assert not caller.clears
        assert server.orders(HoldPlayout, caller.call)
        assert len(server.orders(ResumePlayout, caller.call)) == len(server.orders(HoldPlayout, caller.call))
        assert not server.facts(PlayoutStopped, caller.call)


def endless(body: Body) -> Sequence[Any]:
    """A first answer that never ends; what follows is short."""
    if len(body["messages"]) == 1:
        sentences = [words(f"This is sentence number {n} of very many. ")[1] for n in range(40)]
        return [*words("Let me tell you all about it. "), *sentences, Pause(0.1), Stall()]
    return [*words("All right."), *end()]


async def test_barge_in_closes_the_models_stream_and_its_next_request_has_the_heard_words_only(tmp_path: Path) -> None:
    async with (
        ThinkingServer(endless) as model,
        running(
            tmp_path,
            flows=[ADVICE],
            stt=ScriptedStt(["that is enough"]),
            words_per_s=WORDS_PER_S,
            model="openai:m",
            openai_base_url=model.base_url,
        ) as server,
        dial(server.ws("/ws/audio"), rate=RATE_HZ, marks=True) as caller,
    ):
        await caller.until(lambda: len(caller.frames) > 100)
        first = model.exchanges[0]
        assert not first.gone.is_set(), "the model still speaks"
        await interrupt(caller, "that is enough")
        async with asyncio.timeout(PATIENCE_S):
            await first.gone.wait()
        assert not first.ended
        await server.until(lambda: len(model.exchanges) > 1)
        told = [m for m in model.bodies()[1]["messages"] if m["role"] == "assistant"]
        (said,) = [m["content"] for m in told]
        assert said.startswith("Let me tell you")
        assert "sentence number 39" not in json.dumps(model.bodies()[1])
        assert said == agent_said(server, caller.call)[0]
        whole = "Let me tell you all about it. " + " ".join(
            f"This is sentence number {n} of very many." for n in range(40)
        )
        assert whole.startswith(said)
        assert whole[len(said)] == " "
        assert len(said.split()) <= words_sent(caller, caller.clears[0])
        heard_marks = {tuple(map(int, mark.split(".")[1:3])) for mark in caller.marks}
        assert len(said.split()) <= len(heard_marks)
        assert model.bodies()[1]["messages"][-1] == {"role": "user", "content": "that is enough"}
