"""The caller's side hands its end of the call to somebody else, who is called and takes its place (RFC 3515).

Until they answer the call goes on as it was. Whoever asked may leave before that: then the call waits for them.
"""

from app.core import replies, steps
from app.core.call import Call
from app.core.effects import CallInstead, DeclineReferral, DropLeg
from app.core.events import CallerReferred, ReferralFailed
from app.core.state import Phase, Referral, ReferralLine

ANSWER_MS = 45_000
"""For which it may ring there."""

GRACE_MS = 10_000
"""Beyond that: then whoever carries the order out has forgotten it."""

MAX_REFERRALS = 5
"""Of one call; more are telephones that send it round in circles."""

ANSWERED = "answered"


def asked(call: Call, event: CallerReferred) -> None:
    state = call.state
    if state.phase is not Phase.live or not state.attached or event.leg != state.leg:
        call.emit(DeclineReferral("the call is not live"))
    elif state.referral is not None:
        call.emit(DeclineReferral("one is under way"))
    elif len(state.referrals) >= MAX_REFERRALS:
        call.emit(DeclineReferral("too many in one call"))
    else:
        n = len(state.referrals) + 1
        leg = f"{state.leg}-r{n}"
        state.referral = Referral(n, leg)
        state.referrals.append(ReferralLine(event.to, ""))
        call.arm("referral", ANSWER_MS + GRACE_MS)
        call.emit(CallInstead(n, leg, event.to, ANSWER_MS))


def awaits(call: Call, cause: str, outcome: str) -> bool:
    """The caller's leg is gone. Whether somebody may take its place; if nobody does, the call ends of this `cause`."""
    current = call.state.referral
    if current is None or call.state.phase is not Phase.live:
        return False
    current.cause, current.outcome = cause, outcome
    replies.cut(call)
    return True


def attached(call: Call, leg: str) -> None:
    current = call.state.referral
    if current is None:
        return
    if current.leg == leg:
        _over(call, ANSWERED)
        call.note("The caller has handed the call over: somebody else is speaking now.")
    else:
        current.cause = current.outcome = ""  # whoever asked is back


def failed(call: Call, event: ReferralFailed) -> None:
    current = call.state.referral
    if current is not None and current.n == event.n:
        _missed(call, current, event.outcome)


def overdue(call: Call) -> None:
    current = call.state.referral
    if current is not None:
        call.emit(DropLeg(current.leg, "nobody answered in time"))
        _missed(call, current, "no-answer")


def _missed(call: Call, current: Referral, outcome: str) -> None:
    _over(call, outcome)
    if current.cause:
        steps.hang_up(call, current.cause, current.outcome)


def _over(call: Call, outcome: str) -> None:
    call.disarm("referral")
    call.state.referral = None
    call.state.referrals[-1] = ReferralLine(call.state.referrals[-1].to, outcome)
