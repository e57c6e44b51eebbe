"""What a SIP call costs: simulated telephones whose frames were encoded before.

`python -m tests.bench.sip [CALLS] [--media]`: the media path alone (port, jitter buffer, codec, ear, playout, clock),
at ordinary talk shares, agent 45 % and caller 40 %; without `--media` a whole server with scripted speech, likewise,
and how fast it is.
"""

import argparse
import asyncio
import gc
import os
import random
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Final, cast

import uvloop
from rich.console import Console
from rich.table import Table

from app.load.line import Line
from app.load.sip import Telephone, sip_lines
from app.load.wire import Wire
from media.audio import FRAME_MS, pcm_to_ulaw, silence
from media.codec import Codec, Pcma, Pcmu
from media.g722 import G722
from media.opus import Opus
from tests.bench import machine, report, voices
from tests.bench.caller import Caller, Heard
from tests.bench.dialect import Kind
from tests.bench.load import Load
from tests.bench.server import running
from tests.bench.voices import Frame, Voices
from tests.bench.webrtc import AGENT_SHARE, Listener, frames

SETTLE_S: Final = 3.0
WINDOW_S: Final = 10.0
TALK_S: Final = 30.0  # of callers who interrupt
TALKERS: Final = 30  # their ears take most of the callers' core
SLOTS: Final = FRAME_MS  # of 1 ms: telephones do not send all at once
MOST: Final = 100
STAGGER: Final = 37  # frames that one telephone is ahead of another
MEDIA_GOAL: Final = "1.2"
LOCALHOST: Final = "127.0.0.1"
PORTS: Final = range(20_000, 30_000)  # of SIP

SPOKEN: Final[Sequence[tuple[str, Callable[[], Codec], bool, str]]] = (
    ("PCMU", Pcmu, False, MEDIA_GOAL),
    ("PCMA", Pcma, False, MEDIA_GOAL),
    ("G722", G722, False, ""),
    ("opus", Opus, False, ""),
    ("PCMU", Pcmu, True, ""),
)


@dataclass(frozen=True, slots=True)
class Server:
    pid: int
    port: int  # of SIP


@dataclass(frozen=True, slots=True)
class Cost:
    cpu_ms: float  # a call-second
    waited: float  # of the window, for the core
    packets: float  # that came a call-second
    call_mb: float
    dial_cpu_ms: float  # a call, with the media of those that stand
    dial_ms: list[float]  # from INVITE to 200


@contextmanager
def media_alone() -> Iterator[Server]:
    command = (sys.executable, "-m", "tests.bench.sip_server", str(AGENT_SHARE))
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        machine.pin(process.pid, machine.SERVER_CORE)
        machine.prefer(process.pid)
        yield Server(process.pid, port)
    finally:
        process.terminate()
        process.wait()


@contextmanager
def whole() -> Iterator[Server]:
    port = free_port()
    with running(extra={"VOICEGATE_SIP_PORT": str(port)}) as server:
        yield Server(server.pid, port)


def free_port() -> int:
    """Over UDP and TCP, and none that the system itself gives to a connection meanwhile."""
    for port in random.sample(PORTS, len(PORTS)):
        try:
            for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
                with socket.socket(socket.AF_INET, kind) as free:
                    free.bind((LOCALHOST, port))
        except OSError:
            continue
        return port
    raise RuntimeError("no port is free for SIP")


ServerOf = Callable[[], AbstractContextManager[Server]]


class Phone:
    """One telephone and what it hears."""

    def __init__(self, line: Line) -> None:
        self.heard = Listener()
        self.send = line.send
        self.line = line

    async def dial(self) -> None:
        await self.line.connect(self.heard)


@asynccontextmanager
async def phones(server: Server, codec: str, count: int, *, secure: bool = False) -> AsyncIterator[list[Phone]]:
    """Not dialled yet; hung up in the end."""
    telephone = Telephone(codec=codec.lower(), srtp=secure)
    async with sip_lines(f"sip:talk@{LOCALHOST}:{server.port}", telephone) as lines:
        made = [Phone(lines(number)) for number in range(count)]
        yield made
        for phone in made:
            await phone.line.hang_up()


async def speak(callers: Sequence[Phone], sent: Sequence[bytes]) -> None:
    """Each telephone its next frame every 20 ms, until cancelled."""
    due_s = time.perf_counter()
    slot = at = 0
    while True:
        for number in range(slot, len(callers), SLOTS):
            callers[number].send(sent[(at + STAGGER * number) % len(sent)])
        slot = (slot + 1) % SLOTS
        at += not slot
        due_s += FRAME_MS / 1000 / SLOTS
        await asyncio.sleep(max(0.0, due_s - time.perf_counter()))


