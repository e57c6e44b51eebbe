"""DTLS-SRTP by aiortc (RFC 5763, RFC 5764): certificates, the handshake, and the keys that come of it.

The one file that touches the insides of aiortc's DTLS. `tests/webrtc/test_internals.py` names all that is relied on.
"""

import functools
from collections.abc import Sequence
from typing import Final, Protocol, cast

from aiortc import RTCCertificate, RTCDtlsFingerprint, RTCDtlsParameters, RTCDtlsTransport, RTCIceTransport
from aiortc.rtcdtlstransport import SRTPProtectionProfile
from OpenSSL import SSL

from media.srtp import Srtp

MAX_QUEUED: Final = 64  # datagrams that wait to be read
CERTIFICATE_S: Final = 24 * 3600  # then another is made
CIPHERS: Final = b":".join(
    key + cipher
    for cipher in (b"AES128-GCM-SHA256", b"CHACHA20-POLY1305", b"AES128-SHA", b"AES256-SHA")
    for key in (b"ECDHE-ECDSA-", b"ECDHE-RSA-")
)
"""aiortc's own, and the same for peers whose certificate is of RSA, as many telephones' and PBXs' are."""


class HandshakeError(Exception):
    """No keys with this peer. `str()` is one line, and tells nothing secret."""


class Certificate(RTCCertificate):
    """A key and what it is known by."""

    @functools.cached_property
    def fingerprint(self) -> tuple[str, str]:
        """Algorithm and value, as `a=fingerprint` has them (RFC 8122)."""
        found = next(f for f in self.getFingerprints() if f.algorithm == "sha-256")
        return found.algorithm, found.value

    def _create_ssl_context(self, srtp_profiles: list[SRTPProtectionProfile]) -> SSL.Context:
        """One for all peers: making it takes as long as a third of a handshake."""
        profiles = tuple(profile.openssl_profile for profile in srtp_profiles)
        context = self._contexts.get(profiles)
        if context is None:
            context = self._contexts[profiles] = super()._create_ssl_context(srtp_profiles)
            context.set_cipher_list(CIPHERS)
            context.set_session_cache_mode(SSL.SESS_CACHE_OFF)  # no peer resumes another one's
            context.set_mode(SSL.MODE_RELEASE_BUFFERS)  # 7 KB a call: little passes once hands are shaken
        return context

    @functools.cached_property
    def _contexts(self) -> dict[tuple[bytes, ...], SSL.Context]:
        return {}


def certificate() -> Certificate:
    """For all peers of a process; valid for 30 days."""
    return Certificate.generateCertificate()


class Identity:
    """The certificate of a server, another one each day."""

    def __init__(self) -> None:
        self._current: tuple[float, Certificate] | None = None

    def current(self, now_s: float) -> Certificate:
        if self._current is None or now_s - self._current[0] > CERTIFICATE_S:
            self._current = now_s, certificate()
        return self._current[1]


class Way(Protocol):
    """How datagrams come and go. Both raise `ConnectionError` once there is no way any more."""

    async def recv(self) -> bytes:
        """Those of DTLS only: the first byte is 20 to 63 (RFC 7983, 7)."""
        ...

    async def send(self, data: bytes) -> None: ...


class Dtls(RTCDtlsTransport):
    """One association: `handshake`, then `stop` in any case."""

    def __init__(self, identity: Certificate, way: Way, *, active: bool) -> None:
        """`active`: we begin the handshake."""
        super().__init__(cast(RTCIceTransport, _Transport(way)), [identity])
        self._set_role("client" if active else "server")

    async def handshake(self, fingerprints: Sequence[tuple[str, str]]) -> Srtp:
        """With the peer whose certificate has these. Raises `HandshakeError`; without a limit of time of its own."""
        await self.start(RTCDtlsParameters([RTCDtlsFingerprint(*fingerprint) for fingerprint in fingerprints]))
        if self.state != "connected":
            strange = "the certificate is not the announced one, or no SRTP is in common"
            raise HandshakeError(f"the DTLS handshake failed: {strange if self.encrypted else 'no agreement'}")
        return Srtp(self._tx_srtp, self._rx_srtp)


class _Transport:
    """What aiortc's DTLS needs of its ICE transport."""

    def __init__(self, way: Way) -> None:
        self._recv = way.recv
        self._send = way.send
        self.role = "controlled"
