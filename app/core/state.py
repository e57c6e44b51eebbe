"""The whole truth of one call. Mutated in place by the core alone; compared by equality in tests and replays."""

from collections.abc import Mapping
from enum import StrEnum

from msgspec import Struct, field

from app.core.events import LegRole, Says
from app.core.request import Message
from flows import semantics
from flows.model import Flow, TransferBy, Value


class Phase(StrEnum):
    new = "new"
    placing = "placing"  # a call of ours: nobody has answered yet
    live = "live"
    ending = "ending"  # no new tool and no new turn; last words and started tools finish
    ended = "ended"


class SlotState(Struct):
    value: Value | None = None
    rev: int = 0  # goes up when the value changes, also to none
    confirmed: bool = False


class ToolState(StrEnum):
    held = "held"  # waits for the caller's yes
    allowed = "allowed"  # waits for its record to be durable
    running = "running"
    done = "done"
    failed = "failed"
    unknown = "unknown"
    declined = "declined"
    withdrawn = "withdrawn"
    refused = "refused"


UNSETTLED = (ToolState.held, ToolState.allowed, ToolState.running, ToolState.unknown)
"""While one of these stands, the same tool with equal arguments is refused."""

PASSING = (ToolState.failed, ToolState.declined)
"""Outcomes without effect: another visit may try again."""


class ToolCall(Struct):
    """An entry of the ledger; `n` is its number in the call."""

    n: int
    tool: str
    arguments: dict[str, Value]
    revs: dict[str, int]  # of the slots it uses, as they were when it was requested
    visit: int
    gen: int
    once: str
    state: ToolState
    fields: Mapping[str, Value | list[Value] | None] = {}
    reason: str = ""
    steers: bool = False  # its outcome came while its visit and revs were current
    filled: bool = False  # a filler was spoken for it


class QuestionKind(StrEnum):
    ask = "ask"  # for a slot's value
    readback = "readback"  # is this value right?
    confirm = "confirm"  # shall this tool act?


class Question(Struct):
    """The pending question. Yes and no answer a read-back or confirmation, and only if `heard`."""

    kind: QuestionKind
    slot: str = ""
    rev: int = 0
    n: int = 0  # the tool call
    gen: int = 0  # where it was spoken
    index: int = 0
    through: int = 0  # characters of that sentence up to the end of the value
    heard: bool = False


class Line(Struct, frozen=True):
    """Words that the software speaks by itself, or an engine's sentence on its way."""

    text: str
    masked: str = ""  # how everybody but the caller reads it; empty: as it is

    @property
    def private(self) -> bool:
        return bool(self.masked)

    @property
    def shown(self) -> str:
        return self.masked or self.text


class Due(Struct):
    """Why the agent should take its turn next."""

    lead: list[Line] = field(default_factory=list)
    words: str = ""  # the caller's turn that it answers
    turn: bool = False  # `words` are to be interpreted
    engines: list[str] = field(default_factory=list)  # still to be tried for these words, the first one first
    acts: bool = True  # an engine may speak or act; otherwise only the software's own words are due
    rounds: int = 0  # engine requests already made since the caller's turn


class Reply(Struct):
    """The one reply in production or being heard."""

    gen: int
    visit: int
    due: Due
    engine: str = ""
    producing: bool = False  # the engine is at work
    ended: bool = False  # `EndSpeech` or `CutPlayout` is out
    held: bool = False
    cut: bool = False
    audible: bool = False  # its first audio left
    spoken: list[Line] = field(default_factory=list)
    question_at: int = -1  # index in `spoken` of the software's question
    chars: int = 0  # of the engine's words
    understood: bool = False  # the engine proposed or asked for something that counted
    requests: list[int] = field(default_factory=list)  # ledger numbers of its tool calls
    history_at: int = 0  # where its words belong in the history


class Frame(Struct, frozen=True):
    """A visit that a digression suspended."""

    step: str
    visit: int
    attempts: int


class Guest(Struct, frozen=True):
    """A leg besides the caller's."""

    role: LegRole
    who: str


class TransferStage(StrEnum):
    asked = "asked"
    announcing = "announcing"  # the other side is told who is calling
    joined = "joined"


class Transfer(Struct):
    """Under way."""

    n: int
    leg: str  # of the other side, where it is dialled
    by: TransferBy
    stage: TransferStage = TransferStage.asked


class TransferLine(Struct, frozen=True):
    """What came of one."""

    by: str
    outcome: str  # "answered", "done", or why not; empty: under way


class Referral(Struct):
    """Somebody is being called in the caller's place."""

    n: int
    leg: str
    cause: str = ""  # the caller's side is gone already: why the call ends if nobody comes
    outcome: str = ""


class ReferralLine(Struct, frozen=True):
    """Who was called in the caller's place, and what came of it."""

    to: str
    outcome: str  # "answered", or why not; empty: under way


