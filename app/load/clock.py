"""The callers' 20 ms clock, which knows when it was late itself: what was measured then is not the server's."""

import asyncio
import time
from collections import deque
from typing import Final, Protocol

from media.audio import FRAME_MS

SLOTS: Final = FRAME_MS  # callers are spread over the 20 ms, one slot each millisecond
SLOT_S: Final = 0.001
OWN_S: Final = 0.005  # a clock that is later than this spoils what is being measured
OWN_SHARE: Final = 0.02  # of what is measured; a longer measurement bears more
MAX_BEHIND_S: Final = 0.1  # a clock further behind gives up the slots that it missed
MAX_LATE_SPANS: Final = 10_000


class Member(Protocol):
    def frame(self, now_s: float) -> None:
        """The next 20 ms: plain calls only."""
        ...


class Clock:
    """One for a process; its task runs `run` until it is cancelled. Times are `time.perf_counter` seconds."""

    def __init__(self) -> None:
        self.late_ms = 0.0  # in all
        self.missed_slots = 0
        self._slots: list[list[Member]] = [[] for _ in range(SLOTS)]
        self._due_s = time.perf_counter()
        self._spans: deque[tuple[float, float]] = deque(maxlen=MAX_LATE_SPANS)

    def add(self, member: Member) -> None:
        """In the slot with the fewest."""
        min(self._slots, key=len).append(member)

    def discard(self, member: Member) -> None:
        for slot in self._slots:
            if member in slot:
                slot.remove(member)

    def was_late(self, since_s: float, until_s: float) -> bool:
        """Whether the tester itself was so late between that it may have added to what was measured there."""
        bearable_s = max(OWN_S, OWN_SHARE * (until_s - since_s))
        now_s = time.perf_counter()
        if now_s - self._due_s > bearable_s and self._due_s < until_s and since_s < now_s:
            return True  # it is late right now, and has not noticed yet
        for begin_s, end_s in reversed(self._spans):
            if end_s < since_s:
                return False
            if begin_s < until_s and end_s - begin_s > bearable_s:
                return True
        return False

    async def run(self) -> None:
        self._due_s = time.perf_counter()
        at = 0
        while True:
            self._note_late(time.perf_counter())
            for member in tuple(self._slots[at]):
                member.frame(time.perf_counter())
            ahead = 1  # slots that nobody has need no waking up
            while ahead < SLOTS and not self._slots[(at + ahead) % SLOTS]:
                ahead += 1
            at = (at + ahead) % SLOTS
            self._due_s += ahead * SLOT_S
            await asyncio.sleep(max(0.0, self._due_s - time.perf_counter()))

    def _note_late(self, now_s: float) -> None:
        late_s = now_s - self._due_s
        if late_s <= OWN_S:
            return
        if self._spans and self._spans[-1][1] >= self._due_s:
            begin_s, end_s = self._spans.pop()
            self.late_ms += (now_s - end_s) * 1000
            self._spans.append((begin_s, now_s))
        else:
            self.late_ms += late_s * 1000
            self._spans.append((self._due_s, now_s))
        if late_s > MAX_BEHIND_S:
            missed = int(late_s / SLOT_S) // SLOTS * SLOTS
            self.missed_slots += missed
            self._due_s += missed * SLOT_S
