"""SRTP of telephones: the DTLS handshake between two of ours, over real sockets, and with baresip; SDES over TLS."""

import asyncio
import datetime
import logging
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa

from media.dtls import CERTIFICATE_S, MAX_QUEUED, Certificate, HandshakeError, Identity, certificate
from media.rtp import RtpPacket
from media.sdp import Format, SdpError
from media.sip import negotiation
from media.sip.dtls import Handshake, is_dtls
from media.sip.keys import Keys
from media.sip.negotiation import Agreed, Fingerprint, Keying, Local, Negotiation, Security
from media.sip.port import MediaPort
from media.srtp import Srtp, SrtpError
from tests.clients.baresip import baresip
from tests.clients.certificate import self_signed
from tests.sip.calls import ALIKE, asked, only_call, packets_came, session, share_heard, speaking, uri

PATIENCE_S = 20
HOST = "127.0.0.1"
PACKET = bytes((0x80, 0, 0, 1, 0, 0, 0, 160, 0, 0, 0, 7)) + bytes(range(160))
REPORT = bytes((0x80, 201, 0, 1, 0, 0, 0, 7))
OURS = certificate()
THEIRS = certificate()


# The handshake


@dataclass
class Line:
    """Two ends, and what goes between them: each datagram as `pass_on` says."""

    pass_on: Callable[[bytes], list[bytes]] = lambda data: [data]
    sent: list[bytes] = field(default_factory=list)

    def join(
        self,
        ours: Certificate = OURS,
        theirs: Certificate = THEIRS,
        announced: tuple[str, str] | None = None,
        answered: tuple[str, str] | None = None,
    ) -> tuple[Handshake, Handshake]:
        """The first begins. `announced` to it, `answered` to the other: what the peer is to be known by."""
        to_first, to_second = announced or theirs.fingerprint, answered or ours.fingerprint
        first = Handshake(ours, to_first, active=True, send=lambda data: self._carry(second, data))
        second = Handshake(theirs, to_second, active=False, send=lambda data: self._carry(first, data))
        return first, second

    def _carry(self, to: Handshake, data: bytes) -> None:
        self.sent.append(data)
        for one in self.pass_on(data):
            to.received(one)


async def shaken(first: Handshake, second: Handshake) -> tuple[Srtp, Srtp]:
    async with asyncio.TaskGroup() as group:
        one = group.create_task(first.keys(PATIENCE_S))
        other = group.create_task(second.keys(PATIENCE_S))
    return one.result(), other.result()


async def refused(handshake: Handshake, timeout_s: float = PATIENCE_S) -> str:
    with pytest.raises(HandshakeError) as error:
        await handshake.keys(timeout_s)
    return str(error.value)


def understand_each_other(one: Srtp, other: Srtp) -> None:
    for speaker, hearer in ((one, other), (other, one)):
        assert hearer.unprotect(speaker.protect(PACKET)) == PACKET
        assert hearer.unprotect_rtcp(speaker.protect_rtcp(REPORT)) == REPORT


async def test_both_ends_get_the_same_keys() -> None:
    line = Line()
    ends = line.join()
    understand_each_other(*await shaken(*ends))
    assert all(map(is_dtls, line.sent))
    for end in ends:
        await end.close()


def of_rsa() -> Certificate:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "telephone")])
    now = datetime.datetime.now(datetime.UTC)
    days = datetime.timedelta(days=2)
    made = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    made = made.serial_number(x509.random_serial_number()).not_valid_before(now - days).not_valid_after(now + days)
    return Certificate(key, made.sign(key, hashes.SHA256()))  # type: ignore[arg-type]  # aiortc makes only the other


async def test_a_certificate_of_rsa_will_do_at_either_end() -> None:
    theirs = of_rsa()
    understand_each_other(*await shaken(*Line().join(OURS, theirs)))
    understand_each_other(*await shaken(*Line().join(theirs, OURS)))


async def test_what_is_lost_is_sent_again() -> None:
    line = Line()
    line.pass_on = lambda data: [] if len(line.sent) in (1, 4) else [data]
    understand_each_other(*await shaken(*line.join()))
    assert len(line.sent) > 4


