"""Deadlines of everything in one place: the shell arms one alarm for the earliest (house rule: time is an argument)."""

import heapq
from collections.abc import Callable, Hashable
from itertools import count

Ring = Callable[[int], None]
"""Told the time."""


class Timers:
    """Named by whatever key their owner likes; arming one again moves it."""

    def __init__(self) -> None:
        self._armed: dict[Hashable, tuple[int, int, Ring]] = {}
        self._heap: list[tuple[int, int, Hashable]] = []  # what was disarmed stays in it until its time
        self._order = count()

    def __len__(self) -> int:
        return len(self._armed)

    def arm(self, key: Hashable, at_ms: int, ring: Ring) -> None:
        entry = at_ms, next(self._order)
        self._armed[key] = (*entry, ring)
        heapq.heappush(self._heap, (*entry, key))
        if len(self._heap) > 64 + 4 * len(self._armed):
            self._heap = [(at_ms, order, key) for key, (at_ms, order, _) in self._armed.items()]
            heapq.heapify(self._heap)

    def disarm(self, key: Hashable) -> None:
        self._armed.pop(key, None)

    @property
    def deadline_ms(self) -> int | None:
        while self._heap:
            at_ms, order, key = self._heap[0]
            if (found := self._armed.get(key)) is not None and found[1] == order:
                return at_ms
            heapq.heappop(self._heap)
        return None

    def tick(self, now_ms: int) -> None:
        """Rings all that is due, the earliest first."""
        while (due_ms := self.deadline_ms) is not None and due_ms <= now_ms:
            _, _, key = heapq.heappop(self._heap)
            _, _, ring = self._armed.pop(key)
            ring(now_ms)
