"""Keys, silence, and the limits of a call."""

from msgspec.structs import replace

from app.core import turns
from app.core.effects import EndCall
from app.core.events import Digit, HangupOrdered, SpeechConfirmed, SpeechEnded, Tick, ToolEnded, ToolOutcome, Transcript
from app.core.state import Phase, ToolState
from flows.model import Slot, SlotType
from tests.core.stories import FOUND, PIN, choosing, confirming, greeted, of, propose, with_step, working, workshop
from tests.support.driver import alive
from tests.support.shop import shop


def test_a_key_interrupts_at_once() -> None:
    driver = greeted()
    driver.key("1")
    assert driver.state.counts.barge_ins == 1
    assert driver.state.reply is None


def test_a_complete_value_needs_no_hash() -> None:
    driver = greeted()
    driver.key(PIN)
    assert driver.state.slots["pin"].value == PIN
    assert driver.spoken()[-1] == "I have 1 2 3 4. Is that right?"


def test_a_pause_in_keying_ends_the_value() -> None:
    driver = greeted()
    driver.hear_all()
    driver.key("12")
    driver.wait(turns.KEYS_MS - 1)
    assert driver.state.floor.keys == "12"
    driver.wait(1)
    assert driver.state.floor.keys == ""
    assert driver.spoken()[-2:] == ["That does not look right.", "Key in your four digit code."]


def test_the_agent_waits_while_keys_come() -> None:
    driver = greeted()
    driver.key("1")
    spoken = len(driver.spoken())
    driver.wait(turns.KEYS_MS - 200)
    assert len(driver.spoken()) == spoken


def test_a_choice_has_its_key() -> None:
    driver = choosing()
    driver.key("2")
    assert driver.state.slots["item"].value == "coffee"


def test_a_wrong_key_is_rejected_and_asked_again() -> None:
    driver = choosing()
    driver.hear_all()
    driver.key("9")
    assert driver.hear_all() == "That does not look right. Tea or coffee?"
    assert driver.state.attempts == 1


def test_hash_and_star_answer_a_heard_question() -> None:
    driver = choosing()
    driver.key("1")
    driver.hear_all()
    driver.key("*")
    assert driver.state.slots["item"].value is None
    driver.key("2")
    driver.hear_all()
    driver.key("#")
    assert driver.state.slots["item"].confirmed


def test_a_yes_key_during_the_questions_tail_counts() -> None:
    """How much was heard is known when the playout has stopped, a moment after the key."""
    driver = choosing()
    driver.key("1")
    driver.hear_until(0, len("I have tea."))
    driver.key("#")
    assert driver.state.slots["item"].confirmed


def test_a_yes_key_before_the_value_was_heard_does_not_count() -> None:
    driver = choosing()
    driver.key("1")
    driver.hear_until(0, len("I have te"))
    driver.key("#")
    assert not driver.state.slots["item"].confirmed
    assert driver.spoken()[-1] == "I have tea. Is that right?"
    driver.hear_all()
    assert driver.state.floor.answer == ""
    assert not driver.state.slots["item"].confirmed


def test_other_digits_over_a_read_back_are_a_new_value() -> None:
    driver = choosing()
    driver.key("1")
    driver.hear_all()
    driver.key("2")
    assert driver.state.slots["item"].value == "coffee"
    assert not driver.state.slots["item"].confirmed


def test_keys_that_nobody_asked_for_do_nothing_but_ask_again() -> None:
    driver = confirming()
    driver.hear_all()
    driver.key("7")
    assert driver.spoken()[-1] == "Shall I order tea for Monday now?"
    assert not driver.state.floor.keys


def test_what_is_no_key_is_nothing() -> None:
    driver = choosing()
    for junk in ("", "12", "a", "٣"):
        assert driver.post(Digit(junk)) == []


def test_keys_do_not_spill_into_the_next_step() -> None:
    flow = with_step(shop(), "identify", collect=("pin", "number"))
    number = Slot("number", SlotType.digits, ask="Which number?", min_digits=6, max_digits=6)
    driver = greeted(replace(flow, slots={**flow.slots, "number": number}))
    driver.results.clear()
    driver.hear_all()
    driver.key(PIN)
    driver.hear_all()
    driver.key("#12")
    assert driver.state.floor.keys == "12"
    driver.post(ToolEnded(1, ToolOutcome.done, FOUND))
    assert driver.state.step == "choose"
    driver.key("1")
    assert driver.state.slots["item"].value == "tea"


