"""Hostile outsiders and hostile callers, over real sockets."""

import asyncio
import re
import secrets
import ssl
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any
from unittest import mock

import msgspec
import pytest
import uvloop
from sipmessage import Request, Response

from app.api.dial import Wanted
from app.dialler.guard import Permit
from app.ports import StoreError
from media.leg import CloseCode
from media.sip import admission, streams
from media.sip import guard as guards
from media.sip import message as sip
from media.sip import peer as peers
from media.sip import session as sessions
from media.sip.auth import Answerer, Credentials
from media.sip.guard import MAX_UNKNOWN_PER_S, Trust
from media.sip.message import Hop
from media.sip.options import SipOptions
from tests.clients.certificate import self_signed
from tests.clients.process import LOCALHOST
from tests.e2e.server import Server, running
from tests.sip.caller import Caller, Socket, Source, caller, opened
from tests.sip.calls import TALK, gate, session

SDP = "v=0\r\no=- 1 1 IN IP4 {0}\r\ns=-\r\nc=IN IP4 {0}\r\nt=0 0\r\nm=audio {1} RTP/AVP 0\r\n"
QUIET_S = 0.3  # in which nothing comes
TCP, UDP = "TCP", "UDP"
SWITCH = TALK.with_name("switch.yaml")


def message(
    method: str,
    *,
    port: int = 9,
    more: str = "",
    body: str = "",
    to_tag: str = "",
    call_id: str = "",
    tag: str = "mine",
    branch: str = "",
    sequence: int = 1,
    user: str = "talk",
    transport: str = UDP,
    kind: str = "application/sdp",
    contact: str = f"<sip:x@{LOCALHOST}:9>",
) -> bytes:
    """A request as one writes it who cares for nothing."""
    kind = f"Content-Type: {kind}\r\n" if body else ""
    return (
        f"{method} sip:{user}@{LOCALHOST} SIP/2.0\r\n"
        f"Via: SIP/2.0/{transport} {LOCALHOST}:{port};branch=z9hG4bK{branch or secrets.token_hex(8)};rport\r\n"
        f"From: <sip:x@{LOCALHOST}>;tag={tag}\r\nTo: <sip:{user}@{LOCALHOST}>{f';tag={to_tag}' if to_tag else ''}\r\n"
        f"Call-ID: {call_id or secrets.token_hex(8)}\r\nCSeq: {sequence} {method}\r\nMax-Forwards: 70\r\n"
        f"Contact: {contact}\r\n{more}{kind}Content-Length: {len(body)}\r\n\r\n{body}"
    ).encode()


def status(data: bytes) -> int:
    found = re.match(rb"SIP/2\.0 (\d\d\d)", data)
    return int(found[1]) if found else 0


def final(socket: Socket) -> list[bytes]:
    return [data for data in socket.came if status(data) >= 200]


async def answered(server: Server) -> None:
    """Somebody who means well is served as ever."""
    async with caller() as phone, opened() as ear:
        assert await phone.invite(gate(server).port, ear.port) == "SIP/2.0 200 OK"
        assert await phone.bye() == "SIP/2.0 200 OK"


@pytest.mark.parametrize(
    "route",
    [
        f"<sip:{'a' * 70}.example;lr>",
        "<sip:a..b;lr>",
        "<sip:a..b;lr;transport=tcp>",
        "<sip:.b;lr;transport=tls>",
        "<sip:[::1]:5070;lr>",
        "<sip:[:::::]:5070;lr>",
        "<sip:224.0.0.1:5070;lr>",
        "<sip:255.255.255.255:5070;lr>",
        "<sip:0.0.0.0:5070;lr>",
        f"<sip:{LOCALHOST}:1;lr;transport=tcp>",
    ],
)
async def test_a_route_that_leads_nowhere_ends_its_own_call_only(tmp_path: Path, route: str) -> None:
    async with running(tmp_path, flows=[TALK], sip_port=0) as server, opened() as phone:
        routed = f"Record-Route: {route}\r\n"
        phone.send(message("INVITE", body=SDP.format(LOCALHOST, 9), call_id="c", more=routed), gate(server).port)
        await server.until(lambda: final(phone))
        tag = re.search(rb"^To:.*;tag=(\w+)", final(phone)[0], re.MULTILINE)[1].decode()  # type: ignore[index]
        phone.send(message("ACK", to_tag=tag, call_id="c"), gate(server).port)
        await server.until(lambda: [one for one in gate(server).sessions if one.leg is not None])
        for session in list(gate(server).sessions):
            session.close(CloseCode.normal, "")
        await asyncio.sleep(QUIET_S)
        await answered(server)


