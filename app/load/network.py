"""A bad network between caller and server: frames lost in bursts, and delayed by chance but in their order."""

import random
from collections import deque
from collections.abc import Iterator
from typing import Final

from app.load.steps import Network

MAX_JITTERS: Final = 4  # a delay is at most so many times its mean
RETRANSMITTED_S: Final = 0.2  # over a stream, what was lost comes so much later


class Chance:
    """Of one direction."""

    def __init__(self, network: Network, rng: random.Random) -> None:
        self._rng = rng
        self._lost = False
        # Gilbert: a burst ends with `_ends`, and begins as often as makes `loss` of all
        self._ends = 1 / network.burst
        self._begins = network.loss * self._ends / (1 - network.loss)
        self._jitter_s = network.jitter_ms / 1000

    def lost(self) -> bool:
        """Of the next frame."""
        chance = 1 - self._ends if self._lost else self._begins
        self._lost = self._rng.random() < chance
        return self._lost

    def delay_s(self) -> float:
        if not self._jitter_s:
            return 0.0
        return min(self._rng.expovariate(1 / self._jitter_s), MAX_JITTERS * self._jitter_s)


class Sending:
    """What leaves in each 20 ms. A frame that is lost is b"", so that its time goes on."""

    def __init__(self, chance: Chance) -> None:
        self._chance = chance
        self._waiting: deque[tuple[float, bytes]] = deque()
        self._free_s = 0.0  # nothing overtakes what was delayed

    def frame(self, payload: bytes, now_s: float) -> Iterator[bytes]:
        if self._chance.lost():
            payload = b""
        self._free_s = max(self._free_s, now_s + self._chance.delay_s())
        self._waiting.append((self._free_s, payload))
        while self._waiting and self._waiting[0][0] <= now_s:
            yield self._waiting.popleft()[1]


class Hearing:
    """When what comes is let through."""

    def __init__(self, chance: Chance) -> None:
        self._chance = chance
        self._free_s = 0.0

    def arrives_s(self, at_s: float, *, packet: bool) -> float | None:
        """None: it is lost. Over a stream nothing is: it comes late."""
        delay_s = self._chance.delay_s()
        if self._chance.lost():
            if packet:
                return None
            delay_s += RETRANSMITTED_S
        self._free_s = max(self._free_s, at_s + delay_s)
        return self._free_s
