"""Interpretation without a model: what the flow's own phrases and a few parsers read in the caller's words.

Deterministic, and careful rather than clever: what could mean two things means nothing, and a value that was denied
("not friday") is none. It reads raw values; whoever sets them types and validates them.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache

from msgspec import Struct
from rapidfuzz import fuzz

from flows import lexicon, numbers, values
from flows.model import Slot, SlotType, Value

MAX_WORDS_CHARS = 2000
MAX_TOKENS = 200
MIN_SCORE = 80.0  # of rapidfuzz's token_set_ratio
MIN_MARGIN = 10.0  # over the second best
MIN_WORD_SCORE = 80.0  # one misspelt word of five letters or more
MIN_FUZZY_CHARS = 5
MIN_UNASKED_DIGITS = 3  # fewer digits say nothing by themselves
MAX_YES_EXTRA_WORDS = 5

_TOKEN = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}|[0-9]{1,2}[/.-][0-9]{1,2}[/.-][0-9]{4}"
    r"|\$?(?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]+)(?:\.[0-9]+)?(?:(?<=[0-9])(?:st|nd|rd|th)\b)?"
    r"|[^\W\d_]+(?:'[^\W\d_]+)*"
)
_EMPTY_WORDS = frozenset((
    "a", "an", "the", "i", "me", "my", "you", "your", "it", "is", "are", "am", "was", "do", "does", "did", "can",
    "could", "would", "will", "what", "when", "of", "in", "on", "at", "to", "for", "and", "or", "please", "want",
    "like", "have", "get", "there",
))  # fmt: skip
"""Words of a phrase that do not tell it from others."""

_TAKE_BACK = lexicon.HESITATIONS | lexicon.NEGATORS | lexicon.QUESTIONS


class Understood(Struct, frozen=True):
    """Slots come before the intent: "no, make it friday" is a new value first."""

    slots: dict[str, Value] = {}
    intent: str = ""  # "yes", "no", "repeat", a digression's name, or nothing


class _Found(Struct, frozen=True):
    slot: str
    start: int
    end: int
    value: Value


def understand(
    words: str, *, slots: Sequence[Slot], asked: str, yesno: bool, digressions: Mapping[str, Sequence[str]]
) -> Understood:
    """What these words say. `asked` is the slot whose question is open, `yesno` whether one is that yes or no answers.

    Never raises; nothing understood is an empty answer. A value of the slot asked for may be one that is not valid.
    """
    tokens = tokenize(words)
    if not tokens:
        return Understood()
    candidates = _candidates(tokens, slots, asked)
    found = _settle(candidates, tokens, slots, asked)
    taken = {at for one in found for at in range(one.start, one.end)}
    rest = [token for at, token in enumerate(tokens) if at not in taken]
    read = {one.slot: one.value for one in found}
    stood = {one.slot for one in candidates}
    _read_fuzzy(read, rest, [slot for slot in slots if slot.name not in stood])
    answer = _answer(rest)
    by_name = {slot.name: slot for slot in slots}
    if not yesno and not read and answer and asked in by_name and by_name[asked].type is SlotType.yesno:
        read[asked] = answer == "yes"
    intent = _digression(tokens, digressions) or _repeat(tokens) or (answer if yesno else "")
    return Understood(read, intent)


def tokenize(words: str) -> list[str]:
    """Lower case words; numbers, written dates and "$" amounts stay whole. At most `MAX_TOKENS`."""
    text = words[:MAX_WORDS_CHARS].lower().replace("’", "'")
    return [match.group() for match in _TOKEN.finditer(text)][:MAX_TOKENS]


# Values at their places


def _candidates(tokens: list[str], slots: Sequence[Slot], asked: str) -> list[_Found]:
    """Every reading of every slot, overlapping ones included."""
    tokens = _without_pleas(tokens)
    found: list[_Found] = []
    for slot in slots:
        read = _reader(slot, is_asked=slot.name == asked)
        at = len(_longest(tokens, 0, _greetings()))
        while read and at < len(tokens):
            one = read(tokens, at)
            value = _accepted(slot, one[0], is_asked=slot.name == asked) if one else None
            if one is None or value is None:
                at += 1
                continue
            found.append(_Found(slot.name, at, one[1], value))
            at = one[1]
    return found


def _without_pleas(tokens: Sequence[str]) -> list[str]:
    """Each word of "one moment" and its like is blank: there is no number in it."""
    left, at = list(tokens), 0
    while at < len(left):
        phrase = _longest(left, at, _pleas())
        left[at : at + len(phrase)] = [""] * len(phrase)
        at += len(phrase) or 1
    return left


_Reader = Callable[[Sequence[str], int], tuple[Value, int] | None]


def _reader(slot: Slot, *, is_asked: bool) -> _Reader | None:
    match slot.type:
        case SlotType.weekday:
            return lambda tokens, at: _weekday(tokens, at, is_asked=is_asked)
        case SlotType.choice:
            return lambda tokens, at: _choice(tokens, at, slot)
        case SlotType.date:
            return lambda tokens, at: numbers.date_at(tokens, at, bare=is_asked)
        case SlotType.money:
            plain = numbers.cardinal_at if is_asked else None
            return lambda tokens, at: numbers.money_at(tokens, at) or (plain(tokens, at) if plain else None)
        case SlotType.number:
            return numbers.cardinal_at if is_asked else None
        case SlotType.digits:
            return numbers.digits_at
        case SlotType.string:
            return numbers.digits_at if values.by_keys(slot) else None
        case SlotType.yesno:
            return None


def _accepted(slot: Slot, raw: Value, *, is_asked: bool) -> Value | None:
    """Volunteered values must be valid; what was asked for may be wrong, so that the caller hears that it is."""
    spelled = slot.type in (SlotType.digits, SlotType.string)
    if spelled and not is_asked and len(str(raw)) < MIN_UNASKED_DIGITS:
        return None
    try:
        return values.parse(slot, raw)
    except ValueError:
        return raw if is_asked else None


def _weekday(tokens: Sequence[str], at: int, *, is_asked: bool) -> tuple[str, int] | None:
    word = tokens[at].removesuffix("'s")
    if word in lexicon.WEEKDAYS:
        return word, at + 1
    if word.removesuffix("s") in lexicon.WEEKDAYS:
        return word.removesuffix("s"), at + 1
    if is_asked and word in lexicon.WEEKDAYS_SHORT:
        return lexicon.WEEKDAYS_SHORT[word], at + 1
    if len(word) > MIN_FUZZY_CHARS:
        near = [day for day in lexicon.WEEKDAYS if fuzz.ratio(word, day) >= 85.0]
        if len(near) == 1:
            return near[0], at + 1
    return None


def _choice(tokens: Sequence[str], at: int, slot: Slot) -> tuple[str, int] | None:
    """The longest phrase that stands here word for word; two choices with one phrase are none."""
    best: dict[str, int] = {}
    for choice in slot.choices:
        for phrase in _phrases(choice.phrases or (choice.value,)):
            if tuple(tokens[at : at + len(phrase)]) == phrase:
                best[choice.value] = max(best.get(choice.value, 0), len(phrase))
    longest = max(best.values(), default=0)
    values_ = [value for value, length in best.items() if length == longest]
    return (values_[0], at + longest) if len(values_) == 1 else None


def _settle(found: list[_Found], tokens: list[str], slots: Sequence[Slot], asked: str) -> list[_Found]:
    """Who gets which words: the longest reading first, then the asked slot's; then one value for each slot."""
    order = sorted(found, key=lambda one: (one.start - one.end, one.slot != asked, one.start))
    taken: dict[int, str] = {}
    kept: list[_Found] = []
    for one in order:
        span = range(one.start, one.end)
        if any(at in taken for at in span):
            continue
        twins = {other.slot for other in order if (other.start, other.end) == (one.start, one.end)}
        taken.update(dict.fromkeys(span, one.slot))
        if one.slot == asked or len(twins) == 1:
            kept.append(one)
    kept.sort(key=lambda one: one.start)
    chosen = (_one_value([one for one in kept if one.slot == slot.name], kept, tokens, slot) for slot in slots)
    return [one for several in chosen for one in several]


