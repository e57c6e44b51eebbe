"""How callers reach an address: which lines they take, in which codec and as whom."""

import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit, urlunsplit

from msgspec import Struct

from app.load.line import BadAddress, LineFactory
from app.load.lines import speaks_twilio, websocket_lines

RATES_HZ: Final[Mapping[str, int]] = {"l16/8000": 8000, "l16/16000": 16_000, "l16/24000": 24_000, "l16/48000": 48_000}
DEFAULT_RATE_HZ: Final = 16_000
SIP_CODECS: Final = ("pcmu", "pcma", "g722", "opus", "l16")
WEBRTC_CODECS: Final = ("opus", "pcmu", "pcma")
WEB_SCHEMES: Final[Mapping[str, str]] = {"ws": "http", "wss": "https", "http": "http", "https": "https"}


class Dial(Struct, frozen=True):
    """Keys and passwords go to workers with it, and nowhere else."""

    address: str
    codec: str = ""  # "": the line's own default
    token: str = ""
    user: str = ""  # for SIP servers that ask who it is
    password: str = ""
    srtp: bool = False
    authorities: str = ""  # a PEM file of who vouches for the server; "": the system's


def shown(address: str) -> str:
    """The address without what may be a key."""
    scheme, _, rest = address.partition(":")
    if scheme in WEB_SCHEMES:
        try:
            parts = urlsplit(address)
            return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))
        except ValueError:
            return f"{scheme}:"
    user, at, host = rest.partition("?")[0].rpartition("@")
    return f"{scheme}:{user.partition(':')[0]}{at}{host}"


def site(address: str) -> str:
    """Where the HTTP side of the same server is, such as http://host:8080; "" where the address does not tell."""
    try:
        parts = urlsplit(address)
    except ValueError:
        return ""
    scheme = WEB_SCHEMES.get(parts.scheme, "")
    return f"{scheme}://{parts.netloc.rpartition('@')[2]}" if scheme and parts.netloc else ""


def tls(authorities: str) -> ssl.SSLContext | None:
    """None: the system's authorities. Raises `BadAddress` where there is no such file of certificates."""
    if not authorities:
        return None
    try:
        return ssl.create_default_context(cafile=authorities)
    except (OSError, ssl.SSLError) as error:
        raise BadAddress(f"{authorities}: no certificates can be read from it: {error}") from None


@asynccontextmanager
async def open_lines(dial: Dial) -> AsyncIterator[LineFactory]:
    """Lines to the address as long as this is entered. Raises `BadAddress` and `LineError`."""
    context = tls(dial.authorities)
    if not (dial.token.isascii() and dial.token.isprintable()):
        raise BadAddress("a token is one line of ASCII: what was given as --token or LOAD_TOKEN is none")
    match dial.address.partition(":")[0].lower():
        case "ws" | "wss":
            yield _websocket(dial, context)
        case "sip" | "sips":
            from app.load.sip import Telephone, sip_lines

            _check_codec(dial.codec, SIP_CODECS)
            telephone = Telephone(
                codec=dial.codec or SIP_CODECS[0],
                user=dial.user,
                password=dial.password,
                srtp=dial.srtp,
                authorities=Path(dial.authorities) if dial.authorities else None,
            )
            async with sip_lines(dial.address, telephone) as lines:
                yield lines
        case "http" | "https":
            from app.load.webrtc import Browser, webrtc_lines

            _check_codec(dial.codec, WEBRTC_CODECS)
            codec = dial.codec or WEBRTC_CODECS[0]
            browser = Browser(codec=codec, token=dial.token, context=context)
            async with webrtc_lines(dial.address, browser) as lines:
                yield lines
        case _:
            raise BadAddress("an address begins with ws:, wss:, http:, https:, sip: or sips:")


def _websocket(dial: Dial, context: ssl.SSLContext | None) -> LineFactory:
    twilio = speaks_twilio(dial.address)
    _check_codec(dial.codec, ("pcmu",) if twilio else tuple(RATES_HZ))
    rate_hz = RATES_HZ.get(dial.codec, DEFAULT_RATE_HZ)
    return websocket_lines(dial.address, rate_hz=rate_hz, token=dial.token, context=context)


def _check_codec(codec: str, there_are: tuple[str, ...]) -> None:
    if codec and codec not in there_are:
        raise BadAddress(f"codec {codec}: at such an address it is one of {', '.join(there_are)}")
