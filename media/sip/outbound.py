"""A call of ours, from the INVITE to somebody's answer (RFC 3261, 13.2): forks, early media, reliable ringing."""

from contextlib import suppress
from typing import TYPE_CHECKING, Final

from sipmessage import Request, Response

from media.sip import bodies
from media.sip import message as sip
from media.sip.auth import Answerer, carry
from media.sip.bodies import Unsupported
from media.sip.call import MAX_CHALLENGES, Call, CallListener, End, EndCause, Stage, reason_of
from media.sip.dialog import Dialog
from media.sip.message import Hop, MessageError, Written
from media.sip.refer import plain
from media.sip.transaction import Failure, InviteClient, ServerTransaction

if TYPE_CHECKING:
    from media.sip.endpoint import Endpoint

MAX_FORKS: Final = 10  # that ring at once
MOVED: Final = (300, 301, 302)
MAX_CONTACTS: Final = 5  # of a redirection
CANCEL_MS: Final = 32_000  # after a CANCEL, for the final response


class OutboundCall(Call):
    """Rings until somebody answers, refuses, or `answer_ms` have passed."""

    def __init__(
        self, endpoint: "Endpoint", request: Request, hop: Hop, listener: CallListener, answerer: Answerer | None
    ) -> None:
        super().__init__(endpoint, request.call_id, sip.from_tag(request), answerer)
        self.listener = listener
        self.request = request
        self.answer_ms = 0
        self.early_media = False
        self._hop = hop
        self._transaction: InviteClient | None = None
        self._proceeding = False
        self._cancelling = False
        self._reliable: dict[str, int] = {}  # RSeq seen last, by the tag of who rings
        self._early: dict[str, Dialog] = {}
        self._described = ""  # the tag of whose answer to our offer is here
        self._refused_forks: set[str] = set()  # their tags
        self._challenges = 0

    def start(self, now_ms: int, answer_ms: int) -> None:
        self.answer_ms = answer_ms
        self.timers.arm((self, "answer"), now_ms + answer_ms, self._unanswered)
        self._invite(now_ms)

    def _invite(self, now_ms: int) -> None:
        self.session_timer.request(self.request)
        transaction = self.endpoint.transact(self.request, self._hop, now_ms, self._responded, self._failed)
        assert isinstance(transaction, InviteClient)
        self._transaction = transaction

    def _again(self, now_ms: int) -> None:
        """The same INVITE with what was asked for (22.2): a new transaction, the next number."""
        self._proceeding = False
        self.request.headers.set("CSeq", f"{sip.sequence(self.request) + 1} INVITE")
        self._invite(now_ms)

    # What comes back

    def _responded(self, response: Response, now_ms: int) -> None:
        if response.code < 200:
            self._provisional(response, now_ms)
        elif response.code < 300:
            self._accepted(response, now_ms)
        elif self.stage is Stage.setup:
            self._refused(response, now_ms)

    def _provisional(self, response: Response, now_ms: int) -> None:
        if self.stage is not Stage.setup:
            return
        if not self._proceeding:
            self._proceeding = True
            if self._cancelling:
                self._cancel(now_ms)
                return
        tag = sip.to_tag(response)
        if response.code == 100 or not tag:
            return
        self._dialog_of(response, tag)
        if "100rel" in sip.tokens(response, "Require") and not self._prack(response, tag, now_ms):
            return
        self._take_early(response, now_ms)
        if self.listener is not None:
            self.listener.progressed(response.code, now_ms)

    def _take_early(self, response: Response, now_ms: int) -> None:
        """The first description counts as the answer: what is said before the call stands is heard (RFC 3960)."""
        try:
            sdp = bodies.description(response)
        except Unsupported:
            return
        if sdp and not self._described and self.listener is not None:
            self.early_media = self.listener.answered(sdp, now_ms)
            self._described = sip.to_tag(response) if self.early_media else ""

    def _prack(self, response: Response, tag: str, now_ms: int) -> bool:
        """Acknowledges (RFC 3262, 4). False: repeated, or out of order."""
        sequence = sip.number(response, "RSeq")
        if sequence is None or sequence <= self._reliable.get(tag, 0):
            return False
        if tag in self._reliable and sequence != self._reliable[tag] + 1:
            return False
        dialog = self._dialog_of(response, tag)
        if dialog is None:
            return False
        self._reliable[tag] = sequence
        request = dialog.request("PRACK")
        self.endpoint.complete(request, dialog.hop)
        request.headers.set("RAck", f"{sequence} {sip.sequence(response)} INVITE")
        self.endpoint.exchange(
            request, dialog.hop, now_ms, lambda *_: None, lambda *_: None, dialog=dialog, answerer=self._answerer
        )
        return True

    def _dialog_of(self, response: Response, tag: str) -> Dialog | None:
        found = self._early.get(tag)
        if found is None and len(self._early) < MAX_FORKS:
            try:
                found = self._early[tag] = Dialog.of_client(self.request, response, self._hop)
            except MessageError:
                return None
        return found

    def receive(self, transaction: ServerTransaction, request: Request, hop: Hop, now_ms: int) -> None:
        """Before the answer whoever rings may ask for something too: by UPDATE (RFC 3311, 5.1)."""
        early = self._early.get(sip.from_tag(request))
        if self.stage is not Stage.setup or early is None:
            super().receive(transaction, request, hop, now_ms)
        elif not early.admits(request):
            transaction.refuse(500, now_ms, "CSeq out of order")
        elif request.method == "UPDATE":
            self._updated_early(transaction, request, early, now_ms)
        elif request.method == "OPTIONS":
            self.endpoint.answer_options(transaction, now_ms)
        else:
            transaction.refuse(481, now_ms)

    def _updated_early(self, transaction: ServerTransaction, request: Request, early: Dialog, now_ms: int) -> None:
        try:
            sdp = bodies.description(request)
        except Unsupported:
            transaction.refuse(415, now_ms, Accept=bodies.SDP)
            return
        answer: str | None = ""
        if sdp and (self._described != early.remote_tag or self.listener is None):
            transaction.refuse(491, now_ms)  # our own offer has no answer of this one yet
            return
        if sdp and self.listener is not None:
            answer = self.listener.offered(sdp, now_ms)
        if answer is None:
            transaction.refuse(488, now_ms)
            return
        with suppress(MessageError):  # it stays where it was
            early.refreshed(request, None)
        transaction.respond(self.endpoint.response(transaction, 200, answer), now_ms)

    def _accepted(self, response: Response, now_ms: int) -> None:
        try:
            dialog = Dialog.of_client(self.request, response, self._hop)
        except MessageError:
            if self.stage is Stage.setup:
                self.finish(End(EndCause.refused, 500, "an answer that cannot be used"), now_ms)
            return
        early = self._early.get(dialog.remote_tag)
        if early is not None:
            dialog.local_sequence = max(dialog.local_sequence, early.local_sequence)
            dialog.remote_sequence = early.remote_sequence
        self._acknowledge(dialog)
        if self.dialog is not None or self.stage is Stage.over:
            if self.dialog is None or dialog.remote_tag != self.dialog.remote_tag:
                self._refuse_fork(dialog, now_ms)
            return
        self.timers.disarm((self, "answer"))
        self.dialog = dialog
        self.stage = Stage.confirmed
        self.learn(response)
        self.name = response.headers.get(sip.CALL_NAME) or ""
        self.session_timer.answered(response, now_ms)
        if self._cancelling:  # the answer and our CANCEL crossed (15)
            self._bye(now_ms, "")
            return
        assert self.listener is not None
        try:
            sdp = bodies.description(response)
        except Unsupported:
            sdp = ""
        # What came early from the same side is the answer, whatever the 2xx repeats (13.2.1).
        fits = self.listener.answered(sdp, now_ms) if sdp else self._described == dialog.remote_tag
        if self.listener is None or self.stage is not Stage.confirmed:
            return  # it hung up on what it was told
        if not fits:
            listener, self.listener = self.listener, None
            self._bye(now_ms, 'SIP;cause=488;text="Not Acceptable Here"')
            listener.ended(End(EndCause.refused, 488), now_ms)
            return
        self.listener.confirmed(now_ms)

    def _acknowledge(self, dialog: Dialog) -> None:
        ack = dialog.request("ACK")
        ack.headers.set("CSeq", f"{sip.sequence(self.request)} ACK")
        carry(self.request, ack)
        self.endpoint.acknowledge(ack, dialog.hop)

    def _refuse_fork(self, dialog: Dialog, now_ms: int) -> None:
        """Somebody else answered too (13.2.2.4). One BYE, however often the answer is repeated."""
        if dialog.remote_tag in self._refused_forks or len(self._refused_forks) >= MAX_FORKS:
            return
        self._refused_forks.add(dialog.remote_tag)
        request = dialog.request("BYE")
        self.endpoint.complete(request, dialog.hop)
        self.endpoint.exchange(request, dialog.hop, now_ms, lambda *_: None, lambda *_: None, dialog=dialog)

    def _refused(self, response: Response, now_ms: int) -> None:
        if not self._cancelling:
            if response.code in (401, 407) and self._answerer is not None:
                self._challenges += 1
                if self._challenges <= MAX_CHALLENGES and self._answerer.answers(self.request, response):
                    self._again(now_ms)
                    return
            elif response.code == 422 and self.session_timer.too_small(response):
                self._again(now_ms)
                return
        cause = EndCause.ours if self._cancelling else EndCause.refused
        reason = reason_of(response) or response.phrase[:100]
        self.finish(End(cause, response.code, reason, redirects(response)), now_ms)

    def _failed(self, failure: Failure, now_ms: int) -> None:
        if self.stage is Stage.setup:
            lost = failure is Failure.transport  # which counts as a 503 (8.1.3.1)
            cause = EndCause.lost if lost else EndCause.timeout
            self.finish(End(EndCause.ours if self._cancelling else cause, 503 if lost else 408), now_ms)

    # Giving up

    def _unanswered(self, now_ms: int) -> None:
        listener = self.listener
        self.listener = None
        self._give_up(now_ms)
        if listener is not None:
            listener.ended(End(EndCause.timeout, 408), now_ms)

    def hang_up(self, now_ms: int, reason: str = "") -> None:
        if self.stage is Stage.setup:
            listener, self.listener = self.listener, None
            self._give_up(now_ms)
            if listener is not None:
                listener.ended(End(EndCause.ours), now_ms)
        else:
            super().hang_up(now_ms, reason)

    def _give_up(self, now_ms: int) -> None:
        if self._cancelling or self.stage is not Stage.setup:
            return
        self._cancelling = True
        self.timers.disarm((self, "answer"))
        if self._proceeding:  # before that nobody knows what to cancel (9.1)
            self._cancel(now_ms)

    def _cancel(self, now_ms: int) -> None:
        assert self._transaction is not None
        cancel = Request("CANCEL", self.request.uri)
        cancel.headers.setlist("Via", [sip.values(self.request, "Via")[0]])
        for name in ("Route", "From", "To", "Call-ID", "Max-Forwards"):
            if found := self.request.headers.getlist(name):
                cancel.headers.setlist(name, list(found))
        cancel.headers.set("CSeq", f"{sip.sequence(self.request)} CANCEL")
        self._transaction.give_up(now_ms, CANCEL_MS)
        self.endpoint.transactions.request(cancel, self._hop, now_ms, lambda *_: None, lambda *_: None)

    def _disarm(self, now_ms: int) -> None:
        super()._disarm(now_ms)
        self.timers.disarm((self, "answer"))


def redirects(response: Response) -> tuple[str, ...]:
    """Whom a redirection names (8.1.3.4), by their `q`; what cannot be called is left out."""
    found: list[tuple[float, str]] = []
    for value in sip.values(response, "Contact") if response.code in MOVED else ():
        with suppress(MessageError, ValueError):
            address = sip.address_of(value)
            if isinstance(address.uri, Written) and address.uri.scheme in ("sip", "sips", "tel"):
                found.append((float(address.parameters.get("q") or 1), plain(address.uri)))
    return tuple(text for _, text in sorted(found, key=lambda one: -one[0])[:MAX_CONTACTS])
