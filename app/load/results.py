"""What calls were like at the callers' ears, as data."""

from enum import StrEnum
from typing import Final

from msgspec import Struct, field

FORMAT: Final = 1
"""Raised when a reader of older files could not understand newer ones."""


class What(StrEnum):
    """What one measurement is of. All are in milliseconds."""

    set_up = "set_up"  # asking for the call to media
    response = "response"  # end of own speech to first agent audio
    key_response = "key_response"  # last key to first agent audio
    barge_in = "barge_in"  # own onset to the last audible agent frame before a silence that lasts
    to_clear = "to_clear"  # own onset to the server's order to throw away what was sent
    key_barge_in = "key_barge_in"  # key to the last audible agent frame
    hold = "hold"  # the agent fell silent for a noise or a backchannel, and went on in place
    gap = "gap"  # a hole in agent speech that nothing of ours explains
    resume = "resume"  # asking for a dropped call to its media


class Measure(Struct, frozen=True, array_like=True):
    what: What
    ms: float
    at_s: float  # since the run began: when what was measured began
    own: bool = False  # the tester was late meanwhile: not the server's figure


class EndedBy(StrEnum):
    caller = "caller"  # as its scenario says
    agent = "agent"  # the server said goodbye
    lost = "lost"  # neither did
    nobody = "nobody"  # it was never up


class CallResult(Struct):
    """One call. Counts leave out what was measured while the tester itself was late; those are in `own`."""

    number: int  # of the run, from 0
    scenario: str
    began_s: float  # since the run began: asked for
    transport: str = ""  # "plain", "twilio", "sip", "webrtc"
    call: str = ""  # the server's name for it, where it tells
    talked_s: float = 0.0  # with media
    measures: list[Measure] = field(default_factory=list)
    frames: int = 0  # of the agent's
    late: int = 0  # of them came after their time
    own: int = 0  # late frames and judgements left out, since the tester itself was late
    interruptions: int = 0
    unyielded: int = 0  # of them: the agent went on talking
    noises: int = 0  # made while the agent spoke
    stopped_by_noise: int = 0
    backchannels: int = 0  # made while the agent spoke
    stopped_by_backchannel: int = 0
    turns: int = 0  # that the caller spoke to their end
    false_ends: int = 0  # of them: the agent came in before
    missed_ends: int = 0  # of them: the agent did not answer at all
    said: list[str] = field(default_factory=list)  # what the caller really said, in order
    words: int = 0  # of those said, where the server was asked what it understood
    lost_words: int = 0  # of them: it understood others, or none
    dropped: int = 0  # connections that were dropped on purpose
    resumed: int = 0
    ended_by: EndedBy = EndedBy.nobody
    cause: str = ""
    outcome: str = ""  # as the server told it; "" where it does not
    as_expected: bool | None = None  # None: nothing was expected, or nothing could be known
    refused: str = ""  # the code, where the server took no call
    error: str = ""  # the kind, where something went wrong that the scenario did not do itself
    audio: str = ""  # a WAV file beside the report: the caller left, the agent right


class Sample(Struct, frozen=True):
    """Values at one moment: of the server when it is ours, or of the tester."""

    at_s: float  # since the run began
    values: dict[str, float]  # such as "calls", "cpu_ms", "memory_mb", "loop_lag_p99_ms", "refused"


class RunResult(Struct):
    """A whole run; those of several processes merge by `merged`."""

    address: str  # with no token in it
    scenarios: list[str]
    began: str  # ISO 8601, UTC
    seconds: float = 0.0
    calls: list[CallResult] = field(default_factory=list)
    peak_calls: int = 0  # up at once
    tester_cpu_ms: float = 0.0
    tester_processes: int = 1
    tester_late_ms: float = 0.0  # all the time by which the testers' clocks were late
    server: list[Sample] = field(default_factory=list)
    tester: list[Sample] = field(default_factory=list)
    machine: list[str] = field(default_factory=list)
    options: dict[str, str] = field(default_factory=dict)  # as asked for
    format: int = FORMAT


def merged(parts: list[RunResult]) -> RunResult:
    """Of the processes of one run, whose calls are numbered apart and whose clocks began together.

    The peak is a bound: each process had its own. `server` comes from whichever process watched it.
    """
    first = parts[0]
    return RunResult(
        address=first.address,
        scenarios=list(dict.fromkeys(name for part in parts for name in part.scenarios)),
        began=min(part.began for part in parts),
        seconds=max(part.seconds for part in parts),
        calls=sorted((call for part in parts for call in part.calls), key=lambda call: call.number),
        peak_calls=sum(part.peak_calls for part in parts),
        tester_cpu_ms=sum(part.tester_cpu_ms for part in parts),
        tester_processes=len(parts),
        tester_late_ms=sum(part.tester_late_ms for part in parts),
        server=sorted((one for part in parts for one in part.server), key=lambda one: one.at_s),
        tester=sorted((one for part in parts for one in part.tester), key=lambda one: one.at_s),
        machine=first.machine,
        options=first.options,
    )
