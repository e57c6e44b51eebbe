"""A browser's offer, what we take of it, and the answer (RFC 8829, RFC 8839, RFC 8841, RFC 8842)."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from media import sdp
from media.codec import Codec, Pcma, Pcmu
from media.opus import Opus, available
from media.sdp import SdpError
from media.webrtc.peer import MAX_MESSAGE_BYTES, Peer, Remote

MAX_FRAGMENT_BYTES: Final = 8 * 1024
MAX_FINGERPRINTS: Final = 8
MAX_FRAGMENT_CANDIDATES: Final = 50
SCTP_PORT: Final = 5000

_UFRAG = re.compile(r"[A-Za-z0-9+/]{4,256}")
_PASSWORD = re.compile(r"[A-Za-z0-9+/]{22,256}")
_FINGERPRINT = re.compile(r"(sha-(?:256|384|512)) ([0-9A-Fa-f]{2}(?::[0-9A-Fa-f]{2}){31,63})", re.IGNORECASE)
_MID = re.compile(r"[\x21-\x7e]{1,32}")
_REVERSED: Final = {"sendrecv": "sendrecv", "sendonly": "recvonly", "recvonly": "sendonly", "inactive": "inactive"}

CODECS: Final[dict[str, Callable[[], Codec]]] = {"opus": Opus, "pcmu": Pcmu, "pcma": Pcma}
PARAMETERS: Final = {"opus": "minptime=10;useinbandfec=1;usedtx=1"}
"""In silence the peer may send next to nothing (RFC 7587, 7)."""


class IceRestart(SdpError):
    """The peer wants to go on with new ICE parameters. It is to make a new offer with its resume token."""


@dataclass(frozen=True, slots=True)
class Section:
    """One of the offer's media, in its place."""

    kind: str
    profile: str
    formats: tuple[str, ...]
    mid: str
    taken: bool


@dataclass(frozen=True, slots=True)
class Offer:
    remote: Remote
    candidates: tuple[str, ...]
    sections: tuple[Section, ...]
    codec: sdp.Format
    event_types: tuple[sdp.Format, ...]  # RFC 4733
    direction: str  # ours

    def new_codec(self) -> Codec:
        return CODECS[self.codec.name]()


def read(text: str) -> Offer:
    """Raises `SdpError` with what the peer should change."""
    description = sdp.parse(text)
    audio = next((m for m in description.media if m.kind == "audio" and m.port), None)
    if audio is None:
        raise SdpError("the offer has no audio")
    if "rtcp-mux" not in audio.attributes:
        raise SdpError("the audio needs a=rtcp-mux")
    if "SAVP" not in audio.profile:
        raise SdpError("the audio needs SRTP")
    formats = list(sdp.formats(audio))
    codec = next((f for f in formats if _known(f)), None)
    if codec is None:
        raise SdpError(f"the audio has none of the codecs {', '.join(_names())}")
    bundle = _bundle(description)
    mid = _mid(audio)
    channel = next((m for m in description.media if _is_channel(m) and _mid(m) in bundle and mid in bundle), None)
    taken = [media for media in (audio, channel) if media is not None]
    return Offer(
        _remote(description, audio, channel),
        tuple(line for media in taken for line in media.attributes.all("candidate")),
        tuple(Section(m.kind, m.profile, m.formats, _mid(m), m in taken) for m in description.media),
        codec,
        tuple(f for f in formats if f.name == "telephone-event" and f.clock_hz == codec.clock_hz),
        _REVERSED[next((name for name in _REVERSED if name in audio.attributes), "sendrecv")],
    )


def answer(offer: Offer, peer: Peer, ssrc: int, cname: str) -> str:
    """Everything is bundled on the one transport, and all of our candidates are in it."""
    algorithm, fingerprint = peer.fingerprint
    taken = " ".join(section.mid for section in offer.sections if section.taken)
    lines = ["v=0", "o=- 1 1 IN IP4 0.0.0.0", "s=-", "t=0 0", f"a=group:BUNDLE {taken}", "a=ice-options:trickle"]
    for section in offer.sections:
        if not section.taken:
            lines += [f"m={section.kind} 0 {section.profile} {' '.join(section.formats)}", "c=IN IP4 0.0.0.0"]
            lines += [f"a=mid:{section.mid}"] if section.mid else []
            continue
        formats = [offer.codec, *offer.event_types] if section.kind == "audio" else []
        numbers = " ".join(str(f.payload_type) for f in formats) or "webrtc-datachannel"
        lines += [f"m={section.kind} 9 {section.profile} {numbers}", "c=IN IP4 0.0.0.0", f"a=mid:{section.mid}"]
        lines += [f"a=ice-ufrag:{peer.ufrag}", f"a=ice-pwd:{peer.password}", f"a=fingerprint:{algorithm} {fingerprint}"]
        lines += [f"a=setup:{'active' if peer.active else 'passive'}"]
        lines += _audio(offer, formats, ssrc, cname) if section.kind == "audio" else _channel()
        lines += [*(f"a=candidate:{candidate}" for candidate in peer.candidates), "a=end-of-candidates"]
    return "\r\n".join(lines) + "\r\n"


