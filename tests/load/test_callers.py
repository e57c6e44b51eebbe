"""Simulated callers against the whole server over both WebSocket protocols, and what they tell of it."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec import Struct

from app.core.events import Digit, PlayoutStopped
from app.core.request import Hearing
from app.load.calls import run_calls
from app.load.line import Listener
from app.load.lines import websocket_lines
from app.load.results import CallResult, EndedBy, What
from app.load.scenario import loads
from app.load.sounds import Sounds
from app.load.steps import Scenario
from app.ports import Pcm
from app.providers.scripted import ScriptedStt
from media.codec import Codec, Pcmu
from tests.e2e.server import Server, running

FLOWS = Path(__file__).parents[1] / "e2e" / "flows"
LECTURE = FLOWS / "lecture.yaml"
TALK = FLOWS / "talk.yaml"
WORDS_PER_S = 2.6
PATHS = {"plain": "/ws/audio?x=1", "twilio": "/ws/twilio"}
MANY_SAMPLES = 16_000 * 1.7
"""Of what the recogniser gets at 16 kHz: more than a small word."""

SANE_MS = 2000
"""On a busy machine; the benchmarks have the real figures."""

SCENES = {
    "interrupts": """steps:
  - interrupt: {after_ms: 1200, say: "on Monday please, if that is possible, and nothing else"}
  - wait: {agent_speaking_ms: 300}
""",
    "small words": """steps:
  - backchannel: {after_ms: 800, say: hmm}
  - wait: {ms: 2000}
  - noise: {kind: cough, ms: 300, level_dbfs: -18, after_ms: 300}
  - wait: {ms: 2000}
""",
    "takes a word for a turn": """steps:
  - backchannel: {after_ms: 800, say: "mm-hm, okay, I see, all right, mm-hm, go on"}
  - wait: {ms: 2000}
""",
    "keys": """steps:
  - wait: {agent_speaking_ms: 800}
  - digits: "12#"
  - wait: agent_speaks
  - wait: {ms: 300}
""",
    "drops": """steps:
  - wait: {agent_speaking_ms: 300}
  - drop: {resume_after_ms: 300}
  - wait: {agent_speaking_ms: 300}
""",
    "drops for good": "steps: [{wait: agent_speaks}, drop, {say: never}]\n",
    "hangs up": "steps: [{hang_up: {agent_speaking_ms: 400}}]\nexpect: {ends_by: caller}\n",
    "bad network": """network: {loss: 0.1, burst: 3, jitter_ms: 30, hears: {loss: 0.02, jitter_ms: 10}}
steps:
  - interrupt: {after_ms: 1000, say: "on Monday please, if that is possible, and nothing else"}
  - wait: {agent_speaking_ms: 300}
