"""How an attempt to call somebody ends, and what is known of a list's row."""

from dataclasses import dataclass
from enum import StrEnum


class Outcome(StrEnum):
    answered = "answered"
    voicemail = "voicemail"
    busy = "busy"
    no_answer = "no-answer"
    refused = "refused"  # forbidden by our own rules
    failed = "failed"  # the network, or whoever stands between
    invalid = "invalid"  # there is no such number, or nobody there wants to be called
    unknown = "unknown"  # we died while it was being placed


def of_status(status: int) -> Outcome:
    """What a final SIP status says of the callee (RFC 3261 §21; 607: RFC 8197 §4)."""
    match status:
        case 486 | 600 | 603:
            return Outcome.busy
        case 408 | 480 | 487:
            return Outcome.no_answer
        case 404 | 410 | 484 | 604 | 607:
            return Outcome.invalid
        case _:
            return Outcome.answered if 200 <= status < 300 else Outcome.failed


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
