"""Who has the floor: onset and offset, hold then cut or resume, the end of a turn, keys and silence.

Onset need not mean cut. The agent falls silent at once and *holds*; what proves to be noise or a backchannel lets it go
on where it stopped, what proves to be speech takes the floor. All of it is policy over facts and deadlines.

A silence of more than 600 ms is a stop, whatever becomes of it, so a hold is decided before: what is no voice goes
first, then what has fallen silent again without a word that means anything, and what sounds like nothing but "go on".
A voice that goes on has the floor. Whoever was let go too early is cut later, by words or by going on.
"""

from app.core import gate, replies, slots, steps
from app.core.call import RULES, Call
from app.core.events import Says, SpeechConfirmed, SpeechEnded, SpeechSoFar, SpeechStarted, Transcript
from app.core.request import WITHHELD, Message
from app.core.state import Floor, Phase, QuestionKind
from flows import lexicon, rules, values
from flows.model import Slot, SlotType

NOISE_MS = 450
"""What the careful detector does not take for a voice by then is noise, until it does: nobody waits for its end."""

DECIDE_MS = 610
"""A hold ends so long after its onset: a voice that still goes on takes the floor, nearly all backchannels are over.
A peer hears it 40 to 60 ms shorter, since what was sent plays on."""

GO_ON_MS = 300
"""How much longer a voice may go on that so far has said nothing but "go on"."""

WORDS_MS = 300
"""How much longer a hold may take where words with something to say are nearly known."""

WORD_MS = 200
"""A voice that was shorter has said nothing, over the agent's words."""

STT_MS = 5000
"""The words of an utterance are due this long after its offset."""

KEYS_MS = 4000
"""A pause in keying that ends a value."""

SURE = 0.65
"""Confidence in words below which they may be others, not said to their end."""

SPELLED = (SlotType.digits, SlotType.date, SlotType.string, SlotType.number, SlotType.money)
"""What is said piece by piece."""

MAX_KEYS = 32
MAX_WORDS_CHARS = 2000

ENDPOINT_MS = {"yesno": 100, "choice": 250, "whole": 250, "text": 900, "more": 1000}
"""Silence after the ear's own offset that ends a turn, by what is asked for and what was heard: what is spelled may go
on, unless it is whole; what nobody understood, or what answers another question, may be the beginning of something."""

TRAILING = frozenset((
    "um", "uh", "er", "and", "or", "but", "the", "a", "my", "on", "in", "at", "for", "to", "of", "with", "it's", "is",
    "i", "i'd", "like", "well", "about", "have", "make", "say", "said", "meant", "actually", "sorry",
))  # fmt: skip
"""Nobody ends a turn with one of these words."""


def started(call: Call, event: SpeechStarted) -> None:
    floor = call.state.floor
    floor.utterance = event.utterance
    floor.since_ms = call.state.now_ms
    floor.voice = floor.paused = floor.noise = False
    floor.says = Says.nothing
    call.disarm("endpoint")
    call.disarm("silence")
    call.disarm("doubt")
    call.arm("noise", NOISE_MS)
    if call.state.reply is not None:
        _hold(call, DECIDE_MS)


def confirmed(call: Call, event: SpeechConfirmed) -> None:
    floor = call.state.floor
    if floor.utterance != event.utterance:
        return
    floor.voice = True
    floor.noise = False
    call.disarm("noise")
    call.disarm("endpoint")
    over_ms = _over_ms(call)
    if over_ms >= 0:
        take(call)
    elif call.state.reply is not None:
        _hold(call, -over_ms)


def noise(call: Call) -> None:
    """Nobody speaks, for all that is known: the agent goes on, or takes its turn."""
    floor = call.state.floor
    if floor.utterance and not floor.voice:
        floor.noise = True
        if not floor.awaited:
            replies.resume(call)
        _await_more(call)


def paused(call: Call, utterance: int, *, on: bool) -> None:
    floor = call.state.floor
    if floor.utterance != utterance:
        return
    floor.paused = on
    if not on and floor.voice and _over_ms(call) >= _patience_ms(floor):
        take(call)


def so_far(call: Call, event: SpeechSoFar) -> None:
    floor = call.state.floor
    if event.utterance == floor.utterance or (not floor.utterance and event.utterance in floor.awaited):
        floor.says = event.says


def decide(call: Call) -> None:
    """The hold's deadline. Whatever is let go here may still take the floor: by its words, or by going on."""
    floor = call.state.floor
    reply = call.state.reply
    if reply is None or reply.cut:
        return
    over_ms = _over_ms(call)
    talks = floor.utterance and floor.voice
    if talks and over_ms < 0:
        if call.state.now_ms - floor.held_ms >= DECIDE_MS:
            replies.resume(call)  # a sound before this one began the hold
        call.arm("hold" if reply.held else "doubt", -over_ms)
    elif _takes(floor, over_ms):
        take(call)
    elif floor.says is Says.words and (talks or floor.awaited) and over_ms < WORDS_MS:
        call.arm("hold", WORDS_MS)
    else:
        replies.resume(call)
        if talks:
            call.arm("doubt", GO_ON_MS)


