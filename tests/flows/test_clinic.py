"""The shipped clinic flow, played through the core by rules alone, with tools that answer from a table."""

from app.core.events import Digit
from app.core.request import Hearing
from flows import grammar, load
from flows.model import Flow, Value
from tests.support.driver import Driver

CLINIC = load.load(load.find("clinic"))
Fields = dict[str, Value | list[Value] | None]
NOBODY: Fields = {"found": False, "patient_id": None, "first_name": None}
SOMEBODY: Fields = {"found": True, "patient_id": "p1", "first_name": "Alex"}
FREE: Fields = {"found": True, "slot_id": "thu-mo-1", "time": "ten fifteen"}
BOOKED: Fields = {"booked": True, "reference": "4101"}


def call(flow: Flow = CLINIC) -> Driver:
    driver = Driver(flow)
    driver.results = {"find_patient": SOMEBODY, "find_slot": FREE, "book": BOOKED}
    driver.start()
    return driver


def identify(driver: Driver, keys: str = "31051980") -> str:
    """Key in a date of birth and say yes to it; returns what the agent says then."""
    driver.hear_all()
    driver.key(keys)
    assert "Is that right?" in driver.hear_all()
    driver.say("yes")
    return driver.hear_all()


def test_a_whole_booking() -> None:
    driver = call()
    assert "Welcome to the clinic. Please key in your date of birth" in driver.hear_all()
    driver.key("31051980")
    assert driver.hear_all() == "I have May 31st, 1980. Is that right?"
    driver.say("yes that's right")
    assert "Which day would you like" in driver.hear_all()
    assert driver.started == [("find_patient", {"dob": "1980-05-31"})]
    driver.say("thursday please")
    assert driver.hear_all() == "Thursday. Is that right?"
    driver.say("yes")
    assert "the morning or the afternoon?" in driver.hear_all()
    driver.say("in the morning")
    assert driver.hear_all() == "In the morning. Is that right?"
    driver.say("yes")
    assert driver.hear_all() == "Shall I book Thursday morning at ten fifteen?"
    assert [name for name, _ in driver.started] == ["find_patient", "find_slot"]
    driver.say("yes please")
    assert driver.started[-1] == ("book", {"patient_id": "p1", "slot_id": "thu-mo-1"})
    assert driver.hear_all().startswith("You are booked for Thursday morning at ten fifteen.")
    over = driver.over()
    assert over is not None
    assert over.outcome == "booked"


def test_a_day_that_is_changed_before_the_booking_is_looked_up_again() -> None:
    driver = call()
    identify(driver)
    driver.say("thursday morning")
    driver.hear_all()
    driver.say("yes")
    driver.hear_all()
    driver.say("yes")
    assert "Shall I book Thursday" in driver.hear_all()
    driver.results["find_slot"] = {"found": True, "slot_id": "fri-mo-1", "time": "eleven o'clock"}
    driver.say("no, make it friday")
    assert "Friday. Is that right?" in driver.hear_all()
    driver.say("yes")
    assert driver.hear_all() == "Shall I book Friday morning at eleven o'clock?"
    driver.say("yes")
    assert driver.started[-1] == ("book", {"patient_id": "p1", "slot_id": "fri-mo-1"})
    assert [name for name, _ in driver.started].count("book") == 1


def test_a_wrong_birth_date_is_asked_again_and_three_end_at_the_desk() -> None:
    driver = call()
    driver.results["find_patient"] = NOBODY
    for keys in ("01011999", "02011999"):
        said = identify(driver, keys)
        assert "I cannot find anybody" in said
        assert "Welcome" not in said
        assert "Please key in your date of birth" in said
    assert "front desk" in identify(driver, "03011999")
    over = driver.over()
    assert over is not None
    assert over.outcome == "referred"


def test_a_date_that_does_not_exist_is_refused() -> None:
    driver = call()
    driver.hear_all()
    driver.key("31021980")
    assert "not possible" in driver.hear_all()
    assert driver.started == []


def test_saturday_is_refused_with_words() -> None:
    driver = call()
    identify(driver)
    driver.say("saturday")
    assert "not possible" in driver.hear_all()
    assert driver.state.slots["day"].value is None


def test_opening_hours_from_any_place_and_back() -> None:
    driver = call()
    identify(driver)
    driver.say("when are you open")
    said = driver.hear_all()
    assert said.startswith("We are open from Monday to Friday")
    assert said.endswith("Which day would you like, from Monday to Friday?")
    assert driver.state.step == "choose"


def test_nothing_free_and_a_declined_offer_lead_to_another_choice() -> None:
    driver = call()
    identify(driver)
    driver.results["find_slot"] = {"found": False, "slot_id": None, "time": None}
    driver.say("monday afternoon")
    driver.hear_all()
    driver.say("yes")
    driver.hear_all()
    driver.say("yes")
    said = driver.hear_all()
    assert "nothing is free" in said
    assert "Which day" in said
    driver.results["find_slot"] = FREE
    driver.say("thursday morning")
    driver.hear_all()
    driver.say("yes")
    driver.hear_all()
    driver.say("yes")
    assert "Shall I book Thursday" in driver.hear_all()
    driver.say("no")
    assert "another time" in driver.hear_all()
    assert driver.state.step == "choose"
    assert "book" not in [name for name, _ in driver.started]


def test_choices_by_keys() -> None:
    driver = call()
    identify(driver)
    driver.post(Digit("4"))
    assert driver.hear_all() == "Thursday. Is that right?"
    driver.post(Digit("#"))
    assert "the morning or the afternoon?" in driver.hear_all()
    driver.post(Digit("2"))
    assert driver.hear_all() == "In the afternoon. Is that right?"


def test_what_is_heard_now_has_a_small_grammar() -> None:
    driver = call()
    identify(driver)
    hearing: Hearing = driver.core.hearing()
    words = grammar.vocabulary(hearing.slots, yesno=hearing.yesno, phrases=hearing.phrases)
    assert {"monday", "morning", "opening", "actually", "repeat"} <= set(words)
    assert len(words) < 100
