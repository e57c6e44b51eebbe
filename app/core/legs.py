"""Who is on the call besides the caller, and who hears whom."""

from app.core import replies, transfer, turns
from app.core.call import Call
from app.core.effects import Connect, DropLeg
from app.core.events import LegJoined, LegLeft, LegRole
from app.core.state import CallState, Guest, Phase, TransferStage

AGENT = "agent"
"""What the software says, as a source in the matrix."""

MAX_GUESTS = 8
MAX_LISTENERS = 100
"""Names kept for the call record."""


def joined(call: Call, event: LegJoined) -> None:
    state = call.state
    if event.role is LegRole.target:
        if state.phase is Phase.live and transfer.joined(call, event):
            state.guests[event.leg] = Guest(event.role, event.who)
        else:
            call.emit(DropLeg(event.leg, "nobody waits for it any more"))
        return
    if state.phase is not Phase.live:
        call.emit(DropLeg(event.leg, "the call is not live"))
    elif len(state.guests) >= MAX_GUESTS:
        call.emit(DropLeg(event.leg, "too many legs listen to this call"))
    else:
        state.guests[event.leg] = Guest(event.role, event.who)
        if event.who not in state.listeners and len(state.listeners) < MAX_LISTENERS:
            state.listeners.append(event.who)


def left(call: Call, event: LegLeft) -> None:
    call.state.guests.pop(event.leg, None)
    transfer.left(call, event)


def held(call: Call) -> None:
    """What is being said waits where it is: whoever holds a call means to come back to it."""
    state = call.state
    if state.phase is Phase.live and state.attached and not state.held:
        state.held = True
        turns.reset(call)
        call.disarm("playout")


def resumed(call: Call) -> None:
    state = call.state
    if not state.held:
        return
    state.held = False
    if state.reply is not None and state.reply.ended:
        replies.await_playout(call, state.reply)
    elif state.reply is None and state.phase is Phase.live:
        call.want()


def connect(call: Call) -> None:
    """Order the matrix anew where it has changed. Alone with the caller, nothing needs to be mixed."""
    matrix = _matrix(call.state)
    if matrix != call.state.hears:
        call.state.hears = matrix
        call.emit(Connect(matrix))


def _matrix(state: CallState) -> dict[str, tuple[str, ...]]:
    if not state.guests:
        return {}
    caller = (state.leg,) if state.attached else ()
    target = tuple(leg for leg, guest in state.guests.items() if guest.role is LegRole.target)
    joined = bool(target) and state.transfer is not None and state.transfer.stage is TransferStage.joined
    talk = {target[0]: caller if joined else (AGENT,)} if target else {}
    heard = dict.fromkeys(caller, (target if joined else ()) if target else (AGENT,))
    return heard | talk | {leg: (AGENT, *caller, *target) for leg in state.guests if leg not in target}
