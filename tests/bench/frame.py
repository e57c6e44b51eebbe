"""What each piece of a SIP leg's 20 ms frame costs, both ways: `python -m tests.bench.frame [CALLS] [CODEC]`.

One process, one thread, no clock: as many legs as asked take turns for ten seconds of their time, so that each finds
the caches as the others left them. The caller speaks 40 % of the time, the agent 45 %.
"""

import gc
import os
import socket
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import uvloop
from rich.console import Console
from rich.table import Table

from media.audio import FRAME_MS, Pcm
from media.codec import Codec, Pcma, Pcmu
from media.g722 import G722
from media.leg import CloseCode, Leg
from media.opus import Opus
from media.rtp import RtpSender
from media.rtp_audio import RtpAudio
from media.sip.port import MediaPort, Poll
from tests.bench import machine
from tests.bench.media_server import PERIOD_S, Agent, speech
from tests.bench.webrtc import AGENT_SHARE, frames

LOCALHOST: Final = "127.0.0.1"
CALLS: Final = 100
STAGGER: Final = 37  # frames that one caller is ahead of another
BEGIN_MS: Final = 100_000
CODECS: Final[dict[str, type[Codec]]] = {each.name: each for each in (Pcmu, Pcma, G722, Opus)}


class Stopwatch:
    """CPU time of pieces, in nanoseconds."""

    def __init__(self) -> None:
        self.spent_ns: dict[str, int] = {}
        self._since_ns = 0

    def begin(self) -> None:
        self._since_ns = time.thread_time_ns()

    def spent(self, piece: str) -> None:
        """On this piece, since `begin` or the piece before."""
        now_ns = time.thread_time_ns()
        self.spent_ns[piece] = self.spent_ns.get(piece, 0) + now_ns - self._since_ns
        self._since_ns = now_ns


class Quiet(Agent):
    """An agent that is made to talk by hand."""

    def __init__(self) -> None: ...


@dataclass(frozen=True, slots=True)
class _Ready:
    """A wire to nobody."""

    said: list[Pcm]
    stalled: bool = False

    def audio(self, frame: Pcm) -> None:
        self.said.append(frame)

    def mark(self, name: str) -> None: ...

    def clear(self) -> None: ...

    def caption(self, text: str) -> None: ...

    def tell(self, message: str) -> None: ...

    def end(self, cause: str, outcome: str) -> None: ...

    def close(self, code: CloseCode, reason: str) -> None: ...


class One:
    """One call and its telephone."""

    def __init__(self, make: Callable[[], Codec], number: int, poll: Poll) -> None:
        self.number = number
        codec = make()
        self.ticks = codec.clock_hz * FRAME_MS // 1000
        self.phone = RtpSender(number, 0, codec.clock_hz)
        self.far = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.far.bind((LOCALHOST, 0))
        self.far.setblocking(False)
        self.port = MediaPort(LOCALHOST, 0, 0, now_ms=lambda: BEGIN_MS, poll=poll)
        self.port.talk_to(LOCALHOST, self.far.getsockname()[1], 0, mux=True)
        self.came: list[bytes] = []
        self.heard: list[Pcm] = []
        self.sent: list[bytes] = []
        self.now_ms = BEGIN_MS
        self.audio = RtpAudio(
            codec,
            0,
            frozenset({101}),
            ssrc=1,
            cname="bench",
            heard=lambda pcm, now_ms: self.heard.append(pcm),
            digit=lambda key: None,
            transmit=self.sent.append,
            transmit_report=lambda packet: None,
            now_ms=lambda: self.now_ms,
            continuous=True,
            lock=True,
        )
        self.audio.start()
        self.wire = _Ready([])
        self.leg = Leg("l", "sip", codec.rate_hz, self.wire, Quiet(), peer_buffer_ms=60)

    def received(self, packet: bytes, arrived_ms: int) -> bool:
        self.came.append(packet)
        return True

    def talk(self, gen: int, sound: Pcm) -> None:
        playout = self.leg.playout
        playout.begin(gen)
        playout.push(gen, 0, sound)
        playout.end_sentence(gen, 0, 1)
        playout.finish(gen)


def frame(ones: Sequence[One], now_ms: int, packets: Sequence[bytes], watch: Stopwatch) -> None:
    """All calls' next one; each piece of it for all of them."""
    for one, packet in zip(ones, packets, strict=True):
        one.now_ms = now_ms
        one.far.sendto(packet, (LOCALHOST, one.port.port))
    watch.begin()
    for one in ones:
        one.port.read(now_ms)
    watch.spent("socket in: read it, whose it is, when it came")
    for one in ones:
        while one.came:
            one.audio.rtp(one.came.pop(0), now_ms)
    watch.spent("RTP in: parse it, its source, counts, into the jitter buffer")
    for one in ones:
        one.audio.hear(now_ms)
    watch.spent("out of the jitter buffer, decode, the level of the pauses")
    for one in ones:
        while one.heard:
            one.leg.receive(one.heard.pop(0), now_ms)
    watch.spent("ear: both voice detectors")
    for one in ones:
        one.leg.tick(now_ms)
    watch.spent("leg and playout")
    for one in ones:
        if one.wire.said:
            one.audio.say(one.wire.said.pop())
        one.audio.fill(now_ms)
    watch.spent("encode, RTP out")
    for one in ones:
        while one.sent:
            one.port.send(one.sent.pop(0))
    watch.spent("socket out")
    for one in ones:
        while True:
            try:
                one.far.recv(2048)
            except BlockingIOError:
                break


async def measure(make: Callable[[], Codec], payloads: Sequence[bytes], sound: Pcm, count: int) -> dict[str, float]:
    """Microseconds of one call's frame, by piece."""
    poll = Poll()
    ones = [One(make, number, poll) for number in range(count)]
    for one in ones:
        one.port.listen(one.received, lambda data: None)
    watch = Stopwatch()
    gc.collect()
    gc.freeze()
    ticks = len(payloads)
    for at in range(-10, ticks):
        if at == 0:
            watch = Stopwatch()
        for one in ones:
            if (at + STAGGER * one.number) % ticks == 0:
                one.talk(at + 100, sound)
        packets = []
        for one in ones:
            payload = payloads[(at + STAGGER * one.number + ticks // 2) % ticks]
            packets.append(one.phone.packet(payload or payloads[0], one.ticks))
        frame(ones, BEGIN_MS + at * FRAME_MS, packets, watch)
    for one in ones:
        one.port.close()
        one.far.close()
    return {piece: spent_ns / 1000 / ticks / count for piece, spent_ns in watch.spent_ns.items()}


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else CALLS
    codec = sys.argv[2] if len(sys.argv) > 2 else Pcmu.name
    out = Console(highlight=False, width=100)
    machine.pin(os.getpid(), machine.SERVER_CORE)
    for line in machine.describe()[:2]:
        out.print(line)
    table = Table(title=f"A 20 ms frame of {codec}, {count} calls", title_justify="left", box=None)
    table.add_column("piece", no_wrap=True)
    table.add_column("us", justify="right")
    make = CODECS[codec]
    sound = speech(make.rate_hz, PERIOD_S * AGENT_SHARE)
    pieces = uvloop.run(measure(make, frames(make()), sound, count))
    for piece, spent_us in pieces.items():
        table.add_row(piece, f"{spent_us:.1f}")
    table.add_row("all of them", f"{sum(pieces.values()):.1f}")
    out.print(table)


if __name__ == "__main__":
    main()
