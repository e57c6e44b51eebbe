"""A call that comes to us: from its INVITE to the ACK (RFC 3261, 13.3; RFC 3262)."""

import random
from typing import TYPE_CHECKING, Final

from sipmessage import Request, Response

from media.sip import bodies
from media.sip import message as sip
from media.sip.call import Call, CallListener, End, EndCause, Stage
from media.sip.dialog import Dialog
from media.sip.message import Hop, MessageError
from media.sip.refer import Replaces
from media.sip.transaction import LIFE_MS, T1_MS, InviteServer, ServerTransaction

if TYPE_CHECKING:
    from media.sip.endpoint import Endpoint

MAX_SEQUENCE: Final = (1 << 31) - 1  # RSeq starts within it (RFC 3262, 3)


class InboundCall(Call):
    """`offer` is the peer's description, or empty: then ours goes out with the 2xx. Raises `MessageError`."""

    def __init__(self, endpoint: "Endpoint", transaction: InviteServer, request: Request, hop: Hop) -> None:
        super().__init__(endpoint, request.call_id, transaction.tag)
        self.request = request
        self.source = hop
        self.offer = bodies.description(request)
        self.replaces = _replaces(request)
        self.dialog = Dialog.of_server(request, transaction.tag, hop)
        self._transaction = transaction
        self._reliable = 0  # RSeq of the provisional response that waits for its PRACK
        self._next_reliable = random.randint(1, MAX_SEQUENCE // 2)  # noqa: S311  # no secret
        self._answer: str | None = None  # to be sent once that PRACK is here
        self._repeat_ms = T1_MS
        self.learn(request)
        transaction.cancelled = self._cancelled

    @property
    def identity(self) -> tuple[str, str]:
        """Who calls and who is called, as the peer says: users, else hosts."""
        caller = sip.address_of(self.request.headers["From"]).uri
        called = self.request.uri
        return caller.user or caller.host, called.user or called.host

    def ring(self, now_ms: int) -> None:
        """180, and reliably where the peer asks for that."""
        if self.stage is not Stage.setup or self._reliable:
            return
        response = self.endpoint.response(self._transaction, 180)
        required = sip.tokens(self.request, "Require")
        if "100rel" in required or "100rel" in self.supports:
            self._reliably(response, now_ms)
        self._transaction.respond(response, now_ms)

    def accept(self, sdp: str, listener: CallListener, now_ms: int) -> None:
        """With our answer, or with our offer where there was none. From here on `listener` is told."""
        if self.stage is not Stage.setup:
            listener.ended(End(EndCause.cancelled), now_ms)
            return
        self.listener = listener
        if self._reliable:
            self._answer = sdp
            return
        self._accept(sdp, now_ms)

    def _accept(self, sdp: str, now_ms: int) -> None:
        self.stage = Stage.accepted
        response = self.endpoint.response(self._transaction, 200, sdp)
        if self.name:
            response.headers.set(sip.CALL_NAME, self.name)
        self.session_timer.answer(self.request, response, now_ms)
        self.modification.accept(self._transaction, response, offers=not self.offer, now_ms=now_ms)

    def reject(self, code: int, now_ms: int, reason: str = "", **headers: str) -> None:
        if self.stage is Stage.setup:
            self._stop_repeating()
            self._transaction.refuse(code, now_ms, reason, **headers)
            self.finish(End(EndCause.ours, code), now_ms)

    def hang_up(self, now_ms: int, reason: str = "") -> None:
        if self.stage is Stage.setup:
            self.reject(480, now_ms)
        else:
            super().hang_up(now_ms, reason)

    def _cancelled(self, now_ms: int) -> None:
        if self.stage is Stage.setup:
            self._stop_repeating()
            self._transaction.refuse(487, now_ms)
            self.finish(End(EndCause.cancelled), now_ms)

    def finish(self, end: End, now_ms: int) -> None:
        """Also by a BYE of the caller before the answer (15.1.2)."""
        if self.stage is Stage.setup and not self._transaction.answered:
            self._stop_repeating()
            self._transaction.refuse(487, now_ms)
        super().finish(end, now_ms)

    # Reliable provisional responses (RFC 3262)

    def _reliably(self, response: Response, now_ms: int) -> None:
        self._reliable = self._next_reliable
        self._next_reliable += 1
        response.headers.set("Require", "100rel")
        response.headers.set("RSeq", str(self._reliable))
        self._repeat_ms = T1_MS
        self.timers.arm((self, "reliable"), now_ms + T1_MS, self._repeat)
        self.timers.arm((self, "unpracked"), now_ms + LIFE_MS, lambda now_ms: self.reject(504, now_ms))

    def _repeat(self, now_ms: int) -> None:
        self._repeat_ms *= 2
        self.timers.arm((self, "reliable"), now_ms + self._repeat_ms, self._repeat)
        self._transaction.repeated(now_ms)

    def _stop_repeating(self) -> None:
        self._reliable = 0
        self.timers.disarm((self, "reliable"))
        self.timers.disarm((self, "unpracked"))

    def pracked(self, transaction: ServerTransaction, request: Request, now_ms: int) -> None:
        said = (request.headers.get("RAck") or "").split()
        expected = [str(self._reliable), str(sip.sequence(self.request)), "INVITE"]
        if not self._reliable or said != expected:
            transaction.refuse(481, now_ms)
            return
        self._stop_repeating()
        transaction.refuse(200, now_ms)
        if self._answer is not None and self.stage is Stage.setup:
            self._accept(self._answer, now_ms)


def _replaces(request: Request) -> Replaces | None:
    found = request.headers.getlist("Replaces")
    if not found:
        return None
    parsed = Replaces.parse(found[0]) if len(found) == 1 else None
    if parsed is None:
        raise MessageError("a Replaces that cannot be read", request)
    return parsed
