"""Sensitive values: sealed in the journal, masked everywhere but in the caller's ear; and what a model gets to see."""

import msgspec
from msgspec.structs import replace

from app.core import cdr
from app.core.effects import Speak, StartReply
from app.core.events import (
    AnyEvent,
    Digit,
    ReplyEnded,
    Sentence,
    SlotsProposed,
    TextReceived,
    ToolEnded,
    ToolOutcome,
    Transcript,
)
from app.core.timeline import Entry, Timeline
from flows.model import SlotType
from tests.core.stories import (
    PIN,
    SPOKEN_PIN,
    choosing,
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
from tests.support.shop import shop


def sealed(driver: Driver, event: AnyEvent) -> bool:
    """Of this fact alone; the world answers afterwards."""
    driver.inspector.handle(event, driver.now_ms)
    return driver.core.sealed


def told(driver: Driver) -> str:
    """All that is told of a call to whoever watches or reads it later."""
    tell = Timeline().tell
    lines = [line.text for ms, event, effects in driver.log for line in tell(ms, event, effects, sealed=True)]
    record = msgspec.to_builtins(cdr.build(driver.flow, driver.state))
    return " ".join((*lines, str(record), str(driver.state.history)))


def test_the_caller_hears_it_and_nobody_else_reads_it() -> None:
    driver = greeted()
    driver.hear_all()
    driver.key(PIN)
    assert of(driver, Speak)[-1].text == f"I have {SPOKEN_PIN}. Is that right?"
    assert of(driver, Speak)[-1].private
    driver.hear_all()
    driver.key("#")
    assert "I have [withheld]. Is that right?" in texts(driver, "agent")
    assert "pin is now [withheld]." in texts(driver, "note")
    assert PIN not in told(driver)
    assert SPOKEN_PIN not in told(driver)


def test_a_sentence_cut_within_it_shows_none_of_it() -> None:
    driver = greeted()
    driver.hear_all()
    driver.key(PIN)
    driver.hear_until(0, len("I have 1 2"))
    driver.post(TextReceived("wait"))
    assert texts(driver, "agent")[-1] == "[withheld]"


def test_words_and_keys_are_sealed_while_it_is_collected() -> None:
    driver = greeted()
    driver.rules_engine = False
    for event in (Digit("1"), TextReceived("one two"), Transcript(1, "three")):
        assert sealed(driver, event)
    driver = choosing()
    driver.rules_engine = False
    for event in (Digit("1"), TextReceived("tea"), Transcript(1, "tea")):
        assert not sealed(driver, event)


def test_the_key_that_completes_or_confirms_it_is_sealed_too() -> None:
    driver = greeted()
    driver.hear_all()
    for key in PIN:
        assert sealed(driver, Digit(key))
    driver.hear_all()
    assert sealed(driver, Digit("#"))


def test_words_said_while_it_is_collected_are_withheld_from_the_history() -> None:
    driver = greeted()
    driver.hear_all()
    driver.say("one two three four")
    assert driver.state.slots["pin"].value == PIN
    assert texts(driver, "caller") == ["[withheld]"]


def test_no_model_interprets_them() -> None:
    driver = Driver(shop(use="scripted")).start()
    driver.post(ReplyEnded(driver.state.gen))
    driver.hear_all()
    driver.effects.clear()
    driver.say("one two three four")
    assert of(driver, StartReply)[0].engine == "rules"


def test_a_proposal_of_it_is_sealed_wherever_it_comes() -> None:
    driver = choosing()
    assert sealed(driver, SlotsProposed(1, {"pin": "9"}, "nine"))
    assert not sealed(driver, SlotsProposed(1, {"item": "tea"}, "tea"))


def test_words_that_held_it_unasked_are_taken_out_of_the_history() -> None:
    driver = choosing()
    driver.hear_all()
    driver.rules_engine = False
    driver.say("my code is 9 9 9 9")
    propose(driver, pin="9999")
    assert texts(driver, "caller") == ["[withheld]"]


def test_words_that_only_a_model_reads_it_from_are_taken_out_as_well() -> None:
    driver = choosing()
    driver.hear_all()
    driver.rules_engine = False
    driver.say("the year of the moon landing")
    assert texts(driver, "caller") == ["the year of the moon landing"]
    propose(driver, pin="1969")
    assert texts(driver, "caller") == ["[withheld]"]


def test_a_sensitive_tools_result_is_sealed_and_not_told() -> None:
    driver = greeted()
    driver.results["find_customer"] = {"found": True, "customer": "k7"}
    driver.hear_all()
    driver.key(PIN)
    driver.hear_all()
    driver.results.clear()
    driver.key("#")
    assert sealed(driver, ToolEnded(1, ToolOutcome.done, {"found": True, "customer": "k7"}))
    assert texts(driver, "tool") == ["done"]
    assert sealed(driver, ToolEnded(99, ToolOutcome.done, {"who": "knows"}))


def test_any_other_result_is_not() -> None:
    driver = working()
    driver.ask_tools(("look", {}))
    assert not sealed(driver, ToolEnded(1, ToolOutcome.done, {"price": 3}))
    assert texts(driver, "tool") == ["done; price=3"]


def test_the_timeline_withholds_what_is_sealed() -> None:
    events: list[AnyEvent] = [
        TextReceived(PIN),
        Transcript(1, PIN),
        SlotsProposed(1, {"pin": PIN}),
        ToolEnded(1, ToolOutcome.done, {"pin": PIN}),
    ]
    for event in events:
        (line,) = Timeline().tell(0, event, [], sealed=True)
        assert PIN not in line.text
        (line,) = Timeline().tell(0, event, [], sealed=False)
        assert PIN in line.text
    assert Timeline().tell(0, Digit("7"), [Speak(1, 0, PIN, private=True)], sealed=True) == [
        Entry(0, "caller", "key •"),
        Entry(0, "agent", "[withheld]", 1),
    ]


def test_the_record_holds_confirmed_values_and_no_sensitive_ones() -> None:
    driver = choosing()
    driver.hear_all()
    driver.say("tea")
    driver.hear_all()
    driver.say("yes")
    driver.hear_all()
    driver.say("monday")
    assert cdr.build(driver.flow, driver.state).slots == {"customer": "k7", "item": "tea"}


def test_repeating_it_keeps_it_private() -> None:
    flow = with_step(shop(), "identify", say="", prompt="")
    driver = greeted(replace(flow, texts=replace(flow.texts, rejected="Not {pin}.")))
    driver.hear_all()
    driver.key(PIN)
    driver.hear_all()
    driver.say("repeat that")
    assert all(order.private for order in of(driver, Speak) if SPOKEN_PIN in order.text)


# What a model gets to see


def test_a_request_holds_this_steps_tools_and_nothing_of_others() -> None:
    driver = working()
    request = driver.inspector.requests[driver.state.gen]
    assert [tool.name for tool in request.tools] == list(driver.flow.steps["work"].tools)
    assert "elsewhere" not in str((request.tools, request.system))
    jot = next(tool for tool in request.tools if tool.name == "jot")
    ship = next(tool for tool in request.tools if tool.name == "ship")
    assert [argument.name for argument in (*jot.arguments, *ship.arguments)] == ["text", "text"]


def test_it_sees_by_default_what_the_step_collects_and_its_tools_use() -> None:
    driver = working()
    propose(driver, day="friday")
    assert driver.state.step == "out"
    driver.hear_all()
    driver.key("#")
    request = driver.inspector.requests[driver.state.gen]
    assert request.known == {"day": "friday"}
    assert "tea" not in request.system
    assert "day = Friday" in request.system
    assert "size is missing" in request.system


def test_it_sees_what_the_step_declares() -> None:
    flow = with_step(workshop(), "work", sees=("day",))
    driver = working(flow)
    driver.post(TextReceived("and"))
    request = driver.inspector.requests[driver.state.gen]
    assert request.known == {}
    assert "tea" not in request.system
    assert "item is missing" not in request.system


def test_a_sensitive_value_reaches_no_request() -> None:
    flow = workshop()
    size = replace(flow.slots["size"], sensitive=True, type=SlotType.digits, max_digits=8)
    driver = working(with_step(replace(flow, slots={**flow.slots, "size": size}), "work", prompt="Say {size}."))
    propose(driver, size="4711")
    finish(driver)
    driver.key("#")
    request = driver.inspector.requests[driver.state.gen]
    assert "4711" not in str((request.system, request.messages, request.known))
    assert "4 7 1 1" not in str((request.system, request.messages, request.known))
    assert "Say [withheld]." in request.system
    assert request.known["size"] == "[withheld]"


def test_the_history_is_as_long_as_declared() -> None:
    driver = working(with_step(workshop(), "work", history=2))
    for words in ("one", "two", "three"):
        driver.post(TextReceived(words))
    request = driver.inspector.requests[driver.state.gen]
    assert [message.text for message in request.messages] == ["two", "three"]
    driver = working(with_step(workshop(), "work", history=0))
    driver.post(TextReceived("one"))
    assert driver.inspector.requests[driver.state.gen].messages == ()


def test_the_words_of_the_turn_are_told_apart() -> None:
    driver = working()
    driver.post(Sentence(driver.state.gen, 0, "Well."))
    finish(driver)
    driver.post(TextReceived("one"))
    assert driver.inspector.requests[driver.state.gen].words == "one"
    assert driver.inspector.requests[2].words == ""
