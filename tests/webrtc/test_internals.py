"""What `media/dtls.py` and `media/webrtc/peer.py` rely on inside aiortc and aioice: an upgrade fails here first."""

import inspect
import re

import aioice
import aiortc
import pylibsrtp
import pytest
from aioice.candidate import candidate_foundation, candidate_priority
from aioice.ice import StunProtocol, get_host_addresses
from aiortc import RTCCertificate, RTCDtlsTransport, RTCSctpTransport
from aiortc.rtcsctptransport import InboundStream
from pylibsrtp._binding import lib

from media.dtls import CIPHERS, Dtls, certificate
from media.srtp import Srtp, SrtpError
from media.webrtc.peer import Addresses, _Ice


def parameters(function: object) -> list[str]:
    return list(inspect.signature(function).parameters)  # type: ignore[arg-type]  # a callable of another's


async def test_the_ice_agent() -> None:
    agent = aioice.Connection(ice_controlling=False)
    for name in (
        "ice_controlling",
        "_nominated",
        "_protocols",
        "_queue",
        "remote_username",
        "remote_password",
        "remote_is_lite",
    ):
        assert hasattr(agent, name), name
    assert agent._nominated == {}
    assert agent._protocols == []
    assert parameters(agent.get_component_candidates) == ["component", "addresses", "timeout"]
    assert parameters(agent.data_received) == ["data", "component"]
    assert parameters(agent.check_incoming) == ["message", "addr", "protocol"]
    source = inspect.getsource(aioice.Connection.request_received)
    assert source.index("check_message_integrity") < source.index("self.check_incoming(message, addr, protocol)")
    source = inspect.getsource(aioice.Connection.gather_candidates)
    assert set(re.findall(r"self\.(_local\w+) \+?= ", source)) == {
        "_local_candidates",
        "_local_candidates_end",
        "_local_candidates_start",
    }
    assert parameters(candidate_priority) == ["candidate_component", "candidate_type", "local_pref"]
    assert len(parameters(candidate_foundation)) == 3
    assert parameters(get_host_addresses) == ["use_ipv4", "use_ipv6"]
    await agent.close()


async def test_a_pair_has_a_socket_and_an_address() -> None:
    source = inspect.getsource(aioice.Connection.sendto)
    assert "self._nominated.get(component)" in source
    assert "active_pair.remote_addr" in source
    assert "self.transport.sendto(data, addr)" in inspect.getsource(StunProtocol.send_data)
    assert "self.receiver.data_received(" in inspect.getsource(StunProtocol.datagram_received)


def test_the_srtp_binding() -> None:
    policy = pylibsrtp.Policy(key=bytes(30), ssrc_type=pylibsrtp.Policy.SSRC_ANY_OUTBOUND)
    session = pylibsrtp.Session(policy)
    packet = bytes((0x80, 0, 0, 1)) + bytes(40)
    other = pylibsrtp.Session(policy)
    ours = Srtp(
        session, pylibsrtp.Session(pylibsrtp.Policy(key=bytes(30), ssrc_type=pylibsrtp.Policy.SSRC_ANY_INBOUND))
    )
    sealed = ours.protect(packet)
    assert sealed == other.protect(packet)
    assert ours.unprotect(sealed) == packet
    with pytest.raises(SrtpError):
        ours.unprotect(sealed[:-1] + b"x")
    assert isinstance(sealed, bytes)
    assert {"srtp_protect", "srtp_unprotect", "srtp_protect_rtcp", "srtp_unprotect_rtcp"} <= set(dir(lib))


def test_the_certificate() -> None:
    assert parameters(RTCCertificate._create_ssl_context) == ["self", "srtp_profiles"]
    assert "self.__local_certificate._create_ssl_context(" in inspect.getsource(RTCDtlsTransport.start)
    theirs = re.search(r'set_cipher_list\(\s*b"([^"]+)"', inspect.getsource(RTCCertificate._create_ssl_context))
    assert theirs is not None
    assert set(theirs[1].split(":")) <= set(CIPHERS.decode().split(":"))
    identity = certificate()
    assert ("sha-256", identity.fingerprint[1]) == identity.fingerprint
    assert re.fullmatch("([0-9A-F]{2}:){31}[0-9A-F]{2}", identity.fingerprint[1])


async def test_the_dtls_transport() -> None:
    ice = _Ice(Addresses(host="127.0.0.1"), lambda data: None)
    transport = Dtls(certificate(), ice, active=True)
    assert transport._rx_srtp is None
    assert transport._tx_srtp is None
    assert transport.state == "new"
    assert not transport.encrypted
    assert transport._role == "client"
    assert Dtls(certificate(), ice, active=False)._role == "server"
    assert parameters(transport.start) == ["remoteParameters"]
    source = inspect.getsource(aiortc.rtcdtlstransport)
    for line in ("self.transport._recv()", "self.transport._send(data)", 'self.emit("statechange")'):
        assert line in source, line
    used = {word.split("(")[0].split(")")[0] for word in source.split("self.transport.")[1:]}
    assert {name.split()[0].strip(",.:") for name in used} <= {"_recv", "_send", "role"}
    sctp = RTCSctpTransport(transport)
    assert parameters(sctp.start) == ["remoteCaps", "remotePort"]
    assert 'self.emit("datachannel", channel)' in inspect.getsource(RTCSctpTransport)
    assert sctp._inbound_streams == {}
    assert InboundStream().reassembly == []
    assert parameters(sctp._receive_data_chunk) == ["chunk"]
    assert parameters(sctp._get_inbound_stream) == ["stream_id"]
    assert parameters(sctp._data_channel_receive) == ["stream_id", "pp_id", "data"]
    for call in ("self._receive_data_chunk(", "self._get_inbound_stream(", "self._data_channel_receive("):
        assert call in inspect.getsource(RTCSctpTransport), call
    await ice.close()
