"""What is right and what is not, by histories that are known to the frame."""

from itertools import pairwise

import pytest

from app.load.suite.judge import AFTER_S, ANSWER_S, YIELD_S, Finding, History, Played, judge
from app.load.suite.moment import Kind, Moment
from app.load.suite.moments import suite
from app.load.suite.render import Span

FRAME_S = 0.02
ONSET_S = 10.0


def moment(kind: Kind) -> Moment:
    return next(one for one in suite() if one.kind is kind)


def talk(*edges_s: float, silent: tuple[float, float] = (0.0, 0.0)) -> list[Played]:
    """Stretches from and to these times; the frames within `silent` are inaudible."""
    played = []
    for start_s, end_s in list(pairwise(edges_s))[::2]:
        starts = [start_s + at * FRAME_S for at in range(round((end_s - start_s) / FRAME_S))]
        heard = tuple((at, at + FRAME_S) for at in starts if not silent[0] <= at < silent[1])
        played.append(Played(start_s, end_s, heard))
    return played


def found(
    kind: Kind, played: list[Played], *, said_s: float = 1.0, clears: tuple[float, ...] = (), until_s: float = 20.0
) -> Finding:
    return judge(moment(kind), History((Span(ONSET_S, ONSET_S + said_s),), played, clears, until_s))


def test_a_yield_is_silence_that_lasts() -> None:
    finding = found(Kind.interruption, talk(8.0, 10.12, 12.0, 13.0))
    assert finding.ok
    assert finding.latency_ms == pytest.approx(120)


def test_an_agent_that_never_speaks_again_has_yielded() -> None:
    assert found(Kind.interruption, talk(8.0, 10.2)).ok


def test_a_clear_makes_a_short_silence_a_stop() -> None:
    played = talk(8.0, 10.1, 10.5, 12.0)
    assert not found(Kind.interruption, played[:1] + talk(10.5, 20.0)).ok
    assert found(Kind.interruption, played, clears=(10.3,)).ok
    assert found(Kind.interruption, played, clears=(10.04,)).ok, "it comes before what was sent has played"
    assert not found(Kind.backchannel, played, clears=(10.3,)).ok


def test_a_clear_before_the_caller_began_is_none_of_it() -> None:
    assert found(Kind.backchannel, talk(8.0, 10.1, 10.3, 20.0), clears=(9.98,)).ok


def test_a_hold_before_the_stop_is_no_yield_yet() -> None:
    finding = found(Kind.interruption, talk(8.0, 10.1, 10.5, 10.7))
    assert finding.ok
    assert finding.latency_ms == pytest.approx(700)
    assert finding.holds_ms == pytest.approx([400])


def test_a_pause_of_the_agents_voice_is_no_hole_and_its_last_audible_frame_counts() -> None:
    finding = found(Kind.interruption, talk(8.0, 10.3, silent=(10.1, 10.3)))
    assert finding.latency_ms == pytest.approx(100)
    assert found(Kind.backchannel, talk(8.0, 20.0, silent=(10.1, 11.5))).ok


def test_an_agent_that_was_silent_at_the_onset_yields_at_once() -> None:
    assert found(Kind.interruption, talk(8.0, 9.9)).latency_ms == 0


def test_who_talks_on_or_stops_too_late_does_not_yield() -> None:
    assert found(Kind.interruption, talk(8.0, 20.0)).why == "talked on"
    assert found(Kind.interruption, talk(8.0, ONSET_S + YIELD_S + 0.1)).why == "talked on"
    assert found(Kind.interruption, talk(8.0, ONSET_S + YIELD_S - 0.1)).ok


def test_holes_before_the_onset_and_small_ones_do_not_count() -> None:
    finding = found(Kind.backchannel, talk(7.0, 8.0, 9.5, 10.2, 10.24, 20.0))
    assert finding.ok
    assert finding.holds_ms == []


def test_a_hold_that_is_resumed_in_time_is_no_stop() -> None:
    finding = found(Kind.noise, talk(8.0, 10.1, 10.69, 12.0, 12.3, 20.0))
    assert finding.ok
    assert finding.holds_ms == pytest.approx([590, 300])


def test_a_longer_one_is() -> None:
    assert found(Kind.noise, talk(8.0, 10.1, 10.71, 20.0)).why == "stopped"


def test_the_end_of_the_agents_own_words_much_later_is_no_stop() -> None:
    assert found(Kind.noise, talk(8.0, 11.0 + AFTER_S + 0.1)).ok
    assert not found(Kind.noise, talk(8.0, 11.0 + AFTER_S - 0.1)).ok


@pytest.mark.parametrize("kind", [Kind.pause, Kind.spelled, Kind.word])
def test_an_answer_is_counted_from_the_last_word(kind: Kind) -> None:
    finding = found(kind, talk(8.0, 9.5, 11.4, 13.0))
    assert finding.ok
    assert finding.latency_ms == pytest.approx(400)


def test_an_answer_between_two_words_came_in_early() -> None:
    said = (Span(10.0, 10.5), Span(11.2, 11.8))
    history = History(said, talk(8.0, 9.5, 10.9, 11.3), (), 20.0)
    assert judge(moment(Kind.pause), history).why == "came in early"


def test_an_answer_that_never_comes_is_a_missed_end() -> None:
    assert found(Kind.word, talk(8.0, 9.5)).why == "no answer"
    assert found(Kind.word, talk(8.0, 9.5, 11.0 + ANSWER_S + 0.1, 18.0)).why == "no answer"
    assert found(Kind.word, talk(8.0, 9.5, 11.3, 18.0, silent=(11.0, 19.0))).why == "no answer", "silence is none"


def test_nothing_was_heard_at_all() -> None:
    for kind in Kind:
        assert not found(kind, []).ok or kind.right != "answers"
