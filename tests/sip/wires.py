"""Endpoints joined by a network that keeps its own time and may lose, repeat and reorder datagrams.

`Agent` is a real endpoint, `Peer` one that is led by hand, message by message.
"""

import heapq
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from sipmessage import Request, Response

from media.sip import message as sip
from media.sip.auth import Answerer
from media.sip.call import Call, CallListener, End, EndCause
from media.sip.endpoint import MAX_CALLS, MAX_TRANSACTIONS, Endpoint, Refusal
from media.sip.inbound import InboundCall
from media.sip.message import Hop, Message
from media.sip.outbound import OutboundCall
from media.sip.refer import Referral

OFFER = "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\n"
ANSWER = OFFER.replace("192.0.2.1", "192.0.2.2")
DELAY_MS = 10
LONG_MS = 140_000  # after which nothing of before is left: a hang-up may wait for an ACK, then for its BYE
MAX_STEPS = 200_000
Drop = Callable[["Sent"], bool]
M = TypeVar("M", Request, Response)


@dataclass(frozen=True)
class Sent:
    source: str
    to: str
    message: Message

    @property
    def name(self) -> str:
        """Such as "INVITE" or "200 INVITE"."""
        if isinstance(self.message, Request):
            return self.message.method
        return f"{self.message.code} {self.message.cseq.method}"


class Net:
    """Virtual time. Every datagram takes `DELAY_MS`, and `drop` may lose it."""

    def __init__(self, transport: str = "udp", seed: int = 0) -> None:
        self.transport = transport
        self.now_ms = 1_000_000
        self.log: list[Sent] = []
        self.drop: Drop = lambda sent: False
        self.loss = 0.0
        self.twice = 0.0
        self.jitter_ms = 0
        self.agents: dict[str, Agent] = {}
        self.peers: dict[str, Peer] = {}
        self._queue: list[tuple[int, int, str, str, bytes]] = []
        self._random = random.Random(seed)
        random.seed(seed)  # what the endpoints throw dice for comes out alike each time
        self._order = 0

    def send(self, source: str, hop: Hop, data: bytes) -> None:
        sent = Sent(source, hop.host, sip.parse(data))
        self.log.append(sent)
        if self.drop(sent) or self._random.random() < self.loss:
            return
        for _ in range(2 if self._random.random() < self.twice else 1):
            self._order += 1
            at_ms = self.now_ms + DELAY_MS + self._random.randint(0, self.jitter_ms)
            heapq.heappush(self._queue, (at_ms, self._order, source, hop.host, data))

    def run(self, for_ms: int = 1000) -> None:
        """Time goes on, and everything that is due in it happens."""
        end_ms = self.now_ms + for_ms
        for _ in range(MAX_STEPS):
            dues = [(self._queue[0][0], "")] if self._queue else []
            dues += [(due, name) for name, a in self.agents.items() if (due := a.endpoint.deadline_ms) is not None]
            at_ms, name = min(dues, default=(end_ms + 1, ""))
            if at_ms > end_ms:
                break
            self.now_ms = max(self.now_ms, at_ms)
            if name:
                self.agents[name].endpoint.tick(self.now_ms)
                continue
            _, _, source, to, data = heapq.heappop(self._queue)
            if to in self.agents:
                hop = Hop(self.transport, source, 5060, int(self.transport != "udp"))
                self.agents[to].endpoint.receive(sip.parse(data), hop, self.now_ms)
            elif to in self.peers:
                self.peers[to].receive(sip.parse(data))
        else:
            raise AssertionError("they never stop")
        self.now_ms = end_ms

    def losing(self, *names: str, times: int = 1) -> None:
        """The first so many of each of these are lost."""
        left = dict.fromkeys(names, times)

        def drop(sent: Sent) -> bool:
            left[sent.name] = left.get(sent.name, 0) - 1
            return left[sent.name] >= 0

        self.drop = drop

    def names(self) -> list[str]:
        return [sent.name for sent in self.log]

    def count(self, name: str) -> int:
        return self.names().count(name)

    @property
    def requests(self) -> list[Request]:
        return [sent.message for sent in self.log if isinstance(sent.message, Request)]

    @property
    def responses(self) -> list[Response]:
        return [sent.message for sent in self.log if isinstance(sent.message, Response)]


