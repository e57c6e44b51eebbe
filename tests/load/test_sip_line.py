"""Telephones against the real server over real sockets: heard and hearing, refused, cut off, and coming back."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from app.core.events import CallStarted, Digit, LegLost, Transcript
from app.load import rtp, sip, sip_call
from app.load.line import BadAddress, LineError, NotResumable, Refused, Trouble
from app.load.sip import CODECS, SipLine, Telephone, sip_lines
from app.providers.scripted import ScriptedStt
from media import rtp_audio
from media.rtp_audio import RtpAudio
from media.sip import server as server_side
from media.sip.session import Session
from tests.clients.certificate import self_signed
from tests.e2e.server import LECTURE, TALK, Server, running
from tests.load.far_end import Heard
from tests.load.talking import Ears, encoded, hush, loud, say
from tests.sip.calls import asked, gate, uri


@asynccontextmanager
async def served(folder: Path, **given: Any) -> AsyncIterator[Server]:
    usual: dict[str, Any] = {"flows": [TALK], "sip_port": 0, "stt": ScriptedStt(["on monday please"])}
    async with running(folder, **usual | given) as server:
        yield server


@asynccontextmanager
async def connected(server: Server, telephone: Telephone = sip.ORDINARY) -> AsyncIterator[tuple[SipLine, Ears]]:
    async with sip_lines(uri(server), telephone) as lines:
        line, ears = lines(0), Ears()
        assert isinstance(line, SipLine)
        await line.connect(ears)
        try:
            yield line, ears
        finally:
            await line.hang_up()


async def leg_of(server: Server) -> tuple[Session, RtpAudio]:
    """The one call's, once it has both."""
    await server.until(lambda: any(one.audio_stream for one in gate(server).sessions))
    (leg,) = gate(server).sessions
    assert leg.audio_stream is not None
    return leg, leg.audio_stream


async def refusal(address: str, telephone: Telephone = sip.ORDINARY) -> Exception:
    """Why nobody can be called there."""
    async with sip_lines(address, telephone) as lines:
        line = lines(0)
        with pytest.raises((Refused, LineError)) as caught:
            await line.connect(Heard())
        assert isinstance(line, SipLine)
        assert line._socket is None
        await line.hang_up()
    return caught.value


# Calls


@pytest.mark.parametrize("srtp", [False, True])
@pytest.mark.parametrize("codec", list(CODECS))
async def test_every_codec_hears(tmp_path: Path, codec: str, srtp: bool) -> None:
    telephone = Telephone(codec=codec, srtp=srtp)
    async with served(tmp_path) as server, connected(server, telephone) as (line, ears):
        await loud(ears, line)


@pytest.mark.parametrize(("codec", "srtp"), [("pcmu", False), ("opus", True)])
async def test_what_is_said_is_heard(tmp_path: Path, codec: str, srtp: bool) -> None:
    async with (
        served(tmp_path) as server,
        connected(server, Telephone(codec=codec, caller="+15550100", srtp=srtp)) as (line, ears),
    ):
        await loud(ears, line)
        assert line.call == server.seen[0].call
        await asked(server, "Which day")
        await say(line, await encoded(line.codec, "on monday please"))
        await server.until(lambda: server.facts(Transcript))
        assert server.facts(CallStarted)[0].caller == "+15550100"
        steps = ears.steps
        assert all(step >= 1 and step.is_integer() for step in steps), "a server that is late leaves some out"
        assert steps.count(1) > 0.9 * len(steps)
        _, stream = await leg_of(server)
        assert stream.bad_packets == stream.receiver.lost == 0
        await line.hang_up()
        record = await server.over(server.seen[0].call)
        assert record["cause"] == "caller-hangup"
        assert server.replayed(record["call"]).slots["day"].value == "monday"
    assert not ears.told, "who hangs up knows it"