# Strangers


@pytest.fixture
def stranger(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is trusted for being on this machine."""
    monkeypatch.setattr(guards, "LOOPBACK", ())


GARBAGE = (
    b"\0" * 100,
    b"\r\n\r\n",
    b"GET / HTTP/1.1\r\n\r\n",
    b"INVITE sip:x SIP/2.0\r\n\r\n",
    b"\xff" * 65,
    b"SIP/2.0 200 OK\r\n\r\n",
    b"x" * 60_000,
)
METHODS = ("INVITE", "OPTIONS", "REGISTER", "BYE", "CANCEL", "ACK", "SUBSCRIBE", "REFER", "XYZZY")
USERS = [{"user": "desk", "password": "a-long-password"}]


async def read_all(host: str, port: int, data: bytes, *, patience_s: float = 5, tls: bool = False) -> bytes:
    """All that comes by a stream until its end."""
    context = None
    if tls:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        async with asyncio.timeout(patience_s):
            reader, writer = await asyncio.open_connection(host, port, ssl=context)
            try:
                writer.write(data)
                return await reader.read()
            finally:
                writer.close()
    except (ConnectionError, ssl.SSLError):
        return b""


async def read_from_each(port: int, said: Iterable[bytes]) -> list[bytes]:
    """By one stream each, all at once."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(read_all(LOCALHOST, port, data)) for data in said]
    return [task.result() for task in tasks]


@pytest.mark.usefixtures("stranger")
async def test_strangers_without_a_way_to_sign_in_get_silence(tmp_path: Path) -> None:
    async with running(tmp_path, flows=[TALK], sip_port=0) as server, opened() as socket:
        port = gate(server).port
        for method in METHODS:
            socket.send(message(method), port)
            socket.send(message(method, to_tag="guessed"), port)
        for data in GARBAGE:
            socket.send(data, port)
        for data in (b"", message("OPTIONS", transport=TCP), *GARBAGE):
            assert await read_all(LOCALHOST, port, data) == b""
        assert socket.came == []
        assert not gate(server).endpoint.calls
        assert not gate(server).endpoint.transactions.servers
        assert gate(server).guard.dropped >= len(METHODS) * 2


@pytest.mark.usefixtures("stranger")
async def test_strangers_all_hear_the_same(tmp_path: Path) -> None:
    async with running(tmp_path, flows=[TALK], sip_port=0, sip_users=USERS) as server, opened() as socket:
        said = set()
        for method in ("INVITE", "OPTIONS", "REGISTER", "XYZZY"):
            for user in ("talk", "desk", "nobody"):
                socket.came.clear()
                socket.send(message(method, user=user), gate(server).port)
                await server.until(lambda: socket.came)
                (answer,) = socket.came
                said.add(re.sub(rb'nonce="[^"]*"|^(?:Via|To|Call-ID|CSeq): .*?\r$', b"", answer, flags=re.MULTILINE))
        assert len(said) == 1
        assert status(answer) == 401
        assert not gate(server).endpoint.transactions.servers


@pytest.mark.usefixtures("stranger")
async def test_a_flood_of_strangers_is_answered_so_often_and_remembered_never(tmp_path: Path) -> None:
    async with running(tmp_path, flows=[TALK], sip_port=0, sip_users=USERS) as server, opened() as socket:
        for _ in range(500):
            socket.send(message("INVITE", body=SDP.format(LOCALHOST, 9)), gate(server).port)
        await asyncio.sleep(QUIET_S)
        assert len(socket.came) <= 2 * MAX_UNKNOWN_PER_S
        assert not gate(server).endpoint.transactions.servers
        assert not gate(server).endpoint.calls
        assert not gate(server).screening.asker._counts


def signed(method: str, user: str, password: str, challenge: bytes, **given: Any) -> bytes:
    response = sip.parse(challenge)
    request = sip.parse(message(method, **given))
    assert isinstance(request, Request)
    assert isinstance(response, Response)
    assert Answerer(Credentials(user, password)).answers(request, response)
    return sip.write(request)


@pytest.mark.usefixtures("stranger")
async def test_wrong_passwords_end_in_a_ban_and_streams_know_it(tmp_path: Path) -> None:
    async with running(tmp_path, flows=[TALK], sip_port=0, sip_users=USERS) as server, opened() as socket:
        sip_server = gate(server)
        socket.send(message("OPTIONS"), sip_server.port)
        await server.until(lambda: socket.came)
        challenge = socket.came[0]
        for n in range(12):
            user = "desk" if n % 2 else "nobody"
            socket.send(signed("OPTIONS", user, "wrong", challenge), sip_server.port)
        await server.until(lambda: sip_server.guard.bans == 1)
        await asyncio.sleep(QUIET_S)
        assert {status(data) for data in socket.came} == {401}
        socket.came.clear()
        socket.send(signed("OPTIONS", "desk", "a-long-password", challenge), sip_server.port)
        await asyncio.sleep(QUIET_S)
        assert socket.came == []
        async with opened("127.0.0.2") as other:
            other.send(message("OPTIONS"), sip_server.port)
            await server.until(lambda: other.came)


@pytest.mark.usefixtures("stranger")
async def test_an_overheard_sign_in_is_worth_nothing(tmp_path: Path) -> None:
    async with (
        running(tmp_path, flows=[TALK], sip_port=0, sip_users=USERS) as server,
        opened() as socket,
        opened("127.0.0.2") as thief,
    ):
        socket.send(message("OPTIONS"), gate(server).port)
        await server.until(lambda: socket.came)
        right = signed("OPTIONS", "desk", "a-long-password", socket.came[0], call_id="mine")
        socket.send(right, gate(server).port)
        await server.until(lambda: [one for one in socket.came if status(one) == 200])
        authorization = re.search(rb"^Authorization: .*\r\n", right, re.MULTILINE)[0].decode()  # type: ignore[index]
        thief.send(message("INVITE", more=authorization, body=SDP.format(LOCALHOST, 9)), gate(server).port)
        thief.send(message("OPTIONS", more=authorization), gate(server).port)
        await server.until(lambda: len(thief.came) == 2)
        assert {status(one) for one in thief.came} == {401}
        assert not gate(server).endpoint.calls


@pytest.mark.usefixtures("stranger")
async def test_streams_of_strangers_are_few_and_short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "FIRST_MESSAGE_S", 0.5)
    monkeypatch.setattr(streams, "STRANGER_S", 1.0)
    monkeypatch.setattr(guards, "STREAM_MESSAGES", 0)
    monkeypatch.setattr(streams, "MAX_STRANGERS_PER_ADDRESS", 5)
    async with running(tmp_path, flows=[TALK], sip_port=0, sip_users=USERS) as server:
        found, port = gate(server).agent.transport.streams, gate(server).port
        half = message("OPTIONS", transport=TCP)[:-20]
        whole = message("OPTIONS", transport=TCP)
        said = await read_from_each(port, [b"", half, b"\r\n\r\n" * 50, *[whole] * 7])
        assert [status(one) for one in said[:3]] == [0, 0, 0]
        assert said[2] == b""
        assert sum(status(one) == 401 for one in said) <= 5
        assert found.refused >= 5
        await server.until(lambda: not found.all)
        assert not found.strangers
        assert not found.per_address


