"""What the legs of calls in both directions share: their ports, their clock, and a new leg after a lost one."""

import asyncio
import secrets
from collections import Counter
from typing import Final

from media.clock import Ticker
from media.dtls import Certificate, Identity
from media.gateway import Gateway, LegRequest, Refused
from media.leg import CloseCode
from media.reception import Reception
from media.sip.agent import Agent
from media.sip.negotiation import Negotiation
from media.sip.port import MediaPort, Poll
from media.sip.session import Session

MAX_WAITING: Final = 500  # INVITEs that are not admitted yet


class Legs:
    def __init__(self, agent: Agent, gateway: Gateway, ticker: Ticker) -> None:
        self.reception = Reception(gateway, most=MAX_WAITING, most_of_an_address=MAX_WAITING)
        self.sessions: set[Session] = set()  # attached now
        self._agent = agent
        self._ticker = ticker
        self._called: Counter[str] = Counter()  # by whom we call
        self._certificates = Identity()
        self._poll = Poll()
        self._next_port = secrets.randbelow(10_000)

    def certificate(self) -> Certificate:
        """For a leg that begins now."""
        return self._certificates.current(asyncio.get_running_loop().time())

    def open_port(self, peer: str) -> MediaPort:
        """Raises `NoPort`."""
        options = self._agent.options
        first, last = options.media_ports
        self._next_port += 1
        host = options.media_host or options.host
        return MediaPort(host, first, last, now_ms=self._agent.now_ms, start=self._next_port, poll=self._poll)

    def new_session(self, negotiation: Negotiation, port: MediaPort, identity: Certificate | None = None) -> Session:
        """`identity`: what `negotiation` has the fingerprint of."""
        return Session(
            negotiation,
            port,
            ssrc=secrets.randbits(32),
            cname=secrets.token_hex(8),
            comes_back=self._comes_back,
            identity=identity,
            spawn=self._agent.spawn,
        )

    async def attend(self, session: Session, called: str = "") -> None:
        """Until it is over. `called`: the address that we call."""
        self.sessions.add(session)
        self._called[called] += 1
        self._ticker.add(session, session.failed, session.hear)
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

    def calls(self, host: str) -> bool:
        """Whether we call there now."""
        return self._called[host] > 0

    def close(self) -> None:
        """Each hangs up."""
        for session in list(self.sessions):
            session.gone(goodbye=False)
            session.close(CloseCode.going_away, "the server stops")

    def _comes_back(self, session: Session) -> None:
        self._agent.spawn(self._attach_again(session))

    async def _attach_again(self, session: Session) -> None:
        """The same dialog, another leg: the peer moved to another network or codec."""
        assert session.admission is not None
        if not session.admission.resume:
            session.close(CloseCode.normal, "this leg cannot come back")
            return
        call = session.call
        host = call.stands.hop.host if call is not None else ""
        request = LegRequest(transport="sip", peer=host, source=host, resume=session.admission.resume)
        try:
            session.attach(await self.reception.admit(request))
        except Refused:
            session.close(CloseCode.normal, "the call has ended")
