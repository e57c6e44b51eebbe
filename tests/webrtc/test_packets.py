"""Calls over WebRTC whose every packet is the test's own: codecs, digits, silence, listening in, coming back."""

import asyncio
import itertools
import json
from pathlib import Path

import numpy as np
import pytest

from app.core.events import (
    CallStarted,
    Digit,
    LegAttached,
    LegJoined,
    LegLeft,
    LegLost,
    PlayoutStarted,
    SpeechStarted,
    Transcript,
)
from app.providers.scripted import ScriptedStt
from media import rtp_audio
from media.rtp import RtpPacket
from media.webrtc import session
from tests.e2e.server import LECTURE, TALK, Server, running
from tests.e2e.voices import spoken
from tests.webrtc.caller import caller
from tests.webrtc.probe import probe
from tests.webrtc.relay import relay
from tests.webrtc.remains import ended

LOUD = 1000
QUIET = 100


async def agent_is_done(server: Server, call: str = "") -> None:
    """It waits for the caller."""
    await server.until(lambda: all(c.at_rest for c in server.gate.registry.calls() if c.call.startswith(call)))


async def started(server: Server, number: int = 1) -> str:
    """The call that began as the first, the second ..."""
    await server.until(lambda: len(server.facts(CallStarted)) >= number)
    return [seen.call for seen in server.seen if isinstance(seen.event, CallStarted)][number - 1]


