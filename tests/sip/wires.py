"""Endpoints joined by a network that keeps its own time and may lose, repeat and reorder datagrams."""

import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass, field

from sipmessage import Request, Response

from media.sip import message as sip
from media.sip.call import CallListener, End
from media.sip.endpoint import Endpoint, Refusal
from media.sip.inbound import InboundCall
from media.sip.message import Hop, Message
from media.sip.refer import Referral

OFFER = "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\n"
ANSWER = OFFER.replace("192.0.2.1", "192.0.2.2")
DELAY_MS = 10
Drop = Callable[["Sent"], bool]


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
        self._queue: list[tuple[int, int, str, str, bytes]] = []
        self._random = random.Random(seed)
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
        while True:
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
        self.now_ms = end_ms

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
    refers: bool = True

    def offered(self, sdp: str, now_ms: int) -> str | None:
        self.offers.append(sdp)
        return self.sdp if self.fits else None

    def wanted(self, now_ms: int) -> str:
        return self.sdp

    def answered(self, sdp: str, now_ms: int) -> bool:
        self.answers.append(sdp)
        return self.fits

    def progressed(self, code: int, now_ms: int) -> None:
        self.codes.append(code)

    def confirmed(self, now_ms: int) -> None:
        self.stands += 1

    def ended(self, end: End, now_ms: int) -> None:
        self.ends.append(end)

    def digit(self, key: str, duration_ms: int, now_ms: int) -> None:
        self.keys.append((key, duration_ms))

    def referred(self, referral: Referral, now_ms: int) -> bool:
        self.referrals.append(referral)
        return self.refers

    def transferred(self, code: int, now_ms: int) -> None:
        self.transfers.append(code)


class Agent:
    """An endpoint at an address. What `answers` does with a call is done when it comes."""

    def __init__(self, net: Net, host: str, answers: Callable[[InboundCall], None] | None = None) -> None:
        self.net = net
        self.host = host
        self.refusal: Refusal | None = None
        self.invitations: list[InboundCall] = []
        self.answers = answers or (lambda call: None)
        self.endpoint = Endpoint(self, self)
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