@pytest.mark.parametrize(
    ("host", "counted"), [("2001:db8:1:2::7", "2001:db8:1:2::/64"), ("::ffff:192.0.2.7", "192.0.2.7"), (LOCALHOST,) * 2]
)
def test_calls_of_one_ipv6_network_count_together(host: str, counted: str) -> None:
    call = mock.Mock(source=Hop("udp", host, 5060), identity=("caller", "called"))
    request = admission._leg_request(call, "", "")
    assert (request.peer, request.source) == (host, counted)


async def test_streams_of_one_ipv6_network_count_together() -> None:
    listener = mock.Mock(spec=["welcomes", "failed"])
    listener.welcomes.return_value = Trust.unknown
    found = streams.Streams(listener, SipOptions())
    made = [streams._Stream(found, "tcp") for _ in range(2 * streams.MAX_STRANGERS_PER_ADDRESS)]
    let_in = [stream for n, stream in enumerate(made) if stream.lets_in(f"2001:db8:1:2::{n + 1:x}", 5060)]
    assert len(let_in) == streams.MAX_STRANGERS_PER_ADDRESS
    other = streams._Stream(found, "tcp")
    assert other.lets_in("2001:db8:1:3::1", 5060)
    for stream in (*let_in[1:], other):
        stream.connection_lost(None)
    found.signed_in(let_in[0].number)
    assert not found.strangers
    assert found.per_address.total() == 1
    let_in[0].connection_lost(None)
    assert not found.per_address
    assert not found.all