def fragment(text: str, ufrag: str) -> list[str]:
    """Candidates that come later (RFC 8840, 9; RFC 9725, 4.3.2). Raises `SdpError`, `IceRestart`."""
    if len(text) > MAX_FRAGMENT_BYTES:
        raise SdpError(f"the fragment has more than {MAX_FRAGMENT_BYTES} bytes")
    found = []
    for line in text.splitlines():
        name, _, value = line.removeprefix("a=").partition(":")
        if name == "ice-ufrag" and value.strip() != ufrag:
            raise IceRestart("ICE is not restarted here: make a new offer with the resume token")
        if name == "candidate":
            found.append(value)
    if len(found) > MAX_FRAGMENT_CANDIDATES:
        raise SdpError(f"the fragment has more than {MAX_FRAGMENT_CANDIDATES} candidates")
    return found


def _known(found: sdp.Format) -> bool:
    if found.name == "opus":
        return available() and found.clock_hz == Opus.clock_hz
    return found.name in CODECS and found.clock_hz == Pcmu.clock_hz


def _names() -> list[str]:
    return [name for name in CODECS if name != "opus" or available()]


def _mid(media: sdp.Media) -> str:
    mid = media.attributes.first("mid") or ""
    if mid and not _MID.fullmatch(mid):
        raise SdpError("a mid has characters that it may not have")
    return mid


def _bundle(description: sdp.Description) -> set[str]:
    groups = (line.split() for line in description.attributes.all("group"))
    return {mid for group in groups if group[:1] == ["BUNDLE"] for mid in group[1:]}


def _is_channel(media: sdp.Media) -> bool:
    return media.kind == "application" and bool(media.port) and media.formats == ("webrtc-datachannel",)


def _remote(description: sdp.Description, audio: sdp.Media, channel: sdp.Media | None) -> Remote:
    def value(name: str) -> str:
        found = audio.attributes.first(name)
        return (found if found is not None else description.attributes.first(name) or "").strip()

    ufrag, password = value("ice-ufrag"), value("ice-pwd")
    if not _UFRAG.fullmatch(ufrag) or not _PASSWORD.fullmatch(password):
        raise SdpError("the audio has no proper ice-ufrag and ice-pwd")
    lines = audio.attributes.all("fingerprint") or description.attributes.all("fingerprint")
    fingerprints = [match.groups() for match in map(_FINGERPRINT.fullmatch, map(str.strip, lines)) if match]
    if not 0 < len(fingerprints) <= MAX_FINGERPRINTS:
        raise SdpError("the audio has no proper fingerprint of SHA-256 or better")
    port, size = 0, MAX_MESSAGE_BYTES
    if channel is not None:
        port = _number(channel.attributes.first("sctp-port"), SCTP_PORT, 65535)
        size = _number(channel.attributes.first("max-message-size"), MAX_MESSAGE_BYTES, 1 << 30)
    return Remote(
        ufrag=ufrag,
        password=password,
        fingerprints=tuple((algorithm.lower(), digest.upper()) for algorithm, digest in fingerprints),
        active=value("setup") == "active",
        lite="ice-lite" in description.attributes,
        sctp_port=port,
        max_message_bytes=size,
    )


def _number(text: str | None, default: int, most: int) -> int:
    text = (text or "").strip()
    return int(text) if text.isascii() and text.isdigit() and len(text) < 12 and int(text) <= most else default


def _audio(offer: Offer, formats: list[sdp.Format], ssrc: int, cname: str) -> list[str]:
    lines = [f"a={offer.direction}", "a=rtcp-mux", "a=ptime:20"]
    for f in formats:
        name = "opus" if f.name == "opus" else f.name.upper() if f.name in CODECS else f.name
        lines.append(f"a=rtpmap:{f.payload_type} {name}/{f.clock_hz}{f'/{f.channels}' if f.channels > 1 else ''}")
        parameters = PARAMETERS.get(f.name, "0-15" if f.name == "telephone-event" else "")
        lines += [f"a=fmtp:{f.payload_type} {parameters}"] if parameters else []
    if offer.direction.startswith("send"):
        lines += [f"a=msid:{cname} agent", f"a=ssrc:{ssrc} cname:{cname}"]
    return lines


def _channel() -> list[str]:
    return [f"a=sctp-port:{SCTP_PORT}", f"a=max-message-size:{MAX_MESSAGE_BYTES}"]
