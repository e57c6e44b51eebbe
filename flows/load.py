"""From a YAML file to a flow that can run, and from a flow to the bytes under which a store keeps it."""

import hashlib
from collections.abc import Iterable
from pathlib import Path

import msgspec
from pydantic import ValidationError

from flows import schema, source, template
from flows.check import check
from flows.model import (
    Argument,
    Choice,
    Flow,
    HttpCall,
    Limits,
    Model,
    Slot,
    Step,
    Texts,
    Tool,
    TransferTo,
    Transition,
    Voice,
)
from flows.problems import ERROR, FlowError, Problem, Source, did_you_mean

__all__ = [
    "FlowError",
    "Problem",
    "find",
    "flow_bytes",
    "flow_hash",
    "from_bytes",
    "inspect",
    "inspect_file",
    "library",
    "load",
    "loads",
]

SUFFIX = ".yaml"
MAX_FILE_BYTES = 4 * source.MAX_SOURCE_CHARS
LIBRARY = Path(__file__).parent / "library"
HASH_BYTES = 32
ONE_DIGIT_KEYS = "1234567890"

_decoder = msgspec.json.Decoder(Flow)


def load(path: Path, default_model: Model | None = None) -> Flow:
    """Read a file. Raises `FlowError` with every problem found, references included.

    `default_model` serves a flow that names no models; without it such a flow runs by rules.
    """
    return loads(_text(path), path.name, default_model)


def loads(text: str, name: str, default_model: Model | None = None) -> Flow:
    """The same for a text; `name` stands for it in errors."""
    flow, problems = inspect(text, name, default_model)
    errors = [problem for problem in problems if problem.severity == ERROR]
    if errors or flow is None:
        raise FlowError(errors)
    return flow


def inspect(text: str, name: str, default_model: Model | None = None) -> tuple[Flow | None, list[Problem]]:
    """All problems, warnings too; the flow only where it could be built. Raises nothing."""
    try:
        data, places = source.read(text, name)
    except FlowError as error:
        return None, list(error.problems)
    if not isinstance(data, dict):
        return None, [places.problem((), "a flow is a mapping of keys", "begin with flow: name")]
    try:
        spec = schema.FlowSpec.model_validate(data)
    except ValidationError as error:
        return None, _problems(error, places)
    flow = _flow(spec, default_model)
    return flow, check(flow, places)


def inspect_file(path: Path, default_model: Model | None = None) -> tuple[Flow | None, list[Problem]]:
    """The same for a file."""
    try:
        return inspect(_text(path), path.name, default_model)
    except FlowError as error:
        return None, list(error.problems)


def library() -> dict[str, Path]:
    """The shipped flows by name."""
    return {path.stem: path for path in sorted(LIBRARY.glob("*" + SUFFIX))}


def find(name_or_path: str) -> Path:
    """A flow's file, by path or by a shipped flow's name. Raises `FlowError` that says what there is."""
    path = Path(name_or_path)
    shipped = library()
    if name_or_path in shipped and not path.is_file():
        return shipped[name_or_path]
    try:
        if path.is_file():
            return path
    except (OSError, ValueError):  # a name that no file can have
        pass
    near = [found.name for found in path.parent.glob("*" + SUFFIX)] if path.parent.is_dir() else []
    hint = did_you_mean(path.name, [*shipped, *near])
    raise FlowError([Problem(name_or_path[:200], 0, 0, "", "there is no such flow", hint)])


def flow_bytes(flow: Flow) -> bytes:
    """Its JSON. The order of slots, steps and models is kept, since it counts."""
    return msgspec.json.encode(flow)


def flow_hash(flow: Flow) -> str:
    """Hex; equal flows have equal hashes."""
    return bytes_hash(flow_bytes(flow))


def bytes_hash(data: bytes) -> str:
    """The same of its bytes, whether or not they are still a flow of this version."""
    return hashlib.blake2b(data, digest_size=HASH_BYTES).hexdigest()


def from_bytes(data: bytes) -> Flow:
    """Raises `FlowError` where these are not a flow's bytes."""
    try:
        return _decoder.decode(data)
    except msgspec.DecodeError:
        raise FlowError([Problem("stored flow", 0, 0, "", "not a flow of this version")]) from None


# Reading


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
        if len(data) > MAX_FILE_BYTES:
            raise FlowError([Problem(path.name, 0, 0, "", f"larger than {MAX_FILE_BYTES} bytes")])
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise FlowError([Problem(path.name, 0, 0, "", "not UTF-8 text")]) from None
    except OSError as error:
        raise FlowError([Problem(path.name, 0, 0, "", f"cannot be read: {error.strerror}")]) from None


def _problems(error: ValidationError, places: Source) -> list[Problem]:
    found: dict[tuple[str, str], Problem] = {}
    for one in error.errors(include_url=False, include_input=False):
        path = tuple(part for part in one["loc"] if part != "[key]")
        message, hint = _said(one["type"], one["msg"], path, is_key=one["loc"][-1:] == ("[key]",))
        problem = places.problem(path, message, hint)
        found.setdefault((problem.path, problem.message), problem)
    return sorted(found.values(), key=lambda problem: (problem.line, problem.column))


