"""What a run and its worker processes say to each other over their pipes."""

import struct
from asyncio import IncompleteReadError, StreamReader
from typing import Final, TypeVar

import msgspec
from msgspec import Struct, field

from app.load.dial import Dial
from app.load.record import Tape
from app.load.results import CallResult, Measure

MAX_MESSAGE_BYTES: Final = 512 << 20
HEADER: Final = struct.Struct(">I")


class Job(Struct, tag=True):
    """The first message to a worker; it prepares, and then waits."""

    dial: Dial
    scenarios: list[str]  # paths
    calls: int
    first: int  # its calls have the numbers from here on ...
    step: int  # ... by this
    ramp_per_s: float
    hold_s: float
    seed: int
    tapes: int = 0  # of so many calls, the worst, the sound is kept
    folder: str = ""  # where it is written
    cache: str = ""  # where words are kept from run to run


class Go(Struct, tag=True):
    origin_s: float  # `time.perf_counter`, the same clock for all processes of a machine


class Stop(Struct, tag=True):
    """Hang up, and tell what was measured."""


class Ready(Struct, tag=True):
    pass


class Failed(Struct, tag=True):
    """It cannot be done as asked: the address, a sound."""

    reason: str


class Progress(Struct, tag=True):
    """Counts are since the beginning; what happened, since the last such message."""

    begun: int = 0
    up: int = 0
    over: int = 0
    frames: int = 0
    late: int = 0
    own: int = 0
    cpu_ms: float = 0.0
    late_ms: float = 0.0  # of the worker's own clock
    errors: dict[str, int] = field(default_factory=dict)
    measures: list[Measure] = field(default_factory=list)
    calls: list[CallResult] = field(default_factory=list)  # that are over


class Done(Struct, tag=True):
    tapes: list[Tape]
    recorded: int  # calls, of which these are the worst


ToWorker = Job | Go | Stop
FromWorker = Ready | Failed | Progress | Done

Message = TypeVar("Message")
_encode = msgspec.msgpack.Encoder().encode


def framed(message: ToWorker | FromWorker) -> bytes:
    data = _encode(message)
    return HEADER.pack(len(data)) + data


async def receive(pipe: StreamReader, decoder: msgspec.msgpack.Decoder[Message]) -> Message | None:
    """The next message; None where the other side is gone. Raises `msgspec.DecodeError` for what is none."""
    try:
        (size,) = HEADER.unpack(await pipe.readexactly(HEADER.size))
        if size > MAX_MESSAGE_BYTES:
            raise msgspec.DecodeError("a message without end")
        return decoder.decode(await pipe.readexactly(size))
    except (IncompleteReadError, ConnectionError):
        return None
