"""Who has the floor: hold, then cut or resume; backchannels, noise, and the end of a turn."""

import pytest

from app.core import turns
from app.core.effects import CutPlayout, HoldPlayout, ResumePlayout, Speak, StartReply, StopReply
from app.core.events import (
    Digit,
    PlayoutStopped,
    ReplyEnded,
    Says,
    Sentence,
    SpeechConfirmed,
    SpeechEnded,
    SpeechPaused,
    SpeechSoFar,
    SpeechStarted,
    SpeechWentOn,
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


def test_words_that_nobody_is_sure_of_do_not_cut() -> None:
    driver = choosing()
    utterance = driver.onset()
    driver.post(SpeechConfirmed(utterance), 60)
    driver.post(SpeechEnded(utterance, 300, True), 300)
    driver.post(Transcript(utterance, "tea", 0.6), 40)
    assert floor(driver) == ["HoldPlayout", "ResumePlayout"]


def test_words_cut() -> None:
    driver = choosing()
    driver.say("tea", speech_ms=300)
    assert floor(driver) == ["HoldPlayout", "CutPlayout"]
    assert driver.state.counts.barge_ins == 1
    assert driver.state.slots["item"].value == "tea"


def begun(driver: Driver, *, after_ms: int = 60) -> int:
    """A voice over the agent's words."""
    utterance = driver.onset()
    driver.post(SpeechConfirmed(utterance), after_ms)
    return utterance


def until(driver: Driver, since_onset_ms: int) -> None:
    driver.wait(driver.state.floor.since_ms + since_onset_ms - driver.now_ms)


def test_a_voice_that_goes_on_cuts_before_its_words_are_known() -> None:
    driver = choosing()
    begun(driver)
    until(driver, turns.DECIDE_MS - 1)
    assert floor(driver) == ["HoldPlayout"]
    driver.wait(1)
    assert floor(driver) == ["HoldPlayout", "CutPlayout"]


def test_a_voice_confirmed_late_is_held_again_and_cuts_if_it_goes_on() -> None:
    driver = choosing()
    utterance = driver.onset()
    driver.wait(turns.NOISE_MS + 50)
    assert floor(driver) == ["HoldPlayout", "ResumePlayout"]
    driver.post(SpeechConfirmed(utterance))
    assert floor(driver)[-1] == "HoldPlayout"
    until(driver, turns.DECIDE_MS)
    assert floor(driver)[-1] == "CutPlayout"


def test_a_voice_confirmed_very_late_cuts_at_once() -> None:
    driver = choosing()
    utterance = driver.onset()
    driver.wait(turns.DECIDE_MS)
    driver.post(SpeechConfirmed(utterance))
    assert floor(driver)[-1] == "CutPlayout"


def test_sound_without_a_voice_does_not_hold_for_long() -> None:
    driver = choosing()
    driver.onset()
    driver.wait(turns.NOISE_MS)
    assert floor(driver) == ["HoldPlayout", "ResumePlayout"]
    driver.wait(5000)
    assert floor(driver) == ["HoldPlayout", "ResumePlayout"]


def test_a_voice_that_has_stopped_by_then_does_not_cut() -> None:
    driver = choosing()
    utterance = begun(driver)
    driver.post(SpeechPaused(utterance), 440)
    until(driver, turns.DECIDE_MS)
    assert floor(driver) == ["HoldPlayout", "ResumePlayout"]
    driver.post(SpeechEnded(utterance, 480, True), 50)
    driver.post(Transcript(utterance, ""), 50)
    driver.wait(3000)
    assert floor(driver) == ["HoldPlayout", "ResumePlayout"]
    assert driver.state.counts.turns == 0


def test_a_voice_that_only_paused_cuts_as_it_goes_on() -> None:
    driver = choosing()
    utterance = begun(driver)
    driver.post(SpeechPaused(utterance), 500)
    until(driver, turns.DECIDE_MS)
    driver.post(SpeechWentOn(utterance), 60)
    assert floor(driver) == ["HoldPlayout", "ResumePlayout", "CutPlayout"]


def test_a_pause_before_the_decision_changes_nothing() -> None:
    driver = choosing()
    utterance = begun(driver)
    driver.post(SpeechPaused(utterance), 200)
    driver.post(SpeechWentOn(utterance), 60)
    until(driver, turns.DECIDE_MS)
    assert floor(driver) == ["HoldPlayout", "CutPlayout"]


def test_what_sounds_like_go_on_may_go_on_a_little() -> None:
    driver = choosing()
    utterance = begun(driver)
    driver.post(SpeechSoFar(utterance, Says.go_on), 300)
    until(driver, turns.DECIDE_MS)
    assert floor(driver) == ["HoldPlayout", "ResumePlayout"]
    driver.post(SpeechPaused(utterance), 100)
    driver.post(SpeechEnded(utterance, 650, True), 160)
    driver.post(Transcript(utterance, "oh okay"), 50)
    driver.wait(3000)
    assert floor(driver) == ["HoldPlayout", "ResumePlayout"]


@pytest.mark.parametrize("pauses", [True, False])
def test_who_says_more_than_go_on_has_the_floor(pauses: bool) -> None:
    driver = choosing()
    utterance = begun(driver)
    driver.post(SpeechSoFar(utterance, Says.go_on), 300)
    until(driver, turns.DECIDE_MS)
    if pauses:
        driver.post(SpeechPaused(utterance), 50)
        driver.post(SpeechWentOn(utterance), 60)
    assert floor(driver) == ["HoldPlayout", "ResumePlayout"]
    until(driver, turns.DECIDE_MS + turns.GO_ON_MS)
    assert floor(driver) == ["HoldPlayout", "ResumePlayout", "CutPlayout"]


def test_words_that_are_nearly_known_are_waited_for() -> None:
    driver = choosing()
    utterance = begun(driver)
    driver.post(SpeechSoFar(utterance, Says.words), 300)
    driver.post(SpeechPaused(utterance), 200)
    until(driver, turns.DECIDE_MS + 50)
    assert floor(driver) == ["HoldPlayout"]
    driver.post(SpeechEnded(utterance, 480, True))
    driver.post(Transcript(utterance, "tea"), 40)
    assert floor(driver) == ["HoldPlayout", "CutPlayout"]


def test_words_so_far_may_come_after_the_end() -> None:
    driver = choosing()
    utterance = begun(driver)
    driver.post(SpeechEnded(utterance, 400, True), 500)
    driver.post(SpeechSoFar(utterance, Says.words), 20)
    until(driver, turns.DECIDE_MS + 50)
    assert floor(driver) == ["HoldPlayout"]
    driver.post(Transcript(utterance, "tea"))
    assert floor(driver) == ["HoldPlayout", "CutPlayout"]


def test_words_of_the_one_before_are_not_the_next_ones() -> None:
    driver = choosing()
    first = begun(driver)
    driver.post(SpeechEnded(first, 300, True), 250)
    begun(driver)
    driver.post(SpeechSoFar(first, Says.words), 20)
    assert driver.state.floor.says is Says.nothing


def test_words_that_are_not_are_not_waited_for_long() -> None:
    driver = choosing()
    utterance = begun(driver)
    driver.post(SpeechSoFar(utterance, Says.words), 300)
    driver.post(SpeechEnded(utterance, 300, True), 200)
    driver.wait(turns.DECIDE_MS + 2 * turns.WORDS_MS)
    assert floor(driver) == ["HoldPlayout", "ResumePlayout"]
    driver.post(Transcript(utterance, "tea"))
    assert floor(driver) == ["HoldPlayout", "ResumePlayout", "CutPlayout"]
    assert driver.state.slots["item"].value == "tea"


def test_what_sounds_like_a_cut_in_takes_the_floor_though_nobody_understood_it() -> None:
    driver = choosing()
    utterance = begun(driver)
    driver.post(SpeechEnded(utterance, 300, True), 400)
    driver.post(SpeechSoFar(utterance, Says.cut_in), 20)
    driver.post(Transcript(utterance, ""))
    assert floor(driver) == ["HoldPlayout", "CutPlayout"]


def test_what_sounds_like_a_cut_in_is_not_let_go_while_its_words_are_awaited() -> None:
    driver = choosing()
    utterance = begun(driver)
    driver.post(SpeechSoFar(utterance, Says.cut_in), 400)
    driver.post(SpeechPaused(utterance), 100)
    until(driver, turns.DECIDE_MS)
    assert floor(driver) == ["HoldPlayout", "CutPlayout"]


def test_what_sounds_like_a_backchannel_is_none_of_the_words_it_was_taken_for() -> None:
    driver = choosing()
    utterance = begun(driver)
    driver.post(SpeechEnded(utterance, 300, True), 400)
    driver.post(SpeechSoFar(utterance, Says.backchannel), 20)
    driver.post(Transcript(utterance, "tea"))
    driver.wait(3000)
    assert floor(driver) == ["HoldPlayout", "ResumePlayout"]
    assert driver.state.slots["item"].value is None


def test_a_slow_backchannel_by_its_sound_may_go_on_a_little() -> None:
    driver = choosing()
    utterance = begun(driver)
    driver.post(SpeechSoFar(utterance, Says.backchannel), 400)
    until(driver, turns.DECIDE_MS)
    assert floor(driver) == ["HoldPlayout", "ResumePlayout"]
    until(driver, turns.DECIDE_MS + turns.GO_ON_MS)
    assert floor(driver) == ["HoldPlayout", "ResumePlayout", "CutPlayout"]


def test_where_a_question_was_heard_the_words_count_and_not_the_sound() -> None:
    driver = confirming()
    driver.hear_all()
    utterance = driver.onset()
    driver.post(SpeechEnded(utterance, 300, True), 400)
    driver.post(SpeechSoFar(utterance, Says.backchannel), 20)
    driver.post(Transcript(utterance, "yes"))
    driver.wait(2000)
    assert driver.state.counts.turns > 0
    assert "yes" in texts(driver, "caller")


def test_the_sound_of_a_stretch_is_not_that_of_the_one_before() -> None:
    driver = choosing()
    first = begun(driver)
    driver.post(SpeechEnded(first, 300, True), 250)
    begun(driver)
    driver.post(SpeechSoFar(driver.state.floor.utterance, Says.cut_in), 100)
    driver.post(Transcript(first, ""))
    assert floor(driver)[-1] == "HoldPlayout"


def test_late_words_of_somebody_who_was_let_go_still_cut() -> None:
    driver = choosing()
    utterance = begun(driver)
    driver.post(SpeechEnded(utterance, 300, True), 300)
    driver.wait(turns.DECIDE_MS)
    assert floor(driver) == ["HoldPlayout", "ResumePlayout"]
    driver.post(Transcript(utterance, "stop"))
    assert floor(driver)[-1] == "CutPlayout"


def test_a_voice_too_short_for_a_word_says_nothing() -> None:
    driver = choosing()
    utterance = begun(driver)
    driver.post(SpeechEnded(utterance, turns.WORD_MS - 20, True), 200)
    assert floor(driver) == ["HoldPlayout", "ResumePlayout"]
    driver.post(Transcript(utterance, "tea"))
    driver.wait(1000)
    assert floor(driver) == ["HoldPlayout", "ResumePlayout"]


def test_two_sounds_in_a_row_are_one_hold_at_the_most() -> None:
    driver = choosing()
    first = begun(driver)
    driver.post(SpeechEnded(first, 300, True), 250)
    begun(driver)
    until(driver, turns.DECIDE_MS - 1)
    assert floor(driver) == ["HoldPlayout", "ResumePlayout"], "let go when the first one's time was over"
    driver.wait(1)
    assert floor(driver)[-1] == "CutPlayout", "the second one goes on"


def test_a_backchannel_resolves_also_when_another_sound_has_begun() -> None:
    driver = choosing()
    first = driver.onset()
    driver.post(SpeechEnded(first, 250, True), 200)
    driver.onset()
    driver.wait(turns.DECIDE_MS)
    driver.post(Transcript(first, "mm"))
    driver.wait(turns.DECIDE_MS)
    assert floor(driver) == ["HoldPlayout", "ResumePlayout"]


def test_noise_does_not_keep_a_turn_open() -> None:
    driver = choosing()
    driver.hear_all()
    driver.say("tea")
    assert driver.state.counts.turns == 1
    driver = choosing()
    driver.hear_all()
    utterance = begun(driver)
    driver.post(SpeechEnded(utterance, 300, True), 300)
    driver.post(Transcript(utterance, "tea"), 20)
    driver.onset()  # and no end
    driver.wait(turns.NOISE_MS + turns.ENDPOINT_MS["choice"])
    assert driver.state.slots["item"].value == "tea"


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
    driver.wait(turns.DECIDE_MS)
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

    def silence_ms(self, driver: Driver, words: str, *, confidence: float = 1.0) -> int:
        driver.hear_all()
        utterance = driver.onset()
        driver.post(SpeechEnded(utterance, 300, True), 300)
        driver.post(Transcript(utterance, words, confidence), 20)
        return driver.state.timers["endpoint"] + 20 - driver.now_ms

    def test_yes_is_short(self) -> None:
        assert self.silence_ms(confirming(), "yes") == turns.ENDPOINT_MS["yesno"]

    def test_a_choice_is_longer(self) -> None:
        assert self.silence_ms(choosing(), "tea") == turns.ENDPOINT_MS["choice"]

    def test_what_is_spelled_is_longest(self) -> None:
        assert self.silence_ms(greeted(), "one two") == turns.ENDPOINT_MS["text"]

    def test_what_is_spelled_and_whole_is_shorter(self) -> None:
        assert self.silence_ms(greeted(), "one two three four") == turns.ENDPOINT_MS["whole"]

    @pytest.mark.parametrize("words", ["", "tea and", "um", "i'd like", "hold on", "sorry"])
    def test_what_announces_more_is_waited_for(self, words: str) -> None:
        assert self.silence_ms(choosing(), words) == turns.ENDPOINT_MS["more"]

    def test_a_backchannel_answers_no_question_but_yes_or_no(self) -> None:
        assert self.silence_ms(choosing(), "okay") == turns.ENDPOINT_MS["more"]
        assert self.silence_ms(confirming(), "okay") == turns.ENDPOINT_MS["yesno"]

    def test_what_answers_another_question_is_waited_for(self) -> None:
        assert self.silence_ms(choosing(), "on monday") == turns.ENDPOINT_MS["more"]
        assert self.silence_ms(choosing(), "tea on monday") == turns.ENDPOINT_MS["choice"]

    def test_a_correction_is_not(self) -> None:
        driver = choosing()
        for words in ("tea", "yes"):
            driver.hear_all()
            driver.say(words)
        assert self.silence_ms(driver, "make it coffee") == turns.ENDPOINT_MS["choice"]

    def test_a_soft_word_in_a_turn_moves_its_end(self) -> None:
        driver = choosing()
        driver.hear_all()
        first = begun(driver)
        driver.post(SpeechEnded(first, 300, True), 300)
        driver.post(Transcript(first, ""), 20)
        for speech_ms, moves in ((turns.WORD_MS - 20, False), (turns.WORD_MS, True)):
            before = driver.state.floor.ended_ms
            sound = driver.onset()
            driver.post(SpeechEnded(sound, speech_ms, False), 150)
            assert (driver.state.floor.ended_ms > before) is moves

    def test_words_that_may_be_others_are_waited_for(self) -> None:
        assert self.silence_ms(choosing(), "tea", confidence=0.55) == turns.ENDPOINT_MS["more"]

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
        second = begun(driver)
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
