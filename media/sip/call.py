"""One call in one dialog: what both sides do from the first answer to the BYE (RFC 3261, 13 to 15).

How it comes about is in `inbound` and `outbound`; what may change while it stands in `modify`, `refresh` and `refer`.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final, Protocol

from sipmessage import Request, Response

from media.sip import bodies
from media.sip import message as sip
from media.sip.auth import Answerer
from media.sip.dialog import Dialog
from media.sip.message import Hop, MessageError
from media.sip.modify import Modification
from media.sip.refer import Referral, Transfers
from media.sip.refresh import SessionTimer
from media.sip.transaction import Failure, InviteServer, ServerTransaction

if TYPE_CHECKING:
    from media.sip.endpoint import Endpoint


MAX_CHALLENGES: Final = 3  # to one request: whoever asks on and on has no end in mind


class Stage(StrEnum):
    setup = "setup"  # nobody has answered yet
    accepted = "accepted"  # answered by us, not acknowledged yet
    confirmed = "confirmed"
    closing = "closing"  # our BYE is out, or waits for its turn
    over = "over"


class EndCause(StrEnum):
    ours = "ours"
    hangup = "hangup"  # the peer's BYE
    cancelled = "cancelled"  # the peer's CANCEL
    refused = "refused"  # a final response that is no 2xx: see the code
    timeout = "timeout"  # nobody answered a request
    lost = "lost"  # no way to the peer, no ACK, or the session's time ran out
    replaced = "replaced"  # another call took its place (RFC 3891)


@dataclass(frozen=True, slots=True)
class End:
    cause: EndCause
    code: int = 0
    reason: str = ""  # the peer's words, for logs and records
    contacts: tuple[str, ...] = ()  # whom to call instead, as a refusal says; the best first


class CallListener(Protocol):
    """Told of everything in a call. Nothing here may block or raise."""

    def offered(self, sdp: str, now_ms: int) -> str | None:
        """The peer's offer; our answer, or None where there is nothing in common."""
        ...

    def wanted(self, now_ms: int) -> str:
        """Our offer, as things stand."""
        ...

    def answered(self, sdp: str, now_ms: int) -> bool:
        """The answer to our offer. False: it cannot be used."""
        ...

    def progressed(self, code: int, now_ms: int) -> None:
        """A call of ours: it rings, or something like it."""
        ...

    def confirmed(self, now_ms: int) -> None:
        """Both sides know that the call stands."""
        ...

    def ended(self, end: End, now_ms: int) -> None:
        """Once, and the last."""
        ...

    def digit(self, key: str, duration_ms: int, now_ms: int) -> None:
        """By INFO."""
        ...

    def referred(self, referral: Referral, now_ms: int) -> bool | None:
        """The peer asks that we call somebody else instead. False: it may not. None: `Transfers.progress` will tell."""
        ...

    def transferred(self, code: int, now_ms: int) -> None:
        """How the transfer that we asked for goes; from 200 on it is over."""
        ...


