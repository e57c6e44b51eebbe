"""Session descriptions (RFC 8866) as they are read and written here: lines and attributes, nothing of their meaning."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

MAX_SDP_BYTES: Final = 32 * 1024
MAX_LINES: Final = 1000
MAX_SECTIONS: Final = 16
MAX_DIGITS: Final = 10  # of a number
MAX_PORT: Final = 65535
MAX_CLOCK_HZ: Final = 192_000


class SdpError(ValueError):
    """Not a description that can be used. `str()` is one line for the peer."""


@dataclass(slots=True)
class Attributes:
    """`a=` lines in their order."""

    lines: list[tuple[str, str]] = field(default_factory=list)

    def __contains__(self, name: str) -> bool:
        return any(name == known for known, _ in self.lines)

    def first(self, name: str) -> str | None:
        return next((value for known, value in self.lines if known == name), None)

    def all(self, name: str) -> list[str]:
        return [value for known, value in self.lines if known == name]


@dataclass(slots=True)
class Media:
    """One `m=` section (RFC 8866, 5.14)."""

    kind: str
    port: int
    profile: str
    formats: tuple[str, ...]
    address: str = ""  # of its own `c=` line
    attributes: Attributes = field(default_factory=Attributes)


@dataclass(slots=True)
class Description:
    origin: str = ""
    address: str = ""
    attributes: Attributes = field(default_factory=Attributes)
    media: list[Media] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Format:
    """An `rtpmap` with its `fmtp` (RFC 8866, 6.6 and 6.15)."""

    payload_type: int
    name: str  # lower case
    clock_hz: int
    channels: int = 1
    parameters: str = ""


STATIC: Final = {0: ("pcmu", 8000), 8: ("pcma", 8000), 9: ("g722", 8000)}
"""Payload types that need no `rtpmap` (RFC 3551, 6)."""


def parse(text: str) -> Description:
    """Raises `SdpError`. Lines that mean nothing here are passed over, as RFC 8866 asks."""
    if len(text) > MAX_SDP_BYTES:
        raise SdpError(f"the description has more than {MAX_SDP_BYTES} bytes")
    lines = text.split("\n")
    if len(lines) > MAX_LINES:
        raise SdpError(f"the description has more than {MAX_LINES} lines")
    found = Description()
    if not lines[0].startswith("v=0"):
        raise SdpError("the description does not begin with v=0")
    for line in lines:
        key, _, value = line.rstrip("\r").partition("=")
        if key == "m":
            if len(found.media) >= MAX_SECTIONS:
                raise SdpError(f"the description has more than {MAX_SECTIONS} media")
            found.media.append(_media(value))
        elif key == "a":
            name, _, rest = value.partition(":")
            (found.media[-1] if found.media else found).attributes.lines.append((name, rest))
        elif key == "c":
            (found.media[-1] if found.media else found).address = _address(value)
        elif key == "o":
            found.origin = value
    return found


def formats(media: Media) -> Iterator[Format]:
    """The section's RTP formats in the order of preference. Those that say nothing sensible are left out."""
    maps, parameters = (
        {number: rest for number, _, rest in (line.partition(" ") for line in media.attributes.all(name))}
        for name in ("rtpmap", "fmtp")
    )
    for number in media.formats:
        payload_type = whole(number, 127)
        if payload_type is None:
            continue
        name, clock, channels, *_ = *maps.get(number, "").split("/"), "", "", ""
        if number not in maps and payload_type in STATIC:
            known, hz = STATIC[payload_type]
            yield Format(payload_type, known, hz)
        elif name and (clock_hz := whole(clock, MAX_CLOCK_HZ)):
            count = int(channels) if channels in ("1", "2") else 1
            yield Format(payload_type, name.lower(), clock_hz, count, parameters.get(number, ""))


def whole(text: str, most: int) -> int | None:
    """A number of at most `most`, if it is one."""
    if not (text.isascii() and text.isdigit() and len(text) <= MAX_DIGITS):
        return None
    number = int(text)
    return number if number <= most else None


def _media(value: str) -> Media:
    kind, port, profile, *numbers = *value.split(), "", "", ""
    at = whole(port.partition("/")[0], MAX_PORT)
    if not kind or not profile or at is None:
        raise SdpError("an m= line is not complete")
    return Media(kind, at, profile, tuple(number for number in numbers if number))


def _address(value: str) -> str:
    parts = value.split()
    return parts[2].partition("/")[0] if len(parts) == 3 and parts[0] == "IN" else ""
