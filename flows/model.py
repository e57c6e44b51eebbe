"""The resolved flow: what runs, what is hashed, what a replay reads back.

`schema` is what an author may write (short forms, defaults); `load` turns that into these types. They are frozen
`msgspec.Struct`s, so that the store can keep a flow as JSON under its hash and read it back with the same types.
Guards and templates stay text here; `expr` compiles and caches them.
"""

from enum import StrEnum

from msgspec import Struct

Value = str | int | float | bool
"""A slot's value or a tool argument. Dates are ISO text, money and numbers are numbers, digits are text."""


class SlotType(StrEnum):
    string = "string"  # free words: only a model or keys can fill it
    digits = "digits"  # a number that is spelled, such as an order number: "0042"
    date = "date"  # ISO text, "1980-05-31"
    weekday = "weekday"  # "monday" to "sunday"
    choice = "choice"  # one of `Slot.choices`
    yesno = "yesno"  # bool
    number = "number"  # int or float
    money = "money"  # in units of the flow's currency


class ToolEffect(StrEnum):
    read = "read"  # changes nothing; may run ahead and be cancelled
    write = "write"  # changes something that can be changed back
    irreversible = "irreversible"  # needs `once`, and confirmation as declared


class Choice(Struct, frozen=True):
    value: str
    phrases: tuple[str, ...]  # what callers say for it; the value's own words are always the first
    key: str  # the digit that picks it


class Slot(Struct, frozen=True):
    name: str
    type: SlotType
    ask: str = ""  # the question; empty: never asked, only volunteered or derived
    readback: str = ""  # template of the read-back, with `{value}`; empty: the language's default
    confirm: bool = True  # ignored for derived slots, which come confirmed
    pattern: str = ""  # a regular expression that the whole value must match
    choices: tuple[Choice, ...] = ()
    min_digits: int = 0  # for digits; a date is always eight keys, day month year
    max_digits: int = 0
    minimum: float | None = None
    maximum: float | None = None
    sensitive: bool = False
    source: str = ""  # "tool.path": derived from that tool's current result


class Argument(Struct, frozen=True):
    """One argument of a tool. It comes from a slot or, only where declared, from the model itself."""

    name: str
    slot: str = ""  # empty: the model's own
    type: SlotType = SlotType.string
    max_chars: int = 200


class HttpCall(Struct, frozen=True):
    method: str  # GET, POST, PUT, PATCH, DELETE
    url: str  # template over arguments and `{env.NAME}`; arguments it does not use go to the query or the JSON body
    headers: tuple[tuple[str, str], ...] = ()


class Tool(Struct, frozen=True):
    name: str
    effect: ToolEffect
    description: str = ""
    http: HttpCall | None = None
    python: str = ""  # "module:function", only from modules that the settings admit
    arguments: tuple[Argument, ...] = ()
    when: str = ""  # guard; empty: always
    level: str = "anonymous"  # the caller's level that it needs
    once: str = ""  # template of the key under which it can succeed once, over all calls
    confirm: str = ""  # template of the question that the caller must answer yes to
    idempotent: bool = False  # the far side honours the idempotency key: safe to send again
    timeout_ms: int = 5000
    retries: int = 0
    result: tuple[tuple[str, SlotType], ...] = ()  # the fields that the flow reads, with their types
    sensitive: bool = False  # its result is sealed


class Transition(Struct, frozen=True):
    to: str  # a step's name
    when: str = ""  # guard; empty: otherwise


class TransferBy(StrEnum):
    bridge = "bridge"  # a second leg is dialled and joined; the call stays here
    refer = "refer"  # the caller's telephone is asked to call them instead


class TransferTo(Struct, frozen=True):
    to: str  # a SIP address or number; may name `{env.NAME}`
    by: TransferBy = TransferBy.bridge
    announce: str = ""  # template: what the other side is told before it hears the caller
    answer_s: int = 30  # for which it may ring there
    failed: str = ""  # the step for when nobody is reached; empty: as for what cannot be done
    after: str = ""  # the step for when the other side has left; empty: the call ends
    end: str = "transferred"  # the call's outcome


class Step(Struct, frozen=True):
    name: str
    say: str = ""  # spoken on entry, by the software
    prompt: str = ""  # what the model is to do here
    collect: tuple[str, ...] = ()
    tools: tuple[str, ...] = ()
    requires: tuple[str, ...] = ()  # steps whose `done` must hold now
    done: str = ""  # guard; empty: what it collects is filled and confirmed
    next: tuple[Transition, ...] = ()
    end: str = ""  # the call's outcome; a step with an outcome ends the call when its words are spoken
    phrases: tuple[str, ...] = ()  # what callers say for it, where it is a digression
    grants: str = ""  # the caller's level while this step's `done` holds
    model: str = ""  # a name in `Flow.models`; empty: the flow's first
    sees: tuple[str, ...] | None = None  # slots that the model may see; None: those it collects and its tools use
    history: int = 20  # messages that the model may see
    endpoint_ms: int = 0  # silence that ends a turn here; 0: from what is asked
    forget: tuple[str, ...] = ()  # slots that lose their value on entry
    transfer: TransferTo | None = None  # once its words are out, the caller is handed over
    attempts: int = 3  # failed tries at one question before the step's `attempts` guard or the flow's `give_up`


class Model(Struct, frozen=True):
    name: str
    use: str  # a provider: "rules", "openai", "scripted"
    model: str = ""  # the provider's name for it


class Limits(Struct, frozen=True):
    duration_s: int = 900
    turns: int = 100
    silence_s: int = 8  # without a word from either side before the agent asks again
    silences: int = 3  # silent stretches in a row before the call ends
    tool_calls: int = 30
    reply_chars: int = 1200  # of one reply's words


class Voice(Struct, frozen=True):
    tts: str = "espeak"
    name: str = "en-us"
    rate_wpm: int = 170


class Texts(Struct, frozen=True):
    """The words that software speaks by itself. All may be set in the flow; `load` fills the language's defaults."""

    not_understood: str
    not_heard: str  # a silence prompt
    filler: str  # while a slow tool runs
    failed: str  # before an end that nobody wanted
    readback: str  # over `{value}`
    rejected: str  # a value that is not valid for its slot
    goodbye: str  # when the caller does not answer any more


class Flow(Struct, frozen=True):
    name: str
    version: int
    start: str
    steps: dict[str, Step]
    texts: Texts
    slots: dict[str, Slot] = {}
    tools: dict[str, Tool] = {}
    digressions: tuple[str, ...] = ()  # steps that can be visited from any step; "repeat" is built in
    models: dict[str, Model] = {}  # never empty after `load`; the first is the default
    language: str = "en"
    voice: Voice = Voice()
    limits: Limits = Limits()
    give_up: str = ""  # the step for what cannot be understood or done; empty: the call ends with "gave-up"
    voicemail: str = ""  # said after the beep where a machine answers a call of ours; empty: it is hung up
    record: bool = False  # a stereo WAV of the call
    allow_hosts: tuple[str, ...] = ()  # hosts or `{env.NAME}` whose private addresses its tools may reach