def _one_value(mine: list[_Found], kept: list[_Found], tokens: list[str], slot: Slot) -> list[_Found]:
    """The places that give the slot its value: none where several values stand and nothing says which is meant."""
    mine = [one for one in mine if not _is_denied(one, kept, tokens)]
    if len({one.value for one in mine}) > 1 and slot.type in (SlotType.digits, SlotType.string):
        mine = [one for one in mine if _is_valid(slot, one.value)]
    if len({one.value for one in mine}) <= 1:
        return mine
    between = tokens[mine[-2].end : mine[-1].start]
    corrected = "no" in between or "not" in between or _has_phrase(between, lexicon.CORRECTIONS)
    return mine[-1:] if corrected else []


def _is_denied(one: _Found, kept: list[_Found], tokens: list[str]) -> bool:
    start = max((other.end for other in kept if other.end <= one.start), default=0)
    before = tokens[max(start, one.start - lexicon.NEGATION_REACH_WORDS) : one.start]
    before = _without(before, _closed_denials())
    if before[-2:] == ["why", "not"]:
        return False
    return any(word in lexicon.NEGATORS for word in before) or _has_phrase(before, lexicon.NEGATING_PHRASES)


def _is_valid(slot: Slot, raw: Value) -> bool:
    try:
        values.parse(slot, raw)
    except ValueError:
        return False
    return True


