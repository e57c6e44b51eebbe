"""Scenarios in YAML: what an author may write, told with line and a way out where it is wrong.

Voice and level stand once for the scenario and may be set again at one thing said. Lengths are milliseconds; where a
range makes sense, `[500, 2000]` is each time another length between the two.
"""

from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    model_validator,
)

from app.load import steps
from app.load.noise import Noise as Kind
from app.load.steps import PAUSE, Scenario, Speech
from flows import source
from flows.problems import FlowError, Problem, Source, did_you_mean

SUFFIX: Final = ".yaml"
LIBRARY: Final = Path(__file__).parent / "scenarios"

MAX_TEXT_CHARS: Final = 500
MAX_CHOICES: Final = 50
MAX_STEPS: Final = 200  # in one list
MAX_TIMES: Final = 10_000
MAX_MS: Final = 3_600_000
MAX_NOISE_MS: Final = 60_000
MAX_DIGITS: Final = 200
MAX_JITTER_MS: Final = 2000
MAX_BURST: Final = 100
MAX_PAUSES_MS: Final = 60_000  # inside the words of one thing said
MAX_FILE_BYTES: Final = 4 * source.MAX_SOURCE_CHARS  # so long may its characters be in UTF-8


class ScenarioError(FlowError):
    """A scenario that cannot be played. `str()` of it is one line for each problem."""


def _range(given: Any) -> Any:
    both = given if isinstance(given, list) else [given, given]
    if len(both) != 2 or any(type(one) is not int for one in both):
        raise ValueError("must be a whole number of milliseconds, or two such as [500, 2000]")
    if both[0] > both[1]:
        raise ValueError(f"{both} is from the more to the less: write [{both[1]}, {both[0]}]")
    return both


def _pauses(text: str) -> str:
    if sum(int(ms) for ms in PAUSE.findall(text)) > MAX_PAUSES_MS:
        raise ValueError(f"the pauses in these words are longer than {MAX_PAUSES_MS // 1000} s: use several steps")
    return text


def _list(given: Any) -> Any:
    return given if isinstance(given, list) else [given]


def _key(name: str) -> BeforeValidator:
    """`x` for `{name: x}`."""
    return BeforeValidator(lambda given: given if isinstance(given, dict) else {name: given})


Ms = Annotated[int, Field(ge=0, le=MAX_MS)]
Range = Annotated[tuple[Ms, Ms], BeforeValidator(_range), Field(strict=False)]
Level = Annotated[float, Field(ge=-80, le=0)]
Text = Annotated[str, StringConstraints(min_length=1, max_length=MAX_TEXT_CHARS)]
Seed = Annotated[int, Field(ge=0)]


class _Spec(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class VoiceSpec(_Spec):
    name: Annotated[str, StringConstraints(min_length=1, max_length=60)] = steps.Voice().name
    rate: Annotated[int, Field(ge=80, le=450)] = steps.Voice().rate_wpm
    level_dbfs: Level = steps.DEFAULT_LEVEL_DBFS


class SpeechSpec(_Spec):
    text: Annotated[Text, AfterValidator(_pauses)] | None = None
    wav: Text | None = None
    voice: str | None = None
    rate: Annotated[int, Field(ge=80, le=450)] | None = None
    level_dbfs: Level | None = None

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.text is None) == (self.wav is None):
            raise ValueError("needs either text or wav")
        return self


SpeechText = Annotated[SpeechSpec, _key("text")]
Choice = Annotated[list[SpeechText], BeforeValidator(_list), Field(min_length=1, max_length=MAX_CHOICES)]


class SayIntoSpec(_Spec):
    say: Choice
    after_ms: Range = (1000, 1000)


class NoiseSpec(_Spec):
    kind: Annotated[Kind, Field(strict=False)]
    ms: Annotated[int, Field(ge=20, le=MAX_NOISE_MS)] = 400
    level_dbfs: Level = -20.0
    seed: Seed = 1
    after_ms: Range | None = None


class RoomSpec(_Spec):
    noise: Annotated[Kind, Field(strict=False)] = Kind.hush
    level_dbfs: Level = -60.0
    seed: Seed = 1


