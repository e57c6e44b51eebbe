"""Who has the floor: hold, then cut or resume; backchannels, noise, and the end of a turn."""

import pytest

from app.core import turns
from app.core.effects import CutPlayout, HoldPlayout, ResumePlayout, Speak, StartReply, StopReply
from app.core.events import (
    Digit,
    PlayoutStopped,
    ReplyEnded,
    Sentence,
    SpeechConfirmed,
    SpeechEnded,
    SpeechStarted,
    TextReceived,
    ToolEnded,
    ToolOutcome,
    Transcript,
)
from tests.core.stories import choosing, confirming, greeted, of, propose, texts, with_step, working
from tests.support.driver import Driver
from tests.support.shop import shop


def floor(driver: Driver) -> list[str]:
    kinds = (HoldPlayout, ResumePlayout, CutPlayout)
    return [type(effect).__name__ for effect in driver.effects if isinstance(effect, kinds)]


def test_onset_holds_in_the_same_tick() -> None:
    driver = greeted()
    assert HoldPlayout(driver.state.gen) in driver.post(SpeechStarted(1), 300)


def test_without_the_agents_words_there_is_nothing_to_hold() -> None:
    driver = greeted()
    driver.hear_all()
    driver.onset()
    assert floor(driver) == []


def test_noise_resumes_where_it_stopped() -> None:
    driver = greeted()
    utterance = driver.onset()
    driver.post(SpeechEnded(utterance, 200, False), 200)
    assert floor(driver) == ["HoldPlayout", "ResumePlayout"]
    assert "hold" not in driver.state.timers
    assert "Key in" in driver.hear_all()


def test_a_backchannel_resumes_and_is_no_turn() -> None:
    driver = greeted()
    driver.say("uh huh", speech_ms=300)
    assert floor(driver) == ["HoldPlayout", "ResumePlayout"]
    assert driver.state.counts.turns == 0
    assert texts(driver, "caller") == []


def test_what_nobody_understood_over_the_agents_words_resumes() -> None:
    driver = greeted()
    driver.say("", speech_ms=300)
    assert floor(driver) == ["HoldPlayout", "ResumePlayout"]


def test_words_cut() -> None:
    driver = choosing()
    driver.say("tea", speech_ms=300)
    assert floor(driver) == ["HoldPlayout", "CutPlayout"]
    assert driver.state.counts.barge_ins == 1
    assert driver.state.slots["item"].value == "tea"


def test_a_voice_that_goes_on_cuts_before_its_words_are_known() -> None:
    driver = choosing()
    utterance = driver.onset()
    driver.post(SpeechConfirmed(utterance), 100)
    driver.wait(turns.CUT_AFTER_MS - 101)
    assert floor(driver) == ["HoldPlayout"]
    driver.wait(1)
    assert floor(driver) == ["HoldPlayout", "CutPlayout"]


def test_a_voice_confirmed_late_cuts_at_once() -> None:
    driver = choosing()
    utterance = driver.onset()
    driver.wait(turns.CUT_AFTER_MS + 50)
    assert floor(driver) == ["HoldPlayout", "ResumePlayout"]
    driver.post(SpeechConfirmed(utterance))
    assert floor(driver)[-1] == "CutPlayout"


def test_sound_without_a_voice_does_not_hold_for_ever() -> None:
    driver = choosing()
    driver.onset()
    driver.wait(turns.CUT_AFTER_MS)
    assert floor(driver) == ["HoldPlayout", "ResumePlayout"]


def test_a_hold_waits_for_words_that_are_on_their_way() -> None:
    driver = choosing()
    utterance = driver.onset()
    driver.post(SpeechConfirmed(utterance), 100)
    driver.post(SpeechEnded(utterance, 300, True), 200)
    driver.wait(3 * turns.CUT_AFTER_MS)
    assert floor(driver) == ["HoldPlayout"]
    driver.post(Transcript(utterance, "mm"))
    assert floor(driver) == ["HoldPlayout", "ResumePlayout"]


def test_a_backchannel_resolves_also_when_another_sound_has_begun() -> None:
    driver = choosing()
    first = driver.onset()
    driver.post(SpeechEnded(first, 200, True), 200)
    driver.onset()
    driver.wait(turns.CUT_AFTER_MS)
    driver.post(Transcript(first, "mm"))
    driver.wait(turns.CUT_AFTER_MS)
    assert floor(driver) == ["HoldPlayout", "ResumePlayout"]


def test_words_that_never_come_end_the_wait() -> None:
    driver = choosing()
    driver.hear_all()
    utterance = driver.onset()
    driver.post(SpeechEnded(utterance, 300, True), 200)
    driver.wait(turns.STT_MS + 1000)
    assert driver.spoken()[-2] == "Sorry, I did not get that."


@pytest.mark.parametrize("event", [SpeechConfirmed(7), SpeechEnded(7, 300, True), Transcript(7, "tea")])
def test_facts_of_another_utterance_are_late(event: SpeechConfirmed | SpeechEnded | Transcript) -> None:
    driver = choosing()
    driver.onset()
    before = driver.state.floor.awaited.copy()
    assert driver.post(event) == []
    assert driver.state.floor.awaited == before