@dataclass
class Told(CallListener):
    """Remembers what it is told, and answers as the fields say."""

    sdp: str = ANSWER
    offers: list[str] = field(default_factory=list)
    answers: list[str] = field(default_factory=list)
    codes: list[int] = field(default_factory=list)
    ends: list[End] = field(default_factory=list)
    keys: list[tuple[str, int]] = field(default_factory=list)
    referrals: list[Referral] = field(default_factory=list)
    transfers: list[int] = field(default_factory=list)
    stands: int = 0
    fits: bool = True
    refers: bool | None = True

    def _told(self) -> None:
        assert not self.ends, "told of something after the end"

    @property
    def end(self) -> EndCause | None:
        assert len(self.ends) <= 1
        return self.ends[0].cause if self.ends else None

    def offered(self, sdp: str, now_ms: int) -> str | None:
        self._told()
        self.offers.append(sdp)
        return self.sdp if self.fits else None

    def wanted(self, now_ms: int) -> str:
        self._told()
        return self.sdp

    def answered(self, sdp: str, now_ms: int) -> bool:
        self._told()
        self.answers.append(sdp)
        return self.fits

    def progressed(self, code: int, now_ms: int) -> None:
        self._told()
        self.codes.append(code)

    def confirmed(self, now_ms: int) -> None:
        self._told()
        self.stands += 1

    def ended(self, end: End, now_ms: int) -> None:
        self._told()
        self.ends.append(end)

    def digit(self, key: str, duration_ms: int, now_ms: int) -> None:
        self._told()
        self.keys.append((key, duration_ms))

    def referred(self, referral: Referral, now_ms: int) -> bool | None:
        self._told()
        self.referrals.append(referral)
        return self.refers

    def transferred(self, code: int, now_ms: int) -> None:
        self._told()
        self.transfers.append(code)


class Agent:
    """An endpoint at an address. What `answers` does with a call is done when it comes."""

    def __init__(
        self,
        net: Net,
        host: str,
        answers: Callable[[InboundCall], None] | None = None,
        *,
        max_calls: int = MAX_CALLS,
        max_transactions: int = MAX_TRANSACTIONS,
    ) -> None:
        self.net = net
        self.host = host
        self.refusal: Refusal | None = None
        self.invitations: list[InboundCall] = []
        self.answers = answers or (lambda call: None)
        self.endpoint = Endpoint(self, self, max_calls=max_calls, max_transactions=max_transactions)
        net.agents[host] = self

    def send(self, hop: Hop, data: bytes) -> None:
        self.net.send(self.host, hop, data)

    def local(self, hop: Hop) -> tuple[str, int]:
        return self.host, 5060

    def screen(self, request: Request, hop: Hop, now_ms: int) -> Refusal | None:
        return self.refusal

    def invited(self, call: InboundCall, now_ms: int) -> None:
        self.invitations.append(call)
        self.answers(call)

    def hop(self, host: str) -> Hop:
        return Hop(self.net.transport, host, 5060)

    def calls(
        self,
        host: str,
        told: Told,
        *,
        answer_ms: int = 60_000,
        answerer: Answerer | None = None,
        headers: Sequence[tuple[str, str]] = (),
    ) -> OutboundCall:
        target = sip.uri_of(f"sip:desk@{host}")
        caller = f"<sip:bot@{self.host}>"
        return self.endpoint.invite(
            target,
            caller,
            self.hop(host),
            told,
            self.net.now_ms,
            answer_ms=answer_ms,
            answerer=answerer,
            headers=headers,
        )

    @property
    def left(self) -> list[str]:
        """What is still remembered."""
        one = self.endpoint
        names = [f"call {call.stage}" for call in one.calls.values()]
        names += [f"client {client.request.method} {client.state}" for client in one.transactions.clients.values()]
        names += [f"server {server.request.method} {server.state}" for server in one.transactions.servers.values()]
        names += [f"invite {invite[0]}" for invite in one._invites]
        return names if names or not len(one.timers) else [f"{len(one.timers)} timers"]


