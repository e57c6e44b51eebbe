"""What one thing that the caller did led to, told from what was heard around it. Pure: times are given in.

A *stop* is silence that lasts, or an order to clear. Silence after which the agent neither goes on within
`BACK_S` nor was told to clear is a reply's own end, and no stop.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from app.load.ear import LASTS_S, STALL_S, Ear, Hole
from app.load.results import CallResult, Measure, What

SPEAKING_S: Final = 0.25  # the agent was audible so shortly before: we spoke over it
YIELD_S: Final = 1.5  # after our own end; who is still talking then did not yield
AFTER_S: Final = 1.5  # a stop or a hold so long after our end is still due to what we did
BACK_S: Final = 3.0
MISSED_S: Final = 5.0  # no answer in this time is none
TOGETHER_S: Final = 0.3  # who begins to speak so shortly after us could not know

WasLate = Callable[[float, float], bool]
"""Whether the tester itself was late between two times."""


class Kind(StrEnum):
    say = "say"
    interrupt = "interrupt"
    backchannel = "backchannel"
    noise = "noise"
    digits = "digits"


@dataclass(slots=True)
class Act:
    """One thing that the caller did. Times are 0 until it happened."""

    kind: Kind
    words: str = ""
    onset_s: float = 0.0  # the first loud frame left, or the first key
    end_s: float = 0.0  # the last loud frame was over, or the last key


class Judge:
    """Fills one call's result. Acts come in their order, each when the next begins or the call is over."""

    def __init__(self, result: CallResult, ear: Ear, was_late: WasLate, origin_s: float) -> None:
        self._result = result
        self._ear = ear
        self._was_late = was_late
        self._origin_s = origin_s
        self._acts: list[Act] = []  # that may still explain a hole
        self._holes = 0  # judged

    def settle(self, act: Act | None, until_s: float) -> None:
        """What followed the act until then. One that did not come to its end tells nothing."""
        if act is not None and act.onset_s:
            self._acts = [*self._acts[-4:], act]
            if act.end_s:
                self._act(act, until_s)
        self._settle_holes(until_s)

    def _act(self, act: Act, until_s: float) -> None:
        over = self._ear.spoke_at(act.onset_s, SPEAKING_S)
        match act.kind:
            case Kind.say | Kind.interrupt:
                self._result.turns += 1
                self._answer(act, self._yield(act, until_s) if over else None, over, until_s)
            case Kind.backchannel | Kind.noise:
                if over:
                    self._interjection(act, until_s)
            case Kind.digits:
                self._keys(act, over, until_s)

    def note(self, what: What, since_s: float, until_s: float) -> None:
        own = self._was_late(since_s, until_s)
        ms = round((until_s - since_s) * 1000, 1)
        self._result.measures.append(Measure(what, ms, round(since_s - self._origin_s, 3), own))

    # Over the agent's words

    def _yield(self, act: Act, until_s: float) -> float | None:
        """When the agent fell silent for us."""
        ear, result = self._ear, self._result
        stop_s = ear.stop_s(act.onset_s, until_s)
        limit_s = act.end_s + YIELD_S
        if stop_s is None or stop_s > limit_s:
            if until_s >= limit_s and ear.spoke_at(limit_s, LASTS_S):
                if self._was_late(act.onset_s, limit_s):
                    result.own += 1
                else:
                    result.interruptions += 1
                    result.unyielded += 1
            return None
        clear_s = ear.clear_s(act.onset_s, min(until_s, stop_s + BACK_S))
        if clear_s is None and ear.tells_clears:
            return stop_s  # it had come to its end
        result.interruptions += 1
        self.note(What.barge_in, act.onset_s, stop_s)
        if clear_s is not None:
            self.note(What.to_clear, act.onset_s, clear_s)
        return stop_s

    def _interjection(self, act: Act, until_s: float) -> None:
        ear, result = self._ear, self._result
        if until_s < act.end_s + AFTER_S:
            return  # too soon to say
        if self._was_late(act.onset_s, act.end_s + AFTER_S):
            result.own += 1
            return
        stop_s = ear.stop_s(act.onset_s, until_s)
        stopped = stop_s is not None and stop_s <= act.end_s + AFTER_S and self._cut_short(act, stop_s, until_s)
        if act.kind is Kind.noise:
            result.noises += 1
            result.stopped_by_noise += stopped
        else:
            result.backchannels += 1
            result.stopped_by_backchannel += stopped

    def _cut_short(self, act: Act, stop_s: float, until_s: float) -> bool:
        """It was no reply's own end."""
        if self._ear.clear_s(act.onset_s, min(until_s, stop_s + BACK_S)) is not None:
            return True
        next_s = self._ear.next_start_s(stop_s)
        return next_s is not None and next_s <= min(until_s, stop_s + BACK_S)

    # In turn

    def _answer(self, act: Act, stop_s: float | None, over: bool, until_s: float) -> None:
        ear, result = self._ear, self._result
        if over and stop_s is None:
            return  # it talked on
        silent_s = stop_s if stop_s is not None else act.onset_s + TOGETHER_S
        next_s = ear.next_start_s(silent_s)
        if next_s is not None and next_s < act.end_s:
            if self._was_late(act.onset_s, act.end_s):
                result.own += 1
            else:
                result.false_ends += 1
            return
        if stop_s is None and ear.spoke_at(act.end_s, LASTS_S):
            return  # both began at once
        if next_s is not None and next_s <= until_s:
            self.note(What.response, act.end_s, next_s)
        elif until_s - act.end_s >= MISSED_S:
            result.missed_ends += 1

    def _keys(self, act: Act, over: bool, until_s: float) -> None:
        ear = self._ear
        silent_s = act.end_s
        if over:
            stop_s = ear.stop_s(act.onset_s, until_s)
            if stop_s is None or stop_s > act.end_s + YIELD_S:
                return
            if ear.clear_s(act.onset_s, min(until_s, stop_s + BACK_S)) is not None or not ear.tells_clears:
                self.note(What.key_barge_in, act.onset_s, stop_s)
            silent_s = max(stop_s, act.end_s)
        next_s = ear.next_start_s(silent_s)
        if next_s is not None and next_s <= until_s:
            self.note(What.key_response, act.end_s, next_s)

    # Holes

    def _settle_holes(self, until_s: float) -> None:
        holes = self._ear.holes
        while self._holes < len(holes) and holes[self._holes].at_s + holes[self._holes].length_s <= until_s:
            self._hole(holes[self._holes])
            self._holes += 1

    def _hole(self, hole: Hole) -> None:
        end_s = hole.at_s + hole.length_s
        act = _cause(self._acts, hole)
        if act is not None:
            if act.kind in (Kind.backchannel, Kind.noise):
                self.note(What.hold, hole.at_s, end_s)
        elif self._was_late(hole.at_s, end_s):
            self._result.own += 1
        else:
            self._result.late += 1
            self.note(What.gap, hole.at_s, end_s)


def _cause(acts: Iterable[Act], hole: Hole) -> Act | None:
    """What we did that the agent fell silent for."""
    if hole.length_s < STALL_S:
        return None  # nobody falls silent for so short
    return next((act for act in acts if act.onset_s <= hole.at_s <= (act.end_s or act.onset_s) + AFTER_S), None)
