"""Dialogs (RFC 3261, 12): what two user agents know of each other between an INVITE and its BYE."""

import ipaddress
from dataclasses import dataclass, field
from typing import Final

from sipmessage import CSeq, Request, Response

from media.sip import message as sip
from media.sip.message import Hop, MessageError, Written

MAX_ROUTES: Final = 20
FIRST_SEQUENCE: Final = 1


@dataclass(slots=True, kw_only=True)
class Dialog:
    """`local` and `remote` are the From or To values with their tags, as they go into requests."""

    call_id: str
    local: str
    remote: str
    local_tag: str
    remote_tag: str
    target: Written  # the peer's Contact: where requests are for
    routes: list[str] = field(default_factory=list)  # in the order of travel
    hop: Hop
    local_sequence: int = FIRST_SEQUENCE - 1
    remote_sequence: int | None = None

    @property
    def key(self) -> tuple[str, str, str]:
        return self.call_id, self.local_tag, self.remote_tag

    @classmethod
    def of_server(cls, request: Request, tag: str, source: Hop) -> "Dialog":
        """As the one who was invited (12.1.1). Raises `MessageError`."""
        target = contact(request)
        routes = _routes(request)
        to = sip.response(request, 200, tag=tag).headers["To"]
        return cls(
            call_id=request.call_id,
            local=to,
            remote=request.headers["From"],
            local_tag=tag,
            remote_tag=sip.from_tag(request),
            target=target,
            routes=routes,
            hop=_way_back(request, target, routes, source),
            remote_sequence=CSeq.parse(request.headers["CSeq"]).sequence,
        )

    @classmethod
    def of_client(cls, request: Request, response: Response, sent_to: Hop) -> "Dialog":
        """As the one who invited (12.1.2). Raises `MessageError`."""
        target = contact(response)
        routes = _routes(response)[::-1]
        return cls(
            call_id=request.call_id,
            local=request.headers["From"],
            remote=response.headers["To"],
            local_tag=sip.from_tag(request),
            remote_tag=sip.to_tag(response),
            target=target,
            routes=routes,
            hop=_way_on(target, routes, sent_to),
            local_sequence=CSeq.parse(request.headers["CSeq"]).sequence,
        )

    def request(self, method: str) -> Request:
        """Within the dialog (12.2.1.1), without its Via and Contact. An ACK has its INVITE's number: set it anew."""
        if method not in ("ACK", "CANCEL"):
            self.local_sequence += 1
        routes = self.routes
        if routes and not _loose(routes[0]):  # a strict router of RFC 2543
            made = Request(method, sip.address_of(routes[0]).uri)
            routes = [*routes[1:], f"<{self.target}>"]
        else:
            made = Request(method, self.target)
        if routes:
            made.headers.setlist("Route", list(routes))
        made.headers.set("From", self.local)
        made.headers.set("To", self.remote)
        made.headers.set("Call-ID", self.call_id)
        made.headers.set("CSeq", f"{self.local_sequence} {method}")
        made.headers.set("Max-Forwards", str(sip.MAX_HOPS))
        return made

    def admits(self, request: Request) -> bool:
        """In order (12.2.2): the number of a request only rises. An ACK has its INVITE's."""
        sequence = CSeq.parse(request.headers["CSeq"]).sequence
        if request.method == "ACK":
            return True
        if self.remote_sequence is not None and sequence <= self.remote_sequence:
            return False
        self.remote_sequence = sequence
        return True

    def refreshed(self, message: Request | Response, source: Hop | None) -> None:
        """A target refresh (12.2): re-INVITE, UPDATE and their 2xx may move the peer."""
        if not sip.values(message, "Contact"):
            return
        self.target = contact(message)
        if source is not None and isinstance(message, Request):
            self.hop = _way_back(message, self.target, self.routes, source)
        elif not self.routes:
            self.hop = _way_on(self.target, [], self.hop)


def contact(message: Request | Response) -> Written:
    """Raises `MessageError`."""
    found = sip.values(message, "Contact")
    if not found or found[0] == "*":
        raise MessageError("no Contact", message if isinstance(message, Request) else None)
    uri = sip.address_of(found[0]).uri
    if uri.scheme not in ("sip", "sips"):
        raise MessageError("a Contact that is no SIP address", message if isinstance(message, Request) else None)
    assert isinstance(uri, Written)
    return uri


def _routes(message: Request | Response) -> list[str]:
    found = sip.values(message, "Record-Route")
    if len(found) > MAX_ROUTES:
        raise MessageError(f"more than {MAX_ROUTES} routes", message if isinstance(message, Request) else None)
    for route in found:
        sip.address_of(route)
    return found


def _loose(route: str) -> bool:
    return "lr" in sip.address_of(route).uri.parameters


def _way_back(request: Request, target: Written, routes: list[str], source: Hop) -> Hop:
    """Through the proxies that asked for it; else the way that the request came, if nobody stood between.

    So a peer behind an address translation, whose Contact names an inner address, is reached.
    """
    if source.reliable:
        named = sip.hop_of(sip.address_of(routes[0]).uri if routes else target)
        return Hop(source.transport, named.host, named.port, source.connection)
    if routes:
        return sip.hop_of(sip.address_of(routes[0]).uri)
    if len(sip.values(request, "Via")) == 1:
        return source
    return sip.hop_of(target)


def _way_on(target: Written, routes: list[str], sent_to: Hop) -> Hop:
    named = sip.hop_of(sip.address_of(routes[0]).uri if routes else target)
    if sent_to.reliable:
        return Hop(sent_to.transport, named.host, named.port, sent_to.connection)
    if not routes and _private(named.host) and not _private(sent_to.host):
        return sent_to
    return named


def _private(host: str) -> bool:
    try:
        return not ipaddress.ip_address(host).is_global
    except ValueError:
        return False
