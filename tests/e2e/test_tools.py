"""The clinic's tools over real HTTP, with a far side that misbehaves: no effect twice, and no outcome made up."""

from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import pytest

from app import chat as chat_room
from app.core.cdr import Cdr, ToolLine
from app.demo.clinic import appointments
from app.runtime.actor import Seen
from app.settings import Settings
from flows import load
from flows.model import Flow
from tests.e2e.clients import dial
from tests.e2e.far_side import (
    BROKEN_AFTER,
    CUT_AFTER,
    CUT_BEFORE,
    GARBAGE_AFTER,
    PASS,
    SLOW,
    TAKEN,
    TWICE,
    misbehaving,
)
from tests.e2e.server import running
from tests.e2e.typist import Typist

BOOKING = ("31051980", "#", "tuesday", "yes", "morning", "yes", "yes")


def clinic(*, idempotent: bool = True) -> str:
    """The shipped flow, less patient."""
    text = load.find("clinic").read_text().replace("timeout_s: 6", "timeout_s: 2")
    assert "timeout_s: 2" in text
    return (
        text
        if idempotent
        else text.replace("idempotent: true\n", "idempotent: false\n").replace(
            "timeout_s: 2\n    retry: 2", "timeout_s: 2"
        )
    )


async def typed(flow: Flow, variables: Mapping[str, str]) -> Cdr:
    """The whole call, typed: the same core, gate and tools, and no time spent on speech."""

    async def lines() -> AsyncIterator[str]:
        for line in BOOKING:
            yield line

    def watch(seen: Seen) -> None:
        pass

    actor = await chat_room.chat(Settings(), flow, variables, lines(), lambda text: None, watch, paced=True)
    assert actor.record is not None
    return actor.record


def booking(record: Cdr) -> ToolLine:
    (line,) = [line for line in record.tools if line.tool == "book"]
    return line


@pytest.mark.parametrize(
    ("acts", "outcome", "state", "stands"),
    [
        ([CUT_AFTER, PASS], "booked", "done", 1),
        ([CUT_BEFORE, PASS], "booked", "done", 1),
        ([BROKEN_AFTER, BROKEN_AFTER, PASS], "booked", "done", 1),
        ([TWICE], "booked", "done", 1),
        ([CUT_AFTER], "referred", "unknown", 1),
        ([CUT_BEFORE], "referred", "unknown", 0),
        ([SLOW], "referred", "unknown", 1),
        ([BROKEN_AFTER], "referred", "unknown", 1),
        ([GARBAGE_AFTER], "referred", "unknown", 1),
        ([TAKEN], "referred", "failed", 0),
        ([CUT_BEFORE, TAKEN], "referred", "unknown", 0),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, list) else "",
)
async def test_never_twice_and_never_made_up(
    tmp_path: Path, acts: list[str], outcome: str, state: str, stands: int
) -> None:
    database = tmp_path / "clinic.sqlite"
    async with misbehaving(database, appointments=acts) as (far, variables):
        record = await typed(load.loads(clinic(), "clinic"), variables)
    assert record.outcome == outcome
    assert booking(record).state == state
    assert len(appointments(database)) == stands
    assert set(far.keys("/appointments")) == {"clinic/book/p1:tue-mo-1"}, "one key for all tries"


@pytest.mark.parametrize("act", [CUT_AFTER, CUT_BEFORE, BROKEN_AFTER, SLOW])
async def test_what_is_not_idempotent_is_sent_once(tmp_path: Path, act: str) -> None:
    database = tmp_path / "clinic.sqlite"
    async with misbehaving(database, appointments=[act, PASS]) as (far, variables):
        record = await typed(load.loads(clinic(idempotent=False), "clinic"), variables)
    assert (record.outcome, booking(record).state) == ("referred", "unknown")
    assert len(far.keys("/appointments")) == 1
    assert len(appointments(database)) == (0 if act == CUT_BEFORE else 1)


async def test_reads_are_tried_again(tmp_path: Path) -> None:
    acts = {"patients": [CUT_BEFORE, BROKEN_AFTER, PASS], "slots": [CUT_AFTER, PASS]}
    async with misbehaving(tmp_path / "clinic.sqlite", **acts) as (far, variables):
        record = await typed(load.loads(clinic(), "clinic"), variables)
    assert record.outcome == "booked"
    assert [len(far.keys(path)) for path in ("/patients", "/slots", "/appointments")] == [3, 2, 1]


async def test_a_dead_backend_refers_the_caller(tmp_path: Path) -> None:
    record = await typed(load.loads(clinic(), "clinic"), {"FLOW_CLINIC_URL": "http://127.0.0.1:9"})
    assert record.outcome == "referred"
    assert [(line.tool, line.state, line.reason) for line in record.tools] == [("find_patient", "failed", "refused")]


async def test_a_private_address_needs_the_flows_leave(tmp_path: Path) -> None:
    text = clinic().replace('allow_hosts: ["{env.FLOW_CLINIC_URL}"]\n', "")
    async with misbehaving(tmp_path / "clinic.sqlite") as (far, variables):
        record = await typed(load.loads(text, "clinic"), variables)
    assert far.asked == []
    assert [(line.tool, line.state, line.reason) for line in record.tools] == [("find_patient", "failed", "forbidden")]


async def test_an_unknown_outcome_is_not_tried_by_the_next_call(tmp_path: Path) -> None:
    """The first call cannot know; the second one, for the same patient and hour, must not act on a guess."""
    database = tmp_path / "clinic.sqlite"
    flow = tmp_path / "clinic.yaml"
    flow.write_text(clinic(idempotent=False))
    records = []
    async with (
        misbehaving(database, appointments=[CUT_BEFORE, PASS]) as (far, variables),
        running(tmp_path / "var", flows=[flow], environment=variables) as server,
    ):
        for _ in range(2):
            async with dial(server.ws("/ws/audio/clinic")) as caller:
                await Typist(caller).call()
                records.append(await server.over(caller.call))
        assert ("book", "refused", "once") in server.verdicts()
    assert [record["outcome"] for record in records] == ["referred", "referred"]
    assert [record["tools"][-1]["state"] for record in records] == ["unknown", "failed"]
    assert len(far.keys("/appointments")) == 1
    assert appointments(database) == []
