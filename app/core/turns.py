"""Who has the floor: onset and offset, hold then cut or resume, the end of a turn, keys and silence.

Onset need not mean cut. The agent falls silent at once and *holds*; what proves to be noise or a backchannel lets it go
on where it stopped, what proves to be speech takes the floor. All of it is policy over facts and deadlines.
"""

from app.core import gate, replies, slots, steps
from app.core.call import RULES, Call
from app.core.events import SpeechConfirmed, SpeechEnded, SpeechStarted, Transcript
from app.core.request import WITHHELD, Message
from app.core.state import Floor, Phase, QuestionKind
from flows import lexicon, values
from flows.model import SlotType

CUT_AFTER_MS = 700
"""A voice that goes on this long over the agent is no backchannel."""

STT_MS = 5000
"""The words of an utterance are due this long after its offset."""

KEYS_MS = 4000
"""A pause in keying that ends a value."""

MAX_KEYS = 32
MAX_WORDS_CHARS = 2000

ENDPOINT_MS = {"yesno": 100, "choice": 250, "text": 900}
"""Silence after the ear's own offset that ends a turn, by what is asked for."""


def started(call: Call, event: SpeechStarted) -> None:
    floor = call.state.floor
    floor.utterance = event.utterance
    floor.since_ms = call.state.now_ms
    floor.voice = False
    call.disarm("endpoint")
    call.disarm("silence")
    if call.state.reply is not None:
        replies.hold(call)
        call.arm("hold", CUT_AFTER_MS)


def confirmed(call: Call, event: SpeechConfirmed) -> None:
    floor = call.state.floor
    if floor.utterance != event.utterance:
        return
    floor.voice = True
    if call.state.now_ms - floor.since_ms >= CUT_AFTER_MS:
        take(call)


def decide(call: Call) -> None:
    """The hold's deadline: by now it is a voice with something to say, or it was nothing."""
    floor = call.state.floor
    if floor.utterance and floor.voice:
        take(call)
    elif floor.awaited:
        call.arm("hold", CUT_AFTER_MS)  # its words will tell
    else:
        replies.resume(call)


def ended(call: Call, event: SpeechEnded) -> None:
    floor = call.state.floor
    if floor.utterance != event.utterance:
        return
    floor.utterance = 0
    if event.voice:
        floor.awaited.append(event.utterance)
        floor.ended_ms = call.state.now_ms
        call.arm("stt", STT_MS)
    elif not floor.awaited:
        replies.resume(call)
    _await_more(call)


def transcript(call: Call, event: Transcript) -> None:
    floor = call.state.floor
    if event.utterance not in floor.awaited:
        return
    floor.awaited.remove(event.utterance)
    if not floor.awaited:
        call.disarm("stt")
    text = event.text.strip()[:MAX_WORDS_CHARS]
    reply = call.state.reply
    if reply is not None and not reply.cut and _means_nothing(call, text):
        if not floor.utterance and not floor.awaited:
            replies.resume(call)
        return
    take(call)
    if text and sum(map(len, floor.words)) < MAX_WORDS_CHARS:
        floor.words.append(text)
    floor.unclear = floor.unclear or not text
    _await_more(call)


def words_overdue(call: Call) -> None:
    """The recogniser owes words and does not deliver: as if it had not understood."""
    for utterance in list(call.state.floor.awaited):
        transcript(call, Transcript(utterance, ""))


def endpoint(call: Call) -> None:
    """Silence long enough: the caller's turn is over."""
    floor = call.state.floor
    words = " ".join(floor.words)
    unclear = floor.unclear
    floor.words.clear()
    floor.unclear = False
    if words:
        turn(call, words)
    elif unclear:
        call.state.quiet = 0
        replies.not_understood(call)


def turn(call: Call, words: str) -> None:
    """A whole turn of the caller's: the next reply answers it."""
    state = call.state
    state.quiet = 0
    state.counts.turns += 1
    if state.counts.turns > call.flow.limits.turns:
        steps.end(call, "turns", "limit")
        call.want().lead.append(call.line(call.flow.texts.failed))
        return
    sensitive = call.holds_sensitive(words)
    state.history.append(Message("caller", WITHHELD if sensitive else words))
    due = call.want()
    due.words = f"{due.words} {words}".strip()[:MAX_WORDS_CHARS]
    due.turn = True
    due.rounds = 0
    engine = call.engine()
    if sensitive or call.by_rules(engine):
        due.engines = [RULES]
    else:
        due.engines = [RULES, engine, RULES] if call.answerable() else [engine, RULES]


