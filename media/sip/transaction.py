"""Transactions (RFC 3261, 17; RFC 6026): one request with its responses, repeated as often as the way needs it.

    client INVITE    calling -> proceeding -> completed (3xx-6xx: ACK is ours) | accepted (2xx: ACK is the caller's)
    client others    trying -> proceeding -> completed
    server INVITE    proceeding -> completed (until ACK) -> confirmed | accepted (2xx: the 2xx is repeated above)
    server others    trying -> proceeding -> completed

Sans-IO: messages leave by `Sender.send`, time is an argument, timers are in `Timers`.
"""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable
from enum import StrEnum
from typing import Final, Protocol

from sipmessage import CSeq, Request, Response

from media.sip import message as sip
from media.sip.message import Hop
from media.sip.timers import Timers

T1_MS: Final = 500  # the round trip that is assumed (17.1.1.1)
T2_MS: Final = 4000  # between repetitions at most
T4_MS: Final = 5000  # for which a message may be on its way
LIFE_MS: Final = 64 * T1_MS  # timers B, F, H, J, L, M
COMPLETED_MS: Final = 32_000  # timer D (17.1.1.2)
RINGING_MS: Final = 900_000  # after the last provisional response: nobody waits longer, whoever forgot to give up


class Sender(Protocol):
    def send(self, hop: Hop, data: bytes) -> None:
        """Never blocks, never raises. What cannot be sent is reported later, by `Transactions.failed`."""
        ...


class State(StrEnum):
    calling = "calling"
    trying = "trying"
    proceeding = "proceeding"
    completed = "completed"
    confirmed = "confirmed"
    accepted = "accepted"
    over = "over"


class Failure(StrEnum):
    """Why there is no final response (8.1.3.1)."""

    timeout = "timeout"
    transport = "transport"


Responded = Callable[[Response, int], None]
Failed = Callable[[Failure, int], None]


class Transactions:
    """All of one endpoint. At most `most` requests of peers: one beyond that finds no place."""

    def __init__(self, sender: Sender, timers: Timers, *, most: int) -> None:
        self.sender = sender
        self.timers = timers
        self.most = most
        self.clients: dict[tuple[str, str], ClientTransaction] = {}  # by branch and method
        self.servers: dict[tuple[str, ...], ServerTransaction] = {}
        self.refused: Counter[int] = Counter()  # requests, by the code of our answer

    def request(
        self, message: Request, hop: Hop, now_ms: int, responded: Responded, failed: Failed
    ) -> "ClientTransaction":
        """Sends it. Its top Via, with a branch of its own, is there already."""
        kind = InviteClient if message.method == "INVITE" else NonInviteClient
        return kind(self, message, hop, now_ms, responded, failed)

    def response(self, message: Response, now_ms: int) -> "ClientTransaction | None":
        """To one of our requests (17.1.3). None: it belongs to none that still lives."""
        branch = sip.top_via(message).parameters.get("branch") or ""
        method = CSeq.parse(message.headers["CSeq"]).method
        found = self.clients.get((branch, method))
        if found is not None:
            found.response(message, now_ms)
        return found

    def server(self, message: Request) -> "ServerTransaction | None":
        """The one that this request belongs to (17.2.3), if it lives."""
        return self.servers.get(server_key(message))

    def serve(self, message: Request, hop: Hop, now_ms: int) -> "ServerTransaction":
        """A new one. There is room: whoever calls looked at `full`."""
        kind = InviteServer if message.method == "INVITE" else NonInviteServer
        return kind(self, message, hop, now_ms)

    @property
    def full(self) -> bool:
        return len(self.servers) >= self.most

    def failed(self, hop: Hop, now_ms: int) -> None:
        """What was sent there did not arrive: the stream broke, or there is no way (17.1.4)."""
        for client in [one for one in self.clients.values() if one.hop == hop]:
            client.lost(now_ms)


def server_key(message: Request, method: str = "") -> tuple[str, ...]:
    """An ACK belongs to its INVITE. Without the magic branch it goes by what RFC 2543 had (17.2.3)."""
    via = sip.top_via(message)
    method = method or ("INVITE" if message.method == "ACK" else message.method)
    branch = via.parameters.get("branch") or ""
    if branch.startswith(sip.MAGIC) and branch != sip.MAGIC:
        return branch, f"{via.host}:{via.port}", method
    cseq = CSeq.parse(message.headers["CSeq"])
    return "", str(via), message.call_id, sip.from_tag(message), str(cseq.sequence), method