@pytest.mark.parametrize("transport", ["tcp", "tls"])
async def test_over_streams(tmp_path: Path, transport: str) -> None:
    pem = self_signed(tmp_path / "pem")
    async with served(tmp_path, sip_tls_port=0, sip_tls_certificate=pem) as server:
        async with sip_lines(uri(server, transport=transport), Telephone(authorities=pem)) as lines:
            both = [lines(0), lines(1)]
            ears = [Ears(), Ears()]
            for line, ear in zip(both, ears, strict=True):
                await line.connect(ear)
            for line, ear in zip(both, ears, strict=True):
                await loud(ear, line)
                await line.hang_up()
            assert len(gate(server).agent.transport.streams.all) == 1, "all share one"
        await server.until(lambda: not gate(server).endpoint.calls)


async def test_digits(tmp_path: Path) -> None:
    async with served(tmp_path) as server, connected(server) as (line, _):
        await asked(server, "Which day")
        await say(line, hush(line.codec, 10))  # the first packets only show whose they are
        for digit in "15*#":
            line.digit(digit, 100)
            await say(line, hush(line.codec, 8))
        line.digit("9", 60)
        line.digit("0", 60)
        await say(line, hush(line.codec, 16))
        await server.until(lambda: len(server.facts(Digit)) >= 6)
        assert [fact.digit for fact in server.facts(Digit)] == list("15*#90")


async def test_what_is_left_out_is_lost_and_time_goes_on(tmp_path: Path) -> None:
    async with served(tmp_path) as server, connected(server) as (line, _):
        await say(line, hush(line.codec, 30) + [b""] * 5 + hush(line.codec, 30))
        _, stream = await leg_of(server)
        receiver = stream.receiver
        await server.until(lambda: receiver.packets >= 58)  # the first ones only show whose they are
        assert receiver.lost == 0, "nothing was sent: to RTP that is a pause"


async def test_the_server_is_told_how_it_is_heard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rtp, "WATCH_FRAMES", 5)
    monkeypatch.setattr(rtp_audio, "REPORT_MS", 100)
    async with served(tmp_path) as server, connected(server) as (line, ears):
        _, stream = await leg_of(server)
        await ears.until(lambda: len(ears.payloads) > 20)
        assert line._stream is not None
        line._stream.receiver.packets -= 10  # as if they had been lost
        while stream.receiver.round_trip_ms is None:  # a report of ours answers one of theirs
            await say(line, hush(line.codec, 20))
        assert stream.lost_percent > 0


# Ends


async def test_the_agent_hangs_up(tmp_path: Path) -> None:
    async with served(tmp_path, stt=ScriptedStt(["monday", "yes"])) as server, connected(server) as (line, ears):
        await asked(server, "Which day")
        await say(line, await encoded(line.codec, "monday", 0.6))
        await asked(server, "Is that right")
        await say(line, await encoded(line.codec, "yes", 0.6))
        await ears.until(lambda: ears.told)
        assert ears.told == [("ended", "Normal call clearing", "")]
        line.send(b"x" * 160)
        line.digit("1", 100)
        line.drop()
        with pytest.raises(NotResumable):
            await line.resume()


async def test_a_server_that_vanishes_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rtp, "WATCH_FRAMES", 5)
    monkeypatch.setattr(sip, "REFUSED_S", 0.1)
    async with vanishing() as (address, vanish), sip_lines(address) as lines:
        line, ears = lines(0), Ears()
        await line.connect(ears)
        await say(line, [bytes(160)] * 10)
        assert not ears.told
        vanish()
        await say(line, [bytes(160)] * 30)
        assert ears.told == [("failed", "cut")]
        await line.hang_up()


async def test_a_server_that_says_nothing_more_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rtp, "WATCH_FRAMES", 5)
    monkeypatch.setattr(sip, "QUIET_S", 0.2)
    async with vanishing() as (address, _), sip_lines(address) as lines:
        line, ears = lines(0), Ears()
        await line.connect(ears)
        await say(line, [bytes(160)] * 30)
        assert ears.told == [("failed", "silent")]
        await line.hang_up()


ANSWER = (
    "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n"
    "m=audio {port} RTP/AVP {types}\r\na=ptime:20\r\n"
)


def status(request: str, line: str, contact: str, body: str = "") -> bytes:
    """By hand."""
    copied = [one for one in request.split("\r\n") if one.startswith(("Via:", "From:", "To:", "Call-ID:", "CSeq:"))]
    copied = [one + ";tag=far" if one.startswith("To:") and "tag=" not in one else one for one in copied]
    kind = ["Content-Type: application/sdp"] if body else []
    head = [f"SIP/2.0 {line}", *copied, f"Contact: <{contact}>", *kind, f"Content-Length: {len(body)}"]
    return ("\r\n".join(head) + f"\r\n\r\n{body}").encode()


