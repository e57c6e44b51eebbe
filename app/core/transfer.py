"""A step that hands the caller to somebody else: by REFER, or by a second leg that is dialled, spoken to and joined.

While it is under way the agent says nothing to the caller and hears nothing of them; the call's other limits hold.
"""

from app.core import steps
from app.core.call import Call
from app.core.effects import DialLeg, DropLeg, ReferCaller
from app.core.events import LegJoined, LegLeft, TransferDone, TransferFailed
from app.core.state import Phase, Transfer, TransferLine, TransferStage
from flows.model import TransferBy

GRACE_MS = 10_000
"""Beyond the time for an answer: then whoever carries the order out has forgotten it."""

MAX_TRANSFERS = 5
"""Of one call; more is a flow that goes round in circles."""

TRANSFERRED = "transferred"


def is_due(call: Call) -> bool:
    """The step's words are out, and what they announced has not been tried in this visit."""
    state = call.state
    wanted = state.phase is Phase.live and bool(state.step) and call.step.transfer is not None
    free = state.transfer is None and state.reply is None and state.due is None and state.attached
    return wanted and free and state.transferred != state.visit


def is_silent(call: Call) -> bool:
    """The agent has nothing to say now."""
    return call.state.transfer is not None and call.state.transfer.stage is not TransferStage.announcing


def settle(call: Call) -> None:
    """Begin what is due; join the two once the other side knows who is calling."""
    state = call.state
    current = state.transfer
    if is_due(call):
        _begin(call)
    elif current is not None and current.stage is TransferStage.announcing and not (state.reply or state.due):
        current.stage = TransferStage.joined


def _begin(call: Call) -> None:
    state, target = call.state, call.step.transfer
    assert target is not None
    n = len(state.transfers) + 1
    if n > MAX_TRANSFERS:
        state.transferred = state.visit
        steps.give_up(call, "too many transfers")
        return
    leg = f"{state.leg}-t{n}"
    state.transfer = Transfer(n, leg, target.by)
    state.transfers.append(TransferLine(target.by.value, ""))
    call.arm("transfer", target.answer_s * 1000 + GRACE_MS)
    if target.by is TransferBy.refer:
        call.emit(ReferCaller(n, target.to))
    else:
        call.emit(DialLeg(n, leg, target.to, target.answer_s * 1000))


def joined(call: Call, event: LegJoined) -> bool:
    """Whether the other side may stay."""
    current = call.state.transfer
    if current is None or current.leg != event.leg or current.stage is not TransferStage.asked:
        return False
    call.disarm("transfer")
    target = call.step.transfer
    if target is not None and target.announce:
        current.stage = TransferStage.announcing
        due = call.want()
        due.acts = False
        due.lead.append(call.line(target.announce))
    else:
        current.stage = TransferStage.joined
    _note(call, "answered")
    return True


def left(call: Call, event: LegLeft) -> None:
    """The other side hung up."""
    current = call.state.transfer
    if current is None or current.leg != event.leg or call.state.phase is not Phase.live:
        return
    target = call.step.transfer
    reached = current.stage is TransferStage.joined
    _over(call)
    if not reached:
        _failed(call, "left")
    elif target is not None and target.after:
        steps.enter(call, target.after, "the other side has left")
    else:
        steps.hang_up(call, TRANSFERRED, target.end if target is not None else TRANSFERRED)


def done(call: Call, event: TransferDone) -> None:
    """The caller talks to somebody else now."""
    current = call.state.transfer
    if current is not None and current.n == event.n and current.by is TransferBy.refer:
        end = call.step.transfer.end if call.step.transfer is not None else TRANSFERRED
        _note(call, "done")
        _over(call)
        steps.hang_up(call, TRANSFERRED, end)


def failed(call: Call, event: TransferFailed) -> None:
    current = call.state.transfer
    if current is not None and current.n == event.n and current.stage is TransferStage.asked:
        _over(call)
        _failed(call, event.outcome)


def overdue(call: Call) -> None:
    current = call.state.transfer
    if current is not None:
        call.emit(DropLeg(current.leg, "nobody answered in time"))
        _over(call)
        _failed(call, "no-answer")


def _failed(call: Call, outcome: str) -> None:
    """The flow says where to; a digression goes back by itself."""
    _note(call, outcome)
    call.note(f"The transfer did not come about: {outcome}.")
    target = call.step.transfer
    if target is not None and target.failed:
        steps.enter(call, target.failed, f"the transfer failed: {outcome}")
    elif not call.state.suspended:
        steps.give_up(call, f"the transfer failed: {outcome}")


def _note(call: Call, outcome: str) -> None:
    call.state.transfers[-1] = TransferLine(call.state.transfers[-1].by, outcome)


def _over(call: Call) -> None:
    call.disarm("transfer")
    call.state.transfer = None
    call.state.transferred = call.state.visit