# Silence


def test_silence_asks_again_and_then_ends() -> None:
    driver = greeted()
    driver.hear_all()
    for _ in range(2):
        driver.wait(8000)
        assert driver.hear_all() == "Are you still there? Key in your four digit code."
    driver.wait(8000)
    assert driver.hear_all() == "Goodbye."
    assert driver.over() == EndCall("silence", "silence")


def test_a_word_or_a_key_breaks_the_silence() -> None:
    driver = greeted(with_step(shop(), "identify", attempts=9))
    driver.hear_all()
    for _ in range(4):
        driver.wait(8000)
        driver.hear_all()
        driver.key("1")
        driver.wait(turns.KEYS_MS)
        driver.hear_all()
    assert alive(driver)


def test_while_somebody_speaks_silence_does_not_count() -> None:
    driver = greeted()
    driver.hear_all()
    driver.post(SpeechConfirmed(driver.onset()))
    driver.wait(60_000)
    assert driver.state.quiet == 0


def test_noise_without_an_end_is_silence() -> None:
    driver = greeted()
    driver.hear_all()
    driver.onset()
    driver.wait(60_000)
    assert driver.state.quiet > 0


def test_a_tool_under_way_is_no_silence() -> None:
    driver = working()
    driver.ask_tools(("look", {}))
    assert "silence" not in driver.state.timers
    assert "tool 1" in driver.state.timers


# Limits


def test_the_duration_is_measured_from_the_start() -> None:
    driver = working(workshop(duration_s=10, silence_s=600))
    driver.now_ms = 9999
    driver.post(Tick())
    assert alive(driver)
    driver.wait(1)
    assert driver.state.phase is Phase.ending
    assert driver.hear_all() == "Goodbye."
    assert driver.over() == EndCall("duration", "limit")


def test_one_turn_too_many_ends_the_call() -> None:
    driver = working(workshop(turns=2))
    driver.say("one")
    driver.say("two")
    assert alive(driver)
    driver.say("three")
    driver.hear_all()
    assert driver.over() == EndCall("turns", "limit")


def test_a_machine_that_slept_fires_all_that_is_due_in_order() -> None:
    driver = greeted()
    driver.post(Tick(), 3_000_000)
    assert driver.over() is not None


def test_many_deadlines_at_once_are_no_error() -> None:
    driver = working(workshop(tool_calls=100))
    for n in range(60):
        driver.ask_tools(("jot", {"text": str(n)}))
    assert len(driver.state.timers) > 120
    driver.post(Tick(), 60_000)
    assert {driver.state.tools[n].state for n in range(1, 61)} == {ToolState.unknown}


def test_too_many_attempts_go_to_the_flows_way_out() -> None:
    driver = choosing()
    driver.hear_all()
    for _ in range(3):
        driver.key("9")
        driver.hear_all()
    assert driver.over() == EndCall("flow", "referred")


def test_time_never_falls() -> None:
    driver = choosing()
    driver.hear_all()
    propose(driver, item="tea")
    now = driver.state.now_ms
    driver.inspector.handle(Tick(), now - 400)
    assert driver.state.now_ms == now


def test_a_deadline_of_now_fires_before_a_fact_with_an_older_time() -> None:
    """The journal keeps the time that never falls, so a replay must find the same deadlines due."""
    driver = choosing()
    driver.hear_all()
    utterance = driver.onset()
    driver.post(SpeechEnded(utterance, 300, True), 300)
    driver.post(Transcript(utterance, "tea"), 3000)
    assert driver.core.deadline_ms == driver.now_ms
    driver.inspector.handle(Digit("x"), driver.now_ms - 200)
    assert driver.state.counts.turns == 1


def test_an_order_to_hang_up_ends_without_last_words() -> None:
    driver = greeted()
    driver.post(HangupOrdered("drain"))
    assert of(driver, EndCall) == [EndCall("drain", "hung-up")]
