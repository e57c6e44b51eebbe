"""Where a leg meets its call: admit it, find its flow, start or resume its call."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from msgspec.structs import replace

from app.core.codec import CORE_VERSION, CallHeader
from app.core.core import CallCore
from app.core.effects import CallInstead
from app.core.events import CallPlaced, CallStarted, LegRole, NotReached
from app.dialler.outcome import Outcome
from app.ports import Clock, Llm, StoreError, Stt, Tools, Tts
from app.runtime.actor import CallActor, HandOver, Watch
from app.runtime.guest import Guest
from app.runtime.journal import CallJournal, JournalWriter
from app.runtime.line import Follow, Heir, Line, Recording
from app.runtime.registry import OVERLOAD, Full, Registry
from flows import load
from flows.model import Flow
from media.gateway import Admission, Dial, Dialler, LegRequest, Redirect, Refused, Unavailable
from media.leg import CloseCode


@dataclass(frozen=True, slots=True)
class Providers:
    stt: Stt
    tts: Tts
    llms: Mapping[str, Llm]  # by the names that a flow's models `use`
    tools: Tools


Ended = Callable[[CallActor], None]

OUTBOUND = "outbound"
"""As whose calls ours are counted."""

UNRECORDED = "no call can be recorded now"

GRACE_MS = 2000

Permit = Callable[[LegRequest], str]
"""Checks token and signature; returns the caller's name for the record. Raises `Refused`."""

Route = Callable[[LegRequest], str]
"""The name of the flow that answers. Raises `Refused`."""


def resume_key(transport: str, token: str) -> str:
    """How a lost leg's call is found again. A token of one transport opens nothing on another."""
    return f"{transport}:{token}"


class Switchboard:
    """Implements `media.gateway.Gateway`."""

    def __init__(
        self,
        registry: Registry,
        flows: Mapping[str, Flow],
        providers: Providers,
        writer: JournalWriter,
        clock: Clock,
        *,
        permit: Permit,
        route: Route,
        new_id: Callable[[], str],
        new_key: Callable[[], bytes],
        record: Recording,
        watch: Watch | None = None,
        follow: Follow = lambda call, tell: lambda: None,
        hand_over: HandOver | None = None,
    ) -> None:
        self._hand_over = hand_over
        self._registry = registry
        self._flows = flows
        self._providers = providers
        self._writer = writer
        self._clock = clock
        self._permit = permit
        self._route = route
        self._new_id = new_id
        self._new_key = new_key
        self._record = record
        self._watch = watch
        self._follow = follow

    async def admit(self, request: LegRequest) -> Admission:
        name = self._permit(request)
        if request.listen:
            return self._listener(request.listen, name)
        key = resume_key(request.transport, request.peer_call or request.resume)
        if (actor := self._registry.resumable(key)) is not None:
            actor.replace_leg()
            return self._admission(actor, request, None)
        if request.resume:
            raise Refused(CloseCode.unauthorized, "this call cannot be resumed: it has ended, or the token was used")
        self.turn_away(request)
        actor = self.start(self._flows[self._route(request)], request.source)
        started = CallStarted(actor.call, request.transport, request.caller or name, request.called)
        return self._admission(actor, request, started)

    def turn_away(self, request: LegRequest) -> None:
        if request.resume or request.listen:
            return
        try:
            self._check(request.source)
        except StoreError as error:
            raise Unavailable(UNRECORDED) from error
        except Full as error:
            if error.rule == OVERLOAD:
                raise Unavailable(str(error)) from error
            raise Refused(CloseCode.busy, str(error)) from error

    def _check(self, address: str) -> None:
        """Raises `Full` and `StoreError` where no call can begin."""
        if self._writer.error is not None:
            raise self._writer.error
        self._registry.check(address)

    def _listener(self, call: str, name: str) -> Admission:
        actor = self._registry.get(call)
        if actor is None:
            raise Refused(CloseCode.unknown_call, "there is no such live call")
        leg = f"{call}-{self._new_id()}"
        return Admission(call, leg, "", Guest(actor, leg, LegRole.operator, name), actor.core.flow.name)

    def start(self, flow: Flow, address: str, ended: Ended | None = None) -> CallActor:
        """A new call with its journal begun. Raises `Full` and `StoreError`."""
        self._check(address)
        call = self._new_id()
        encoded = load.flow_bytes(flow)
        header = CallHeader(call, flow.name, load.flow_hash(flow), CORE_VERSION, 1, self._clock.wall_iso())
        journal = CallJournal(self._writer, header, encoded, self._new_key())
        actor = CallActor(
            CallCore(flow, call),
            journal,
            llms=dict(self._providers.llms),
            tools=self._providers.tools,
            clock=self._clock,
            watch=self._watch,
            hand_over=self._hand_over,
        )
        self._registry.start(actor, address, ended)
        return actor

    def place(
        self, order: CallPlaced, flow: str, dialler: Dialler, to: str, ended: Ended, redirect: Redirect | None = None
    ) -> CallActor:
        """Call somebody: `order` lacks its leg. Raises `Full`, `StoreError` and `Refused`.

        `ended` is told once, when the call has its record.
        """
        if flow not in self._flows:
            raise Refused(CloseCode.unknown_flow, "there is no such flow")
        actor = self.start(self._flows[flow], OUTBOUND, ended)
        leg = actor.call
        started = CallStarted(leg, order.transport, order.caller, order.called)
        line = self._line(actor, leg, started, detect=order.detect)
        actor.post(replace(order, leg=leg))
        # A little longer than the call itself waits, whose decision it is.
        token = self._new_token()
        self._registry.bind(resume_key(order.transport, token), actor.call)
        answer_ms = order.answer_ms + GRACE_MS
        dial = Dial(to=to, leg=leg, caller=order.caller, answer_ms=answer_ms, resume=token, redirect=redirect)
        try:
            dialling = dialler.dial(dial, line)
        except Refused:
            actor.post(NotReached(leg, Outcome.failed))
            raise
        actor.on_end(lambda cause, outcome: dialling.cancel())
        return actor

    def heir(self, actor: CallActor, order: CallInstead) -> tuple[Heir, str]:
        """Who is called in the caller's place, and the token with which their leg may come back."""
        token = self._new_token()
        heir = Heir(
            actor,
            order.leg,
            order.n,
            lambda: self._registry.bind(resume_key("sip", token), actor.call),
            stt=self._providers.stt,
            tts=self._providers.tts,
            clock=self._clock,
            record=self._record if actor.core.flow.record else _unrecorded,
            follow=self._follow,
        )
        return heir, token

    def _new_token(self) -> str:
        return self._new_id() + self._new_id()

    def _admission(self, actor: CallActor, request: LegRequest, started: CallStarted | None) -> Admission:
        leg = actor.call if started is not None else f"{actor.call}-{self._new_id()}"
        token = request.peer_call or self._new_token()
        self._registry.bind(resume_key(request.transport, token), actor.call)
        line = self._line(actor, leg, started)
        return Admission(actor.call, leg, token, line, actor.core.flow.name)

    def _line(self, actor: CallActor, leg: str, started: CallStarted | None, *, detect: bool = False) -> Line:
        return Line(
            actor,
            leg,
            started,
            stt=self._providers.stt,
            tts=self._providers.tts,
            clock=self._clock,
            record=self._record if actor.core.flow.record else _unrecorded,
            follow=self._follow,
            detect=detect,
        )


def _unrecorded(call: str, rate_hz: int, now_ms: int) -> None:
    return None
