"""Calls to us: from an INVITE to a leg, or to a refusal."""

import asyncio
import logging
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Final

from media.gateway import LegRequest, Refused, Unavailable
from media.leg import CloseCode
from media.sdp import SdpError
from media.sip.agent import Agent
from media.sip.call import Stage
from media.sip.inbound import InboundCall
from media.sip.legs import Legs
from media.sip.negotiation import Local, Negotiation
from media.sip.port import MediaPort
from media.sip.session import Session
from media.sip.sockets import NoPort
from media.source import source

RESUME_S: Final = 60  # for which a lost dialog may be replaced by a new one
MAX_RESUMABLE: Final = 10_000
RING_LOOK_S: Final = 0.1  # between looks at whether the caller is still there

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

log = logging.getLogger("voicegate.sip")


class Admissions:
    def __init__(self, agent: Agent, legs: Legs) -> None:
        self._agent = agent
        self._legs = legs
        self._resumable: dict[tuple[str, str, str], tuple[str, float]] = {}  # token and end, by dialog

    def invited(self, call: InboundCall, user: str, now_ms: int) -> None:
        """`user`: who signed in for it."""
        if self._agent.stopping:
            call.reject(503, now_ms, Retry_After="10")
        else:
            self._agent.spawn(self._live(call, user))

    async def _live(self, call: InboundCall, user: str) -> None:
        """One call, from its INVITE to its end."""
        try:
            with ExitStack() as waiting:
                waiting.enter_context(self._legs.reception.place(call.source.host))
                await self._answer(call, user, waiting)
        except Unavailable as error:
            self._reject(call, 503, error.reason)
        except Refused as error:
            self._reject(call, _CODES.get(error.code, 480), error.reason)
        except NoPort as error:
            log.error("%s", error)
            self._reject(call, 503, str(error))
        except Exception as error:  # noqa: BLE001  # ours, and it ends this leg only
            log.error("a SIP leg failed: %s", type(error).__name__)
            self._reject(call, 500, "internal error")
        finally:
            self._agent.arm()

    def _reject(self, call: InboundCall, code: int, reason: str) -> None:
        headers = {"Retry_After": "10"} if code in (486, 503) else {}
        call.reject(code, self._agent.now_ms(), **headers, Reason=f'SIP;cause={code};text="{reason}"')

    async def _answer(self, call: InboundCall, user: str, waiting: ExitStack) -> None:
        resume = self._resume(call)
        if call.replaces is not None and not resume:
            call.reject(481, self._agent.now_ms())
            return
        request = _leg_request(call, user, resume)
        self._legs.reception.turn_away(request)
        port = self._legs.open_port(call.source.host)
        try:
            await self._answer_at(port, call, request, waiting)
        finally:
            port.close()

    async def _answer_at(self, port: MediaPort, call: InboundCall, request: LegRequest, waiting: ExitStack) -> None:
        agent, options = self._agent, self._agent.options
        certificate = self._legs.certificate()
        peer = call.source.host
        local = Local(agent.local_host(peer), port.port, port.report_port, certificate.fingerprint, peer)
        negotiation = Negotiation(local, options.codecs, options.security)
        try:
            sdp = negotiation.answer(call.offer) if call.offer else negotiation.offer()
        except SdpError as error:
            call.reject(488, agent.now_ms(), Warning=f'304 {local.host} "{error}"')
            return
        if options.ring_ms:
            await self._ring_for(call, options.ring_ms)
        if call.stage is not Stage.setup or agent.stopping:  # the caller gave up meanwhile, or we do
            call.reject(503, agent.now_ms())
            return
        admission = await self._legs.reception.admit(request)
        session = self._legs.new_session(negotiation, port, certificate)
        session.admission, session.call = admission, call
        call.name = admission.call
        waiting.close()
        if (replaced := agent.endpoint.replaced(call)) is not None:
            replaced.hang_up(agent.now_ms(), 'SIP;cause=200;text="Replaced"')
        call.accept(sdp, session, agent.now_ms())
        agent.arm()
        try:
            await self._legs.attend(session)
        finally:
            self._remember(call, session)

    async def _ring_for(self, call: InboundCall, ring_ms: int) -> None:
        """Until then, or until the caller has had enough."""
        agent = self._agent
        call.ring(agent.now_ms())
        agent.arm()
        until_ms = agent.now_ms() + ring_ms
        while agent.now_ms() < until_ms and call.stage is Stage.setup and not agent.stopping:  # noqa: ASYNC110
            await asyncio.sleep(min(RING_LOOK_S, ring_ms / 1000))

    # A call that takes the place of another

    def _resume(self, call: InboundCall) -> str:
        """The token of the leg whose place this call is to take (RFC 3891); empty: none.

        Whoever may call us and knows all of the dialog's tags may: they are random, and told to nobody but the peer,
        who hands them on where it wants a transfer.
        """
        asked = call.replaces
        if asked is None or asked.early_only:
            return ""
        wanted = asked.call_id, asked.to_tag, asked.from_tag
        for session in self._legs.sessions:
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


def _leg_request(call: InboundCall, user: str, resume: str) -> LegRequest:
    caller, called = call.identity
    return LegRequest(
        transport="sip",
        peer=call.source.host,
        source=source(call.source.host, {}, ()),
        caller=caller,
        called=called,
        identity=user,
        resume=resume,
    )
