"""Transfers: REFER either way, and the NOTIFYs that tell how it went (RFC 3515, RFC 3891, RFC 4488)."""

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote

from sipmessage import Request, Response

from media.sip import bodies
from media.sip import message as sip
from media.sip.message import MessageError, Written
from media.sip.transaction import ServerTransaction

if TYPE_CHECKING:
    from media.sip.call import Call

TRANSFER_MS: Final = 60_000  # for which a transfer may be under way
SUBSCRIPTION_S: Final = 60


@dataclass(frozen=True, slots=True)
class Replaces:
    """The dialog whose place a new call takes (RFC 3891, 6.1), as seen from whom is asked."""

    call_id: str
    to_tag: str
    from_tag: str
    early_only: bool = False

    @classmethod
    def parse(cls, text: str) -> "Replaces | None":
        call_id, _, rest = text.partition(";")
        said = dict(part.strip().partition("=")[::2] for part in rest.split(";") if part.strip())
        if not call_id.strip() or "to-tag" not in said or "from-tag" not in said:
            return None
        return cls(call_id.strip(), said["to-tag"].strip(), said["from-tag"].strip(), "early-only" in said)

    def __str__(self) -> str:
        return f"{self.call_id};to-tag={self.to_tag};from-tag={self.from_tag}"


@dataclass(frozen=True, slots=True)
class Referral:
    target: Written
    replaces: Replaces | None
    by: str  # Referred-By (RFC 3892), as it was written


class Transfers:
    """One at a time, each way."""

    def __init__(self, call: "Call") -> None:
        self._call = call
        self._asked = 0  # CSeq of the peer's REFER under way
        self._silent = False  # the peer wants no NOTIFY
        self._asking = False

    # The peer asks us

    def asked(self, transaction: ServerTransaction, request: Request, now_ms: int) -> None:
        found = sip.values(request, "Refer-To")
        if self._asked:
            transaction.refuse(491, now_ms)
            return
        try:
            if len(found) != 1:
                raise MessageError("one Refer-To")
            referral = read(found[0], request.headers.get("Referred-By") or "")
        except MessageError:
            transaction.refuse(400, now_ms)
            return
        listener = self._call.listener
        if listener is None or not self._call.live or not listener.referred(referral, now_ms):
            transaction.refuse(603, now_ms)
            return
        self._asked = sip.sequence(request)
        self._silent = (request.headers.get("Refer-Sub") or "").strip().lower() == "false"
        if self._silent:
            transaction.refuse(202, now_ms, Refer_Sub="false")
        else:
            response = self._call.endpoint.response(transaction, 202)
            transaction.respond(response, now_ms)
            self.progress(100, now_ms)

    def progress(self, code: int, now_ms: int) -> None:
        """How the call that the peer asked for goes; from 200 on it is over."""
        if not self._asked or not self._call.live:
            return
        if not self._silent:
            request = self._call.stands.request("NOTIFY")
            self._call.endpoint.complete(request, self._call.stands.hop)
            request.headers.set("Event", f"refer;id={self._asked}")
            over = code >= 200
            request.headers.set(
                "Subscription-State", "terminated;reason=noresource" if over else f"active;expires={SUBSCRIPTION_S}"
            )
            request.headers.set("Content-Type", f"{bodies.FRAGMENT};version=2.0")
            request.body = f"SIP/2.0 {code} {sip.phrase(code)}\r\n".encode()
            self._call.send(request, now_ms)
        if code >= 200:
            self._asked = 0

    # We ask the peer

    def ask(self, target: str, now_ms: int, *, replaces: Replaces | None = None, by: str = "") -> None:
        """`CallListener.transferred` is told what comes of it."""
        call = self._call
        if not call.live or self._asking:
            return
        request = call.stands.request("REFER")
        call.endpoint.complete(request, call.stands.hop)
        suffix = f"?Replaces={_escaped(str(replaces))}" if replaces else ""
        request.headers.set("Refer-To", f"<{target}{suffix}>")
        if by:
            request.headers.set("Referred-By", f"<{by}>")
        self._asking = True
        call.timers.arm((self, "transfer"), now_ms + TRANSFER_MS, lambda now_ms: self._over(408, now_ms))
        call.send(request, now_ms, then=self)

    def done(self, response: Response | None, now_ms: int) -> None:
        """To our REFER: from 2xx on the NOTIFYs tell."""
        if response is None:
            self._over(408, now_ms)
        elif response.code >= 300:
            self._over(response.code, now_ms)

    def notified(self, transaction: ServerTransaction, request: Request, now_ms: int) -> None:
        event = (request.headers.get("Event") or "").partition(";")[0].strip().lower()
        if event != "refer":
            transaction.refuse(489, now_ms, Allow_Events="refer")
            return
        transaction.refuse(200 if self._asking else 481, now_ms)
        code = bodies.fragment(request)
        ended = (request.headers.get("Subscription-State") or "").strip().lower().startswith("terminated")
        if not self._asking:
            return
        if code is not None and code < 200 and not ended and self._call.listener is not None:
            self._call.listener.transferred(code, now_ms)
        elif ended or code is not None:
            self._over(code if code is not None and code >= 200 else 487, now_ms)

    def _over(self, code: int, now_ms: int) -> None:
        if self._asking:
            self._asking = False
            self._call.timers.disarm((self, "transfer"))
            if self._call.listener is not None:
                self._call.listener.transferred(code, now_ms)

    def disarm(self) -> None:
        self._call.timers.disarm((self, "transfer"))


def read(text: str, by: str = "") -> Referral:
    """A Refer-To. Raises `MessageError`."""
    inner = re.search(r"<([^<>]*)>", text)
    raw = inner[1] if inner else text.partition(";")[0]
    uri = sip.uri_of(raw.strip())
    if uri.scheme not in ("sip", "sips", "tel"):
        raise MessageError("a Refer-To that cannot be called")
    headers = dict(part.partition("=")[::2] for part in sip.uri_headers(raw).split("&") if part)
    replaces = next((value for name, value in headers.items() if name.lower() == "replaces"), None)
    parsed = Replaces.parse(unquote(replaces)) if replaces is not None else None
    if replaces is not None and parsed is None:
        raise MessageError("a Replaces that cannot be read")
    return Referral(uri, parsed, by)


def _escaped(text: str) -> str:
    """For the headers of a URI (RFC 3261, 19.1.1)."""
    return "".join(c if c.isascii() and (c.isalnum() or c in "-_.!~*'()") else f"%{ord(c):02X}" for c in text)
