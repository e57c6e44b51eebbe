"""`make bench`: what the server costs and how fast it is, measured from outside. Printed, never asserted.

One server process on one core, its callers on another; each figure's definition stands where it is printed.
"""

import argparse
import asyncio
import gc
import json
import os
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import uvloop
from rich.console import Console

from tests.bench import decisions, machine, report, timed_server, voices
from tests.bench.caller import DECLARED_MS, Heard
from tests.bench.dialect import Plain, Twilio
from tests.bench.load import Load, Spoken, calls
from tests.bench.server import ENDPOINT_MS, LLM_FIRST_MS, TTS_FIRST_MS, Server, running
from tests.bench.voices import Voices

SETTLE_S = 2.0
TALKS = "the agent talks"
CONVERSES = "callers interrupt it"


@dataclass(frozen=True, slots=True)
class Plan:
    counts: tuple[int, ...]
    steady_s: float
    conversation_s: float
    decision_s: float
    core_rounds: int

    @property
    def most(self) -> int:
        return max(self.counts)


FULL = Plan((1, 10, 25, 50), 5, 30, 10, 200)
QUICK = Plan((50,), 4, 8, 4, 50)

PROTOCOLS: dict[Spoken, str] = {Plain: "plain, 16 kHz", Twilio: "Twilio, 8 kHz"}


async def steady(server: Server, spoken: Spoken, recorded: Voices, count: int, seconds: float) -> report.Steady:
    async with calls(server, spoken, recorded, count) as load:
        await asyncio.sleep(SETTLE_S)
        return await _window(load, server, spoken, count, TALKS, seconds, None)


async def conversation(server: Server, spoken: Spoken, recorded: Voices, count: int, seconds: float) -> report.Steady:
    async with calls(server, spoken, recorded, 1):  # what the first call of a process loads is not each call's
        await asyncio.sleep(SETTLE_S)
    await asyncio.sleep(1)
    empty_mb = machine.resident_mb(server.pid)
    async with calls(server, spoken, recorded, count, interrupts=True) as load:
        await asyncio.sleep(SETTLE_S)
        return await _window(load, server, spoken, count, CONVERSES, seconds, empty_mb)


async def _window(
    load: Load, server: Server, spoken: Spoken, count: int, talk: str, seconds: float, empty_mb: float | None
) -> report.Steady:
    heard, before = load.fresh(), machine.usage(server.pid)
    await asyncio.sleep(seconds)
    used, resident_mb = machine.usage(server.pid) - before, machine.resident_mb(server.pid)
    a_call_mb = (resident_mb - empty_mb) / count if empty_mb is not None else None
    return report.Steady(
        PROTOCOLS[spoken], count, talk, seconds, used.cpu_ms, used.waited_ms, heard, resident_mb, a_call_mb
    )


def decision_times_us(spoken: Spoken, recorded: Voices, count: int, seconds: float) -> list[float]:
    """Inside the server, under the same load: from the onset's fact to the playout held."""

    async def load(server: Server) -> None:
        async with calls(server, spoken, recorded, count, interrupts=True):
            await asyncio.sleep(SETTLE_S + seconds)

    with tempfile.TemporaryDirectory(prefix="voicegate-bench-") as folder:
        times = Path(folder) / "times.json"
        program = (sys.executable, "-m", timed_server.__name__)
        with running(program, {timed_server.TIMES: str(times)}) as server:
            uvloop.run(load(server))
        return [float(each) for each in json.loads(times.read_text())]


def show_conversation(out: Console, rows: Iterable[report.Steady]) -> None:
    for row in rows:
        heard = row.heard
        measured = {
            "onset to last agent frame": heard.barge_in,
            "  of it: until the ear decided": heard.detection,
            "  after its decision (below 0: no frame came)": heard.silence,
            "end of speech to first agent audio": heard.response,
        }
        goals = {"onset to last agent frame": "p99 < 100", "end of speech to first agent audio": "p99 < 20"}
        report.show_times(out, f"{row.protocol}: {row.calls} calls, {row.talk}", "ms", measured, goals)
        out.print(_counts(heard))
        out.print()
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
    os.chdir(Path(__file__).parents[2])
    machine.pin(os.getpid(), machine.LOAD_CORE)
    alone = machine.prefer(os.getpid())
    for line in machine.describe():
        out.print(line)
    priority = "have real-time priority: other programs hardly delay them" if alone else "have no priority"
    out.print(f"server and callers {priority}; speech services are scripted\n")

    recorded = {spoken: voices.record(spoken.rate_hz, ulaw=spoken.ulaw) for spoken in PROTOCOLS}
    gc.collect()
    gc.freeze()
    costs: list[report.Steady] = []
    talks: list[report.Steady] = []
    for spoken, sounds in recorded.items():
        with running() as server:
            for count in plan.counts:
                costs.append(uvloop.run(steady(server, spoken, sounds, count, plan.steady_s)))
        with running() as server:
            talks.append(uvloop.run(conversation(server, spoken, sounds, plan.most, plan.conversation_s)))
    report.show_cost(out, [*costs, *talks])
    out.print(
        "promised: at most 5 ms of CPU a call-second and 1 MB a call. A call-second has 50 frames in; while the agent"
        " talks without a pause, 50 out. Interrupting callers do so every 3 s, more often than people.\n",
        style="dim",
    )
    show_conversation(out, talks)
    inside = {
        PROTOCOLS[spoken]: [us / 1000 for us in decision_times_us(spoken, sounds, plan.most, plan.decision_s)]
        for spoken, sounds in recorded.items()
    }
    goals = dict.fromkeys(inside, "< 10")
    report.show_times(out, f"Decision to silence, inside the server, {plan.most} calls", "ms", inside, goals)
    show_core(out, plan.core_rounds)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="shorter windows and 50 calls only: a minute")
    given = parser.parse_args(arguments)
    bench(Console(highlight=False, width=max(120, Console().width)), QUICK if given.quick else FULL)


if __name__ == "__main__":
    main()
