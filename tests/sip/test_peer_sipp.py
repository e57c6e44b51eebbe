"""sipp calls the server: message by message, two hundred at once, and not always as it should."""

import asyncio
import json
import os
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from app.core.effects import Speak
from app.core.events import Digit, HangupOrdered
from media.audio import silence
from media.sip import guard, refresh
from tests.clients import audio
from tests.clients.sipp import needs_raw_socket, sipp
from tests.clients.sipp import running as calling
from tests.e2e.server import Server, running
from tests.sip.calls import ALIKE, LECTURE, TALK, address, gate, only_call, said_by_a_caller, share_heard, speaking

SCENARIOS = Path(__file__).parent / "scenarios"
PAUSE_MS = 3000
MANY = 200
MANY_S = 60
SLOW_WORDS_PER_S = 1.5  # so that no call ends before all are there
BREATH_S = 0.01  # between hang-ups: two hundred answers at once do not fit into a socket's buffer
USER, PASSWORD = "anna", "a-long-password"
USERS = json.dumps([{"user": USER, "password": PASSWORD}])


async def over(server: Server) -> dict[str, object]:
    """The record of the only call; its journal can be replayed, and nothing is left of it."""
    call = only_call(server)
    record = await server.over(call)
    server.replayed(call)
    await nothing_left(server)
    return record


async def nothing_left(server: Server) -> None:
    await server.until(lambda: not (gate(server).sessions or gate(server).endpoint.calls or len(server.gate.registry)))


@pytest.mark.parametrize(
    ("scenario", "transport"),
    [
        ("basic_call", "t1"),
        ("hold", "u1"),
        ("late_offer", "u1"),
        ("lost_ack", "u1"),
        ("retransmissions", "u1"),
        ("session_timer_uac", "u1"),
        ("session_timer_uas", "u1"),
        ("update", "u1"),
        ("info_dtmf", "u1"),
        ("rfc4733_dtmf", "u1"),
        ("prack", "u1"),
    ],
)
async def test_a_call_as_the_scenario_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scenario: str, transport: str
) -> None:
    if scenario == "rfc4733_dtmf":
        needs_raw_socket()
    monkeypatch.setattr(refresh, "MIN_INTERVAL_S", 2)
    ring_ms = 300 if scenario == "prack" else 0
    keys = {"session_expires": "2"}
    async with running(tmp_path, flows=[TALK, "clinic"], sip_port=0, sip_ring_ms=ring_ms) as server:
        flow = "clinic" if scenario.endswith("dtmf") else "talk"
        result = await sipp(scenario, address(server), tmp_path, user=flow, transport=transport, keys=keys, media=False)
        assert (await over(server))["cause"] == "caller-hangup"
        assert server.orders(Speak)
        if scenario.endswith("dtmf"):
            assert [fact.digit for fact in server.facts(Digit)] == ["1", "2", "#"]
        if scenario == "lost_ack":
            assert len(result.received("SIP/2.0 200", "INVITE")) > 1
        if scenario == "session_timer_uas":
            assert result.received("UPDATE")


async def test_ten_calls(tmp_path: Path) -> None:
    async with running(tmp_path, flows=[TALK], sip_port=0) as server:
        result = await sipp("basic_call", address(server), tmp_path, calls=10, rate=50, user="talk", media=False)
        assert result.successful == 10
        calls = {seen.call for seen in server.seen}
        assert len(calls) == 10
        for call in calls:
            assert (await server.over(call))["cause"] == "caller-hangup"
        await nothing_left(server)


async def test_is_anybody_there(tmp_path: Path) -> None:
    async with running(tmp_path, flows=[TALK], sip_port=0) as server:
        result = await sipp("options", address(server), tmp_path)
        (answer,) = result.received("SIP/2.0 200")
        assert "Allow: INVITE" in answer.text
        assert "Accept: application/sdp" in answer.text
        assert not server.seen


async def test_who_changes_his_mind_was_never_a_call(tmp_path: Path) -> None:
    async with running(tmp_path, flows=[TALK], sip_port=0, sip_ring_ms=1500) as server:
        result = await sipp("cancel", address(server), tmp_path, user="talk", duration_ms=100)
        assert result.received("SIP/2.0 487")
        await nothing_left(server)
    assert not server.seen


