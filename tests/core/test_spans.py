"""Lanes, turns and verdicts of calls that are told by hand."""

import msgspec
import pytest

from app.core.core import CallCore
from app.core.effects import Verdict
from app.core.events import PlayoutStarted, PlayoutStopped, SpeechEnded, ToolEnded, ToolOutcome
from app.core.spans import LANES, MAX_LABEL_CHARS, Latency, Picture, Span, Spans, Turn
from app.core.timeline import Timeline
from tests.core.stories import PIN, SPOKEN_PIN, choosing, confirming, greeted
from tests.journals.stories import STORIES
from tests.support.driver import Driver


def told(driver: Driver) -> Spans:
    core = CallCore(driver.flow, "c")
    spans = Spans()
    for seq, (ms, event, _) in enumerate(driver.log, 1):
        effects = core.handle(event, ms)
        spans.tell(seq, ms, event, effects, core)
    return spans


def lane(picture: Picture, name: str) -> list[Span]:
    return next(lane.spans for lane in picture.lanes if lane.name == name)


@pytest.mark.parametrize("name", STORIES)
def test_every_story_can_be_drawn(name: str) -> None:
    driver = STORIES[name]()
    picture = told(driver).picture(over=True)
    assert tuple(lane.name for lane in picture.lanes) == LANES
    assert picture.duration_ms == driver.log[-1][0]
    last = len(driver.log)
    for one in picture.lanes:
        starts = [span.from_ms for span in one.spans]
        assert starts == sorted(starts)
        for span in one.spans:
            assert span.to_ms is not None
            assert 0 <= span.from_ms <= span.to_ms <= picture.duration_ms
            assert 1 <= span.seq <= last
            assert len(span.label) <= MAX_LABEL_CHARS
    text = msgspec.json.encode(picture).decode()
    assert PIN not in text
    assert SPOKEN_PIN not in text


@pytest.mark.parametrize("name", STORIES)
def test_entries_and_verdicts_are_those_of_the_timeline(name: str) -> None:
    driver = STORIES[name]()
    core, timeline, lines, verdicts = CallCore(driver.flow, "c"), Timeline(), [], []
    for ms, event, _ in driver.log:
        effects = core.handle(event, ms)
        lines += [(e.ms, e.kind, e.text, e.gen) for e in timeline.tell(ms, event, effects, sealed=core.sealed)]
        verdicts += [(ms, v.n, v.decision.value) for v in effects if isinstance(v, Verdict)]
    picture = told(driver).picture()
    assert [(e.ms, e.kind, e.text, e.gen) for e in picture.entries] == lines
    assert [(v.ms, v.n, v.decision) for v in picture.verdicts] == verdicts
    assert [e.seq for e in picture.entries] == sorted(e.seq for e in picture.entries)


def test_an_interruption_holds_then_cuts_the_agent() -> None:
    driver = choosing()
    gen = driver.state.gen
    driver.post(PlayoutStarted(gen), 50)
    start_ms = driver.now_ms
    driver.wait(1000)
    driver.hear_until(0, 4)
    driver.say("tea please")
    picture = told(driver).picture()
    agent = [span for span in lane(picture, "agent") if span.gen == gen]
    assert [(span.from_ms, span.kind) for span in agent] == [(start_ms, "cut")]
    floor = [span for span in lane(picture, "floor") if span.gen == gen]
    assert [span.kind for span in floor] == ["hold", "cut"]
    assert agent[0].to_ms == floor[0].from_ms
    assert floor[0].to_ms == floor[1].from_ms
    assert lane(picture, "caller")[-1].label == "tea please"


def test_noise_holds_and_the_agent_goes_on() -> None:
    driver = choosing()
    gen = driver.state.gen
    driver.post(PlayoutStarted(gen), 50)
    noise = driver.onset()
    driver.post(SpeechEnded(noise, 200, False), 200)
    driver.hear_all()
    picture = told(driver).picture()
    assert lane(picture, "caller")[-1].kind == "noise"
    parts = [span for span in lane(picture, "agent") if span.gen == gen]
    assert [span.kind for span in parts] == ["heard", "heard"]
    hold = next(span for span in lane(picture, "floor") if span.gen == gen)
    assert (parts[0].to_ms, parts[1].from_ms) == (hold.from_ms, hold.to_ms)


