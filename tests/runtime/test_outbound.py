"""Orders to call that wait for the guard's file when the server stops."""

import asyncio
import threading
from typing import cast

from app.dialler.guard import Guard, Permit
from app.runtime.outbound import NotPlaced, Order, Outbound
from app.runtime.switchboard import Switchboard
from media.gateway import Dialler
from tests.support.processes import until

PATIENCE_S = 20


class Locked:
    """A guard whose file answers once somebody opens it."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.opened = threading.Event()

    def admit(self, to: str, now_s: float) -> Permit:
        self.asked.append(to)
        self.opened.wait(PATIENCE_S)
        return cast(Permit, None)


async def end(outbound: Outbound, to: str) -> str:
    """Of an order: the rule by which it was not placed."""
    try:
        await outbound.place(Order(to=to, flow="talk"))
    except NotPlaced as error:
        return error.rule
    except asyncio.CancelledError:
        return "never asked"
    return ""


async def test_a_server_that_stops_asks_for_no_order_any_more_and_places_none() -> None:
    guard = Locked()
    outbound = Outbound(cast(Switchboard, None), cast(Guard, guard), cast(Dialler, None))
    async with asyncio.TaskGroup() as group:
        running = group.create_task(outbound.run())
        await asyncio.sleep(0)
        orders = [group.create_task(end(outbound, to)) for to in ("first", "second", "third")]
        await until(lambda: bool(guard.asked))
        outbound.stop()
        await running
        guard.opened.set()
    assert [order.result() for order in orders] == ["stopping", "never asked", "never asked"]
    assert guard.asked == ["first"]
