"""Peers that do not keep to anything: what they do costs themselves and nobody beside them."""

import asyncio
import itertools
import json
import random
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pylibsrtp
import pytest
from aioice import stun
from aiortc import RTCDataChannel, RTCDataChannelParameters
from aiortc.rtcsctptransport import WEBRTC_BINARY, WEBRTC_STRING, DataChunk

from app.core.events import CallStarted, Digit, LegAttached, LegLost, TextReceived
from media.dtls import certificate
from media.rtp import RtpPacket
from media.rtp_audio import MAX_PACKETS_PER_S
from media.srtp import Srtp
from media.webrtc import offer, session
from media.webrtc import server as shell
from media.webrtc.peer import MAX_FRAGMENTS, MAX_STREAMS, Addresses, Peer
from media.webrtc.session import MAX_MESSAGES_PER_S, Session
from tests.e2e.server import TALK, Server, running
from tests.webrtc.offers import OFFER
from tests.webrtc.probe import Probe, probe
from tests.webrtc.relay import relay
from tests.webrtc.remains import Remains, live
from tests.webrtc.test_offer import Nobody


@asynccontextmanager
async def two(folder: Path, codec: str = "opus") -> AsyncIterator[tuple[Server, Probe, Session]]:
    """A server with a call whose peer may be as wrong as it likes, and another that must go on; nothing is raised."""
    raised: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: raised.append(context))
    async with (
        running(folder, flows=[TALK], media_host="127.0.0.1") as server,
        probe(server.url, codec) as wrong,
        probe(server.url, "pcmu") as other,
    ):
        await wrong.dial(channel=True)
        (leg,) = live()
        await other.dial(channel=True)
        await server.until(lambda: len(server.facts(CallStarted)) == 2)
        yield server, wrong, leg
        await works(server, other)
        assert raised == []


async def works(server: Server, one: Probe) -> None:
    """This caller is still heard in every way."""
    call = one.of("started")[0]["call"]
    count = len(server.facts(Digit, call))
    one.tell("digit", digit="1")
    await server.until(lambda: len(server.facts(Digit, call)) == count + 1)
    await one.key("2")
    await server.until(lambda: len(server.facts(Digit, call)) == count + 2)


async def flood(one: Probe, packets: list[bytes]) -> None:
    """As fast as the server's socket can take them."""
    for at, packet in enumerate(packets):
        one.peer._ice.send_now(packet)
        if at % 50 == 49:
            await asyncio.sleep(0.001)
    await asyncio.sleep(0.1)


async def test_more_packets_than_anybody_speaks_are_dropped(tmp_path: Path) -> None:
    async with two(tmp_path, "pcmu") as (server, wrong, leg):
        assert wrong.peer._srtp is not None
        sealed = [wrong.peer._srtp.protect(wrong.sender.packet(bytes(160), 160)) for _ in range(8 * MAX_PACKETS_PER_S)]
        await flood(wrong, sealed)
        assert leg.audio_stream.excess_packets > 0
        assert leg.audio_stream.receiver.packets < len(sealed)
        assert not leg.over
        await asyncio.sleep(1.1)  # until a new second counts
        await works(server, wrong)


async def test_packets_of_others_are_strays(tmp_path: Path) -> None:
    async with two(tmp_path, "pcmu") as (server, wrong, leg):
        assert leg.peer is not None
        stolen = Srtp(
            pylibsrtp.Session(pylibsrtp.Policy(key=bytes(30), ssrc_type=pylibsrtp.Policy.SSRC_ANY_OUTBOUND)),
            pylibsrtp.Session(pylibsrtp.Policy(key=bytes(30), ssrc_type=pylibsrtp.Policy.SSRC_ANY_INBOUND)),
        )
        assert wrong.peer._srtp is not None
        good = wrong.peer._srtp.protect(wrong.sender.packet(bytes(160), 160))
        heard = leg.audio_stream.receiver.packets
        packets = [stolen.protect(RtpPacket(0, n, n * 160, 7, bytes(160)).pack()) for n in range(20)]
        packets += [good[:size] for size in range(2, len(good), 9)] + [good[:-1] + b"x"]
        packets += [bytes((0x80, 200)) + bytes(size) for size in range(0, 60, 7)]  # as RTCP
        before = leg.peer.stray_packets
        await flood(wrong, packets)
        await server.until(lambda: leg.peer is not None and leg.peer.stray_packets == before + len(packets))
        assert leg.audio_stream.receiver.packets == heard
        await flood(wrong, [good, good, good])
        await server.until(lambda: leg.audio_stream.receiver.packets == heard + 1)  # once, however often it comes
        await works(server, wrong)


