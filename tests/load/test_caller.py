"""A caller frame by frame, on a line that only notes what it is sent."""

import asyncio
from pathlib import Path

from app.load.caller import Caller, Given
from app.load.clock import Clock
from app.load.line import Listener
from app.load.scenario import loads
from app.load.sounds import Kit, Reel
from media.codec import Codec, Pcmu

ROOM = tuple(f"room {at}".encode() for at in range(100))
WORDS = tuple(f"word {at}".encode() for at in range(5))


class Notes:
    """A line to nobody."""

    clears = False
    call = ""

    def __init__(self) -> None:
        self.codec: Codec = Pcmu()
        self.sent: list[bytes] = []

    async def connect(self, listener: Listener) -> None: ...

    def send(self, payload: bytes) -> None:
        self.sent.append(payload)

    def digit(self, digit: str, duration_ms: int) -> None: ...

    async def hang_up(self) -> None: ...

    def drop(self) -> None: ...

    async def resume(self) -> None: ...


async def test_after_words_the_room_begins_anew_as_its_codec_encoded_it() -> None:
    scenario = loads("scenario: said\nsteps: [wait: {ms: 60}, say: hello, wait: {ms: 100}]\n", "said.yaml", Path())
    kit = Kit(ROOM, {sound: Reel(WORDS, 0, len(WORDS) - 1, "hello") for sound in scenario.sounds()})
    line, clock = Notes(), Clock()
    async with asyncio.TaskGroup() as group:
        ticking = group.create_task(clock.run())
        await Caller(1, line, Given(scenario, kit, clock, origin_s=0.0)).run()
        ticking.cancel()
    at = line.sent.index(WORDS[0])
    assert at >= 2
    assert line.sent[at : at + len(WORDS)] == list(WORDS)
    assert line.sent[at + len(WORDS) :][:3] == list(ROOM[:3])
