"""What an author may write in a flow's file: keys, short forms and limits. `load` turns it into `model` types.

Nothing here looks across parts; references are `check`'s. A validator with `mode="before"` spells a short form out.
"""

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator, model_validator

from flows.model import SlotType, ToolEffect, TransferBy

MAX_NAME_CHARS = 40
MAX_TEXT_CHARS = 2000  # of one text to be spoken, or one prompt
MAX_GUARD_CHARS = 500
MAX_PATTERN_CHARS = 200
MAX_URL_CHARS = 500
MAX_PHRASE_CHARS = 80
MAX_PHRASES = 30
MAX_CHOICES = 20
MAX_SLOTS = 60
MAX_TOOLS = 60
MAX_STEPS = 200
MAX_MODELS = 10
MAX_IN_STEP = 20  # slots, tools, required steps or ways on
MAX_RESULT_FIELDS = 30
MAX_HEADERS = 20
MAX_ATTEMPTS = 10
MAX_TIMEOUT_S = 60.0
MAX_RETRIES = 5
MAX_DURATION_S = 4 * 3600
MAX_TURNS = 1000
MAX_SILENCE_S = 120
MAX_TOOL_CALLS = 300
MAX_REPLY_CHARS = 10_000
MAX_HISTORY = 200
MAX_ENDPOINT_MS = 5000

NOT_YET = frozenset((
    "approve_if", "on_unknown", "context", "guarantees", "says", "fallback", "cost_usd", "include",
    "includes", "parallel", "join", "grounded",
))  # fmt: skip
"""Keys of the language whose runtime does not exist yet: an error that says so."""

Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]*$", max_length=MAX_NAME_CHARS)]
NameOrNone = Annotated[str, StringConstraints(pattern=r"^([a-z][a-z0-9_]*)?$", max_length=MAX_NAME_CHARS)]
Text = Annotated[str, StringConstraints(max_length=MAX_TEXT_CHARS)]
Guard = Annotated[str, StringConstraints(max_length=MAX_GUARD_CHARS)]
Phrase = Annotated[str, StringConstraints(min_length=1, max_length=MAX_PHRASE_CHARS)]
Url = Annotated[str, StringConstraints(min_length=1, max_length=MAX_URL_CHARS)]
Type = Annotated[SlotType, Field(strict=False)]
Names = Annotated[list[Name], Field(max_length=MAX_IN_STEP)]


class _Spec(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, populate_by_name=False)


class SlotSpec(_Spec):
    type: Type
    ask: Text = ""
    readback: Text = ""
    confirm: bool = True
    pattern: Annotated[str, StringConstraints(max_length=MAX_PATTERN_CHARS)] = ""
    choices: Annotated[
        dict[Phrase, Annotated[list[Phrase], Field(max_length=MAX_PHRASES)]], Field(max_length=MAX_CHOICES)
    ] = {}
    min_digits: Annotated[int, Field(ge=0, le=32)] = 0
    max_digits: Annotated[int, Field(ge=0, le=32)] = 0
    min: float | None = None
    max: float | None = None
    sensitive: bool = False
    source: str = Field("", alias="from", max_length=2 * MAX_NAME_CHARS + 1)

    @field_validator("choices", mode="before")
    @classmethod
    def _list_or_mapping(cls, raw: object) -> object:
        if isinstance(raw, list):
            if all(isinstance(item, str) for item in raw) and len(set(raw)) != len(raw):
                raise ValueError("a choice stands here twice")
            return {item: [] for item in raw} if all(isinstance(item, str) for item in raw) else raw
        if isinstance(raw, dict):
            return {
                value: [] if some is None else [some] if isinstance(some, str) else some for value, some in raw.items()
            }
        return raw


class ArgumentSpec(_Spec):
    """Either of a slot's or the model's own."""

    slot: NameOrNone = ""
    origin: Literal["model"] | None = Field(None, alias="from")
    type: Type = SlotType.string  # of the model's own
    max_chars: Annotated[int, Field(ge=1, le=MAX_TEXT_CHARS)] = 200

    @model_validator(mode="before")
    @classmethod
    def _slot_only(cls, raw: object) -> object:
        return {"slot": raw} if isinstance(raw, str) else raw

    @model_validator(mode="after")
    def _one_origin(self) -> Self:
        if bool(self.slot) == (self.origin is not None):
            raise ValueError("either a slot's name or {from: model} is needed")
        return self


