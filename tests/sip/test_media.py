"""RTP as it comes in bad networks and from bad people."""

import asyncio
from pathlib import Path

import pytest

from app.core.events import LegAttached, LegLost
from media import rtp_audio
from media.rtcp import Rtcp, parse
from media.rtp_audio import MAX_CONCEALED, RtpAudio
from media.sip import session as sessions
from media.sip.port import MediaPort
from tests.clients.process import free_port
from tests.e2e.server import Server, running
from tests.sip.caller import Caller, Socket, Source, caller, opened
from tests.sip.calls import TALK, asked, gate, only_call, session


def stream_of(server: Server) -> RtpAudio:
    stream = session(server).audio_stream
    assert stream is not None
    return stream


async def called(server: Server, phone: Caller, rtp_port: int) -> MediaPort:
    """A call that stands; our media port."""
    assert await phone.invite(gate(server).port, rtp_port) == "SIP/2.0 200 OK"
    await server.until(lambda: [one for one in gate(server).sessions if one.leg is not None])
    return session(server).port


async def talk(ear: Socket, source: Source, port: int, count: int) -> None:
    """In time."""
    for _ in range(count):
        ear.send(source.packet(), port)
        await asyncio.sleep(0.02)


async def test_packets_of_others_are_counted_and_never_answered(tmp_path: Path) -> None:
    async with (
        running(tmp_path, flows=[TALK], sip_port=0) as server,
        caller() as phone,
        opened() as ear,
        opened() as other_port,
        opened("127.0.0.2") as other_host,
    ):
        port = await called(server, phone, ear.port)
        source, impostor = Source(), Source()
        await talk(ear, source, phone.media_port, 3)
        await server.until(lambda: stream_of(server).receiver.packets)
        for _ in range(20):
            other_port.send(impostor.packet(), phone.media_port)
            other_host.send(impostor.packet(), phone.media_port)
            await talk(ear, source, phone.media_port, 1)
        await server.until(lambda: port.peer.strays == 40)
        heard = len(ear.came)
        await server.until(lambda: len(ear.came) > heard + 5)
        assert not other_port.came
        assert not other_host.came
        assert stream_of(server).receiver.ssrc == source.ssrc
        assert port.peer.address == ("127.0.0.1", ear.port)
        assert (await phone.bye()) == "SIP/2.0 200 OK"


async def test_a_telephone_behind_a_nat_is_answered_where_it_speaks_from(tmp_path: Path) -> None:
    async with (
        running(tmp_path, flows=[TALK], sip_port=0) as server,
        caller() as phone,
        opened() as said,
        opened() as real,
    ):
        await called(server, phone, said.port)
        await server.until(lambda: said.came)
        await talk(real, Source(), phone.media_port, 5)
        await server.until(lambda: len(real.came) > 10)
        before = len(said.came)
        await server.until(lambda: len(real.came) > 20)
        assert len(said.came) == before
        await server.until(lambda: stream_of(server).receiver.packets >= 2)


async def test_another_source_of_the_same_address_is_a_stray(tmp_path: Path) -> None:
    async with running(tmp_path, flows=[TALK], sip_port=0) as server, caller() as phone, opened() as ear:
        await called(server, phone, ear.port)
        first, second = Source(), Source()
        await talk(ear, first, phone.media_port, 3)
        for _ in range(10):
            ear.send(second.packet(), phone.media_port)
            await talk(ear, first, phone.media_port, 1)
        await server.until(lambda: stream_of(server).strays >= 10)
        await server.until(lambda: stream_of(server).receiver.packets >= 12)
        assert stream_of(server).receiver.ssrc == first.ssrc


async def test_what_is_lost_or_late_is_concealed(tmp_path: Path) -> None:
    async with running(tmp_path, flows=[TALK], sip_port=0) as server, caller() as phone, opened() as ear:
        await called(server, phone, ear.port)
        stream, source = stream_of(server), Source()
        await talk(ear, source, phone.media_port, 10)
        late = source.packet()
        before = stream.concealed_frames
        ear.send(source.packet(), phone.media_port)
        # So many only once the gap is closed, and then nothing more came.
        await server.until(lambda: stream.concealed_frames >= before + MAX_CONCEALED)
        ear.send(late, phone.media_port)
        await server.until(lambda: stream.buffer.late == 1)
        for _ in range(3):
            source.skip()
        await talk(ear, source, phone.media_port, 5)
        await server.until(lambda: stream.receiver.lost == 3)
        assert stream.opinion < 4.4


async def test_a_short_call_is_measured_at_its_end(tmp_path: Path) -> None:
    async with running(tmp_path, flows=[TALK], sip_port=0) as server, caller() as phone, opened() as ear:
        await called(server, phone, ear.port)
        stream, source = stream_of(server), Source()
        await talk(ear, source, phone.media_port, 10)
        source.skip()
        await talk(ear, source, phone.media_port, 5)
        await server.until(lambda: stream.receiver.lost == 1)
        packets = stream.receiver.packets
        assert await phone.bye() == "SIP/2.0 200 OK"
        (call,) = {seen.call for seen in server.seen}
        quality = (await server.over(call))["quality"]
        assert (quality["packets"], quality["lost"]) == (packets, 1)
        assert 1 < quality["opinion"] < 4.4


