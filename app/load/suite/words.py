"""What callers of the suite say. The two halves share no sentence, no voice and no seed."""

from typing import Final

from msgspec import Struct

from app.load.suite.moment import Half


class Words(Struct, frozen=True):
    voices: tuple[str, ...]  # espeak's
    interruptions: tuple[str, ...]  # that take the floor
    short_interruptions: tuple[str, ...]  # of a word or two
    backchannels: tuple[str, ...]  # that leave it
    laughs: tuple[str, ...]
    paused: tuple[tuple[str, ...], ...]  # answers to "which day", broken where nobody could take them for complete
    continued: tuple[tuple[str, str], ...]  # such that go on after what could have been all
    answers: tuple[str, ...]  # to "which day", short
    yesno: tuple[str, ...]  # answers to "have you been here before"
    numbers: tuple[tuple[str, ...], ...]  # six digits in groups


TUNING: Final = Words(
    voices=("en-us", "en-us+m1", "en-us+f1", "en-us+m3", "en-us+f3", "en-us+m5", "en-us+f5", "en", "en-us+m7"),
    interruptions=(
        "no, wait a moment please",
        "actually, I would like to say something",
        "sorry, I only have a quick question",
        "excuse me, that is not what I wanted",
        "can you repeat that",
        "what are your opening hours",
        "I would like to come on Tuesday",
        "Friday in the morning please",
        "yes but I need to change the date",
        "okay okay, just give me an appointment",
        "I have been here before, I know all that",
        "could I speak to a person please",
        "right, and how much does it cost",
        "hello, can you hear me",
    ),
    short_interruptions=("stop", "wait", "hold on", "Tuesday", "Friday morning", "no", "excuse me", "in the afternoon"),
    backchannels=(
        "uh-huh",
        "yeah",
        "okay",
        "right",
        "yes",
        "I see",
        "sure",
        "um hum",
        "hmm",
        "oh okay",
        "got it",
        "all right",
    ),
    laughs=("ha ha", "ha ha ha"),
    paused=(
        ("I would like to come on", "Tuesday"),
        ("um", "Friday please"),
        ("how about", "Wednesday morning"),
        ("well let's say", "Monday"),
        ("I'd like", "Thursday in the afternoon"),
        ("let me think", "Wednesday"),
        ("it's", "Friday"),
        ("can I have", "Tuesday morning"),
    ),
    continued=(
        ("Tuesday", "in the morning"),
        ("Monday um", "or no make it Friday"),
        ("Thursday and", "in the afternoon"),
    ),
    answers=("Tuesday", "Monday please", "Friday", "Wednesday morning", "on Thursday"),
    yesno=("yes", "no", "yeah", "yes I have", "nope", "that's right"),
    numbers=(
        ("four two", "seven one", "three five"),
        ("one two three", "four five six"),
        ("nine", "zero two four", "eight one"),
        ("six six five", "two", "zero one"),
        ("three seven two nine", "one eight"),
        ("five zero four three two one",),
    ),
)

HELD_OUT: Final = Words(
    voices=(
        "en-us+m2",
        "en-us+f2",
        "en-us+m4",
        "en-us+f4",
        "en-us+m6",
        "en-us+m8",
        "en-gb-x-rp",
        "en-gb-scotland",
        "en-gb-x-gbclan",
    ),
    interruptions=(
        "hang on a minute",
        "that is not right, listen to me",
        "could you say that again",
        "when are you open at the weekend",
        "I already know where you are",
        "Thursday would be best for me",
        "I want Wednesday afternoon",
        "yeah but my doctor told me to call today",
        "sorry to interrupt, I am in a hurry",
        "can we skip this please",
        "no no no, I need to cancel it",
        "oh wait, I forgot to say something",
        "is there anybody I can talk to",
        "okay but what about my mother",
    ),
    short_interruptions=(
        "hang on",
        "pardon",
        "one moment",
        "Monday",
        "Wednesday afternoon",
        "sorry",
        "hello",
        "repeat that",
    ),
    backchannels=(
        "yep",
        "aha",
        "mm hmm",
        "oh I see",
        "yeah yeah",
        "good",
        "okay yeah",
        "fine",
        "great",
        "right right",
        "cool",
        "ah",
    ),
    laughs=("heh heh", "hah hah hah"),
    paused=(
        ("I think I could do", "Thursday"),
        ("uh", "on Monday"),
        ("could we do", "Friday afternoon"),
        ("that would be", "Wednesday"),
        ("I'd prefer", "Monday in the morning"),
        ("give me a second", "Tuesday please"),
        ("maybe on", "Thursday"),
        ("I want to come in the", "afternoon"),
    ),
    continued=(
        ("Friday", "in the afternoon"),
        ("Wednesday er", "sorry I meant Thursday"),
        ("Monday or", "actually Tuesday"),
    ),
    answers=("Wednesday", "Thursday please", "on Monday", "Friday afternoon", "Tuesday"),
    yesno=("yep", "no", "yes", "no thank you", "correct", "sure"),
    numbers=(
        ("eight three", "zero six", "one two"),
        ("seven nine one", "five two zero"),
        ("four", "four eight", "six one three"),
        ("two five two", "nine nine", "one"),
        ("one zero six", "seven three eight"),
        ("two four six eight one three",),
    ),
)

WORDS: Final = {Half.tuning: TUNING, Half.held_out: HELD_OUT}
