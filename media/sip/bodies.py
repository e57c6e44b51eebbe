"""What messages carry: session descriptions, digits, and the progress of a transfer."""

import email.parser
import email.policy
import re
from typing import Final

from media.sip import message as sip
from media.sip.message import Message

SDP: Final = "application/sdp"
DTMF_RELAY: Final = "application/dtmf-relay"
DTMF: Final = "application/dtmf"
FRAGMENT: Final = "message/sipfrag"  # RFC 3420
MAX_PARTS: Final = 8
MIN_DIGIT_MS: Final = 40
MAX_DIGIT_MS: Final = 10_000
DIGIT_MS: Final = 160  # where nothing is said


class Unsupported(ValueError):
    """A body that means nothing here."""


def description(message: Message) -> str:
    """The session description, also as one part of several (RFC 5621, 3); empty: none. Raises `Unsupported`."""
    if not message.body.strip():
        return ""
    kind = sip.content_type(message)
    if kind == SDP:
        return message.body.decode("utf-8", "replace")
    if kind.startswith("multipart/"):
        head = f"Content-Type: {message.headers.get('Content-Type')}\r\n\r\n".encode()
        whole = email.parser.BytesParser(policy=email.policy.HTTP).parsebytes(head + message.body)
        for part in list(whole.walk())[:MAX_PARTS]:
            if part.get_content_type() == SDP:
                content = part.get_payload(decode=True)
                return content.decode("utf-8", "replace") if isinstance(content, bytes) else ""
        return ""
    raise Unsupported(kind)


def digit(message: Message) -> tuple[str, int] | None:
    """The key of an INFO and how long it was pressed, in ms; None where it is about something else."""
    kind = sip.content_type(message)
    text = message.body.decode("ascii", "replace")
    if kind == DTMF_RELAY:
        signal = re.search(r"(?im)^\s*signal\s*=\s*([0-9A-D*#]|1[01])\s*$", text)
        lasted = re.search(r"(?im)^\s*duration\s*=\s*(\d{1,6})", text)
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