class ImpairedSpec(_Spec):
    loss: Annotated[float, Field(ge=0, le=0.9, strict=False)] = 0.0
    burst: Annotated[float, Field(ge=1, le=MAX_BURST, strict=False)] = 1.0
    jitter_ms: Annotated[int, Field(ge=0, le=MAX_JITTER_MS)] = 0

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.loss > self.burst / (self.burst + 1):
            raise ValueError(f"so much loss needs longer bursts: with burst {self.burst:g} it is at most half of that")
        return self


class NetworkSpec(ImpairedSpec):
    hears: ImpairedSpec | None = None


class WaitSpec(_Spec):
    agent_speaks: bool = False
    agent_done: bool = False
    agent_silent_ms: Range | None = None
    agent_speaking_ms: Range | None = None
    caption: Text | None = None
    ms: Range | None = None

    @model_validator(mode="after")
    def _one(self) -> Self:
        _one_key(self, "waits for one of")
        return self


class DigitsSpec(_Spec):
    digits: Annotated[str, StringConstraints(pattern=r"^[0-9*#]+$", max_length=MAX_DIGITS)]
    gap_ms: Ms = steps.DIGIT_GAP_MS
    duration_ms: Annotated[int, Field(ge=40, le=2000)] = steps.DIGIT_MS


class SilenceSpec(_Spec):
    ms: Range
    sends: bool = True


class DropSpec(_Spec):
    resume_after_ms: Range | None = None


class HangUpSpec(_Spec):
    agent_speaking_ms: Range | None = None
    after_ms: Range | None = None

    @model_validator(mode="after")
    def _at_most_one(self) -> Self:
        if self.agent_speaking_ms is not None and self.after_ms is not None:
            raise ValueError("takes one of agent_speaking_ms, after_ms")
        return self


class RepeatSpec(_Spec):
    times: Annotated[int, Field(ge=1, le=MAX_TIMES)]
    steps: Annotated["StepList", Field(min_length=1)]


Interjection = Annotated[SayIntoSpec, BeforeValidator(lambda given: _interjection(given))]


class StepSpec(_Spec):
    """Exactly one of these."""

    wait: Annotated[WaitSpec, BeforeValidator(lambda given: {given: True} if isinstance(given, str) else given)] | None
    say: Choice | None
    interrupt: Interjection | None
    backchannel: Interjection | None
    noise: Annotated[NoiseSpec, _key("kind")] | None
    digits: Annotated[DigitsSpec, _key("digits")] | None
    silence: Annotated[SilenceSpec, _key("ms")] | None
    drop: DropSpec | None
    repeat: RepeatSpec | None
    hang_up: HangUpSpec | None


def _interjection(given: Any) -> Any:
    """`words`, or `{say: words, after_ms: ...}`."""
    return given if isinstance(given, dict) and not given.keys() & {"text", "wav"} else {"say": given}


def _step(given: Any) -> Any:
    """`hang_up` and `{hang_up: null}` for `{hang_up: {}}`; every key but one is absent."""
    if isinstance(given, str):
        given = {given: {}}
    if not isinstance(given, dict):
        return given
    if len(given) != 1:
        raise ValueError("a step is one thing to do: begin each with its own -")
    return dict.fromkeys(StepSpec.model_fields) | {name: {} if one is None else one for name, one in given.items()}


StepList = Annotated[list[Annotated[StepSpec, BeforeValidator(_step)]], Field(max_length=MAX_STEPS)]


class ExpectSpec(_Spec):
    outcome: str = ""
    ends_by: Literal["", "caller", "agent"] = ""


class ScenarioSpec(_Spec):
    scenario: Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_-]*$", max_length=60)]
    about: str = ""
    voice: VoiceSpec = VoiceSpec()
    room: RoomSpec = RoomSpec()
    network: NetworkSpec = NetworkSpec()
    patience_ms: Annotated[int, Field(ge=100, le=MAX_MS)] = steps.DEFAULT_PATIENCE_MS
    steps: StepList = []
    loop: StepList = []
    after: StepList = []
    expect: ExpectSpec | None = None

    @model_validator(mode="after")
    def _something(self) -> Self:
        if not self.steps and not self.loop:
            raise ValueError("there is nothing to do: write steps, or a loop")
        return self


