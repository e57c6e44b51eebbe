"""Offer and answer for one audio stream (RFC 3264), either way, again and again through a call.

Pure: it reads and writes descriptions and says what was agreed. One audio section counts; others are declined.
"""

import ipaddress
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final, TypedDict

from media import sdp
from media.audio import FRAME_MS
from media.codec import Codec, Pcma, Pcmu
from media.g722 import G722
from media.linear import L16, L16Wide
from media.opus import Opus, available
from media.sdp import Format, SdpError
from media.srtp import Crypto, choose

MAX_PACKET_MS: Final = 60
MIN_PACKET_MS: Final = 10
MAX_ASKED_MS: Final = 9999  # what means more is not meant
EVENTS: Final = "telephone-event"
FIRST_DYNAMIC: Final = 96
DEFAULT_CODECS: Final = ("opus", "g722", "pcmu", "pcma", "l16")
"""What is offered, in this order; of an offer the first that is among them is taken (RFC 3264, 6.1)."""

_MAKERS: Final[Mapping[tuple[str, int], Callable[[], Codec]]] = {
    ("opus", 48_000): Opus,
    ("g722", 8000): G722,
    ("pcmu", 8000): Pcmu,
    ("pcma", 8000): Pcma,
    ("l16", 16_000): L16Wide,
    ("l16", 8000): L16,
}
_STATIC: Final = {name: number for number, (name, _) in sdp.STATIC.items()}
_PARAMETERS: Final = {"opus": "minptime=10;useinbandfec=1", EVENTS: "0-15"}
_PROFILES: Final = ("RTP/AVP", "RTP/AVPF", "RTP/SAVP", "RTP/SAVPF", "UDP/TLS/RTP/SAVP", "UDP/TLS/RTP/SAVPF")
_OPPOSITE: Final = {"sendrecv": "sendrecv", "sendonly": "recvonly", "recvonly": "sendonly", "inactive": "inactive"}
_NOBODY: Final = ("0.0.0.0", "::")  # noqa: S104  # how RFC 2543 said hold


class Security(StrEnum):
    """How SRTP is to be used."""

    off = "off"
    optional = "optional"  # where the peer offers it
    required = "required"


class Keying(StrEnum):
    """How SRTP gets its keys, where we offer first."""

    none = "none"  # plain RTP
    sdes = "sdes"  # in the descriptions (RFC 4568)
    dtls = "dtls"  # by a handshake (RFC 5763)


OFFERED_SUITE: Final = "AES_CM_128_HMAC_SHA1_80"
_OFFERED: Final = {Keying.none: "RTP/AVP", Keying.sdes: "RTP/SAVP", Keying.dtls: "UDP/TLS/RTP/SAVP"}


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """Of a certificate for DTLS (RFC 8122), and who begins."""

    algorithm: str
    value: str
    active: bool  # that side begins the handshake


class _Place(TypedDict):
    host: str
    port: int
    mux: bool
    report_port: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreed:
    """What both sides have said. Equal ones need no change of what runs."""

    host: str
    port: int
    report_port: int  # of RTCP; the same with `mux`
    mux: bool
    codec: Format  # in the peer's numbers: what we send
    receive_type: int  # in ours
    event_types: frozenset[int]  # that the peer may send
    digit_type: int | None  # that we may send
    sends: bool  # we may
    hears: bool
    packet_ms: int
    ours: Crypto | None = None
    theirs: Crypto | None = None
    fingerprint: Fingerprint | None = None  # the peer's

    def new_codec(self) -> Codec:
        return _MAKERS[self.codec.name, self.codec.clock_hz]()


@dataclass(frozen=True, slots=True)
class Local:
    """Our side of the media."""

    host: str
    port: int
    report_port: int
    fingerprint: tuple[str, str] | None = None  # of our certificate, where DTLS may be used
    peer: str = ""  # the address that the peer's signalling comes from, where it is known


