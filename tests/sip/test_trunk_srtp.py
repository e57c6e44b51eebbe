"""What our calls through a trunk are secured by, and whom a trunk lets in: two servers that call each other."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from app.dialler.outcome import Outcome
from app.runtime.outbound import Order
from media.sip import guard as guards
from media.sip.guard import Trust
from tests.clients.certificate import self_signed
from tests.clients.process import LOCALHOST
from tests.e2e.server import Server, running
from tests.sip.caller import opened
from tests.sip.calls import TALK, gate, packets_came, session
from tests.sip.test_hostile import SDP, message, status

NUMBER = "+4930123456"
QUIET_S = 0.3


@pytest.fixture
def pem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Of one certificate that everybody here trusts."""
    found = self_signed(tmp_path / "tls.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(found))
    return found


@asynccontextmanager
async def provider(folder: Path, pem: Path, **given: Any) -> AsyncIterator[Server]:
    """It takes all calls."""
    tls: dict[str, Any] = {"sip_tls_certificate": pem, "sip_tls_key": pem, "sip_tls_port": 0}
    async with running(folder / "provider", flows=[TALK], sip_port=0, **tls, **given) as server:
        yield server


@asynccontextmanager
async def customer(folder: Path, trunk: dict[str, Any], **given: Any) -> AsyncIterator[Server]:
    one = {"name": "main", "caller": "+491"} | trunk
    async with running(
        folder / "customer", flows=[TALK], sip_port=0, sip_trunks=[one], dial_allow=["*"], **given
    ) as server:
        yield server


async def place(server: Server, to: str = NUMBER) -> Any:
    assert server.gate.outbound is not None
    return await server.gate.outbound.place(Order(to=to, flow="talk"))


async def both_talk(*servers: Server) -> None:
    """Packets that came before their keys are lost, and no others."""
    for server in servers:
        await server.until(lambda server=server: any(one.leg is not None for one in gate(server).sessions))
        await packets_came(server, 5)
        stream = session(server).audio_stream
        assert stream is not None
        bad = stream.bad_packets
        await packets_came(server, 20)
        assert stream.bad_packets == bad


@pytest.mark.parametrize(
    ("srtp", "transport", "profile"),
    [
        (None, "udp", "RTP/AVP"),
        ("none", "udp", "RTP/AVP"),
        ("sdes", "tls", "RTP/SAVP"),
        ("dtls", "udp", "UDP/TLS/RTP/SAVP"),
        ("dtls", "tls", "UDP/TLS/RTP/SAVP"),
    ],
)
async def test_a_trunk_gets_what_it_asks_for(
    tmp_path: Path, pem: Path, srtp: str | None, transport: str, profile: str
) -> None:
    async with provider(tmp_path, pem) as there:
        port = gate(there).tls_port if transport == "tls" else gate(there).port
        trunk = {"uri": f"sip:{LOCALHOST}:{port};transport={transport}", "srtp": srtp}
        async with customer(tmp_path, trunk, sip_srtp="off") as here:
            underway = await place(here)
            await both_talk(here, there)
            ours, theirs = session(here), session(there)
            assert ours.negotiation._profile == theirs.negotiation._profile == profile
            assert (ours._keys._srtp is not None) == (theirs._keys._srtp is not None) == (srtp in ("sdes", "dtls"))
            agreed = ours.negotiation.agreed
            assert agreed is not None
            assert (agreed.fingerprint is not None) == (srtp == "dtls")
            assert (agreed.ours is not None) == (srtp == "sdes")
            keys = ours._keys._srtp, theirs._keys._srtp
            for one in (ours, theirs):  # both may change the call, and keep their keys
                assert one.call is not None
                await here.until(lambda one=one: one.call is not None and one.call.modification._acceptance is None)
                before = one.call.stands.local_sequence
                one.call.modification.offer(one._time_ms())
                await here.until(
                    lambda one=one, before=before: (
                        one.call is not None
                        and one.call.stands.local_sequence > before
                        and one.call.modification._ours is None
                    )
                )
            await both_talk(here, there)
            assert (ours._keys._srtp, theirs._keys._srtp) == keys
            session(there)._hang_up("")
            async with asyncio.timeout(30):
                assert (await underway.over()).outcome is Outcome.answered


@pytest.mark.parametrize("srtp", ["sdes", "dtls"])
async def test_a_trunk_that_cannot_do_it_is_not_talked_to_without(tmp_path: Path, pem: Path, srtp: str) -> None:
    async with provider(tmp_path, pem, sip_srtp="off") as there:
        trunk = {"uri": f"sip:{LOCALHOST}:{gate(there).tls_port};transport=tls", "srtp": srtp}
        async with customer(tmp_path, trunk) as here:
            underway = await place(here)
            async with asyncio.timeout(30):
                assert (await underway.over()).outcome is Outcome.failed
            assert not there.seen


@pytest.fixture
def stranger(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is trusted for being on this machine."""
    monkeypatch.setattr(guards, "LOOPBACK", ())


@pytest.mark.usefixtures("stranger")
@pytest.mark.parametrize("transport", ["udp", "tcp", "tls"])
async def test_a_trunk_that_is_known_by_its_name_may_call(tmp_path: Path, transport: str) -> None:
    trunk = {"uri": f"sip:localhost:9;transport={transport}"}
    async with customer(tmp_path, trunk) as here, opened() as phone, opened("127.0.0.2") as other:
        await here.until(lambda: gate(here).trunks.lets_in(LOCALHOST))
        for one in (other, phone):
            one.send(message("INVITE", body=SDP.format(LOCALHOST, 9)), gate(here).port)
        await here.until(lambda: 200 in map(status, phone.came))
        await asyncio.sleep(QUIET_S)
        assert other.came == []


@pytest.mark.usefixtures("stranger")
async def test_whom_we_call_by_name_over_tls_may_answer_by_another_stream(tmp_path: Path, pem: Path) -> None:
    async with (
        provider(tmp_path, pem, sip_allow=LOCALHOST) as there,
        customer(tmp_path, {"uri": "sip:provider.invalid"}) as here,
    ):
        guard = gate(here).guard
        assert guard.welcomes(LOCALHOST, 0) is Trust.dropped
        await place(here, f"sips:talk@localhost:{gate(there).tls_port}")
        await both_talk(here, there)
        assert guard.welcomes(LOCALHOST, 0) is Trust.unknown
        assert not guard.allows(LOCALHOST)
        assert guard.welcomes("127.0.0.2", 0) is Trust.dropped
        streams = gate(here).agent.transport.streams
        for stream in list(streams.all.values()):
            stream.close()
        await here.until(lambda: not streams.all)
        assert not streams.ours
        assert guard.welcomes(LOCALHOST, 0) is Trust.dropped


def test_localhost_is_a_name_here() -> None:
    """What the tests above rely on."""
    assert LOCALHOST in {found[4][0] for found in socket.getaddrinfo("localhost", None, family=socket.AF_INET)}
