"""One reply at a time, what was heard of it, the ladder of engines, and what slow or broken parts do to it."""

import pytest
from msgspec.structs import replace

from app.core import gate, replies
from app.core.effects import CutPlayout, EndCall, EndSpeech, GoTo, Speak, StartReply, StopReply
from app.core.events import (
    LegLost,
    PlayoutStarted,
    PlayoutStopped,
    ReplyEnded,
    ReplyFailed,
    Sentence,
    SpeechConfirmed,
    SpeechEnded,
    SpeechFailed,
    TextReceived,
    Tick,
    ToolEnded,
    ToolOutcome,
    Usage,
)
from app.core.state import Phase
from tests.core.stories import choosing, finish, greeted, of, propose, texts, with_step, working, workshop
from tests.support.driver import Driver
from tests.support.shop import shop


def talking(*sentences: str) -> Driver:
    """The workshop's model has said this and is not through."""
    driver = working()
    for index, sentence in enumerate(sentences):
        driver.post(Sentence(driver.state.gen, index, sentence))
    return driver


def test_sentences_are_spoken_as_they_come() -> None:
    driver = talking("One.", "Two.")
    gen = driver.state.gen
    assert of(driver, Speak) == [Speak(gen, 0, "One."), Speak(gen, 1, "Two.")]
    driver.post(ReplyEnded(gen))
    assert of(driver, EndSpeech) == [EndSpeech(gen)]


def test_nothing_begins_before_the_last_reply_was_heard() -> None:
    driver = talking("One.")
    driver.ask_tools(("look", {}))
    driver.post(ReplyEnded(driver.state.gen))
    gen = driver.state.gen
    before = of(driver, StartReply)
    driver.post(ToolEnded(1, ToolOutcome.done, {"price": 3}), 900)
    assert of(driver, StartReply) == before
    driver.post(PlayoutStarted(gen))
    assert of(driver, StartReply) == before
    effects = driver.post(PlayoutStopped(gen, 1, 0, "done"))
    assert effects == [StartReply(gen + 1, 1, "main")]


def test_a_follow_up_waits_for_the_callers_words() -> None:
    driver = working()
    driver.ask_tools(("look", {}))
    finish(driver)
    driver.post(SpeechConfirmed(driver.onset()))
    before = of(driver, StartReply)
    driver.post(ToolEnded(1, ToolOutcome.done, {"price": 3}), 900)
    assert of(driver, StartReply) == before


def test_a_follow_up_waits_until_each_tool_has_an_outcome() -> None:
    driver = working()
    driver.ask_tools(("look", {}), ("jot", {"text": "a"}))
    finish(driver)
    before = of(driver, StartReply)
    driver.post(ToolEnded(1, ToolOutcome.done, {}))
    assert of(driver, StartReply) == before
    driver.post(ToolEnded(2, ToolOutcome.done, {}))
    assert len(of(driver, StartReply)) == len(before) + 1


def test_late_words_are_nothing() -> None:
    driver = talking("One.")
    gen = driver.state.gen
    for late in (gen - 1, gen + 1):
        assert driver.post(Sentence(late, 1, "Two.")) == []
        assert driver.post(ReplyEnded(late)) == []
        assert driver.post(ReplyFailed(late, "cut")) == []
    driver.post(ReplyEnded(gen))
    assert driver.post(Sentence(gen, 1, "Two.")) == []
    assert driver.post(ReplyEnded(gen)) == []


def test_a_playout_that_claims_an_end_before_its_speech_ended_is_wrong() -> None:
    driver = talking("One.")
    assert driver.post(PlayoutStopped(driver.state.gen, 1, 0, "done")) == []
    assert driver.state.reply is not None


def test_a_lost_playout_stops_the_engine() -> None:
    driver = talking("One.")
    gen = driver.state.gen
    assert StopReply(gen) in driver.post(PlayoutStopped(gen, 0, 2, "lost"))


def test_gen_goes_up_whenever_a_reply_is_replaced() -> None:
    driver = talking("One.")
    gen = driver.state.gen
    driver.inspector.handle(TextReceived("stop"), driver.now_ms)
    assert driver.state.gen == gen + 1
    driver = talking("One.")
    gen = driver.state.gen
    propose(driver, day="friday")
    assert (driver.state.step, driver.state.gen) == ("out", gen + 1)
    driver = talking("One.")
    gen = driver.state.gen
    driver.inspector.handle(LegLost("leg"), driver.now_ms)
    assert driver.state.gen == gen + 1


# What was heard


def test_the_history_holds_what_was_heard_to_the_word() -> None:
    driver = talking("It is four pounds today.", "Shall I go on?")
    driver.hear_until(0, len("It is four"))
    driver.post(TextReceived("stop"))
    assert texts(driver, "agent") == ["It is four"]
    assert texts(driver, "caller") == ["stop"]


def test_whole_sentences_and_a_part() -> None:
    driver = talking("It is four pounds today.", "Shall I go on?")
    driver.hear_until(1, len("Shall I"))
    driver.post(TextReceived("stop"))
    assert texts(driver, "agent") == ["It is four pounds today. Shall I"]


