"""Values: read back before they count, corrected at any time, never asked twice; digressions and their return."""

import pytest
from msgspec.structs import replace

from app.core.effects import EndCall, GoTo, Speak
from app.core.events import (
    IntentProposed,
    PlayoutHeld,
    PlayoutStopped,
    ReplyEnded,
    Sentence,
    SlotsProposed,
    SpeechStarted,
    TextReceived,
    ToolEnded,
    ToolOutcome,
)
from tests.core.stories import (
    PIN,
    choosing,
    confirming,
    finish,
    greeted,
    of,
    propose,
    texts,
    with_step,
    working,
    workshop,
)
from tests.support.driver import Driver

READBACK = "I have tea. Is that right?"
HEARD_TEA = len("I have tea")


def test_a_value_is_read_back_and_counts_after_yes() -> None:
    driver = choosing()
    driver.hear_all()
    driver.say("tea")
    assert driver.hear_all() == READBACK
    driver.say("yes")
    held = driver.state.slots["item"]
    assert (held.value, held.confirmed, held.rev) == ("tea", True, 1)


@pytest.mark.parametrize(("chars", "counts"), [(HEARD_TEA, True), (HEARD_TEA - 1, False), (0, False)])
def test_yes_counts_only_if_the_value_was_heard(chars: int, counts: bool) -> None:
    driver = choosing()
    driver.hear_all()
    driver.say("tea")
    driver.hear_until(0, chars)
    driver.post(TextReceived("yes"))
    assert driver.state.slots["item"].confirmed is counts


def test_what_was_heard_before_a_hold_is_known_at_the_hold() -> None:
    driver = choosing()
    driver.hear_all()
    driver.say("tea")
    driver.hear_until(0, HEARD_TEA)
    driver.onset()
    assert driver.core.state.question is not None
    assert driver.core.state.question.heard


def test_a_spoken_yes_over_the_unheard_value_is_a_backchannel() -> None:
    driver = choosing()
    driver.hear_all()
    driver.say("tea")
    driver.hear_until(0, 3)
    driver.say("yes", speech_ms=300)
    assert driver.state.counts.turns == 1
    assert not driver.state.slots["item"].confirmed


@pytest.mark.parametrize("stale", [PlayoutHeld(1, 5, 0), PlayoutStopped(1, 5, 0, "done")])
def test_another_replys_playout_says_nothing_about_the_question(stale: PlayoutHeld | PlayoutStopped) -> None:
    driver = choosing()
    driver.hear_all()
    driver.say("tea")
    driver.post(stale)
    assert driver.state.question is not None
    assert not driver.state.question.heard


def test_no_asks_again() -> None:
    driver = choosing()
    driver.hear_all()
    driver.say("tea")
    driver.hear_all()
    driver.say("no")
    assert driver.state.slots["item"].value is None
    assert driver.state.slots["item"].rev == 2
    assert driver.hear_all() == "Tea or coffee?"


def test_the_same_value_again_is_a_yes_only_over_its_heard_read_back() -> None:
    driver = choosing()
    driver.hear_all()
    driver.say("tea")
    driver.hear_until(0, 2)
    driver.post(TextReceived("tea"))
    assert not driver.state.slots["item"].confirmed
    driver.hear_all()
    driver.say("tea")
    assert driver.state.slots["item"].confirmed


def test_what_a_model_repeats_is_no_yes() -> None:
    """It may set again what it sees in its prompt; only the caller's own words confirm."""
    driver = working()
    propose(driver, size=4)
    assert finish(driver) == "4?"
    driver.post(TextReceived("whatever you say"))
    assert driver.inspector.requests[driver.state.gen].engine == "main"
    propose(driver, size=4)
    assert not driver.state.slots["size"].confirmed
    assert finish(driver) == "4?"
    driver.say("4")
    assert driver.state.slots["size"].confirmed


def test_a_read_back_that_holds_its_values_words_elsewhere() -> None:
    """What counts is where the value stands, not where its letters come first."""
    flow = workshop()
    size = replace(flow.slots["size"], readback="Number 1 of 2: {value}?")
    driver = working(replace(flow, slots={**flow.slots, "size": size}))
    propose(driver, size=1)
    driver.post(ReplyEnded(driver.state.gen))
    driver.hear_until(0, len("Number 1"))
    driver.key("#")
    assert not driver.state.slots["size"].confirmed