# Near enough


def _read_fuzzy(read: dict[str, Value], rest: list[str], slots: Sequence[Slot]) -> None:
    """Choices whose phrase is near what is left, where no phrase stood word for word."""
    if any(word in lexicon.NEGATORS for word in rest) or _has_phrase(rest, lexicon.NEGATING_PHRASES):
        return
    words = _without(rest, _fillers())
    for slot in slots:
        if slot.type is SlotType.choice and words:
            best = _nearest(words, {choice.value: choice.phrases for choice in slot.choices})
            if best:
                read[slot.name] = best


def _nearest(words: Sequence[str], phrases: Mapping[str, Sequence[str]]) -> str:
    """The name whose phrase is like these words, by a margin; empty: none."""
    scores = sorted(
        (
            (max((_likeness(p, words) for p in _phrases(tuple(some))), default=0.0), name)
            for name, some in phrases.items()
        ),
        reverse=True,
    )
    if not scores or scores[0][0] < MIN_SCORE:
        return ""
    if len(scores) > 1 and scores[0][0] - scores[1][0] < MIN_MARGIN:
        return ""
    return scores[0][1]


def _likeness(phrase: tuple[str, ...], words: Sequence[str]) -> float:
    """0 to 100. Every word that tells the phrase from others must be there, so that no short word matches alone."""
    telling = [word for word in phrase if word not in _EMPTY_WORDS]
    if not telling:
        return 100.0 if _has_phrase(words, (" ".join(phrase),)) else 0.0
    missing = sum(not any(_same_word(word, said) for said in words) for word in telling)
    if missing > (1 if len(telling) > 3 else 0):
        return 0.0
    return fuzz.token_set_ratio(" ".join(telling), " ".join(word for word in words if word not in _EMPTY_WORDS))


def _same_word(word: str, said: str) -> bool:
    if word == said:
        return True
    long = len(word) >= MIN_FUZZY_CHARS and len(said) >= MIN_FUZZY_CHARS and word[0] == said[0]
    return long and fuzz.ratio(word, said) >= MIN_WORD_SCORE


# Intents


def _digression(tokens: list[str], digressions: Mapping[str, Sequence[str]]) -> str:
    exact = [
        (len(phrase), name)
        for name, some in digressions.items()
        for phrase in _phrases(tuple(some))
        if _has_phrase(tokens, (" ".join(phrase),))
    ]
    if exact:
        longest = max(exact)[0]
        names = {name for length, name in exact if length == longest}
        return names.pop() if len(names) == 1 else ""
    return _nearest(tokens, digressions)


