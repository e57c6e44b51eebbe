"""English words that the rules and the recogniser's grammars share: all lower case, letters and apostrophes."""

import re
from functools import lru_cache

WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
WEEKDAYS_SHORT = {
    "mon": "monday", "tue": "tuesday", "tues": "tuesday", "wed": "wednesday", "thu": "thursday", "thur": "thursday",
    "thurs": "thursday", "fri": "friday", "sat": "saturday", "sun": "sunday",
}  # fmt: skip

MONTHS = (
    "january", "february", "march", "april", "may", "june",
    "july", "august", "september", "october", "november", "december",
)  # fmt: skip
MONTHS_SHORT = {
    "jan": 1, "feb": 2, "mar": 3, "apr": 4, "jun": 6, "jul": 7, "aug": 8, "sep": 9, "sept": 9, "oct": 10, "nov": 11,
    "dec": 12,
}  # fmt: skip

UNITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
TEENS = (
    "ten", "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
)  # fmt: skip
TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
OH = frozenset(("oh", "o"))
REPEATED = {"double": 2, "triple": 3}

ORDINALS = (
    "first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth", "eleventh",
    "twelfth", "thirteenth", "fourteenth", "fifteenth", "sixteenth", "seventeenth", "eighteenth", "nineteenth",
    "twentieth",
)  # fmt: skip

YES = (
    "yes", "yeah", "yep", "yup", "ya", "sure", "sure thing", "correct", "that's correct", "that is correct", "right",
    "that's right", "that is right", "you're right", "exactly", "absolutely", "definitely", "of course", "certainly",
    "okay", "ok", "alright", "all right", "fine", "that's fine", "that is fine", "sounds good", "perfect", "great",
    "good", "that's good", "it is", "i do", "yes i do", "yes it is", "go ahead", "do it", "do that", "please do",
    "book it", "confirm", "confirmed", "affirmative", "indeed", "true", "uh huh", "mm hm", "mhm", "no problem",
)  # fmt: skip
WEAK_YES = frozenset((
    "sure", "right", "okay", "ok", "alright", "all right", "fine", "perfect", "great", "good", "true", "it is", "i do",
    "do it", "do that", "exactly",
))  # fmt: skip
"""A yes only where nothing else is said: "good morning to you" agrees to nothing."""
NO = (
    "no", "nope", "nah", "no way", "no thanks", "no thank you", "wrong", "that's wrong", "that is wrong", "incorrect",
    "that's incorrect", "that is incorrect", "not right", "that's not right", "that is not right", "that isn't right",
    "not correct", "that's not correct", "that is not correct", "that isn't correct", "not quite", "not really",
    "it isn't", "it is not", "it's not", "i don't", "i do not", "don't", "do not", "negative", "false", "never",
    "not that", "not that one", "not at all", "absolutely not", "definitely not", "of course not", "certainly not",
    "not",
)  # fmt: skip

UNSURE = (
    "not sure", "i'm not sure", "i am not sure", "don't know", "i don't know", "i do not know", "no idea",
    "i have no idea", "i don't remember", "i do not remember", "don't remember", "i don't understand", "maybe",
    "perhaps",
)  # fmt: skip

BACKCHANNELS = (
    "mm", "mmm", "hm", "hmm", "mm hm", "mm hmm", "mhm", "mmhmm", "uh huh", "aha", "ah", "oh", "okay", "ok", "right",
    "i see", "yeah", "yep", "yes", "sure", "got it", "alright", "all right", "good", "great", "fine", "cool", "i know",
    "oh okay", "uh", "um", "er", "ja", "um hum", "ha", "huh",
)  # fmt: skip
MAX_BACKCHANNEL_WORDS = 4
ONE_BEAT = frozenset((
    "mm", "mmm", "hm", "hmm", "ah", "oh", "yeah", "yep", "yes", "right", "sure", "good", "great", "fine", "cool", "uh",
    "um", "er", "ja", "ha", "huh",
))  # fmt: skip
"""Backchannels that are over in no time."""

LAUGHS = frozenset(("ha", "mm", "hm"))
"""Sounds that repeat by themselves."""

CUT_INS = (
    "stop", "wait", "wait a moment", "hold on", "hang on", "one moment", "just a moment", "excuse me", "sorry", "hello",
    "but", "yes but", "okay but",
)  # fmt: skip
"""What takes the floor, and announces more."""

REPEAT = (
    "repeat", "repeat that", "repeat that please", "please repeat", "can you repeat that", "could you repeat that",
    "say that again", "say it again", "can you say that again", "could you say that again", "say again", "come again",
    "again", "again please", "one more time", "once more", "once again", "pardon", "pardon me", "excuse me",
    "sorry what", "sorry", "what did you say", "what was that", "i didn't catch that", "i did not catch that",
    "i didn't hear you",
    "i didn't hear that", "what", "what was the question",
)  # fmt: skip