@pytest.mark.usefixtures("stranger")
async def test_handshakes_that_never_end_are_counted_and_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "HANDSHAKE_S", 1)
    monkeypatch.setattr(guards, "STREAM_MESSAGES", 0)
    monkeypatch.setattr(streams, "MAX_STRANGERS_PER_ADDRESS", 5)
    pem = self_signed(tmp_path / "tls.pem")
    tls: dict[str, Any] = {"sip_tls_port": 0, "sip_tls_certificate": pem, "sip_tls_key": pem}
    async with running(tmp_path, flows=[TALK], sip_port=0, sip_users=USERS, **tls) as server:
        found, port = gate(server).agent.transport.streams, gate(server).tls_port
        hellos = (b"", b"\x16\x03\x01\x02\x00", b"OPTIONS sip:x SIP/2.0\r\n\r\n", b"\0" * 2000)
        said = await read_from_each(port, hellos * 5)
        assert not any(b"SIP/2.0" in one for one in said)
        assert found.refused >= 10
        await server.until(lambda: not found.all)
        assert not found.strangers
        data = message("OPTIONS", transport="TLS")
        monkeypatch.setattr(streams, "FIRST_MESSAGE_S", 0.5)
        monkeypatch.setattr(streams, "STRANGER_S", 0.5)
        assert status(await read_all(LOCALHOST, port, data, tls=True)) == 401


# Transfers that cost money


async def moved(server: Server, phone: Caller, ear: Socket, settle: Callable[[Permit, float | None], None]) -> None:
    """A call that is handed over by REFER, and a ledger of ours."""
    assert server.gate.outbound is not None
    server.gate.outbound._guard.settle = settle  # type: ignore[assignment, method-assign]
    assert await phone.invite(gate(server).port, ear.port, allow="INVITE, ACK, BYE, REFER, NOTIFY") == "SIP/2.0 200 OK"
    await server.until(lambda: any(call.at_rest for call in server.gate.registry.calls()))
    phone._sequence += 1
    key: dict[str, Any] = {"kind": "application/dtmf-relay", "body": "Signal=3\r\nDuration=100\r\n"}
    call: dict[str, Any] = {"call_id": phone.call_id, "tag": phone.tag, "to_tag": phone.peer_tag}
    phone.send(message("INFO", sequence=phone._sequence, **call, **key), gate(server).port)
    await server.until(lambda: "REFER" in phone.requests)


@pytest.mark.parametrize(("refuses", "cost"), [("603 Decline", 0.0), ("", None)])
async def test_a_call_that_others_place_for_us_costs_the_most(tmp_path: Path, refuses: str, cost: float | None) -> None:
    desk = {"FLOW_DESK": "sip:x@127.0.0.1:9"}
    async with (
        running(tmp_path, flows=[SWITCH], environment=desk, sip_port=0, dial_allow=["*"]) as server,
        caller() as phone,
        opened() as ear,
    ):
        phone.refuses = refuses
        settled: list[float | None] = []
        await moved(server, phone, ear, lambda permit, talked_s: settled.append(talked_s))
        if not refuses:
            assert not settled
            assert await phone.bye() == "SIP/2.0 200 OK"
        await server.until(lambda: settled)
        assert settled == [cost]


async def test_a_ledger_that_fails_ends_no_server(tmp_path: Path) -> None:
    desk = {"FLOW_DESK": "sip:x@127.0.0.1:9"}
    async with (
        running(tmp_path, flows=[SWITCH], environment=desk, sip_port=0, dial_allow=["*"]) as server,
        caller() as phone,
        opened() as ear,
    ):
        asked: list[Permit] = []

        def broken(permit: Permit, talked_s: float | None) -> None:
            asked.append(permit)
            raise StoreError("the disk is full")

        phone.refuses = "603 Decline"
        await moved(server, phone, ear, broken)
        await server.until(lambda: asked)
        await answered(server)


@pytest.mark.parametrize("shown", ["1\r\nX: y", "1\n", "\n", "\u0663", "%0d%0a", '"', "<sip:x>", "a b", "a@b", "a;b"])
def test_no_number_that_is_shown_writes_headers(shown: str) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(msgspec.json.encode({"to": "+4930", "caller": shown}), type=Wanted)


