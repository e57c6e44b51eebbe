"""The clinic with models over real HTTP: one that helps, and ones that do not. The appointment stands as it should."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from app.core.effects import Verdict
from app.core.events import ReplyFailed
from app.demo.backend import clinic_backend
from app.demo.clinic import Appointment, appointments
from app.providers.openai import OpenAiLlm
from tests.e2e.clients import dial
from tests.e2e.models import Body, Think, ThinkingServer, asks, cooperative, offered, said
from tests.e2e.server import Server, running
from tests.e2e.typist import HANGS_UP, Typist
from tests.fakes.openai_server import Cut, Stall, Status, call, chunk, end, words

DOB = ("1980-05-31", "31051980", "May 31st")


@dataclass
class Story:
    server: Server
    model: ThinkingServer
    typist: Typist
    call: str
    record: dict[str, Any]
    booked: list[Appointment]


async def story(folder: Path, think: Think, **answers: Any) -> Story:
    """One whole call with this model; its journal replays, and no model ever saw the date of birth."""
    database = folder / "clinic.sqlite"
    async with (
        ThinkingServer(think) as model,
        clinic_backend(database) as variables,
        running(folder / "var", environment=variables, model="openai:m", openai_base_url=model.base_url) as server,
        dial(server.ws("/ws/audio/clinic")) as caller,
    ):
        typist = Typist(caller, **answers)
        await typist.call()
        record = await server.over(caller.call)
        assert server.replayed(caller.call).phase == "ended"
        for body in model.bodies():
            assert not any(secret in str(body) for secret in DOB)
        return Story(server, model, typist, caller.call, record, appointments(database))


def stands_once(told: Story, day: str, part: str) -> None:
    assert [(one.day, one.part) for one in told.booked] == [(day, part)], told.record
    assert told.record["outcome"] == "booked"
    asked = [answer for question, answer in told.typist.said if question == "shall i book"]
    assert asked[-1] == "yes"


async def test_a_helpful_model_books_what_was_wanted(tmp_path: Path) -> None:
    told = await story(tmp_path, cooperative, which_day=["what are your opening hours", "tuesday"])
    stands_once(told, "tuesday", "morning")
    assert any("from eight in the morning" in text for text in told.typist.heard)
    assert told.record["model_failures"] == 0
    assert told.record["refused"] == 0
    assert told.record["input_tokens"] > 0
    assert [line["state"] for line in told.record["tools"]] == ["done", "done", "done"]
    verdicts = told.server.verdicts()
    assert ("book", "held", "confirm") in verdicts
    assert ("book", "started", "all") in verdicts
    for body in told.model.bodies():
        own = offered(body) - {"set_slots", "digress", "answer"}
        assert own in (set(), {"find_patient"}, {"find_slot"}, {"book"}), "only this step's tools exist"


async def test_a_change_of_mind_at_the_last_question(tmp_path: Path) -> None:
    told = await story(tmp_path, cooperative, shall_i_book=["no, make it thursday", "yes"])
    stands_once(told, "thursday", "morning")
    assert ("book", "withdrawn", "rev") in told.server.verdicts()


async def test_a_no_books_nothing(tmp_path: Path) -> None:
    told = await story(tmp_path, cooperative, shall_i_book="no", which_day=["tuesday", HANGS_UP])
    assert told.booked == []
    assert ("book", "refused", "confirm") in told.server.verdicts()


# Models that do harm


class Spiteful:
    """Tries each of its attacks once, in order, and between them is as helpful as can be."""

    def __init__(self, *attacks: Any) -> None:
        self._attacks = list(attacks)
        self._helps = False

    def __call__(self, body: Body) -> Sequence[Any]:
        self._helps = not self._helps
        if self._attacks and self._helps:
            attack = self._attacks.pop(0)
            return attack(body) if callable(attack) else attack  # type: ignore[no-any-return]
        return cooperative(body)


async def test_tools_that_the_step_does_not_have_are_refused_with_a_reason(tmp_path: Path) -> None:
    told = await story(
        tmp_path,
        Spiteful(
            asks("book"),
            asks("find_slot", day="monday", part="morning"),
            asks("transfer_money", amount=1_000_000),
            asks("book", patient_id="p2", slot_id="mon-mo-1"),
        ),
    )
    stands_once(told, "tuesday", "morning")
    refused = {(tool, rule) for tool, decision, rule in told.server.verdicts() if decision == "refused"}
    assert {("book", "step"), ("find_slot", "step"), ("transfer_money", "step")} <= refused
    assert told.booked[0].patient_id == "p1"
    assert told.record["refused"] >= 3
    outcomes = [str(body) for body in told.model.bodies()]
    assert any("refused: book is not available in step identify" in text for text in outcomes), "it is told why"


async def test_two_tools_at_once_act_once(tmp_path: Path) -> None:
    def greedy(body: Body) -> Sequence[Any]:
        if "book" in offered(body):
            return [*call(0, "a", "book", "{}"), *call(1, "b", "book", "{}"), *end("tool_calls")]
        return cooperative(body)

    told = await story(tmp_path, greedy)
    stands_once(told, "tuesday", "morning")
    assert {rule for tool, decision, rule in told.server.verdicts() if decision == "refused"} <= {
        "one-act",
        "duplicate",
    }


@pytest.mark.parametrize("answer", ["maybe", "mumble mumble"])
async def test_a_model_cannot_say_yes_for_the_caller(tmp_path: Path, answer: str) -> None:
    """Whatever the caller says to the last question, this model takes it for a yes."""

    def liar(body: Body) -> Sequence[Any]:
        if said(body) and "answer" in offered(body):
            return asks("answer", yes=True)
        if "book" in offered(body):
            return asks("book") if "refused" not in str(body["messages"][-1]) else asks("answer", yes=True)
        return cooperative(body)

    told = await story(tmp_path, liar, shall_i_book=answer)
    assert told.booked == []
    assert not [verdict for verdict in told.server.verdicts() if verdict[:2] == ("book", "started")]
    assert told.record["outcome"] == "referred"
    assert "only the caller's own words or key say yes" in {v.reason for v in told.server.orders(Verdict)}


async def test_values_that_nobody_said_are_read_back(tmp_path: Path) -> None:
    def inventor(body: Body) -> Sequence[Any]:
        if said(body) == "tuesday":
            return asks("set_slots", day="friday", slot_id="fri-af-1", patient_id="p2", colour="red")
        return cooperative(body)

    told = await story(tmp_path, inventor, is_that_right=["yes", "no, make it tuesday", "yes"])
    stands_once(told, "tuesday", "morning")
    assert told.booked[0].patient_id == "p1"


BROKEN: dict[str, list[Any]] = {
    "server errors": [Status(500)],
    "too many requests": [Status(429)],
    "an empty answer": [*end()],
    "a cut in the middle": [*words("I will now tell you a "), Cut()],
    "a stall in the middle": [*words("One moment "), Stall()],
    "no answer": [Stall()],
    "no JSON": [b"data: {hello\n\n"],
    "arguments that are no JSON": [*call(0, "c", "set_slots", '{"day": '), *end("tool_calls")],
    "arguments that are a list": [*call(0, "c", "find_patient", "[1]"), *end("tool_calls")],
    "a truncated answer": [*words("I will now "), *end("length")],
    "a filtered answer": [*end("content_filter")],
    "an endless answer": [chunk({"content": "and so on " * 500}), *end()],
}
KINDS = 4  # in one call


@pytest.mark.parametrize("first", range(0, len(BROKEN), KINDS))
async def test_where_the_model_fails_the_rules_finish_the_booking(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first: int
) -> None:
    """Each request fails in another way."""
    patience = OpenAiLlm.__init__.__kwdefaults__
    assert patience is not None
    monkeypatch.setitem(patience, "first_ms", 400)
    monkeypatch.setitem(patience, "gap_ms", 200)
    kinds = itertools.cycle(list(BROKEN)[first : first + KINDS])
    tried: list[str] = []

    def broken(body: Body) -> Sequence[Any]:
        tried.append(next(kinds))
        return BROKEN[tried[-1]]

    told = await story(tmp_path, broken)
    stands_once(told, "tuesday", "morning")
    assert len(set(tried)) == KINDS
    assert told.record["model_failures"] >= KINDS
    assert told.server.facts(ReplyFailed)
