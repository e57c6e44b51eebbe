"""What messages carry: session descriptions, digits, and the progress of a transfer."""

import re
from typing import Final

from media.sip import message as sip
from media.sip.message import Message

SDP: Final = "application/sdp"
DTMF_RELAY: Final = "application/dtmf-relay"
DTMF: Final = "application/dtmf"
FRAGMENT: Final = "message/sipfrag"  # RFC 3420
MAX_PARTS: Final = 8
MAX_DEPTH: Final = 3  # of parts within parts
MAX_BOUNDARY_CHARS: Final = 70  # RFC 2046, 5.1.1
MIN_DIGIT_MS: Final = 40
MAX_DIGIT_MS: Final = 10_000
DIGIT_MS: Final = 160  # where nothing is said

_BLANK: Final = re.compile(rb"\r?\n\r?\n")
_KIND: Final = re.compile(rb"(?im)^(?:content-type|c)[ \t]*:(.*(?:\n[ \t].*)*)")


class Unsupported(ValueError):
    """A body that means nothing here."""


def description(message: Message) -> str:
    """The session description, also as one part of several (RFC 5621, 3); empty: none. Raises `Unsupported`."""
    if not message.body.strip():
        return ""
    kind = sip.content_type(message)
    if kind != SDP and not kind.startswith("multipart/"):
        raise Unsupported(kind)
    found = _part(message.headers.get("Content-Type") or "", message.body, MAX_DEPTH)
    return (found or b"").decode("utf-8", "replace")


def _part(kind: str, body: bytes, depth: int) -> bytes | None:
    """The first session description in a body of this Content-Type."""
    name, _, said = kind.partition(";")
    name = name.strip().lower()
    if name == SDP:
        return body
    if not name.startswith("multipart/") or not depth:
        return None
    try:
        boundary = sip.parameters_of(said).get("boundary") or ""
    except sip.MessageError:
        return None
    if not 0 < len(boundary) <= MAX_BOUNDARY_CHARS:
        return None
    delimiter = rb"\r?\n--" + re.escape(boundary.encode()) + rb"(?:--|[ \t]*(?=\r?\n))"
    for part in re.split(delimiter, b"\n" + body, maxsplit=MAX_PARTS)[1:]:
        blank = _BLANK.search(part)
        typed = _KIND.search(part, 0, blank.start()) if blank else None
        if blank and typed:
            found = _part(typed[1].decode("latin-1"), part[blank.end() :], depth - 1)
            if found is not None:
                return found
    return None


def digit(message: Message) -> tuple[str, int] | None:
    """The key of an INFO and how long it was pressed, in ms; None where it is about something else."""
    kind = sip.content_type(message)
    text = message.body.decode("ascii", "replace")
    if kind == DTMF_RELAY:
        signal = re.search(r"(?im)^[ \t]*signal[ \t]*=[ \t]*([0-9A-D*#]|1[01])[ \t]*\r?$", text)
        lasted = re.search(r"(?im)^[ \t]*duration[ \t]*=[ \t]*([0-9]{1,6})", text)
    elif kind == DTMF:
        signal, lasted = re.fullmatch(r"(?i)\s*([0-9A-D*#]|1[01])\s*", text), None
    else:
        return None
    if signal is None:
        return None
    key = {"10": "*", "11": "#"}.get(signal[1], signal[1].upper())
    duration_ms = int(lasted[1]) if lasted else DIGIT_MS
    return key, min(max(duration_ms, MIN_DIGIT_MS), MAX_DIGIT_MS)


def fragment(message: Message) -> int | None:
    """The status code that a NOTIFY about a transfer tells (RFC 3515, 2.4.5)."""
    found = re.match(rb"SIP/2\.0\s+([1-6]\d\d)", message.body)
    return int(found[1]) if found and sip.content_type(message) == FRAGMENT else None