""",
}


class Seen(Struct):
    """What a run of all scenes over one protocol gave, and what the server saw of it."""

    calls: dict[str, CallResult]
    cuts: dict[str, int]  # by the server's call
    keys: list[str]
    ends: dict[str, str]  # the cause in the call record


def heard(pcm: Pcm, hearing: Hearing | None) -> str:
    return "on monday please"


def scenario(text: str) -> Scenario:
    return loads(f"scenario: test\npatience_ms: 8000\nvoice: {{name: en-us+m3}}\n{text}", "test", Path())


async def play(
    server: Server, path: str, text: str, *, count: int = 1, sounds: Sounds | None = None
) -> list[CallResult]:
    return await run_calls(websocket_lines(server.ws(path)), [scenario(text)], count, 20, 0, sounds=sounds)


def of(result: CallResult, what: What) -> list[float]:
    return [measure.ms for measure in result.measures if measure.what is what]


def by_length(rate_hz: int) -> Callable[[Pcm, Hearing | None], str]:
    return lambda pcm, hearing: "mm hm" if len(pcm) * 16_000 < MANY_SAMPLES * rate_hz else "on monday please"


async def _run(folder: Path, path: str) -> Seen:
    """All scenes at once."""
    stt = ScriptedStt(by_length(8000 if "twilio" in path else 16_000))
    async with running(folder, flows=[LECTURE], stt=stt, words_per_s=WORDS_PER_S) as server:
        lines = websocket_lines(server.ws(path))
        scenarios = [scenario(text) for text in SCENES.values()]
        results = await run_calls(lines, scenarios, len(scenarios), 20, 0)
        calls = dict(zip(SCENES, results, strict=True))
        keys = [fact.digit for fact in server.facts(Digit)]
        cuts: dict[str, int] = {}
        for seen in server.seen:
            if isinstance(seen.event, PlayoutStopped):
                cuts[seen.call] = cuts.get(seen.call, 0) + (seen.event.cause == "cut")
        ended = [name for name in ("hangs up", "interrupts") if path == PATHS["plain"]]
        ends = {name: str((await server.over(calls[name].call))["cause"]) for name in ended}
    return Seen(calls, cuts, keys, ends)


async def _both(folder: Path) -> dict[str, Seen]:
    async with asyncio.TaskGroup() as group:
        tasks = {name: group.create_task(_run(folder / name, path)) for name, path in PATHS.items()}
    return {name: task.result() for name, task in tasks.items()}


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Seen]:
    return asyncio.run(_both(tmp_path_factory.mktemp("callers")))


@pytest.fixture(params=PATHS)
def seen(request: pytest.FixtureRequest, both: dict[str, Seen]) -> Seen:
    return both[str(request.param)]


def test_no_call_failed_that_was_not_meant_to(seen: Seen) -> None:
    assert {name: result.error for name, result in seen.calls.items()} == dict.fromkeys(SCENES, "")
    assert {result.ended_by for result in seen.calls.values()} == {EndedBy.caller}
    assert all(len(of(result, What.set_up)) == 1 for result in seen.calls.values())
    assert len(seen.cuts) == len(SCENES), "one that comes back is the same call"
    assert {result.transport for result in seen.calls.values()} <= PATHS.keys()


def test_an_interruption_and_its_answer_are_measured(seen: Seen) -> None:
    result = seen.calls["interrupts"]
    assert (result.interruptions, result.unyielded, result.turns, result.false_ends) == (1, 0, 1, 0)
    (barge_in,), (to_clear,), (response,) = (of(result, w) for w in (What.barge_in, What.to_clear, What.response))
    assert 0 < barge_in < SANE_MS
    assert barge_in <= to_clear + 40
    assert 0 < response < SANE_MS
    assert result.said == ["on Monday please, if that is possible, and nothing else"]
    if seen.ends:
        assert seen.cuts[result.call] == 1, "the server's view is the same"


def test_small_words_and_noise_are_judged_by_how_long_the_agent_is_silent(seen: Seen) -> None:
    result = seen.calls["small words"]
    assert result.noises + result.backchannels + result.own >= 2
    assert (result.stopped_by_noise, result.turns) == (0, 0)
    assert result.stopped_by_backchannel in (0, 1), "it goes on in place, but perhaps not soon enough"
    assert not of(result, What.barge_in)
    if seen.ends:
        assert seen.cuts[result.call] == 0


def test_a_small_word_that_does_stop_the_agent_is_counted_too(seen: Seen) -> None:
    result = seen.calls["takes a word for a turn"]
    assert result.stopped_by_backchannel == result.backchannels
    assert result.backchannels + result.own >= 1


def test_keys_reach_the_call_and_what_they_stop_is_measured(seen: Seen) -> None:
    assert seen.keys == ["1", "2", "#"]
    (stopped,) = of(seen.calls["keys"], What.key_barge_in)
    assert 0 <= stopped < SANE_MS


def test_a_dropped_call_comes_back(seen: Seen) -> None:
    result = seen.calls["drops"]
    assert (result.dropped, result.resumed) == (1, 1)
    assert len(of(result, What.resume)) == 1
    assert not of(result, What.gap)


def test_a_call_that_drops_for_good_says_no_more(seen: Seen) -> None:
    result = seen.calls["drops for good"]
    assert (result.dropped, result.resumed, result.said) == (1, 0, [])


def test_hanging_up_in_mid_sentence_is_the_callers_own_end(seen: Seen) -> None:
    assert seen.calls["hangs up"].as_expected is True
    if seen.ends:
        assert seen.ends == dict.fromkeys(("hangs up", "interrupts"), "caller-hangup")


def test_a_bad_network_is_lived_through(seen: Seen) -> None:
    result = seen.calls["bad network"]
    assert result.interruptions + result.own >= 1


async def test_the_agents_goodbye_ends_the_scenario_and_its_outcome_is_judged(tmp_path: Path) -> None:
    def steps(outcome: str) -> str:
        return f"""steps:
  - wait: {{agent_silent_ms: 300}}
  - say: on Monday please
  - wait: {{agent_silent_ms: 300}}
  - digits: "#"
  - silence: {{ms: 20000}}