async def test_packets_that_make_no_sense_are_passed_over(tmp_path: Path) -> None:
    async with two(tmp_path, "pcmu") as (server, wrong, leg):
        assert wrong.peer._srtp is not None
        broken = [
            bytes((0xA0,)) + RtpPacket(0, 0, 1, 99, bytes(20)).pack()[1:],  # padding of nothing
            bytes((0xA0,)) + RtpPacket(0, 1, 1, 99, bytes(3) + b"\xff").pack()[1:],  # longer than the packet
        ]
        strange = [RtpPacket(kind, 2 + kind, 1, 99, bytes(160)).pack() for kind in range(1, 64)]
        heard = leg.audio_stream.receiver.packets
        await flood(wrong, [wrong.peer._srtp.protect(packet) for packet in broken + strange])
        await server.until(lambda: leg.audio_stream.bad_packets >= len(broken))
        assert leg.audio_stream.receiver.packets == heard
        for size in (0, 1601, 1400):
            wrong.put(bytes(min(size, 1400)))
        for data in (b"\x80\xc8\x00\x00", b"\x80\xc9" + bytes(50), b"\xbf\xc9\x00\x01" + bytes(4), bytes((0x80, 203))):
            wrong.peer.send_rtcp(data + bytes(8))
        await works(server, wrong)


async def test_payloads_that_are_not_opus(tmp_path: Path) -> None:
    async with two(tmp_path) as (server, wrong, leg):
        chance = random.Random(7)
        for number in range(150):
            payload = chance.randbytes(chance.choice((0, 1, 2, 3, 20, 200, 1200)))
            if number % 3 == 0:  # the most frames that a packet may claim
                payload = bytes((chance.randrange(256) | 3, 0x80 | 48)) + payload
            wrong.put(payload)
            if number % 5 == 4:
                await asyncio.sleep(0.02)
        await server.until(lambda: leg.audio_stream.bad_packets > 10)
        assert not leg.over
        await works(server, wrong)


async def test_datagrams_of_anybody(tmp_path: Path) -> None:
    """Who finds the port may send it what they like."""
    async with two(tmp_path) as (server, wrong, leg):
        assert leg.peer is not None
        chance = random.Random(11)
        check = stun.Message(message_method=stun.Method.BINDING, message_class=stun.Class.REQUEST)
        check.attributes["USERNAME"] = f"{leg.peer.ufrag}:{leg.peer._remote.ufrag}"
        check.attributes["ERROR-CODE"] = (400, "no")
        check.attributes["XOR-MAPPED-ADDRESS"] = ("192.0.2.1", 5)
        check.add_message_integrity(leg.peer.password.encode())  # who knows it may still leave out the rest
        whole = bytes(check)
        port = int(leg.peer.candidates[0].split()[5])
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.sendto(whole, ("127.0.0.1", port))
            sender.sendto(b"", ("127.0.0.1", port))
            for number in range(1000):
                data = bytearray(whole if number % 2 else chance.randbytes(chance.randrange(1, 1400)))
                for _ in range(3):
                    data[chance.randrange(len(data))] = chance.randrange(256)
                if number % 3 == 0:
                    data = data[: chance.randrange(len(data) + 1)]
                    data[2:4] = max(0, len(data) - 20).to_bytes(2)
                sender.sendto(data, ("127.0.0.1", port))
                if number % 50 == 0:
                    await asyncio.sleep(0.001)
        await works(server, wrong)