async def test_a_call_that_the_agent_ends_is_measured(tmp_path: Path) -> None:
    flow = tmp_path / "farewell.yaml"
    flow.write_text(
        "flow: farewell\nversion: 1\nstart: bye\nsteps:\n  bye: {say: We are closed today. Goodbye., end: told}\n"
    )
    async with running(tmp_path, flows=[flow], sip_port=0) as server, caller() as phone, opened() as ear:
        await called(server, phone, ear.port)
        await talk(ear, Source(), phone.media_port, 10)
        (call,) = {seen.call for seen in server.seen}
        record = await server.over(call)
        assert record["cause"] == "flow"
        assert 0 < record["quality"]["packets"] <= 10


def reports(control: Socket) -> list[Rtcp]:
    return [parse(data) for data in control.came]


async def test_reports_tell_of_loss_and_jitter_and_of_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rtp_audio, "REPORT_MS", 200)
    port = free_port(3)
    port += port % 2
    async with (
        running(tmp_path, flows=[TALK], sip_port=0) as server,
        caller() as phone,
        opened(port=port) as ear,
        opened(port=port + 1) as control,
    ):
        await called(server, phone, port)
        source = Source()
        await talk(ear, source, phone.media_port, 5)
        for _ in range(5):
            source.skip()
        await talk(ear, source, phone.media_port, 5)
        await server.until(lambda: any(block.lost == 5 for one in reports(control) for block in one.blocks))
        (block,) = next(one.blocks for one in reports(control) if one.blocks and one.blocks[0].lost == 5)
        assert block.ssrc == source.ssrc
        assert block.jitter_ticks > 0
        ssrc = next(one.ssrc for one in reports(control))
        assert (await phone.bye()) == "SIP/2.0 200 OK"
        await server.until(lambda: any(one.goodbyes == [ssrc] for one in reports(control)))


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "QUIET_MS", 300)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(("allow", "method"), [("INVITE, ACK, BYE", "INVITE"), ("INVITE, ACK, BYE, UPDATE", "UPDATE")])
async def test_a_silent_telephone_is_asked_and_may_stay(tmp_path: Path, allow: str, method: str) -> None:
    async with running(tmp_path, flows=[TALK], sip_port=0) as server, caller() as phone, opened() as ear:
        assert await phone.invite(gate(server).port, ear.port, allow=f"INVITE, ACK, BYE, {method}") == "SIP/2.0 200 OK"
        await server.until(lambda: method in phone.requests)
        await asked(server, "Which day")
        assert not server.facts(LegLost)
        assert phone.requests.count(method) == 1
        assert (await phone.bye()) == "SIP/2.0 200 OK"
        assert (await server.over(only_call(server)))["cause"] == "caller-hangup"


@pytest.mark.usefixtures("impatient")
async def test_a_telephone_that_is_gone_is_lost_and_may_come_back(tmp_path: Path) -> None:
    """By an INVITE with Replaces (RFC 3891), from another port."""
    async with (
        running(tmp_path, flows=[TALK], sip_port=0) as server,
        caller() as first,
        caller() as second,
        caller() as third,
        opened() as ear,
    ):
        first.refuses = "481 No Such Call"
        await called(server, first, ear.port)
        await server.until(lambda: server.facts(LegLost))
        assert await third.invite(gate(server).port, ear.port, replaces="no;to-tag=such;from-tag=call") == (
            "SIP/2.0 481 Call/Transaction Does Not Exist"
        )
        assert await second.invite(gate(server).port, ear.port, replaces=first.replaces) == "SIP/2.0 200 OK"
        await server.until(lambda: server.facts(LegAttached))
        await asked(server, "Which day")
        assert (await second.bye()) == "SIP/2.0 200 OK"
        call = only_call(server)
        assert (await server.over(call))["cause"] == "caller-hangup"
        assert server.replayed(call)


async def test_a_telephone_takes_the_place_of_one_that_still_speaks(tmp_path: Path) -> None:
    async with (
        running(tmp_path, flows=[TALK], sip_port=0) as server,
        caller() as first,
        caller() as second,
        opened() as old,
        opened() as new,
    ):
        await called(server, first, old.port)
        await server.until(lambda: old.came)
        assert await second.invite(gate(server).port, new.port, replaces=first.replaces) == "SIP/2.0 200 OK"
        await server.until(lambda: "BYE" in first.requests)
        await server.until(lambda: len(new.came) > 10)
        await asked(server, "Which day")
        assert len(server.gate.registry) == 1
        assert (await second.bye()) == "SIP/2.0 200 OK"
        assert (await server.over(only_call(server)))["cause"] == "caller-hangup"


async def test_who_is_turned_away_costs_no_port(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with (
        running(tmp_path, flows=[TALK], sip_port=0, max_calls=1) as server,
        caller() as first,
        caller() as second,
        opened() as ear,
    ):
        await called(server, first, ear.port)
        monkeypatch.setattr("media.sip.legs.MediaPort", lambda *given, **named: pytest.fail("a port was opened"))
        assert await second.invite(gate(server).port, ear.port) == "SIP/2.0 486 Busy Here"
        assert server.gate._metrics.refused["sip", "full"] == 1
        assert await first.bye() == "SIP/2.0 200 OK"
