"""SIP legs beside the others: the endpoint's sockets, its alarm, and the way from an INVITE to a leg."""

import asyncio
import ipaddress
import logging
import secrets
import socket
from collections import Counter, OrderedDict
from collections.abc import Coroutine, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from sipmessage import Request

from media.clock import Ticker
from media.dtls import Certificate, Identity
from media.gateway import Gateway, LegRequest, Refused
from media.leg import CloseCode
from media.reception import Reception
from media.sdp import SdpError
from media.sip import message as sip
from media.sip.auth import Asker, Known
from media.sip.call import Stage
from media.sip.dials import Dials
from media.sip.endpoint import Endpoint, Refusal
from media.sip.guard import Guard, Trust
from media.sip.inbound import InboundCall
from media.sip.message import Hop, MessageError
from media.sip.negotiation import DEFAULT_CODECS, Local, Negotiation, Security
from media.sip.port import MediaPort, NoPort
from media.sip.resolve import DnsClient, Resolver, Unresolved
from media.sip.session import Session
from media.sip.streams import Streams
from media.sip.transaction import LIFE_MS
from media.sip.trunks import Trunk, Trunks
from media.source import Network

MAX_WAITING: Final = 500  # INVITEs that are not admitted yet
RESUME_S: Final = 60  # for which a lost dialog may be replaced by a new one
MAX_RESUMABLE: Final = 10_000
MAX_ROUTES_KNOWN: Final = 10_000  # peers whose way out of this machine is remembered
MAX_LOOKUPS: Final = 4  # of hosts' names at once: they are of the peers' choice, and may take as long as they like
MAX_LOOKUPS_WAITING: Final = 1000
RING_LOOK_S: Final = 0.1  # between looks at whether the caller is still there
RECEIVE_BUFFER_BYTES: Final = 4 * 1024 * 1024  # of signalling: calls end and begin in bursts
GOODBYE_S: Final = 2  # after the last call, for answers to BYEs

_CODES: Final[Mapping[CloseCode, int]] = {
    CloseCode.busy: 486,
    CloseCode.unauthorized: 403,
    CloseCode.forbidden: 403,
    CloseCode.unknown_flow: 404,
    CloseCode.unknown_call: 481,
    CloseCode.going_away: 503,
    CloseCode.timeout: 480,
    CloseCode.internal_error: 500,
}

IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

log = logging.getLogger("voicegate.sip")


@dataclass(frozen=True, slots=True, kw_only=True)
class SipOptions:
    """Where it listens, who may call, and what is spoken."""

    host: str = "127.0.0.1"
    port: int = 5060  # UDP and TCP; 0: the system chooses
    tls_port: int = 5061
    tls_certificate: Path | None = None  # PEM, with its chain; None: no TLS
    tls_key: Path | None = None
    tls_authorities: Path | None = None  # who vouches for others; None: the system's
    media_host: str = ""
    public_address: str = ""  # what peers beyond a one-to-one NAT know us by
    media_ports: tuple[int, int] = (0, 0)
    allow: Sequence[Network] = ()
    users: Mapping[str, str] = field(default_factory=dict, repr=False)  # passwords
    realm: str = "voicegate"
    digests: Sequence[str] = ("MD5",)  # the strongest first
    codecs: Sequence[str] = DEFAULT_CODECS
    security: Security = Security.optional
    ring_ms: int = 0  # before the answer
    trunks: Sequence[Trunk] = ()


