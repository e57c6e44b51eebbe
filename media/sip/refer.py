"""Transfers: REFER either way, and the NOTIFYs that tell how it went (RFC 3515, RFC 3891, RFC 4488)."""

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote

from sipmessage import Request, Response

from media.sip import bodies
from media.sip import message as sip
from media.sip.message import Hop, MessageError, Written
from media.sip.transaction import ServerTransaction

if TYPE_CHECKING:
    from media.sip.call import Call

TRANSFER_MS: Final = 60_000  # for which a transfer may be under way
SUBSCRIPTION_S: Final = 60
_SCHEME: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):")
_ID: Final = re.compile(r";\s*id\s*=\s*([^;\s]+)", re.IGNORECASE)


class Uncallable(MessageError):
    """An address of a kind that is not for calls."""


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
        early = ";early-only" if self.early_only else ""
        return f"{self.call_id};to-tag={self.to_tag};from-tag={self.from_tag}{early}"


@dataclass(frozen=True, slots=True)
class Referral:
    target: Written
    replaces: Replaces | None
    by: str  # Referred-By (RFC 3892), as it was written

    @property
    def to(self) -> str:
        return plain(self.target)


class Transfers:
    """One at a time, each way."""

    def __init__(self, call: "Call") -> None:
        self._call = call
        self._waiting: ServerTransaction | None = None  # the peer's REFER, until it is known what to answer
        self._asked = 0  # CSeq of the peer's REFER under way
        self._silent = False  # the peer wants no NOTIFY
        self._telling = False  # the last NOTIFY is out
        self._request: Request | None = None  # our REFER under way

    # The peer asks us

    def asked(self, transaction: ServerTransaction, request: Request, hop: Hop, now_ms: int) -> None:
        """Who could not call us may not make us call anybody, however it came to know of this dialog."""
        if not self._call.endpoint.screens(transaction, request, hop, now_ms):
            return
        if self._asked or self._waiting is not None:
            transaction.refuse(491, now_ms)
            return
        found = sip.values(request, "Refer-To")
        try:
            if len(found) != 1:
                raise MessageError("one Refer-To")
            referral = read(found[0], request.headers.get("Referred-By") or "")
        except Uncallable:
            transaction.refuse(416, now_ms)
            return
        except MessageError as error:
            transaction.refuse(400, now_ms, str(error))
            return
        listener = self._call.listener
        self._waiting = transaction
        taken = listener.referred(referral, now_ms) if listener is not None and self._call.live else False
        if taken is False and self._waiting is transaction:
            self._waiting = None
            transaction.refuse(603, now_ms)
        elif taken:
            self.progress(100, now_ms)

    def progress(self, code: int, now_ms: int) -> None:
        """How the call that the peer asked for goes; from 200 on it is over. The first one answers the REFER."""
        waiting, self._waiting = self._waiting, None
        if waiting is not None and code >= 300:
            waiting.refuse(code, now_ms)
        elif waiting is not None:
            self._accept(waiting, now_ms)
        if not self._asked or not self._call.live:
            return
        if not self._silent:
            self._notify(code, now_ms)
        if code >= 200:
            self._asked = 0

    def _accept(self, transaction: ServerTransaction, now_ms: int) -> None:
        request = transaction.request
        self._asked = sip.sequence(request)
        self._silent = (request.headers.get("Refer-Sub") or "").strip().lower() == "false"
        if self._silent:
            transaction.refuse(202, now_ms, Refer_Sub="false")
        else:
            transaction.respond(self._call.endpoint.response(transaction, 202), now_ms)

    def _notify(self, code: int, now_ms: int) -> None:
        over = code >= 200
        request = self._call.stands.request("NOTIFY")
        self._call.endpoint.complete(request, self._call.stands.hop)
        request.headers.set("Event", f"refer;id={self._asked}")
        request.headers.set(
            "Subscription-State", "terminated;reason=noresource" if over else f"active;expires={SUBSCRIPTION_S}"
        )
        request.headers.set("Content-Type", f"{bodies.FRAGMENT};version=2.0")
        request.body = f"SIP/2.0 {code} {sip.phrase(code)}\r\n".encode()
        self._telling = over
        self._call.send(request, now_ms, then=_Told(self) if over else None)

    @property
    def telling(self) -> bool:
        """The peer is being told how it ended: a BYE that came before that would look like a failure."""
        return self._telling

    def told(self, now_ms: int) -> None:
        self._telling = False
        self._call.leave(now_ms)

    # We ask the peer

    def ask(self, target: str, now_ms: int, *, replaces: Replaces | None = None, by: str = "") -> None:
        """`CallListener.transferred` is told what comes of it."""
        call = self._call
        if not call.live or self._request is not None:
            return
        request = self._request = call.stands.request("REFER")
        call.endpoint.complete(request, call.stands.hop)
        suffix = f"?Replaces={_escaped(str(replaces))}" if replaces else ""
        request.headers.set("Refer-To", f"<{target}{suffix}>")
        if by:
            request.headers.set("Referred-By", f"<{by}>")
        call.timers.arm((self, "transfer"), now_ms + TRANSFER_MS, lambda now_ms: self._over(408, now_ms))
        call.send(request, now_ms, then=self)

    def done(self, response: Response | None, now_ms: int) -> None:
        """To our REFER: from 2xx on the NOTIFYs tell."""
        if response is None:
            self._over(408, now_ms)
        elif response.code >= 300:
            self._over(response.code, now_ms)

    def notified(self, transaction: ServerTransaction, request: Request, now_ms: int) -> None:
        event, _, parameters = (request.headers.get("Event") or "").partition(";")
        if event.strip().lower() != "refer":
            transaction.refuse(489, now_ms, Allow_Events="refer")
            return
        if not self._is_of_ours(parameters):
            transaction.refuse(481, now_ms)
            return
        transaction.refuse(200, now_ms)
        code = bodies.fragment(request)
        ended = (request.headers.get("Subscription-State") or "").strip().lower().startswith("terminated")
        if code is not None and code < 200 and not ended and self._call.listener is not None:
            self._call.listener.transferred(code, now_ms)
        elif ended or code is not None:
            self._over(code if code is not None and code >= 200 else 487, now_ms)

    def _is_of_ours(self, parameters: str) -> bool:
        """Of the REFER that is under way, not late of an earlier one (RFC 3515, 2.4.6); not all peers say which."""
        found = _ID.search(f";{parameters}")
        return self._request is not None and (found is None or found[1] == str(sip.sequence(self._request)))

    def _over(self, code: int, now_ms: int) -> None:
        if self._request is not None:
            self._request = None
            self._call.timers.disarm((self, "transfer"))
            if self._call.listener is not None:
                self._call.listener.transferred(code, now_ms)

    def disarm(self, now_ms: int) -> None:
        """The call is over, and with it whatever was asked."""
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.refuse(481, now_ms)
        self._call.timers.disarm((self, "transfer"))


