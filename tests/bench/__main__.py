"""`make bench`: how many calls a core bears, and where in the server their time goes. Printed, never asserted.

First the density table, by the load tester. Then what only callers with an ear like the server's can tell: how much of
an interruption and of a response is the ear's, the declared services' and our own.
"""

import argparse
import asyncio
import gc
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import uvloop
from rich.console import Console

from tests.bench import decisions, density, report, timed_server, voices
from tests.bench.caller import DECLARED_MS, Heard
from tests.bench.dialect import Plain, Twilio
from tests.bench.load import Spoken, calls
from tests.bench.server import ENDPOINT_MS, LLM_FIRST_MS, TTS_FIRST_MS, Server, running
from tests.bench.voices import Voices

SETTLE_S: Final = 2.0
TALKERS: Final = 50
PROTOCOLS: Final[dict[Spoken, str]] = {Plain: "plain, 16 kHz", Twilio: "Twilio, 8 kHz"}


@dataclass(frozen=True, slots=True)
class Plan:
    quick: bool
    conversation_s: float
    core_rounds: int


FULL: Final = Plan(quick=False, conversation_s=30, core_rounds=200)
QUICK: Final = Plan(quick=True, conversation_s=4, core_rounds=50)


def conversation(spoken: Spoken, recorded: Voices, seconds: float) -> tuple[Heard, list[float]]:
    """What callers heard, and milliseconds inside the server from the onset's fact to the playout held."""

    async def load(server: Server) -> Heard:
        async with calls(server, spoken, recorded, TALKERS, interrupts=True) as load:
            await asyncio.sleep(SETTLE_S)
            heard = load.fresh()
            await asyncio.sleep(seconds)
            return heard

    with tempfile.TemporaryDirectory(prefix="voicegate-bench-") as folder:
        times = Path(folder) / "times.json"
        program = (sys.executable, "-m", timed_server.__name__)
        with running(program, {timed_server.TIMES: str(times)}) as server:
            heard = uvloop.run(load(server))
        return heard, [each / 1000 for each in json.loads(times.read_text())]


def show_conversation(out: Console, protocol: str, heard: Heard, inside_ms: Sequence[float]) -> None:
    barge_in, inside, response = (
        "onset to last agent frame",
        "  inside the server: decision to silence",
        "end of speech to first agent audio",
    )
    measured = {
        barge_in: heard.barge_in,
        "  of it: until the ear decided": heard.detection,
        "  after its decision (below 0: no frame came)": heard.silence,
        inside: inside_ms,
        response: heard.response,
    }
    goals = {barge_in: "p99 < 100", inside: "< 10", response: "p99 < 20"}
    report.show_times(out, f"{protocol}: {TALKERS} calls, callers interrupt the agent", "ms", measured, goals)
    out.print(_counts(heard))
    out.print()


def explain(out: Console) -> None:
    out.print(
        "Times are the caller's: from a frame's sending to a frame's arrival. Onset: an utterance's first frame above"
        f" -40 dBFS. End of speech: the frame at which the ear makes the offset; from that time {DECLARED_MS} ms are"
        f" taken off, which are declared: the step's endpoint of {ENDPOINT_MS} ms (the recogniser's time lies within"
        f" it), the model's first word after {LLM_FIRST_MS} ms and the voice's first sound after {TTS_FIRST_MS} ms."
        " Late: a peer without any buffer would have heard a gap.\n",
        style="dim",
    )


def _counts(heard: Heard) -> str:
    text = (
        f"{heard.frames} agent frames, {heard.late} late; {heard.resumed} utterances not taken for a voice,"
        f" {heard.unheard} not heard; {heard.own} measurements left out: the callers' clock itself was late"
    )
    return text + (f"; errors: {heard.errors[:3]}" if heard.errors else "")


def show_core(out: Console, rounds: int) -> None:
    times = decisions.time_core(rounds)
    everything = [each for some in times.values() for each in some]
    rows = {"all facts": everything} | dict(sorted(times.items()))
    report.show_times(out, "core.handle, a whole clinic call", "us", rows, {"all facts": "median < 20"})


def bench(out: Console, plan: Plan) -> None:
    density.begin(out)
    density.bench(out, list(density.CASES.values()), quick=plan.quick)
    recorded = {spoken: voices.record(spoken.rate_hz, ulaw=spoken.ulaw) for spoken in PROTOCOLS}
    gc.collect()
    gc.freeze()
    for spoken, sounds in recorded.items():
        show_conversation(out, PROTOCOLS[spoken], *conversation(spoken, sounds, plan.conversation_s))
    explain(out)
    show_core(out, plan.core_rounds)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a quarter of the calls, and shorter: a good minute")
    given = parser.parse_args(arguments)
    bench(Console(highlight=False, width=max(120, Console().width)), QUICK if given.quick else FULL)


if __name__ == "__main__":
    main()
