"""`voicegate dial` and `dial-list`: a server for one call, or for a list of them, told in the terminal as it goes."""

import asyncio
import signal
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

from rich.markup import escape

from app import main as house
from app.api.dial import check_slots
from app.core import timeline
from app.dialler.outcome import Outcome, Placed
from app.dialler.plan import Dial, Options
from app.dialler.rows import Row
from app.dialler.run import ListRun, Summary
from app.runtime.actor import Seen
from app.runtime.outbound import NotPlaced, Order, Outbound
from app.screen import Screen, print_entry
from app.settings import Settings
from app.store import dials
from app.store.dials import DialStore
from flows.model import Flow


@asynccontextmanager
async def _serving(server: house.Voicegate) -> AsyncIterator[Outbound]:
    """Raises what `Voicegate.run` does, and what happens inside, by itself."""
    ready = asyncio.Event()
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(server.run(lambda _: ready.set()))
            await ready.wait()
            assert server.outbound is not None
            try:
                yield server.outbound
            finally:
                server.stop()
    except BaseExceptionGroup as error:
        raise error.exceptions[0] from None


async def dial(
    settings: Settings, flows: Mapping[str, Flow], environment: Mapping[str, str], order: Order, screen: Screen
) -> tuple[str, Outcome]:
    """The call's id and what came of it. Raises what `Voicegate.run` does, and `NotPlaced`."""
    story = timeline.Timeline()

    def watch(seen: Seen) -> None:
        for entry in story.tell(seen.ms, seen.event, seen.effects, sealed=seen.sealed):
            print_entry(screen, entry)

    async with _serving(house.Voicegate(settings, flows, environment, watch=watch)) as outbound:
        underway = await outbound.place(order)
        return underway.call, (await underway.over()).outcome


async def dial_list(
    settings: Settings,
    flows: Mapping[str, Flow],
    environment: Mapping[str, str],
    name: str,
    rows: Sequence[Row],
    options: Options,
    screen: Screen,
    *,
    detect: bool,
) -> Summary:
    """One line for each call. On SIGINT and SIGTERM live calls end first. Raises `ListTaken` and `StoreError`."""
    stop = asyncio.Event()
    flow = flows[options.flow]
    async with _serving(house.Voicegate(settings, flows, environment)) as outbound:

        async def place(order: Dial) -> Placed:
            given = {name: value for name, value in order.row.values.items() if name in flow.slots}
            try:
                check_slots(flow, given)
            except ValueError as error:
                screen.print(f"{order.row.key}: [red]{escape(str(error))}[/]")
                return Placed(Outcome.invalid)
            try:
                underway = await outbound.place(
                    Order(
                        to=order.row.to,
                        flow=order.flow,
                        by=name,
                        caller=order.caller_id,
                        answer_s=order.answer_timeout_s,
                        detect=detect,
                        slots=given,
                    )
                )
            except NotPlaced as error:
                screen.print(f"{order.row.key}: [red]not called[/] ({error.rule}): {escape(str(error))}")
                return error.placed
            placed = await underway.over()
            screen.print(f"{order.row.key}: {placed.outcome}, attempt {order.attempt}, call {underway.call}")
            return placed

        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop.set)
        try:
            async with _store(settings) as store:
                return await ListRun(name, rows, options, store, place, stop=stop).go()
        finally:
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.remove_signal_handler(number)


@asynccontextmanager
async def _store(settings: Settings) -> AsyncIterator[DialStore]:
    store = DialStore(settings.data_dir / dials.FILE_NAME)
    try:
        yield store
    finally:
        store.close()