class Placed(Struct):
    """How a call of ours came about."""

    by: str
    detect: bool
    talk_ms: int = 0  # at most; 0: as the flow says
    rang: bool = False
    answered_ms: int = 0  # 0: nobody has
    answerer: str = ""  # who it seems to be
    listening: bool = False  # to find that out: until then the agent is silent


class Quality(Struct, frozen=True):
    """Of what was heard from the caller, over RTP."""

    packets: int
    lost: int
    jitter_ms: float
    opinion: float


class Floor(Struct):
    """Who is speaking, and what the caller has said of this turn so far."""

    utterance: int = 0  # the stretch of speech under way; 0: none
    since_ms: int = 0
    voice: bool = False  # the careful detector agreed
    noise: bool = False  # for all that is known
    paused: bool = False  # the voice is silent just now, and the stretch is not over
    says: Says = Says.nothing  # what it sounds like so far
    held_ms: int = 0  # since when the agent has been silent for it
    awaited: list[int] = field(default_factory=list)  # ended utterances whose words are not here yet
    words: list[str] = field(default_factory=list)
    unclear: bool = False  # something was said that nobody understood
    more: bool = False  # what was heard last sounded as if more were to come
    ended_ms: int = 0  # offset of the last stretch
    keys: str = ""  # digits of a value that is not complete
    answer: str = ""  # the yes or no key, until it is known how much of its question was heard


class Counts(Struct):
    turns: int = 0
    barge_ins: int = 0
    holds: int = 0
    silences: int = 0
    replies: int = 0
    refused: int = 0
    model_failures: int = 0
    speech_failures: int = 0
    input_tokens: int = 0
    output_tokens: int = 0


class CallState(Struct):
    call: str
    phase: Phase = Phase.new
    now_ms: int = 0
    leg: str = ""
    transport: str = ""
    caller: str = ""
    called: str = ""
    placed: Placed | None = None  # a call of ours
    attached: bool = False
    held: bool = False  # by the caller's side
    quality: Quality | None = None  # of the caller's leg, as told last
    guests: dict[str, Guest] = field(default_factory=dict)  # by their legs
    transfer: Transfer | None = None
    transfers: list[TransferLine] = field(default_factory=list)
    referral: Referral | None = None
    referrals: list[ReferralLine] = field(default_factory=list)
    transferred: int = 0  # the visit whose transfer is over
    hears: dict[str, tuple[str, ...]] = field(default_factory=dict)  # as ordered last
    listeners: list[str] = field(default_factory=list)  # names of all guests so far
    step: str = ""
    visit: int = 0
    last_visit: int = 0
    entries: dict[str, int] = field(default_factory=dict)
    suspended: list[Frame] = field(default_factory=list)
    attempts: int = 0
    slots: dict[str, SlotState] = field(default_factory=dict)
    tools: dict[int, ToolCall] = field(default_factory=dict)
    gen: int = 0
    reply: Reply | None = None
    due: Due | None = None
    question: Question | None = None
    floor: Floor = field(default_factory=Floor)
    history: list[Message] = field(default_factory=list)
    said: list[Line] = field(default_factory=list)  # the last reply without its question, for "repeat"
    timers: dict[str, int] = field(default_factory=dict)
    expects: tuple[str, ...] = ()
    quiet: int = 0  # silent stretches in a row
    counts: Counts = field(default_factory=Counts)
    cause: str = ""
    outcome: str = ""


OUTCOMES = {ToolState(status.value): status for status in semantics.Status}
"""How the flow sees a call whose outcome steers it."""


class StateView:
    """A live call as `flows.semantics` sees it; `step` may be another than the present one."""

    def __init__(self, flow: Flow, state: CallState) -> None:
        self._flow = flow
        self._state = state

    @property
    def step(self) -> str:
        return self._state.step

    @property
    def attempts(self) -> int:
        return self._state.attempts

    def visits(self, step: str) -> int:
        return self._state.entries.get(step, 0)

    def value(self, slot: str) -> Value | None:
        return held.value if (held := self._state.slots.get(slot)) else None

    def is_confirmed(self, slot: str) -> bool:
        held = self._state.slots.get(slot)
        return held is not None and held.value is not None and held.confirmed

    def result(self, tool: str) -> semantics.Result | None:
        for call in reversed(self._state.tools.values()):
            if call.tool == tool and call.steers:
                if not revs_hold(self._state, call):
                    return None
                if call.state in PASSING and call.visit != self._state.visit:
                    return None
                return semantics.Result(OUTCOMES[call.state], call.fields)
        return None


def revs_hold(state: CallState, call: ToolCall) -> bool:
    for slot, rev in call.revs.items():  # noqa: SIM110  # a generator would cost half of what a guard does
        if state.slots[slot].rev != rev:
            return False
    return True
