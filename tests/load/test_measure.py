"""What is told of one thing that the caller did, from playback whose times are known."""

from collections.abc import Callable

import pytest

from app.load.ear import Ear
from app.load.measure import Act, Judge, Kind
from app.load.results import CallResult, Measure, What
from tests.load.speech import ear, play

ORIGIN_S = 5.0


def never(since_s: float, until_s: float) -> bool:
    return False


def settle(heard: Ear, *acts: Act, until_s: float = 100.0, late: Callable[[float, float], bool] = never) -> CallResult:
    result = CallResult(0, "test", 0.0)
    judge = Judge(result, heard, late, ORIGIN_S)
    for at, act in enumerate(acts):
        judge.settle(act, acts[at + 1].onset_s if at + 1 < len(acts) else until_s)
    if not acts:
        judge.settle(None, until_s)
    return result


def of(result: CallResult, what: What) -> list[float]:
    return [measure.ms for measure in result.measures if measure.what is what]


# Answers


def test_a_response_is_from_our_last_sound_to_the_agents_first() -> None:
    heard = ear()
    play(heard, 12.345, "..####")
    result = settle(heard, Act(Kind.say, "hello", 10.0, 11.5))
    assert result.measures == [Measure(What.response, 885.0, 6.5)]
    assert (result.turns, result.missed_ends, result.false_ends, result.interruptions) == (1, 0, 0, 0)


def test_an_agent_that_comes_in_while_we_speak_ends_our_turn_falsely() -> None:
    heard = ear()
    play(heard, 10.9, "##########")
    result = settle(heard, Act(Kind.say, "one two", 10.0, 11.5))
    assert result.false_ends == 1
    assert not result.measures


def test_two_that_begin_at_once_are_nobodys_fault() -> None:
    heard = ear()
    play(heard, 10.1, "#" * 100)
    result = settle(heard, Act(Kind.say, "hello", 10.0, 11.5))
    assert (result.false_ends, result.missed_ends, result.measures) == (0, 0, [])


def test_no_answer_in_time_is_a_missed_end_and_too_little_time_tells_nothing() -> None:
    act = Act(Kind.say, "hello", 10.0, 11.5)
    assert settle(ear(), act, until_s=16.6).missed_ends == 1
    assert settle(ear(), act, until_s=16.4).missed_ends == 0


def test_what_was_not_said_to_its_end_tells_nothing() -> None:
    result = settle(ear(), Act(Kind.say, "hello", 10.0, 0.0))
    assert result.turns == 0
    assert result.missed_ends == 0


# Over the agent's words


def test_a_barge_in_is_from_our_first_sound_to_the_agents_last_before_silence() -> None:
    heard = ear()
    play(heard, 9.0, "#" * 58)  # until 10.16
    heard.clear(10.7)
    play(heard, 12.0, "####")
    result = settle(heard, Act(Kind.interrupt, "wait", 10.0, 11.0))
    assert of(result, What.barge_in) == [160.0]
    assert of(result, What.to_clear) == [700.0]
    assert of(result, What.response) == [1000.0]
    assert (result.interruptions, result.unyielded) == (1, 0)


def test_a_pause_between_the_agents_words_at_our_onset_is_still_its_speech() -> None:
    heard = ear()
    play(heard, 9.0, "#" * 45 + "." * 10 + "#" * 10)  # audible until 9.9, and 10.1 to 10.3
    heard.clear(10.35)
    assert of(settle(heard, Act(Kind.interrupt, "wait", 10.0, 11.0)), What.barge_in) == [300.0]


def test_an_agent_that_talks_on_did_not_yield() -> None:
    heard = ear()
    play(heard, 9.0, "#" * 300)
    result = settle(heard, Act(Kind.interrupt, "wait", 10.0, 11.0))
    assert (result.interruptions, result.unyielded) == (1, 1)
    assert not result.measures


def test_a_hold_that_goes_on_is_no_yield() -> None:
    heard = ear()
    play(heard, 9.0, "#" * 55 + " " * 25 + "#" * 200)
    result = settle(heard, Act(Kind.interrupt, "wait", 10.0, 11.0))
    assert (result.interruptions, result.unyielded) == (1, 1)


def test_an_agent_that_had_just_finished_was_not_interrupted_where_the_line_would_tell() -> None:
    heard = ear()
    play(heard, 9.0, "#" * 55)
    play(heard, 12.0, "####")
    result = settle(heard, Act(Kind.interrupt, "wait", 10.0, 11.0))
    assert result.interruptions == 0
    assert [measure.what for measure in result.measures] == [What.response]


def test_where_no_line_tells_silence_is_taken_for_yielding() -> None:
    heard = ear(tells_clears=False)
    play(heard, 9.0, "#" * 55)
    result = settle(heard, Act(Kind.interrupt, "wait", 10.0, 11.0))
    assert of(result, What.barge_in) == [100.0]


