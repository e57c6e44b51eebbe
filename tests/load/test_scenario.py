"""Scenarios as authors write them, right and wrong."""

import wave
from pathlib import Path

import pytest

from app.load import scenario, steps
from app.load.noise import Noise as Kind
from app.load.scenario import ScenarioError
from app.load.steps import Backchannel, Digits, Drop, For, HangUp, Interrupt, MakeNoise, Repeat, Say, Scenario, Wait

HERE = Path(__file__).parent

WHOLE = """
scenario: ordinary
about: Asks, listens, interrupts once, answers, hangs up.
voice: {name: en-us+f3, rate: 150, level_dbfs: -22}
room: {noise: street, level_dbfs: -50}
network: {loss: 0.02, burst: 3, jitter_ms: 40, hears: {loss: 0.01}}
patience_ms: 9000
steps:
  - wait: agent_done
  - wait: {agent_speaking_ms: 800}
  - wait: {ms: [500, 900]}
  - wait: {caption: Which day}
  - say: I would like an appointment
  - say: [yes, {text: no, level_dbfs: -30, voice: en-us+m1}]
  - interrupt: {after_ms: 1500, say: Tuesday}
  - backchannel: mm-hm
  - noise: {kind: cough, ms: 300, level_dbfs: -18}
  - digits: "31051980#"
  - silence: {ms: 4000, sends: false}
  - drop: {resume_after_ms: 800}
  - drop:
loop:
  - repeat: {times: 5, steps: [{say: hello}, {wait: agent_speaks}]}
after:
  - hang_up: {agent_speaking_ms: 500}
expect: {outcome: booked, ends_by: agent}
"""


def read(text: str, folder: Path = HERE) -> Scenario:
    return scenario.loads(text, "test.yaml", folder)


def problems(text: str) -> list[str]:
    with pytest.raises(ScenarioError) as caught:
        read(text)
    return str(caught.value).splitlines()


def test_every_key_is_read() -> None:
    made = read(WHOLE)
    voice = steps.Voice("en-us+f3", 150)

    def say(text: str) -> steps.Speech:
        return steps.Speech(text, voice=voice, level_dbfs=-22)

    assert made.steps == (
        Wait(For.agent_done, (700, 700)),
        Wait(For.agent_speaking, (800, 800)),
        Wait(For.time, (500, 900)),
        Wait(For.caption, words="Which day"),
        Say((say("I would like an appointment"),)),
        Say((say("yes"), steps.Speech("no", voice=steps.Voice("en-us+m1", 150), level_dbfs=-30))),
        Interrupt((say("Tuesday"),), (1500, 1500)),
        Backchannel((say("mm-hm"),), (1000, 1000)),
        MakeNoise(steps.Noise(Kind.cough, 300, -18)),
        Digits("31051980#"),
        steps.Silence((4000, 4000), sends=False),
        Drop((800, 800)),
        Drop(None),
    )
    assert made.loop == (Repeat(5, (Say((say("hello"),)), Wait(For.agent_speaks))),)
    assert made.after == (HangUp((500, 500)),)
    assert made.room == steps.Noise(Kind.street, scenario.ROOM_MS, -50)
    assert made.sends == steps.Network(0.02, 3, 40)
    assert made.hears == steps.Network(0.01, 1, 0)
    assert made.patience_ms == 9000
    assert made.expect == steps.Expect("booked", "agent")


def test_its_sounds_are_found_in_repeats_too_and_each_once() -> None:
    made = read("scenario: a\nsteps: [{say: hi}, {repeat: {times: 2, steps: [{say: hi}, {noise: click}]}}]")
    assert [type(sound).__name__ for sound in made.sounds()] == ["Speech", "Noise"]


@pytest.mark.parametrize("name", sorted(scenario.library()))
def test_a_stock_scenario_is_named_as_its_file_and_says_what_it_is(name: str) -> None:
    made = scenario.load(scenario.find(name))
    assert made.name == name
    assert made.about


def test_there_are_ordinary_hostile_and_badly_connected_callers() -> None:
    made = [scenario.load(path) for path in scenario.library().values()]
    assert sum(one.about.startswith("Hostile") for one in made) >= 5
    assert sum(one.about.startswith("A bad network") for one in made) >= 3
    assert sum(not one.about.startswith(("Hostile", "A bad network")) for one in made) >= 4