@pytest.mark.usefixtures("stranger")
def test_all_of_it_on_the_event_loop_that_is_used_in_earnest(tmp_path: Path) -> None:
    async def attacked() -> None:
        pem = self_signed(tmp_path / "tls.pem")
        tls: dict[str, Any] = {"sip_tls_port": 0, "sip_tls_certificate": pem, "sip_tls_key": pem}
        async with running(tmp_path, flows=[TALK], sip_port=0, sip_users=USERS, **tls) as server:
            plain, secure = gate(server).port, gate(server).tls_port
            said = await read_from_each(secure, [b"", b"\x16\x03\x01\x02\x00", b"\0" * 2000] * 2)
            assert said == [b""] * 6
            assert status(await read_all(LOCALHOST, plain, message("OPTIONS", transport=TCP))) == 401
            assert status(await read_all(LOCALHOST, secure, message("OPTIONS", transport="TLS"), tls=True)) == 401
            await server.until(lambda: not gate(server).agent.transport.streams.all)
            for host in ("::1", "224.0.0.1", "0.0.0.0", "255.255.255.255", "a..b", "x" * 70):
                gate(server).agent.send(Hop("udp", host, 5070), b"OPTIONS sip:x SIP/2.0\r\n\r\n")
            gate(server).agent.send(Hop("tcp", "a..b", 5070), b"OPTIONS sip:x SIP/2.0\r\n\r\n")
            await asyncio.sleep(QUIET_S)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(streams, "HANDSHAKE_S", 1)
        patch.setattr(streams, "FIRST_MESSAGE_S", 0.7)
        patch.setattr(streams, "STRANGER_S", 0.7)
        patch.setattr(guards, "STREAM_MESSAGES", 0)
        uvloop.run(attacked())


# Callers


async def test_an_address_that_never_asked_is_not_flooded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "UNPROVEN_MS", 700)
    monkeypatch.setattr(sessions, "_is_this_machine", lambda host: False)
    async with running(tmp_path, flows=[TALK], sip_port=0) as server, opened() as phone, opened("127.0.0.9") as victim:
        sdp = SDP.format("127.0.0.9", victim.port)
        await called(server, phone, sdp)
        await server.until(lambda: victim.came)
        await server.until(lambda: session(server)._mute)
        await asyncio.sleep(0.1)  # what is under way comes
        heard = len(victim.came)
        await asyncio.sleep(QUIET_S)
        assert len(victim.came) == heard
        source = Source()
        for _ in range(3):
            victim.send(source.packet(), session(server).port.port)
        await server.until(lambda: len(victim.came) > heard)


async def test_no_caller_sends_sound_to_the_services_of_this_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(tmp_path, flows=[TALK], sip_port=0) as server, opened() as phone, opened("127.0.0.9") as victim:
        await called(server, phone, SDP.format("127.0.0.9", victim.port))
        await asyncio.sleep(QUIET_S)
        assert victim.came == []


@pytest.mark.parametrize("host", ["224.0.0.1", "0.0.0.0", "255.255.255.255", "nobody.invalid", "::1"])
async def test_addresses_that_nobody_has_are_sent_nothing(tmp_path: Path, host: str) -> None:
    async with running(tmp_path, flows=[TALK], sip_port=0) as server, opened() as phone:
        await called(server, phone, SDP.format(host, 4000))
        await asyncio.sleep(QUIET_S)
        assert session(server).port.peer.address is None


HEAD = SDP.partition("m=")[0].format(LOCALHOST)
BAD_NUMBERS = [
    f"m=audio {'9' * 5000} RTP/AVP 0\r\n",
    "m=audio 000000999999 RTP/AVP 0\r\n",
    f"m=audio 4000 RTP/AVP {'9' * 5000}\r\n",
    f"m=audio 4000 RTP/AVP 96\r\na=rtpmap:96 opus/48000{'0' * 5000}\r\n",
    "m=audio 4000 RTP/AVP 0\r\n" * 300,
]
ODD_NUMBERS = [
    "m=audio 65535 RTP/AVP 0\r\n",
    "m=audio 4000 RTP/AVP 0\r\na=rtcp:000001999999\r\n",
    f"m=audio 4000 RTP/AVP 0\r\na=rtcp:{'9' * 5000}\r\n",
    f"m=audio 4000 RTP/AVP 0\r\na=ptime:{'9' * 5000}\r\na=maxptime:-1\r\n",
    "m=audio 4000 RTP/AVP * 0\r\n",
]