class ClientTransaction(ABC):
    """One request of ours until it needs nothing more."""

    def __init__(
        self, all_of: Transactions, message: Request, hop: Hop, now_ms: int, responded: Responded, failed: Failed
    ) -> None:
        self.request = sip.copied(message)  # its owner may send it again, with another Via and number
        self.hop = hop
        self.state = State.calling if message.method == "INVITE" else State.trying
        self._all = all_of
        self._timers = all_of.timers
        self._responded = responded
        self._failed = failed
        self._data = sip.write(message)
        self._key = sip.top_via(message).parameters.get("branch") or "", message.method
        self._repeat_ms = T1_MS
        all_of.clients[self._key] = self
        if not hop.reliable:
            self._timers.arm((self, "repeat"), now_ms + T1_MS, self._repeat)
        self._timers.arm((self, "life"), now_ms + LIFE_MS, self._timed_out)
        all_of.sender.send(hop, self._data)

    @abstractmethod
    def response(self, message: Response, now_ms: int) -> None:
        """One that belongs to it."""

    @abstractmethod
    def _repeat(self, now_ms: int) -> None:
        """Send it again, and arm the next time."""

    def lost(self, now_ms: int) -> None:
        if self.state in (State.calling, State.trying, State.proceeding):
            self._end()
            self._failed(Failure.transport, now_ms)
        elif self.state is State.completed:
            self._end()

    def _timed_out(self, now_ms: int) -> None:
        self._end()
        self._failed(Failure.timeout, now_ms)

    def _finish(self, state: State, linger_ms: int, now_ms: int) -> None:
        """A final response is here; what still comes of it is taken for `linger_ms`."""
        self.state = state
        self._timers.disarm((self, "repeat"))
        if linger_ms:
            self._timers.arm((self, "life"), now_ms + linger_ms, lambda _: self._end())
        else:
            self._end()

    def _end(self) -> None:
        self.state = State.over
        self._timers.disarm((self, "repeat"))
        self._timers.disarm((self, "life"))
        self._all.clients.pop(self._key, None)


class InviteClient(ClientTransaction):
    """17.1.1, with RFC 6026's Accepted, in which further 2xx (of forks, or repeated) still reach the caller."""

    _given_up = False

    def response(self, message: Response, now_ms: int) -> None:
        if self.state in (State.calling, State.proceeding):
            if message.code < 200:
                self.state = State.proceeding
                self._timers.disarm((self, "repeat"))
                # How long it may ring is the caller's to say (13.2.2.5).
                if not self._given_up:
                    self._timers.arm((self, "life"), now_ms + RINGING_MS, self._timed_out)
            elif message.code < 300:
                self._finish(State.accepted, LIFE_MS, now_ms)
            else:
                self._acknowledge(message)
                self._finish(State.completed, 0 if self.hop.reliable else COMPLETED_MS, now_ms)
            self._responded(message, now_ms)
        elif self.state is State.accepted and 200 <= message.code < 300:
            self._responded(message, now_ms)
        elif self.state is State.completed and message.code >= 300:
            self._acknowledge(message)

    def _repeat(self, now_ms: int) -> None:
        self._repeat_ms *= 2
        self._timers.arm((self, "repeat"), now_ms + self._repeat_ms, self._repeat)
        self._all.sender.send(self.hop, self._data)

    def give_up(self, now_ms: int, within_ms: int = LIFE_MS) -> None:
        """After a CANCEL: without a final response by then it is over (9.1)."""
        if self.state in (State.calling, State.proceeding):
            self._given_up = True
            self._timers.arm((self, "life"), now_ms + within_ms, self._timed_out)

    def _acknowledge(self, message: Response) -> None:
        """The ACK that belongs to the transaction (17.1.1.3)."""
        ack = Request("ACK", self.request.uri)
        headers = self.request.headers
        ack.headers.setlist("Via", [sip.values(self.request, "Via")[0]])
        if routes := sip.values(self.request, "Route"):
            ack.headers.setlist("Route", routes)
        ack.headers.set("From", headers["From"])
        ack.headers.set("To", message.headers["To"])
        ack.headers.set("Call-ID", headers["Call-ID"])
        ack.headers.set("CSeq", f"{CSeq.parse(headers['CSeq']).sequence} ACK")
        ack.headers.set("Max-Forwards", str(sip.MAX_HOPS))
        self._all.sender.send(self.hop, sip.write(ack))