def test_an_agent_that_yields_after_a_short_word_and_answers_soon_is_measured_by_its_clear() -> None:
    heard = ear()
    play(heard, 9.0, "#" * 60)
    heard.clear(10.5)
    play(heard, 10.7, "####")
    result = settle(heard, Act(Kind.interrupt, "no", 10.0, 10.4))
    assert of(result, What.barge_in) == [200.0]
    assert of(result, What.response) == [300.0]


# What is not to stop the agent


@pytest.mark.parametrize("kind", [Kind.backchannel, Kind.noise])
def test_a_hold_resumed_in_place_is_no_stop_and_its_length_is_told(kind: Kind) -> None:
    heard = ear()
    play(heard, 9.0, "#" * 55 + " " * 25 + "#" * 200)
    result = settle(heard, Act(kind, "", 10.0, 10.3))
    assert (result.stopped_by_noise, result.stopped_by_backchannel) == (0, 0)
    assert result.noises + result.backchannels == 1
    assert of(result, What.hold) == [500.0]
    assert result.late == 0


def test_a_longer_hold_is_a_stop() -> None:
    heard = ear()
    play(heard, 9.0, "#" * 55 + " " * 40 + "#" * 200)
    assert settle(heard, Act(Kind.noise, "", 10.0, 10.3)).stopped_by_noise == 1


def test_a_cut_is_a_stop() -> None:
    heard = ear()
    play(heard, 9.0, "#" * 55)
    heard.clear(10.4)
    assert settle(heard, Act(Kind.backchannel, "mm", 10.0, 10.3)).stopped_by_backchannel == 1


def test_a_reply_that_ends_by_itself_was_not_stopped() -> None:
    heard = ear()
    play(heard, 9.0, "#" * 55)
    result = settle(heard, Act(Kind.noise, "", 10.0, 10.3))
    assert (result.noises, result.stopped_by_noise) == (1, 0)


def test_a_noise_into_silence_interrupts_nobody() -> None:
    assert settle(ear(), Act(Kind.noise, "", 10.0, 10.3)).noises == 0


def test_what_ends_too_soon_after_a_noise_tells_nothing() -> None:
    heard = ear()
    play(heard, 9.0, "#" * 55)
    assert settle(heard, Act(Kind.noise, "", 10.0, 10.3), until_s=11.0).noises == 0


# Keys


def test_keys_stop_the_agent_and_are_answered() -> None:
    heard = ear()
    play(heard, 9.0, "#" * 53)
    heard.clear(10.06)
    play(heard, 12.0, "####")
    result = settle(heard, Act(Kind.digits, "", 10.0, 11.0))
    assert of(result, What.key_barge_in) == [60.0]
    assert of(result, What.key_response) == [1000.0]
    assert result.turns == 0


# Holes


def test_a_hole_that_nothing_of_ours_explains_is_a_gap_and_its_frame_late() -> None:
    heard = ear()
    over_s = play(heard, 9.0, "#" * 20)
    play(heard, over_s + 0.1, "#" * 20)
    result = settle(heard)
    assert of(result, What.gap) == [100.0]
    assert result.late == 1


def test_a_short_hole_is_late_whatever_we_do_meanwhile() -> None:
    heard = ear()
    over_s = play(heard, 9.5, "#" * 30)
    play(heard, over_s + 0.03, "#" * 200)
    result = settle(heard, Act(Kind.noise, "", 10.0, 10.3))
    assert of(result, What.gap) == [30.0]
    assert result.late == 1


def test_each_hole_counts_once() -> None:
    heard = ear()
    over_s = play(heard, 5.0, "#" * 20)
    play(heard, over_s + 0.1, "#" * 20)
    result = settle(heard, Act(Kind.say, "a", 7.0, 7.5), Act(Kind.say, "b", 9.0, 9.5))
    assert result.late == 1


# A tester that was late itself


def test_what_was_measured_while_the_tester_was_late_is_marked() -> None:
    heard = ear()
    play(heard, 12.0, "####")
    result = settle(heard, Act(Kind.say, "hello", 10.0, 11.5), late=lambda since_s, until_s: since_s < 11.7 < until_s)
    assert [measure.own for measure in result.measures] == [True]


def test_what_was_judged_while_the_tester_was_late_is_left_out_and_counted() -> None:
    heard = ear()
    over_s = play(heard, 9.0, "#" * 55 + " " * 40 + "#" * 20)
    play(heard, over_s + 0.1, "#" * 200)
    result = settle(heard, Act(Kind.noise, "", 10.0, 10.3), late=lambda since_s, until_s: True)
    assert (result.noises, result.stopped_by_noise, result.late) == (0, 0, 0)
    assert result.own == 2
