"""What becomes of calls whose server died: their record is told from their journal, as honestly as it can be."""

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from app.core.codec import CORE_VERSION, CallHeader, Record, link
from app.ports import Begin, CallRow, Journal, NoSuchCall, StoreError
from app.providers.scripted import ScriptedStt
from app.runtime.aftermath import close_dead_calls
from app.runtime.replay import replay
from app.store.memory import MemoryStore
from tests.support.house import FakeTools, House
from tests.support.shop import shop
from tests.support.virtual import run

ANSWERS = {"find_customer": {"found": True, "customer": "k7"}, "stock": {}, "order": {"reference": "r1"}}


class Damaged(MemoryStore):
    """Loads what it kept, changed by `change`."""

    change: Any = staticmethod(lambda journal: journal)

    def load(self, call: str, after: int = 0) -> Journal:
        journal: Journal = self.change(super().load(call, after))
        return journal


def died(store: MemoryStore, *, tools: FakeTools | None = None, orders: bool = True) -> dict[str, Any]:
    """The record of a call that was as far as an order under way when its server died."""

    async def story() -> None:
        said = ScriptedStt(["tea", "yes", "friday", "yes", "yes"], final_ms=60)
        house = House(shop(), stt=said, tools=tools or FakeTools(ANSWERS, takes_ms=900), store=store)
        async with house.open():
            caller = await house.call()
            await caller.converse(5 if orders else 1)
            assert close_dead_calls(store, lambda call: f"recordings/{call}.wav") == 1
            assert close_dead_calls(store, lambda call: "") == 0, "once is enough"
            found.append(store.calls()[0])
            if type(store) is MemoryStore:
                assert list(replay(store.load(found[0].header.call))), "its record is what its journal tells"
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


DAMAGE: dict[str, Callable[[Journal], Journal]] = {
    "key": lambda journal: replace(journal, key=b"short"),
    "no key": lambda journal: replace(journal, key=b""),
    "no flow": lambda journal: replace(journal, flow=b""),
    "count": lambda journal: replace(journal, row=replace(journal.row, records=-1)),
    "time": lambda journal: with_last(journal, ms=-1),
    "epoch": lambda journal: with_last(journal, epoch=2**40),
    "body": lambda journal: with_last(journal, body=b""),
    "years": lambda journal: rewritten(journal, ms=2**60),
}


def with_last(journal: Journal, **change: Any) -> Journal:
    return replace(journal, records=(*journal.records[:-1], replace(journal.records[-1], **change)))


def rewritten(journal: Journal, **change: Any) -> Journal:
    """By somebody who knows the chain."""
    *records, last = with_last(journal, **change).records
    chain = link(records[-1].chain, last.seq, last.epoch, last.ms, last.sealed, last.body, last.digest)
    return replace(journal, records=(*records, replace(last, chain=chain)))


@pytest.mark.parametrize("what", DAMAGE)
def test_whatever_is_damaged_leaves_a_record(what: str) -> None:
    store = Damaged()
    store.change = DAMAGE[what]
    record = died(store, orders=False)
    assert (record["cause"], record["flow"]) == ("server-died", "shop")


@pytest.mark.parametrize("error", [StoreError("unreadable"), NoSuchCall("no call")])
def test_a_call_that_cannot_be_read_keeps_no_other_from_its_record(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    def change(journal: Journal) -> Journal:
        if journal.row.header.call == "bad":
            raise error
        return journal

    store = Damaged()
    store.change = change
    for call in ("bad", "good"):
        store.commit([Begin(CallHeader(call, "shop", "h", CORE_VERSION, 1, "2030"), b"{}", bytes(32))])
    assert close_dead_calls(store, lambda call: "") == 1
    assert store.unfinished() == ["bad"]
    assert "call bad: it cannot be read" in caplog.text


def test_a_flow_that_cannot_be_read_any_more_leaves_a_record_still() -> None:
    store = Damaged()
    store.change = lambda journal: replace(journal, flow=b"{}")
    record = died(store, orders=False)
    assert (record["cause"], record["flow"], record["tools"]) == ("server-died", "shop", [])