CORRECTIONS = (
    "actually", "no make it", "make it", "make that", "i meant", "i mean", "sorry", "i'm sorry", "rather", "instead",
    "change it to", "change that to", "change to", "no wait", "wait", "oh wait", "correction", "scratch that",
    "no actually", "let's say", "or rather", "better", "i said",
)  # fmt: skip
"""What announces that a value replaces the one before."""

GREETINGS = (
    "hello",
    "hi",
    "hey",
    "good morning",
    "good afternoon",
    "good evening",
    "good day",
    "hello there",
    "hi there",
)

FILLERS = (
    "please", "um", "uh", "er", "erm", "ah", "oh", "hmm", "well", "so", "like", "just", "thanks", "thank you",
    "i would like", "i'd like", "i want", "i would prefer", "i'd prefer", "i need", "i will take", "i'll take",
    "i take", "i think", "can i have", "could i have", "may i have", "can we do", "can i get", "could we do",
    "give me", "let me",
    "how about", "what about", "why not", "it's", "it is", "that's", "that is", "it was", "this is", "my", "the", "a",
    "an", "on", "in", "at", "for", "to", "is", "and", "would be", "would", "be", "works", "work", "is good", "is fine",
    "then", "now", "one", "with", "if possible", "of", "prefer", "it", "that",
)  # fmt: skip
"""Words around a value that say nothing of it."""

NEGATORS = frozenset(
    (
        "not",
        "isn't",
        "aren't",
        "don't",
        "doesn't",
        "can't",
        "cannot",
        "won't",
        "except",
        "excluding",
        "never",
        "without",
    )
)
NEGATING_PHRASES = (
    "anything but",
    "everything but",
    "any day but",
    "all but",
    "rather than",
    "instead of",
    "other than",
)
HESITATIONS = frozenset(("but", "wait", "hold", "actually", "sorry", "instead", "rather", "no", "wrong", "nope"))
QUESTIONS = frozenset(("what", "when", "where", "who", "how", "why", "which"))
"""Words that take back a yes that stands before them."""

CLOSED_DENIALS = tuple(
    phrase for phrase in NO if phrase.split()[-1] in ("right", "correct", "quite", "really", "all", "one")
)
"""They deny what was said before, not what comes after: "that's not right, friday"."""

NEGATION_REACH_WORDS = 3  # from the negation to the value that it denies

_ODD = re.compile(r"[^a-z0-9' ]+")
_LOOSE_APOSTROPHES = re.compile(r"(?<![a-z])'|'(?![a-z])")


def plain(text: str) -> str:
    """Lower case words, digits and inner apostrophes with single spaces; all else separates words."""
    text = _ODD.sub(" ", text.lower().replace("’", "'"))
    return " ".join(_LOOSE_APOSTROPHES.sub(" ", text).split())


def is_backchannel(text: str) -> bool:
    """Whether it only says "go on": one to four words, all of them such."""
    words = plain(text).split()
    return 0 < len(words) <= MAX_BACKCHANNEL_WORDS and _covered(" ".join(words))


def is_impatient(text: str) -> bool:
    """Whether one such word is said twice. Who says "okay okay" and goes on is about to speak; laughs are no words."""
    first, *more = text.split() or [""]
    return bool(more) and set(more) == {first} and first not in LAUGHS


def ordinal(number: int) -> str:
    """31 is "31st"."""
    ending = "th" if 10 <= number % 100 <= 20 else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"


def cardinal_words(number: int) -> str:
    """0 to 99 in words: 42 is "forty two"."""
    if number < 20:
        return (*UNITS, *TEENS)[number]
    tens, unit = divmod(number, 10)
    return f"{TENS[tens - 2]} {UNITS[unit]}" if unit else TENS[tens - 2]


def ordinal_words(number: int) -> str:
    """1 to 31 in words: 31 is "thirty first"."""
    if number <= 20:
        return ORDINALS[number - 1]
    tens, unit = divmod(number, 10)
    return f"{TENS[tens - 2]} {ORDINALS[unit - 1]}" if unit else f"{TENS[tens - 2][:-1]}ieth"


@lru_cache(1)
def _backchannels() -> re.Pattern[str]:
    one = "|".join(map(re.escape, sorted(BACKCHANNELS, key=len, reverse=True)))
    return re.compile(f"(?:{one})(?: (?:{one}))*")


def _covered(words: str) -> bool:
    return _backchannels().fullmatch(words) is not None