def test_early_data_is_kept_and_not_asked_for() -> None:
    driver = choosing()
    driver.hear_all()
    driver.say("tea on monday")
    assert driver.hear_all() == READBACK
    driver.say("yes")
    assert driver.hear_all() == "I have Monday. Is that right?"


def test_a_correction_reopens_what_depended_on_it() -> None:
    driver = confirming()
    driver.hear_all()
    driver.say("no make it friday")
    assert driver.state.step == "choose"
    assert driver.state.slots["day"].value == "friday"
    assert not driver.state.slots["day"].confirmed
    assert ("order", "withdrawn", "rev") in driver.verdicts()
    assert "I have Friday. Is that right?" in driver.hear_all()
    driver.say("yes")
    assert driver.hear_all() == "Shall I order tea for Friday now?"


def test_a_corrected_argument_takes_its_derived_values_along() -> None:
    driver = choosing()
    assert driver.state.slots["customer"].value == "k7"
    driver.results.clear()
    driver.post(TextReceived("hm"))
    driver.rules_engine = False
    driver.post(TextReceived("my code is another"))
    propose(driver, pin="9999")
    assert driver.state.slots["customer"].value is None
    assert driver.state.step == "identify"


def test_values_are_typed_validated_and_never_derived_by_proposal() -> None:
    driver = choosing()
    driver.hear_all()
    driver.rules_engine = False
    driver.say("well")
    driver.post(SlotsProposed(driver.state.gen, {"item": "rum", "day": 7, "customer": "x", "nothing": 1}, ""))
    slots = driver.state.slots
    assert (slots["item"].value, slots["day"].value, slots["customer"].value) == (None, None, "k7")
    assert driver.state.attempts == 2
    assert texts(driver, "note")[-2:] == [
        "item was not accepted: not one of the choices",
        "day was not accepted: not a weekday",
    ]


def test_late_proposals_are_nothing() -> None:
    driver = choosing()
    driver.hear_all()
    driver.rules_engine = False
    driver.say("well")
    gen = driver.state.gen
    for late in (gen - 1, gen + 1):
        assert driver.post(SlotsProposed(late, {"item": "tea"}, "")) == []
        assert driver.post(IntentProposed(late, "hours")) == []
    assert driver.state.slots["item"].value is None
    assert driver.state.step == "choose"


def test_asked_to_repeat_it_says_its_words_and_its_question_again() -> None:
    driver = choosing()
    first = driver.hear_all()
    driver.say("can you repeat that")
    assert driver.hear_all() == first


# Digressions


def test_a_digression_returns_to_the_same_visit_and_asks_again() -> None:
    driver = choosing()
    driver.hear_all()
    visit = driver.state.visit
    driver.say("tea")
    driver.hear_all()
    driver.say("what are your opening hours")
    assert driver.hear_all() == f"We are open all day. {READBACK}"
    assert driver.state.visit == visit
    moves = [(move.step, move.why) for move in of(driver, GoTo)][-2:]
    assert moves == [("hours", "the caller asked"), ("choose", "back from a digression")]
    assert driver.state.last_visit == visit + 1


def test_a_digression_clears_the_question() -> None:
    driver = choosing()
    driver.hear_all()
    driver.say("tea")
    driver.hear_all()
    driver.rules_engine = False
    driver.post(TextReceived("opening hours"))
    driver.post(IntentProposed(driver.state.gen, "hours"))
    assert driver.state.question is None


def test_a_result_that_comes_during_a_digression_applies_on_return() -> None:
    driver = working()
    driver.ask_tools(("look", {}))
    visit = driver.state.visit
    driver.post(IntentProposed(driver.state.gen, "aside"))
    assert driver.state.step == "aside"
    driver.post(ToolEnded(1, ToolOutcome.done, {"price": 3}), 500)
    entry = driver.state.tools[1]
    assert entry.steers
    assert driver.state.slots["price"].value == 3
    driver.hear_all()
    driver.post(TextReceived("two"))
    propose(driver, size=2)
    finish(driver)
    driver.key("#")
    driver.post(Sentence(driver.state.gen, 0, "Good."))
    finish(driver)
    assert driver.state.visit == visit


