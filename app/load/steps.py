"""What a simulated caller does, as data: the steps of a scenario, and the sounds that they need."""

import re
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from app.load.noise import Noise as NoiseKind

DEFAULT_PATIENCE_MS: Final = 15_000
DEFAULT_LEVEL_DBFS: Final = -20.0
DEFAULT_DONE_MS: Final = 700
"""Of the agent's silence, after which a caller takes it to be done."""

DIGIT_MS: Final = 100
DIGIT_GAP_MS: Final = 100

PAUSE: Final = re.compile(r"\[(\d{1,5})\]")
"""Inside words: so many milliseconds of silence."""

Range = tuple[int, int]
"""From and to, in milliseconds; each time another value in it, from the call's seed."""


@dataclass(frozen=True, slots=True)
class Voice:
    name: str = "en-us+f3"
    rate_wpm: int = 160


@dataclass(frozen=True, slots=True)
class Speech:
    """Words by the embedded voice, or a WAV file; `[600]` between words is a pause of as many milliseconds."""

    text: str = ""
    wav: str = ""  # a path
    voice: Voice = field(default_factory=Voice)
    level_dbfs: float | None = DEFAULT_LEVEL_DBFS  # of its loud parts; None: as the file is


@dataclass(frozen=True, slots=True)
class Noise:
    kind: NoiseKind
    ms: int
    level_dbfs: float
    seed: int = 1


Sound = Speech | Noise


@dataclass(frozen=True, slots=True)
class Network:
    """What happens to 20 ms frames on their way, in means: `loss` of all, `burst` frames at a time."""

    loss: float = 0.0
    burst: float = 1.0
    jitter_ms: int = 0


# Steps


class For(StrEnum):
    agent_speaks = "agent_speaks"  # it is audible
    agent_done = "agent_done"  # it has spoken since we last did something, and is silent
    agent_speaking = "agent_speaking"  # without a lasting silence, for so long
    caption = "caption"  # its words hold these
    time = "time"


@dataclass(frozen=True, slots=True)
class Wait:
    what: For
    ms: Range = (0, 0)
    words: str = ""


@dataclass(frozen=True, slots=True)
class Say:
    """One of these, as soon as it is this step's turn."""

    any_of: tuple[Speech, ...]


@dataclass(frozen=True, slots=True)
class Interrupt:
    """Into the agent's speech."""

    any_of: tuple[Speech, ...]
    after_ms: Range


@dataclass(frozen=True, slots=True)
class Backchannel:
    """Into the agent's speech, and it is to go on."""

    any_of: tuple[Speech, ...]
    after_ms: Range


@dataclass(frozen=True, slots=True)
class MakeNoise:
    """At once, or into the agent's speech; the agent is to go on."""

    noise: Noise
    after_ms: Range | None = None


@dataclass(frozen=True, slots=True)
class Digits:
    digits: str
    gap_ms: int = DIGIT_GAP_MS
    duration_ms: int = DIGIT_MS


@dataclass(frozen=True, slots=True)
class Silence:
    """Says nothing, whatever the agent does. `sends`: the room is still heard."""

    ms: Range
    sends: bool = True


@dataclass(frozen=True, slots=True)
class Drop:
    resume_after_ms: Range | None  # None: it does not come back


@dataclass(frozen=True, slots=True)
class Repeat:
    times: int
    steps: "tuple[Step, ...]"


@dataclass(frozen=True, slots=True)
class HangUp:
    """At once, or so long into the agent's speech, or so long after our own last word."""

    agent_speaking_ms: Range | None = None
    after_ms: Range | None = None


Step = Wait | Say | Interrupt | Backchannel | MakeNoise | Digits | Silence | Drop | Repeat | HangUp


@dataclass(frozen=True, slots=True)
class Expect:
    outcome: str = ""
    ends_by: str = ""  # "caller" or "agent"


@dataclass(frozen=True, slots=True)
class Scenario:
    """`steps` once; `loop` at least once and while the call is held; `after` once; then the caller hangs up."""

    name: str
    steps: tuple[Step, ...]
    loop: tuple[Step, ...] = ()
    after: tuple[Step, ...] = ()
    about: str = ""
    room: Noise = Noise(NoiseKind.hush, 6000, -60.0)
    sends: Network = field(default_factory=Network)
    hears: Network = field(default_factory=Network)
    patience_ms: int = DEFAULT_PATIENCE_MS
    expect: Expect | None = None

    def sounds(self) -> tuple[Sound, ...]:
        """All that it may need to make, each once; without the room."""
        found = [sound for part in (self.steps, self.loop, self.after) for sound in _sounds(part)]
        return tuple(dict.fromkeys(found))


def _sounds(steps: tuple[Step, ...]) -> list[Sound]:
    found: list[Sound] = []
    for step in steps:
        match step:
            case Say() | Interrupt() | Backchannel():
                found.extend(step.any_of)
            case MakeNoise():
                found.append(step.noise)
            case Repeat():
                found.extend(_sounds(step.steps))
            case _:
                pass
    return found
