"""Changes of a call that stands: re-INVITE and UPDATE (RFC 3261, 14; RFC 3311), and a 2xx until its ACK."""

import random
from typing import TYPE_CHECKING, Final

from sipmessage import CSeq, Request, Response

from media.sip import bodies
from media.sip import message as sip
from media.sip.auth import carry
from media.sip.bodies import Unsupported
from media.sip.message import Hop
from media.sip.transaction import LIFE_MS, T1_MS, T2_MS, InviteServer, ServerTransaction

if TYPE_CHECKING:
    from media.sip.call import Call

GLARE_OWNER_MS: Final = (2100, 4000)  # who chose the Call-ID waits longer (14.1)
GLARE_OTHER_MS: Final = (0, 2000)
RETRY_AFTER_S: Final = 3
MAX_GLARES: Final = 5
PATIENCE_MS: Final = 60_000  # for the final response to a re-INVITE


class Acceptance:
    """A 2xx, repeated until its ACK is here: over any transport, for it goes from end to end (13.3.1.4)."""

    def __init__(
        self, call: "Call", transaction: InviteServer, response: Response, *, offers: bool, now_ms: int
    ) -> None:
        self.sequence = CSeq.parse(response.headers["CSeq"]).sequence
        self.offers = offers  # the answer comes with the ACK
        self._call = call
        self._hop = transaction.hop
        self._repeat_ms = T1_MS
        transaction.respond(response, now_ms)
        self._data = sip.write(response)
        call.timers.arm((self, "repeat"), now_ms + T1_MS, self._repeat)
        call.timers.arm((self, "life"), now_ms + LIFE_MS, self._unanswered)

    def stop(self) -> None:
        self._call.timers.disarm((self, "repeat"))
        self._call.timers.disarm((self, "life"))

    def _repeat(self, now_ms: int) -> None:
        self._repeat_ms = min(2 * self._repeat_ms, T2_MS)
        self._call.timers.arm((self, "repeat"), now_ms + self._repeat_ms, self._repeat)
        self._call.endpoint.sender.send(self._hop, self._data)

    def _unanswered(self, now_ms: int) -> None:
        self.stop()
        self._call.unacknowledged(now_ms)