def _one_key(spec: BaseModel, what: str) -> None:
    if len([name for name in spec.model_fields_set if getattr(spec, name) not in (None, False)]) != 1:
        raise ValueError(f"{what} {', '.join(type(spec).model_fields)}")


# Reading


def library() -> dict[str, Path]:
    """The shipped scenarios by name."""
    return {path.stem: path for path in sorted(LIBRARY.glob("*" + SUFFIX))}


def find(name_or_path: str) -> Path:
    """A scenario's file, by path or by a shipped one's name. Raises `ScenarioError` that says what there is."""
    shipped = library()
    path = Path(name_or_path)
    if _is_file(path):
        return path
    if name_or_path in shipped:
        return shipped[name_or_path]
    hint = did_you_mean(path.stem, shipped)
    raise ScenarioError([Problem(name_or_path[:200], 0, 0, "", "there is no such scenario", hint)])


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name that no file can have
        return False


def load(path: Path) -> Scenario:
    """Read a file; WAV files in it are beside it. Raises `ScenarioError` with every problem found."""
    try:
        with path.open("rb") as file:
            text = file.read(MAX_FILE_BYTES).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ScenarioError([Problem(path.name, 0, 0, "", "not UTF-8 text")]) from None
    except OSError as error:
        raise ScenarioError([Problem(path.name, 0, 0, "", f"cannot be read: {error.strerror}")]) from None
    return loads(text, path.name, path.parent)


def loads(text: str, name: str, folder: Path) -> Scenario:
    """The same for a text; `name` stands for it in errors, and `folder` holds its WAV files."""
    try:
        data, places = source.read(text, name)
    except FlowError as error:
        raise ScenarioError(error.problems) from None
    if not isinstance(data, dict):
        raise ScenarioError([places.problem((), "a scenario is a mapping of keys", "begin with scenario: name")])
    try:
        spec = ScenarioSpec.model_validate(data)
    except ValidationError as error:
        raise ScenarioError(_problems(error, places)) from None
    scenario = _Builder(spec, folder).scenario()
    missing = sorted({one.wav for one in scenario.sounds() if isinstance(one, Speech) and one.wav})
    problems = [
        places.problem((), f"there is no file {Path(wav).name}", "paths begin at the scenario's folder")
        for wav in missing
        if not _is_file(Path(wav))
    ]
    if problems:
        raise ScenarioError(problems)
    return scenario


def _problems(error: ValidationError, places: Source) -> list[Problem]:
    found: dict[tuple[str, str], Problem] = {}
    for one in error.errors(include_url=False, include_input=False):
        path = tuple(one["loc"])
        message, hint = _said(one["type"], one["msg"], path)
        problem = places.problem(path, message, hint)
        found.setdefault((problem.path, problem.message), problem)
    return sorted(found.values(), key=lambda problem: (problem.line, problem.column))


def _said(kind: str, message: str, path: tuple[str | int, ...]) -> tuple[str, str]:
    match kind:
        case "missing":
            return "is required", ""
        case "extra_forbidden":
            return "there is no such key", did_you_mean(str(path[-1]), _keys_at(path[:-1]))
        case "string_type":
            return "must be text", "numbers and digits need quotation marks here"
        case "model_type":
            return "must be a mapping of keys", ""
        case "list_type":
            return "must be a list", "begin each step with its own -"
        case "too_short":
            return "must not be empty", ""
    return message.removeprefix("Value error, ").replace("Input should be", "must be"), ""


_INSIDE: Final[dict[str, type[BaseModel]]] = {
    "voice": VoiceSpec, "room": RoomSpec, "network": NetworkSpec, "hears": ImpairedSpec, "expect": ExpectSpec,
    "wait": WaitSpec, "say": SpeechSpec, "interrupt": SayIntoSpec, "backchannel": SayIntoSpec, "noise": NoiseSpec,
    "digits": DigitsSpec, "silence": SilenceSpec, "drop": DropSpec, "repeat": RepeatSpec, "hang_up": HangUpSpec,
}  # fmt: skip


