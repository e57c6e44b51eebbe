"""How an attempt to call somebody ends, and what is known of a list's row."""

from dataclasses import dataclass
from enum import StrEnum


class Outcome(StrEnum):
    answered = "answered"
    voicemail = "voicemail"
    busy = "busy"  # 486, 600
    no_answer = "no-answer"  # 408, 480, 487 after our own time limit
    refused = "refused"  # forbidden by our own rules
    failed = "failed"  # the network, other 5xx and 6xx
    invalid = "invalid"  # 404, 484, 604: there is no such number
    unknown = "unknown"  # we died while it was being placed


@dataclass(frozen=True, slots=True)
class Placed:
    """One call that was placed, or was not."""

    outcome: Outcome
    hold_until_s: float | None = None
    """With `refused`: our limits forbid it until then. It was no attempt, and the row keeps its turn."""


@dataclass(frozen=True, slots=True)
class Progress:
    """What is known of one row, and survives a restart. Times are seconds since 1970."""

    outcomes: tuple[Outcome, ...] = ()  # of the attempts that ended, in order
    placing: bool = False  # one more is under way, or was when we died
    next_at_s: float | None = None  # when it is due again; None while placing and when it is done

    @property
    def done(self) -> bool:
        return not self.placing and self.next_at_s is None