@pytest.mark.parametrize(("sections", "expected"), [(BAD_NUMBERS, 488), (ODD_NUMBERS, 200)], ids=["bad", "odd"])
async def test_no_number_in_a_description_is_an_error_of_ours(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, sections: list[str], expected: int
) -> None:
    async with running(tmp_path, flows=[TALK], sip_port=0) as server:
        for n, section in enumerate(sections):
            async with opened() as first, opened() as phone, opened() as ear:
                first.send(message("INVITE", body=HEAD + section, call_id=f"b{n}"), gate(server).port)
                await server.until(lambda first=first: final(first))
                assert status(final(first)[0]) == expected
                tag = await called(server, phone, SDP.format(LOCALHOST, ear.port), f"c{n}")
                phone.came.clear()
                again: dict[str, Any] = {"to_tag": tag, "call_id": f"c{n}", "sequence": 2}
                phone.send(message("INVITE", body=HEAD + section, **again), gate(server).port)
                await server.until(lambda phone=phone: final(phone))
                assert status(final(phone)[0]) == expected
                phone.send(message("ACK", **again), gate(server).port)
                await asyncio.sleep(QUIET_S)  # time for sound, and for a report
                phone.send(message("BYE", **again | {"sequence": 3}), gate(server).port)
                await server.until(lambda: not [one for one in gate(server).sessions if one.leg is not None])
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


async def called(server: Server, phone: Socket, sdp: str, call_id: str = "c") -> str:
    """Our tag, once the call stands."""
    phone.send(message("INVITE", body=sdp, call_id=call_id), gate(server).port)
    await server.until(lambda: final(phone))
    tag = re.search(rb"^To:.*;tag=(\w+)", final(phone)[0], re.MULTILINE)[1].decode()  # type: ignore[index]
    phone.send(message("ACK", to_tag=tag, call_id=call_id), gate(server).port)
    await server.until(lambda: any(one.leg is not None for one in gate(server).sessions))
    return tag


@pytest.mark.parametrize("changes", [2, 3, 30])
async def test_a_storm_of_changes_ends_no_call(tmp_path: Path, changes: int) -> None:
    async with running(tmp_path, flows=[TALK], sip_port=0) as server, opened() as phone, opened() as ear:
        tag = await called(server, phone, SDP.format(LOCALHOST, ear.port))
        for n in range(changes):
            wide = n % 2 == 0
            sdp = HEAD + f"m=audio {ear.port} RTP/AVP {'97' if wide else '0'}\r\na=rtpmap:97 L16/16000\r\n"
            given: dict[str, Any] = {"to_tag": tag, "call_id": "c", "sequence": n + 2}
            phone.send(message("INVITE", body=sdp, **given), gate(server).port)
            phone.send(message("ACK", **given), gate(server).port)
        await server.until(lambda: len({re.search(rb"CSeq: (\d+)", one)[1] for one in final(phone)}) == changes + 1)  # type: ignore[index]
        await server.until(lambda: session(server).leg is not None)
        leg = session(server).leg
        assert leg is not None
        assert leg.rate_hz == (16_000 if wide else 8000)
        ear.came.clear()
        await server.until(lambda: ear.came)
        await asyncio.sleep(QUIET_S)
        assert session(server).leg is leg
        assert b"BYE" not in {one[:3] for one in phone.came}


async def test_who_sprays_packets_keeps_no_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "QUIET_MS", 100)
    async with (
        running(tmp_path, flows=[TALK], sip_port=0) as server,
        opened() as phone,
        opened() as ear,
        opened("127.0.0.2") as thief,
    ):
        await called(server, phone, SDP.format(LOCALHOST, ear.port))
        port, stolen, right = session(server).port, Source(), Source()
        for _ in range(5):
            thief.send(stolen.packet(), port.port)
            await asyncio.sleep(0.02)
        await server.until(lambda: thief.came)  # nobody else has said anything yet
        for _ in range(5):
            ear.send(right.packet(), port.port)
            await asyncio.sleep(0.02)
        await server.until(lambda: port.peer.address == (LOCALHOST, ear.port))
        stream = session(server).audio_stream
        assert stream is not None
        await server.until(lambda: stream.receiver.ssrc == right.ssrc)
        await asyncio.sleep(QUIET_S)
        had, strays = len(thief.came), port.peer.strays
        for _ in range(10):
            thief.send(stolen.packet(), port.port)
            await asyncio.sleep(0.02)
        await server.until(lambda: port.peer.strays == strays + 10)
        assert len(thief.came) == had
        assert stream.receiver.ssrc == right.ssrc


