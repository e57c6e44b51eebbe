"""The signalling of simulated telephones: one user agent for all of a process, and each one's call."""

import asyncio
import re
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

from sipmessage import Request

from app.load.line import CONNECT_TIMEOUT_S, LineError, NotResumable, Refused, Trouble
from media.sdp import SdpError
from media.sip.agent import Agent
from media.sip.auth import Answerer, Credentials
from media.sip.call import Call, End, EndCause, Stage
from media.sip.endpoint import Refusal
from media.sip.guard import Guard
from media.sip.inbound import InboundCall
from media.sip.message import Hop, Written
from media.sip.negotiation import Agreed, Keying, Local, Negotiation, Security
from media.sip.options import SipOptions
from media.sip.refer import Referral
from media.sip.resolve import Resolver
from media.sip.streams import client_context

MAX_GONE: Final = 10_000  # calls whose network is gone
GOODBYE_S: Final = 2.0  # for answers to the last goodbyes
LOOK_S: Final = 0.02
NO_WORD_S: Final = 0.5  # without any answer: the first repetition is due (RFC 3261, 17.1.1.2)
PROBE_S: Final = 0.1  # for the system to say that nobody listens

_CALL_ID: Final = re.compile(rb"^(?:call-id|i)[ \t]*:[ \t]*([^\s]+)", re.MULTILINE | re.IGNORECASE)
_TEXT: Final = re.compile(r'text="([^"]*)"')


class Telephones(Agent):
    """The user agent. Nothing passes to or from those whose network is gone."""

    def __init__(self, options: SipOptions, resolver: Resolver) -> None:
        super().__init__(options, Guard((), sign_in=False, also=lambda host: True), resolver, self)
        self.gone: dict[str, None] = {}  # Call-IDs, the oldest first

    def received(self, data: bytes, hop: Hop) -> bool:
        return self._is_gone(data) or super().received(data, hop)

    def send(self, hop: Hop, data: bytes) -> None:
        if not self._is_gone(data):
            super().send(hop, data)

    def _is_gone(self, data: bytes) -> bool:
        found = _CALL_ID.search(data) if self.gone else None
        return found is not None and found[1].decode("latin-1") in self.gone

    def lose(self, call_id: str) -> None:
        self.gone[call_id] = None
        while len(self.gone) > MAX_GONE:
            del self.gone[next(iter(self.gone))]

    async def settled(self) -> None:
        """Until goodbyes are answered; not for ever."""
        with suppress(TimeoutError):
            async with asyncio.timeout(GOODBYE_S):
                while any(key[0] not in self.gone for key in self.endpoint.calls):  # noqa: ASYNC110
                    await asyncio.sleep(LOOK_S)

    # What the endpoint tells: nobody calls us

    def screen(self, request: Request, hop: Hop, now_ms: int) -> Refusal | None:
        return Refusal(0)

    def invited(self, call: InboundCall, now_ms: int) -> None:
        """Never: `screen` lets nobody in."""


class _Negotiation(Negotiation):
    def move(self, local: Local) -> None:
        """What is offered next names another place of ours."""
        self._local = local


