"""Moments played to agents whose behaviour is known: what is found is what they did."""

import time
from dataclasses import dataclass

import msgspec
import numpy as np
import pytest

from app.load.line import Listener, Refused
from app.load.plain import Linear8
from app.load.suite.moment import Half, Kind, Moment, Say, Scene, Wire
from app.load.suite.moments import moments
from app.load.suite.play import Outcome, play
from app.load.suite.render import Rendered, Renderer, Span
from app.load.suite.run import lines
from app.providers.espeak import EspeakTts
from media.audio import Pcm, rms
from media.codec import Codec

TALK = (np.sin(np.arange(160) / 3) * 6000).astype("<i2").tobytes()
LOUD = 1500


@dataclass
class Agent:
    """A line to an agent that talks from the start, or asks for half a second; it hears what is loud."""

    asks: bool = False
    asks_s: float = 0.5
    holds_s: float = 0.0  # in the middle of its question
    yields: bool = True
    answers_after_s: float = 0.3
    refuses: bool = False

    clears = True
    call = "c1"

    def __post_init__(self) -> None:
        self.codec: Codec = Linear8()
        self._listener: Listener | None = None
        self._talks = True
        self._heard_s = 0.0
        self._began_s = 0.0

    async def connect(self, listener: Listener) -> None:
        if self.refuses:
            raise Refused("busy")
        self._listener = listener
        self._began_s = time.perf_counter()

    def send(self, payload: bytes) -> None:
        now_s = time.perf_counter()
        listener = self._listener
        assert listener is not None
        if rms(payload) > LOUD:
            self._heard_s = now_s
            if self._talks and self.yields and not self.asks:
                self._talks = False
                listener.cleared(now_s)
        if self.asks:
            asked_s = now_s - self._began_s
            half_s = self.asks_s / 2
            asking = asked_s < half_s or 0 < asked_s - half_s - self.holds_s < half_s
            self._talks = asking or (self._heard_s > 0 and now_s - self._heard_s > self.answers_after_s)
        if self._talks:
            listener.audio(TALK, now_s, None)

    def digit(self, digit: str, duration_ms: int) -> None: ...

    async def hang_up(self) -> None:
        self._listener = None

    def drop(self) -> None: ...

    async def resume(self) -> None: ...


class Tone(Renderer):
    """Says half a second of a tone, whatever is to be said."""

    def __init__(self) -> None:
        super().__init__(EspeakTts())

    async def moment(self, moment: Moment) -> Rendered:
        pcm: Pcm = (np.sin(np.arange(8000) / 5) * 8000).astype(np.int16)
        return Rendered(pcm, (Span(0.0, 0.5),))


def moment(kind: Kind, name: str) -> Moment:
    found = next(one for one in moments(Half.tuning) if one.kind is kind)
    return msgspec.structs.replace(found, name=name, at_ms=200, wire=Wire.plain_8k, parts=(Say("tone"),))


async def test_what_agents_do_is_found() -> None:
    agents = {
        "yields": (Kind.interruption, Agent()),
        "talks on": (Kind.interruption, Agent(yields=False)),
        "goes on": (Kind.backchannel, Agent(yields=False)),
        "stops": (Kind.noise, Agent()),
        "answers": (Kind.word, Agent(asks=True)),
        "never": (Kind.word, Agent(asks=True, answers_after_s=60)),
        "holds": (Kind.word, Agent(asks=True, holds_s=0.35)),
        "asks less than the first time": (Kind.word, Agent(asks=True, asks_s=0.2)),
        "refuses": (Kind.word, Agent(refuses=True)),
    }
    heard_out = Agent(asks=True)
    waiting = iter([*(agent for _, agent in agents.values()), heard_out])
    played = [moment(kind, name) for name, (kind, _) in agents.items()]
    told: list[Outcome] = []
    outcomes = await play(played, {Half.tuning: Tone()}, lambda scene, wire: next(waiting), told=told.append)
    found = {outcome.moment.name: outcome for outcome in outcomes}
    assert len(told) == len(outcomes) == len(agents)
    assert found["refuses"].error
    assert found["refuses"].finding is None
    why = {name: one.finding.why for name, one in found.items() if one.finding is not None and not one.own}
    right = {
        "yields": "",
        "talks on": "talked on",
        "goes on": "",
        "stops": "stopped",
        "answers": "",
        "never": "no answer",
        "holds": "",
        "asks less than the first time": "",
    }
    assert all(why[name] == right[name] for name in why)
    for name, most_ms in (("yields", 100), ("answers", 600)):
        finding = found[name].finding
        if name in why and finding is not None and finding.latency_ms is not None:
            assert 0 <= finding.latency_ms <= most_ms


async def test_an_agent_that_never_speaks_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.load.suite.play.START_S", 0.2)
    agent = Agent()
    agent._talks = agent.yields = False
    (outcome,) = await play([moment(Kind.noise, "silent")], {Half.tuning: Tone()}, lambda scene, wire: agent)
    assert outcome.error == "the agent did not speak"


def test_each_scene_and_protocol_has_its_line() -> None:
    line = lines("ws://127.0.0.1:1")
    assert line(Scene.talk, Wire.twilio).codec.name == "PCMU"
    assert line(Scene.talk, Wire.plain_8k).codec.rate_hz == 8000
    assert line(Scene.day, Wire.plain_16k).codec.rate_hz == 16_000
