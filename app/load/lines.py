"""Which line an address is called by."""

import ssl
from collections.abc import Mapping
from typing import Final
from urllib.parse import SplitResult, urlsplit

from app.load.line import BadAddress, LineFactory
from app.load.plain import PlainLine
from app.load.twilio import TwilioLine

TWILIO: Final = "twilio"  # a part of a path that says so


def speaks_twilio(address: str) -> bool:
    """By its path. Raises `BadAddress`."""
    return TWILIO in _parts(address).path.split("/")


def _parts(address: str) -> SplitResult:
    try:
        parts = urlsplit(address)
        reachable = parts.scheme in ("ws", "wss") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        reachable = False
    if not reachable or " " in address or not (address.isascii() and address.isprintable()):
        raise BadAddress(
            "an address is such as ws://127.0.0.1:8080/ws/audio or wss://host/ws/twilio/FLOW, all of it in ASCII"
        )
    return parts


def websocket_lines(
    address: str,
    *,
    protocol: str = "",
    rate_hz: int = 16_000,
    token: str = "",
    headers: Mapping[str, str] | None = None,
    context: ssl.SSLContext | None = None,
) -> LineFactory:
    """Callers at `ws:` and `wss:` addresses. The protocol is "plain" or "twilio"; by default the path says which.

    Raises `BadAddress`.
    """
    _parts(address)
    fields = dict(headers or {})
    if token:
        fields["Authorization"] = f"Bearer {token}"
    if protocol == TWILIO or (not protocol and speaks_twilio(address)):
        return lambda number: TwilioLine(address, headers=fields, context=context)
    return lambda number: PlainLine(address, rate_hz=rate_hz, headers=fields, context=context)
