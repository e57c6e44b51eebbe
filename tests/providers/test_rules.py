"""The engine without a model: what it hands to the parser, and what it makes of the answer."""

from typing import Any

from app.core.events import ToolRequest
from app.core.request import Request
from app.ports import Calls, Part, Proposal
from app.providers.rules import RulesLlm
from flows.model import Flow, Slot, SlotType, Step, Texts

FLOW = Flow(
    "f", 1, "s", {"s": Step("s"), "faq": Step("faq", phrases=("what are your opening hours",))}, Texts(*["?"] * 7)
)


async def reply(words: str, **more: Any) -> list[Part]:
    base: dict[str, Any] = {
        "flow": FLOW,
        "engine": "rules",
        "system": "",
        "messages": (),
        "tools": (),
        "slots": (Slot("day", SlotType.weekday), Slot("sure", SlotType.yesno)),
        "digressions": ("repeat", "faq"),
        "words": words,
    }
    return [part async for part in RulesLlm().reply(Request(**base | more))]


async def test_values_are_proposed_with_the_words_as_evidence() -> None:
    said = "on thursday please"
    assert await reply(said, asked="day") == [Proposal({"day": "thursday"}, "", said)]


async def test_yes_answers_an_open_question_and_nothing_else() -> None:
    assert await reply("yes", yesno=True) == [Proposal({}, "yes", "yes")]
    assert await reply("no", yesno=True) == [Proposal({}, "no", "no")]
    assert await reply("yes") == []
    assert await reply("yes", asked="sure") == [Proposal({"sure": True}, "", "yes")]


async def test_digressions_by_their_phrases() -> None:
    said = "what are your opening hours"
    assert await reply(said) == [Proposal({}, "faq", said)]
    assert await reply(said, digressions=()) == []


async def test_what_is_not_understood_is_not_proposed() -> None:
    assert await reply("purple elephants") == []
    assert await reply("") == []


async def test_only_the_first_ready_tool_is_asked_for() -> None:
    assert await reply("", ready=("find", "book")) == [Calls((ToolRequest("rules-find", "find"),))]
    parts = await reply("thursday", ready=("find",))
    assert [type(part) for part in parts] == [Proposal, Calls]
