"""Replay also tells whether the call record is the one that the journal tells."""

from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from app.core import cdr
from app.core.cdr import Cdr, CdrError
from app.core.core import CallCore
from app.core.effects import AnyEffect
from app.core.events import AnyEvent
from app.ports import Journal
from app.providers.scripted import ScriptedStt
from app.runtime.replay import Divergence, ReplayError, replay
from tests.support.house import FakeTools, House
from tests.support.shop import shop
from tests.support.virtual import run

ANSWERS = {"find_customer": {"found": True, "customer": "k7"}, "stock": {}}


@pytest.fixture(scope="module")
def journal() -> Journal:
    """A call whose caller hung up."""

    async def story() -> None:
        house = House(shop(), stt=ScriptedStt(["tea", "yes"], final_ms=60), tools=FakeTools(ANSWERS))
        async with house.open():
            caller = await house.call()
            await caller.converse(2)
            await caller.quiet()
            caller.hang_up()
        made.append(house.store.load(caller.actor.call))

    made: list[Journal] = []
    run(story())
    return made[0]


def with_record(journal: Journal, **change: Any) -> Journal:
    assert journal.row.cdr is not None
    record = msgspec.json.encode(replace(cdr.read(journal.row.cdr), **change))
    return replace(journal, row=replace(journal.row, cdr=record))


def cut(journal: Journal, left: int) -> Journal:
    return replace(journal, records=journal.records[:left], row=replace(journal.row, records=left))


def test_a_finished_call_has_the_record_that_its_journal_tells(journal: Journal) -> None:
    assert len(list(replay(journal))) == journal.row.records


@pytest.mark.parametrize(
    ("name", "value"),
    [("outcome", "sold"), ("cause", "flow"), ("caller", "x"), ("turns", 9), ("slots", {}), ("tools", ())],
)
def test_what_differs_is_named(journal: Journal, name: str, value: object) -> None:
    with pytest.raises(Divergence, match=f"the call record differs .*: {name}$"):
        list(replay(with_record(journal, **{name: value})))


def test_a_journal_that_was_cut_does_not_tell_the_end(journal: Journal) -> None:
    for left in range(journal.row.records):
        with pytest.raises(Divergence, match="the call record differs"):
            list(replay(cut(journal, left)))


def test_the_record_of_a_journal_that_could_not_go_on_is_not_compared(journal: Journal) -> None:
    """A full store loses records and not the call's record, whose cause is an internal error."""
    lost = with_record(cut(journal, 9), cause="internal-error", outcome="internal-error")
    assert len(list(replay(lost))) == 9
    whole = with_record(journal, cause="internal-error", outcome="internal-error")
    with pytest.raises(Divergence, match="cause, outcome"):
        list(replay(whole))


def test_a_fact_that_the_core_cannot_take_in_is_a_divergence(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    healthy = CallCore.handle

    def handle(core: CallCore, event: AnyEvent, now_ms: int) -> list[AnyEffect]:
        if now_ms == journal.records[8].ms:
            raise KeyError("nowhere")
        return healthy(core, event, now_ms)

    monkeypatch.setattr(CallCore, "handle", handle)
    with pytest.raises(Divergence, match=r"record \d \(\w+ at \d+ ms\): it cannot have been so: KeyError"):
        list(replay(journal))


@pytest.mark.parametrize("record", [b"", b"\xff", b"{", b"[]", b"{}", b'{"call":1}', b"[" * 100_000])
def test_a_call_record_that_cannot_be_read(journal: Journal, record: bytes) -> None:
    with pytest.raises(ReplayError, match="the call record is damaged"):
        list(replay(replace(journal, row=replace(journal.row, cdr=record))))


def test_a_call_record_with_more_in_it_is_none(journal: Journal) -> None:
    assert journal.row.cdr is not None
    with pytest.raises(CdrError):
        cdr.read(journal.row.cdr[:-1] + b',"note":"x"}')
    assert isinstance(cdr.read(journal.row.cdr), Cdr)