expect: {{outcome: {outcome}, ends_by: agent}}
"""

    async with (
        running(tmp_path, flows=[TALK], stt=ScriptedStt(heard)) as server,
        Sounds() as sounds,
        asyncio.TaskGroup() as group,
    ):
        told, wrong, unknown = [
            group.create_task(play(server, path, steps(outcome), sounds=sounds))
            for path, outcome in (("/ws/audio", "told"), ("/ws/audio", "booked"), ("/ws/twilio", "told"))
        ]
        async with asyncio.timeout(30):
            await asyncio.wait([told, wrong, unknown])
    (one,) = told.result()
    assert (one.ended_by, one.cause, one.outcome, one.as_expected) == (EndedBy.agent, "flow", "told", True)
    (one,) = wrong.result()
    assert (one.outcome, one.as_expected) == ("told", False)
    (one,) = unknown.result()
    assert (one.ended_by, one.cause, one.as_expected) == (EndedBy.agent, "flow", None)


async def test_a_caller_may_wait_for_words(tmp_path: Path) -> None:
    steps = "steps: [{wait: {caption: which DAY}}, {hang_up: }]"
    async with running(tmp_path, flows=[TALK]) as server:
        (result,) = await play(server, "/ws/audio", steps)
    assert (result.ended_by, result.error) == (EndedBy.caller, "")
    assert result.talked_s < 7, "before its patience ended"


@pytest.mark.parametrize("path", PATHS.values())
async def test_calls_past_the_limit_are_refused_and_the_others_are_not_hurt(tmp_path: Path, path: str) -> None:
    steps = "steps: [{wait: {agent_speaking_ms: 500}}, {wait: {ms: 500}}]\n"
    async with running(tmp_path, flows=[LECTURE], words_per_s=WORDS_PER_S, max_calls=2) as server:
        results = await play(server, path, steps, count=4)
    assert sorted(result.refused for result in results) == ["", "", "busy", "busy"]
    assert sum(result.ended_by is EndedBy.nobody for result in results) == 2
    assert sum(result.talked_s > 0.5 for result in results) == 2


async def test_a_server_that_goes_away_is_an_error_by_kind(tmp_path: Path) -> None:
    async with running(tmp_path, flows=[LECTURE], words_per_s=WORDS_PER_S) as server, asyncio.TaskGroup() as group:
        url = server.ws("/ws/audio")
        task = group.create_task(play(server, "/ws/audio", "steps: [{silence: {ms: 30000}}]"))
        await server.until(lambda: server.seen)
        server.gate.stop()
    (result,) = task.result()
    assert result.ended_by in (EndedBy.lost, EndedBy.agent)
    (nobody,) = await run_calls(websocket_lines(url), [scenario("steps: [hang_up]")], 1, 1, 0)
    assert (nobody.error, nobody.ended_by, nobody.talked_s) == ("unreachable", EndedBy.nobody, 0.0)


async def test_a_hold_repeats_the_loop_and_then_the_rest_is_played(tmp_path: Path) -> None:
    steps = 'steps: [{wait: agent_speaks}]\nloop: [{wait: {ms: 100}}, {digits: "0"}]\nafter: [{digits: "9"}]'
    async with running(tmp_path, flows=[LECTURE]) as server:
        lines = websocket_lines(server.ws("/ws/audio"))
        (result,) = await run_calls(lines, [scenario(steps)], 1, 1, 1.0)
        digits = [fact.digit for fact in server.facts(Digit)]
    assert result.ended_by is EndedBy.caller, result
    assert result.talked_s >= 1.0
    assert digits[-1] == "9"
    assert set(digits[:-1]) == {"0"}
    assert len(digits) >= 3


async def test_callers_are_spread_by_the_ramp_and_numbered_by_their_worker(tmp_path: Path) -> None:
    async with running(tmp_path, flows=[LECTURE]) as server:
        lines = websocket_lines(server.ws("/ws/audio"))
        given = [scenario("steps: [{wait: {ms: 100}}]")]
        results = await run_calls(lines, given, 4, 10, 0, first=1, step=2)
    assert [result.number for result in results] == [1, 3, 5, 7]
    for result in results:
        assert result.began_s >= result.number / 10 - 0.01
    assert not any(result.error or result.refused for result in results)


class Faulty:
    """A line; those with an odd number have a fault of ours in them."""

    clears = True
    call = ""

    def __init__(self, number: int) -> None:
        self.codec: Codec = Pcmu()
        self._odd = number % 2

    async def connect(self, listener: Listener) -> None:
        if self._odd:
            raise ZeroDivisionError

    def send(self, payload: bytes) -> None: ...
    def digit(self, digit: str, duration_ms: int) -> None: ...
    def drop(self) -> None: ...
    async def hang_up(self) -> None: ...
    async def resume(self) -> None: ...


async def test_our_own_fault_ends_that_call_only() -> None:
    results = await run_calls(Faulty, [scenario("steps: [{wait: {ms: 40}}]")], 4, 1000.0, 0.1)
    assert [result.error for result in results] == ["", "tester", "", "tester"]
    assert [result.ended_by for result in results] == ["caller", "nobody", "caller", "nobody"]