class PhoneCall:
    """One telephone's. Also the listener of its call."""

    def __init__(
        self,
        agent: Telephones,
        local: Local,
        codec: str,
        agreed: Callable[[Agreed], None],
        ended: Callable[[Trouble | None, str], None],
        *,
        srtp: bool = False,
    ) -> None:
        """`agreed` is told where the media goes, at first and whenever that changes; it raises `LineError`.

        `ended` is told of an end that is not ours: what went wrong, or None and the server's words.
        """
        keying = Keying.sdes if srtp else Keying.none
        security = Security.required if srtp else Security.off
        self._agent = agent
        self._negotiation = _Negotiation(local, (codec,), security, keying)
        self._agreed = agreed
        self._ended = ended
        self._call: Call | None = None
        self._up: asyncio.Future[None] | None = None  # while it is waited for
        self._moves = False  # by a re-INVITE of ours

    async def dial(self, target: Written, caller: str, hop: Hop, credentials: Credentials | None) -> None:
        """Raises `Refused` and `LineError`."""
        agent = self._agent
        self._up = asyncio.get_running_loop().create_future()
        self._call = agent.endpoint.invite(
            target,
            caller,
            hop,
            self,
            agent.now_ms(),
            answer_ms=int(CONNECT_TIMEOUT_S * 1000),
            answerer=Answerer(credentials) if credentials is not None else None,
        )
        agent.arm()
        await self._wait(self._up, hop)

    @property
    def name(self) -> str:
        """As the server calls it; empty where it does not tell."""
        return self._call.name if self._call is not None else ""

    async def move(self, local: Local) -> None:
        """A re-INVITE from another place, after `lose`. Raises `NotResumable` and `LineError`."""
        call = self._call
        if call is None or not call.live:
            raise NotResumable("no call to take up again")
        self._agent.gone.pop(call.key[0], None)
        self._negotiation.move(local)
        self._up = asyncio.get_running_loop().create_future()
        self._moves = True
        call.modification.offer(self._agent.now_ms())
        self._agent.arm()
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                await self._wait(self._up)
        except TimeoutError:
            raise LineError(Trouble.timeout, "no answer") from None
        finally:
            self._moves = False

    async def _wait(self, up: asyncio.Future[None], hop: Hop | None = None) -> None:
        """With `hop`, no longer than the system lets us believe that somebody is there."""
        try:
            if hop is not None and hop.transport == "udp":
                await asyncio.wait((up,), timeout=NO_WORD_S)
                if not up.done() and await _is_closed(hop) and not up.done():
                    raise LineError(Trouble.unreachable)
            await up
        finally:
            self._up = None
        assert self._negotiation.agreed is not None
        self._agreed(self._negotiation.agreed)

    def lose(self) -> None:
        """The network is gone: the dialog stays, and hears and says nothing."""
        if self._call is not None:
            self._agent.lose(self._call.key[0])

    def hang_up(self) -> None:
        """Where the network is gone, without a word. Nothing is told any more."""
        call, self._call = self._call, None
        if call is None:
            return
        if call.key[0] in self._agent.gone:
            call.finish(End(EndCause.ours), self._agent.now_ms())
        else:
            call.hang_up(self._agent.now_ms())
        self._agent.arm()

    # As a listener

    def wanted(self, now_ms: int) -> str:
        return self._negotiation.offer()

    def answered(self, sdp: str, now_ms: int) -> bool:
        try:
            self._negotiation.answered(sdp)
        except SdpError:
            return False
        if self._moves:
            self._stands()
        return True

    def offered(self, sdp: str, now_ms: int) -> str | None:
        try:
            answer = self._negotiation.answer(sdp)
            assert self._negotiation.agreed is not None
            self._agreed(self._negotiation.agreed)
        except (SdpError, LineError):
            return None
        return answer

    def progressed(self, code: int, now_ms: int) -> None:
        """It rings."""

    def confirmed(self, now_ms: int) -> None:
        self._stands()

    def _stands(self) -> None:
        if self._up is not None and not self._up.done():
            self._up.set_result(None)

    def ended(self, end: End, now_ms: int) -> None:
        call, self._call = self._call, None
        if self._up is not None and not self._up.done():
            misfit = call is not None and call.stage is Stage.closing  # the answer, to which a BYE went out
            self._up.set_exception(self._reason(end, misfit=misfit))
        elif call is not None and self._up is None:
            hung_up = end.cause is EndCause.hangup
            self._ended(None if hung_up else Trouble.cut, _words(end.reason) if hung_up else "")

    def _reason(self, end: End, *, misfit: bool) -> Exception:
        """Why there is no call."""
        if self._moves:
            return NotResumable("the server knows the call no more")
        if misfit:
            return LineError(Trouble.protocol, "an answer that cannot be used")
        match end.cause:
            case EndCause.refused:
                return Refused(str(end.code), _words(end.reason))
            case EndCause.lost:
                return LineError(Trouble.unreachable)
            case EndCause.timeout:
                return LineError(Trouble.timeout, "no answer")
            case _:
                return LineError(Trouble.cut)

    def digit(self, key: str, duration_ms: int, now_ms: int) -> None:
        """Nothing that a telephone's user would hear of."""

    def referred(self, referral: Referral, now_ms: int) -> bool | None:
        """It calls nobody else."""
        return False

    def transferred(self, code: int, now_ms: int) -> None:
        """It asks for no transfer."""


def _words(reason: str) -> str:
    """Of a Reason header (RFC 3326), or of a status line."""
    found = _TEXT.search(reason)
    return found[1] if found is not None else reason


async def trouble_of(hop: Hop, kind: Trouble, authorities: Path | None) -> Trouble:
    """What the user agent does not see of a way that came to nothing: the reason."""
    if hop.transport == "tls" and kind is Trouble.unreachable:
        return await _trouble_of_tls(hop, authorities)
    if hop.transport == "udp" and kind is Trouble.timeout and await _is_closed(hop):
        return Trouble.unreachable
    return kind


async def _trouble_of_tls(hop: Hop, authorities: Path | None) -> Trouble:
    context = client_context(authorities)
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            transport, _ = await asyncio.get_running_loop().create_connection(
                asyncio.Protocol, hop.host, hop.port, ssl=context
            )
        transport.close()
    except ssl.SSLError:
        return Trouble.tls
    except (OSError, ValueError):
        return Trouble.unreachable
    return Trouble.cut


async def _is_closed(hop: Hop) -> bool:
    """Whether the system says that nobody has that port."""
    with socket.socket(socket.AF_INET6 if ":" in hop.host else socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect((hop.host, hop.port))
            probe.send(b"\r\n\r\n")  # a keep-alive (RFC 5626, 3.5.1)
            await asyncio.sleep(PROBE_S)
            probe.recv(1)
        except BlockingIOError:
            return False
        except OSError:
            return True
    return False