MALFORMED: list[str | bytes] = [
    "",
    "hello",
    "{}",
    "[]",
    "null",
    '{"type":"text"}',
    '{"type":"text","text":""}',
    '{"type":"text","text":"   "}',
    '{"type":"text","text":5}',
    json.dumps({"type": "text", "text": "x" * 2001}),
    json.dumps({"type": "text", "text": "x" * 5000}),
    '{"type":"digit","digit":"12"}',
    '{"type":"digit","digit":"A"}',
    '{"type":"digit","digit":"\\u0661"}',
    '{"type":"stop"}',
    '{"type":"ping","t":"now"}',
    '{"type":"text","text":"\\ud800"}',
    "[" * 3000,
    b"\xff\xfe\x00",
    '{"type":"text","x":' + "[" * 4000,
]


async def test_messages_that_are_none_are_answered_in_words(tmp_path: Path) -> None:
    async with two(tmp_path) as (server, wrong, leg):
        for message in MALFORMED:
            wrong.channel.send(message)
        await wrong.until(lambda: len(wrong.of("error")) == len(MALFORMED))
        assert all(0 < len(message["reason"]) <= 200 for message in wrong.of("error"))
        call = wrong.of("started")[0]["call"]
        assert not server.facts(TextReceived, call)
        assert not server.facts(Digit, call)
        assert not leg.over
        await works(server, wrong)


async def test_more_messages_than_anybody_types_end_the_leg_and_not_the_call(tmp_path: Path) -> None:
    async with two(tmp_path) as (server, wrong, leg):
        call = wrong.of("started")[0]["call"]
        for _ in range(3 * MAX_MESSAGES_PER_S):
            wrong.tell("ping")
        await wrong.until(lambda: wrong.of("ended"))
        assert wrong.of("ended")[0]["cause"] == "too-fast"
        assert len(wrong.of("pong")) <= 2 * MAX_MESSAGES_PER_S
        await wrong.until(lambda: wrong.lost)
        assert leg.over
        assert server.facts(LegLost, call)
        async with probe(server.url) as again:
            await again.dial(f"/webrtc?resume={wrong.resumes}", channel=True)
            await server.until(lambda: server.facts(LegAttached, call))
            await works(server, again)


async def test_what_aiortc_would_not_stand(tmp_path: Path) -> None:
    """Below the channel's messages: text that is none, channels without end, messages that never end."""
    async with two(tmp_path) as (server, wrong, leg):
        assert leg.peer is not None
        ours, theirs = wrong.peer._sctp, leg.peer._sctp
        assert ours is not None
        assert theirs is not None
        stream_id = wrong.channel.id
        assert stream_id is not None
        await ours._send(stream_id, WEBRTC_STRING, b"\xff\xfe")
        await ours._send(stream_id, 50, b"\x03" + bytes(11))  # opened again
        await ours._send(stream_id, 50, b"\x03" + bytes(9) + b"\xff\xff")
        await ours._send(2 if stream_id % 2 == 0 else 1, 50, b"\x02")  # of no channel
        await ours._send(stream_id, WEBRTC_BINARY, b"\x00")
        await wrong.until(lambda: wrong.of("error"))  # of the last
        for number in range(20):
            RTCDataChannel(ours, RTCDataChannelParameters(label=f"more {number}"))
        await asyncio.sleep(0.3)
        assert len(theirs._data_channels) <= MAX_STREAMS
        assert len(theirs._inbound_streams) <= MAX_STREAMS
        for number in range(3 * MAX_FRAGMENTS):
            chunk = DataChunk(flags=0)
            chunk.tsn = (ours._local_tsn + 2000 + number) % (1 << 32)
            chunk.stream_id, chunk.stream_seq, chunk.protocol, chunk.user_data = stream_id, 99, WEBRTC_STRING, b"x"
            await ours._send_chunk(chunk)
            if number % 50 == 0:
                await asyncio.sleep(0.001)
        await asyncio.sleep(0.1)
        assert 0 < len(theirs._inbound_streams[stream_id].reassembly) <= MAX_FRAGMENTS
        await wrong.key("5")
        await server.until(lambda: server.facts(Digit, wrong.of("started")[0]["call"]))


