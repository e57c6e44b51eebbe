"""The agent's turn: begin a reply, let its engine work, put its words out, and learn what was heard of them.

One reply at a time. A new one begins when the one before has been heard or cut, and never while the caller speaks.
"""

from app.core import gate, slots
from app.core.call import RULES, Call
from app.core.effects import CutPlayout, EndSpeech, HoldPlayout, ResumePlayout, Speak, StartReply
from app.core.events import PlayoutHeld, PlayoutStopped, Sentence, SpeechFailed
from app.core.request import WITHHELD, Message
from app.core.state import Due, Line, Phase, QuestionKind, Reply

ENGINE_MS = 20_000
"""Without a fact from its engine for this long, a reply has failed."""

PLAYOUT_GRACE_MS = 10_000
"""How much longer than its words a playout may take before it is given up."""

SPOKEN_MS_PER_CHAR = 120
"""A slow voice; only for deadlines."""

MAX_ROUNDS = 6
"""Engine requests for one turn of the caller; after that the rules and the flow's own words take over."""


def begin(call: Call) -> None:
    """Start the reply that is due. The floor is free and no reply stands."""
    state = call.state
    due = state.due
    assert due is not None
    assert state.reply is None
    state.due = None
    state.gen += 1
    state.counts.replies += 1
    reply = state.reply = Reply(state.gen, state.visit, due, history_at=len(state.history))
    call.disarm("silence")
    for line in due.lead:
        speak(call, reply, line)
    reply.engine = _engine(call, due)
    if reply.engine:
        if due.turn:
            due.engines = due.engines[1:]
        due.rounds += 1
        reply.producing = True
        call.arm("reply", ENGINE_MS)
        call.emit(StartReply(reply.gen, state.visit, reply.engine))


def sentence(call: Call, event: Sentence) -> None:
    """An engine's words, checked and put out."""
    reply = _current(call, event.gen)
    text = event.text.strip()
    if reply is None or not text:
        return
    call.arm("reply", ENGINE_MS)
    if reply.chars + len(text) > call.flow.limits.reply_chars:
        if reply.chars:
            call.fence()
        else:
            engine_ended(call, event.gen, "too-long")
        return
    reply.chars += len(text)
    speak(call, reply, Line(text))


def engine_ended(call: Call, gen: int, failure: str = "") -> None:
    """The engine is through, or has failed: then the next one on the ladder gets the same words."""
    reply = _current(call, gen)
    if reply is None:
        return
    call.disarm("reply")
    useful = reply.understood or reply.chars > 0
    if not failure and not useful and not call.by_rules(reply.engine):
        failure = "empty"
    if failure:
        call.state.counts.model_failures += 1
        call.fence()
    reply.producing = False
    due = reply.due
    if due.turn and (failure or not useful):
        if not due.engines:
            not_understood(call)
            return
        follow = call.want()
        follow.words, follow.turn, follow.engines = due.words, True, due.engines
    if failure:
        call.want().rounds = MAX_ROUNDS


def not_understood(call: Call) -> None:
    call.state.attempts += 1
    call.want().lead.append(call.line(call.flow.texts.not_understood))


def conclude(call: Call) -> None:
    """The engine is through and the steps have moved: the software has the last word, then the speech ends."""
    state = call.state
    reply = state.reply
    assert reply is not None
    due = state.due
    rounds = reply.due.rounds
    if due is not None:
        due.rounds = rounds = max(due.rounds, rounds)
    stays = state.phase is Phase.live and reply.visit == state.visit
    if stays and (due is None or not (due.lead or due.turn)):
        follows = due is not None and _engine(call, due) != ""
        asks = not follows and (call.by_rules(call.engine()) or rounds >= MAX_ROUNDS)
        if not follows:
            state.due = None
        question = slots.next_question(call, reply, ask=asks) if asks or slots.software_asks(call) else None
        if question is not None:
            state.due = None
            speak(call, reply, question)
    end_speech(call, reply)


def speak(call: Call, reply: Reply, line: Line) -> None:
    if line.text:
        call.emit(Speak(reply.gen, len(reply.spoken), line.text, line.private))
        reply.spoken.append(line)
        if "hold" in call.state.timers:
            hold(call)


def end_speech(call: Call, reply: Reply) -> None:
    """No more words in this reply. One without any is over at once."""
    if reply.ended:
        return
    reply.ended = True
    if reply.spoken:
        call.emit(EndSpeech(reply.gen))
        await_playout(call, reply)
    else:
        _over(call, reply, 0, 0)


# The playout's side


