"""A call told as a picture: who spoke and what worked from when to when, what was decided, how long each turn took.

Built by folding the records in their order, of a replayed journal or of a live call. Nothing sensitive is in it.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from msgspec import Struct

from app.core.core import CallCore
from app.core.effects import (
    AnyEffect,
    CutPlayout,
    EndCall,
    GoTo,
    HoldPlayout,
    ResumePlayout,
    Speak,
    StartReply,
    StartTool,
    StopReply,
    Verdict,
)
from app.core.events import (
    AnyEvent,
    Digit,
    PlayoutStarted,
    PlayoutStopped,
    ReplyEnded,
    ReplyFailed,
    SpeechEnded,
    SpeechStarted,
    TextReceived,
    ToolEnded,
    Transcript,
)
from app.core.request import WITHHELD
from app.core.state import CallState, ToolState
from app.core.timeline import Timeline

One = TypeVar("One")

LANES = ("caller", "agent", "floor", "model", "tts", "tool", "step", "timer")
TIMERS = ("endpoint", "stt", "keys", "silence", "reattach", "ending")
"""Deadlines that say what the call waits for. The others bound work which has its own lane."""

MAX_LABEL_CHARS = 200
MAX_OPEN_SPEECH = 50
"""Utterances whose words may still come."""


class Span(Struct):
    from_ms: int
    to_ms: int | None  # None: it goes on
    kind: str
    label: str
    seq: int  # of the record that began it
    gen: int = 0


class Lane(Struct, frozen=True):
    name: str
    spans: list[Span]


class Told(Struct, frozen=True):
    """An entry of the timeline with its record."""

    seq: int
    ms: int
    kind: str
    text: str
    gen: int


class Turn(Struct, frozen=True):
    """What the caller waited for, from the end of their words to the agent's first sound."""

    seq: int
    ms: int
    endpointing_ms: int  # until it was clear that they had finished, and what they had said
    model_ms: int  # until there were words to say; engines, and tools that had to be waited for
    tts_ms: int  # until the first sound of them
    total_ms: int


class Judged(Struct, frozen=True):
    """The gate's decision."""

    seq: int
    ms: int
    n: int
    tool: str
    decision: str
    rule: str
    reason: str


class Picture(Struct, frozen=True):
    duration_ms: int
    lanes: list[Lane]
    entries: list[Told]
    turns: list[Turn]
    verdicts: list[Judged]


class Latency:
    """Takes the records of one call and tells each turn's times."""

    def __init__(self) -> None:
        self._offset_ms: int | None = None  # since when the caller waits
        self._begun_ms: int | None = None  # the first reply since then
        self._words_ms: dict[int, int] = {}  # by gen, when its first words were ready

    def tell(self, seq: int, ms: int, event: AnyEvent, effects: Sequence[AnyEffect]) -> Turn | None:
        turn = None
        match event:
            case SpeechStarted():
                self._offset_ms = None
            case SpeechEnded(voice=True) | Digit() | TextReceived():
                self._offset_ms, self._begun_ms = ms, None
            case PlayoutStarted(gen=gen) if self._offset_ms is not None:
                turn = self._turn(seq, ms, self._offset_ms, gen)
                self._offset_ms = None
            case PlayoutStopped(gen=gen):
                self._words_ms.pop(gen, None)
        for effect in effects:
            match effect:
                case StartReply():
                    self._begun_ms = ms if self._begun_ms is None else self._begun_ms
                case Speak(gen=gen):
                    self._begun_ms = ms if self._begun_ms is None else self._begun_ms
                    self._words_ms.setdefault(gen, ms)
        return turn

    def _turn(self, seq: int, ms: int, offset_ms: int, gen: int) -> Turn:
        # Words that were ready before the caller's offset cost nothing of the wait.
        words_ms = max(self._words_ms.get(gen, ms), offset_ms)
        begun_ms = min(max(offset_ms if self._begun_ms is None else self._begun_ms, offset_ms), words_ms)
        return Turn(seq, ms, begun_ms - offset_ms, words_ms - begun_ms, ms - words_ms, ms - offset_ms)