class SipServer:
    """One for the process. `listen`, then `run`."""

    def __init__(self, gateway: Gateway, ticker: Ticker, options: SipOptions) -> None:
        self.options = options
        self.guard = Guard(
            options.allow,
            sign_in=bool(options.users),
            also=lambda host: self.trunks.lets_in(host),
            expects=self._expects,
        )
        self.endpoint = Endpoint(self, self)
        self.sessions: set[Session] = set()  # attached now
        self.port = options.port
        self.tls_port = options.tls_port
        self._asker = Asker(options.realm, options.users, options.digests)
        self._reception = Reception(gateway, most=MAX_WAITING, most_of_an_address=MAX_WAITING)
        self._ticker = ticker
        self._streams = Streams(self, options)
        self._resolver = Resolver(DnsClient(ipv6=":" in options.host))
        self._lookups = asyncio.Semaphore(MAX_LOOKUPS)
        self._lookups_waiting = 0
        self.trunks = Trunks(self, options.trunks, self._resolver)
        self.dials = Dials(self, self.trunks, self._resolver)
        self._udp: asyncio.DatagramTransport | None = None
        self._group: asyncio.TaskGroup | None = None
        self._stopping = asyncio.Event()
        self._alarm: asyncio.TimerHandle | None = None
        self._alarm_ms = 0
        self._closed = False
        self._signed_in = "", "", ""  # who did so last: Call-ID, From tag and user
        self._called: Counter[str] = Counter()  # by whom we call
        self._answers_ms: OrderedDict[str, int] = OrderedDict()  # until when strangers answer what we sent
        self._resumable: dict[tuple[str, str, str], tuple[str, float]] = {}  # token and end, by dialog
        self._locals: dict[str, str] = {}
        self._certificates = Identity()
        self._next_port = secrets.randbelow(10_000)

    # Its life

    async def listen(self) -> None:
        """Opens the signalling sockets. Raises `OSError` where one is taken, and `ssl.SSLError`."""
        options = self.options
        loop = asyncio.get_running_loop()
        for attempt in range(20):
            self._udp, _ = await loop.create_datagram_endpoint(lambda: _Datagrams(self), (options.host, options.port))
            self.port = self._udp.get_extra_info("sockname")[1]
            self._udp.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
            try:
                await self._streams.listen(options.host, self.port)
            except OSError:
                self._udp.close()
                if options.port or attempt == 19:
                    raise
                continue
            break
        self.tls_port = await self._streams.listen_tls(options.host)

    @property
    def addresses(self) -> list[str]:
        """What to dial, for whoever starts it."""
        host = f"[{self.options.host}]" if ":" in self.options.host else self.options.host
        plain = f"sip:{host}:{self.port} (UDP, TCP)"
        return [plain] if self.options.tls_certificate is None else [plain, f"sips:{host}:{self.tls_port} (TLS)"]

    async def run(self) -> None:
        """Until `stop`; then the calls that are left are hung up."""
        async with asyncio.TaskGroup() as self._group:
            self._group.create_task(self.trunks.run(self._stopping))
            await self._stopping.wait()
            self._streams.stop()
            for session in list(self.sessions):
                session.gone(goodbye=False)
                session.close(CloseCode.going_away, "the server stops")
        self._group = None
        for _ in range(GOODBYE_S * 20):
            if not self.endpoint.calls:
                break
            await asyncio.sleep(0.05)
        self.close()

    def stop(self) -> None:
        self._stopping.set()

    @property
    def stopping(self) -> bool:
        return self._group is None or self._stopping.is_set()

    def close(self) -> None:
        self._closed = True
        if self._alarm is not None:
            self._alarm.cancel()
        self._streams.close()
        if self._udp is not None:
            self._udp.close()

    # What comes (for the sockets)

    def datagram(self, data: bytes, address: tuple[str, int]) -> None:
        if len(data) > 4:  # less is a keep-alive
            self.received(data, Hop("udp", address[0], address[1]))

    def received(self, data: bytes, hop: Hop) -> bool:
        """False: this source is not to be listened to any more."""
        now_ms = self.now_ms()
        ours = hop.reliable and self._streams.opened(hop.connection)  # whom we connected to may answer
        if not ours and self.guard.admits(hop.host, now_ms, stream=hop.reliable) is Trust.dropped:
            return False
        try:
            message = sip.parse(data)
        except MessageError as error:
            self.offended(hop)
            if self.guard.allows(hop.host):
                self.endpoint.malformed(error, hop)
            return True
        self.endpoint.receive(message, hop, now_ms)
        self.arm()
        return True

    def offended(self, hop: Hop) -> None:
        self.guard.offended(hop.host, self.now_ms(), stream=hop.reliable)

    def welcomes(self, host: str) -> Trust:
        """For a new stream, before anything is read of it."""
        return self.guard.welcomes(host, self.now_ms())

    def failed(self, hop: Hop) -> None:
        """No stream to this hop comes about, or it broke."""
        self.endpoint.failed(hop, self.now_ms())
        self.arm()

    def _ring(self) -> None:
        self._alarm = None
        self.endpoint.tick(self.now_ms())
        self.arm()

    def arm(self) -> None:
        """One alarm, for the earliest deadline."""
        due_ms = self.endpoint.deadline_ms
        if due_ms is None or self._closed or (self._alarm is not None and self._alarm_ms <= due_ms):
            return
        if self._alarm is not None:
            self._alarm.cancel()
        loop = asyncio.get_running_loop()
        self._alarm_ms = due_ms
        self._alarm = loop.call_at(due_ms / 1000 + 0.001, self._ring)

    def now_ms(self) -> int:
        return int(asyncio.get_running_loop().time() * 1000)

    # The endpoint's shell

    def send(self, hop: Hop, data: bytes) -> None:
        if hop.reliable:
            self._streams.send(hop, data)
        elif (address := _address(hop.host)) is not None:
            self._send_datagram(hop, address, data)
        elif self._lookups_waiting < MAX_LOOKUPS_WAITING:
            self._lookups_waiting += 1
            self.spawn(self._send_to_name(hop, data))
        else:
            self._failed_later(hop)
        self.arm()

    def _send_datagram(self, hop: Hop, address: IpAddress, data: bytes) -> None:
        if self._udp is None or self._udp.is_closing():
            return
        try:
            if address.is_multicast or address.is_unspecified:
                raise OSError("nobody's address")
            self._udp.sendto(data, (str(address), hop.port))
            self._note_sent(str(address), data)
        except (OSError, ValueError):  # uvloop's, where the address is of the other family
            self._failed_later(hop)

    def _note_sent(self, host: str, data: bytes) -> None:
        """Whoever is asked by us may answer, whoever it is."""
        if not data.startswith(b"SIP/2.0 ") and not self.guard.allows(host):
            self._answers_ms[host] = self.now_ms() + LIFE_MS
            self._answers_ms.move_to_end(host)
            while len(self._answers_ms) > MAX_ROUTES_KNOWN:
                self._answers_ms.popitem(last=False)

    def _expects(self, host: str) -> bool:
        return self._called[host] > 0 or self.now_ms() < self._answers_ms.get(host, 0)

    def _failed_later(self, hop: Hop) -> None:
        """Whoever sends is not ready to hear of it at once."""
        asyncio.get_running_loop().call_soon(self.failed, hop)

    async def _send_to_name(self, hop: Hop, data: bytes) -> None:
        try:
            async with self._lookups:
                found = await self._resolver.resolve(sip.uri_of(f"sip:{hop.host}:{hop.port};transport=udp"))
        except (MessageError, Unresolved):
            self.failed(hop)
            return
        finally:
            self._lookups_waiting -= 1
        if (address := _address(found[0].host)) is not None:
            self._send_datagram(hop, address, data)

    def local(self, hop: Hop) -> tuple[str, int]:
        return self.local_host(hop.host), self.tls_port if hop.transport == "tls" else self.port

    def local_host(self, peer: str) -> str:
        """Our address as the peer knows it."""
        found = self._locals.get(peer)
        if found is None:
            if len(self._locals) >= MAX_ROUTES_KNOWN:
                self._locals.clear()
            found = self._locals[peer] = self._find_local(peer)
        return found

    def _find_local(self, peer: str) -> str:
        try:
            address = ipaddress.ip_address(peer)
        except ValueError:
            return self.options.public_address or self._bound()
        if self.options.public_address and not address.is_private:
            return self.options.public_address
        if not ipaddress.ip_address(self.options.host).is_unspecified:
            return self.options.host
        with socket.socket(socket.AF_INET6 if address.version == 6 else socket.AF_INET, socket.SOCK_DGRAM) as probe:
            try:
                probe.connect((peer, 9))  # sends nothing; the system chooses the way
            except OSError:
                return self._bound()
            return str(probe.getsockname()[0])

    def _bound(self) -> str:
        host = self.options.media_host or self.options.host
        return "127.0.0.1" if ipaddress.ip_address(host).is_unspecified else host

    # Who may call

    def screen(self, request: Request, hop: Hop, now_ms: int) -> Refusal | None:
        """An unknown source has to sign in, whatever it asks for: so nobody learns what there is.

        Requests within a dialog do not come here: whoever knows its tags was told them by us or by the peer, and
        may come from anywhere, for telephones move and proxies have several addresses.
        """
        self._signed_in = "", "", ""
        if self.guard.allows(hop.host):
            return None
        if not self.options.users:
            return Refusal(0)  # we call it, but it may not call us
        known = self._asker.check(request, now_ms)
        if isinstance(known, Known):
            self._signed_in = request.call_id, sip.from_tag(request), known.user
            self.guard.signed_in(hop.host, now_ms, stream=hop.reliable)
            self._streams.signed_in(hop.connection)
            return None
        if not known and request.headers.get("Authorization") is not None:
            self.offended(hop)
            if self.guard.admits(hop.host, now_ms, stream=hop.reliable) is Trust.dropped:
                return Refusal(0)
        return Refusal(401, self._asker.challenges(now_ms, stale=bool(known)))

    # From an INVITE to a leg

    def invited(self, call: InboundCall, now_ms: int) -> None:
        *asked, user = self._signed_in
        identity = user if asked == [call.request.call_id, sip.from_tag(call.request)] else ""
        if self.stopping:
            call.reject(503, now_ms, Retry_After="10")
        else:
            self.spawn(self._live(call, identity))

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        if self._group is None:
            work.close()
        else:
            self._group.create_task(_alone(work), name="sip")

    async def _live(self, call: InboundCall, identity: str) -> None:
        """One call, from its INVITE to its end."""
        try:
            with ExitStack() as waiting:
                waiting.enter_context(self._reception.place(call.source.host))
                await self._answer(call, identity, waiting)
        except Refused as error:
            self._reject(call, _CODES.get(error.code, 480), error.reason)
        except NoPort as error:
            log.error("%s", error)
            self._reject(call, 503, str(error))
        except Exception as error:  # noqa: BLE001  # ours, and it ends this leg only
            log.error("a SIP leg failed: %s", type(error).__name__)
            self._reject(call, 500, "internal error")
        finally:
            self.arm()

    def _reject(self, call: InboundCall, code: int, reason: str) -> None:
        headers = {"Retry_After": "10"} if code in (486, 503) else {}
        call.reject(code, self.now_ms(), **headers, Reason=f'SIP;cause={code};text="{reason}"')

    async def _answer(self, call: InboundCall, identity: str, waiting: ExitStack) -> None:
        resume = self._resume(call)
        if call.replaces is not None and not resume:
            call.reject(481, self.now_ms())
            return
        port = self.open_port(call.source.host)
        try:
            await self._answer_at(port, call, identity, resume, waiting)
        finally:
            port.close()

    async def _answer_at(
        self, port: MediaPort, call: InboundCall, identity: str, resume: str, waiting: ExitStack
    ) -> None:
        options = self.options
        certificate = self._certificates.current(asyncio.get_running_loop().time())
        local = Local(self.local_host(call.source.host), port.port, port.report_port, certificate.fingerprint)
        negotiation = Negotiation(local, options.codecs, options.security)
        try:
            sdp = negotiation.answer(call.offer) if call.offer else negotiation.offer()
        except SdpError as error:
            call.reject(488, self.now_ms(), Warning=f'304 {local.host} "{error}"')
            return
        if options.ring_ms:
            await self._ring_for(call, options.ring_ms)
        if call.stage is not Stage.setup or self.stopping:  # the caller gave up meanwhile, or we do
            call.reject(503, self.now_ms())
            return
        request = self._leg_request(call, identity, resume)
        admission = await self._reception.admit(request)
        session = self.new_session(negotiation, port, certificate)
        session.admission, session.call = admission, call
        waiting.close()
        if (replaced := self.endpoint.replaced(call)) is not None:
            replaced.hang_up(self.now_ms(), 'SIP;cause=200;text="Replaced"')
        call.accept(sdp, session, self.now_ms())
        self.arm()
        try:
            await self.attend(session)
        finally:
            self._remember(call, session)

    async def _ring_for(self, call: InboundCall, ring_ms: int) -> None:
        """Until then, or until the caller has had enough."""
        call.ring(self.now_ms())
        self.arm()
        until_ms = self.now_ms() + ring_ms
        while self.now_ms() < until_ms and call.stage is Stage.setup and not self.stopping:  # noqa: ASYNC110
            await asyncio.sleep(min(RING_LOOK_S, ring_ms / 1000))

    def _leg_request(self, call: InboundCall, identity: str, resume: str) -> LegRequest:
        caller, called = call.identity
        return LegRequest(
            transport="sip",
            peer=call.source.host,
            source=call.source.host,
            caller=caller,
            called=called,
            identity=identity,
            resume=resume,
        )

    # Any call's leg

    def new_session(self, negotiation: Negotiation, port: MediaPort, identity: Certificate | None = None) -> Session:
        """`identity`: what `negotiation` has the fingerprint of."""
        return Session(
            negotiation,
            port,
            ssrc=secrets.randbits(32),
            cname=secrets.token_hex(8),
            comes_back=self._comes_back,
            identity=identity,
            spawn=self.spawn,
        )

    async def attend(self, session: Session, called: str = "") -> None:
        """Until it is over. `called`: the address that we call."""
        self.sessions.add(session)
        self._called[called] += 1
        self._ticker.add(session, session.failed)
        try:
            await session.done.wait()
        finally:
            await session.release()
            session.gone(goodbye=False)
            self._ticker.discard(session)
            self.sessions.discard(session)
            self._called[called] -= 1
            if not self._called[called]:
                del self._called[called]

    def open_port(self, peer: str) -> MediaPort:
        """Raises `NoPort`."""
        first, last = self.options.media_ports
        self._next_port += 1
        host = self.options.media_host or self.options.host
        return MediaPort(host, first, last, now_ms=self.now_ms, start=self._next_port)

    # A leg that comes back

    def _resume(self, call: InboundCall) -> str:
        """The token of the leg whose place this call is to take (RFC 3891); empty: none.

        Whoever may call us and knows all of the dialog's tags may: they are random, and told to nobody but the peer,
        who hands them on where it wants a transfer.
        """
        asked = call.replaces
        if asked is None or asked.early_only:
            return ""
        wanted = asked.call_id, asked.to_tag, asked.from_tag
        for session in self.sessions:
            dialog = session.call.dialog if session.call is not None else None
            if dialog is not None and dialog.key == wanted:
                return session.admission.resume if session.admission is not None else ""
        token, until_s = self._resumable.pop(wanted, ("", 0.0))
        return token if asyncio.get_running_loop().time() < until_s else ""

    def _remember(self, call: InboundCall, session: Session) -> None:
        """For a while, whose call it was."""
        if session.admission is None or not session.was_lost:
            return
        while len(self._resumable) >= MAX_RESUMABLE:
            del self._resumable[next(iter(self._resumable))]
        until_s = asyncio.get_running_loop().time() + RESUME_S
        self._resumable[call.stands.key] = session.admission.resume, until_s

    def _comes_back(self, session: Session) -> None:
        self.spawn(self._attach_again(session))

    async def _attach_again(self, session: Session) -> None:
        """The same dialog, another leg: the peer moved to another network or codec."""
        assert session.admission is not None
        call = session.call
        host = call.stands.hop.host if call is not None else ""
        request = LegRequest(transport="sip", peer=host, source=host, resume=session.admission.resume)
        try:
            session.attach(await self._reception.admit(request))
        except Refused:
            session.close(CloseCode.normal, "the call has ended")


async def _alone(work: Coroutine[Any, Any, None]) -> None:
    """Nothing that goes wrong for one peer ends the server for all."""
    try:
        await work
    except Exception as error:  # noqa: BLE001  # ours, and it ends this piece of work only
        log.error("a SIP task failed: %s", type(error).__name__)


def _address(host: str) -> IpAddress | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


class _Datagrams(asyncio.DatagramProtocol):
    def __init__(self, server: SipServer) -> None:
        self._server = server

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self._server.datagram(data, addr)