def test_a_models_first_words_wait_for_what_the_caller_has_begun() -> None:
    driver = working()
    utterance = driver.onset()
    driver.effects.clear()
    driver.post(Sentence(driver.state.gen, 0, "Coffee."))
    assert [type(effect) for effect in driver.effects] == [Speak, HoldPlayout]
    driver.post(SpeechEnded(utterance, 100, False))
    assert floor(driver)[-1] == "ResumePlayout"


def test_sound_that_was_found_to_be_nothing_does_not_hold_again() -> None:
    driver = working()
    driver.onset()
    driver.wait(turns.CUT_AFTER_MS)
    driver.effects.clear()
    driver.post(Sentence(driver.state.gen, 0, "Coffee."))
    assert [type(effect) for effect in driver.effects] == [Speak]


def test_the_softwares_question_is_held_as_well() -> None:
    driver = choosing()
    driver.hear_all()
    driver.rules_engine = False
    driver.say("tea")
    propose(driver, item="tea")
    driver.onset()
    driver.effects.clear()
    driver.post(ReplyEnded(driver.state.gen))
    kinds = [type(effect) for effect in driver.effects]
    assert kinds[kinds.index(Speak) + 1] is HoldPlayout


def test_a_cut_stops_the_models_work_in_the_same_tick() -> None:
    driver = working()
    gen = driver.state.gen
    driver.post(Sentence(gen, 0, "We have everything."))
    effects = driver.post(TextReceived("stop"))
    assert effects[:2] == [StopReply(gen), CutPlayout(gen)]


def test_a_reply_that_nobody_has_begun_is_not_started_at_all() -> None:
    """The turn's deadline and the key that interrupts it are found by one fact."""
    driver = choosing()
    driver.hear_all()
    utterance = driver.onset()
    driver.post(SpeechEnded(utterance, 300, True), 300)
    driver.post(Transcript(utterance, "tea"), 20)
    late = driver.core.deadline_ms
    assert late is not None
    driver.rules_engine = False
    started = of(driver, StartReply)
    effects = driver.post(Digit("5"), late + 40 - driver.now_ms)
    assert of(driver, StartReply) == started
    assert not any(isinstance(effect, StopReply) for effect in effects)


class TestEndpointing:
    """Silence after the offset that ends a turn, by what is asked for."""

    def silence_ms(self, driver: Driver, words: str) -> int:
        driver.hear_all()
        utterance = driver.onset()
        driver.post(SpeechEnded(utterance, 300, True), 300)
        driver.post(Transcript(utterance, words), 20)
        return driver.state.timers["endpoint"] + 20 - driver.now_ms

    def test_yes_is_short(self) -> None:
        assert self.silence_ms(confirming(), "yes") == turns.ENDPOINT_MS["yesno"]

    def test_a_choice_is_longer(self) -> None:
        assert self.silence_ms(choosing(), "tea") == turns.ENDPOINT_MS["choice"]

    def test_what_is_spelled_is_longest(self) -> None:
        assert self.silence_ms(greeted(), "one two") == turns.ENDPOINT_MS["text"]

    def test_a_step_has_its_own(self) -> None:
        driver = choosing(with_step(shop(), "choose", endpoint_ms=1700))
        assert self.silence_ms(driver, "tea") == 1700

    def test_words_that_came_late_do_not_wait_again(self) -> None:
        driver = choosing()
        driver.hear_all()
        utterance = driver.onset()
        driver.post(SpeechEnded(utterance, 300, True), 300)
        driver.post(Transcript(utterance, "tea"), 2000)
        assert driver.core.deadline_ms == driver.now_ms

    def test_speech_that_goes_on_joins_the_turn(self) -> None:
        driver = choosing()
        driver.hear_all()
        first = driver.onset()
        driver.post(SpeechEnded(first, 300, True), 300)
        driver.post(Transcript(first, "tea"), 20)
        second = driver.onset()
        driver.wait(1000)
        assert driver.state.counts.turns == 0
        driver.post(SpeechEnded(second, 300, True), 300)
        driver.post(Transcript(second, "on monday"), 20)
        driver.wait(1000)
        assert texts(driver, "caller") == ["tea on monday"]
        assert driver.state.slots["item"].value == "tea"
        assert driver.state.slots["day"].value == "monday"


def test_speech_over_the_last_words_does_not_keep_the_goodbye_back() -> None:
    driver = confirming()
    driver.hear_all()
    del driver.results["order"]
    driver.key("#")
    driver.onset()
    driver.post(ToolEnded(3, ToolOutcome.done, {"reference": "r1"}))
    assert driver.hear_all() == "Ordered. Goodbye."
    assert driver.over() is not None


def test_a_stopped_playout_of_another_reply_is_late() -> None:
    driver = choosing()
    gen = driver.state.gen
    assert driver.post(PlayoutStopped(gen - 1, 1, 0, "done")) == []
    assert driver.post(PlayoutStopped(gen + 1, 1, 0, "done")) == []
    assert driver.state.reply is not None