def hold(call: Call) -> None:
    reply = call.state.reply
    if reply is not None and reply.spoken and not reply.held and not reply.cut:
        reply.held = True
        call.state.counts.holds += 1
        call.emit(HoldPlayout(reply.gen))


def resume(call: Call) -> None:
    reply = call.state.reply
    call.disarm("hold")
    if reply is not None and reply.held:
        reply.held = False
        call.emit(ResumePlayout(reply.gen))


def await_playout(call: Call, reply: Reply) -> None:
    """Its speech is out, as far as it will be, and nobody hears it for ever. A leg on hold plays nothing."""
    if not call.state.held:
        chars = sum(len(line.text) for line in reply.spoken)
        call.arm("playout", chars * SPOKEN_MS_PER_CHAR + PLAYOUT_GRACE_MS)


def cut(call: Call) -> None:
    """The caller has the floor: speech and model work of this reply stop now."""
    reply = call.state.reply
    call.disarm("hold")
    if reply is None:
        return
    call.fence()
    if reply.spoken:
        if not reply.cut:
            call.emit(CutPlayout(reply.gen))
        reply.ended = reply.cut = True
        reply.held = False
        call.arm("playout", PLAYOUT_GRACE_MS)
    else:
        _over(call, reply, 0, 0)


def held(call: Call, event: PlayoutHeld) -> None:
    reply = call.state.reply
    if reply is not None and reply.gen == event.gen:
        _heard(call, event.gen, event.sentence, event.chars)


def stopped(call: Call, event: PlayoutStopped) -> None:
    reply = call.state.reply
    if reply is None or reply.gen != event.gen or not reply.spoken:
        return
    if event.cause != "lost" and not reply.ended:
        return
    if event.cause != "done":
        call.fence()
    _over(call, reply, event.sentence, event.chars)


def not_spoken(call: Call, event: SpeechFailed) -> int:
    """Synthesis failed: what was not spoken is tried once more. Returns how often that has happened in this call."""
    reply = call.state.reply
    if reply is None or reply.gen != event.gen or reply.cut:
        return 0
    call.state.counts.speech_failures += 1
    left = [line for index, line in enumerate(reply.spoken) if index >= event.index and index != reply.question_at]
    cut(call)
    call.want().lead[:0] = left
    return call.state.counts.speech_failures


def given_up(call: Call) -> None:
    """The playout never said that it stopped; nothing more counts as heard than it told."""
    reply = call.state.reply
    if reply is not None:
        call.fence()
        call.emit(CutPlayout(reply.gen))
        _over(call, reply, 0, 0)


# Inside


def _engine(call: Call, due: Due) -> str:
    """Who is to work on what is due; empty: the flow's own words are all."""
    if call.state.phase is not Phase.live:
        return ""
    if due.turn:
        return due.engines[0] if due.engines else RULES
    if not due.acts:
        return ""
    engine = call.engine()
    if call.by_rules(engine) or due.rounds >= MAX_ROUNDS:
        return RULES if call.ready() and due.rounds < 2 * MAX_ROUNDS else ""
    return "" if slots.software_asks(call) or gate.in_flight(call) else engine


def _current(call: Call, gen: int) -> Reply | None:
    """The reply whose engine may still speak; None: what it says is late."""
    reply = call.state.reply
    return reply if reply is not None and reply.producing and reply.gen == gen == call.state.gen else None


def _heard(call: Call, gen: int, sentence: int, chars: int) -> None:
    question = call.state.question
    if question is not None and question.gen == gen and question.kind is not QuestionKind.ask:
        past = sentence > question.index or (sentence == question.index and chars >= question.through)
        question.heard = question.heard or past


def _over(call: Call, reply: Reply, sentence: int, chars: int) -> None:
    """What was heard goes into the history, in its place; the floor is free."""
    state = call.state
    call.disarm("playout")
    call.disarm("hold")
    _heard(call, reply.gen, sentence, chars)
    requests = tuple(state.tools[n] for n in reply.requests)
    text = _text(reply, sentence, chars)
    if text or requests:
        calls = tuple(gate.as_requested(call, entry) for entry in requests)
        state.history.insert(reply.history_at, Message("agent", text, calls))
    if reply.spoken:
        state.said = [line for index, line in enumerate(reply.spoken) if index != reply.question_at]
    state.reply = None
    slots.answer_by_key(call)


def _text(reply: Reply, sentence: int, chars: int) -> str:
    whole = [line.shown for line in reply.spoken[:sentence]]
    if sentence < len(reply.spoken) and chars > 0:
        line = reply.spoken[sentence]
        whole.append(WITHHELD if line.private else line.text[:chars])
    return " ".join(part.strip() for part in whole)