class NonInviteClient(ClientTransaction):
    """17.1.2."""

    def response(self, message: Response, now_ms: int) -> None:
        if self.state not in (State.trying, State.proceeding):
            return
        if message.code < 200:
            self.state = State.proceeding
        else:
            self._finish(State.completed, 0 if self.hop.reliable else T4_MS, now_ms)
        self._responded(message, now_ms)

    def _repeat(self, now_ms: int) -> None:
        self._repeat_ms = T2_MS if self.state is State.proceeding else min(2 * self._repeat_ms, T2_MS)
        self._timers.arm((self, "repeat"), now_ms + self._repeat_ms, self._repeat)
        self._all.sender.send(self.hop, self._data)


class ServerTransaction(ABC):
    """One request of the peer's."""

    def __init__(self, all_of: Transactions, message: Request, hop: Hop, now_ms: int) -> None:
        self.request = message
        self.hop = sip.reply_hop(message, hop)
        self.state = State.proceeding if message.method == "INVITE" else State.trying
        self.tag = sip.new_tag()  # in To, of each response (8.2.6.2)
        self.cancelled: Callable[[int], None] | None = None
        self.acknowledged: Callable[[int], None] | None = None
        self._all = all_of
        self._timers = all_of.timers
        self._last: bytes = b""
        self._key = server_key(message)
        all_of.servers[self._key] = self

    @property
    def answered(self) -> bool:
        return self.state not in (State.trying, State.proceeding)

    def repeated(self, now_ms: int) -> None:
        """The same request came once more."""
        if self._last and self.state in (State.proceeding, State.completed):
            self._all.sender.send(self.hop, self._last)

    def respond(self, message: Response, now_ms: int) -> None:
        """A second final response is not sent."""
        if self.answered:
            return
        self._last = sip.write(message)
        if message.code < 200:
            self.state = State.proceeding
        else:
            self._final(message.code, now_ms)
            if message.code >= 300:
                self._all.refused[message.code] += 1
        self._all.sender.send(self.hop, self._last)

    def refuse(self, code: int, now_ms: int, phrase: str = "", **headers: str) -> None:
        """`headers` with `_` for `-`."""
        message = sip.response(self.request, code, phrase, tag=self.tag)
        for name, value in headers.items():
            message.headers.set(name.replace("_", "-"), value)
        self.respond(message, now_ms)

    @abstractmethod
    def _final(self, code: int, now_ms: int) -> None:
        """The state, and its timers, once the final response is on its way."""

    def _end(self, _: int = 0) -> None:
        self.state = State.over
        for name in ("repeat", "life"):
            self._timers.disarm((self, name))
        self._all.servers.pop(self._key, None)


class InviteServer(ServerTransaction):
    """17.2.1, with RFC 6026's Accepted, in which a repeated INVITE is not a new one."""

    def _final(self, code: int, now_ms: int) -> None:
        if code < 300:
            self.state = State.accepted
            self._timers.arm((self, "life"), now_ms + LIFE_MS, self._end)
            return
        self.state = State.completed
        self._repeat_ms = T1_MS
        if not self.hop.reliable:
            self._timers.arm((self, "repeat"), now_ms + T1_MS, self._repeat)
        self._timers.arm((self, "life"), now_ms + LIFE_MS, self._end)

    def _repeat(self, now_ms: int) -> None:
        self._repeat_ms = min(2 * self._repeat_ms, T2_MS)
        self._timers.arm((self, "repeat"), now_ms + self._repeat_ms, self._repeat)
        self._all.sender.send(self.hop, self._last)

    def ack(self, now_ms: int) -> None:
        """For a final response that was none of 2xx: those have an ACK of their own, which comes to the dialog."""
        if self.state is State.completed:
            self.state = State.confirmed
            self._timers.disarm((self, "repeat"))
            if self.hop.reliable:
                self._end()
            else:
                self._timers.arm((self, "life"), now_ms + T4_MS, self._end)


class NonInviteServer(ServerTransaction):
    """17.2.2."""

    def _final(self, code: int, now_ms: int) -> None:
        self.state = State.completed
        if self.hop.reliable:
            self._end()
        else:
            self._timers.arm((self, "life"), now_ms + LIFE_MS, self._end)