class Spans:
    """Folds one call's records. `core` is the call's as it is after the record."""

    def __init__(self) -> None:
        self.entries: list[Told] = []
        self.turns: list[Turn] = []
        self.verdicts: list[Judged] = []
        self.ms = 0
        self._lanes: dict[str, list[Span]] = {name: [] for name in LANES}
        self._timeline = Timeline()
        self._latency = Latency()
        self._open: dict[tuple[str, object], Span] = {}  # by lane and what it is there
        self._heard: dict[int, Span] = {}  # utterances that wait for their words
        self._said: dict[int, str] = {}  # by gen
        self._timers: dict[str, int] = {}
        self._at = _At()

    def tell(self, seq: int, ms: int, event: AnyEvent, effects: Sequence[AnyEffect], core: CallCore) -> None:
        """Records in their order; time never falls."""
        self.ms = ms
        self._at = _At(seq, ms)
        sealed = core.sealed
        for entry in self._timeline.tell(ms, event, effects, sealed=sealed):
            self.entries.append(Told(seq, ms, entry.kind, entry.text, entry.gen))
        if (turn := self._latency.tell(seq, ms, event, effects)) is not None:
            self.turns.append(turn)
        self._event(event, sealed)
        for effect in effects:
            self._effect(effect)
        self._overdue(core.state)
        if core.state.timers != self._timers:
            self._change_timers(core.state)

    def picture(self, from_ms: int = 0, to_ms: int | None = None, *, over: bool = False) -> Picture:
        """What touches this stretch of time. `over`: the call has ended, so nothing goes on in it."""
        until_ms = self.ms if to_ms is None else to_ms
        lanes = [
            Lane(name, [self._shown(span, over) for span in spans if _touches(span, from_ms, until_ms)])
            for name, spans in self._lanes.items()
        ]
        return Picture(
            self.ms,
            lanes,
            _within(self.entries, lambda one: one.ms, from_ms, until_ms),
            _within(self.turns, lambda one: one.ms, from_ms, until_ms),
            _within(self.verdicts, lambda one: one.ms, from_ms, until_ms),
        )

    def _shown(self, span: Span, over: bool) -> Span:
        if span.to_ms is not None or not over:
            return span
        return Span(span.from_ms, self.ms, span.kind, span.label, span.seq, span.gen)

    # What happened

    def _event(self, event: AnyEvent, sealed: bool) -> None:
        match event:
            case SpeechStarted(utterance=utterance):
                self._begin("caller", "", "speech", "")
                self._heard[utterance] = self._open["caller", ""]
                while len(self._heard) > MAX_OPEN_SPEECH:
                    del self._heard[next(iter(self._heard))]
            case SpeechEnded(voice=voice):
                self._end("caller", "", kind="" if voice else "noise")
            case Transcript(utterance=utterance, text=text):
                if (span := self._heard.pop(utterance, None)) is not None:
                    span.label = _label(text, sealed) if text else "(not understood)"
            case TextReceived(text=text):
                self._moment("caller", "text", _label(text, sealed))
            case Digit(digit=digit):
                self._moment("caller", "key", f"key {'•' if sealed else digit}")
            case PlayoutStarted(gen=gen):
                self._end("tts", gen)
                self._begin("agent", gen, "heard", self._said.get(gen, ""), gen)
            case PlayoutStopped(gen=gen, cause=cause):
                self._stopped(gen, cause)
            case ReplyEnded(gen=gen):
                self._end("model", gen)
            case ReplyFailed(gen=gen):
                self._end("model", gen, kind="failed")
            case ToolEnded(n=n, outcome=outcome):
                self._end("tool", n, kind=outcome.value)

    def _stopped(self, gen: int, cause: str) -> None:
        kind = "" if cause == "done" else cause
        self._end("tts", gen)
        self._end("floor", gen)
        self._end("floor", ("cut", gen))
        if not self._end("agent", gen, kind=kind) and kind:
            last = self._lanes["agent"][-1:]  # it was silent when it was cut: held
            if last and last[0].gen == gen:
                last[0].kind = kind
        self._said.pop(gen, None)

    def _effect(self, effect: AnyEffect) -> None:
        match effect:
            case StartReply(gen=gen, engine=engine):
                self._begin("model", gen, "model", engine, gen)
            case StopReply(gen=gen):
                self._end("model", gen, kind="cancelled")
            case Speak(gen=gen, text=text, private=private):
                self._speak(gen, WITHHELD if private else text)
            case HoldPlayout(gen=gen):
                self._begin("floor", gen, "hold", "hold", gen)
                self._end("agent", gen)
            case ResumePlayout(gen=gen):
                if self._end("floor", gen) and any(span.gen == gen for span in self._lanes["agent"][-1:]):
                    self._begin("agent", gen, "heard", self._said.get(gen, ""), gen)
            case CutPlayout(gen=gen):
                self._end("floor", gen)
                self._begin("floor", ("cut", gen), "cut", "cut", gen)
            case StartTool(n=n):
                self._begin("tool", n, "running", next((v.tool for v in reversed(self.verdicts) if v.n == n), ""))
            case GoTo(step=step):
                self._end("step", "")
                self._begin("step", "", "step", step)
            case Verdict(n=n, tool=tool, decision=decision, rule=rule, reason=reason):
                at = self._at
                self.verdicts.append(Judged(at.seq, at.ms, n, tool, decision.value, rule, reason))
            case EndCall():
                for key in list(self._open):
                    self._end(*key)

    def _speak(self, gen: int, text: str) -> None:
        begun = gen in self._said
        said = self._said[gen] = f"{self._said.get(gen, '')} {text}".strip()[:MAX_LABEL_CHARS]
        if (span := self._open.get(("agent", gen))) is not None:
            span.label = said
        elif not begun:
            self._begin("tts", gen, "tts", said, gen)

    def _overdue(self, state: CallState) -> None:
        """Tools of which the call itself has said that nobody knows: no fact tells so."""
        for lane, n in [key for key in self._open if key[0] == "tool"]:
            entry = state.tools.get(n) if isinstance(n, int) else None
            if entry is not None and entry.state is not ToolState.running:
                self._end(lane, n, kind=entry.state.value)

    def _change_timers(self, state: CallState) -> None:
        for name in TIMERS:
            due_ms, was_ms = state.timers.get(name), self._timers.get(name)
            if was_ms is not None and due_ms is None:
                self._end("timer", name, kind="fired" if was_ms <= self._at.ms else "")
            elif due_ms is not None and was_ms is None:
                self._begin("timer", name, "waiting", name)
        self._timers = dict(state.timers)

    # The lanes

    def _begin(self, lane: str, key: object, kind: str, label: str, gen: int = 0) -> None:
        self._end(lane, key)
        span = self._open[lane, key] = Span(self._at.ms, None, kind, label, self._at.seq, gen)
        self._lanes[lane].append(span)

    def _end(self, lane: str, key: object, kind: str = "") -> bool:
        """Whether there was one to end."""
        span = self._open.pop((lane, key), None)
        if span is None:
            return False
        span.to_ms = self._at.ms
        span.kind = kind or span.kind
        return True

    def _moment(self, lane: str, kind: str, label: str) -> None:
        self._lanes[lane].append(Span(self._at.ms, self._at.ms, kind, label, self._at.seq))


class _At(Struct, frozen=True):
    seq: int = 0
    ms: int = 0


def _touches(span: Span, from_ms: int, to_ms: int) -> bool:
    return span.from_ms <= to_ms and (span.to_ms is None or span.to_ms >= from_ms)


def _label(text: str, sealed: bool) -> str:
    return WITHHELD if sealed else text[:MAX_LABEL_CHARS]


def _within(found: Iterable[One], ms: Callable[[One], int], from_ms: int, to_ms: int) -> list[One]:
    return [one for one in found if from_ms <= ms(one) <= to_ms]
