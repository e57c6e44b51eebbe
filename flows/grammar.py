"""A small JSGF grammar of what a caller may say now, from the same slots and words that the rules read.

What it holds, `rules.understand` understands as it is meant. It stays small, since each further word costs accuracy:
spelled values (digits, numbers, money, dates) are in it only while they are asked for. Free text never is.

JSpeech Grammar Format, W3C Note of June 2000; the subset that pocketsphinx reads.
"""

import re
from collections.abc import Sequence

from flows import lexicon, values
from flows.model import Slot, SlotType

MAX_CHOICE_PHRASES = 120  # of all slots together
MAX_PHRASES = 60  # digressions and the like
MAX_PAIRED_SLOTS = 4  # "tuesday morning": values of two slots in one breath
MAX_FIXED_DIGITS = 12
MAX_PLAIN_NUMBER = 999

YES = (
    "yes", "yes please", "yeah", "yep", "correct", "that's correct", "right", "that's right", "yes that's right",
    "sure", "okay", "yes it is",
)  # fmt: skip
NO = (
    "no", "nope", "no thank you", "wrong", "that's wrong", "not right", "that's not right", "no that's wrong",
    "no that's not right",
)  # fmt: skip
REPEAT = ("repeat", "repeat that", "can you repeat that", "say that again", "pardon", "what did you say")
GO_ON = (
    "okay", "oh okay", "okay okay", "i see", "oh i see", "uh huh", "um hum", "mm", "hmm", "yeah", "yeah yeah", "yes",
    "yep", "right", "right right", "sure", "got it", "all right", "good", "great", "fine", "cool", "ah", "aha", "ha ha",
    "ha ha ha",
)  # fmt: skip
LEADS = ("um", "uh", "well", "please", "on", "it's", "i'd like", "i would like", "can i have", "how about", "let's say")
OPENINGS = (
    "um", "uh", "well", "it's", "i'd like", "i would like", "can i have", "how about", "let's say", "well let's say",
)  # fmt: skip
"""Beginnings of answers, before a pause; else they are taken for what sounds alike. None sounds like a number."""
CORRECTIONS = ("actually", "sorry", "make it", "i meant", "i said", "no make it", "actually make it", "sorry i meant")
TAILS = ("please", "is fine", "then")

_SPEAKABLE = re.compile(r"[a-z']+(?: [a-z']+)*")
_WORD = re.compile(r"[a-z']+")
_SHARED = {
    "unit": lexicon.UNITS[1:],
    "teen": lexicon.TEENS,
    "ten": lexicon.TENS,
    "month": lexicon.MONTHS,
    "nth": tuple(lexicon.ordinal_words(day) for day in range(1, 32)),
}
_DERIVED = {
    "digit": "zero | oh | <unit>",
    "two": "<teen> | <ten> [<unit>]",
    "small": "<unit> | <two>",
    "number": "zero | <small> | <unit> hundred [[and] <small>]",
    "year": "nineteen <two> | nineteen oh <unit> | two thousand [[and] <small>] | twenty <two>",
    "date": "[the] <nth> [of] <month> <year> | <month> [the] <nth> <year>",
}


def jsgf(slots: Sequence[Slot], *, yesno: bool, phrases: Sequence[str]) -> str:
    """The grammar's text. The first of `slots` is the one asked for, the others may be volunteered or corrected.

    `yesno`: a question is open that yes or no answers. Words are lower case letters and apostrophes; phrases with
    other characters are left out. Equal arguments give equal text.
    """
    rules = _rules(slots, yesno=yesno, phrases=phrases)
    body = "\n".join(f"<{name}> = {text};" for name, text in rules.items() if name != "turn")
    return f"#JSGF V1.0;\ngrammar voicegate;\npublic <turn> = {rules['turn']};\n{body}\n"


def vocabulary(slots: Sequence[Slot], *, yesno: bool, phrases: Sequence[str]) -> tuple[str, ...]:
    """The words of that grammar, sorted."""
    rules = _rules(slots, yesno=yesno, phrases=phrases)
    return tuple(sorted({word for text in rules.values() for word in _WORD.findall(re.sub(r"<[^>]*>", " ", text))}))


