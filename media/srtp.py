"""SRTP by libsrtp (RFC 3711), and its keys as SDP carries them (RFC 4568)."""

import base64
import binascii
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import pylibsrtp
from pylibsrtp import SRTP_MAX_TRAILER_LEN, Policy
from pylibsrtp._binding import ffi, lib

MAX_PACKET_BYTES: Final = 1500
MAX_LINES: Final = 16  # of an offer that are looked at

SUITES: Final = {
    "AES_CM_128_HMAC_SHA1_80": (Policy.SRTP_PROFILE_AES128_CM_SHA1_80, 30),
    "AES_CM_128_HMAC_SHA1_32": (Policy.SRTP_PROFILE_AES128_CM_SHA1_32, 30),
    "AEAD_AES_128_GCM": (Policy.SRTP_PROFILE_AEAD_AES_128_GCM, 28),
    "AEAD_AES_256_GCM": (Policy.SRTP_PROFILE_AEAD_AES_256_GCM, 44),
}
"""libsrtp's profile, and the bytes of key and salt (RFC 4568, 6.2; RFC 7714, 12)."""

_LINE: Final = re.compile(r"(\d{1,9})\s+([A-Za-z0-9_]{1,64})\s+inline:([A-Za-z0-9+/=]{1,128})((?:\|[^\s|]+)*)\s*(.*)")


class SrtpError(ValueError):
    """Not the peer's packet, or no key that can be used."""


@dataclass(frozen=True, slots=True)
class Crypto:
    """An `a=crypto` line: the key with which its sender encrypts."""

    tag: int
    suite: str
    key: bytes = field(repr=False)  # and salt

    @classmethod
    def parse(cls, value: str) -> "Crypto":
        """Raises `SrtpError`, also for what is asked of us and not known here."""
        found = _LINE.fullmatch(value.strip())
        if found is None:
            raise SrtpError("a crypto line that cannot be read")
        tag, suite, key, extras, parameters = found.groups()
        if suite not in SUITES:
            raise SrtpError("a suite that is not known")
        if ":" in extras:  # a lifetime may be there, a key identifier would stand in every packet
            raise SrtpError("key identifiers are not used here")
        if parameters:
            raise SrtpError("session parameters are not known")
        try:
            decoded = base64.b64decode(key, validate=True)
        except binascii.Error:
            raise SrtpError("a key that is no base64") from None
        if len(decoded) != SUITES[suite][1]:
            raise SrtpError("a key of another length than its suite's")
        return cls(int(tag), suite, decoded)

    @classmethod
    def new(cls, tag: int, suite: str) -> "Crypto":
        return cls(tag, suite, secrets.token_bytes(SUITES[suite][1]))

    def __str__(self) -> str:
        return f"{self.tag} {self.suite} inline:{base64.b64encode(self.key).decode()}"


def choose(lines: Sequence[str]) -> Crypto | None:
    """The first of an offer that can be used."""
    for line in lines[:MAX_LINES]:
        try:
            return Crypto.parse(line)
        except SrtpError:
            continue
    return None


class Srtp:
    """Both directions of one leg. RTP goes past pylibsrtp's wrapper, which makes four objects for each packet."""

    def __init__(self, tx: pylibsrtp.Session, rx: pylibsrtp.Session) -> None:
        self._sessions = tx, rx
        self._tx, self._rx = tx._srtp[0], rx._srtp[0]
        self._packet = ffi.new("char[]", MAX_PACKET_BYTES + SRTP_MAX_TRAILER_LEN)
        self._bytes = ffi.buffer(self._packet)
        self._size = ffi.new("int *")

    @classmethod
    def of(cls, ours: Crypto, theirs: Crypto) -> "Srtp":
        return cls(
            _session(ours, Policy.SSRC_ANY_OUTBOUND),
            _session(theirs, Policy.SSRC_ANY_INBOUND),
        )

    def protect(self, packet: bytes) -> bytes:
        """Raises `SrtpError`: the key has served its time."""
        size = self._size
        self._bytes[: len(packet)] = packet
        size[0] = len(packet)
        if lib.srtp_protect(self._tx, self._packet, size):
            raise SrtpError("a packet could not be encrypted")
        return bytes(self._bytes[: size[0]])

    def unprotect(self, packet: bytes) -> bytes:
        """Raises `SrtpError` for what is not the peer's, or came twice."""
        if len(packet) > MAX_PACKET_BYTES:
            raise SrtpError("longer than a packet of the network")
        size = self._size
        self._bytes[: len(packet)] = packet
        size[0] = len(packet)
        if lib.srtp_unprotect(self._rx, self._packet, size):
            raise SrtpError("not the peer's, or a second time")
        return bytes(self._bytes[: size[0]])

    def protect_rtcp(self, packet: bytes) -> bytes:
        return self._sessions[0].protect_rtcp(packet)

    def unprotect_rtcp(self, packet: bytes) -> bytes:
        """Raises `SrtpError`."""
        try:
            return self._sessions[1].unprotect_rtcp(packet)
        except (pylibsrtp.Error, TypeError) as error:
            raise SrtpError("not the peer's, or a second time") from error


def _session(crypto: Crypto, direction: int) -> pylibsrtp.Session:
    profile, _ = SUITES[crypto.suite]
    return pylibsrtp.Session(Policy(key=crypto.key, ssrc_type=direction, srtp_profile=profile))