def _repeat(tokens: list[str]) -> str:
    """Short ways to ask again count only alone; "repeat" itself always does."""
    said = (" ".join(tokens), " ".join(_without(tokens, _fillers())))
    long = tuple(phrase for phrase in lexicon.REPEAT if phrase.count(" ") >= 2)
    asks = "repeat" in tokens or any(words in lexicon.REPEAT for words in said) or _has_phrase(tokens, long)
    return "repeat" if asks else ""


def _answer(rest: list[str]) -> str:
    """ "yes", "no" or nothing, from the words that are no values. Doubt and contradiction are nothing."""
    kinds: set[str] = set()
    at = 0
    after_yes: list[str] = []
    while phrase := _longest(rest, at, _answers()):
        kind = _answers()[phrase]
        if kind:
            kinds.add(kind)
        elif kinds:
            after_yes += phrase
        at += len(phrase)
    left = rest[at:]
    if "unsure" in kinds or {"yes", "no"} <= kinds:
        return ""
    if "no" in kinds:
        return "no"
    if any(word in _TAKE_BACK for word in (*after_yes, *left)):
        return ""
    if "yes" in kinds:
        return "yes" if len(left) <= MAX_YES_EXTRA_WORDS else ""
    return "yes" if "weak" in kinds and not left else ""


# Phrases


@lru_cache(4096)
def _phrases(some: tuple[str, ...]) -> tuple[tuple[str, ...], ...]:
    return tuple(tuple(tokenize(phrase)) for phrase in some if tokenize(phrase))


@lru_cache(1)
def _fillers() -> Mapping[tuple[str, ...], str]:
    return _table((*lexicon.FILLERS, *lexicon.CORRECTIONS, *lexicon.GREETINGS), "")


@lru_cache(1)
def _greetings() -> Mapping[tuple[str, ...], str]:
    return _table(lexicon.GREETINGS, "")


@lru_cache(1)
def _pleas() -> Mapping[tuple[str, ...], str]:
    return _table((phrase for phrase in lexicon.CUT_INS if " " in phrase), "")


@lru_cache(1)
def _closed_denials() -> Mapping[tuple[str, ...], str]:
    return _table(lexicon.CLOSED_DENIALS, "")


@lru_cache(1)
def _answers() -> Mapping[tuple[str, ...], str]:
    """Phrases that an answer begins with, and what they say: "yes", "weak", "no", "unsure" or nothing."""
    return {
        **_fillers(),
        **_table((phrase for phrase in lexicon.CORRECTIONS if phrase.startswith("no ")), "no"),
        **_table(lexicon.YES, "yes"),
        **_table(lexicon.WEAK_YES, "weak"),
        **_table(lexicon.NO, "no"),
        **_table(lexicon.UNSURE, "unsure"),
    }


def _table(phrases: Iterable[str], kind: str) -> dict[tuple[str, ...], str]:
    return {tuple(phrase.split()): kind for phrase in phrases}


def _longest(words: Sequence[str], at: int, table: Mapping[tuple[str, ...], str]) -> tuple[str, ...]:
    """The longest of the table's phrases that stands here."""
    for length in range(min(_LONGEST_PHRASE, len(words) - at), 0, -1):
        phrase = tuple(words[at : at + length])
        if phrase in table:
            return phrase
    return ()


_LONGEST_PHRASE = 6


def _without(words: Sequence[str], table: Mapping[tuple[str, ...], str]) -> list[str]:
    left: list[str] = []
    at = 0
    while at < len(words):
        phrase = _longest(words, at, table)
        if not phrase:
            left.append(words[at])
        at += len(phrase) or 1
    return left


def _has_phrase(words: Sequence[str], phrases: Iterable[str]) -> bool:
    text = f" {' '.join(words)} "
    return any(f" {phrase} " in text for phrase in phrases)