def ended(call: Call, event: SpeechEnded) -> None:
    floor = call.state.floor
    if floor.utterance != event.utterance:
        return
    floor.utterance = 0
    call.disarm("noise")
    reply = call.state.reply
    if event.voice and (event.speech_ms >= WORD_MS or reply is None or reply.cut):
        floor.awaited.append(event.utterance)
        floor.ended_ms = call.state.now_ms
        call.arm("stt", STT_MS)
    elif not floor.awaited:
        replies.resume(call)
        if event.speech_ms >= WORD_MS:
            floor.ended_ms = call.state.now_ms  # it may have been a word of a soft voice: a turn does not end with it
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
    if reply is not None and not reply.cut and _means_nothing(call, text, event.confidence):
        if not _speaks(floor) and not floor.awaited:
            replies.resume(call)
        return
    take(call)
    if text and sum(map(len, floor.words)) < MAX_WORDS_CHARS:
        floor.words.append(text)
    floor.unclear = floor.unclear or not text
    floor.more = _announces_more(text, event.confidence)
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
    return bool(_speaks(floor) or floor.awaited or floor.words or floor.unclear or floor.keys)


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
    for timer in ("endpoint", "stt", "keys", "noise", "hold", "doubt"):
        call.disarm(timer)


# Inside


def _means_nothing(call: Call, text: str, confidence: float) -> bool:
    """A backchannel over the agent's words, or what may be one; where a heard question is open, it is the answer."""
    floor = call.state.floor
    says = Says.nothing if floor.utterance else floor.says
    if says is Says.cut_in or (says is Says.backchannel and not call.answerable()):
        return says is Says.backchannel
    return not text or ((lexicon.is_backchannel(text) or confidence < SURE) and not call.answerable())


def _speaks(floor: Floor) -> bool:
    return bool(floor.utterance) and not floor.noise


def _over_ms(call: Call) -> int:
    """Since the time to decide about the stretch of speech under way."""
    return call.state.now_ms - call.state.floor.since_ms - DECIDE_MS


def _takes(floor: Floor, over_ms: int) -> bool:
    """Whether a voice has the floor that is still heard, or whose words are not known yet."""
    talks = bool(floor.utterance) and floor.voice
    if floor.says is Says.cut_in:
        return talks or bool(floor.awaited)
    return talks and not floor.paused and over_ms >= _patience_ms(floor)


def _patience_ms(floor: Floor) -> int:
    """How far past that a voice may go on before it has the floor."""
    return GO_ON_MS if floor.says in (Says.go_on, Says.backchannel) else 0


def _hold(call: Call, decide_in_ms: int) -> None:
    """Fall silent, and decide then; sooner where the agent is silent already."""
    reply = call.state.reply
    assert reply is not None
    if not reply.held:
        call.state.floor.held_ms = call.state.now_ms
    replies.hold(call)
    left_ms = call.state.floor.held_ms + DECIDE_MS - call.state.now_ms
    call.arm("hold", max(0, min(decide_in_ms, left_ms)))


def _await_more(call: Call) -> None:
    floor = call.state.floor
    if _speaks(floor) or floor.awaited or not (floor.words or floor.unclear):
        return
    since = call.state.now_ms - floor.ended_ms
    call.arm("endpoint", max(0, _endpoint_ms(call) - since))


def _endpoint_ms(call: Call) -> int:
    if call.step.endpoint_ms:
        return call.step.endpoint_ms
    floor = call.state.floor
    words = lexicon.plain(" ".join(floor.words))
    if floor.more:
        return ENDPOINT_MS["more"]
    question = call.state.question
    if question is None:
        return ENDPOINT_MS["choice"]
    if question.kind is not QuestionKind.ask:
        return ENDPOINT_MS["yesno"]
    slot = call.flow.slots[question.slot]
    if slot.type is not SlotType.yesno and lexicon.is_backchannel(words):
        return ENDPOINT_MS["more"]
    if slot.type in SPELLED:
        return ENDPOINT_MS["whole" if _is_whole(slot, words) else "text"]
    return ENDPOINT_MS["more" if _answers_another(call, slot, words) else "choice"]


def _announces_more(text: str, confidence: float) -> bool:
    """Whether the caller is not likely to be through: what nobody understood may be the beginning of something."""
    words = lexicon.plain(text)
    return not words or confidence < SURE or words in lexicon.CUT_INS or words.rpartition(" ")[2] in TRAILING


def _answers_another(call: Call, slot: Slot, words: str) -> bool:
    """Whether this is a value, but not of the slot that is asked for: "in the afternoon", where the day is to come.

    One that replaces another is a correction, and stands by itself.
    """
    others = [name for name in call.proposable() if name != slot.name and call.view.value(name) is None]
    slots = [slot, *(call.flow.slots[name] for name in others)]
    read = rules.understand(words, slots=slots, asked=slot.name, yesno=False, digressions={}).slots
    return bool(read) and slot.name not in read


def _is_whole(slot: Slot, words: str) -> bool:
    """Whether this is a value of the slot that nothing can be added to."""
    if slot.type is not SlotType.date and not (slot.type is SlotType.digits and slot.min_digits == slot.max_digits):
        return False
    read = rules.understand(words, slots=(slot,), asked=slot.name, yesno=False, digressions={}).slots.get(slot.name)
    try:
        return read is not None and bool(values.parse(slot, read))
    except ValueError:
        return False