def _said(kind: str, message: str, path: tuple[str | int, ...], *, is_key: bool) -> tuple[str, str]:
    """A message and a hint, without repeating what stood there."""
    key = str(path[-1]) if path else ""
    match kind:
        case "missing":
            return "is required", ""
        case "extra_forbidden" if key in schema.NOT_YET:
            return "not supported yet", ""
        case "extra_forbidden" if " " in key.strip():
            return "there is no such key", "text with a comma or a colon needs quotation marks"
        case "extra_forbidden":
            return "there is no such key", did_you_mean(key, schema.keys_at(path[:-1]))
        case "string_pattern_mismatch":
            return "must be a lower case name of letters, digits and _", ""
        case "too_long" | "string_too_long" if is_key:
            return "is too long a name", ""
    return message.removeprefix("Value error, ").replace("Input should be", "must be"), ""


# Building


def _flow(spec: schema.FlowSpec, default_model: Model | None) -> Flow:
    models = {name: Model(name, model.use, model.model) for name, model in spec.models.items()}
    default = default_model or Model("default", "rules")
    slots = {name: _slot(name, slot) for name, slot in spec.slots.items()}
    return Flow(
        name=spec.flow,
        version=spec.version,
        start=spec.start,
        steps={name: _step(name, step) for name, step in spec.steps.items()},
        texts=Texts(**spec.texts.model_dump()),
        slots=slots,
        tools={name: _tool(name, tool, slots) for name, tool in spec.tools.items()},
        digressions=tuple(name for name in spec.digressions if name != "repeat" or name in spec.steps),
        models=models or {default.name: default},
        language=spec.language,
        voice=Voice(**spec.voice.model_dump()),
        limits=Limits(**spec.limits.model_dump()),
        give_up=spec.give_up,
        voicemail=spec.voicemail,
        record=spec.record,
        allow_hosts=tuple(spec.allow_hosts),
    )


def _slot(name: str, spec: schema.SlotSpec) -> Slot:
    choices = tuple(
        Choice(value, _phrases(value, phrases), ONE_DIGIT_KEYS[at : at + 1])
        for at, (value, phrases) in enumerate(spec.choices.items())
    )
    return Slot(
        name=name,
        type=spec.type,
        ask=spec.ask,
        readback=spec.readback,
        confirm=spec.confirm,
        pattern=spec.pattern,
        choices=choices,
        min_digits=spec.min_digits,
        max_digits=spec.max_digits,
        minimum=spec.min,
        maximum=spec.max,
        sensitive=spec.sensitive,
        source=spec.source,
    )


def _phrases(value: str, phrases: Iterable[str]) -> tuple[str, ...]:
    own = value.replace("_", " ").replace("-", " ").strip()
    return tuple(dict.fromkeys((own, *(" ".join(phrase.lower().split()) for phrase in phrases))))


def _tool(name: str, spec: schema.ToolSpec, slots: dict[str, Slot]) -> Tool:
    return Tool(
        name=name,
        effect=spec.effect,
        description=spec.description,
        http=HttpCall(spec.http.method, spec.http.url, tuple(spec.http.headers.items())) if spec.http else None,
        python=spec.python,
        arguments=_arguments(spec, slots),
        when=spec.when,
        level=spec.level,
        once=spec.once,
        confirm=spec.confirm,
        idempotent=spec.idempotent,
        timeout_ms=round(spec.timeout_s * 1000),
        retries=spec.retry,
        result=tuple(spec.result.items()),
        sensitive=spec.sensitive,
    )


def _arguments(spec: schema.ToolSpec, slots: dict[str, Slot]) -> tuple[Argument, ...]:
    """As declared; where nothing is, the slots that its URL names."""
    if spec.arguments is None:
        try:
            fields = template.fields(spec.http.url) if spec.http else ()
        except template.TemplateError:  # `check` says so
            fields = ()
        return tuple(Argument(name, name, slots[name].type) for name in fields if name in slots)
    return tuple(
        Argument(name, one.slot, slots[one.slot].type if one.slot in slots else one.type, one.max_chars)
        for name, one in spec.arguments.items()
    )


def _step(name: str, spec: schema.StepSpec) -> Step:
    return Step(
        name=name,
        say=spec.say,
        prompt=spec.prompt,
        collect=tuple(spec.collect),
        tools=tuple(spec.tools),
        requires=tuple(spec.requires),
        done=spec.done,
        next=tuple(Transition(way.to, way.when) for way in spec.next),
        end=spec.end,
        phrases=tuple(spec.phrases),
        grants=spec.grants,
        model=spec.model,
        sees=tuple(spec.sees) if spec.sees is not None else None,
        history=spec.history,
        endpoint_ms=spec.endpoint_ms,
        forget=tuple(spec.forget),
        transfer=TransferTo(**spec.transfer.model_dump()) if spec.transfer is not None else None,
        attempts=spec.attempts,
    )