def test_mistakes_are_told_together_with_line_and_way_out() -> None:
    assert problems(
        "scenario: bad\nvoices: {}\nsteps:\n"
        "  - wait: agent_dne\n  - say: {txt: hello}\n  - digits: 123\n  - {say: x, wait: agent_done}\n"
        "  - interupt: hello\n  - noise: coff\n  - repeat: {times: 0, steps: [{weit: agent_done}]}\n"
    ) == [
        "test.yaml:2: voices: there is no such key (did you mean voice?)",
        "test.yaml:4: steps[0].wait.agent_dne: there is no such key (did you mean agent_done?)",
        "test.yaml:5: steps[1].say[0].txt: there is no such key (did you mean text?)",
        "test.yaml:6: steps[2].digits.digits: must be text (numbers and digits need quotation marks here)",
        "test.yaml:7: steps[3]: a step is one thing to do: begin each with its own -",
        "test.yaml:8: steps[4].interupt: there is no such key (did you mean interrupt?)",
        "test.yaml:9: steps[5].noise.kind: must be "
        + problems("scenario: a\nsteps: [{noise: x}]")[0].split("must be ")[1],
        "test.yaml:10: steps[6].repeat.times: must be greater than or equal to 1",
        "test.yaml:10: steps[6].repeat.steps[0].weit: there is no such key (did you mean wait?)",
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "the file is empty"),
        ("- say: hello", "begin with scenario: name"),
        ("scenario: a", "there is nothing to do"),
        ("scenario: Ä\nsteps: [hang_up]", "pattern"),
        ("scenario: a\nsteps: [hang_up, [1]]", "steps[1]"),
        ("scenario: a\nsteps: [{wait: {agent_speaks: true, ms: 3}}]", "waits for one of"),
        ("scenario: a\nsteps: [{wait: {}}]", "waits for one of"),
        ("scenario: a\nsteps: [{say: []}]", "must not be empty"),
        ("scenario: a\nloop: [{repeat: {times: 9, steps: []}}]", "must not be empty"),
        ("scenario: a\nsteps: hello", "must be a list"),
        ("scenario: a\nsteps: [{drop: 5}]", "must be a mapping"),
        ("scenario: a\nsteps: [{wait: {ms: [5]}}]", "two such as [500, 2000]"),
        ("scenario: a\nsteps: [{wait: {ms: [1, 2, 3]}}]", "two such as [500, 2000]"),
        ("scenario: a\nsteps: [{wait: {ms: true}}]", "two such as [500, 2000]"),
        ("scenario: a\nsteps: [{wait: {ms: [2000, 500]}}]", "write [500, 2000]"),
        ("scenario: a\nsteps: [{noise: {kind: cough, seed: -1}}]", "greater than or equal to 0"),
        ("scenario: a\nroom: {seed: -1}\nsteps: [hang_up]", "greater than or equal to 0"),
        ("scenario: a\nsteps: [{say: 'so [40000] slow [40000] ly'}]", "longer than 60 s"),
        ("scenario: a\nsteps: [{say: {wav: " + "x" * 400 + ".wav}}]", "there is no file"),
        ("scenario: a\nsteps: [{say: {text: a, wav: b.wav}}]", "either text or wav"),
        ("scenario: a\nsteps: [{say: {wav: nowhere.wav}}]", "there is no file nowhere.wav"),
        ("scenario: a\nsteps: [{digits: 'x'}]", "digits"),
        ("scenario: a\nsteps: [{hang_up: {after_ms: 1, agent_speaking_ms: 1}}]", "takes one of"),
        ("scenario: a\nnetwork: {loss: 0.8, burst: 2}\nsteps: [hang_up]", "longer bursts"),
        ("scenario: a\nsteps: [{silence: {ms: 99999999}}]", "less than or equal to"),
        ("scenario: a\nscenario: b\nsteps: [hang_up]", "stands here twice"),
        ("scenario: a\nsteps: &x [*x]", "aliases"),
        ("scenario: [", "YAML"),
        ("\x00", "character"),
    ],
)
def test_what_makes_no_sense_is_refused(text: str, said: str) -> None:
    assert said in "\n".join(problems(text))


def test_a_file_that_is_not_there_names_those_that_are() -> None:
    with pytest.raises(ScenarioError, match=r"did you mean talk\?"):
        scenario.find("talkk")
    with pytest.raises(ScenarioError):
        scenario.find("x" * 5000)


def test_a_file_without_end_is_not_read_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "long.yaml"
    path.write_text("#" * 2_000_000)
    with pytest.raises(ScenarioError, match="longer than"):
        scenario.load(path)


def test_files_that_are_no_text(tmp_path: Path) -> None:
    path = tmp_path / "latin.yaml"
    path.write_bytes(b"scenario: a\nabout: \xe4\n")
    with pytest.raises(ScenarioError, match="not UTF-8"):
        scenario.load(path)
    with pytest.raises(ScenarioError, match="cannot be read"):
        scenario.load(tmp_path)


def test_a_wav_file_is_beside_its_scenario_and_as_loud_as_it_is(tmp_path: Path) -> None:
    with wave.open(str(tmp_path / "hello.wav"), "wb") as file:
        file.setparams((1, 2, 8000, 0, "NONE", ""))
        file.writeframes(b"\x00\x10" * 800)
    (tmp_path / "own.yaml").write_text("scenario: own\nsteps: [{say: {wav: hello.wav}}]")
    (sound,) = scenario.load(scenario.find(str(tmp_path / "own.yaml"))).sounds()
    assert isinstance(sound, steps.Speech)
    assert sound.wav == str(tmp_path / "hello.wav")
    assert sound.level_dbfs is None