def test_nothing_heard_is_nothing_said() -> None:
    driver = talking("It is four pounds today.")
    driver.post(TextReceived("stop"))
    assert texts(driver, "agent") == []


def test_words_stand_before_the_outcomes_that_came_while_they_were_heard() -> None:
    driver = talking("I will look.")
    driver.ask_tools(("look", {}))
    driver.post(ReplyEnded(driver.state.gen))
    driver.post(ToolEnded(1, ToolOutcome.done, {"price": 3}))
    driver.hear_all()
    words, note, outcome = driver.state.history
    assert (words.text, note.role, outcome.text) == ("I will look.", "note", "done; price=3")
    assert [(call.tool, call.call_id) for call in words.calls] == [("look", outcome.call_id)]


def test_a_playout_that_never_answers_is_given_up() -> None:
    driver = greeted()
    chars = sum(map(len, driver.spoken()))
    driver.wait(chars * replies.SPOKEN_MS_PER_CHAR + replies.PLAYOUT_GRACE_MS)
    assert of(driver, CutPlayout)
    assert driver.state.reply is None
    assert texts(driver, "agent") == []


# The ladder


def failing(driver: Driver, reason: str = "timeout") -> list[str]:
    """The engines that get to work as this one fails."""
    driver.effects.clear()
    driver.post(ReplyFailed(driver.state.gen, reason))
    return [order.engine for order in of(driver, StartReply)]


def test_the_rules_get_the_words_that_the_model_failed_on() -> None:
    driver = choosing_by_model()
    driver.post(TextReceived("tea please"))
    assert failing(driver) == ["rules"]
    assert driver.state.slots["item"].value == "tea"
    assert driver.state.counts.model_failures == 1
    assert driver.spoken()[-1] == "I have tea. Is that right?"


def test_the_rules_go_first_where_a_heard_question_is_open() -> None:
    driver = choosing_by_model()
    driver.post(TextReceived("tea please"))
    failing(driver)
    driver.hear_all()
    driver.effects.clear()
    driver.say("yes")
    assert of(driver, StartReply)[0].engine == "rules"
    assert driver.state.slots["item"].confirmed


def test_what_the_rules_do_not_understand_goes_on_to_the_model() -> None:
    driver = choosing_by_model()
    driver.post(TextReceived("tea please"))
    failing(driver)
    driver.hear_all()
    driver.effects.clear()
    driver.say("how strong is it")
    assert [order.engine for order in of(driver, StartReply)] == ["rules", "main"]
    request = driver.inspector.requests[driver.state.gen]
    assert request.words == "how strong is it"


@pytest.mark.parametrize("words", ["", "  "])
def test_no_words_and_no_tool_is_a_failure(words: str) -> None:
    driver = choosing_by_model()
    driver.post(TextReceived("tea please"))
    gen = driver.state.gen
    driver.post(Sentence(gen, 0, words))
    driver.post(ReplyEnded(gen))
    assert driver.state.counts.model_failures == 1
    assert driver.state.slots["item"].value == "tea"


def test_an_engine_that_says_nothing_for_too_long_has_failed() -> None:
    driver = choosing_by_model()
    driver.post(TextReceived("tea please"))
    gen = driver.state.gen
    driver.wait(replies.ENGINE_MS - 1)
    assert driver.state.slots["item"].value is None
    driver.wait(1)
    assert StopReply(gen) in driver.effects
    assert driver.state.slots["item"].value == "tea"


def test_when_nobody_understands_the_caller_is_told() -> None:
    driver = choosing_by_model()
    driver.post(TextReceived("blah"))
    failing(driver)
    assert "Sorry, I did not get that." in driver.spoken()
    assert driver.state.attempts == 1


def test_a_model_that_only_asks_for_refused_tools_does_not_go_on_for_ever() -> None:
    driver = working(with_step(workshop(), "work", tools=("gold",)))
    driver.post(TextReceived("well"))
    while driver.state.reply is not None and driver.state.reply.producing:
        driver.ask_tools(("gold", {}))
        driver.post(ReplyEnded(driver.state.gen))
    assert driver.state.counts.refused == replies.MAX_ROUNDS
    assert driver.spoken()[-1] == "Which size?"


def test_a_model_that_speaks_too_long_is_stopped() -> None:
    driver = working(workshop(reply_chars=20))
    gen = driver.state.gen
    driver.post(Sentence(gen, 0, "Fourteen chars"))
    effects = driver.post(Sentence(gen, 1, "seven chars"))
    assert effects == [StopReply(gen), EndSpeech(gen)]
    assert driver.spoken() == ["Fourteen chars"]


def test_a_first_sentence_that_is_too_long_is_a_failure() -> None:
    driver = working(workshop(reply_chars=20))
    driver.post(TextReceived("tea"))
    driver.post(Sentence(driver.state.gen, 0, "Far more than twenty characters."))
    assert driver.state.counts.model_failures == 1
    assert of(driver, StartReply)[-1].engine == "rules"


