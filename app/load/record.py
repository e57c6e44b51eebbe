"""What a run leaves behind: its result, and what only the report about it draws. Read by whoever reads results."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct, field

from app.load.line import UNREADABLE
from app.load.results import FORMAT, CallResult, RunResult, What

MAX_FILE_BYTES: Final = 1 << 30
PEAK_SLACK_S: Final = 1e-9

Span = tuple[float, float]
"""From and to, in seconds since the call's recording began."""


class Tape(Struct, frozen=True):
    """When each side was audible in one recorded call."""

    number: int  # the call's
    began_s: float  # since the run began: when the recording did
    seconds: float
    caller: list[Span]
    agent: list[Span]


class Probe(Struct, frozen=True):
    """One try at how many calls a server bears: while all of them were up."""

    calls: int
    held: bool
    broken: list[str]  # the conditions that came true, with what was found
    found: dict[str, float]  # as `figures.metrics`


class Capacity(Struct):
    most: int  # calls at which all limits held; 0: not even at the fewest that were tried
    why: str  # it ended there
    limits: list[str]
    probes: list[Probe] = field(default_factory=list)
    bound: bool = False  # the search ended before anything broke


class Judged(Struct, frozen=True):
    """A condition on the run, and whether it came true."""

    condition: str
    value: float | None  # None: nothing of the kind was measured
    broken: bool


class Record(RunResult):
    troubles: list[str] = field(default_factory=list)  # why the run is not whole
    stopped: bool = False  # by a person, before its time
    tapes: list[Tape] = field(default_factory=list)
    recorded: int = 0  # calls, of which those are the worst
    judged: list[Judged] = field(default_factory=list)
    capacity: Capacity | None = None


class NotAResult(ValueError):
    """A file that is none of ours, or of a newer tester."""


_decoder = msgspec.json.Decoder(Record)


def record_of(run: RunResult) -> Record:
    return Record(**msgspec.structs.asdict(run))


def to_json(record: Record) -> bytes:
    return msgspec.json.format(msgspec.json.encode(record), indent=1)


def read(path: Path) -> Record:
    """Of any run's file. Raises `NotAResult` and `OSError`."""
    with path.open("rb") as file:
        data = file.read(MAX_FILE_BYTES + 1)
    if len(data) > MAX_FILE_BYTES:
        raise NotAResult(f"larger than {MAX_FILE_BYTES >> 20} MB")
    try:
        record = _decoder.decode(data)
    except UNREADABLE as error:
        raise NotAResult(f"not a load test's result: {error}") from None
    if record.format > FORMAT:
        raise NotAResult("the result of a newer voicegate")
    return record


def up_span(call: CallResult) -> Span | None:
    """Since the run began; None for a call that was never up."""
    if call.talked_s <= 0:
        return None
    set_up_ms = next((one.ms for one in call.measures if one.what is What.set_up), 0.0)
    since_s = call.began_s + set_up_ms / 1000
    return since_s, since_s + call.talked_s


def load_steps(calls: Sequence[CallResult]) -> list[tuple[float, int]]:
    """How many calls were up, and from when."""
    changes: list[tuple[float, int]] = []
    for call in calls:
        if (span := up_span(call)) is not None:
            changes += [(span[0], 1), (span[1], -1)]
    steps, up = [(0.0, 0)], 0
    for at_s, change in sorted(changes):
        up += change
        if at_s - steps[-1][0] < PEAK_SLACK_S:
            steps.pop()
        steps.append((at_s, up))
    return steps


def peak(calls: Sequence[CallResult]) -> int:
    return max(up for _, up in load_steps(calls))