async def test_who_does_not_know_the_tags_gets_nothing(tmp_path: Path) -> None:
    async with (
        running(tmp_path, flows=[TALK], sip_port=0) as server,
        opened() as phone,
        opened("127.0.0.2") as thief,
    ):
        tag = await called(server, phone, SDP.format(LOCALHOST, phone.port))
        sdp = SDP.format("127.0.0.2", thief.port)
        for method in ("BYE", "INVITE", "UPDATE", "INFO", "REFER", "NOTIFY", "PRACK"):
            body = sdp if method in ("INVITE", "UPDATE") else ""
            guesses: list[dict[str, Any]] = [
                {"to_tag": "guessed"},
                {"to_tag": tag, "tag": "guessed"},
                {"to_tag": tag, "call_id": "other"},
            ]
            for guess in guesses:
                given: dict[str, Any] = {"call_id": "c", "sequence": 50} | guess
                thief.send(message(method, body=body, **given), gate(server).port)
        await server.until(lambda: len(thief.came) == 21)
        assert {status(one) for one in thief.came} == {481}
        thief.came.clear()
        wrong = [f"c;to-tag={tag};from-tag=guessed", "c;to-tag=guessed;from-tag=mine", f"x;to-tag={tag};from-tag=mine"]
        wrong.append(f"c;to-tag={tag};from-tag=mine;early-only")
        for replaces in wrong:
            thief.send(message("INVITE", body=sdp, more=f"Replaces: {replaces}\r\n"), gate(server).port)
        await server.until(lambda: len(final(thief)) >= 4)
        assert {status(one) for one in final(thief)} == {481}
        (talking,) = gate(server).sessions
        assert talking.leg is not None
        assert talking.port.peer.address == (LOCALHOST, phone.port)
        phone.send(
            message("REFER", to_tag=tag, call_id="c", sequence=60, more="Refer-To: <sip:+900@x>\r\n"), gate(server).port
        )
        await server.until(lambda: 603 in {status(one) for one in phone.came})


async def test_a_call_that_rings_is_cancelled_from_where_it_came(tmp_path: Path) -> None:
    async with (
        running(tmp_path, flows=[TALK], sip_port=0, sip_ring_ms=20_000) as server,
        opened() as phone,
        opened("127.0.0.2") as thief,
    ):
        call = {"call_id": "c", "branch": "guessable"}
        phone.send(message("INVITE", body=SDP.format(LOCALHOST, 4000), **call), gate(server).port)  # type: ignore[arg-type]
        await server.until(lambda: 180 in {status(one) for one in phone.came})
        thief.send(message("CANCEL", **call), gate(server).port)  # type: ignore[arg-type]
        await server.until(lambda: thief.came)
        assert status(thief.came[0]) == 481
        assert not final(phone)
        phone.send(message("CANCEL", **call), gate(server).port)  # type: ignore[arg-type]
        await server.until(lambda: {status(one) for one in final(phone)} == {200, 487})


def files_open() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def test_nothing_is_left_of_calls_that_nobody_acknowledges_or_ends(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before = files_open()
    async with running(tmp_path, flows=[TALK], sip_port=0, sip_users=USERS) as server, opened() as phone:
        found = gate(server)
        for n in range(40):
            phone.send(message("INVITE", body=SDP.format(LOCALHOST, 4000), call_id=f"c{n}"), found.port)
        for _ in range(100):
            phone.send(message("INVITE", body="v=0\r\nnonsense", more="X: \x1b[31m\r\n"), found.port)
        stream = [await asyncio.open_connection(LOCALHOST, found.port) for _ in range(5)]
        await server.until(lambda: len(final(phone)) >= 140)
        assert found.sessions
    for _, writer in stream:
        writer.close()
    await asyncio.sleep(QUIET_S)
    assert not found.sessions
    assert not found.legs._called
    assert found.legs.reception._waiting.total() == 0
    assert not found.agent.transport.streams.all
    assert found.agent._alarm is None or found.agent._alarm.cancelled()
    assert files_open() <= before + 3
    assert "\x1b" not in caplog.text
    assert "a-long-password" not in caplog.text + repr(found.options) + repr(found.screening.asker)
