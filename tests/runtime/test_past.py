"""Calls on record, told once and kept; and the figures of their flows."""

import json

import msgspec
import pytest
from msgspec.structs import replace

from app.core import cdr
from app.core.cdr import Cdr, ToolLine
from app.core.codec import CORE_VERSION, CallHeader
from app.ports import CallRow, Journal
from app.runtime.board import past_row
from app.runtime.figures import ToolFigures, figures
from app.runtime.past import BLOCK, Packed, Past
from flows import load
from tests.journals.stories import STORIES
from tests.support.shop import shop

HEADER = CallHeader("c1", "shop", load.flow_hash(shop()), CORE_VERSION, 1, "2030-01-01T10:00:00.000Z")


@pytest.mark.parametrize("count", [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK])
def test_what_is_packed_is_there_again(count: int) -> None:
    texts = [json.dumps({"n": n, "text": "x" * (n % 7)}).encode() for n in range(count)]
    packed = Packed()
    for text in texts:
        packed.add(text)
    assert len(packed) == count
    for first in (0, 1, BLOCK - 1, BLOCK, count):
        for length in (0, 1, 2, BLOCK, 1 << 40):
            assert packed.part(first, first + length) == texts[first : first + length]


def test_neighbours_take_little_room() -> None:
    packed = Packed()
    for n in range(10 * BLOCK):
        packed.add(json.dumps({"n": n, "slots": ["the same as before"] * 20}).encode())
    assert sum(map(len, packed._blocks)) < 10 * BLOCK * 40


def journal(**fields: object) -> Journal:
    row = CallRow(HEADER, 0, None)
    return replace(Journal(row, load.flow_bytes(shop()), bytes(32), ()), **fields)


@pytest.mark.parametrize(
    ("kept", "problem"),
    [
        (journal(flow=b""), "its flow is missing"),
        (journal(flow=b"{}"), "its flow was changed"),
        (journal(key=b"short"), "its key is damaged"),
        (journal(row=CallRow(replace(HEADER, core_version=0), 0, None)), "core version 0"),
        (journal(row=CallRow(HEADER, 0, None, purged=True), key=b""), "it was purged"),
    ],
)
def test_what_cannot_be_told_says_why(kept: Journal, problem: str) -> None:
    past = Past(kept)
    past.extend(kept)
    assert problem in past.problem
    assert (past.seq, past.state(0), past.records(0, 9)) == (0, b"", [])
    assert past.picture().entries == []


def test_a_row_of_a_damaged_record_says_so() -> None:
    row = past_row(CallRow(HEADER, 4, b"{"))
    assert (row.state, row.trouble, row.trouble_text) == ("ended", 1, "its record is damaged")


def record(**fields: object) -> Cdr:
    driver = STORIES["ordered"]()
    return replace(cdr.build(driver.flow, driver.state), tools=(), **fields)


def test_figures_of_a_flow() -> None:
    lines = [
        ToolLine(1, "order", "done", ""),
        ToolLine(2, "order", "refused", "duplicate"),
        ToolLine(3, "order", "declined", ""),
        ToolLine(4, "order", "withdrawn", "rev"),
        ToolLine(5, "order", "failed", "once"),
        ToolLine(6, "order", "failed", "timeout"),
        ToolLine(7, "order", "unknown", "timeout"),
        ToolLine(8, "order", "held", ""),
        ToolLine(9, "made_up", "refused", "step"),
    ]
    calls = [
        replace(record(cause="flow", outcome="ordered", last_step="bye"), tools=tuple(lines)),
        record(cause="caller-hangup", outcome="hung-up", last_step="choose"),
        record(cause="silence", outcome="silence", last_step="choose"),
    ]
    told = figures(shop(), calls)
    assert told.calls == 3
    assert told.outcomes == {"ordered": 1, "hung-up": 1, "silence": 1}
    assert told.dropoff == {"choose": 2}
    assert told.tools["order"] == ToolFigures(8, 3, {"duplicate": 1, "confirm": 1, "rev": 1, "once": 1})
    assert told.tools["stock"] == ToolFigures()
    assert msgspec.json.decode(msgspec.json.encode(told))["steps"] == list(shop().steps)
