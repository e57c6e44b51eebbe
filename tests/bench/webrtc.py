"""What a WebRTC call costs: simulated callers whose frames were encoded before.

`python -m tests.bench.webrtc [CALLS]`: the media path alone (SRTP, jitter buffer, codec, ear, playout, clock) at
ordinary talk shares, agent 45 % and caller 40 % with DTX between; and a whole server with scripted speech.
"""

import asyncio
import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import uvloop
from rich.console import Console
from rich.table import Table

from app.load.line import Trouble
from app.load.webrtc import Browser, webrtc_lines
from media.audio import FRAME_MS, Resampler
from media.codec import Codec, Pcmu
from media.opus import DTX_BYTES, Opus
from tests.bench import machine, voices
from tests.bench.dialect import Plain
from tests.bench.server import Server, running

SETTLE_S = 4.0
WINDOW_S = 20.0
PERIOD_S = 10.0  # of one caller's talking and listening
CALLER_SHARE = 0.4
AGENT_SHARE = 0.45


class Listener:
    """A line's. `received` is given each payload."""

    def __init__(self) -> None:
        self.packets = 0
        self.received: Callable[[bytes], None] = lambda payload: None

    def audio(self, payload: bytes, at_s: float, media_s: float | None) -> None:
        self.packets += 1
        self.received(payload)

    def cleared(self, at_s: float) -> None: ...

    def caption(self, who: str, text: str) -> None: ...

    def ended(self, cause: str, outcome: str) -> None: ...

    def failed(self, kind: Trouble) -> None:
        raise ConnectionError(kind)


def frames(codec: Codec) -> list[bytes]:
    """Somebody's speech for `CALLER_SHARE` of a period, then a quiet room, as a browser sends them with DTX."""
    rng = np.random.default_rng(2)
    sounds = voices.record(Plain.rate_hz, ulaw=False)
    speech = np.concatenate([frame.pcm for each in sounds.utterances for frame in each])
    speech = Resampler(Plain.rate_hz, codec.rate_hz).process(speech)
    size = codec.rate_hz * FRAME_MS // 1000
    count = round(PERIOD_S * 1000 / FRAME_MS)
    talking = round(count * CALLER_SHARE)
    made = []
    for at in range(count):
        if at < talking:
            start = at * size % (len(speech) - size)
            made.append(codec.encode(speech[start : start + size]))
        elif codec.name == "opus":
            payload = codec.encode(np.zeros(size, np.int16))
            made.append(payload if len(payload) > DTX_BYTES and at % 20 == 0 else b"")
        else:
            made.append(codec.encode(rng.normal(0, 5, size).astype(np.int16)))
    return made


async def load(server: Server, name: str, sent: Sequence[bytes], count: int) -> tuple[float, int, float]:
    """Of the server: CPU milliseconds a call-second, packets that came a call-second, and megabytes a call."""
    chance = random.Random(1)
    heard = [Listener() for _ in range(count)]
    async with webrtc_lines(f"http://{server.host}:{server.port}", Browser(codec=name, channel=False)) as lines:
        callers = [lines(number) for number in range(count)]
        empty_mb = machine.resident_mb(server.pid)
        for caller, listener in zip(callers, heard, strict=True):
            await caller.connect(listener)
        offsets = [chance.randrange(len(sent)) for _ in callers]

        async def speak() -> None:
            loop = asyncio.get_running_loop()
            due_s = loop.time()
            at = 0
            while True:
                for caller, offset in zip(callers, offsets, strict=True):
                    caller.send(sent[(at + offset) % len(sent)])
                at += 1
                due_s += FRAME_MS / 1000
                await asyncio.sleep(max(0.0, due_s - loop.time()))

        async with asyncio.TaskGroup() as group:
            speaking = group.create_task(speak())
            await asyncio.sleep(SETTLE_S)
            packets, before = sum(listener.packets for listener in heard), machine.usage(server.pid)
            await asyncio.sleep(WINDOW_S)
            used = machine.usage(server.pid) - before
            packets = sum(listener.packets for listener in heard) - packets
            resident_mb = machine.resident_mb(server.pid) - empty_mb
            speaking.cancel()
        for caller in callers:
            await caller.hang_up()
    return used.cpu_ms / WINDOW_S / count, round(packets / WINDOW_S / count), resident_mb / count


@contextmanager
def media_alone() -> Iterator[Server]:
    process = subprocess.Popen(
        (sys.executable, "-m", "tests.bench.media_server", str(AGENT_SHARE)), stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        address = urlsplit(process.stdout.readline().strip())
        machine.pin(process.pid, machine.SERVER_CORE)
        yield Server(process.pid, address.hostname or "", address.port or 0, Path())
    finally:
        process.terminate()
        process.wait()


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 40
    out = Console(highlight=False, width=120)
    machine.pin(os.getpid(), machine.LOAD_CORE)
    table = Table(title=f"WebRTC, {count} calls on one core", title_justify="left", box=None)
    for head in (
        "codec",
        "what runs",
        "agent packets a call-second",
        "CPU ms a call-second",
        "MB a call",
        "CPU promised",
    ):
        table.add_column(head)
    for codec, goal in ((Opus(), "6"), (Pcmu(), "4")):
        sent = frames(codec)
        for server_of, what in (
            (media_alone, "the media path, both talk in turn"),
            (running, "a whole server, likewise"),
        ):
            with server_of() as server:
                cost, packets, mb = uvloop.run(load(server, codec.name.lower(), sent, count))
            table.add_row(
                codec.name, what, str(packets), f"{cost:.2f}", f"{mb:.2f}", goal if server_of is media_alone else ""
            )
    out.print(table)


if __name__ == "__main__":
    main()