class Call:
    """What is common to calls of either direction."""

    def __init__(self, endpoint: "Endpoint", call_id: str, tag: str, answerer: Answerer | None = None) -> None:
        self.endpoint = endpoint
        self.key = call_id, tag  # our tag
        self._answerer = answerer
        self.timers = endpoint.timers
        self.stage = Stage.setup
        self.dialog: Dialog | None = None
        self.listener: CallListener | None = None
        self.modification = Modification(self)
        self.session_timer = SessionTimer(self)
        self.transfers = Transfers(self)
        self.allows: frozenset[str] = frozenset()  # methods, as the peer says
        self.supports: frozenset[str] = frozenset()
        self.name = ""  # of the call in the records of the side that was called, where that side is ours
        self._bye_due: str | None = None  # with this reason, once the ACK is here

    @property
    def stands(self) -> Dialog:
        """The dialog of a call that has one."""
        assert self.dialog is not None
        return self.dialog

    @property
    def live(self) -> bool:
        return self.stage in (Stage.accepted, Stage.confirmed)

    def learn(self, message: Request | Response) -> None:
        """What the peer can do, from any message that says so."""
        if said := sip.values(message, "Allow"):
            self.allows = frozenset(value.upper() for value in said)
        if supported := sip.tokens(message, "Supported"):
            self.supports = frozenset(supported)

    # Requests of the peer within the dialog

    def receive(self, transaction: ServerTransaction, request: Request, hop: Hop, now_ms: int) -> None:
        """Any but ACK and CANCEL."""
        dialog = self.dialog
        if dialog is None or self.stage is Stage.over:
            transaction.refuse(481, now_ms)
        elif not dialog.admits(request):
            transaction.refuse(500, now_ms, "CSeq out of order")
        elif missing := [name for name in sip.tokens(request, "Require") if name not in self.endpoint.extensions]:
            transaction.refuse(420, now_ms, Unsupported=", ".join(missing))
        else:
            self.learn(request)
            self._dispatch(transaction, request, hop, now_ms)

    def _dispatch(self, transaction: ServerTransaction, request: Request, hop: Hop, now_ms: int) -> None:
        match request.method:
            case "BYE":
                transaction.refuse(200, now_ms)
                self.finish(End(EndCause.hangup, reason=reason_of(request)), now_ms)
            case _ if self.stage is Stage.closing:
                transaction.refuse(481, now_ms)
            case "INVITE":
                assert isinstance(transaction, InviteServer)
                self.modification.invited(transaction, request, hop, now_ms)
            case "UPDATE":
                self.modification.updated(transaction, request, hop, now_ms)
            case "PRACK":
                self.pracked(transaction, request, now_ms)
            case "INFO":
                self._informed(transaction, request, now_ms)
            case "REFER":
                self.transfers.asked(transaction, request, hop, now_ms)
            case "NOTIFY":
                self.transfers.notified(transaction, request, now_ms)
            case "OPTIONS":
                self.endpoint.answer_options(transaction, now_ms)
            case _:
                self.endpoint.refuse_method(transaction, now_ms)

    def pracked(self, transaction: ServerTransaction, request: Request, now_ms: int) -> None:
        """Only one who was invited sent something to acknowledge."""
        transaction.refuse(481, now_ms)

    def _informed(self, transaction: ServerTransaction, request: Request, now_ms: int) -> None:
        found = bodies.digit(request)
        if found is not None and self.listener is not None and self.live:
            self.listener.digit(*found, now_ms)
        known = not request.body or found is not None
        if known:
            transaction.refuse(200, now_ms)
        else:
            transaction.refuse(415, now_ms, Accept=f"{bodies.DTMF_RELAY}, {bodies.DTMF}")

    def acknowledged(self, request: Request, now_ms: int) -> None:
        """An ACK to a 2xx of ours: the first one, or a re-INVITE's."""
        self.modification.acknowledged(request, now_ms)

    # Our requests

    def send(self, request: Request, now_ms: int, *, then: "Outcome | None" = None) -> None:
        """A request of ours within the dialog. What 408 and 481 mean for the dialog is seen to here (12.2.1.2)."""

        def responded(response: Response, now_ms: int) -> None:
            if response.code >= 200:
                # A NOTIFY is of the subscription: the call outlives that (RFC 5057, 5.1).
                if response.code in (408, 481) and request.method not in ("BYE", "NOTIFY"):
                    self._gone(EndCause.lost, response.code, now_ms)
                if then is not None:
                    then.done(response, now_ms)

        def failed(failure: Failure, now_ms: int) -> None:
            if request.method != "BYE":
                self._gone(EndCause.timeout if failure is Failure.timeout else EndCause.lost, 0, now_ms)
            if then is not None:
                then.done(None, now_ms)

        self.endpoint.exchange(
            request, self.stands.hop, now_ms, responded, failed, dialog=self.dialog, answerer=self._answerer
        )

    def _gone(self, cause: EndCause, code: int, now_ms: int) -> None:
        if self.live:
            self._bye(now_ms, "")
            self._tell(End(cause, code), now_ms)

    def confirm(self, now_ms: int) -> None:
        """The ACK is here."""
        if self.stage is Stage.accepted:
            self.stage = Stage.confirmed
            if self.listener is not None:
                self.listener.confirmed(now_ms)
        else:
            self.leave(now_ms)

    def unacknowledged(self, now_ms: int) -> None:
        """No ACK came in all that time: the session ends (13.3.1.4)."""
        if self._bye_due is not None:
            self._bye(now_ms, self._bye_due)
        else:
            self._gone(EndCause.lost, 0, now_ms)

    def expired(self, now_ms: int) -> None:
        """The session was not refreshed (RFC 4028, 10)."""
        self._gone(EndCause.lost, 408, now_ms)

    def hang_up(self, now_ms: int, reason: str = "") -> None:
        """`reason` is a Reason header's value (RFC 3326)."""
        if self.stage is Stage.confirmed and not self.transfers.telling:
            self._bye(now_ms, reason)
            self._tell(End(EndCause.ours), now_ms)
        elif self.live:  # no BYE before the ACK (RFC 3261, 15)
            self.stage = Stage.closing
            self._bye_due = reason
            self._tell(End(EndCause.ours), now_ms)

    def leave(self, now_ms: int) -> None:
        """What the BYE had to wait for has come."""
        if self.stage is Stage.closing and self._bye_due is not None:
            self._bye(now_ms, self._bye_due)

    def _bye(self, now_ms: int, reason: str) -> None:
        self.stage = Stage.closing
        self._bye_due = None
        self._disarm(now_ms)
        request = self.stands.request("BYE")
        self.endpoint.complete(request, self.stands.hop)
        if reason:
            request.headers.set("Reason", reason)
        self.send(request, now_ms, then=_Forget(self))

    def finish(self, end: End, now_ms: int) -> None:
        """There is no dialog any more."""
        if self.stage is not Stage.over:
            self.stage = Stage.over
            self._disarm(now_ms)
            self.modification.abandon(now_ms)
            self.endpoint.forget(self)
            self._tell(end, now_ms)

    def _tell(self, end: End, now_ms: int) -> None:
        listener, self.listener = self.listener, None
        if listener is not None:
            listener.ended(end, now_ms)

    def _disarm(self, now_ms: int) -> None:
        self.modification.disarm()
        self.session_timer.disarm()
        self.transfers.disarm(now_ms)

    def refreshed(self, message: Request | Response, hop: Hop | None) -> None:
        """The peer may have moved. An unusable Contact leaves it where it was."""
        try:
            self.stands.refreshed(message, hop)
        except MessageError:
            return


class Outcome(Protocol):
    def done(self, response: Response | None, now_ms: int) -> None:
        """The final response; None: there was none."""
        ...


class _Forget:
    """After our BYE, whatever came of it."""

    def __init__(self, call: Call) -> None:
        self._call = call

    def done(self, response: Response | None, now_ms: int) -> None:
        self._call.finish(End(EndCause.ours), now_ms)


def reason_of(message: Request | Response) -> str:
    """The Reason header (RFC 3326), short enough for a record."""
    return " ".join(sip.values(message, "Reason"))[:100]