class Modification:
    """One offer is under way at a time (RFC 3264, 4; RFC 3261, 14.1)."""

    def __init__(self, call: "Call") -> None:
        self._call = call
        self._acceptance: Acceptance | None = None
        self._ours: Request | None = None  # under way
        self._invite: Request | None = None  # the last re-INVITE of ours, whose 2xx may be repeated
        self._ours_with_offer = False
        self._due: tuple[str, bool] | None = None  # what waits for its turn
        self._glares = 0

    # The peer's

    def accept(self, transaction: InviteServer, response: Response, *, offers: bool, now_ms: int) -> None:
        """A 2xx to an INVITE, the first one or a later."""
        if self._acceptance is not None:
            self._acceptance.stop()
        self._acceptance = Acceptance(self._call, transaction, response, offers=offers, now_ms=now_ms)

    def acknowledged(self, request: Request, now_ms: int) -> None:
        found = self._acceptance
        if found is None or found.sequence != CSeq.parse(request.headers["CSeq"]).sequence:
            return
        found.stop()
        self._acceptance = None
        call = self._call
        fits = True
        if found.offers and call.listener is not None:
            try:
                sdp = bodies.description(request)
            except Unsupported:
                sdp = ""
            fits = bool(sdp) and call.listener.answered(sdp, now_ms)
        call.confirm(now_ms)
        if not fits:
            call.hang_up(now_ms, 'SIP;cause=488;text="Not Acceptable Here"')

    def invited(self, transaction: InviteServer, request: Request, hop: Hop, now_ms: int) -> None:
        if self._ours is not None or (self._acceptance is not None and self._acceptance.offers):
            transaction.refuse(491, now_ms)
            return
        if not self._call.live:
            transaction.refuse(500, now_ms, Retry_After=str(RETRY_AFTER_S))
            return
        answer = self._answer(transaction, request, now_ms, wanted=True)
        if answer is None:
            return
        sdp, offers = answer
        self._call.refreshed(request, hop)
        response = self._call.endpoint.response(transaction, 200, sdp)
        self._call.session_timer.answer(request, response, now_ms)
        self.accept(transaction, response, offers=offers, now_ms=now_ms)

    def updated(self, transaction: ServerTransaction, request: Request, hop: Hop, now_ms: int) -> None:
        offered = bool(request.body.strip())
        if offered and (self._ours is not None or (self._acceptance is not None and self._acceptance.offers)):
            transaction.refuse(491, now_ms)
            return
        if offered and not self._call.live:  # the INVITE's own offer has no answer yet (RFC 3311, 5.2)
            transaction.refuse(500, now_ms, Retry_After=str(RETRY_AFTER_S))
            return
        answer = self._answer(transaction, request, now_ms, wanted=False) if offered else ("", False)
        if answer is None:
            return
        if not offered and self._call.session_timer.refuses(transaction, request, now_ms):
            return
        self._call.refreshed(request, hop)
        response = self._call.endpoint.response(transaction, 200, answer[0])
        self._call.session_timer.answer(request, response, now_ms)
        transaction.respond(response, now_ms)

    def _answer(
        self, transaction: ServerTransaction, request: Request, now_ms: int, *, wanted: bool
    ) -> tuple[str, bool] | None:
        """Our description, and whether it is an offer. None: the request was refused."""
        call = self._call
        if call.session_timer.refuses(transaction, request, now_ms):
            return None
        try:
            sdp = bodies.description(request)
        except Unsupported:
            transaction.refuse(415, now_ms, Accept=bodies.SDP)
            return None
        assert call.listener is not None
        if not sdp:
            return (call.listener.wanted(now_ms), True) if wanted else ("", False)
        answer = call.listener.offered(sdp, now_ms)
        if answer is None:
            transaction.refuse(488, now_ms)
            return None
        return answer, False

    # Ours

    def offer(self, now_ms: int) -> None:
        """A new offer, as the listener has it: a re-INVITE."""
        self._request("INVITE", with_offer=True, now_ms=now_ms)

    def refresh(self, now_ms: int) -> None:
        """Nothing changes but that the session goes on (RFC 4028, 7.4)."""
        if "UPDATE" in self._call.allows:
            self._request("UPDATE", with_offer=False, now_ms=now_ms)
        else:
            self._request("INVITE", with_offer=True, now_ms=now_ms)

    def _request(self, method: str, *, with_offer: bool, now_ms: int) -> None:
        call = self._call
        if not call.live or call.listener is None:
            return
        if self._ours is not None or self._acceptance is not None:
            self._later(method, with_offer, GLARE_OTHER_MS, now_ms)
            return
        request = call.stands.request(method)
        call.endpoint.complete(request, call.stands.hop, call.listener.wanted(now_ms) if with_offer else "")
        call.session_timer.request(request)
        self._ours, self._ours_with_offer = request, with_offer
        self._invite = request if method == "INVITE" else self._invite
        call.timers.arm((self, "patience"), now_ms + PATIENCE_MS, self._impatient)
        call.send(request, now_ms, then=self)

    def _impatient(self, now_ms: int) -> None:
        if self._ours is not None:
            self._call.endpoint.give_up(self._ours, now_ms, 0)

    def done(self, response: Response | None, now_ms: int) -> None:
        """To our request."""
        call, request = self._call, self._ours
        if response is None or (request is None and response.code >= 300):
            self._ours = None
            return
        cseq = CSeq.parse(response.headers["CSeq"])
        method = cseq.method
        if response.code >= 300:
            self._ours = None
            if response.code == 422 and call.session_timer.too_small(response):
                self._request(method, with_offer=self._ours_with_offer, now_ms=now_ms)
            elif response.code == 491 and self._glares < MAX_GLARES:
                self._glares += 1
                owner = call.stands.call_id.endswith(call.endpoint.mark)
                self._later(method, self._ours_with_offer, GLARE_OWNER_MS if owner else GLARE_OTHER_MS, now_ms)
            else:
                self._glares = 0
            return
        self._glares = 0
        if method == "INVITE":
            self._acknowledge(response, now_ms)
        # What is repeated may come when the call is over, or the next request is under way.
        if request is not None and call.live and cseq.sequence == sip.sequence(request):
            self._ours = None
            call.learn(response)
            call.refreshed(response, None)
            call.session_timer.answered(response, now_ms)
            self._take(response, now_ms)

    def _take(self, response: Response, now_ms: int) -> None:
        call = self._call
        if not self._ours_with_offer or call.listener is None:
            return
        try:
            sdp = bodies.description(response)
        except Unsupported:
            sdp = ""
        if not sdp or not call.listener.answered(sdp, now_ms):
            call.hang_up(now_ms, 'SIP;cause=488;text="Not Acceptable Here"')

    def _acknowledge(self, response: Response, now_ms: int) -> None:
        ack = self._call.stands.request("ACK")
        ack.headers.set("CSeq", f"{CSeq.parse(response.headers['CSeq']).sequence} ACK")
        if self._invite is not None:
            carry(self._invite, ack)
        self._call.endpoint.acknowledge(ack, self._call.stands.hop)

    def _later(self, method: str, with_offer: bool, within_ms: tuple[int, int], now_ms: int) -> None:
        if self._due is None or with_offer:  # an offer is a refresh as well
            self._due = method, with_offer
        wait_ms = random.randint(*within_ms)  # noqa: S311  # no secret: only that two do not wait alike
        self._call.timers.arm((self, "again"), now_ms + max(wait_ms, 10), self._again)

    def _again(self, now_ms: int) -> None:
        if self._due is not None:
            (method, with_offer), self._due = self._due, None
            self._request(method, with_offer=with_offer, now_ms=now_ms)

    def abandon(self, now_ms: int) -> None:
        """The dialog is over. Our request may still get its 487."""
        if self._ours is not None:
            self._call.endpoint.give_up(self._ours, now_ms, LIFE_MS)
        self._ours = None

    def disarm(self) -> None:
        self._call.timers.disarm((self, "again"))
        self._call.timers.disarm((self, "patience"))
        if self._acceptance is not None:
            self._acceptance.stop()
            self._acceptance = None