def _keys_at(path: tuple[str | int, ...]) -> list[str]:
    """Of the mapping at a path."""
    if not path:
        return list(ScenarioSpec.model_fields)
    if len(path) > 1 and path[-2] in ("steps", "loop", "after"):
        return list(StepSpec.model_fields)
    named = next((part for part in reversed(path) if isinstance(part, str)), "")
    return list(_INSIDE[named].model_fields) if named in _INSIDE else []


# Building


class _Builder:
    def __init__(self, spec: ScenarioSpec, folder: Path) -> None:
        self._spec = spec
        self._folder = folder

    def scenario(self) -> Scenario:
        spec = self._spec
        return Scenario(
            name=spec.scenario,
            steps=self._steps(spec.steps),
            loop=self._steps(spec.loop),
            after=self._steps(spec.after),
            about=spec.about,
            room=steps.Noise(spec.room.noise, ROOM_MS, spec.room.level_dbfs, spec.room.seed),
            sends=_network(spec.network),
            hears=_network(spec.network.hears) if spec.network.hears is not None else steps.Network(),
            patience_ms=spec.patience_ms,
            expect=steps.Expect(spec.expect.outcome, spec.expect.ends_by) if spec.expect is not None else None,
        )

    def _steps(self, specs: list[StepSpec]) -> tuple[steps.Step, ...]:
        return tuple(self._one(spec) for spec in specs)

    def _one(self, spec: StepSpec) -> steps.Step:
        if spec.wait is not None:
            return _wait(spec.wait)
        if spec.say is not None:
            return steps.Say(self._speech(spec.say))
        if spec.interrupt is not None:
            return steps.Interrupt(self._speech(spec.interrupt.say), spec.interrupt.after_ms)
        if spec.backchannel is not None:
            return steps.Backchannel(self._speech(spec.backchannel.say), spec.backchannel.after_ms)
        if spec.noise is not None:
            one = spec.noise
            return steps.MakeNoise(steps.Noise(one.kind, one.ms, one.level_dbfs, one.seed), one.after_ms)
        if spec.digits is not None:
            return steps.Digits(spec.digits.digits, spec.digits.gap_ms, spec.digits.duration_ms)
        if spec.silence is not None:
            return steps.Silence(spec.silence.ms, spec.silence.sends)
        if spec.drop is not None:
            return steps.Drop(spec.drop.resume_after_ms)
        if spec.repeat is not None:
            return steps.Repeat(spec.repeat.times, self._steps(spec.repeat.steps))
        assert spec.hang_up is not None
        return steps.HangUp(spec.hang_up.agent_speaking_ms, spec.hang_up.after_ms)

    def _speech(self, specs: list[SpeechSpec]) -> tuple[Speech, ...]:
        voice = self._spec.voice
        return tuple(
            Speech(
                text=one.text or "",
                wav=str(self._folder / one.wav) if one.wav else "",
                voice=steps.Voice(one.voice or voice.name, one.rate or voice.rate),
                level_dbfs=one.level_dbfs if one.level_dbfs is not None else None if one.wav else voice.level_dbfs,
            )
            for one in specs
        )


ROOM_MS: Final = 6000
"""One round of a room's noise."""


def _wait(spec: WaitSpec) -> steps.Wait:
    if spec.agent_speaks:
        return steps.Wait(steps.For.agent_speaks)
    if spec.agent_done:
        return steps.Wait(steps.For.agent_done, (steps.DEFAULT_DONE_MS, steps.DEFAULT_DONE_MS))
    if spec.agent_silent_ms is not None:
        return steps.Wait(steps.For.agent_done, spec.agent_silent_ms)
    if spec.agent_speaking_ms is not None:
        return steps.Wait(steps.For.agent_speaking, spec.agent_speaking_ms)
    if spec.caption is not None:
        return steps.Wait(steps.For.caption, words=spec.caption)
    assert spec.ms is not None
    return steps.Wait(steps.For.time, spec.ms)


def _network(spec: ImpairedSpec) -> steps.Network:
    return steps.Network(spec.loss, spec.burst, spec.jitter_ms)