def test_a_turn_is_split_into_what_was_waited_for() -> None:
    driver = choosing()
    driver.hear_all()
    driver.say("tea please")
    offset_ms = next(ms for ms, event, _ in reversed(driver.log) if isinstance(event, SpeechEnded))
    driver.hear_all()
    turn = told(driver).turns[-1]
    sound_ms = next(ms for ms, event, _ in reversed(driver.log) if isinstance(event, PlayoutStarted))
    assert turn.ms == sound_ms
    assert turn.total_ms == sound_ms - offset_ms
    assert turn.endpointing_ms + turn.model_ms + turn.tts_ms == turn.total_ms
    assert turn.endpointing_ms >= 60
    assert turn.tts_ms >= 50


def test_words_from_before_the_offset_cost_nothing() -> None:
    latency = Latency()
    for at in range(3):
        assert latency.tell(at, at, PlayoutStopped(1, 0, 0, "done"), []) is None
    latency.tell(4, 100, SpeechEnded(1, 50, True), [])
    assert latency.tell(5, 400, PlayoutStarted(9), []) == Turn(5, 400, 0, 300, 0, 300)
    assert latency.tell(6, 500, PlayoutStarted(10), []) is None


def test_a_tool_runs_until_its_end_or_until_nobody_knows() -> None:
    driver = confirming()
    driver.hear_all()
    driver.key("#")
    tools = lane(told(driver).picture(), "tool")
    assert [(span.label, span.kind) for span in tools] == [
        ("find_customer", "done"),
        ("stock", "done"),
        ("order", "done"),
    ]
    driver = confirming()
    driver.hear_all()
    del driver.results["order"]
    driver.key("#")
    assert lane(told(driver).picture(), "tool")[-1].to_ms is None
    driver.wait(60_000)
    n = max(driver.state.tools)
    driver.post(ToolEnded(n, ToolOutcome.done, {}), 10)
    last = lane(told(driver).picture(), "tool")[-1]
    assert last.kind == "unknown"
    assert last.to_ms is not None
    assert last.to_ms < driver.now_ms


def test_timers_are_waits_with_their_ends() -> None:
    driver = greeted()
    driver.hear_all()
    driver.wait(driver.flow.limits.silence_s * 1000 + 10)
    driver.hear_all()
    driver.key("1")
    timers = lane(told(driver).picture(), "timer")
    assert next((span.label, span.kind) for span in timers if span.label == "silence") == ("silence", "fired")
    assert timers[-1].label == "keys"
    assert timers[-1].to_ms is None


def test_a_stretch_of_time_holds_what_touches_it() -> None:
    driver = confirming()
    spans = told(driver)
    whole = spans.picture()
    from_ms, to_ms = whole.duration_ms // 3, whole.duration_ms // 2
    part = spans.picture(from_ms, to_ms)
    for one, all_ in zip(part.lanes, whole.lanes, strict=True):
        expected = [s for s in all_.spans if s.from_ms <= to_ms and (s.to_ms is None or s.to_ms >= from_ms)]
        assert one.spans == expected
    assert part.entries == [entry for entry in whole.entries if from_ms <= entry.ms <= to_ms]
    assert part.duration_ms == whole.duration_ms
    assert spans.picture(whole.duration_ms + 1).entries == []


def test_what_goes_on_has_no_end_until_the_call_is_over() -> None:
    driver = confirming()
    spans = told(driver)
    assert lane(spans.picture(), "step")[-1].to_ms is None
    assert lane(spans.picture(over=True), "step")[-1].to_ms == driver.log[-1][0]
    assert lane(spans.picture(), "step")[-1].to_ms is None
