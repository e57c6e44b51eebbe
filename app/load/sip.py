"""Lines of simulated telephones over SIP: what was encoded before goes out by one send, what comes is one receive.

One user agent and one signalling socket serve all of a process; each telephone's audio is a socket of its own.
"""

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import quote

from app.load.line import BadAddress, LineError, LineFactory, Listener, NotResumable, Trouble
from app.load.rtp import QUIET_S, RtpStream
from app.load.sip_call import PhoneCall, Telephones, trouble_of
from media.codec import Codec, Pcma, Pcmu
from media.g722 import G722
from media.linear import L16Wide
from media.opus import Opus
from media.sip import message as sip
from media.sip.auth import Credentials
from media.sip.dials import USER
from media.sip.message import Hop, MessageError, Written
from media.sip.negotiation import Agreed, Local
from media.sip.options import SipOptions
from media.sip.resolve import DnsClient, Resolver, Unresolved
from media.srtp import Crypto, Srtp, SrtpError

CODECS: Final[Mapping[str, Callable[[], Codec]]] = {
    "pcmu": Pcmu,
    "pcma": Pcma,
    "g722": G722,
    "opus": Opus,
    "l16": L16Wide,
}
"""By the names that the server's settings have for them."""

MAX_DATAGRAM_BYTES: Final = 2048
MAX_WAYS: Final = 4  # that are tried for one call, where the first ones cannot be reached
REFUSED_S: Final = 1.0  # for a goodbye to come, once the agent's port is closed


@dataclass(frozen=True, slots=True, kw_only=True)
class Telephone:
    """What all of a process have in common."""

    codec: str = "pcmu"
    caller: str = ""  # the user that calls show; empty: another for each, such as caller7
    user: str = ""  # for servers that ask who it is
    password: str = field(default="", repr=False)
    srtp: bool = False  # SDES, and no call without
    authorities: Path | None = None  # who vouches for servers over TLS; None: the system's

    @property
    def credentials(self) -> Credentials | None:
        return Credentials(self.user, self.password) if self.user else None


ORDINARY: Final = Telephone()


@asynccontextmanager
async def sip_lines(address: str, telephone: Telephone = ORDINARY) -> AsyncIterator[LineFactory]:
    """Callers of `sip:user@host[:port][;transport=udp|tcp|tls]` or `sips:...`, as long as this is entered.

    Raises `BadAddress`, `LineError` where there is no such host, and `ValueError` for a codec that is none.
    """
    target = _target(address)
    if telephone.codec not in CODECS:
        raise ValueError(f"a codec is one of {', '.join(CODECS)}")
    resolver = Resolver(DnsClient())
    hops = await _hops(resolver, target)
    try:
        host = _route((await resolver.addresses(hops[0].host))[0])
        agent = Telephones(SipOptions(host=host, port=0, tls_authorities=telephone.authorities), resolver)
        await agent.transport.listen()
    except (OSError, Unresolved, IndexError) as error:
        raise LineError(Trouble.unreachable, str(error)) from None
    try:
        async with agent.working():
            yield lambda number: SipLine(agent, resolver, target, telephone, number)
            await agent.settled()
            agent.close()
    except BaseExceptionGroup as error:  # what was raised by whoever calls: no task of the agent's does
        raise error.exceptions[0] from None
    finally:
        agent.close()


def _target(address: str) -> Written:
    with suppress(MessageError):
        target = sip.uri_of(address.strip())
        if target.scheme in ("sip", "sips"):
            return target
    raise BadAddress("an address is such as sip:clinic@127.0.0.1:5060, sip:host;transport=tcp or sips:host")


async def _hops(resolver: Resolver, target: Written) -> list[Hop]:
    try:
        return (await resolver.resolve(target))[:MAX_WAYS]
    except Unresolved as error:
        raise LineError(Trouble.unreachable, str(error)) from None


def _route(peer: str) -> str:
    """Our address as this one sees it. Raises `OSError`."""
    with socket.socket(_family(peer), socket.SOCK_DGRAM) as probe:
        probe.connect((peer, 9))  # sends nothing; the system chooses the way
        return str(probe.getsockname()[0])


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