def text(call: Call, words: str) -> None:
    """A turn that was typed."""
    take(call)
    if words.strip():
        turn(call, words.strip()[:MAX_WORDS_CHARS])


def take(call: Call) -> None:
    """The caller has the floor."""
    reply = call.state.reply
    if reply is None or reply.cut:
        return
    if reply.spoken:
        call.state.counts.barge_ins += 1
        gate.withdraw_irreversible(call)
    replies.cut(call)


def is_busy(call: Call) -> bool:
    """Whether the caller is speaking, keying, or not understood yet: the agent waits."""
    floor = call.state.floor
    return bool(floor.utterance or floor.awaited or floor.words or floor.unclear or floor.keys)


# Keys


def digit(call: Call, key: str) -> None:
    """A key interrupts at once: nobody presses one as a backchannel."""
    state = call.state
    state.quiet = 0
    call.disarm("silence")
    question = state.question
    asked_yes = question is not None and question.kind is not QuestionKind.ask
    take(call)
    if asked_yes and not state.floor.keys and key in (slots.YES_KEY, slots.NO_KEY):
        state.floor.answer = key
        slots.answer_by_key(call)
        call.want()
        return
    slot = call.flow.slots.get(call.asked())
    if slot is None or not values.by_keys(slot) or len(state.floor.keys) >= MAX_KEYS:
        state.floor.keys = ""
        call.want()
        return
    if key != "#":
        state.floor.keys += key
    if key == "#" or values.keys_complete(slot, state.floor.keys):
        keys_ended(call)
    else:
        call.arm("keys", KEYS_MS)


def keys_ended(call: Call) -> None:
    keys, call.state.floor.keys = call.state.floor.keys, ""
    call.disarm("keys")
    slot = call.flow.slots.get(call.asked())
    if slot is None:
        return
    try:
        value = values.from_keys(slot, keys)
    except ValueError as error:
        slots.reject(call, slot, str(error))
        return
    if value is None:
        slots.reject(call, slot, "not complete")
    else:
        slots.propose(call, {slot.name: value}, own_words=True)


# Silence


def arm_silence(call: Call) -> None:
    """While nobody speaks and nothing is on its way, silence has a limit."""
    state = call.state
    idle = state.reply is None and state.due is None and not is_busy(call) and not gate.in_flight(call)
    if state.phase is Phase.live and state.attached and not state.held and idle and state.transfer is None:
        if "silence" not in state.timers:
            call.arm("silence", call.flow.limits.silence_s * 1000)
    else:
        call.disarm("silence")


def silent(call: Call) -> None:
    state = call.state
    state.quiet += 1
    due = call.want()
    due.acts = False
    if state.quiet >= call.flow.limits.silences:
        steps.end(call, "silence", "silence")
        due.lead.append(call.line(call.flow.texts.goodbye))
    else:
        due.lead.append(call.line(call.flow.texts.not_heard))


def reset(call: Call) -> None:
    """The ear is gone: what it had begun to hear will not be finished."""
    call.state.floor = Floor()
    for timer in ("endpoint", "stt", "keys", "hold"):
        call.disarm(timer)


# Inside


def _means_nothing(call: Call, text: str) -> bool:
    """A backchannel over the agent's words; where a heard question is open, its words are the answer."""
    return not text or (lexicon.is_backchannel(text) and not call.answerable())


def _await_more(call: Call) -> None:
    floor = call.state.floor
    if floor.utterance or floor.awaited or not (floor.words or floor.unclear):
        return
    since = call.state.now_ms - floor.ended_ms
    call.arm("endpoint", max(0, _endpoint_ms(call) - since))


def _endpoint_ms(call: Call) -> int:
    if call.step.endpoint_ms:
        return call.step.endpoint_ms
    question = call.state.question
    if question is None:
        return ENDPOINT_MS["choice"]
    if question.kind is not QuestionKind.ask:
        return ENDPOINT_MS["yesno"]
    spelled = (SlotType.digits, SlotType.date, SlotType.string, SlotType.number, SlotType.money)
    return ENDPOINT_MS["text" if call.flow.slots[question.slot].type in spelled else "choice"]
