"""The registrar's client of one trunk (RFC 3261, 10.2): it says where we are, again and again. Sans-IO.

    idle -> registering -> registered <-> failing
                any of them -> leaving -> over

A binding that still holds outlives a refresh that failed: `until_ms` says how long, whatever the state is.
"""

import ipaddress
import random
import re
from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import Final, Protocol
from urllib.parse import quote

from sipmessage import URI, Request, Response

from media.sip import message as sip
from media.sip.auth import Answerer
from media.sip.endpoint import Endpoint
from media.sip.message import Hop, MessageError, Written
from media.sip.transaction import Failure

EXPIRES_S: Final = 600  # what we ask for
MAX_EXPIRES_S: Final = 86_400  # what we believe
LATE_S: Final = 40  # a refresh that runs into its timeout still leaves this much, where the granted time allows
MIN_REFRESH_S: Final = 5  # from one to the next, whatever was granted and whoever asks
MAX_WAYS: Final = 8  # hops of one registrar
MAX_ROUNDS: Final = 5  # answers to challenges and the like, for one REGISTER
BACK_OFF_S: Final = 30  # doubled before each wait (RFC 5626, 4.5)
MAX_BACK_OFF_S: Final = 1800
REFUSED_BACK_OFF_S: Final = 600  # a wrong password does not become right, and registrars lock those out who insist
MAX_REFUSED_BACK_OFF_S: Final = 7200
MIN_RETRY_AFTER_S: Final = 5
MAX_RETRY_AFTER_S: Final = 7200
REFUSALS: Final = frozenset({401, 403, 404, 407})

_USER: Final = "-_.!~*'()&=+$,;?/"  # what needs no escape (RFC 3261, 25.1)


class State(StrEnum):
    idle = "idle"
    registering = "registering"
    registered = "registered"
    failing = "failing"
    leaving = "leaving"
    over = "over"


class RegistrationListener(Protocol):
    """May call `refresh`, `use` and `stop` whenever it is told something."""

    def registered(self, until_ms: int, now_ms: int) -> None:
        """Each time that the registrar said so."""
        ...

    def failed(self, code: int, reason: str, next_ms: int, now_ms: int) -> None:
        """To be tried again at `next_ms`. `code` 0: nobody answered."""
        ...

    def addressed(self, host: str, port: int, now_ms: int) -> None:
        """The registrar sees us at this address, which is not the one we say (RFC 3581). Told once for each."""
        ...

    def ended(self, now_ms: int) -> None:
        """After `stop`: the registrar was told, or could not be."""
        ...