class HttpSpec(_Spec):
    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE"]
    url: Url
    headers: Annotated[dict[Phrase, Url], Field(max_length=MAX_HEADERS)] = {}

    @model_validator(mode="before")
    @classmethod
    def _method_is_a_key(cls, raw: object) -> object:
        if not isinstance(raw, dict):
            return raw
        methods = [key for key in raw if key in ("get", "post", "put", "patch", "delete")]
        if len(methods) != 1:
            raise ValueError("one of get, post, put, patch, delete is needed, with the URL")
        rest = {key: value for key, value in raw.items() if key not in methods}
        return {"method": methods[0].upper(), "url": raw[methods[0]], **rest}


class ToolSpec(_Spec):
    effect: Annotated[ToolEffect, Field(strict=False)]
    description: Text = ""
    http: HttpSpec | None = None
    python: Annotated[str, StringConstraints(pattern=r"^$|^[A-Za-z_][\w.]*:[A-Za-z_]\w*$", max_length=200)] = ""
    arguments: Annotated[dict[Name, ArgumentSpec], Field(max_length=MAX_IN_STEP)] | None = None
    when: Guard = ""
    level: Name = "anonymous"
    once: Text = ""
    confirm: Text = ""
    idempotent: bool = False
    timeout_s: Annotated[float, Field(gt=0, le=MAX_TIMEOUT_S)] = 5.0
    retry: Annotated[int, Field(ge=0, le=MAX_RETRIES)] = 0
    result: Annotated[dict[Name, Type], Field(max_length=MAX_RESULT_FIELDS)] = {}
    sensitive: bool = False

    @field_validator("arguments", mode="before")
    @classmethod
    def _list_of_slots(cls, raw: object) -> object:
        return {name: name for name in raw} if isinstance(raw, list) and _all_text(raw) else raw


class TransitionSpec(_Spec):
    to: Name
    when: Guard = ""

    @model_validator(mode="before")
    @classmethod
    def _otherwise(cls, raw: object) -> object:
        if isinstance(raw, str):
            return {"to": raw}
        if isinstance(raw, dict) and "else" in raw:
            if len(raw) > 1:
                raise ValueError("else stands alone: {else: step}")
            return {"to": raw["else"]}
        return raw


class TransferSpec(_Spec):
    to: Url
    by: Annotated[TransferBy, Field(strict=False)] = TransferBy.bridge
    announce: Text = ""
    answer_s: Annotated[int, Field(ge=5, le=180)] = 30
    failed: NameOrNone = ""
    after: NameOrNone = ""
    end: Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_-]*$", max_length=MAX_NAME_CHARS)] = "transferred"

    @model_validator(mode="before")
    @classmethod
    def _target_only(cls, raw: object) -> object:
        return {"to": raw} if isinstance(raw, str) else raw


class StepSpec(_Spec):
    say: Text = ""
    prompt: Text = ""
    collect: Names = []
    tools: Names = []
    requires: Names = []
    done: Guard = ""
    next: Annotated[list[TransitionSpec], Field(max_length=MAX_IN_STEP)] = []
    end: Annotated[str, StringConstraints(pattern=r"^$|^[a-z][a-z0-9_-]*$", max_length=MAX_NAME_CHARS)] = ""
    phrases: Annotated[list[Phrase], Field(max_length=MAX_PHRASES)] = []
    grants: NameOrNone = ""
    model: NameOrNone = ""
    sees: Names | None = None
    history: Annotated[int, Field(ge=0, le=MAX_HISTORY)] = 20
    endpoint_ms: Annotated[int, Field(ge=0, le=MAX_ENDPOINT_MS)] = 0
    forget: Names = []
    transfer: TransferSpec | None = None
    attempts: Annotated[int, Field(ge=1, le=MAX_ATTEMPTS)] = 3

    @field_validator("next", mode="before")
    @classmethod
    def _one_way(cls, raw: object) -> object:
        return [raw] if isinstance(raw, str) else raw