@pytest.fixture
def far_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is trusted for where he is."""
    monkeypatch.setattr(guard, "LOOPBACK", ())


@pytest.mark.usefixtures("far_away")
async def test_a_stranger_signs_in(tmp_path: Path) -> None:
    async with running(tmp_path, flows=[TALK], sip_port=0, sip_users=USERS) as server:
        result = await sipp("auth_call", address(server), tmp_path, user="talk", auth=(USER, PASSWORD), media=False)
        assert 'realm="voicegate"' in result.received("SIP/2.0 401")[0].text
        assert (await over(server))["cause"] == "caller-hangup"


@pytest.mark.usefixtures("far_away")
async def test_a_stranger_with_a_wrong_password_learns_nothing(tmp_path: Path) -> None:
    async with running(tmp_path, flows=[TALK], sip_port=0, sip_users=USERS) as server:
        with pytest.raises(AssertionError, match="401"):
            await sipp("auth_call", address(server), tmp_path, user="talk", auth=(USER, "a-wrong-password"))
        with pytest.raises(AssertionError, match="401"):
            await sipp("auth_call", address(server), tmp_path, user="nothing", auth=(USER, "a-wrong-password"))
        assert not server.seen
        await nothing_left(server)


@pytest.mark.usefixtures("far_away")
async def test_where_nobody_can_sign_in_a_stranger_gets_no_answer(tmp_path: Path) -> None:
    async with running(tmp_path, flows=[TALK], sip_port=0) as server:
        async with calling("options", tmp_path, target=address(server), timeout_s=3) as scanner:
            with pytest.raises(AssertionError):
                await scanner.result()
            assert scanner.messages
            assert all(message.sent for message in scanner.messages)
        assert gate(server).guard.dropped == len(scanner.messages)


@pytest.mark.slow
async def test_what_is_said_is_heard(tmp_path: Path) -> None:
    """A real voice, again and again, until it is answered."""
    said = audio.read(await said_by_a_caller(tmp_path, "friday please"))
    friday = audio.write(tmp_path / "friday.wav", np.concatenate((said, silence(audio.RATE_HZ, PAUSE_MS))))
    async with speaking(tmp_path) as server:
        async with calling(
            SCENARIOS / "until_bye.xml", tmp_path, target=address(server), user="talk", speech=friday
        ) as caller:
            await server.until(lambda: any("Friday" in order.text for order in server.orders(Speak)))
            for actor in server.gate.registry.calls():
                actor.post(HangupOrdered("the test"))
            await caller.result()
        assert (await over(server))["cause"] == "operator"


async def test_the_agents_voice_comes_back(tmp_path: Path) -> None:
    """Packets flow both ways: what the peer sent back is the agent's own voice, on the recording's left side."""
    async with speaking(tmp_path) as server:
        await sipp("echo_call", address(server), tmp_path, user="talk", echo=True, duration_ms=3000)
        await over(server)
        recording = tmp_path / "recordings" / f"{only_call(server)}.wav"
        assert await share_heard(audio.read(recording), "Hello there.") > ALIKE


@pytest.mark.slow
async def test_two_hundred_calls_at_once(tmp_path: Path) -> None:
    async with running(tmp_path, flows=[LECTURE], sip_port=0, max_calls=MANY, words_per_s=SLOW_WORDS_PER_S) as server:
        tasks, sockets = len(asyncio.all_tasks()), udp_sockets()
        async with calling(
            SCENARIOS / "until_bye.xml",
            tmp_path,
            target=address(server),
            calls=MANY,
            rate=50,
            limit=MANY,
            user="lecture",
            media=False,
            trace=False,
            timeout_s=MANY_S,
        ) as caller:
            await caller.process.until(
                lambda: sum(one.leg is not None for one in gate(server).sessions) == MANY, "all calls", MANY_S
            )
            assert len(server.gate.registry) == MANY
            assert len({one.port.port for one in gate(server).sessions}) == MANY
            assert udp_sockets() == sockets + 2 * MANY
            for actor in server.gate.registry.calls():
                actor.post(HangupOrdered("the test"))
                await asyncio.sleep(BREATH_S)
            assert (await caller.result()).successful == MANY
        await nothing_left(server)
        await server.until(lambda: udp_sockets() == sockets)
        assert len(asyncio.all_tasks()) <= tasks
        calls = {seen.call for seen in server.seen}
        assert len(calls) == MANY
        for call in calls:
            assert (await server.over(call))["cause"] == "operator"


def udp_sockets() -> int:
    """Of this process (proc(5))."""
    held = set()
    for number in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):
            held.add(os.readlink(f"/proc/self/fd/{number}"))
    rows = Path("/proc/net/udp").read_text().splitlines()[1:]
    return sum(f"socket:[{row.split()[9]}]" in held for row in rows)
