"""`python -m app.load.suite`: plays the suite and prints its figures."""

import argparse
import asyncio
from pathlib import Path

from rich.console import Console

from app.load.suite.moment import Half
from app.load.suite.play import CALLS, Outcome
from app.load.suite.run import run_suite, to_json
from app.load.suite.tell import show, show_faults


def main() -> None:
    parser = argparse.ArgumentParser("python -m app.load.suite", description=__doc__)
    parser.add_argument("--to", default="", help="a server that serves the suite's flows; default: one of its own")
    parser.add_argument("--half", choices=[str(half) for half in Half], help="default: both")
    parser.add_argument("--calls", type=int, default=CALLS, help=f"at once; default {CALLS}")
    parser.add_argument("--token", default="")
    parser.add_argument("--json", type=Path, help="write everything that was found there")
    parser.add_argument("--journal", type=Path, help="the folder in which the suite's own server keeps its data")
    given = parser.parse_args()
    out = Console(highlight=False)
    ended = 0

    def told(outcome: Outcome, of: int) -> None:
        nonlocal ended
        ended += 1
        if ended % 50 == 0 or ended == of:
            out.print(f"{ended} of {of}", style="dim")

    half = Half(given.half) if given.half else None
    outcomes = asyncio.run(
        run_suite(given.to, half=half, calls=given.calls, token=given.token, folder=given.journal, told=told)
    )
    show_faults(out, outcomes)
    show(out, outcomes)
    if given.json is not None:
        given.json.write_bytes(to_json(outcomes))


if __name__ == "__main__":
    main()