@pytest.mark.parametrize("codec", ["pcmu", "pcma", "opus"])
async def test_every_codec_talks_and_hears(tmp_path: Path, codec: str) -> None:
    async with (
        running(tmp_path, flows=[TALK], stt=ScriptedStt(["on monday please"])) as server,
        probe(server.url, codec) as one,
    ):
        await one.dial()
        call = await started(server)
        await one.until(lambda: one.loudest() > LOUD)
        await agent_is_done(server)
        assert {packet.payload_type for _, packet in one.received} == {one.payload_type}
        assert len({packet.ssrc for _, packet in one.received}) == 1
        rate_hz = one.codec.rate_hz
        pcm = await spoken("on monday please", 16_000)
        await one.speak(pcm[:: 16_000 // rate_hz])
        await one.speak(np.zeros(rate_hz * 2, np.int16))
        await server.until(lambda: server.facts(Transcript))
        assert server.facts(Transcript)[0].text == "on monday please"
        await one.key("#")
        assert await one.goodbye() == 200
        await ended(server, call)
        assert server.replayed(call).slots["day"].value == "monday"


@pytest.mark.parametrize("codec", ["pcmu", "opus"])
async def test_digits_by_telephone_event_and_by_message(tmp_path: Path, codec: str) -> None:
    async with running(tmp_path, flows=[TALK]) as server, probe(server.url, codec) as one:
        await one.dial(channel=True)
        await agent_is_done(server)
        for digit in "15*":
            await one.key(digit)
        await server.until(lambda: len(server.facts(Digit)) >= 3)
        for digit in "90#":
            one.tell("digit", digit=digit)
        await server.until(lambda: len(server.facts(Digit)) >= 6)
        assert [fact.digit for fact in server.facts(Digit)] == list("15*90#")


async def test_a_typed_conversation_and_what_is_shown_of_it(tmp_path: Path) -> None:
    async with running(tmp_path, flows=[TALK]) as server, probe(server.url) as one:
        await one.dial("/webrtc/talk", channel=True)
        (begun,) = one.of("started")
        assert begun["flow"] == "talk"
        assert begun["resume"] == one.resumes
        call = begun["call"]
        await one.until(lambda: any("Which day" in m["text"] for m in one.of("caption")))
        await agent_is_done(server)
        one.tell("ping", t=12.5)
        await one.until(lambda: one.of("pong"))
        assert one.of("pong") == [{"type": "pong", "t": 12.5}]
        one.tell("text", text="  tuesday please ")
        await one.until(lambda: any("Tuesday. Is that right?" in m["text"] for m in one.of("caption")))
        await agent_is_done(server)
        one.tell("text", text="yes")
        await one.until(lambda: one.of("ended"))
        assert one.of("ended")[0] == {"type": "ended", "cause": "flow", "outcome": "told"}
        kinds = {message["kind"] for message in one.of("event")}
        assert {"view", "caller", "said", "heard", "step"} <= kinds
        assert any(m["kind"] == "caller" and m["text"] == "tuesday please" for m in one.of("event"))
        await one.until(lambda: one.lost)  # the server closes the connection, not only its call
        assert (await ended(server, call))["slots"] == {"day": "tuesday"}


async def test_the_agent_s_words_have_no_holes(tmp_path: Path) -> None:
    async with running(tmp_path, flows=[TALK]) as server, probe(server.url, "pcmu") as one:
        await one.dial()
        await one.until(lambda: one.loudest() > LOUD)
        await agent_is_done(server)
        loud = [one.codec.decode(packet.payload).max() > LOUD for _, packet in one.received]
        spoken_frames = loud[loud.index(True) : len(loud) - loud[::-1].index(True)]
        assert len(spoken_frames) > 10
        assert all(spoken_frames)


async def test_in_the_agent_s_silence_hardly_anything_is_sent_and_time_goes_on(tmp_path: Path) -> None:
    async with running(tmp_path, flows=[TALK]) as server, probe(server.url, "pcmu") as one:
        await one.dial()
        await one.until(lambda: one.loudest() > LOUD)
        await agent_is_done(server)
        talked = len(one.received)
        await one.until(lambda: pauses(one.received) >= 4)
        packets = [packet for _, packet in one.received]
        assert len(packets) - talked <= rtp_audio.HANGOVER_FRAMES + 6
        for before, after in itertools.pairwise(packets):
            assert (after.sequence - before.sequence) % (1 << 16) == 1
            passed = (after.timestamp - before.timestamp) % (1 << 32)
            assert passed > 0
            assert passed % one.ticks == 0
            assert after.marker == (passed != one.ticks)
        last, latest = packets[-2:]
        passed_ms = (latest.timestamp - last.timestamp) % (1 << 32) / 8
        assert 0.5 * rtp_audio.KEEP_ALIVE_MS <= passed_ms <= 1.5 * rtp_audio.KEEP_ALIVE_MS
        assert one.loudest(len(packets) - 2) < QUIET


def pauses(received: list[tuple[float, RtpPacket]]) -> int:
    return sum(packet.marker for _, packet in received[1:])


async def test_who_listens_in_hears_both_and_is_not_heard(tmp_path: Path) -> None:
    tokens = json.dumps([{"name": "desk", "role": "operator", "token": "o" * 20}])
    async with (
        running(tmp_path, flows=[TALK], tokens=tokens, stt=ScriptedStt(["monday"])) as server,
        probe(server.url, "pcmu") as one,
        probe(server.url) as ear,
    ):
        await one.dial()
        call = await started(server)
        await ear.dial(f"/webrtc?listen={call}", channel=True, Authorization="Bearer " + "o" * 20)
        await server.until(lambda: server.facts(LegJoined))
        assert ear.of("started")[0]["call"] == call
        assert ear.of("started")[0]["resume"] == ""
        await agent_is_done(server)
        # The listener's own sounds, words and keys
        heard, facts = len(one.received), len(server.seen)
        await ear.speak(await spoken("on friday please", 16_000))
        await ear.key("5")
        ear.tell("text", text="friday")
        ear.tell("digit", digit="7")
        await asyncio.sleep(0.3)
        assert one.loudest(heard + rtp_audio.HANGOVER_FRAMES) < QUIET
        assert {type(seen.event).__name__ for seen in server.seen[facts:]} <= {"Tick"}
        # The caller, then the agent who answers
        before, replies = len(ear.received), len(server.facts(PlayoutStarted))
        await one.speak((await spoken("on monday please", 16_000))[::2])
        assert ear.loudest(before) > LOUD
        await server.until(lambda: len(server.facts(PlayoutStarted)) > replies)
        before = len(ear.received)
        await ear.until(lambda: ear.loudest(before) > LOUD)
        assert await ear.goodbye() == 200
        await server.until(lambda: server.facts(LegLeft))
        assert await one.goodbye() == 200
        await ended(server, call)
        assert [fact.who for fact in server.facts(LegJoined)] == ["desk"]
        assert server.replayed(call).slots["day"].value == "monday"
        assert not server.facts(Digit)


async def test_a_listener_of_another_make_hears_the_agent_and_the_end(tmp_path: Path) -> None:
    async with (
        running(tmp_path, flows=[LECTURE], words_per_s=4.0) as server,
        probe(server.url, "pcma") as one,
        caller(server.url) as ear,
    ):
        await one.dial()
        call = await started(server)
        await ear.dial(f"/webrtc?listen={call}", microphone=False)
        await ear.started()
        await ear.hears()
        assert await one.goodbye() == 200
        await ear.until(lambda: ear.of("ended"))
        assert ear.of("ended")[0]["cause"] == "caller-hangup"


async def test_two_calls_do_not_hear_each_other(tmp_path: Path) -> None:
    async with (
        running(tmp_path, flows=[TALK], stt=ScriptedStt(["monday"])) as server,
        probe(server.url, "pcmu") as one,
        probe(server.url, "pcmu") as other,
    ):
        await one.dial()
        await started(server)
        await other.dial()
        second = await started(server, 2)
        await other.until(lambda: other.loudest() > LOUD)
        await agent_is_done(server)
        heard = len(other.received)
        await one.speak((await spoken("on monday please", 16_000))[::2])
        await one.key("1")
        await server.until(lambda: server.facts(SpeechStarted))
        await asyncio.sleep(0.1)
        assert other.loudest(heard + rtp_audio.HANGOVER_FRAMES) < QUIET
        assert not server.facts(SpeechStarted, second)
        assert not server.facts(Digit, second)
        assert one.resumes != other.resumes


async def test_a_peer_that_falls_silent_is_lost_and_may_come_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with (
        running(tmp_path, flows=[TALK]) as server,
        relay() as network,
        probe(server.url, "pcmu") as one,
    ):
        await one.dial(channel=True, network=network)
        call = await started(server)
        await agent_is_done(server)
        one.tell("text", text="monday")
        await one.until(lambda: any("Monday. Is that right?" in m["text"] for m in one.of("caption")))
        assert not server.facts(LegLost)
        network.cut = True
        monkeypatch.setattr(session, "MAX_QUIET_MS", 300)
        await server.until(lambda: server.facts(LegLost))
        assert not server.gate.registry[call].core.state.attached
        monkeypatch.undo()
        async with probe(server.url) as again:
            await again.dial(f"/webrtc?resume={one.resumes}", channel=True)
            assert again.of("started")[0]["call"] == call
            await server.until(lambda: server.facts(LegAttached))
            await again.until(lambda: any("Is that right?" in m["text"] for m in again.of("caption")))
            await agent_is_done(server)
            again.tell("text", text="yes")
            await again.until(lambda: again.of("ended"))
        assert (await ended(server, call))["outcome"] == "told"
        assert server.replayed(call).slots["day"].value == "monday"


async def test_a_peer_that_closes_without_a_word_is_lost_and_one_that_says_goodbye_is_not(tmp_path: Path) -> None:
    async with running(tmp_path, flows=[TALK]) as server, probe(server.url) as one, probe(server.url) as other:
        await one.dial()
        first = await started(server)
        await one.close()
        await server.until(lambda: server.facts(LegLost, first))
        await other.dial()
        second = await started(server, 2)
        await other.close()
        assert await other.goodbye() == 200  # right behind its connection's end
        assert (await ended(server, second))["cause"] == "caller-hangup"


async def test_a_server_that_drains_says_goodbye(tmp_path: Path) -> None:
    async with running(tmp_path, flows=[TALK]) as server, probe(server.url) as one, probe(server.url) as ear:
        await one.dial(channel=True)
        call = await started(server)
        await ear.dial(f"/webrtc?listen={call}", channel=True)
        await agent_is_done(server)
        server.gate.stop()
        for each in (one, ear):
            await each.until(lambda each=each: each.of("ended"))  # type: ignore[misc]  # bound at once
            await each.until(lambda each=each: each.lost)  # type: ignore[misc]
        assert one.of("ended")[0]["cause"] == "drain"
    assert server.journal(call).row.cdr