class Negotiation:
    """One for a leg. A method that raises `SdpError` changes nothing."""

    def __init__(
        self,
        local: Local,
        codecs: Sequence[str] = DEFAULT_CODECS,
        security: Security = Security.optional,
        keying: Keying | None = None,
    ) -> None:
        """`keying`: what we offer first; None: as `security` says. What asks for keys is never done without them."""
        if keying is None:
            keying = Keying.sdes if security is Security.required else Keying.none
        assert keying is not Keying.dtls or local.fingerprint is not None
        self.agreed: Agreed | None = None
        self._local = local
        self._codecs = codecs
        self._security = security if keying is Keying.none else Security.required
        self._keying = keying
        self._id = secrets.randbelow(1 << 62)
        self._version = secrets.randbelow(1 << 30)
        self._last: list[str] = []  # of the description sent last, without its version
        self._offered: list[Format] = []
        self._crypto: Crypto | None = None  # ours, as offered last
        self._offered_setup = ""  # who begins the DTLS handshake, as offered last; empty: none
        self._profile = "RTP/AVP"  # of the audio, as it stands

    # The peer offers

    def answer(self, text: str) -> str:
        """Raises `SdpError` where there is nothing in common."""
        described = sdp.parse(text)
        index, media = self._section(described)
        found = [f for f in sdp.formats(media) if self._known(f)]
        if not found:
            raise SdpError("no codec in common")
        codec = found[0]
        if self.agreed is not None:  # what runs goes on, where it still may
            codec = next((f for f in found if f == self.agreed.codec), codec)
        events = _events(media, codec)
        theirs = self._chosen_crypto(media)
        place = _address(described, media)
        open_way = self._reaches(place["host"])
        fingerprint = self._fingerprint(described, media, open_way=open_way) if theirs is None else None
        if "SAVP" in media.profile and theirs is None and fingerprint is None:
            raise SdpError("no key for SRTP that can be used")
        if self._security is Security.required and theirs is None and fingerprint is None:
            raise SdpError("SRTP is required here")
        direction = _direction(described, media)
        ours = self._our_key(theirs)
        agreed = Agreed(
            **place,
            codec=codec,
            receive_type=codec.payload_type,
            event_types=frozenset(f.payload_type for f in events),
            digit_type=events[0].payload_type if events else None,
            sends="recv" in direction,
            hears="send" in direction,
            packet_ms=_packet_ms(media, codec),
            ours=ours,
            theirs=theirs,
            fingerprint=fingerprint,
        )
        formats = [codec, *events[:1]]
        answer = []
        for at, section in enumerate(described.media):
            if at == index:
                setup = ("passive" if fingerprint.active else "active") if fingerprint is not None else ""
                opposite = _OPPOSITE[direction]
                answer += self._audio(media.profile, formats, opposite, agreed, mux=agreed.mux, setup=setup)
            else:
                answer.append(f"m={section.kind} 0 {section.profile} {' '.join(section.formats[:1]) or '0'}")
        self.agreed = agreed
        self._profile = media.profile
        return self._written(answer)

    def _section(self, described: sdp.Description) -> tuple[int, sdp.Media]:
        for at, media in enumerate(described.media):
            if media.kind == "audio" and media.port and media.profile.upper() in _PROFILES:
                return at, media
        raise SdpError("no audio that can be used")

    def _chosen_crypto(self, media: sdp.Media) -> Crypto | None:
        usable = self._security is not Security.off and not media.profile.upper().startswith("UDP/TLS/")
        return choose(media.attributes.all("crypto")) if usable else None

    def _fingerprint(self, described: sdp.Description, media: sdp.Media, *, open_way: bool) -> Fingerprint | None:
        """The peer's. Who began stays the same as long as the peer leaves it open (RFC 8842, 5.5).

        `open_way`: where it leaves that open, we begin; else the peer has to.
        """
        if self._local.fingerprint is None or self._security is Security.off:
            return None
        found, setup = _fingerprint(described, media), _setup(described, media)
        if found is None or setup in ("active", "passive"):
            return found
        before = self.agreed.fingerprint if self.agreed is not None else None
        if before is not None and (before.algorithm, before.value) == (found.algorithm, found.value):
            return before
        return replace(found, active=not open_way)

    def _reaches(self, host: str) -> bool:
        """Whether a handshake that we begin finds its way.

        We begin where the peer leaves it open (RFC 5763, 5), but not where it names an inner address and is seen with
        another one: then its own packets have to open the way (RFC 4961).
        """
        return not self._local.peer or host == self._local.peer or _is_global(host)

    def _our_key(self, theirs: Crypto | None) -> Crypto | None:
        """It stays through re-INVITEs as long as theirs does: a key must not begin to count anew."""
        if theirs is None:
            return None
        before = self.agreed
        if before is not None and before.ours is not None and before.theirs == theirs:
            return before.ours
        return Crypto.new(theirs.tag, theirs.suite)

    # We offer

    def offer(self) -> str:
        """All that we can do, or what runs already."""
        if self.agreed is not None:
            agreed = self.agreed
            number = agreed.receive_type
            formats = [replace(agreed.codec, payload_type=number)]
            formats += [Format(min(agreed.event_types), EVENTS, agreed.codec.clock_hz)] if agreed.event_types else []
            self._crypto = agreed.ours
            profile = self._profile
            setup = "actpass" if agreed.fingerprint is not None else ""
        else:
            formats = self._all_formats()
            self._crypto = Crypto.new(1, OFFERED_SUITE) if self._keying is Keying.sdes else None
            profile = _OFFERED[self._keying]
            setup = "actpass" if self._keying is Keying.dtls else ""
        self._offered, self._profile, self._offered_setup = formats, profile, setup
        return self._written(self._audio(profile, formats, "sendrecv", None, mux=True, setup=setup))

    def answered(self, text: str) -> None:
        """The answer to our offer. Raises `SdpError`."""
        described = sdp.parse(text)
        _, media = self._section(described)
        by_name = {(f.name, f.clock_hz): f for f in self._offered}
        found = [f for f in sdp.formats(media) if (f.name, f.clock_hz) in by_name and f.name != EVENTS]
        if not found:
            raise SdpError("no codec in common")
        codec = found[0]
        ours = by_name[codec.name, codec.clock_hz]
        theirs_events = _events(media, codec)
        our_events = [f for f in self._offered if f.name == EVENTS and f.clock_hz == codec.clock_hz]
        theirs = None
        if self._crypto is not None:
            theirs = choose(media.attributes.all("crypto"))
            if theirs is None or theirs.suite != self._crypto.suite:
                raise SdpError("no key for SRTP that can be used")
        fingerprint = self._fingerprint(described, media, open_way=True) if self._offered_setup else None
        if self._offered_setup and fingerprint is None:
            raise SdpError("no certificate for SRTP that can be used")
        direction = _direction(described, media)
        self.agreed = Agreed(
            **_address(described, media),
            codec=codec,
            receive_type=ours.payload_type,
            event_types=frozenset(f.payload_type for f in our_events) if theirs_events else frozenset(),
            digit_type=theirs_events[0].payload_type if theirs_events else None,
            sends="recv" in direction,
            hears="send" in direction,
            packet_ms=_packet_ms(media, codec),
            ours=self._crypto,
            theirs=theirs,
            fingerprint=fingerprint,
        )

    def _all_formats(self) -> list[Format]:
        formats = []
        number = FIRST_DYNAMIC
        for name, clock_hz in ((name, hz) for wanted in self._codecs for name, hz in _MAKERS if name == wanted):
            if name == "opus" and not available():
                continue
            static = _STATIC.get(name)
            formats.append(Format(number if static is None else static, name, clock_hz, 2 if name == "opus" else 1))
            number += static is None
        for clock_hz in dict.fromkeys(f.clock_hz for f in formats):
            formats.append(Format(number, EVENTS, clock_hz))
            number += 1
        return formats

    def _known(self, found: Format) -> bool:
        makeable = (found.name, found.clock_hz) in _MAKERS and found.name in self._codecs
        mono = found.channels == 1 or found.name == "opus"
        return makeable and mono and (found.name != "opus" or available())

    # Writing

    def _audio(
        self, profile: str, formats: Sequence[Format], direction: str, agreed: Agreed | None, *, mux: bool, setup: str
    ) -> list[str]:
        local = self._local
        lines = [f"m=audio {local.port} {profile} {' '.join(str(f.payload_type) for f in formats)}"]
        for f in formats:
            name = f.name if f.name in ("opus", EVENTS) else f.name.upper()
            lines.append(f"a=rtpmap:{f.payload_type} {name}/{f.clock_hz}{f'/{f.channels}' if f.channels > 1 else ''}")
            parameters = _PARAMETERS.get(f.name)
            lines += [f"a=fmtp:{f.payload_type} {parameters}"] if parameters else []
        crypto = agreed.ours if agreed is not None else self._crypto
        if crypto is not None:
            lines.append(f"a=crypto:{crypto}")
        elif setup and local.fingerprint is not None:
            lines += [f"a=fingerprint:{local.fingerprint[0]} {local.fingerprint[1]}", f"a=setup:{setup}"]
        packet_ms = agreed.packet_ms if agreed is not None else FRAME_MS
        lines += [f"a=ptime:{packet_ms}", f"a=maxptime:{MAX_PACKET_MS}", f"a={direction}"]
        if not mux or agreed is None:
            lines.append(f"a=rtcp:{local.report_port}")
        return [*lines, "a=rtcp-mux"] if mux else lines

    def _written(self, sections: list[str]) -> str:
        """Another version where anything changed (RFC 3264, 8)."""
        if sections != self._last:
            self._version += 1
            self._last = sections
        kind = "IP6" if ":" in self._local.host else "IP4"
        head = [
            "v=0",
            f"o=voicegate {self._id} {self._version} IN {kind} {self._local.host}",
            "s=-",
            f"c=IN {kind} {self._local.host}",
            "t=0 0",
        ]
        return "\r\n".join([*head, *sections]) + "\r\n"


