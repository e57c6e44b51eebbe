"""A call of ours before it is a conversation: it rings, and then a person answers, or a machine, or nobody."""

from app.core import replies, slots, steps
from app.core.call import Call
from app.core.events import Answerer, AnswererHeard, CallPlaced, CallRang, CallStarted, NotReached
from app.core.state import Phase, Placed
from flows import values

ANSWERER_MS = 6000
"""At most this long the agent is silent until it is known who answered; then it speaks as to a person."""

BEEP_MS = 40_000
"""A greeting may take this long until its beep."""

NO_ANSWER = "no-answer"
VOICEMAIL = "voicemail"


def placed(call: Call, event: CallPlaced) -> None:
    state = call.state
    state.phase = Phase.placing
    state.leg, state.transport = event.leg, event.transport
    state.caller, state.called = event.caller, event.called
    state.placed = Placed(event.by, event.detect, event.talk_ms)
    for name, raw in event.slots.items():
        slot = call.flow.slots.get(name)
        if slot is not None and not slot.source:
            try:
                slots.put(call, name, values.parse(slot, raw), confirmed=True)
            except ValueError:  # whoever orders calls has been told; the flow asks for it
                continue
    call.arm("answer", event.answer_ms)


def rang(call: Call, event: CallRang) -> None:
    if call.state.phase is Phase.placing and call.state.placed is not None and event.leg == call.state.leg:
        call.state.placed.rang = True


def not_reached(call: Call, event: NotReached) -> None:
    if call.state.phase is Phase.placing and event.leg == call.state.leg:
        steps.hang_up(call, event.outcome, event.outcome)


def no_answer(call: Call) -> None:
    """It rang long enough."""
    steps.hang_up(call, NO_ANSWER, NO_ANSWER)


def answered(call: Call, event: CallStarted) -> bool:
    """Whether the flow may begin at once; else it waits until it is known who is there."""
    state = call.state
    placed = state.placed
    assert placed is not None
    state.leg = event.leg
    placed.answered_ms = state.now_ms
    call.disarm("answer")
    if placed.talk_ms:
        call.arm("duration", min(placed.talk_ms, call.flow.limits.duration_s * 1000))
    if placed.detect:
        placed.listening = True
        call.arm("answerer", ANSWERER_MS)
    return not placed.detect


def heard(call: Call, event: AnswererHeard) -> None:
    state = call.state
    placed = state.placed
    if placed is None or not placed.detect:
        return
    if not placed.listening:
        if event.who is Answerer.beep and state.now_ms - placed.answered_ms < BEEP_MS:
            replies.cut(call)  # what sounded like a person was a short greeting
            placed.answerer = Answerer.machine
            waited_out(call)
        return
    match event.who:
        case Answerer.machine if not call.flow.voicemail:
            placed.answerer = Answerer.machine
            _over(call)
            steps.hang_up(call, VOICEMAIL, VOICEMAIL)
        case Answerer.machine:
            placed.answerer = Answerer.machine
            call.arm("answerer", BEEP_MS)
        case Answerer.beep:
            placed.answerer = Answerer.machine
            waited_out(call)
        case _ if placed.answerer != Answerer.machine:
            placed.answerer = event.who
            waited_out(call)


def waited_out(call: Call) -> None:
    """Who answered is known, or as known as it will be."""
    placed = call.state.placed
    assert placed is not None
    _over(call)
    if placed.answerer != Answerer.machine:
        steps.enter(call, call.flow.start, "start")
        return
    steps.end(call, VOICEMAIL, VOICEMAIL)
    if call.flow.voicemail:
        call.want().lead.append(call.line(call.flow.voicemail))


def _over(call: Call) -> None:
    assert call.state.placed is not None
    call.state.placed.listening = False
    call.disarm("answerer")
