"""Drives a core by hand: plays the ideal playout, recogniser and tool runner: a test states only what matters."""

from collections.abc import Sequence

from app.core.effects import (
    AllowTool,
    AnyEffect,
    CutPlayout,
    EndCall,
    EndSpeech,
    HoldPlayout,
    Speak,
    StartReply,
    StartTool,
    Verdict,
)
from app.core.events import (
    AnyEvent,
    CallStarted,
    Digit,
    IntentProposed,
    PlayoutHeld,
    PlayoutStarted,
    PlayoutStopped,
    ReplyEnded,
    SlotsProposed,
    SpeechConfirmed,
    SpeechEnded,
    SpeechStarted,
    Tick,
    ToolEnded,
    ToolOutcome,
    ToolReady,
    ToolRequest,
    ToolsRequested,
    Transcript,
)
from app.core.state import CallState, Phase
from flows import rules
from flows.model import Flow, Value
from tests.support.inspector import Inspector


class Driver:
    """`say`, `key` and `hear_all` are the caller; rules engines answer at once; tools answer from `results`.

    Everything goes through an `Inspector`, so each test also checks what must always hold.
    """

    def __init__(
        self, flow: Flow, *, rules_engine: bool = True, writes: bool = True, secrets: Sequence[str] = ()
    ) -> None:
        self.flow = flow
        self.inspector = Inspector(flow, secrets=tuple(secrets))
        self.core = self.inspector.core
        self.now_ms = 0
        self.log: list[tuple[int, AnyEvent, list[AnyEffect]]] = []
        self.effects: list[AnyEffect] = []
        self.results: dict[str, dict[str, Value | list[Value] | None] | ToolOutcome] = {}
        self.rules_engine = rules_engine
        self.writes = writes
        self.started: list[tuple[str, dict[str, Value]]] = []
        self._orders: dict[int, AllowTool] = {}
        self._spoken: dict[int, list[str]] = {}
        self._ended: set[int] = set()
        self._utterance = 0

    @property
    def state(self) -> CallState:
        return self.core.state

    def post(self, event: AnyEvent, after_ms: int = 0) -> list[AnyEffect]:
        """Handle one fact and whatever the ideal world answers to its orders."""
        self.now_ms += after_ms
        effects = self.inspector.handle(event, self.now_ms)
        self.log.append((self.now_ms, event, effects))
        self.effects += effects
        for effect in effects:
            self._answer(effect)
        return effects

    def start(self) -> "Driver":
        self.post(CallStarted("leg", "test"))
        return self

    def wait(self, ms: int) -> None:
        """Let time pass; deadlines fire when they are due."""
        until = self.now_ms + ms
        while (due := self.core.deadline_ms) is not None and due <= until:
            self.now_ms = max(self.now_ms, due)
            self.post(Tick())
        self.now_ms = until

    def hear_all(self) -> str:
        """The present reply is heard to its end, and those that follow by themselves; returns their words."""
        heard = []
        while (reply := self.state.reply) is not None and reply.ended and not reply.cut:
            words = [line.text for line in reply.spoken]
            heard += words
            if not reply.audible:
                self.post(PlayoutStarted(reply.gen), 50)
            self.post(PlayoutStopped(reply.gen, len(words), 0, "done"), 400 * len(words))
        return " ".join(heard)

    def hear_until(self, sentence: int, chars: int) -> None:
        """Answers the next hold or cut: how far the present reply was heard."""
        self._heard = (sentence, chars)

    _heard = (0, 0)

    def say(self, words: str, *, speech_ms: int = 900) -> None:
        """A whole utterance of the caller's, and the silence after it."""
        utterance = self.onset()
        self.post(SpeechConfirmed(utterance), 100)
        self.wait(speech_ms - 100)
        self.post(SpeechEnded(utterance, speech_ms, True))
        self.post(Transcript(utterance, words), 60)
        self.wait(1500)

    def onset(self) -> int:
        self._utterance += 1
        self.post(SpeechStarted(self._utterance), 100)
        return self._utterance

    def key(self, keys: str) -> None:
        for key in keys:
            self.post(Digit(key), 200)

    def spoken(self) -> list[str]:
        return [effect.text for effect in self.effects if isinstance(effect, Speak)]

    def verdicts(self) -> list[tuple[str, str, str]]:
        return [(v.tool, v.decision.value, v.rule) for v in self.effects if isinstance(v, Verdict)]

    def over(self) -> EndCall | None:
        return next((effect for effect in self.effects if isinstance(effect, EndCall)), None)

    def ask_tools(self, *calls: tuple[str, dict[str, Value]], gen: int | None = None) -> None:
        """An engine's message that asks for tools."""
        gen = self.state.gen if gen is None else gen
        requests = tuple(ToolRequest(f"m{i}", name, own) for i, (name, own) in enumerate(calls))
        self.post(ToolsRequested(gen, requests))

    def _answer(self, effect: AnyEffect) -> None:
        match effect:
            case StartReply(gen=gen, engine=engine):
                if self.rules_engine and (engine == "rules" or self.flow.models[engine].use == "rules"):
                    self._by_rules(gen)
            case AllowTool(n=n):
                self._orders[n] = effect
                if self.writes:
                    self.post(ToolReady(n), 5)
            case StartTool(n=n):
                order = self._orders[n]
                self.started.append((order.tool, order.arguments))
                result = self.results.get(order.tool)
                if isinstance(result, ToolOutcome):
                    self.post(ToolEnded(n, result, reason="broken"), 80)
                elif result is not None:
                    self.post(ToolEnded(n, ToolOutcome.done, result), 80)
            case Speak(gen=gen, text=text):
                self._spoken.setdefault(gen, []).append(text)
            case EndSpeech(gen=gen):
                self._ended.add(gen)
            case HoldPlayout(gen=gen):
                self.post(PlayoutHeld(gen, *self._heard))
            case CutPlayout(gen=gen):
                self.post(PlayoutStopped(gen, *self._heard, "cut"), 5)
                self._heard = (0, 0)
            case _:
                pass

    def _by_rules(self, gen: int) -> None:
        request = self.core.request(gen)
        understood = rules.understand(
            request.words,
            slots=request.slots,
            asked=request.asked,
            yesno=request.yesno,
            digressions={name: self.flow.steps[name].phrases for name in self.flow.digressions},
        )
        if understood.slots:
            self.post(SlotsProposed(gen, dict(understood.slots), request.words))
        if understood.intent:
            self.post(IntentProposed(gen, understood.intent))
        if request.ready:
            self.ask_tools((request.ready[0], {}), gen=gen)
        self.post(ReplyEnded(gen))


def alive(driver: Driver) -> bool:
    return driver.state.phase is Phase.live
