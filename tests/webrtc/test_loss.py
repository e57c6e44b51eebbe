"""Bad networks: what is lost is concealed, what was late is forgotten, and copies are sent where they are needed."""

import asyncio
import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from app.core.events import CallStarted, Transcript
from app.providers.scripted import ScriptedStt
from media import rtcp
from media.audio import Pcm
from media.clock import Ticker
from media.gateway import Admission
from media.jitter import MAX_WAIT_MS, MIN_WAIT_MS
from media.opus import Opus
from media.rtp import RtpSender
from media.rtp_audio import MAX_CONCEALED
from media.webrtc import offer
from media.webrtc.peer import Peer
from media.webrtc.session import Session
from tests.e2e.server import LECTURE, TALK, running
from tests.e2e.voices import spoken
from tests.support.nobody import Nobody
from tests.webrtc.offers import OFFER
from tests.webrtc.probe import probe
from tests.webrtc.relay import relay
from tests.webrtc.remains import live


class Wired:
    """A session without a network, by a clock that only the test moves."""

    def __init__(self, formats: str) -> None:
        self.now_ms = 10_000
        wanted = offer.read(OFFER.replace("SAVPF 111 63 9 0 8", f"SAVPF {formats}"))
        self.session = Session(wanted, Admission("c", "c", "", Nobody()), ssrc=1, cname="")
        self.session._loop = self  # type: ignore[assignment]  # its clock is all that is used
        self.session.peer = self  # type: ignore[assignment]  # likewise
        self.session.attach()
        codec = self.session.audio_stream.codec
        self.sender = RtpSender(2, wanted.codec.payload_type, codec.clock_hz)
        self.ticks = codec.clock_hz // 50
        tone = 8000 * np.sin(2 * np.pi * 200 * np.arange(codec.rate_hz // 50) / codec.rate_hz)
        self.frame = tone.astype(np.int16)
        self.codec = wanted.new_codec()
        self.heard: list[Pcm] = []
        self.session.audio_stream.heard = lambda pcm, now_ms: self.heard.append(pcm)
        self.datagrams = 0
        self.channel_is_open = False
        self._due: list[tuple[int, bytes]] = []

    def time(self) -> float:
        return self.now_ms / 1000

    def send_rtp(self, packet: bytes) -> None: ...

    def send_rtcp(self, packet: bytes) -> None: ...

    def send(self, late_ms: int | None = 0) -> None:
        packet = self.sender.packet(self.codec.encode(self.frame), self.ticks)
        if late_ms is not None:
            self._due.append((self.now_ms + late_ms, packet))

    def pass_20_ms(self) -> None:
        for _ in range(4):
            self.now_ms += 5
            for due in [due for due in self._due if due[0] <= self.now_ms]:
                self._due.remove(due)
                self.datagrams += 1
                self.session.rtp(due[1])
        self.session.hear(self.now_ms)
        self.session.tick(self.now_ms)

    def frames(self) -> float:
        return sum(map(len, self.heard)) / len(self.frame)


@pytest.mark.parametrize("formats", ["0", "8", "111"])
async def test_what_is_lost_is_concealed(formats: str) -> None:
    wired = Wired(formats)
    chance = random.Random(1)
    for _ in range(500):
        wired.send(None if chance.random() < 0.2 else 0)
        wired.pass_20_ms()
    assert wired.session.audio_stream.buffer.missing > 70
    assert 495 <= wired.frames() <= 505
    sound = np.concatenate(wired.heard).astype(np.float64)
    levels = [float(np.sqrt(np.mean(part**2))) for part in np.array_split(sound, 100)]
    assert min(levels[2:]) > 0.1 * float(np.median(levels))  # no holes


async def test_a_long_hole_ends_in_silence_and_time_goes_on() -> None:
    wired = Wired("0")
    for _ in range(20):
        wired.send()
        wired.pass_20_ms()
    for _ in range(MAX_CONCEALED + 30):
        wired.pass_20_ms()
    assert 50 <= wired.frames() <= 20 + MAX_CONCEALED + 31
    assert not wired.heard[-1].any()
    for _ in range(10):
        wired.send()
        wired.pass_20_ms()
    assert wired.heard[-1].any()


async def test_all_calls_are_heard_before_any_is_spoken_to() -> None:
    ticker, told = Ticker(), list[str]()
    calls = [Wired("0") for _ in range(2)]
    for wired in calls:
        wired.session.audio_stream.heard = lambda pcm, now_ms: told.append("heard")
        wired.send_rtp = lambda packet: told.append("sent")  # type: ignore[method-assign]
        ticker.add(wired.session, wired.session.failed, wired.session.hear)
        wired.session.rtp(wired.sender.packet(wired.codec.encode(wired.frame), wired.ticks))
    ticker.first(10_020)
    ticker.tick(10_020)
    assert told == ["heard", "heard", "sent", "sent"]


def weathers() -> Iterator[tuple[str, list[int | None]]]:
    chance = random.Random(2)
    yield "jitter", [chance.choice((0, 20, 60, 120)) for _ in range(100)]
    yield "loss", [None if chance.random() < 0.5 else 0 for _ in range(100)]
    yield "both", [None if chance.random() < 0.3 else chance.choice((0, 40, 90)) for _ in range(100)]
    stall: list[int | None] = [400 - 20 * n for n in range(20)]
    yield "a stall", stall * 3


@pytest.mark.parametrize(("name", "weather"), list(weathers()))
async def test_a_bad_moment_is_forgotten_within_two_seconds(name: str, weather: list[int | None]) -> None:
    wired = Wired("111")
    for _ in range(50):
        wired.send()
        wired.pass_20_ms()
    for late_ms in weather:
        wired.send(late_ms)
        wired.pass_20_ms()
        assert wired.session.audio_stream.buffer.wait_ms <= MAX_WAIT_MS
    for _ in range(100):
        wired.send()
        wired.pass_20_ms()
    assert wired.session.audio_stream.buffer.wait_ms < MIN_WAIT_MS + 1
    assert not wired.session.audio_stream.buffer._waiting  # what has come was given
    count = len(wired.heard)
    wired.send()
    wired.pass_20_ms()
    assert len(wired.heard) == count + 1  # in the very tick


async def test_a_caller_on_a_bad_network_is_understood(tmp_path: Path) -> None:
    chance = random.Random(3)
    async with (
        running(tmp_path, flows=[TALK], stt=ScriptedStt(["on monday please"]), media_host="127.0.0.1") as server,
        relay() as network,
        probe(server.url) as one,
    ):
        await one.dial(network=network)
        await server.until(lambda: server.facts(CallStarted))
        await server.until(lambda: all(call.at_rest for call in server.gate.registry.calls()))
        (leg,) = live()
        heard: list[int] = []
        receive = leg.leg.receive

        def count(pcm: Pcm, now_ms: int) -> None:
            heard.append(len(pcm))
            receive(pcm, now_ms)

        leg.audio_stream.heard = count
        network.up = lambda: None if chance.random() < 0.15 else chance.choice((0.0, 0.0, 10.0, 30.0))
        pcm = await spoken("on monday please", 16_000)
        await one.speak(pcm)
        assert network.lost > 0
        network.up = lambda: 0.0
        await one.speak(np.zeros(8000, np.int16))
        await server.until(lambda: server.facts(Transcript))
        assert leg.audio_stream.buffer.missing > 0
        assert sum(heard) >= 0.9 * len(pcm)


async def test_copies_are_sent_where_the_peer_reports_loss(tmp_path: Path) -> None:
    opus = Opus()
    async with (
        running(tmp_path, flows=[LECTURE], words_per_s=4.0, media_host="127.0.0.1") as server,
        probe(server.url) as one,
    ):
        await one.dial()
        await one.until(lambda: len(one.received) > 50)

        def copies(since: int) -> int:
            return sum(opus._has_fec(packet.payload, len(packet.payload)) == 1 for _, packet in one.received[since:])

        assert copies(0) == 0
        report(one.peer, one.received[-1][1].ssrc, lost_256ths=64)
        count = len(one.received)
        await one.until(lambda: copies(count) > 20)
        for _ in range(20):  # a network that is well again
            report(one.peer, one.received[-1][1].ssrc, lost_256ths=0)
        await asyncio.sleep(0.1)
        count = len(one.received) + 5
        await one.until(lambda: len(one.received) > count + 50)
        assert copies(count) == 0


def report(peer: Peer | None, ssrc: int, lost_256ths: int) -> None:
    block = rtcp.Block(ssrc, lost_256ths, 0, 0, 0, 0, 0)
    assert peer is not None
    peer.send_rtcp(rtcp.receiver_report(4242, block) + rtcp.source_description(4242, "light"))