async def test_twice_and_in_disorder_and_with_rubbish_between() -> None:
    line = Line(lambda data: [b"", b"\x16\xfe\xfd" + bytes(30), data[:20], data, data, b"\x80" * 40])
    understand_each_other(*await shaken(*line.join()))


STRANGE = [certificate().fingerprint, ("sha-256", ""), ("sha-256", "AB"), ("sha-512", "é" * 20), ("md5", "AB:CD")]


@pytest.mark.parametrize("announced", STRANGE, ids=["another", "empty", "short", "no hex", "no algorithm"])
@pytest.mark.parametrize("active", [True, False])
async def test_another_certificate_than_announced(announced: tuple[str, str], active: bool) -> None:
    first, second = Line().join(announced=announced if active else None, answered=None if active else announced)
    deceived, honest = (first, second) if active else (second, first)
    async with asyncio.TaskGroup() as group:
        group.create_task(honest.keys(PATIENCE_S))
        assert "certificate" in await refused(deceived)
    await honest.close()
    await deceived.close()


async def test_nobody_answers() -> None:
    first, second = Line(lambda data: []).join()
    assert "within 0.1 s" in await refused(first, 0.1)
    assert "within 0.1 s" in await refused(second, 0.1)
    await first.close()
    await second.close()


async def test_closed_meanwhile() -> None:
    first, second = Line().join()
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(refused(second))
        await asyncio.sleep(0)
        await second.close()
    assert waiting.result()
    await first.close()
    assert await refused(first)


async def test_the_end_is_told() -> None:
    line = Line()
    first, second = line.join()
    await shaken(first, second)
    line.sent.clear()
    await first.close()
    assert len(line.sent) == 1
    assert line.sent[0][0] == 21  # an alert (RFC 6347, 4.1)
    first.received(b"\x16" * 50)
    await second.close()


async def test_a_flood_is_not_kept() -> None:
    first, _ = Line().join()
    for _ in range(10 * MAX_QUEUED):
        first.received(b"\x16" + bytes(1000))
    assert first._way._came.qsize() == MAX_QUEUED
    first.received(b"\x80" * 100)
    first.received(b"")
    await first.close()


def test_a_certificate_a_day() -> None:
    identity = Identity()
    first = identity.current(0)
    assert identity.current(CERTIFICATE_S) is first
    assert identity.current(CERTIFICATE_S + 1).fingerprint != first.fingerprint


# The keys of a leg, over real sockets


class End:
    """Keys on a port, as a session has them."""

    def __init__(self, identity: Certificate, group: asyncio.TaskGroup) -> None:
        self.identity = identity
        self.port = MediaPort(HOST, 0, 0, now_ms=lambda: int(asyncio.get_running_loop().time() * 1000))
        self.keys = Keys(self.port, self.failed, identity, lambda work: self.spawn(group, work))
        self.failures: list[HandshakeError] = []
        self.heard: list[bytes] = []
        self.reports: list[bytes] = []
        self.wire: list[bytes] = []  # what came

    def spawn(self, group: asyncio.TaskGroup, work: Coroutine[Any, Any, None]) -> None:
        group.create_task(work)

    def failed(self, error: HandshakeError) -> None:
        self.failures.append(error)

    def follow(self, other: "End", *, active: bool, mux: bool = True, **changed: Any) -> None:
        """`active`: the other one begins."""
        agreed = Agreed(
            host=HOST,
            port=other.port.port,
            report_port=other.port.port if mux else other.port.report_port,
            mux=mux,
            codec=Format(0, "pcmu", 8000),
            receive_type=0,
            event_types=frozenset(),
            digit_type=None,
            sends=True,
            hears=True,
            packet_ms=20,
            fingerprint=Fingerprint(*other.identity.fingerprint, active=active),
        )
        agreed = replace(agreed, **changed)
        self.port.talk_to(agreed.host, agreed.port, agreed.report_port, mux=agreed.mux)
        self.keys.follow(agreed)
        self.port.listen(self.rtp, self.rtcp)

    def rtp(self, data: bytes, arrived_ms: int) -> bool:
        self.wire.append(data)
        if self.keys.handshake(data):
            return True
        try:
            self.heard.append(self.keys.opened(data))
        except SrtpError:
            return False
        return True

    def rtcp(self, data: bytes) -> None:
        self.wire.append(data)
        if not self.keys.handshake(data, report=True):
            try:
                self.reports.append(self.keys.opened_report(data))
            except SrtpError:
                return

    def say(self, number: int) -> None:
        self.keys.send(PACKET[:2] + number.to_bytes(2, "big") + PACKET[4:])
        self.keys.send_report(REPORT)