class ByHand(asyncio.DatagramProtocol):
    """A SIP server that answers each INVITE likewise; BYEs with 200."""

    def __init__(self, line: str, body: str) -> None:
        self.line = line
        self.body = body
        self.requests: list[str] = []

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.address = f"sip:talk@127.0.0.1:{transport.get_extra_info('sockname')[1]}"

    def datagram_received(self, data: bytes, addr: Any) -> None:
        request = data.decode()
        method = request.partition(" ")[0]
        self.requests.append(method)
        if method == "INVITE" and self.line:
            self.transport.sendto(status(request, self.line, self.address, self.body), addr)
        elif method in ("BYE", "CANCEL"):
            self.transport.sendto(status(request, "200 OK", self.address), addr)


@asynccontextmanager
async def by_hand(line: str, body: str = "") -> AsyncIterator[ByHand]:
    transport, made = await asyncio.get_running_loop().create_datagram_endpoint(
        lambda: ByHand(line, body), ("127.0.0.1", 0)
    )
    try:
        yield made
    finally:
        transport.close()


@asynccontextmanager
async def vanishing() -> AsyncIterator[tuple[str, Callable[[], None]]]:
    """The address of a server whose audio's port can be closed."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as audio:
        audio.bind(("127.0.0.1", 0))
        body = ANSWER.format(port=audio.getsockname()[1], types=0)
        async with by_hand("200 OK", body) as server:
            yield server.address, audio.close


async def test_digits_that_the_server_takes_none_of() -> None:
    async with vanishing() as (address, _), sip_lines(address) as lines:
        line, ears = lines(0), Ears()
        await line.connect(ears)
        line.digit("1", 100)
        assert ears.told == [("failed", "unsupported")]
        await line.hang_up()


# Refusals


@pytest.mark.parametrize(
    ("line", "code"), [("486 Busy Here", "486"), ("403 Forbidden", "403"), ("404 Not Found", "404"), ("603 No", "603")]
)
async def test_who_is_refused_knows_why(line: str, code: str) -> None:
    async with by_hand(line) as server:
        error = await refusal(server.address)
    assert isinstance(error, Refused)
    assert (error.code, error.reason) == (code, line[4:])


async def test_the_server_s_own_refusals(tmp_path: Path) -> None:
    users = [{"user": "anna", "password": "secret-word"}]
    async with served(tmp_path, sip_users=users, sip_srtp="required", max_calls=1) as server:
        address, right = uri(server), Telephone(user="anna", password="secret-word", srtp=True)
        plain = await refusal(address, Telephone(user="anna", password="secret-word"))
        assert isinstance(plain, Refused)
        assert plain.code == "488"
        async with sip_lines(address, right) as lines:
            line, ears = lines(0), Ears()
            await line.connect(ears)
            await ears.until(lambda: ears.payloads)
            busy = await refusal(address, right)
            assert isinstance(busy, Refused)
            assert busy.code == "486"
            await line.hang_up()


async def test_a_call_that_nobody_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sip_call, "CONNECT_TIMEOUT_S", 0.3)
    monkeypatch.setattr(sip_call, "GOODBYE_S", 0.2)
    async with by_hand("180 Ringing") as server:
        error = await refusal(server.address)
        assert isinstance(error, LineError)
        assert error.kind is Trouble.timeout
        assert "CANCEL" in server.requests
    async with by_hand("") as server:
        error = await refusal(server.address)
        assert isinstance(error, LineError)
        assert error.kind is Trouble.timeout


@pytest.mark.parametrize("transport", ["udp", "tcp", "tls"])
async def test_where_nobody_listens(monkeypatch: pytest.MonkeyPatch, transport: str) -> None:
    if transport != "udp":  # there the system says so, long before it is given up
        monkeypatch.setattr(sip_call, "CONNECT_TIMEOUT_S", 0.3)
    monkeypatch.setattr(sip_call, "GOODBYE_S", 0.2)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    error = await refusal(f"sip:127.0.0.1:{port};transport={transport}")
    assert isinstance(error, LineError)
    assert error.kind is Trouble.unreachable


async def test_a_certificate_that_nobody_vouches_for(tmp_path: Path) -> None:
    async with served(tmp_path, sip_tls_port=0, sip_tls_certificate=self_signed(tmp_path / "pem")) as server:
        error = await refusal(uri(server, transport="tls"))
    assert isinstance(error, LineError)
    assert error.kind is Trouble.tls


@pytest.mark.parametrize("body", ["", "v=0\r\n", ANSWER.format(port=0, types=0), ANSWER.format(port=9, types=18)])
async def test_answers_that_cannot_be_used(body: str) -> None:
    async with by_hand("200 OK", body) as server:
        error = await refusal(server.address)
        assert isinstance(error, LineError)
        assert error.kind is Trouble.protocol
        assert server.requests[-1] == "BYE"


@pytest.mark.parametrize("address", ["", "sip:", "http://host", "tel:+15550100", "sip:a b@host", "127.0.0.1:5060"])
async def test_what_is_no_address(address: str) -> None:
    with pytest.raises(BadAddress):
        async with sip_lines(address):
            pass


async def test_what_is_no_codec() -> None:
    with pytest.raises(ValueError, match="pcmu"):
        async with sip_lines("sip:127.0.0.1", Telephone(codec="gsm")):
            pass


async def test_giving_up_before_the_answer_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sip_call, "GOODBYE_S", 0.1)
    async with by_hand("180 Ringing") as server, sip_lines(server.address) as lines:
        line = lines(0)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await line.connect(Heard())
        assert isinstance(line, SipLine)
        assert line._socket is None
        for _ in range(100):
            if "CANCEL" in server.requests:
                break
            await asyncio.sleep(0.02)
        assert "CANCEL" in server.requests


# Coming back


@pytest.mark.parametrize("srtp", [False, True])
async def test_a_telephone_comes_back_from_another_port(tmp_path: Path, srtp: bool) -> None:
    async with (
        served(tmp_path, flows=[LECTURE], words_per_s=3.0) as server,
        connected(server, Telephone(srtp=srtp)) as (line, ears),
    ):
        _, stream = await leg_of(server)
        await say(line, hush(line.codec, 20))
        await loud(ears, line)
        before = line._socket
        assert before is not None
        port = before.getsockname()[1]
        line.drop()
        line.drop()
        line.send(b"\xff" * 160)
        count = len(ears.payloads)
        await asyncio.sleep(0.3)
        assert len(ears.payloads) == count
        await line.resume()
        assert line._socket is not None
        assert line._socket.getsockname()[1] != port
        await loud(ears, line, count)
        packets = stream.receiver.packets
        await say(line, hush(line.codec, 20))
        await server.until(lambda: stream.receiver.packets > packets + 10)
        assert not server.facts(LegLost)
        assert not ears.told


async def test_a_dropped_telephone_says_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_side, "GOODBYE_S", 0.1)
    async with served(tmp_path) as server, sip_lines(uri(server)) as lines:
        line, ears = lines(0), Ears()
        await line.connect(ears)
        leg, _ = await leg_of(server)
        line.drop()
        assert leg.call is not None
        leg.call.modification.refresh(gate(server).agent.now_ms())
        await asyncio.sleep(0.2)
        await line.hang_up()
        await asyncio.sleep(0.2)
        assert not leg.over, "it heard neither an answer nor a goodbye"
        assert not ears.told


async def test_a_call_that_is_over_is_not_resumed(tmp_path: Path) -> None:
    async with served(tmp_path) as server, connected(server) as (line, _):
        leg, _ = await leg_of(server)
        line.drop()
        leg.close("normal", "")  # type: ignore[arg-type]  # a code
        await server.until(lambda: leg.over)
        with pytest.raises(NotResumable):
            await line.resume()


async def test_a_call_that_never_was_is_not_resumed() -> None:
    async with sip_lines("sip:127.0.0.1:5060") as lines:
        with pytest.raises(NotResumable):
            await lines(0).resume()