def _events(media: sdp.Media, codec: Format) -> list[Format]:
    """Of the codec's clock first; some offer only the one of 8 kHz."""
    found = [f for f in sdp.formats(media) if f.name == EVENTS]
    return sorted(found, key=lambda f: f.clock_hz != codec.clock_hz)


def _direction(described: sdp.Description, media: sdp.Media) -> str:
    """The peer's."""
    for attributes in (media.attributes, described.attributes):
        for name in _OPPOSITE:
            if name in attributes:
                return "inactive" if name == "inactive" else _not_nobody(described, media, name)
    return _not_nobody(described, media, "sendrecv")


def _not_nobody(described: sdp.Description, media: sdp.Media, direction: str) -> str:
    """Nobody can be sent to an address of zeros (RFC 3264, 8.4)."""
    if (media.address or described.address) not in _NOBODY:
        return direction
    return {"sendrecv": "sendonly", "recvonly": "inactive"}.get(direction, direction)


def _address(described: sdp.Description, media: sdp.Media) -> _Place:
    host = media.address or described.address
    if not host:
        raise SdpError("no address for the audio")
    mux = "rtcp-mux" in media.attributes
    said = (media.attributes.first("rtcp") or "").split()
    port = (sdp.whole(said[0], sdp.MAX_PORT) if said else None) or 0
    report_port = media.port if mux else port or min(media.port + 1, sdp.MAX_PORT)
    return {"host": host, "port": media.port, "mux": mux, "report_port": report_port}