class _Told:
    """The last NOTIFY has its answer, or never will."""

    def __init__(self, transfers: Transfers) -> None:
        self._transfers = transfers

    def done(self, response: Response | None, now_ms: int) -> None:
        self._transfers.told(now_ms)


def read(text: str, by: str = "") -> Referral:
    """A Refer-To. Raises `MessageError`, and `Uncallable` for a page, a mailbox and the like."""
    inner = re.search(r"<([^<>]*)>", text)
    raw = inner[1] if inner else text.partition(";")[0]
    scheme = _SCHEME.match(raw.strip())
    if scheme is not None and scheme[1].lower() not in ("sip", "sips", "tel"):
        raise Uncallable("an address that cannot be called")
    uri = sip.uri_of(raw.strip())
    if (uri.parameters.get("method") or "INVITE").upper() != "INVITE":
        raise MessageError("no method but INVITE can be asked for")
    headers = dict(part.partition("=")[::2] for part in sip.uri_headers(raw).split("&") if part)
    replaces = next((value for name, value in headers.items() if name.lower() == "replaces"), None)
    parsed = Replaces.parse(unquote(replaces)) if replaces is not None else None
    if replaces is not None and parsed is None:
        raise MessageError("a Replaces that cannot be read")
    return Referral(uri, parsed, by)


def plain(uri: Written) -> str:
    """A URI without parameters that mean something to its own side alone, such as `line` and `ob`."""
    if uri.scheme == "tel":
        return str(uri)
    user, at, host = str(uri).rpartition("@")
    said = {name.lower(): value for name, value in uri.parameters.items()}
    kept = [f";{name}={said[name]}" for name in ("transport", "user") if said.get(name)]
    return f"{user}{at}{host.partition(';')[0]}{''.join(kept)}"


def _escaped(text: str) -> str:
    """For the headers of a URI (RFC 3261, 19.1.1)."""
    return "".join(c if c.isascii() and (c.isalnum() or c in "-_.!~*'()") else f"%{ord(c):02X}" for c in text)
