"""`voicegate dial`: a server for one call, told in the terminal as it goes."""

import asyncio
from collections.abc import Mapping

from app import main as house
from app.core import timeline
from app.dialler.outcome import Outcome
from app.runtime.actor import Seen
from app.runtime.outbound import Order
from app.screen import Screen, print_entry
from app.settings import Settings
from flows.model import Flow


async def dial(
    settings: Settings, flows: Mapping[str, Flow], environment: Mapping[str, str], order: Order, screen: Screen
) -> tuple[str, Outcome]:
    """The call's id and what came of it. Raises what `Voicegate.run` does, and `NotPlaced`."""
    story = timeline.Timeline()

    def watch(seen: Seen) -> None:
        for entry in story.tell(seen.ms, seen.event, seen.effects, sealed=seen.sealed):
            print_entry(screen, entry)

    server = house.Voicegate(settings, flows, environment, watch=watch)
    ready = asyncio.Event()
    running = asyncio.current_task()
    assert running is not None

    async def place() -> tuple[str, Outcome]:
        await ready.wait()
        try:
            assert server.outbound is not None
            underway = await server.outbound.place(order)
            return underway.call, (await underway.over()).outcome
        finally:
            server.stop()

    try:
        async with asyncio.TaskGroup() as group:
            placed = group.create_task(place())
            group.create_task(server.run(lambda _: ready.set()))
    except BaseExceptionGroup as error:
        raise error.exceptions[0] from None
    return placed.result()