def test_a_digression_does_not_wait_for_the_tools_of_the_visit_it_left() -> None:
    driver = greeted()
    driver.results.clear()
    driver.hear_all()
    driver.key(PIN)
    driver.hear_all()
    driver.key("#")
    visit = driver.state.visit
    driver.say("opening hours")
    driver.hear_all()
    assert driver.state.visit == visit
    assert driver.state.tools[1].state == "running"


def test_a_tool_that_fails_during_a_digression_matters_on_return() -> None:
    """The digression goes on; the step that asked for it gives up afterwards."""
    flow = with_step(workshop(), "work", model="rules", tools=("look",))
    flow = with_step(flow, "aside", model="rules", tools=())
    driver = Driver(flow).start()
    driver.say("tea")
    driver.say("by the way")
    assert (driver.started, driver.state.step) == ([("look", {"item": "tea"})], "aside")
    driver.post(ToolEnded(1, ToolOutcome.failed, reason="down"), 500)
    assert driver.state.step == "aside"
    driver.hear_all()
    driver.say("two")
    driver.hear_all()
    driver.say("yes")
    assert driver.state.step == "work"
    driver.hear_all()
    assert driver.over() == EndCall("gave-up", "gave-up")


def test_a_tool_held_in_the_visit_is_not_asked_about_in_a_digression() -> None:
    driver = working()
    driver.ask_tools(("ship", {"text": "Bonn"}))
    assert finish(driver) == "Ship tea to Bonn?"
    driver.post(TextReceived("by the way"))
    driver.post(IntentProposed(driver.state.gen, "aside"))
    driver.effects.clear()
    finish(driver)
    assert "Ship tea to Bonn?" not in driver.spoken()
    assert driver.state.step == "aside"


def test_a_question_of_the_digressions_own_is_answered_there() -> None:
    driver = working(with_step(workshop(), "aside", collect=(), tools=("ship",)))
    driver.results = {"ship": {}}
    driver.post(IntentProposed(driver.state.gen, "aside"))
    driver.hear_all()
    driver.ask_tools(("ship", {"text": "Bonn"}))
    assert finish(driver) == "By the way. Ship tea to Bonn?"
    assert driver.state.step == "aside"
    driver.key("#")
    assert driver.started == [("ship", {"item": "tea", "text": "Bonn"})]
    driver.post(Sentence(driver.state.gen, 0, "It is on its way."))
    finish(driver)
    assert driver.state.step == "work"


def test_an_end_is_no_digression() -> None:
    flow = with_step(workshop(), "aside", end="left", collect=())
    driver = working(flow)
    driver.post(IntentProposed(driver.state.gen, "aside"))
    assert driver.hear_all() == "By the way."
    assert driver.over() == EndCall("flow", "left")


def test_a_digression_forgets_what_it_declares() -> None:
    driver = working(with_step(workshop(), "aside", forget=("item",)))
    driver.post(IntentProposed(driver.state.gen, "aside"))
    assert driver.state.slots["item"].value is None


def test_another_digression_takes_the_place_of_the_first() -> None:
    driver = working()
    visit = driver.state.visit
    driver.post(IntentProposed(driver.state.gen, "aside"))
    driver.hear_all()
    driver.post(TextReceived("by the way"))
    driver.post(IntentProposed(driver.state.gen, "aside"))
    assert [frame.visit for frame in driver.state.suspended] == [visit]


def test_who_speaks_in_a_digression_is_not_left_behind() -> None:
    driver = choosing()
    driver.hear_all()
    driver.say("opening hours")
    driver.post(SpeechStarted(99), 100)
    assert not any(isinstance(effect, Speak) for effect in driver.log[-1][2])


def test_no_to_every_readback_does_not_go_on_for_ever() -> None:
    driver = choosing()
    driver.hear_all()
    for _ in range(driver.flow.steps["choose"].attempts):
        assert driver.state.step == "choose"
        driver.say("tea")
        driver.hear_all()
        driver.say("no")
        driver.hear_all()
    assert driver.state.step == driver.flow.give_up


def test_repeat_after_a_question_alone_is_that_question() -> None:
    driver = choosing()
    driver.hear_all()
    driver.say("tea")
    driver.hear_all()
    driver.say("yes")
    question = driver.hear_all()
    driver.say("repeat that please")
    assert driver.hear_all() == question