class Peer:
    """Keeps what it gets, says what a test says, and `reacts` to what comes."""

    def __init__(self, net: Net, host: str, reacts: Callable[[Message], None] | None = None) -> None:
        self.net = net
        self.host = host
        self.reacts = reacts or (lambda message: None)
        self.got: list[Message] = []
        net.peers[host] = self

    def receive(self, message: Message) -> None:
        self.got.append(message)
        self.reacts(message)

    def last(self, name: str) -> Request:
        """The request of this method that came last."""
        return next(one for one in reversed(self.got) if isinstance(one, Request) and one.method == name)

    def final(self, method: str) -> Response:
        """The response to such a request that came last."""
        return next(one for one in reversed(self.got) if isinstance(one, Response) and one.cseq.method == method)

    def codes(self, method: str) -> list[int]:
        return [one.code for one in self.got if isinstance(one, Response) and one.cseq.method == method]

    def request(
        self, method: str, to: str, *, cseq: int = 1, sdp: str = "", call_id: str = "one", **headers: str
    ) -> Request:
        """Sent, outside a dialog unless the headers say otherwise. `headers` with `_` for `-`; empty: without it."""
        made = sip.request(method, f"sip:bot@{to}")
        made.headers.set("Via", f"SIP/2.0/UDP {self.host}:5060;branch={sip.new_branch()}")
        made.headers.set("From", f"<sip:peer@{self.host}>;tag=peer")
        made.headers.set("To", f"<sip:bot@{to}>")
        made.headers.set("Call-ID", call_id)
        made.headers.set("CSeq", f"{cseq} {method}")
        made.headers.set("Max-Forwards", "70")
        made.headers.set("Contact", f"<sip:peer@{self.host}:5060>")
        return self._send(to, made, sdp, headers)

    def within(
        self, first: Request, tagged: Response, method: str, *, cseq: int, sdp: str = "", **headers: str
    ) -> Request:
        """Of the dialog that this INVITE and this response to it made."""
        ends = first.headers["From"], tagged.headers["To"]
        ours = sip.top_via(first).host == self.host
        local, remote = ends if ours else ends[::-1]
        to = sip.address_of(remote).uri.host if ours else sip.top_via(first).host
        said = {"From": local, "To": remote} | headers
        return self.request(method, to, cseq=cseq, sdp=sdp, call_id=first.call_id, **said)

    def reply(self, request: Request, code: int, *, tag: str = "desk", sdp: str = "", **headers: str) -> Response:
        made = sip.response(request, code, tag="" if code == 100 else tag)
        made.headers.set("Contact", f"<sip:desk@{self.host}:5060>")
        return self._send(sip.top_via(request).host, made, sdp, headers)

    def again(self, to: str, message: Message) -> None:
        self.net.send(self.host, Hop("udp", to, 5060), sip.write(message))

    def _send(self, to: str, made: M, sdp: str, headers: dict[str, str]) -> M:
        if sdp:
            made.headers.set("Content-Type", "application/sdp")
            made.body = sdp.encode()
        for name, value in headers.items():
            made.headers.remove(name.replace("_", "-"))
            if value:
                made.headers.set(name.replace("_", "-"), value)
        self.again(to, made)
        return made


def accepting(net: Net, told: Told) -> Callable[[InboundCall], None]:
    """Rings, and answers at once."""

    def answers(call: InboundCall) -> None:
        call.ring(net.now_ms)
        call.accept(told.sdp, told, net.now_ms)

    return answers


@dataclass
class Pair:
    """Two agents, and the call between them from both sides. `caller` is who invited."""

    net: Net
    a: Agent
    b: Agent
    caller: Told
    callee: Told
    calling: OutboundCall
    called: Call

    def over(self) -> None:
        """Everything ends, both were told, and nothing is left anywhere."""
        self.net.run(LONG_MS)
        assert len(self.caller.ends) == len(self.callee.ends) == 1
        assert self.a.left == self.b.left == []


def pair(net: Net | None = None, within_ms: int = 2000) -> Pair:
    """A call that stands, with an empty log."""
    net = net or Net()
    caller, callee = Told(OFFER), Told(ANSWER)
    a, b = Agent(net, "a"), Agent(net, "b", accepting(net, callee))
    calling = a.calls("b", caller)
    net.run(within_ms)
    assert caller.stands == callee.stands == 1
    net.log.clear()
    return Pair(net, a, b, caller, callee, calling, b.invitations[0])
