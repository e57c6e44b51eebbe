"""What it costs the event loop to set a call up, over each transport: `python -m tests.bench.setup [CALLS]`.

One call after another to a server that has nothing else to do. The server's own clock notes at each tick what its
loop's thread has used; what a set-up costs is what is used around the call's beginning, less what ticks cost anyway.
"""

import asyncio
import itertools
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

import uvloop
from rich.console import Console

from app.load import scenario
from app.load.calls import run_calls
from app.load.dial import Dial, open_lines
from app.load.sounds import Sounds
from tests.bench import machine, report
from tests.bench.server import Server, running

TICKS: Final = "BENCH_TICKS"
SIP_PORT: Final = 5098
CALLS: Final = 50
PER_S: Final = 0.5
CALL_MS: Final = 600
BEFORE_TICKS: Final = 3  # the connection comes before the call
AFTER_TICKS: Final = 20  # ICE, DTLS and the data channel take some of them
SCENARIO: Final = f"{{scenario: short, about: Hangs up soon., steps: [wait: {{ms: {CALL_MS}}}, hang_up: {{}}]}}\n"
QUIET: Final = {"VOICEGATE_LLM_FIRST_TOKEN_MS": "700", "VOICEGATE_SIP_PORT": str(SIP_PORT)}
"""The agent says nothing meanwhile."""

Ticks = list[tuple[float, int]]
"""CPU milliseconds of the loop's thread so far, and live calls."""


def serve() -> None:
    """The real server, which writes its ticks as it ends."""
    from app import cli
    from app.main import Voicegate

    ticks: Ticks = []
    ticked = Voicegate._ticked

    def note(self: Voicegate, now_ms: float, lag_ms: float) -> None:
        ticked(self, now_ms, lag_ms)
        ticks.append((time.thread_time() * 1000, len(self.registry)))

    setattr(Voicegate, "_ticked", note)  # noqa: B010
    try:
        cli.main()
    finally:
        Path(os.environ[TICKS]).write_text(json.dumps(ticks))


def costs_ms(ticks: Ticks) -> list[float]:
    """Of each call but the first ones, which load what is loaded once."""
    used = [after[0] - before[0] for before, after in itertools.pairwise(ticks)]
    live = [calls for _, calls in ticks[1:]]
    idle_ms = statistics.median(each for each, calls in zip(used, live, strict=True) if not calls)
    found = []
    for at in range(BEFORE_TICKS, len(used) - AFTER_TICKS):
        if live[at] and not live[at - 1] and all(live[at : at + AFTER_TICKS]):
            before, after = used[at - BEFORE_TICKS : at], used[at : at + AFTER_TICKS]
            found.append(sum(before) + sum(after) - len(before) * idle_ms - len(after) * statistics.median(after))
    return found[3:]


async def play(server: Server, address: str, count: int, folder: Path) -> None:
    file = folder / "short.yaml"
    file.write_text(SCENARIO)
    async with open_lines(Dial(address)) as lines, Sounds() as sounds:
        await run_calls(lines, [scenario.load(file)], count, PER_S, 0.1, sounds=sounds)
        await asyncio.sleep(1)


def bench(out: Console, count: int) -> None:
    machine.pin(os.getpid(), machine.LOAD_CORE)
    for line in machine.describe():
        out.print(line)
    rows = {}
    for name, path in {"plain": "/ws/audio", "Twilio": "/ws/twilio", "SIP": "", "WebRTC": "/webrtc"}.items():
        with tempfile.TemporaryDirectory(prefix="voicegate-bench-") as folder:
            ticks = Path(folder) / "ticks.json"
            with running((sys.executable, "-m", "tests.bench.setup"), {TICKS: str(ticks), **QUIET}) as server:
                scheme = "http" if name == "WebRTC" else "ws"
                address = f"{scheme}://{server.host}:{server.port}{path}" if path else f"sip:127.0.0.1:{SIP_PORT}"
                uvloop.run(play(server, address, count, Path(folder)))
            rows[name] = costs_ms(json.loads(ticks.read_text()))
    report.show_times(out, "Setting a call up, CPU of the event loop's thread", "ms", rows, dict.fromkeys(rows, "< 2"))


if __name__ == "__main__":
    os.chdir(Path(__file__).parents[2])
    if sys.argv[1:2] == ["serve"]:
        serve()
    else:
        bench(Console(highlight=False, width=120), int(sys.argv[1]) if len(sys.argv) > 1 else CALLS)
