"""`voicegate chat`: a call by typing."""

import asyncio
import sys
import threading
from collections.abc import AsyncIterator
from concurrent.futures import CancelledError
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated, Final

import typer
from rich.markup import escape

from app.cli.terminal import Config, Demo, FlowName, clear_errors, out, settings_from, surroundings
from app.core.timeline import Timeline
from app.screen import print_entry

if TYPE_CHECKING:
    from app.runtime.actor import Seen

MAX_TYPED_CHARS: Final = 10_000


def chat(
    flow: FlowName,
    demo: Demo = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show steps, slots and verdicts too.")] = False,
    config: Config = None,
) -> None:
    """Talk to a flow by typing. Digits are keyed, /quit hangs up. Lines from a file wait for their turn."""
    from app.chat import chat as talk
    from app.served import load_flows

    with clear_errors():
        settings = settings_from(config, flows=[flow])
        served = next(iter(load_flows(settings).values()))

        def show(text: str) -> None:
            out.print(f"[bold green]agent[/]  {escape(text)}")

        story = Timeline()

        def watch(seen: "Seen") -> None:
            for entry in story.tell(seen.ms, seen.event, seen.effects, sealed=seen.sealed):
                if verbose and entry.kind not in ("agent", "caller", "floor"):
                    print_entry(out, entry)

        async def run() -> None:
            async with surroundings(demo=demo) as environment:
                actor = await talk(
                    settings,
                    served,
                    environment,
                    _typed(sys.stdin.fileno()),
                    show,
                    watch,
                    paced=not sys.stdin.isatty(),
                )
            assert actor.record is not None
            out.print(f"[dim]over: {actor.record.outcome} ({actor.record.cause})[/]")

        asyncio.run(run())


async def _typed(descriptor: int) -> AsyncIterator[str]:
    """Its lines. The reading thread is a daemon, since nothing can end its wait for a line that nobody types."""
    loop = asyncio.get_running_loop()
    lines: asyncio.Queue[str] = asyncio.Queue(maxsize=1)

    def read() -> None:
        # A file of its own: the interpreter cannot close sys.stdin while a thread waits in it.
        # The loop may end, and cancel what is put, at any line.
        with suppress(RuntimeError, CancelledError):
            with open(descriptor, encoding="utf-8", errors="replace", closefd=False) as typed:
                while line := typed.readline(MAX_TYPED_CHARS):
                    asyncio.run_coroutine_threadsafe(lines.put(line), loop).result()
            asyncio.run_coroutine_threadsafe(lines.put(""), loop).result()

    threading.Thread(target=read, daemon=True, name="typed").start()
    while line := await lines.get():
        yield line
