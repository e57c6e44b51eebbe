"""Whether a trunk answers: OPTIONS now and then (RFC 3261, 11). Sans-IO."""

import random
from collections.abc import Callable
from typing import Final, Protocol

from sipmessage import Request, Response

from media.sip import bodies
from media.sip import message as sip
from media.sip.endpoint import Endpoint
from media.sip.message import Hop, Written
from media.sip.transaction import Failure

INTERVAL_MS: Final = 30_000
JITTER: Final = 0.2  # of the interval, either way
ANSWER_MS: Final = 8000  # four repetitions on UDP; an answer that comes later still counts as one
MAX_MISSES: Final = 2
DEAD: Final = frozenset({408, 503})  # said by a proxy before it, or by itself before it goes


class HealthListener(Protocol):
    """May call `stop` whenever it is told something."""

    def went_down(self, reason: str, now_ms: int) -> None: ...

    def came_up(self, now_ms: int) -> None: ...


class Health:
    """Of one hop, which is alive until it is known not to be. `start`, then `stop`."""

    def __init__(
        self,
        endpoint: Endpoint,
        target: Written,
        caller: str,
        hop: Hop,
        listener: HealthListener,
        *,
        interval_ms: int = INTERVAL_MS,
        chance: Callable[[], float] = random.random,
    ) -> None:
        """`caller` is the From, without its tag. `hop` may be changed: the next OPTIONS goes there."""
        assert interval_ms * (1 - JITTER) > ANSWER_MS
        self.hop = hop
        self.alive = True
        self.deaths = 0  # how often it stopped answering
        self._endpoint = endpoint
        self._target = target
        self._caller = caller
        self._listener = listener
        self._interval_ms = interval_ms
        self._chance = chance
        self._misses = 0  # one after the other
        self._running = False
        self._waits: Request | None = None  # for its answer

    def start(self, now_ms: int) -> None:
        """The first one goes within an interval, so that many trunks do not ask at once."""
        assert not self._running
        self._running = True
        self._endpoint.timers.arm((self, "ask"), now_ms + round(self._interval_ms * self._chance()), self._ask)

    def stop(self) -> None:
        self._running = False
        self._waits = None
        for name in ("ask", "answer"):
            self._endpoint.timers.disarm((self, name))

    def _ask(self, now_ms: int) -> None:
        spread = 1 - JITTER + 2 * JITTER * self._chance()
        self._endpoint.timers.arm((self, "ask"), now_ms + round(self._interval_ms * spread), self._ask)
        self._endpoint.timers.arm((self, "answer"), now_ms + ANSWER_MS, self._late)
        request = self._endpoint.new_request(
            "OPTIONS", self._target, f"{self._caller};tag={sip.new_tag()}", f"<{self._target}>"
        )
        self._endpoint.complete(request, self.hop)
        request.headers.set("Accept", bodies.SDP)
        self._waits = request
        self._endpoint.exchange(
            request,
            self.hop,
            now_ms,
            lambda response, now_ms: self._responded(request, response, now_ms),
            lambda failure, now_ms: self._failed(request, failure, now_ms),
        )

    def _responded(self, request: Request, response: Response, now_ms: int) -> None:
        if response.code < 200 or not self._running:
            return
        if response.code in DEAD:
            self._missed(request, str(response.code), now_ms)
            return
        if request is self._waits:
            self._waits = None
            self._endpoint.timers.disarm((self, "answer"))
        self._misses = 0
        if not self.alive:
            self.alive = True
            self._listener.came_up(now_ms)

    def _failed(self, request: Request, failure: Failure, now_ms: int) -> None:
        self._missed(request, str(failure), now_ms)

    def _late(self, now_ms: int) -> None:
        if self._waits is not None:
            self._missed(self._waits, str(Failure.timeout), now_ms)

    def _missed(self, request: Request, reason: str, now_ms: int) -> None:
        """Each request can be missed once."""
        if request is not self._waits:
            return
        self._waits = None
        self._endpoint.timers.disarm((self, "answer"))
        self._misses += 1
        if self.alive and self._misses >= MAX_MISSES:
            self.alive = False
            self.deaths += 1
            self._listener.went_down(reason, now_ms)
