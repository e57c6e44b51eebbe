"""Calls of ours: by which trunk and which way, and what comes of them. Whether one is allowed was decided before."""

import logging
from collections.abc import Sequence
from typing import Final
from urllib.parse import quote

from media.gateway import Admission, Callee, Dial, Dialling, Refused
from media.leg import CloseCode
from media.sip import message as sip
from media.sip.agent import Agent
from media.sip.auth import Answerer
from media.sip.legs import Legs
from media.sip.message import Hop, MessageError, Written
from media.sip.negotiation import Local, Negotiation
from media.sip.options import Trunk
from media.sip.resolve import Resolves, Unresolved
from media.sip.session import Session
from media.sip.sockets import NoPort
from media.sip.trunks import Trunks

MAX_WAYS: Final = 4  # that are tried, where the first ones do not answer at all
MAX_REDIRECTS: Final = 3  # of one call, one after the other
USER: Final = "+*#.-_"  # that stands in a user part as it is

log = logging.getLogger("voicegate.sip")


class Dials:
    """Implements `media.gateway.Dialler`."""

    def __init__(self, agent: Agent, legs: Legs, trunks: Trunks, resolver: Resolves) -> None:
        self._agent = agent
        self._legs = legs
        self._trunks = trunks
        self._resolver = resolver

    def dial(self, dial: Dial, callee: Callee) -> Dialling:
        if self._agent.stopping:
            raise Refused(CloseCode.going_away, "the server stops")
        target, trunk = self._target(dial.to)
        outgoing = _Outgoing(dial, callee, target, trunk)
        self._agent.spawn(self._place(outgoing))
        return outgoing

    def _target(self, to: str) -> tuple[Written, Trunk | None]:
        """A number goes to a trunk, a URI to its own host; a trunk's credentials are for that host."""
        try:
            if to.lower().startswith(("sip:", "sips:")):
                uri = sip.uri_of(to)
                return uri, self._trunks.at(uri.host)
            trunk = self._trunks.for_numbers()
            if trunk is None:
                raise Refused(CloseCode.unknown_call, "a number needs a trunk: set VOICEGATE_SIP_TRUNKS")
            number = quote(to.removeprefix("tel:"), safe=USER)
            return sip.uri_of(f"{trunk.uri.scheme}:{number}@{trunk.place}"), trunk
        except MessageError as error:
            raise Refused(CloseCode.unknown_call, f"this cannot be called: {error}") from None

    async def _place(self, outgoing: "_Outgoing") -> None:
        """One call, to its end."""
        try:
            await self._try(outgoing)
            for _ in range(MAX_REDIRECTS):
                if not outgoing.moved or not await self._redirected(outgoing):
                    break
                await self._try(outgoing)
            outgoing.not_followed()
        except Unresolved as error:
            log.warning("a call of ours finds no way: %s", error)
            outgoing.not_reached(503)
        except Refused as error:
            log.warning("a call of ours cannot go where it was sent: %s", error.reason)
            outgoing.not_reached(503)
        except NoPort as error:
            log.error("%s", error)
            outgoing.not_reached(500)
        except Exception as error:  # noqa: BLE001  # ours, and it ends this leg only
            log.error("a SIP leg failed: %s", type(error).__name__)
            outgoing.not_reached(500)
        finally:
            self._agent.arm()

    async def _try(self, outgoing: "_Outgoing") -> None:
        hops = await self._resolver.resolve(outgoing.target)
        for at, hop in enumerate(hops[:MAX_WAYS]):
            outgoing.more = at + 1 < len(hops[:MAX_WAYS])
            if outgoing.cancelled or not await self._by(hop, outgoing):
                return

    async def _redirected(self, outgoing: "_Outgoing") -> bool:
        """Whether one of those who were named may be called. Each is judged as if we had been asked to call them."""
        contacts, outgoing.contacts = outgoing.contacts, ()
        for contact in contacts:
            if outgoing.cancelled or outgoing.dial.redirect is None:
                break
            to = await outgoing.dial.redirect(contact)
            if to and not outgoing.cancelled:
                outgoing.moved = 0
                outgoing.target, outgoing.trunk = self._target(to)
                return True
        return False

    async def _by(self, hop: Hop, outgoing: "_Outgoing") -> bool:
        """Whether there was not even an answer, and another way is to be tried (RFC 3263, 4.3)."""
        agent, dial, trunk = self._agent, outgoing.dial, outgoing.trunk
        port = self._legs.open_port(hop.host)
        try:
            certificate = self._legs.certificate()
            local = Local(agent.local_host(hop.host), port.port, port.report_port, certificate.fingerprint)
            keying = trunk.keying if trunk is not None else None
            negotiation = Negotiation(local, agent.options.codecs, agent.options.security, keying)
            session = outgoing.session = self._legs.new_session(negotiation, port, certificate)
            session.admission = Admission("", dial.leg, dial.resume, outgoing.callee)
            session.ringing = outgoing
            outgoing.again = False
            session.call = agent.endpoint.invite(
                outgoing.target,
                self._caller(dial, trunk, local),
                hop,
                session,
                agent.now_ms(),
                answer_ms=dial.answer_ms,
                headers=_headers(dial),
                answerer=Answerer(trunk.credentials) if trunk is not None and trunk.credentials is not None else None,
            )
            agent.arm()
            await self._legs.attend(session, hop.host)
        finally:
            port.close()
        return outgoing.again

    def _caller(self, dial: Dial, trunk: Trunk | None, local: Local) -> str:
        user = dial.caller or (trunk.caller if trunk is not None else "") or sip.SOFTWARE.lower()
        at = trunk.uri.host if trunk is not None else f"{sip.bracketed(local.host)}:{self._agent.transport.port}"
        return f"<sip:{quote(user, safe=USER)}@{at}>"


def _headers(dial: Dial) -> list[tuple[str, str]]:
    named = (("Replaces", dial.replaces), ("Require", "replaces" if dial.replaces else ""), ("Referred-By", dial.by))
    return [(name, value) for name, value in named if value]


class _Outgoing:
    """Implements `media.gateway.Dialling` for its owner, and tells the callee what comes of it."""

    def __init__(self, dial: Dial, callee: Callee, target: Written, trunk: Trunk | None) -> None:
        self.dial = dial
        self.callee = callee
        self.target = target
        self.trunk = trunk
        self.session: Session | None = None
        self.cancelled = False
        self.more = False  # ways that may be tried
        self.again = False  # one of them is to be
        self.moved = 0  # the status of a redirection, until it is known whether it is followed
        self.contacts: Sequence[str] = ()
        self._rang = False
        self._told = False

    def cancel(self) -> None:
        self.cancelled = self._told = True
        if self.session is not None:
            self.session.cancel()

    def rang(self) -> None:
        self._rang = True
        if not self._told:
            self.callee.rang()

    def not_followed(self) -> None:
        if self.moved:
            moved, self.moved = self.moved, 0
            self.not_reached(moved)

    def not_reached(self, status: int, contacts: Sequence[str] = ()) -> None:
        if contacts and self.dial.redirect is not None and not self._told:
            self.moved, self.contacts = status, contacts
        elif self.more and not self._rang and status in (408, 503) and not self.cancelled:
            self.again = True
        elif not self._told:
            self._told = True
            self.callee.not_reached(status)
