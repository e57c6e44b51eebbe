"""SRTP by libsrtp (RFC 3711), and its keys as SDP carries them (RFC 4568)."""

import base64
import binascii
import re
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import pylibsrtp
from pylibsrtp import SRTP_MAX_SRTCP_TRAILER_LEN, Policy
from pylibsrtp._binding import ffi, lib

MAX_PACKET_BYTES: Final = 1500
MAX_SOURCES: Final = 64  # of one peer: libsrtp keeps a context for each, for ever
MAX_LINES: Final = 16  # of an offer that are looked at
MAX_LINE_CHARS: Final = 512

SUITES: Final[Mapping[str, tuple[int, int]]] = {
    "AES_CM_128_HMAC_SHA1_80": (Policy.SRTP_PROFILE_AES128_CM_SHA1_80, 30),
    "AES_CM_128_HMAC_SHA1_32": (Policy.SRTP_PROFILE_AES128_CM_SHA1_32, 30),
    "AEAD_AES_128_GCM": (Policy.SRTP_PROFILE_AEAD_AES_128_GCM, 28),
    "AEAD_AES_256_GCM": (Policy.SRTP_PROFILE_AEAD_AES_256_GCM, 44),
}
"""libsrtp's profile, and the bytes of key and salt (RFC 4568, 6.2; RFC 7714, 12)."""

_LINE: Final = re.compile(
    r"([0-9]{1,9})\s+(\w{1,64})\s+inline:([A-Za-z0-9+/=]{1,128})((?:\|[^\s|]+)*)(\s.*)?",
    re.ASCII | re.DOTALL | re.IGNORECASE,
)
_HARMLESS: Final = ("-", "WSH=")  # may be ignored (RFC 4568, 6.3.7); a hint for a window that is wide enough here


class SrtpError(ValueError):
    """Not the peer's packet, or no key that can be used."""


@dataclass(frozen=True, slots=True)
class Crypto:
    """An `a=crypto` line: the key with which its sender encrypts."""

    tag: int
    suite: str
    key: bytes = field(repr=False)  # and salt

    def __post_init__(self) -> None:
        """Raises `SrtpError`."""
        if self.suite not in SUITES:
            raise SrtpError("a suite that is not known")
        if len(self.key) != SUITES[self.suite][1]:
            raise SrtpError("a key of another length than its suite's")

    @classmethod
    def parse(cls, value: str) -> "Crypto":
        """Raises `SrtpError`, also for what is asked of us and not known here. How long the key may live is ignored."""
        found = _LINE.fullmatch(value.strip()) if len(value) <= MAX_LINE_CHARS else None
        if found is None:
            raise SrtpError("a crypto line that cannot be read")
        tag, suite, key, extras, parameters = found.groups(default="")
        if ":" in extras:  # a key identifier would stand in every packet
            raise SrtpError("key identifiers are not used here")
        if not all(parameter.upper().startswith(_HARMLESS) for parameter in parameters.split()):
            raise SrtpError("session parameters are not known")
        try:  # some leave out the padding
            decoded = base64.b64decode(key.rstrip("=") + "=" * (-len(key.rstrip("=")) % 4), validate=True)
        except binascii.Error:
            raise SrtpError("a key that is no base64") from None
        return cls(int(tag), suite.upper(), decoded)

    @classmethod
    def new(cls, tag: int, suite: str) -> "Crypto":
        """With a key by chance. Raises `SrtpError`."""
        if suite not in SUITES:
            raise SrtpError("a suite that is not known")
        return cls(tag, suite, secrets.token_bytes(SUITES[suite][1]))

    def __str__(self) -> str:
        """With the key."""
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
    """Both directions of one leg; one thread. Past pylibsrtp's wrapper, which makes four objects for each packet."""

    def __init__(self, tx: pylibsrtp.Session, rx: pylibsrtp.Session) -> None:
        self._keep = tx, rx
        self._tx, self._rx = tx._srtp[0], rx._srtp[0]
        self._packet = ffi.new("char[]", MAX_PACKET_BYTES + SRTP_MAX_SRTCP_TRAILER_LEN)
        self._bytes = ffi.buffer(self._packet)
        self._size = ffi.new("int *")
        self._sources: set[bytes] = set()  # that proved to have the key

    @classmethod
    def of(cls, ours: Crypto, theirs: Crypto) -> "Srtp":
        return cls(_session(ours, Policy.SSRC_ANY_OUTBOUND), _session(theirs, Policy.SSRC_ANY_INBOUND))

    def protect(self, packet: bytes) -> bytes:
        """Raises `SrtpError` where it is no packet, is too long, or its number was used before."""
        return self._through(lib.srtp_protect, self._tx, packet)

    def protect_rtcp(self, packet: bytes) -> bytes:
        """Raises `SrtpError` where it is no packet, or is too long."""
        return self._through(lib.srtp_protect_rtcp, self._tx, packet)

    def unprotect(self, packet: bytes) -> bytes:
        """Raises `SrtpError` for what is not the peer's, or came twice."""
        return self._open(lib.srtp_unprotect, packet, packet[8:12])

    def unprotect_rtcp(self, packet: bytes) -> bytes:
        """Raises `SrtpError` for what is not the peer's, or came twice."""
        return self._open(lib.srtp_unprotect_rtcp, packet, packet[4:8])

    def _open(self, function: Callable[[Any, Any, Any], int], packet: bytes, source: bytes) -> bytes:
        if source in self._sources:
            return self._through(function, self._rx, packet)
        if len(self._sources) >= MAX_SOURCES:
            raise SrtpError("more sources than anybody has")
        opened = self._through(function, self._rx, packet)
        self._sources.add(source)
        return opened

    def _through(self, function: Callable[[Any, Any, Any], int], session: Any, packet: bytes) -> bytes:
        if len(packet) > MAX_PACKET_BYTES:
            raise SrtpError("longer than a packet of the network")
        size = self._size
        self._bytes[: len(packet)] = packet
        size[0] = len(packet)
        if code := function(session, self._packet, size):
            raise SrtpError(f"libsrtp refuses a packet: error {code}")
        return bytes(self._bytes[: size[0]])


def _session(crypto: Crypto, direction: int) -> pylibsrtp.Session:
    profile, _ = SUITES[crypto.suite]
    return pylibsrtp.Session(Policy(key=crypto.key, ssrc_type=direction, srtp_profile=profile))
