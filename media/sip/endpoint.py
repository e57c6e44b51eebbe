"""A user agent (RFC 3261, 8): what comes finds its transaction, its call or its refusal. Sans-IO.

Who may call at all is decided by `EndpointListener.screen`, before anything is remembered of a request.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from sipmessage import CSeq, Request, Response

from media.sip import bodies
from media.sip import message as sip
from media.sip.auth import Answerer
from media.sip.bodies import Unsupported
from media.sip.call import MAX_CHALLENGES, Call, CallListener
from media.sip.dialog import Dialog
from media.sip.inbound import InboundCall
from media.sip.message import Hop, Message, MessageError
from media.sip.outbound import OutboundCall
from media.sip.timers import Timers
from media.sip.transaction import (
    ClientTransaction,
    Failed,
    InviteClient,
    InviteServer,
    Responded,
    Sender,
    ServerTransaction,
    Transactions,
    server_key,
)

METHODS: Final = ("INVITE", "ACK", "CANCEL", "BYE", "OPTIONS", "UPDATE", "PRACK", "INFO", "REFER", "NOTIFY")
EXTENSIONS: Final = frozenset({"100rel", "timer", "replaces", "norefersub"})
MAX_TRANSACTIONS: Final = 20_000
MAX_CALLS: Final = 10_000
RETRY_AFTER_S: Final = (5, 15)


class Shell(Sender, Protocol):
    def local(self, hop: Hop) -> tuple[str, int]:
        """The address that the peer at this hop knows us by: for Via and Contact."""
        ...


@dataclass(frozen=True, slots=True)
class Refusal:
    """What a request gets that may not pass. `code` 0: no answer at all."""

    code: int
    challenges: Sequence[str] = ()


class EndpointListener(Protocol):
    def screen(self, request: Request, hop: Hop, now_ms: int) -> Refusal | None:
        """A request outside any dialog. None: it may pass."""
        ...

    def invited(self, call: InboundCall, now_ms: int) -> None:
        """To be accepted or rejected in a while."""
        ...


class Endpoint:
    """Give it messages with `receive`, the time with `tick` at `deadline_ms`, and lost ways with `failed`."""

    extensions = EXTENSIONS

    def __init__(
        self,
        shell: Shell,
        listener: EndpointListener,
        *,
        max_calls: int = MAX_CALLS,
        max_transactions: int = MAX_TRANSACTIONS,
    ) -> None:
        self.sender = shell
        self.timers = Timers()
        self.transactions = Transactions(shell, self.timers, most=max_transactions)
        self.calls: dict[tuple[str, str], Call] = {}  # by Call-ID and our tag
        self._invites: set[tuple[str, str, str]] = set()  # of calls to us that live
        self.mark = "@" + sip.new_tag()  # of the Call-IDs that are ours
        self._shell = shell
        self._listener = listener
        self._max_calls = max_calls

    @property
    def deadline_ms(self) -> int | None:
        return self.timers.deadline_ms

    def tick(self, now_ms: int) -> None:
        self.timers.tick(now_ms)

    def failed(self, hop: Hop, now_ms: int) -> None:
        """What was sent to this hop did not arrive."""
        self.transactions.failed(hop, now_ms)

    # What comes

    def malformed(self, error: MessageError, hop: Hop) -> None:
        """A 400 without a transaction, where the request can be answered and may be (8.2)."""
        if error.request is not None and hop.reliable:
            self._answer_at_once(error.request, hop, 400, str(error))

    def receive(self, message: Message, hop: Hop, now_ms: int) -> None:
        if isinstance(message, Response):
            # What belongs to none of ours is dropped, a 2xx too whose transaction is gone (RFC 6026, 7.2).
            self.transactions.response(message, now_ms)
        else:
            sip.received_from(message, hop)
            self._request(message, hop, now_ms)

    def _request(self, request: Request, hop: Hop, now_ms: int) -> None:
        known = self.transactions.server(request)
        if request.method == "ACK":
            self._acknowledged(request, known, now_ms)
        elif known is not None:
            known.repeated(now_ms)
        elif request.method == "CANCEL":
            self._cancel(request, hop, now_ms)
        elif sip.to_tag(request):
            self._within(request, hop, now_ms)
        else:
            self._outside(request, hop, now_ms)

    def _acknowledged(self, request: Request, known: ServerTransaction | None, now_ms: int) -> None:
        if isinstance(known, InviteServer):
            known.ack(now_ms)
        call = self.calls.get((request.call_id, sip.to_tag(request)))
        if call is not None and call.dialog is not None and call.dialog.remote_tag == sip.from_tag(request):
            call.acknowledged(request, now_ms)

    def _cancel(self, request: Request, hop: Hop, now_ms: int) -> None:
        """9.2. It comes from where its INVITE came from (22.1), for it proves nothing else."""
        invited = self.transactions.servers.get(server_key(request, "INVITE"))
        if invited is None or invited.hop.host != hop.host:
            self._answer_at_once(request, hop, 481)
            return
        transaction = self.transactions.serve(request, hop, now_ms)
        transaction.tag = invited.tag
        transaction.refuse(200, now_ms)
        if not invited.answered and invited.cancelled is not None:
            invited.cancelled(now_ms)

    def _within(self, request: Request, hop: Hop, now_ms: int) -> None:
        call = self.calls.get((request.call_id, sip.to_tag(request)))
        if call is None or not _is_of(call, request):
            self._answer_at_once(request, hop, 481)
        elif self.transactions.full:
            self._answer_at_once(request, hop, 503)
        else:
            call.receive(self.transactions.serve(request, hop, now_ms), request, hop, now_ms)

    def _outside(self, request: Request, hop: Hop, now_ms: int) -> None:
        refusal = self._listener.screen(request, hop, now_ms)
        if refusal is not None:
            if refusal.code:
                self._answer_at_once(request, hop, refusal.code, challenges=refusal.challenges)
        elif self.transactions.full or (request.method == "INVITE" and len(self.calls) >= self._max_calls):
            self._answer_at_once(request, hop, 503)
        elif request.uri.scheme == sip.UNKNOWN or request.uri.scheme not in ("sip", "sips", "tel"):
            self._answer_at_once(request, hop, 416)
        elif (hops := sip.number(request, "Max-Forwards")) is not None and hops <= 0 and request.method != "OPTIONS":
            self._answer_at_once(request, hop, 483)
        elif missing := [name for name in sip.tokens(request, "Require") if name not in EXTENSIONS]:
            self.transactions.serve(request, hop, now_ms).refuse(420, now_ms, Unsupported=", ".join(missing))
        elif _identity(request) in self._invites:  # the same request, by another way (8.2.2.2)
            self.transactions.serve(request, hop, now_ms).refuse(482, now_ms)
        elif request.method == "INVITE":
            self._invite(request, hop, now_ms)
        elif request.method == "OPTIONS":
            self.answer_options(self.transactions.serve(request, hop, now_ms), now_ms)
        else:
            transaction = self.transactions.serve(request, hop, now_ms)
            if request.method in METHODS:
                transaction.refuse(481, now_ms)
            else:
                self.refuse_method(transaction, now_ms)

    def _invite(self, request: Request, hop: Hop, now_ms: int) -> None:
        transaction = self.transactions.serve(request, hop, now_ms)
        assert isinstance(transaction, InviteServer)
        try:
            call = InboundCall(self, transaction, request, hop)
        except Unsupported:
            transaction.refuse(415, now_ms, Accept=bodies.SDP)
            return
        except MessageError as error:
            transaction.refuse(400, now_ms, str(error))
            return
        if call.session_timer.refuses(transaction, request, now_ms):
            return
        self.calls[call.key] = call
        self._invites.add(_identity(request))
        # At once, so that the peer stops repeating, and without a tag: nobody has answered (17.2.1).
        transaction.respond(sip.response(request, 100), now_ms)
        self._listener.invited(call, now_ms)

    def replaced(self, call: InboundCall) -> Call | None:
        """The call whose place a new one asks to take (RFC 3891, 3)."""
        asked = call.replaces
        found = self.calls.get((asked.call_id, asked.to_tag)) if asked is not None else None
        if asked is None or found is None or found.dialog is None or found.dialog.remote_tag != asked.from_tag:
            return None
        return found if found.live and not asked.early_only else None

    def _answer_at_once(
        self, request: Request, hop: Hop, code: int, reason: str = "", *, challenges: Sequence[str] = ()
    ) -> None:
        """Stateless (8.2.7): the same request gets the same answer each time, and nothing is kept of it."""
        if request.method == "ACK":
            return
        self.transactions.refused[code] += 1
        tag = f"{hash((request.call_id, request.headers['CSeq'], self.mark)) & 0xFFFFFFFF:08x}"
        response = sip.response(request, code, reason, tag=tag)
        for challenge in challenges:
            response.headers.add("WWW-Authenticate", challenge)
        if code == 503:
            response.headers.set("Retry-After", str(random.randint(*RETRY_AFTER_S)))  # noqa: S311  # no secret
        self.sender.send(sip.reply_hop(request, hop), sip.write(response))

    def screens(self, transaction: ServerTransaction, request: Request, hop: Hop, now_ms: int) -> bool:
        """Whether this request within a dialog may pass as one outside of any would; else it has been refused."""
        refusal = self._listener.screen(request, hop, now_ms)
        if refusal is None:
            return True
        response = sip.response(request, refusal.code or 403, tag=transaction.tag)
        for challenge in refusal.challenges:
            response.headers.add("WWW-Authenticate", challenge)
        transaction.respond(response, now_ms)
        return False

    def answer_options(self, transaction: ServerTransaction, now_ms: int) -> None:
        """What we can do (11.2)."""
        response = self.response(transaction, 200)
        response.headers.set("Accept", bodies.SDP)
        transaction.respond(response, now_ms)

    def refuse_method(self, transaction: ServerTransaction, now_ms: int) -> None:
        transaction.refuse(405, now_ms, Allow=", ".join(METHODS))

    # What goes

    def response(self, transaction: ServerTransaction, code: int, sdp: str = "") -> Response:
        """With all that a response within a dialog has (12.1.1)."""
        request = transaction.request
        response = sip.response(request, code, tag=transaction.tag)
        if routes := sip.values(request, "Record-Route"):
            response.headers.setlist("Record-Route", routes)
        self._describe(response, transaction.hop, sdp)
        return response

    def complete(self, request: Request, hop: Hop, sdp: str = "") -> None:
        """What every request of ours within a dialog has besides what the dialog gives it."""
        request.headers.set("User-Agent", sip.SOFTWARE)
        self._describe(request, hop, sdp)

    def _describe(self, message: Message, hop: Hop, sdp: str) -> None:
        message.headers.set("Contact", self.contact(hop))
        message.headers.set("Allow", ", ".join(METHODS))
        message.headers.set("Supported", ", ".join(sorted(EXTENSIONS)))
        if sdp:
            message.headers.set("Content-Type", bodies.SDP)
            message.body = sdp.encode()

    def contact(self, hop: Hop) -> str:
        host, port = self._shell.local(hop)
        suffix = f";transport={hop.transport}" if hop.reliable else ""
        return f"<sip:{sip.bracketed(host)}:{port}{suffix}>"

    def transact(
        self, request: Request, hop: Hop, now_ms: int, responded: Responded, failed: Failed
    ) -> ClientTransaction:
        """A new transaction: the request gets its own Via."""
        request.headers.setlist("Via", [self._via(hop)])
        return self.transactions.request(request, hop, now_ms, responded, failed)

    def give_up(self, invite: Request, now_ms: int, within_ms: int) -> None:
        """Without a final response by then there is none, however often the peer says that it is trying."""
        client = self.transactions.clients.get((sip.top_via(invite).parameters.get("branch") or "", "INVITE"))
        if isinstance(client, InviteClient):
            client.give_up(now_ms, within_ms)

    def acknowledge(self, ack: Request, hop: Hop) -> None:
        """An ACK to a 2xx is a transaction of its own, without any answer (13.2.2.4)."""
        ack.headers.setlist("Via", [self._via(hop)])
        ack.headers.set("User-Agent", sip.SOFTWARE)
        self.sender.send(hop, sip.write(ack))

    def exchange(
        self,
        request: Request,
        hop: Hop,
        now_ms: int,
        responded: Responded,
        failed: Failed,
        *,
        dialog: Dialog | None = None,
        answerer: Answerer | None = None,
    ) -> None:
        """A request with its challenges answered on the way (22)."""

        challenges = 0

        def answered(response: Response, now_ms: int) -> None:
            nonlocal challenges
            challenges += response.code in (401, 407)
            asks = response.code in (401, 407) and challenges <= MAX_CHALLENGES
            if asks and answerer is not None and answerer.answers(request, response):
                cseq = CSeq.parse(request.headers["CSeq"])
                sequence = cseq.sequence + 1
                if dialog is not None:
                    sequence = dialog.local_sequence = dialog.local_sequence + 1
                request.headers.set("CSeq", f"{sequence} {cseq.method}")
                self.transact(request, hop, now_ms, answered, failed)
            else:
                responded(response, now_ms)

        self.transact(request, hop, now_ms, answered, failed)

    def invite(
        self,
        target: sip.Written,
        caller: str,
        hop: Hop,
        listener: CallListener,
        now_ms: int,
        *,
        answer_ms: int,
        answerer: Answerer | None = None,
        headers: Sequence[tuple[str, str]] = (),
    ) -> OutboundCall:
        """A call of ours. `caller` is the From, without its tag."""
        tag = sip.new_tag()
        request = self.new_request("INVITE", target, f"{caller};tag={tag}", f"<{target}>")
        for name, value in headers:
            request.headers.add(name, value)
        self.complete(request, hop, listener.wanted(now_ms))
        call = OutboundCall(self, request, hop, listener, answerer)
        self.calls[call.key] = call
        call.start(now_ms, answer_ms)
        return call

    def new_request(self, method: str, target: sip.Written, from_: str, to: str) -> Request:
        """Outside any dialog (8.1.1)."""
        request = Request(method, target)
        request.headers.set("From", from_)
        request.headers.set("To", to)
        request.headers.set("Call-ID", sip.new_tag() + self.mark)
        request.headers.set("CSeq", f"1 {method}")
        request.headers.set("Max-Forwards", str(sip.MAX_HOPS))
        return request

    def _via(self, hop: Hop) -> str:
        host, port = self._shell.local(hop)
        return f"SIP/2.0/{hop.transport.upper()} {sip.bracketed(host)}:{port};branch={sip.new_branch()};rport"

    def forget(self, call: Call) -> None:
        """Its dialog is over."""
        self.calls.pop(call.key, None)
        if isinstance(call, InboundCall):
            self._invites.discard(_identity(call.request))


def _is_of(call: Call, request: Request) -> bool:
    """Before somebody answered, any fork may send requests."""
    return call.dialog is None or call.dialog.remote_tag == sip.from_tag(request)


def _identity(request: Request) -> tuple[str, str, str]:
    return request.call_id, request.headers["CSeq"], sip.from_tag(request)