def test_usage_is_counted_whatever_became_of_the_reply() -> None:
    driver = working()
    for gen in (1, 2, 99):
        assert driver.post(Usage(gen, "m", 100, 7)) == []
    assert (driver.state.counts.input_tokens, driver.state.counts.output_tokens) == (300, 21)


# Slow and broken parts


def test_a_slow_tool_is_bridged_once() -> None:
    driver = working()
    driver.ask_tools(("look", {}))
    finish(driver)
    driver.wait(gate.FILLER_MS)
    assert driver.hear_all() == "One moment please."
    driver.wait(2000)
    assert driver.spoken().count("One moment please.") == 1
    driver.effects.clear()
    driver.post(ToolEnded(1, ToolOutcome.done, {"price": 3}))
    assert of(driver, StartReply)


def test_a_result_during_the_filler_is_still_followed_up() -> None:
    driver = working()
    driver.ask_tools(("look", {}))
    finish(driver)
    driver.wait(gate.FILLER_MS)
    driver.post(ToolEnded(1, ToolOutcome.done, {"price": 3}))
    driver.effects.clear()
    driver.hear_all()
    assert of(driver, StartReply)


def test_a_result_before_a_filler_that_waits_for_the_caller_is_still_followed_up() -> None:
    driver = working()
    driver.ask_tools(("look", {}))
    finish(driver)
    utterance = driver.onset()
    driver.post(SpeechConfirmed(utterance))
    driver.wait(gate.FILLER_MS)
    driver.post(ToolEnded(1, ToolOutcome.done, {"price": 3}))
    driver.effects.clear()
    driver.post(SpeechEnded(utterance, 2000, False))
    assert of(driver, StartReply)


def test_who_is_speaking_is_not_bridged() -> None:
    driver = talking("I am on it.")
    driver.ask_tools(("look", {}))
    driver.wait(gate.FILLER_MS)
    assert "One moment please." not in driver.spoken()


def test_a_sentence_that_could_not_be_spoken_is_tried_once_more() -> None:
    driver = greeted()
    gen = driver.state.gen
    driver.hear_until(0, 0)
    driver.post(SpeechFailed(gen, 0, "down"))
    assert driver.spoken()[2:] == ["Welcome to the shop.", "Key in your four digit code."]
    assert driver.state.counts.speech_failures == 1


def test_only_what_was_not_spoken_is_tried_again() -> None:
    driver = greeted()
    driver.hear_until(1, 0)
    driver.post(SpeechFailed(driver.state.gen, 1, "down"))
    assert driver.spoken()[2:] == ["Key in your four digit code."]


def test_speech_that_keeps_failing_ends_the_call() -> None:
    driver = greeted()
    for _ in range(3):
        driver.post(SpeechFailed(driver.state.gen, 0, "down"))
    assert driver.over() == EndCall("speech-failed", "failed")


def test_speech_that_failed_in_another_reply_is_late() -> None:
    driver = greeted()
    assert driver.post(SpeechFailed(driver.state.gen - 1, 0, "down")) == []
    assert driver.state.counts.speech_failures == 0


# The flow's own rounds


def test_a_flow_that_goes_round_gives_up_at_once() -> None:
    flow = workshop()
    work, out = flow.steps["work"], flow.steps["out"]
    ways = {"work": replace(work, next=(replace(work.next[0], when="true"),)), "out": replace(out, requires=())}
    ways["out"] = replace(ways["out"], next=(replace(work.next[0], to="work", when="true"),))
    driver = Driver(replace(flow, steps={**flow.steps, **ways})).start()
    assert len(of(driver, GoTo)) < 30
    assert driver.state.phase is Phase.ending
    driver.hear_all()
    assert driver.over() == EndCall("gave-up", "gave-up")


def test_giving_up_comes_to_rest_within_its_fact() -> None:
    flow = replace(workshop(), give_up="out")
    driver = working(with_step(flow, "work", attempts=1))
    propose(driver, size="much")
    moves = [move.step for move in of(driver, GoTo)]
    assert driver.post(Tick()) == []
    assert moves[:2] == ["work", "out"]


def choosing_by_model() -> Driver:
    """As `choosing`, where a model talks; it is silent, and the software has asked nothing yet."""
    driver = Driver(shop(use="scripted"))
    driver.results = {"find_customer": {"found": True, "customer": "k7"}}
    driver.start()
    driver.post(ReplyEnded(driver.state.gen))
    driver.hear_all()
    driver.key("1234")
    driver.hear_all()
    driver.key("#")
    driver.hear_all()
    reply = driver.state.reply
    if reply is not None and reply.producing:
        driver.ask_tools(("find_customer", {}))
    driver.hear_all()
    assert driver.state.step == "choose"
    driver.post(Sentence(driver.state.gen, 0, "We have tea and coffee."))
    driver.post(ReplyEnded(driver.state.gen))
    driver.hear_all()
    driver.inspector.tamper(lambda state: setattr(state.counts, "model_failures", 0))
    return driver


def test_a_step_change_replaces_the_reply_and_lets_its_words_play_on() -> None:
    driver = choosing()
    assert driver.state.reply is not None
    assert [line.text for line in driver.state.reply.spoken] == ["What would you like?", "Tea or coffee?"]