async def load(server: Server, codec: str, secure: bool, sent: Sequence[bytes], count: int) -> Cost:
    async with phones(server, codec, 1, secure=secure) as first:  # what it loads is not each call's
        await first[0].dial()
        await asyncio.sleep(1)
    async with phones(server, codec, count, secure=secure) as callers, asyncio.TaskGroup() as group:
        empty_mb, before = machine.resident_mb(server.pid), machine.usage(server.pid)
        dial_ms = []
        for caller in callers:
            began_s = time.perf_counter()
            await caller.dial()
            dial_ms.append((time.perf_counter() - began_s) * 1000)
        dialled = machine.usage(server.pid) - before
        speaking = group.create_task(speak(callers, sent))
        await asyncio.sleep(SETTLE_S)
        packets, before = sum(caller.heard.packets for caller in callers), machine.usage(server.pid)
        await asyncio.sleep(WINDOW_S)
        used = machine.usage(server.pid) - before
        packets = sum(caller.heard.packets for caller in callers) - packets
        resident_mb = machine.resident_mb(server.pid) - empty_mb
        speaking.cancel()
    return Cost(
        used.cpu_ms / WINDOW_S / count,
        used.taken_ms / WINDOW_S / 1000,
        packets / WINDOW_S / count,
        resident_mb / count,
        dialled.cpu_ms / count,
        dial_ms,
    )


class Spoken:
    """PCMU as `tests.bench.caller` wants it; the silence that telephones are sent all the time is no agent's frame."""

    path = ""
    rate_hz = 8000
    ulaw = True

    def __init__(self) -> None:
        self._silence = pcm_to_ulaw(silence(self.rate_hz, FRAME_MS))

    def hello(self) -> Sequence[bytes]:
        return ()

    def frame(self, frame: Frame) -> bytes:
        return pcm_to_ulaw(frame.pcm)

    def read(self, opcode: int, payload: bytes) -> tuple[Kind, str]:
        return (Kind.other if payload == self._silence else Kind.audio), ""

    def mark(self, name: str) -> bytes:
        return b""

    def goodbye(self) -> bytes:
        return b""


async def conversation(server: Server, recorded: Voices, count: int) -> Heard:
    """Callers who interrupt the agent whenever it talks."""
    load = Load()
    async with phones(server, "PCMU", count) as callers, asyncio.TaskGroup() as group:
        clock = group.create_task(load.run())
        for number, phone in enumerate(callers):
            await phone.dial()
            caller = Caller(Spoken(), recorded, load.heard, load.clock, number, interrupts=True)
            caller.wire = cast(Wire, phone)  # it sends, and no more is asked of it
            phone.heard.received = lambda payload, caller=caller: caller.receive(0, payload)  # type: ignore[misc]
            load.callers.append(caller)
        await asyncio.sleep(SETTLE_S)
        heard = load.fresh()
        await asyncio.sleep(TALK_S)
        clock.cancel()
    return heard


def show_cost(out: Console, count: int, servers: Sequence[tuple[str, ServerOf]]) -> None:
    table = Table(title=f"SIP, {count} calls on one core", title_justify="left", box=None)
    for head in ("codec", "what runs"):
        table.add_column(head, no_wrap=True)
    heads = "CPU ms a call-second", "promised", "waited for the core", "packets out a call-second", "MB a call"
    for head in (*heads, "CPU ms a set-up", "INVITE to 200, ms: median", "most"):
        table.add_column(head, justify="right")
    for name, codec, secure, goal in SPOKEN:
        sent = frames(codec())
        for what, server_of in servers:
            with server_of() as server:
                cost = uvloop.run(load(server, name, secure, sent, count))
            times = sorted(cost.dial_ms)
            table.add_row(
                f"{name}, SRTP" if secure else name,
                what,
                f"{cost.cpu_ms:.2f}",
                goal if server_of is media_alone else "",
                f"{cost.waited:.1%}",
                f"{cost.packets:.1f}",
                f"{cost.call_mb:.2f}",
                f"{cost.dial_cpu_ms:.1f}",
                f"{times[len(times) // 2]:.1f}",
                f"{times[-1]:.1f}",
            )
    out.print(table)
    out.print()


def show_conversation(out: Console, count: int) -> None:
    recorded = voices.record(Spoken.rate_hz, ulaw=Spoken.ulaw)
    gc.collect()
    gc.freeze()
    with whole() as server:
        heard = uvloop.run(conversation(server, recorded, count))
    measured = {
        "onset to last agent frame": heard.barge_in,
        "  of it: until the ear decided": heard.detection,
        "  after its decision (below 0: no frame came)": heard.silence,
        "end of speech to first agent audio": heard.response,
    }
    goals = {"onset to last agent frame": "p99 < 100", "end of speech to first agent audio": "p99 < 20"}
    report.show_times(out, f"PCMU, {count} calls, callers interrupt it", "ms", measured, goals)
    out.print(f"{heard.frames} agent frames; {heard.own} measurements left out: the callers' own clock was late")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.sip")
    parser.add_argument("calls", type=int, nargs="?", default=MOST)
    parser.add_argument("--media", action="store_true", help="the media path alone")
    given = parser.parse_args()
    out = Console(highlight=False, width=max(140, Console().width))
    machine.pin(os.getpid(), machine.LOAD_CORE)
    for line in machine.describe():
        out.print(line)
    path: tuple[str, ServerOf] = ("media path", media_alone)
    if given.media:
        show_cost(out, given.calls, (path,))
        return
    show_cost(out, given.calls, (path, ("whole server", whole)))
    show_conversation(out, min(given.calls, TALKERS))


if __name__ == "__main__":
    main()