@asynccontextmanager
async def two() -> AsyncIterator[tuple[End, End]]:
    async with asyncio.timeout(PATIENCE_S), asyncio.TaskGroup() as group:
        ends = End(OURS, group), End(THEIRS, group)
        try:
            yield ends
        finally:
            for end in ends:
                await end.keys.close()
                end.port.close()


async def until(true: Callable[[], Any]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not true():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def hear_each_other(*ends: End) -> None:
    for end in ends:
        end.heard.clear()
        end.reports.clear()
    numbers = iter(range(100, 60_000))

    def talked() -> bool:
        for end in ends:
            end.say(next(numbers))
        return all(end.heard and end.reports for end in ends)

    await until(talked)


@pytest.mark.parametrize("mux", [True, False], ids=["one port", "two ports"])
async def test_nothing_passes_without_keys_and_nothing_plain_with_them(mux: bool) -> None:
    async with two() as (one, other):
        one.follow(other, active=False, mux=mux)
        assert not one.keys.ready
        one.say(1)
        with pytest.raises(SrtpError):
            one.keys.opened(PACKET)
        with pytest.raises(SrtpError):
            one.keys.opened_report(REPORT)
        other.follow(one, active=True, mux=mux)
        await until(lambda: one.keys.ready and other.keys.ready)
        await hear_each_other(one, other)
        await until(lambda: one.reports and other.reports)
        for data in one.wire + other.wire:
            assert is_dtls(data) or data[12:] != PACKET[12:]
            assert data != REPORT


async def test_the_same_certificate_again_keeps_the_keys() -> None:
    async with two() as (one, other):
        one.follow(other, active=False)
        other.follow(one, active=True)
        await until(lambda: one.keys.ready and other.keys.ready)
        one.follow(other, active=False, sends=False, packet_ms=40)
        assert one.keys.ready
        await hear_each_other(one, other)


async def test_another_certificate_begins_anew() -> None:
    async with two() as (one, other):
        one.follow(other, active=False)
        other.follow(one, active=True)
        await until(lambda: one.keys.ready and other.keys.ready)
        before = other.keys._srtp
        one.identity = one.keys._identity = certificate()
        other.follow(one, active=True)
        assert not other.keys.ready
        one.follow(other, active=False, fingerprint=None)
        one.follow(other, active=False)
        await until(lambda: one.keys.ready and other.keys.ready)
        assert other.keys._srtp is not before
        await hear_each_other(one, other)
        assert not one.failures + other.failures


async def test_a_wrong_certificate_is_reported_once() -> None:
    async with two() as (one, other):
        wrong = Fingerprint(*certificate().fingerprint, active=False)
        one.follow(other, active=False, fingerprint=wrong)
        other.follow(one, active=True)
        await until(lambda: one.failures)
        assert not one.keys.ready
        one.say(1)
        with pytest.raises(SrtpError):
            one.keys.opened(PACKET)
        assert len(one.failures) == 1


async def test_whoever_begins_may_do_so_from_behind_an_address_translation() -> None:
    """Its own address is not the one that it is seen with."""
    async with two() as (one, other):
        one.follow(other, active=True, host="192.0.2.7", port=4000)
        other.follow(one, active=False)
        await until(lambda: one.keys.ready and other.keys.ready)
        assert one.port.peer.address == (HOST, other.port.port)
        await hear_each_other(one, other)


async def test_closed_before_there_are_keys() -> None:
    async with two() as (one, other):
        one.follow(other, active=False)
        await asyncio.sleep(0)
        await one.keys.close()
        await one.keys.close()
        assert not one.failures
        assert not one.keys.handshake(b"\x16" * 30)


# What descriptions say

VALUE = ":".join(["AB"] * 32)


def offer(*lines: str, profile: str = "UDP/TLS/RTP/SAVP") -> str:
    head = ["v=0", "o=- 1 1 IN IP4 127.0.0.1", "s=-", "c=IN IP4 127.0.0.1", "t=0 0", f"m=audio 4000 {profile} 0"]
    return "\r\n".join([*head, *lines, ""])


def secured(security: Security = Security.optional) -> Negotiation:
    return Negotiation(Local(HOST, 5000, 5001, OURS.fingerprint), security=security)


def peer_of(found: Negotiation) -> Fingerprint:
    assert found.agreed is not None
    assert found.agreed.fingerprint is not None
    return found.agreed.fingerprint


@pytest.mark.parametrize(
    ("setup", "active", "ours"),
    [("actpass", False, "active"), ("passive", False, "active"), ("active", True, "passive"), ("", False, "active")],
)
def test_who_begins(setup: str, active: bool, ours: str) -> None:
    found = secured()
    lines = [f"a=fingerprint:SHA-256 {VALUE.lower()}", *([f"a=setup:{setup}"] if setup else [])]
    answer = found.answer(offer(*lines))
    assert peer_of(found) == Fingerprint("sha-256", VALUE, active)
    assert f"a=setup:{ours}\r\n" in answer
    assert f"a=fingerprint:sha-256 {OURS.fingerprint[1]}\r\n" in answer
    assert "m=audio 5000 UDP/TLS/RTP/SAVP 0" in answer


@pytest.mark.parametrize(
    ("named", "seen", "ours"),
    [
        ("192.168.1.20", "192.168.1.20", "active"),
        ("198.18.0.20", "81.2.69.1", "passive"),
        ("192.168.1.20", "81.2.69.1", "passive"),
        ("192.168.1.20", "10.0.0.1", "passive"),
        ("phone.local", "192.168.1.20", "passive"),
        ("81.2.69.2", "81.2.69.1", "active"),
        ("192.168.1.20", "", "active"),
    ],
)
def test_whoever_names_an_inner_address_opens_the_way(named: str, seen: str, ours: str) -> None:
    def asked(setup: str) -> str:
        lines = [f"a=fingerprint:sha-256 {VALUE}", f"a=setup:{setup}"]
        found = Negotiation(Local(HOST, 5000, 5001, OURS.fingerprint, peer=seen))
        answer = found.answer(offer(*lines).replace("IP4 127.0.0.1\r\nt=", f"IP4 {named}\r\nt="))
        assert peer_of(found).active is ("a=setup:passive" in answer)
        assert found.answer(offer(*lines)).partition("a=setup:")[2] == answer.partition("a=setup:")[2], "it stays so"
        return answer

    assert f"a=setup:{ours}\r\n" in asked("actpass")
    assert "a=setup:active\r\n" in asked("passive")
    assert "a=setup:passive\r\n" in asked("active")


def test_who_began_stays_so() -> None:
    found = secured()
    line = f"a=fingerprint:sha-256 {VALUE}"
    found.answer(offer(line, "a=setup:active"))
    assert "a=setup:passive" in found.answer(offer(line, "a=setup:actpass"))
    before = peer_of(found)
    ours = found.offer()
    assert "UDP/TLS/RTP/SAVP 0" in ours
    assert "a=setup:actpass" in ours
    found.answered(offer(line, "a=setup:actpass"))  # as baresip says it, where it must not
    assert peer_of(found) == before
    found.answered(offer(line, "a=setup:active"))
    assert peer_of(found) == before
    found.answer(offer(f"a=fingerprint:sha-256 {VALUE.replace('A', 'C')}", "a=setup:actpass"))
    assert not peer_of(found).active


def test_an_answer_without_a_certificate() -> None:
    found = secured()
    found.answer(offer(f"a=fingerprint:sha-256 {VALUE}"))
    found.offer()
    with pytest.raises(SdpError):
        found.answered(offer())


def offering(keying: Keying | None, security: Security = Security.optional) -> Negotiation:
    return Negotiation(Local(HOST, 5000, 5001, OURS.fingerprint), security=security, keying=keying)


@pytest.mark.parametrize(
    ("keying", "security", "profile"),
    [
        (None, Security.off, "RTP/AVP"),
        (None, Security.optional, "RTP/AVP"),
        (None, Security.required, "RTP/SAVP"),
        (Keying.none, Security.optional, "RTP/AVP"),
        (Keying.sdes, Security.off, "RTP/SAVP"),
        (Keying.dtls, Security.off, "UDP/TLS/RTP/SAVP"),
        (Keying.dtls, Security.required, "UDP/TLS/RTP/SAVP"),
    ],
)
def test_what_is_offered_first(keying: Keying | None, security: Security, profile: str) -> None:
    found = offering(keying, security).offer()
    assert f"m=audio 5000 {profile} " in found
    assert ("a=crypto:" in found) == (profile == "RTP/SAVP")
    assert ("a=fingerprint:" in found) == ("a=setup:actpass" in found) == (profile == "UDP/TLS/RTP/SAVP")


@pytest.mark.parametrize("keying", [Keying.sdes, Keying.dtls])
@pytest.mark.parametrize("security", list(Security))
def test_what_was_offered_with_keys_is_never_done_without(keying: Keying, security: Security) -> None:
    found = offering(keying, security)
    found.offer()
    for profile in ("RTP/AVP", "RTP/SAVP", "UDP/TLS/RTP/SAVP"):
        with pytest.raises(SdpError):
            found.answered(offer(profile=profile))
    other = secured()
    found.answered(other.answer(found.offer()))
    with pytest.raises(SdpError):
        found.answer(offer(profile="RTP/AVP"))
    before = found.agreed
    found.answered(other.answer(found.offer()))
    assert found.agreed == before


def test_the_one_who_is_called_says_who_begins() -> None:
    for setup, active in (("active", True), ("passive", False)):
        found = offering(Keying.dtls)
        found.offer()
        found.answered(offer(f"a=fingerprint:sha-256 {VALUE}", f"a=setup:{setup}"))
        assert peer_of(found).active is active


def test_which_of_several() -> None:
    found = secured()
    found.answer(offer("a=fingerprint:sha-1 AB:CD", "a=fingerprint:sha-512", f"a=fingerprint:sha-384 {VALUE}"))
    assert peer_of(found).algorithm == "sha-384"
    crypto = "a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:" + "A" * 40
    dtls = secured()
    dtls.answer(offer(crypto, f"a=fingerprint:sha-256 {VALUE}"))
    assert peer_of(dtls).algorithm == "sha-256"
    sdes = secured()
    sdes.answer(offer(crypto, f"a=fingerprint:sha-256 {VALUE}", profile="RTP/SAVP"))
    assert sdes.agreed is not None
    assert sdes.agreed.fingerprint is None
    assert sdes.agreed.ours is not None


def test_what_cannot_be_secured_is_refused() -> None:
    for lines in ((), ("a=fingerprint:sha-1 AB:CD",), ("a=fingerprint:sha-256",), ("a=fingerprint",)):
        with pytest.raises(SdpError):
            secured().answer(offer(*lines))
    with pytest.raises(SdpError):
        secured(Security.off).answer(offer(f"a=fingerprint:sha-256 {VALUE}"))
    with pytest.raises(SdpError):
        Negotiation(Local(HOST, 5000, 5001)).answer(offer(f"a=fingerprint:sha-256 {VALUE}"))


# baresip


@contextmanager
def overheard() -> Iterator[deque[tuple[str, bytes]]]:
    """What goes over the wire: `sent` and `came`."""
    wire: deque[tuple[str, bytes]] = deque(maxlen=100_000)
    send, send_report, read = MediaPort.send, MediaPort.send_report, Keys.handshake

    def spy(self: MediaPort, data: bytes) -> None:
        wire.append(("sent", data))
        send(self, data)

    def spy_report(self: MediaPort, data: bytes) -> None:
        wire.append(("sent", data))
        send_report(self, data)

    def spy_back(self: Keys, data: bytes, *, report: bool = False) -> bool:
        wire.append(("came", data))
        return read(self, data, report=report)

    with (
        mock.patch.object(MediaPort, "send", spy),
        mock.patch.object(MediaPort, "send_report", spy_report),
        mock.patch.object(Keys, "handshake", spy_back),
    ):
        yield wire


def is_sealed(data: bytes) -> bool:
    """Not 20 ms of G.711 as they are: neither in length nor, where that is silence, in kind."""
    packet = RtpPacket.parse(data)
    return len(data) > 12 + 160 and len(set(packet.payload)) > 60


WAYS = [
    pytest.param("dtls_srtp", "", "udp", id="dtls, two ports"),
    pytest.param("dtls_srtp", "rtcp_mux yes\n", "tcp", id="dtls, one port"),
    pytest.param("srtp-mand", "", "tls", id="sdes over tls"),
]


@pytest.mark.parametrize(("way", "config", "transport"), WAYS)
async def test_a_telephone_is_heard_and_hears(tmp_path: Path, way: str, config: str, transport: str) -> None:
    pem = self_signed(tmp_path / "tls.pem")
    tls = {"sip_tls_certificate": pem, "sip_tls_key": pem, "sip_tls_port": 0}
    phone_at = tmp_path / "phone"
    with overheard() as wire:
        async with (
            speaking(tmp_path, sip_srtp="required", **tls) as server,
            baresip(phone_at, transport=transport, media_encryption=way, config=config, trusted=pem) as phone,
        ):
            await phone.dial(uri(server, transport=transport))
            await asked(server, "Which day")
            await phone.event("CALL_MENC")
            keys = session(server)._keys
            srtp = keys._srtp
            assert srtp is not None
            assert (keys._report_srtp is not None) == (way == "dtls_srtp" and not config)
            await phone.hold()
            await server.until(lambda: session(server).stalled)
            await phone.resume()
            await server.until(lambda: not session(server).stalled)
            assert keys._srtp is srtp
            await packets_came(server, 20)
            call, stream = session(server).call, session(server).audio_stream
            assert call is not None
            assert stream is not None
            call.modification.refresh(session(server)._time_ms())  # our own re-INVITE
            await phone.process.says("INVITE sip:phone-")
            await packets_came(server, 50)
            assert keys._srtp is srtp
            assert stream.bad_packets == 0
            assert phone.log.count("DTLS-SRTP complete") == (0 if way != "dtls_srtp" else 1 if config else 2)
            await phone.hangup()
            assert (await server.over(only_call(server)))["cause"] == "caller-hangup"
    assert await share_heard(phone.heard(), "Which day would you like?") > ALIKE
    audio = [(kind, data) for kind, data in wire if 0x80 <= data[0] <= 0xBF and data[1] & 0x7F == 0]
    assert {kind for kind, _ in audio} == {"sent", "came"}
    assert all(is_sealed(data) for _, data in audio)


async def test_a_telephone_with_another_certificate_is_not_spoken_to(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def forged(*parts: Any) -> Fingerprint:
        return Fingerprint("sha-256", VALUE, active=False)

    with overheard() as wire, mock.patch.object(negotiation, "_fingerprint", forged), caplog.at_level(logging.WARNING):
        async with (
            speaking(tmp_path) as server,
            baresip(tmp_path / "phone", media_encryption="dtls_srtp") as phone,
        ):
            await phone.command("dial", uri(server))
            await phone.event("CALL_CLOSED")
            assert 'text="no keys for SRTP"' in phone.log
    (line,) = [record.getMessage() for record in caplog.records if record.name == "voicegate.sip"]
    assert "certificate" in line
    assert all(is_dtls(data) for kind, data in wire if kind == "sent")