def _packet_ms(media: sdp.Media, codec: Format) -> int:
    """What the peer wants to get (RFC 8866, 6.4), within what it and we can do."""
    asked = (media.attributes.first("ptime") or "").partition(".")[0]
    most = (media.attributes.first("maxptime") or "").partition(".")[0]
    wanted_ms = sdp.whole(asked, MAX_ASKED_MS)
    wanted_ms = min(FRAME_MS if wanted_ms is None else wanted_ms, sdp.whole(most, MAX_ASKED_MS) or MAX_ASKED_MS)
    if codec.name == "opus":
        return FRAME_MS
    return min(max(wanted_ms // 10 * 10, MIN_PACKET_MS), MAX_PACKET_MS)


def _fingerprint(described: sdp.Description, media: sdp.Media) -> Fingerprint | None:
    """The first that can be used: there may be one for each algorithm (RFC 8122, 5)."""
    for line in media.attributes.all("fingerprint") or described.attributes.all("fingerprint"):
        algorithm, _, value = line.strip().partition(" ")
        if algorithm.lower() in ("sha-256", "sha-384", "sha-512") and value:
            return Fingerprint(algorithm.lower(), value.strip().upper(), _setup(described, media) == "active")
    return None


def _setup(described: sdp.Description, media: sdp.Media) -> str:
    found = media.attributes.first("setup") or described.attributes.first("setup") or "actpass"
    return found.strip().lower()


def _is_global(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_global
    except ValueError:
        return False
