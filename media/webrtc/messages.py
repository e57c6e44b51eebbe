"""What goes over the data channel, as JSON texts: turns and keys in; the call's beginning, words, facts and end out."""

from typing import Any, Final

import msgspec

from media.leg import MAX_TURN_CHARS

MAX_MESSAGE_CHARS: Final = 4096
DIGITS: Final = frozenset("0123456789*#")

GAP: Final = '{"type":"event","kind":"gap"}'
"""Messages were left out because the peer did not take them."""


class MessageError(ValueError):
    """Not a message of this channel. `str()` is one line for the peer."""


class Text(msgspec.Struct, tag="text", tag_field="type"):
    text: str


class Digit(msgspec.Struct, tag="digit", tag_field="type"):
    digit: str


class Ping(msgspec.Struct, tag="ping", tag_field="type"):
    t: float = 0


_decoder = msgspec.json.Decoder(Text | Digit | Ping)
_encoder = msgspec.json.Encoder()


def read(text: str) -> Text | Digit | Ping:
    """Raises `MessageError`."""
    if len(text) > MAX_MESSAGE_CHARS:
        raise MessageError(f"a message has at most {MAX_MESSAGE_CHARS} characters")
    try:
        message: Text | Digit | Ping = _decoder.decode(text)
    except (msgspec.DecodeError, RecursionError, UnicodeEncodeError) as error:
        raise MessageError(str(error)[:200]) from None
    if isinstance(message, Text):
        message.text = message.text.strip()
        if not 0 < len(message.text) <= MAX_TURN_CHARS:
            raise MessageError(f"a text has 1 to {MAX_TURN_CHARS} characters")
    if isinstance(message, Digit) and message.digit not in DIGITS:
        raise MessageError("a digit is one of 0-9 * #")
    return message


def write(kind: str, **fields: Any) -> str:
    return _encoder.encode({"type": kind, **fields}).decode()