class ModelSpec(_Spec):
    use: Name
    model: Annotated[str, StringConstraints(max_length=MAX_PHRASE_CHARS)] = ""

    @model_validator(mode="before")
    @classmethod
    def _provider_only(cls, raw: object) -> object:
        return {"use": raw} if isinstance(raw, str) else raw


class VoiceSpec(_Spec):
    tts: Name = "espeak"
    name: Phrase = "en-us"
    rate_wpm: Annotated[int, Field(ge=80, le=400)] = 170


class LimitsSpec(_Spec):
    duration_s: Annotated[int, Field(ge=10, le=MAX_DURATION_S)] = 900
    turns: Annotated[int, Field(ge=1, le=MAX_TURNS)] = 100
    silence_s: Annotated[int, Field(ge=2, le=MAX_SILENCE_S)] = 8
    silences: Annotated[int, Field(ge=1, le=10)] = 3
    tool_calls: Annotated[int, Field(ge=0, le=MAX_TOOL_CALLS)] = 30
    reply_chars: Annotated[int, Field(ge=50, le=MAX_REPLY_CHARS)] = 1200

    @model_validator(mode="before")
    @classmethod
    def _minutes(cls, raw: Any) -> object:
        if not isinstance(raw, dict) or "duration_min" not in raw:
            return raw
        minutes = raw["duration_min"]
        if "duration_s" in raw:
            raise ValueError("duration_min and duration_s say the same")
        if isinstance(minutes, bool) or not isinstance(minutes, int | float):
            raise ValueError("duration_min must be a number")
        return {key: value for key, value in raw.items() if key != "duration_min"} | {"duration_s": round(minutes * 60)}


class TextsSpec(_Spec):
    not_understood: Text = "Sorry, I did not understand that."
    not_heard: Text = "Are you still there?"
    filler: Text = "One moment, please."
    failed: Text = "I am sorry, something went wrong on our side. Please call again later. Goodbye."
    readback: Text = "I heard {value}. Is that right?"
    rejected: Text = "Sorry, that is not possible."
    goodbye: Text = "I will end the call now. Goodbye."


class FlowSpec(_Spec):
    flow: Name
    version: int = Field(ge=1, le=1_000_000)
    language: Literal["en"] = "en"
    voice: VoiceSpec = VoiceSpec()
    models: Annotated[dict[Name, ModelSpec], Field(max_length=MAX_MODELS)] = {}
    slots: Annotated[dict[Name, SlotSpec], Field(max_length=MAX_SLOTS)] = {}
    tools: Annotated[dict[Name, ToolSpec], Field(max_length=MAX_TOOLS)] = {}
    start: Name
    steps: Annotated[dict[Name, StepSpec], Field(min_length=1, max_length=MAX_STEPS)]
    digressions: Names = []
    limits: LimitsSpec = LimitsSpec()
    texts: TextsSpec = TextsSpec()
    give_up: NameOrNone = ""
    voicemail: Text = ""
    record: bool = False
    allow_hosts: Annotated[list[Url], Field(max_length=MAX_IN_STEP)] = []


def spec_at(path: tuple[str | int, ...]) -> type[_Spec] | None:
    """Which of these describes the mapping at a path; None: names of the author's own, or none at all."""
    match path:
        case ():
            return FlowSpec
        case ("voice",):
            return VoiceSpec
        case ("limits",):
            return LimitsSpec
        case ("texts",):
            return TextsSpec
        case ("models", _):
            return ModelSpec
        case ("slots", _):
            return SlotSpec
        case ("tools", _):
            return ToolSpec
        case ("tools", _, "http"):
            return HttpSpec
        case ("tools", _, "arguments", _):
            return ArgumentSpec
        case ("steps", _):
            return StepSpec
        case ("steps", _, "transfer"):
            return TransferSpec
        case ("steps", _, "next", _):
            return TransitionSpec
    return None


def keys_at(path: tuple[str | int, ...]) -> tuple[str, ...]:
    """The keys that may stand in the mapping at a path, as an author writes them."""
    spec = spec_at(path)
    if spec is HttpSpec:
        return ("get", "post", "put", "patch", "delete", "headers")
    if spec is TransitionSpec:
        return ("to", "when", "else")
    return tuple(field.alias or name for name, field in spec.model_fields.items()) if spec else ()


def _all_text(raw: list[object]) -> bool:
    return all(isinstance(item, str) for item in raw)
