"""Lines of simulated browsers over WebRTC: an offer by HTTP (RFC 9725), then SRTP; what was encoded before goes out.

aiortc sets the connection up and carries the data channel; no packet of audio passes through it.
"""

import asyncio
import logging
import ssl
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urljoin, urlsplit

import aiohttp
import msgspec
from msgspec import Struct

from app.load.body import at_most
from app.load.line import (
    CONNECT_TIMEOUT_S,
    UNREADABLE,
    BadAddress,
    LineError,
    LineFactory,
    Listener,
    NotResumable,
    Refused,
    Trouble,
)
from app.load.rtp import QUIET_S, RtpStream
from media.codec import Codec
from media.dtls import Certificate, certificate
from media.opus import DTX_BYTES
from media.sdp import MAX_SDP_BYTES, SdpError
from media.webrtc import messages
from media.webrtc.offer import CODECS
from media.webrtc.offering import Offering
from media.webrtc.peer import PeerError

PATH: Final = "/webrtc"  # where an address names none
STARTED_S: Final = 2.0  # for the first message of a server that has a resume token
GOODBYE_S: Final = 1.0
MAX_REASON_CHARS: Final = 200

log = logging.getLogger("voicegate.load")


@dataclass(frozen=True, slots=True, kw_only=True)
class Browser:
    """What all of a process have in common."""

    codec: str = "opus"  # one of `media.webrtc.offer.CODECS`
    token: str = field(default="", repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    channel: bool = True  # the data channel: captions, the end's outcome, digits as messages
    context: ssl.SSLContext | None = None  # of https; None: the system's authorities


ORDINARY: Final = Browser()


@dataclass(frozen=True, slots=True)
class Office:
    """What the lines of a process share."""

    http: aiohttp.ClientSession
    identity: Certificate
    close: Callable[[Offering], object]  # in a while


class _Said(Struct, frozen=True):
    """A message of the data channel, as far as a caller cares."""

    type: str
    kind: str = ""
    text: str = ""
    call: str = ""
    cause: str = ""
    outcome: str = ""


_decoder = msgspec.json.Decoder(_Said)


@asynccontextmanager
async def office() -> AsyncIterator[Office]:
    try:
        async with (
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http,
            asyncio.TaskGroup() as group,
        ):
            yield Office(http, certificate(), lambda peer: group.create_task(_closed(peer), name="closing"))
    except BaseExceptionGroup as error:  # what was raised by whoever calls
        raise error.exceptions[0] from None


async def _closed(peer: Offering) -> None:
    try:
        await peer.close()
    except Exception as error:  # noqa: BLE001  # ours, and the other calls go on
        log.error("a connection did not end well: %s", type(error).__name__)


@asynccontextmanager
async def webrtc_lines(address: str, browser: Browser = ORDINARY) -> AsyncIterator[LineFactory]:
    """Callers at `http(s)://host/webrtc[/FLOW]`, as long as this is entered.

    Raises `BadAddress`, and `ValueError` for a codec that is none.
    """
    url = _url(address)
    if browser.codec not in CODECS:
        raise ValueError(f"a codec is one of {', '.join(CODECS)}")
    async with office() as shared:
        yield lambda number: WebRtcLine(shared, url, browser)


def _url(address: str) -> str:
    try:
        parts = urlsplit(address)
        reachable = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        reachable = False
    if not reachable or any(char.isspace() for char in address):
        raise BadAddress("an address is such as http://127.0.0.1:8080/webrtc or https://host/webrtc/FLOW")
    return parts._replace(path=parts.path.rstrip("/") or PATH, fragment="").geturl()


class WebRtcLine:
    """One browser. Also its connection's listener."""

    clears = False

    def __init__(self, office: Office, url: str, browser: Browser = ORDINARY) -> None:
        self.codec: Codec = CODECS[browser.codec]()
        self.call = ""
        self._office = office
        self._url = url
        self._browser = browser
        self._listener: Listener | None = None
        self._peer: Offering | None = None
        self._stream: RtpStream | None = None
        self._started: asyncio.Event = asyncio.Event()
        self._leg = ""  # the leg's own URL
        self._resume = ""  # token
        self._over = False  # the listener was told of an end

    # As a line

    async def connect(self, listener: Listener) -> None:
        self._listener = listener
        await self._connect(self._url)

    async def _connect(self, url: str) -> None:
        self._over = False
        self._started.clear()
        peer = self._peer = Offering(self, self._office.identity)
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                await self._establish(peer, url)
            if self._resume and peer.has_channel:
                with suppress(TimeoutError):
                    async with asyncio.timeout(STARTED_S):
                        await self._started.wait()
        except TimeoutError:
            self._close()
            raise LineError(Trouble.timeout, "no answer") from None
        except PeerError as error:
            self._close()
            raise LineError(Trouble.unreachable, str(error)) from None
        except SdpError as error:
            self._close()
            raise LineError(Trouble.protocol, str(error)) from None
        except BaseException:
            self._close()
            raise

    async def _establish(self, peer: Offering, url: str) -> None:
        await peer.gather()
        said = await peer.answered(await self._ask(url, peer.offer(self._browser.codec, channel=self._browser.channel)))
        assert self._listener is not None
        stream = self._stream = RtpStream(self.codec, self._listener.audio, peer.send_rtp, peer.send_rtcp, self._watch)
        if said.codec.name != self._browser.codec:
            raise LineError(Trouble.protocol, "another codec than offered")
        number = said.codec.payload_type
        stream.agree(number, number, said.event_types[0].payload_type if said.event_types else None)
        await peer.connect()
        stream.heard_s = time.perf_counter()

    async def _ask(self, url: str, offer: str) -> str:
        """The answer. Raises `Refused` and `LineError`."""
        headers = {"Content-Type": "application/sdp", **self._headers}
        try:
            async with self._office.http.post(
                url, data=offer.encode(), headers=headers, ssl=self._browser.context or True
            ) as response:
                body = (await at_most(response.content, MAX_SDP_BYTES)).decode("utf-8", "replace")
                if response.status not in (200, 201):
                    raise Refused(str(response.status), _reason(body) or response.reason or "")
                self._leg = urljoin(url, response.headers.get("Location", ""))
                self._resume = response.headers.get("Voicegate-Resume", "")
                return body
        except aiohttp.ClientSSLError as error:
            raise LineError(Trouble.tls, type(error).__name__) from None
        except aiohttp.ClientConnectorError as error:
            raise LineError(Trouble.unreachable, error.strerror or "") from None
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
            raise LineError(Trouble.cut, "before the answer") from None
        except aiohttp.ClientError as error:
            raise LineError(Trouble.protocol, type(error).__name__) from None
        except UnicodeError:
            raise LineError(Trouble.unreachable, "no name that a host can have") from None
        except ValueError:
            raise LineError(Trouble.protocol, "a Location that is none") from None

    @property
    def _headers(self) -> dict[str, str]:
        token = self._browser.token
        return {**self._browser.headers, **({"Authorization": f"Bearer {token}"} if token else {})}

    def send(self, payload: bytes) -> None:
        if self._stream is not None:
            self._stream.send(payload if len(payload) > DTX_BYTES else b"")  # as browsers do (RFC 7587, 3.1.3)

    def digit(self, digit: str, duration_ms: int) -> None:
        peer, stream = self._peer, self._stream
        if peer is not None and peer.channel_is_open:
            peer.tell(messages.write("digit", digit=digit))
        elif stream is not None and not stream.digit(digit, duration_ms):
            self._fail(Trouble.unsupported)

    async def hang_up(self) -> None:
        self._listener = None
        if self._peer is not None and self._leg:
            with suppress(TimeoutError, aiohttp.ClientError, ValueError):  # the last: a URL that is none
                async with asyncio.timeout(GOODBYE_S):
                    await self._delete()
        self._close()

    async def _delete(self) -> int:
        """The status of our goodbye."""
        async with self._office.http.delete(
            self._leg, headers=self._headers, ssl=self._browser.context or True
        ) as response:
            return response.status

    def drop(self) -> None:
        if self._peer is not None:
            self._peer.vanish()
        self._close()

    async def resume(self) -> None:
        if self._listener is None or not self._resume:
            raise NotResumable("no call to take up again")
        self._close()
        parts = urlsplit(self._url)
        query = f"{parts.query}&" if parts.query else ""
        await self._connect(parts._replace(query=f"{query}resume={self._resume}").geturl())

    # Its end

    def _close(self) -> None:
        peer, self._peer, self._stream = self._peer, None, None
        if peer is not None:
            self._office.close(peer)

    def _fail(self, kind: Trouble) -> None:
        if self._listener is not None and not self._over:
            self._over = True
            self._close()
            self._listener.failed(kind)

    def _watch(self, now_s: float) -> None:
        if self._stream is not None and now_s - self._stream.heard_s > QUIET_S:
            self._fail(Trouble.silent)

    # As the listener of its connection

    def rtp(self, packet: bytes) -> None:
        if self._stream is not None:
            self._stream.received(packet, time.perf_counter())

    def rtcp(self, packet: bytes) -> None:
        if self._stream is not None:
            self._stream.reported(packet, time.perf_counter())

    def channel_open(self) -> None:
        """Nothing is to be said first."""

    def message(self, text: str) -> None:
        listener = self._listener
        if listener is None or self._over:
            return
        try:
            said = _decoder.decode(text)
        except UNREADABLE:
            return  # a kind of message that this caller needs not know
        match said.type:
            case "started":
                self.call = said.call
                self._started.set()
            case "caption":
                listener.caption("agent", said.text)
            case "event" if said.kind == "caller":
                listener.caption("caller", said.text)
            case "ended":
                self._over = True
                self._leg = ""
                listener.ended(said.cause, said.outcome)

    def peer_lost(self) -> None:
        self._fail(Trouble.cut)


def _reason(body: str) -> str:
    """Of a refusal, as our own servers tell it."""
    try:
        return str(msgspec.json.decode(body.encode())["detail"])[:MAX_REASON_CHARS]
    except (*UNREADABLE, TypeError, KeyError):
        return ""