class SipLine:
    """One telephone."""

    clears = False

    def __init__(
        self, agent: Telephones, resolver: Resolver, target: Written, telephone: Telephone, number: int
    ) -> None:
        self.codec: Codec = CODECS[telephone.codec]()
        self.call = ""
        self._agent = agent
        self._resolver = resolver
        self._target = target
        self._telephone = telephone
        self._number = number
        self._listener: Listener | None = None
        self._call: PhoneCall | None = None
        self._agreed: Agreed | None = None  # that runs
        self._stream: RtpStream | None = None
        self._socket: socket.socket | None = None
        self._srtp: Srtp | None = None
        self._keys: tuple[Crypto | None, Crypto | None] = None, None  # its
        self._host = ""  # ours
        self._sends = False
        self._refused_s = 0.0  # since when the system says that the agent's port is closed

    # As a line

    async def connect(self, listener: Listener) -> None:
        self._listener = listener
        self._stream = RtpStream(self.codec, listener.audio, self._transmit, self._report, self._watch)
        hops = await _hops(self._resolver, self._target)
        for at, hop in enumerate(hops):
            try:
                await self._dial(hop)
            except LineError as error:
                self._over()
                if error.kind is Trouble.unreachable and at + 1 < len(hops):
                    continue
                raise LineError(await trouble_of(hop, error.kind, self._telephone.authorities), str(hop)) from None
            except BaseException:
                self._over()
                raise
            return

    async def _dial(self, hop: Hop) -> None:
        """By this way. Raises `Refused` and `LineError`."""
        agent, telephone = self._agent, self._telephone
        host = self._host = agent.local_host(hop.host)
        call = self._call = PhoneCall(
            agent, self._open(host), telephone.codec, self._follow, self._ended, srtp=telephone.srtp
        )
        user = telephone.caller or telephone.user or f"caller{self._number}"
        at = f"[{host}]" if ":" in host else host
        caller = f"<sip:{quote(user, safe=USER)}@{at}:{agent.transport.port}>"
        await call.dial(self._target, caller, hop, telephone.credentials)
        self.call = call.name

    def send(self, payload: bytes) -> None:
        if self._stream is not None:
            self._stream.send(payload)

    def digit(self, digit: str, duration_ms: int) -> None:
        if self._stream is not None and not self._stream.digit(digit, duration_ms):
            self._fail(Trouble.unsupported)

    async def hang_up(self) -> None:
        self._listener = None
        self._over()

    def drop(self) -> None:
        if self._call is not None:
            self._call.lose()
        self._close()

    async def resume(self) -> None:
        """By a re-INVITE, from another port: as long as the server has not given the dialog up."""
        if self._call is None or self._listener is None or self._agreed is None:
            raise NotResumable("no call to take up again")
        self._close()
        self._agreed = None
        await self._call.move(self._open(self._host))

    # Its socket

    def _open(self, host: str) -> Local:
        """Raises `LineError`."""
        made = socket.socket(_family(host), socket.SOCK_DGRAM)
        try:
            made.bind((host, 0))
        except OSError as error:
            made.close()
            raise LineError(Trouble.unreachable, error.strerror or "") from None
        made.setblocking(False)
        self._socket = made
        port = made.getsockname()[1]
        return Local(host, port, port)  # RTCP comes here too, whether or not the server shares its port

    def _close(self) -> None:
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket.fileno())
            self._socket.close()
            self._socket = None
        self._sends = False
        self._refused_s = 0.0

    def _follow(self, agreed: Agreed) -> None:
        """The media goes as it is agreed. Raises `LineError`."""
        one, stream = self._socket, self._stream
        if one is None or stream is None or agreed == self._agreed:
            return
        if agreed.codec.clock_hz != self.codec.clock_hz:
            raise LineError(Trouble.protocol, "another codec than offered")
        try:
            one.connect((agreed.host, agreed.port))
        except OSError as error:
            raise LineError(Trouble.protocol, f"no address for audio: {error.strerror}") from None
        self._agreed = agreed
        before, self._keys = self._keys, (agreed.ours, agreed.theirs)
        if agreed.ours is not None and agreed.theirs is not None and before != self._keys:
            self._srtp = Srtp.of(agreed.ours, agreed.theirs)
        stream.agree(agreed.codec.payload_type, agreed.receive_type, agreed.digit_type)
        self._sends = agreed.sends
        asyncio.get_running_loop().add_reader(one.fileno(), self._read, one, stream)

    def _read(self, one: socket.socket, stream: RtpStream) -> None:
        try:
            packet = one.recv(MAX_DATAGRAM_BYTES)
        except ConnectionRefusedError:
            self._refused_s = self._refused_s or time.perf_counter()
            return
        except OSError:
            return
        now_s = time.perf_counter()
        report = len(packet) > 1 and 192 <= packet[1] <= 223  # RFC 5761, 4
        if self._srtp is not None:
            try:
                packet = self._srtp.unprotect_rtcp(packet) if report else self._srtp.unprotect(packet)
            except SrtpError:
                return
        self._refused_s = 0.0
        if report:
            stream.reported(packet, now_s)
        else:
            stream.received(packet, now_s)

    def _transmit(self, packet: bytes) -> None:
        one = self._socket
        if one is None or not self._sends:
            return
        if self._srtp is not None:
            packet = self._srtp.protect(packet)
        try:
            one.send(packet)
        except ConnectionRefusedError:
            self._refused_s = self._refused_s or time.perf_counter()
        except OSError:  # a full buffer
            return

    def _report(self, packet: bytes) -> None:
        agreed, one = self._agreed, self._socket
        if agreed is None or one is None:
            return
        if self._srtp is not None:
            packet = self._srtp.protect_rtcp(packet)
        with suppress(OSError):
            if agreed.report_port == agreed.port:
                one.send(packet)
            else:
                one.sendto(packet, (agreed.host, agreed.report_port))

    def _watch(self, now_s: float) -> None:
        if self._socket is None or self._stream is None:
            return
        if self._refused_s and now_s - self._refused_s > REFUSED_S:
            self._fail(Trouble.cut)
        elif now_s - self._stream.heard_s > QUIET_S:
            self._fail(Trouble.silent)

    # Its end

    def _ended(self, trouble: Trouble | None, words: str) -> None:
        listener, self._listener = self._listener, None
        self._over()
        if listener is None:
            return
        if trouble is None:
            listener.ended(words, "")
        else:
            listener.failed(trouble)

    def _fail(self, kind: Trouble) -> None:
        """Without a goodbye of the server's; ours goes out."""
        self._ended(kind, "")

    def _over(self) -> None:
        self._close()
        call, self._call = self._call, None
        if call is not None:
            call.hang_up()
