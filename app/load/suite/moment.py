"""One moment of a call: what a caller does, when, in which voice and over what line. Its kind says what is right."""

from enum import StrEnum

from msgspec import Struct

from app.load.noise import Noise


class Half(StrEnum):
    """Which half of the suite a moment belongs to. Nothing is tuned on the held-out one."""

    tuning = "tuning"
    held_out = "held-out"


class Right(StrEnum):
    """What the agent ought to do."""

    yields = "yields"  # falls silent and stays silent
    goes_on = "goes on"  # no stop; a short hold is none
    answers = "answers"  # waits until all was said, then answers


class Kind(StrEnum):
    interruption = "interruption"
    overlap = "overlap"  # both begin at once
    backchannel = "backchannel"
    noise = "noise"
    pause = "pause"  # inside a sentence
    spelled = "spelled"  # a number, in groups
    word = "word"  # an answer of one word or two

    @property
    def right(self) -> Right:
        if self in (Kind.interruption, Kind.overlap):
            return Right.yields
        return Right.goes_on if self in (Kind.backchannel, Kind.noise) else Right.answers


class Scene(StrEnum):
    """What the agent does meanwhile: a flow in `flows/`."""

    talk = "turns_talk"  # explains at length
    day = "turns_day"  # asks for a day and a part of it
    number = "turns_number"  # asks for a number of six digits
    yesno = "turns_yesno"  # asks whether something is so


class Band(StrEnum):
    wide = "wide"
    telephone = "telephone"  # 300 to 3400 Hz
    handset = "handset"  # held badly: dull, and the room is heard


class Wire(StrEnum):
    """A protocol and its codec."""

    plain_16k = "plain-16k"
    plain_8k = "plain-8k"
    twilio = "twilio"  # G.711 mu-law


class Voice(Struct, frozen=True):
    name: str  # espeak's
    rate_wpm: int
    pitch: float = 1.0  # times its own


class Say(Struct, frozen=True, tag=True):
    text: str


class Murmur(Struct, frozen=True, tag=True):
    """With closed lips: "mm", or "mm-hm" of two beats. `ms` is a beat's length."""

    beats: int
    ms: int
    rises: bool = False


class Sound(Struct, frozen=True, tag=True):
    """No voice of the caller's. `above_db` is its level relative to the moment's."""

    noise: Noise
    ms: int
    above_db: float = 0.0


class Pause(Struct, frozen=True, tag=True):
    ms: int


Part = Say | Murmur | Sound | Pause


class Room(Struct, frozen=True):
    """What is heard on the line all the time."""

    noise: Noise
    level_dbfs: float


class Moment(Struct, frozen=True):
    name: str
    half: Half
    kind: Kind
    scene: Scene
    parts: tuple[Part, ...]
    at_ms: int
    """Where the agent is to yield or to go on: after it began to speak. Where it is to answer: after its question."""
    voice: Voice
    level_dbfs: float  # of what is said, where it is loud
    room: Room
    band: Band
    wire: Wire
    seed: int

    @property
    def right(self) -> Right:
        return self.kind.right

    @property
    def said(self) -> str:
        """For people who read of it."""
        return " ".join(map(_told, self.parts))


def _told(part: Part) -> str:
    match part:
        case Say(text=text):
            return text
        case Murmur(beats=beats):
            return "mm" if beats == 1 else "mm-hm"
        case Sound(noise=noise, ms=ms):
            return f"({noise} {ms} ms)"
        case Pause(ms=ms):
            return f"[{ms}]"
