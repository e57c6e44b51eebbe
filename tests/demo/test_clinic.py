"""The clinic over real HTTP, called as a flow's tools call it."""

import asyncio
import socket
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import uvicorn

from app.demo.clinic import DAYS, TIMES, Booking, Refused, appointments, book, clinic_app, seed
from app.ports import Fault, ToolFailed
from app.providers.http_tools import HttpTools
from flows.model import Argument, Flow, HttpCall, SlotType, Step, Texts, Tool, ToolEffect, Value

FLOW = Flow("f", 1, "s", {"s": Step("s")}, Texts(*["?"] * 7), allow_hosts=("{env.CLINIC_URL}",))
FIND_PATIENT = Tool(
    "find_patient",
    ToolEffect.read,
    http=HttpCall("GET", "{env.CLINIC_URL}/patients"),
    arguments=(Argument("dob", "dob", SlotType.date),),
    result=(("found", SlotType.yesno), ("patient_id", SlotType.string), ("first_name", SlotType.string)),
)
FIND_SLOT = Tool(
    "find_slot",
    ToolEffect.read,
    http=HttpCall("GET", "{env.CLINIC_URL}/slots"),
    result=(("found", SlotType.yesno), ("slot_id", SlotType.string), ("time", SlotType.string)),
)
BOOK = Tool(
    "book",
    ToolEffect.irreversible,
    http=HttpCall("POST", "{env.CLINIC_URL}/appointments"),
    result=(("booked", SlotType.yesno), ("reference", SlotType.string)),
)


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return tmp_path / "clinic.db"


@pytest.fixture
async def url(database: Path) -> AsyncIterator[str]:
    config = uvicorn.Config(clinic_app(database, latency_ms=1), log_level="warning", lifespan="off")
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        async with asyncio.TaskGroup() as group:
            group.create_task(server.serve(sockets=[listening]))
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
            server.should_exit = True


@pytest.fixture
async def tools(url: str) -> AsyncIterator[HttpTools]:
    made = HttpTools({"CLINIC_URL": url})
    yield made
    await made.stop()


async def test_a_booking_from_birth_date_to_reference(tools: HttpTools, database: Path) -> None:
    nobody = await tools.run(FLOW, FIND_PATIENT, {"dob": "1999-01-01"}, "")
    assert nobody == {"found": False, "patient_id": None, "first_name": None}
    patient = await tools.run(FLOW, FIND_PATIENT, {"dob": "1980-05-31"}, "")
    assert patient["found"] is True
    slot = await tools.run(FLOW, FIND_SLOT, {"day": "thursday", "part": "morning"}, "")
    assert slot["found"] is True
    wanted: dict[str, Value] = {"patient_id": patient["patient_id"], "slot_id": slot["slot_id"]}
    booked = await tools.run(FLOW, BOOK, wanted, "call:1")
    assert booked["booked"] is True
    assert await tools.run(FLOW, BOOK, wanted, "call:1") == booked
    (made,) = appointments(database)
    assert (made.reference, made.patient_id, made.slot_id) == (booked["reference"], *wanted.values())
    assert (made.day, made.part, made.time) == ("thursday", "morning", slot["time"])


async def test_a_slot_is_booked_once(tools: HttpTools, database: Path) -> None:
    wanted: dict[str, Value] = {"patient_id": "p1", "slot_id": "mon-mo-1"}
    await tools.run(FLOW, BOOK, wanted, "call:1")
    for key in ("call:2", ""):
        with pytest.raises(ToolFailed) as caught:
            await tools.run(FLOW, BOOK, wanted, key)
        assert caught.value.fault is Fault.rejected
    assert len(appointments(database)) == 1


async def test_a_day_fills_up(tools: HttpTools) -> None:
    for number, _ in enumerate(TIMES["morning"]):
        slot = await tools.run(FLOW, FIND_SLOT, {"day": "friday", "part": "morning"}, "")
        await tools.run(FLOW, BOOK, {"patient_id": "p1", "slot_id": slot["slot_id"]}, f"call:{number}")
    assert (await tools.run(FLOW, FIND_SLOT, {"day": "friday", "part": "morning"}, ""))["found"] is False
    assert (await tools.run(FLOW, FIND_SLOT, {"day": "friday", "part": "afternoon"}, ""))["found"] is True
    assert (await tools.run(FLOW, FIND_SLOT, {"day": "sunday", "part": "morning"}, ""))["found"] is False


async def test_each_days_first_time_can_be_told_from_the_next_days(tools: HttpTools) -> None:
    times = [(await tools.run(FLOW, FIND_SLOT, {"day": day, "part": "morning"}, ""))["time"] for day in DAYS]
    assert all(one != next_one for one, next_one in pairwise(times))


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "/patients", None, 422),
        ("GET", "/patients?dob=31.5.1980", None, 422),
        ("GET", "/patients?dob=1980-05-31' OR 1=1", None, 422),
        ("GET", "/slots?day=someday&part=morning", None, 422),
        ("GET", "/slots?day=monday&part=night", None, 422),
        ("POST", "/appointments", {}, 422),
        ("POST", "/appointments", {"patient_id": "p1", "slot_id": "x" * 50}, 422),
        ("POST", "/appointments", {"patient_id": "p1", "slot_id": "mon-mo-1", "more": 1}, 422),
        ("POST", "/appointments", {"patient_id": "p1", "slot_id": "nope"}, 404),
        ("POST", "/appointments", {"patient_id": "nope", "slot_id": "mon-mo-1"}, 404),
        ("GET", "/nothing", None, 404),
    ],
)
async def test_bad_input(url: str, database: Path, method: str, path: str, body: Any, status: int) -> None:
    async with aiohttp.ClientSession() as session, session.request(method, url + path, json=body) as response:
        assert response.status == status
    assert appointments(database) == []


def test_one_key_is_for_one_request(database: Path) -> None:
    seed(database)
    book(database, Booking(patient_id="p1", slot_id="mon-mo-1"), "k")
    with pytest.raises(Refused) as caught:
        book(database, Booking(patient_id="p1", slot_id="mon-mo-2"), "k")
    assert caught.value.status == 422


def test_a_second_start_keeps_what_is_booked(database: Path) -> None:
    seed(database)
    book(database, Booking(patient_id="p1", slot_id="mon-mo-1"), "k")
    seed(database)
    assert len(appointments(database)) == 1


def test_a_race_has_one_winner(database: Path) -> None:
    seed(database)

    def try_it(number: int) -> bool:
        try:
            return bool(book(database, Booking(patient_id="p1", slot_id="tue-af-2"), f"k{number}")["booked"])
        except Refused:
            return False

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(try_it, range(24))) == 1
    assert len(appointments(database)) == 1
