"""What becomes of calls whose server died: their record is told from their journal, as honestly as it can be."""

import asyncio
from typing import Any

import msgspec
from msgspec.structs import replace

from app.core.codec import Record
from app.ports import CallRow, Journal
from app.providers.scripted import ScriptedStt
from app.runtime.aftermath import close_dead_calls
from app.store.memory import MemoryStore
from tests.support.house import FakeTools, House
from tests.support.shop import shop
from tests.support.virtual import run

ANSWERS = {"find_customer": {"found": True, "customer": "k7"}, "stock": {}, "order": {"reference": "r1"}}


class Damaged(MemoryStore):
    """Loads what it kept, changed by `change`."""

    change: Any = staticmethod(lambda journal: journal)

    def load(self, call: str) -> Journal:
        journal: Journal = self.change(super().load(call))
        return journal


def died(store: MemoryStore, *, tools: FakeTools | None = None, orders: bool = True) -> dict[str, Any]:
    """The record of a call that was as far as an order under way when its server died."""

    async def story() -> None:
        said = ScriptedStt(["tea", "yes", "friday", "yes", "yes"], final_ms=60)
        house = House(shop(), stt=said, tools=tools or FakeTools(ANSWERS, takes_ms=900), store=store)
        async with house.open():
            caller = await house.call()
            await caller.quiet()
            await caller.key("1234")
            await caller.quiet()
            await caller.key("#")
            for _ in range(5 if orders else 1):
                await caller.quiet()
                await caller.speak()
            assert close_dead_calls(store, lambda call: f"recordings/{call}.wav") == 1
            assert close_dead_calls(store, lambda call: "") == 0, "once is enough"
            found.append(store.calls()[0])
            caller.hang_up()
            await asyncio.sleep(1)

    found: list[CallRow] = []
    run(story())
    row = found[0]
    assert row.cdr is not None
    assert row.recording == f"recordings/{row.header.call}.wav"
    return dict(msgspec.json.decode(row.cdr))


def test_a_tool_under_way_has_an_unknown_outcome() -> None:
    record = died(MemoryStore())
    assert (record["cause"], record["outcome"]) == ("server-died", "server-died")
    assert [(line["tool"], line["state"], line["reason"]) for line in record["tools"]][-1] == (
        "order",
        "unknown",
        "server-died",
    )


def test_a_damaged_journal_is_told_as_far_as_it_can_be_read() -> None:
    def cut(journal: Journal) -> Journal:
        records: list[Record] = list(journal.records)
        records[10] = replace(records[10], body=b"{}")
        return replace(journal, records=tuple(records))

    store = Damaged()
    store.change = cut
    record = died(store, orders=False)
    assert record["cause"] == "server-died"
    assert record["transport"] == "audio"


def test_a_flow_that_cannot_be_read_any_more_leaves_a_record_still() -> None:
    store = Damaged()
    store.change = lambda journal: replace(journal, flow=b"{}")
    record = died(store, orders=False)
    assert (record["cause"], record["flow"], record["tools"]) == ("server-died", "shop", [])
