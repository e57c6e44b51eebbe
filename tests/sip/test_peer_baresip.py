"""baresip calls the server, in all the ways that it knows."""

import asyncio
import socket
from pathlib import Path

import pytest

from app.core.effects import Speak
from app.core.events import Digit, PlayoutStopped
from app.providers.scripted import Pause, ScriptedStt
from media.sip import session as sessions
from tests.clients import audio
from tests.clients.baresip import Baresip, baresip
from tests.clients.certificate import self_signed
from tests.sip.calls import (
    ALIKE,
    LECTURE,
    LOUD,
    agent_said,
    asked,
    loudness,
    only_call,
    playout_of,
    said_by_a_caller,
    session,
    share_heard,
    speaking,
    uri,
)

SETTLED_S = 0.2  # from when nothing is sent until nothing is played
HELD_S = 1.0


async def falls_silent(phone: Baresip) -> None:
    while loudness(await phone.hears(300)) > LOUD:
        pass


WAYS = [
    ("udp", "opus/48000/1", ""),
    ("tcp", "G722/16000/1", ""),
    ("tls", "PCMU", ""),
    ("udp", "PCMA", ";ptime=40"),
    ("tcp", "L16/16000/1", ""),
]


@pytest.mark.slow
@pytest.mark.parametrize(("transport", "codec", "account"), WAYS)
async def test_a_conversation_by_voice_and_keys(tmp_path: Path, transport: str, codec: str, account: str) -> None:
    friday = await said_by_a_caller(tmp_path, "friday please")
    pem = self_signed(tmp_path / "tls.pem")
    tls = {"sip_tls_certificate": pem, "sip_tls_key": pem, "sip_tls_port": 0}
    async with (
        speaking(tmp_path, **tls) as server,
        baresip(
            tmp_path / "phone",
            codecs=[codec],
            transport=transport,
            account=account,
            trusted=pem,
            config="module l16.so\n",
        ) as phone,
    ):
        await phone.dial(uri(server, transport=transport))
        await asked(server, "Which day")
        agreed = session(server).negotiation.agreed
        assert agreed is not None
        assert agreed.codec.name == codec.split("/")[0].lower()
        assert agreed.packet_ms == (40 if "ptime" in account else 20)
        await phone.say(friday)
        await asked(server, "Friday. Is that right?")
        await phone.key("#")
        await phone.event("CALL_CLOSED")
        call = only_call(server)
        assert (await server.over(call))["outcome"] == "told"
        assert server.replayed(call).slots["day"].value == "friday"
        assert [fact.digit for fact in server.facts(Digit)] == ["#"]
        sound = phone.heard()
        for sentence in ("Which day would you like?", "Until friday."):
            assert await share_heard(sound, sentence) > ALIKE, sentence


async def test_who_speaks_over_the_agent_hears_it_fall_silent(tmp_path: Path) -> None:
    monday = await said_by_a_caller(tmp_path, "on monday please")
    stt = ScriptedStt([Pause(2000), "on monday please"])
    async with speaking(tmp_path, flows=[LECTURE], stt=stt) as server, baresip(tmp_path / "phone") as phone:
        await phone.dial(uri(server, "lecture"))
        await phone.hears(1500)
        assert loudness(phone.heard()[-audio.RATE_HZ :]) > LOUD
        await phone.say(monday)
        await server.until(lambda: server.facts(PlayoutStopped))
        await falls_silent(phone)
        assert server.facts(PlayoutStopped)[0].cause == "cut"
        assert not any("Monday" in order.text for order in server.orders(Speak)), "so far nobody knows what was said"
        await asked(server, "Monday")
        call = only_call(server)
        await phone.hangup()
        record = await server.over(call)
        assert record["cause"] == "caller-hangup"
        assert record["barge_ins"] == 1
        heard = agent_said(server, call)[0]
        lecture = server.gate.flows["lecture"].steps["hello"].say
        assert lecture.startswith(heard)
        assert 3 < len(heard.split()) < len(lecture.split()) - 10
        assert await share_heard(phone.heard(), heard) > ALIKE


async def test_a_held_call_waits_and_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While it is held nothing of the agent's counts as heard, and to be asked who is there changes nothing."""
    monkeypatch.setattr(sessions, "QUIET_MS", 500)
    async with speaking(tmp_path, flows=[LECTURE]) as server, baresip(tmp_path / "phone") as phone:
        await phone.dial(uri(server, "lecture"))
        await phone.hears(1000)
        await phone.hold()
        await server.until(lambda: session(server).stalled)
        playout = playout_of(server)
        await asyncio.sleep(SETTLED_S)
        before = playout.sent_frames, playout.now_heard()
        await phone.process.says("call: got re-INVITE")
        await asyncio.sleep(HELD_S)
        assert (playout.sent_frames, playout.now_heard()) == before
        await phone.resume()
        await server.until(lambda: playout.sent_frames > before[0] + 100)
        assert playout.now_heard() > before[1]
        await phone.hears(500)
        await phone.hangup()
        call = only_call(server)
        assert (await server.over(call))["cause"] == "caller-hangup"
        (heard,) = agent_said(server, call)
        assert server.gate.flows["lecture"].steps["hello"].say.startswith(heard)
        assert len(heard.split()) > 5
        assert await share_heard(phone.heard(), heard) > ALIKE


async def test_nobody_may_send_us_elsewhere(tmp_path: Path) -> None:
    """A transfer that was not allowed is declined, and nobody is called; baresip hangs up then."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as elsewhere:
        elsewhere.bind(("127.0.0.1", 0))
        elsewhere.setblocking(False)
        async with speaking(tmp_path) as server, baresip(tmp_path / "phone") as phone:
            await phone.dial(uri(server))
            await phone.hears(200)
            await phone.transfer(f"sip:elsewhere@127.0.0.1:{elsewhere.getsockname()[1]}")
            await phone.process.says("SIP/2.0 603")
            assert (await server.over(only_call(server)))["cause"] == "caller-hangup"
        with pytest.raises(BlockingIOError):
            elsewhere.recv(1)
