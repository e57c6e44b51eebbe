"""The call's way through its flow: enter, move, digress and return, end."""

from app.core import gate, replies, slots
from app.core.call import Call
from app.core.effects import GoTo
from app.core.state import Floor, Frame, Phase, QuestionKind
from flows import semantics

MAX_MOVES = 20
"""Step changes without a word or a fact between them; more is a loop in the flow."""

ENDING_MS = 45_000
"""For last words and started tools once the call is ending."""

TALKING = ("silence", "endpoint", "keys", "stt", "duration", "reattach", "answer", "answerer", "transfer", "referral")
"""Deadlines that mean nothing any more once the call is ending."""


def enter(call: Call, name: str, why: str) -> None:
    """A new visit. What the last one asked for and did not start is withdrawn, and its reply is replaced."""
    call.fence()
    gate.withdraw_all(call, "visit", "the step was left")
    call.state.floor.keys = ""
    call.disarm("keys")
    call.state.suspended.clear()
    _begin(call, name, why)


def _begin(call: Call, name: str, why: str) -> None:
    """The visit gets its number and the floor; nothing of the last one's attempts and question goes with it."""
    state = call.state
    step = call.flow.steps[name]
    state.last_visit += 1
    state.visit = state.last_visit
    state.entries[name] = state.entries.get(name, 0) + 1
    state.step = name
    state.attempts = 0
    state.question = None
    for slot in step.forget:
        slots.put(call, slot, None, confirmed=False)
    call.emit(GoTo(state.visit, name, why))
    if step.end:
        end(call, "flow", step.end)
    due = call.want()
    due.acts = step.transfer is None  # there is nothing for an engine to do
    if step.say:
        due.lead.append(call.line(step.say))


def advance(call: Call) -> None:
    """Move as the flow says, until it says stay."""
    for _ in range(MAX_MOVES):
        if call.state.phase is not Phase.live or call.state.transfer is not None:
            return
        move = semantics.transition(call.flow, call.view)
        if move is not None:
            enter(call, move.to, move.why)
        elif not _go_back(call):
            why = _hopeless(call)
            if not why:
                return
            give_up(call, why)
    give_up(call, "the flow goes round in circles")
    advance(call)


def digress(call: Call, name: str) -> None:
    """Suspend the visit for a digression; another one takes a digression's place, and an end is no digression."""
    if call.flow.steps[name].end:
        enter(call, name, "the caller asked")
        return
    state = call.state
    if not state.suspended:
        state.suspended.append(Frame(state.step, state.visit, state.attempts))
    call.fence()
    _begin(call, name, "the caller asked")


def give_up(call: Call, why: str) -> None:
    """What cannot be understood or done goes to the flow's own step for it, or ends the call."""
    if call.flow.give_up and call.state.entries.get(call.flow.give_up, 0) < 2:
        enter(call, call.flow.give_up, why)
        return
    end(call, "gave-up", "gave-up")
    call.want().lead.append(call.line(call.flow.texts.failed))


def end(call: Call, cause: str, outcome: str) -> None:
    """No new tool and no new turn from here on; the first cause stands."""
    state = call.state
    if state.phase not in (Phase.new, Phase.placing, Phase.live):
        return
    state.phase = Phase.ending
    state.cause = cause
    state.outcome = outcome
    state.question = None
    state.transfer = state.referral = None
    call.fence()
    gate.withdraw_all(call, "live", "the call is ending")
    state.floor = Floor()
    replies.resume(call)
    for timer in TALKING:
        call.disarm(timer)
    if state.due is not None:
        state.due.turn = False
    call.arm("ending", ENDING_MS)


def hang_up(call: Call, cause: str, outcome: str) -> None:
    """Nobody is there to hear last words."""
    end(call, cause, outcome)
    call.state.due = None
    replies.cut(call)


def _hopeless(call: Call) -> str:
    """Why this step, which has no way on now, will not find one; empty: it may."""
    if call.state.attempts >= call.step.attempts:
        return "too many attempts"
    if call.state.tools and call.by_rules(call.engine()):
        for name in call.step.tools:
            result = call.view.result(name)
            if result is not None and result.status in (semantics.Status.failed, semantics.Status.unknown):
                return f"{name} is {result.status.value}"
    return ""


def _go_back(call: Call) -> bool:
    """A digression that has said and asked all it had to returns to the visit that it suspended."""
    state = call.state
    if not state.suspended or (call.step.transfer is not None and state.transferred != state.visit):
        return False
    asks = state.question is not None and state.question.kind is not QuestionKind.ask
    works = (state.reply is not None and state.reply.producing) or gate.in_flight(call, visit=state.visit)
    if asks or works or state.due is not None or not semantics.done(call.flow, call.view, state.step):
        return False
    if state.floor.utterance or state.floor.words or (call.by_rules(call.engine()) and call.ready()):
        return False
    frame = state.suspended.pop()
    call.fence()
    gate.withdraw_all(call, "visit", "the digression is over", visit=state.visit)
    state.step, state.visit, state.attempts = frame.step, frame.visit, frame.attempts
    state.question = None
    call.emit(GoTo(state.visit, state.step, "back from a digression"))
    call.want()
    return True