async def test_a_peer_that_takes_no_messages_is_told_of_the_gap(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "MAX_WAITING_BYTES", 8 * 1024)
    async with (
        running(tmp_path, flows=[TALK], media_host="127.0.0.1") as server,
        relay() as network,
        probe(server.url) as one,
    ):
        await one.dial(channel=True, network=network)
        await server.until(lambda: server.facts(CallStarted))
        (leg,) = live()
        await server.until(lambda: all(call.at_rest for call in server.gate.registry.calls()))
        await asyncio.sleep(0.5)
        network.cut = True
        for number in range(400):
            leg.tell(json.dumps({"type": "number", "n": number, "filling": "x" * 1000}))
            if number % 20 == 0:
                await asyncio.sleep(0.001)
        assert leg.peer is not None
        assert leg.peer.waiting_bytes < 10 * 1024
        network.cut = False
        await server.until(lambda: leg.peer is not None and not leg.peer.waiting_bytes)
        leg.tell(json.dumps({"type": "number", "n": 1000}))
        await one.until(lambda: one.of("number") and one.of("number")[-1]["n"] == 1000)
        numbers = [message["n"] for message in one.of("number")]
        assert numbers == sorted(numbers)
        assert len(numbers) < 400
        shown = [message for message in one.messages if message["type"] == "number" or message.get("kind") == "gap"]
        for before, after in itertools.pairwise(shown):
            if "n" in before and "n" in after:
                assert after["n"] == before["n"] + 1  # else there is a gap between them
        assert any("n" not in message for message in shown)


async def test_offers_and_calls_without_end_leave_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shell, "CONNECT_TIMEOUT_S", 0.3)
    async with running(tmp_path, flows=[TALK], media_host="127.0.0.1") as server:
        async with probe(server.url) as one:
            await one.dial(channel=True)
            await one.goodbye()
        await server.until(lambda: len(server.gate.registry) == 0)
        await asyncio.sleep(0.7)
        remains = Remains(server)
        async with aiohttp.ClientSession(server.url, headers={"Content-Type": "application/sdp"}) as http:
            for number in range(30):
                async with http.post("/webrtc", data=OFFER.replace("192.0.2.7 54321", "127.0.0.1 9")) as said:
                    assert said.status == 201
                if number % 2:
                    async with http.delete(said.headers["Location"]) as gone:
                        assert gone.status == 200
                else:
                    await server.until(lambda: not live())
        monkeypatch.undo()
        for number in range(10):
            async with probe(server.url) as one:
                await one.dial(channel=number % 2 == 0)
                if number % 3:
                    await one.goodbye()
                resume = one.resumes
            if number % 3 == 0:
                async with probe(server.url) as one:
                    await one.dial(f"/webrtc?resume={resume}")
                    await one.goodbye()
        await remains.none()


async def test_a_stranger_s_datagrams_are_no_sign_of_life() -> None:
    peer = Peer(offer.read(OFFER).remote, Nobody(), certificate(), Addresses(host="127.0.0.1"))
    await peer.gather()
    try:
        port = int(peer.candidates[0].split()[5])
        check = stun.Message(message_method=stun.Method.BINDING, message_class=stun.Class.REQUEST)
        check.attributes["USERNAME"] = f"{peer.ufrag}:uFr4"
        check.add_message_integrity(b"not the password")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.settimeout(5)
            for data in (b"\x80" * 60, b"\x17" * 60, bytes(check)):
                sender.sendto(data, ("127.0.0.1", port))
            answer = await asyncio.to_thread(sender.recv, 2000)
        assert stun.parse_message(answer).message_class is stun.Class.ERROR
        assert peer.datagrams == 0
    finally:
        await peer.close()