class Registration:
    """Of one account, by the first of some hops that works. `start`, then `stop`."""

    def __init__(
        self,
        endpoint: Endpoint,
        account: Written,
        hops: Sequence[Hop],
        listener: RegistrationListener,
        *,
        answerer: Answerer | None = None,
        registrar: Written | None = None,
        expires_s: int = EXPIRES_S,
        chance: Callable[[], float] = random.random,
    ) -> None:
        """`account`: the address of record. `registrar`: its domain, unless it is another."""
        self.state = State.idle
        self.until_ms = 0  # 0: nothing is bound
        self.next_ms = 0  # when the next REGISTER is due; 0: one is under way, or none will be
        self.failed = 0  # how often so far
        self._endpoint = endpoint
        self._account = account
        self._registrar = registrar or _domain(account)
        self._listener = listener
        self._answerer = answerer
        self._expires_s = expires_s
        self._chance = chance
        self._call_id = sip.new_tag() + endpoint.mark
        self._tag = sip.new_tag()
        self._sequence = 0
        self._request: Request | None = None  # under way
        self._began_ms = 0
        self._rounds = 0
        self._left: list[Hop] = []  # still to be tried
        self._bound = ""  # the Contact that the registrar has of us
        self._failures = 0  # one after the other
        self._retry_after_s: int | None = None
        self._seen: tuple[str, int] | None = None
        self.use(hops)
        self.hop = self._hops[0]  # in use

    def __repr__(self) -> str:
        return f"<Registration {self._account} {self.state}>"

    def use(self, hops: Sequence[Hop]) -> None:
        """From the next REGISTER on, in this order; the one that works is kept while it is among them."""
        assert hops
        self._hops = list(hops)[:MAX_WAYS]

    def start(self, now_ms: int) -> None:
        assert self.state is State.idle
        self.state = State.registering
        self._begin(now_ms)

    def refresh(self, now_ms: int) -> None:
        """Our address is another, or the stream broke. Right after a REGISTER, or a failure, it has to wait."""
        if self.state is State.registered and self._request is None:
            soonest_ms = max(now_ms, self._began_ms + MIN_REFRESH_S * 1000)
            self._wait((soonest_ms - now_ms) / 1000, now_ms)

    def stop(self, now_ms: int) -> None:
        """Takes back what is bound, if the registrar can be reached; then `ended`."""
        if self.state in (State.leaving, State.over):
            return
        for name in ("next", "expiry"):
            self._endpoint.timers.disarm((self, name))
        self.next_ms = 0
        if not self._bound and self._request is None:
            self._end(now_ms)
            return
        self.state = State.leaving
        self._rounds = 0
        self._attempt(now_ms)

    # One REGISTER

    def _begin(self, now_ms: int) -> None:
        self._endpoint.timers.disarm((self, "next"))
        self.next_ms = 0
        self._began_ms = now_ms
        self._retry_after_s = None
        works = self.state is State.registered and self.hop in self._hops
        first = self.hop if works else self._hops[0]
        self._left = [first, *(hop for hop in self._hops if hop != first)]
        self._try_next(now_ms)

    def _try_next(self, now_ms: int) -> None:
        self.hop = self._left.pop(0)
        self._rounds = 0
        self._attempt(now_ms)

    def _attempt(self, now_ms: int) -> None:
        """A new one, without the answer to an older challenge: most registrars take each nonce once."""
        leaving = self.state is State.leaving
        account = f"<{self._account}>"
        request = self._endpoint.new_request("REGISTER", self._registrar, f"{account};tag={self._tag}", account)
        request.headers.set("Call-ID", self._call_id)
        self._endpoint.complete(request, self.hop)
        contacts = [self._contact(self.hop)]
        if self._bound not in ("", contacts[0]):  # where we are no more
            contacts.append(self._bound if leaving else f"{self._bound};expires=0")
        request.headers.setlist("Contact", contacts)
        request.headers.set("Expires", "0" if leaving else str(self._expires_s))
        self._send(request, self.hop, now_ms)

    def _send(self, request: Request, hop: Hop, now_ms: int) -> None:
        """Not by `Endpoint.exchange`: one that was given up would still answer its challenge, after the next one."""
        self._sequence += 1
        request.headers.set("CSeq", f"{self._sequence} REGISTER")
        self._request = request
        self._endpoint.transact(
            request,
            hop,
            now_ms,
            lambda response, now_ms: self._responded(request, hop, response, now_ms),
            lambda failure, now_ms: self._unanswered(request, failure, now_ms),
        )

    def _contact(self, hop: Hop) -> str:
        """With our user: that is how registrars' calls say whom they are for."""
        user = self._account.user
        return self._endpoint.contact(hop).replace("<sip:", f"<sip:{quote(user, _USER)}@" if user else "<sip:", 1)

    def _responded(self, request: Request, hop: Hop, response: Response, now_ms: int) -> None:
        if request is not self._request or response.code < 200:
            return
        self._rounds += 1
        more = self._rounds < MAX_ROUNDS
        if more and response.code in (401, 407) and self._answers(request, response):
            self._send(request, hop, now_ms)
        elif more and response.code == 423 and self._longer(response):
            self._attempt(now_ms)
        else:
            self._request = None
            self._finished(request, response, now_ms)
            self._learn(hop, response, now_ms)

    def _answers(self, request: Request, response: Response) -> bool:
        return self._answerer is not None and self._answerer.answers(request, response)

    def _longer(self, response: Response) -> bool:
        """10.2.8."""
        least_s = sip.number(response, "Min-Expires")
        if least_s is None or not self._expires_s < least_s <= MAX_EXPIRES_S or self.state is State.leaving:
            return False
        self._expires_s = least_s
        return True

    def _unanswered(self, request: Request, failure: Failure, now_ms: int) -> None:
        if request is self._request:
            self._request = None
            self._next_way(0, str(failure), now_ms)

    def _finished(self, request: Request, response: Response, now_ms: int) -> None:
        code = response.code
        asked_s = sip.number(response, "Retry-After")
        if asked_s is not None:
            self._retry_after_s = max(asked_s, self._retry_after_s or 0)
        if self.state is State.leaving:
            self._end(now_ms)
        elif code in (408, 503):  # RFC 3263, 4.3
            self._next_way(code, response.phrase, now_ms)
        elif code >= 300:
            self._fail(code, response.phrase, now_ms)
        else:
            self._succeed(request, response, now_ms)

    # How it went

    def _succeed(self, request: Request, response: Response, now_ms: int) -> None:
        contact = sip.values(request, "Contact")[0]
        granted_s = min(_granted(response, contact, self._expires_s), MAX_EXPIRES_S)
        if not granted_s:
            self._fail(response.code, "no time was granted", now_ms)
            return
        self.state = State.registered
        self._bound, self._failures = contact, 0
        self.until_ms = now_ms + granted_s * 1000
        early_s = max(granted_s / 5, min(LATE_S, granted_s / 2))
        wait_s = max((granted_s - early_s) * (0.9 + 0.1 * self._chance()), MIN_REFRESH_S)
        self._endpoint.timers.arm((self, "expiry"), self.until_ms, self._expired)
        self._wait(wait_s, now_ms)
        self._listener.registered(self.until_ms, now_ms)

    def _next_way(self, code: int, reason: str, now_ms: int) -> None:
        if self.state is State.leaving:
            self._end(now_ms)
        elif self._left:
            self._try_next(now_ms)
        else:
            self._fail(code, reason, now_ms)

    def _fail(self, code: int, reason: str, now_ms: int) -> None:
        self.state = State.failing
        self._failures += 1
        self.failed += 1
        self._wait(self._back_off_s(code), now_ms)
        self._listener.failed(code, reason, self.next_ms, now_ms)

    def _back_off_s(self, code: int) -> float:
        """RFC 5626, 4.5: anywhere in the upper half, so that not all come back at once."""
        refused = code in REFUSALS
        first_s, most_s = (REFUSED_BACK_OFF_S, MAX_REFUSED_BACK_OFF_S) if refused else (BACK_OFF_S, MAX_BACK_OFF_S)
        wait_s = min(first_s * 2.0 ** min(self._failures, 16), most_s) * (0.5 + 0.5 * self._chance())
        if self._retry_after_s is None:
            return wait_s
        asked_s = min(max(self._retry_after_s, MIN_RETRY_AFTER_S), MAX_RETRY_AFTER_S) * (1 + 0.1 * self._chance())
        return max(asked_s, wait_s) if refused else asked_s

    def _wait(self, wait_s: float, now_ms: int) -> None:
        self.next_ms = now_ms + round(wait_s * 1000)
        self._endpoint.timers.arm((self, "next"), self.next_ms, self._begin)

    def _expired(self, now_ms: int) -> None:
        self.until_ms = 0
        self._bound = ""
        self.state = State.failing
        self.failed += 1
        self._listener.failed(0, "the registration ran out", self.next_ms or now_ms, now_ms)

    def _end(self, now_ms: int) -> None:
        self.state = State.over
        self.until_ms = 0
        self._request = None
        self._bound = ""
        self._listener.ended(now_ms)

    def _learn(self, hop: Hop, response: Response, now_ms: int) -> None:
        """From `received` and `rport` (RFC 3581, 4). A stream's own port is none that others can reach."""
        if self.state in (State.leaving, State.over):
            return
        via = sip.top_via(response)
        said = via.parameters.get("received") or via.host
        port = via.parameters.get("rport") or ""
        try:
            host = str(ipaddress.ip_address(said.strip("[]")))
        except ValueError:
            return
        ours = via.host.strip("[]"), via.port or sip.PORT
        known = not hop.reliable and re.fullmatch(r"[1-9][0-9]{0,4}", port) and int(port) < 1 << 16
        seen = host, int(port) if known else ours[1]
        if seen not in (ours, self._seen):
            self._seen = seen
            self._listener.addressed(*seen, now_ms)


def _domain(account: Written) -> Written:
    """The Request-URI has no user (10.2)."""
    port = f":{account.port}" if account.port else ""
    return sip.uri_of(f"{account.scheme}:{account.host}{port}")


def _granted(response: Response, contact: str, asked_s: int) -> int:
    """For how many seconds this Contact is bound (10.2.4): by its own parameter, else by Expires, else as asked.

    Some registrars give our Contact back with another address: when it is the only one it is ours all the same.
    """
    found = []
    for value in sip.values(response, "Contact"):
        try:
            found.append(sip.address_of(value))
        except MessageError:
            continue
    ours = _place(sip.address_of(contact).uri)
    mine = [one for one in found if _place(one.uri) == ours] or (found if len(found) == 1 else [])
    for one in mine:
        if re.fullmatch(r"[0-9]{1,10}", said := one.parameters.get("expires") or ""):
            return int(said)
    expires_s = sip.number(response, "Expires")
    return asked_s if expires_s is None else expires_s


def _place(uri: URI) -> tuple[str | None, str, int]:
    return uri.user, uri.host.lower(), uri.port or sip.PORT