def _rules(slots: Sequence[Slot], *, yesno: bool, phrases: Sequence[str]) -> dict[str, str]:
    """Expansions by rule name; "turn" is what may be said, each rule after those that use it."""
    own: dict[str, str] = {}
    room = MAX_CHOICE_PHRASES
    for at, slot in enumerate(slots):
        text = _value(slot, is_asked=at == 0 and not yesno, room=room)
        if text:
            own[f"slot_{slot.name}"] = text
            room -= text.count("|") + 1 if slot.type is SlotType.choice else 0
    turn = [f"<slot_{slot.name}>" for slot in slots[:1] if slot.type is SlotType.yesno and not yesno]
    listed = [name for name in own if f"<{name}>" not in turn]
    rules: dict[str, str] = {}
    if listed:
        turn += ["[<lead>] <values> [<tail>]", "<correction> <values>"]
        rules |= {
            "values": _values(listed),
            "lead": _either(LEADS),
            "tail": _either(TAILS),
            "correction": _either(CORRECTIONS),
        }
        if not yesno:
            turn.append("<opening>")
            rules["opening"] = _either(OPENINGS)
    turn.append("<cut_in>")
    rules["cut_in"] = _either(lexicon.CUT_INS)
    if yesno:
        turn += ["<yes>", "<no>", *(["<no> [<correction>] <values>"] if listed else [])]
        rules |= {"yes": _either(YES), "no": _either(NO)}
    elif not (slots and slots[0].type is SlotType.yesno):
        turn += ["<go_on>", "<nay>"]
        rules |= {"go_on": _either(GO_ON), "nay": "no [no]"}
    said = [phrase for phrase in map(lexicon.plain, phrases) if _SPEAKABLE.fullmatch(phrase)]
    if said:
        turn.append("<phrase> [please]")
        rules["phrase"] = _either(said[:MAX_PHRASES])
    turn.append("<repeat> [please]")
    rules["repeat"] = _either(REPEAT)
    return _with_shared({"turn": " | ".join(turn), **rules, **own})


def _value(slot: Slot, *, is_asked: bool, room: int) -> str:
    """What may be said for a slot now; empty: nothing."""
    match slot.type:
        case SlotType.weekday:
            return _either(lexicon.WEEKDAYS)
        case SlotType.choice:
            said = [phrase for choice in slot.choices for phrase in map(lexicon.plain, choice.phrases)]
            return _either([phrase for phrase in said if _SPEAKABLE.fullmatch(phrase)][: max(room, 0)])
    if not is_asked:
        return ""
    match slot.type:
        case SlotType.yesno:
            return _either((*YES, *NO))
        case SlotType.date:
            return "<date>"
        case SlotType.number:
            return _numbers(slot)
        case SlotType.money:
            return "<number> dollars [[and] <small> cents]"
        case SlotType.digits:
            fixed = slot.min_digits == slot.max_digits and 0 < slot.max_digits <= MAX_FIXED_DIGITS
            return _digits(slot.max_digits) if fixed else "(<digit> | double <unit>)+"
        case SlotType.string:
            return "(<digit> | double <unit>)+" if values.by_keys(slot) else ""


def _digits(most: int) -> str:
    """So many digits or fewer, since people pause between groups of them; with too few nothing is made up."""
    return "<digit>" + " [<digit>" * (most - 1) + "]" * (most - 1)


def _numbers(slot: Slot) -> str:
    """Few numbers are listed; many are built."""
    low = max(0, round(slot.minimum or 0))
    high = MAX_PLAIN_NUMBER if slot.maximum is None else min(MAX_PLAIN_NUMBER, int(slot.maximum))
    return _either([lexicon.cardinal_words(n) for n in range(low, high + 1)]) if high <= 20 else "<number>"


def _values(names: Sequence[str]) -> str:
    single = [f"<{name}>" for name in names]
    some = names[:MAX_PAIRED_SLOTS]
    return " | ".join([*single, *(f"<{a}> [on] <{b}>" for a in some for b in some if a != b)])


def _either(phrases: Sequence[str]) -> str:
    return " | ".join(dict.fromkeys(phrases))


def _with_shared(rules: dict[str, str]) -> dict[str, str]:
    """With the number words and dates that they use."""
    while wanted := {name for text in rules.values() for name in re.findall(r"<(\w+)>", text) if name not in rules}:
        for name in sorted(wanted):
            rules[name] = _DERIVED[name] if name in _DERIVED else _either(_SHARED[name])
    return rules
