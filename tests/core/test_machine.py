"""Two cores against a world without manners: every fact, early, late, twice, wrong, at any time.

`Inspector` holds what must always hold. `MACHINE=3000` in the environment tries that many calls, by chance.
"""

import os
import random

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import Phase as Stage
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from app.core.effects import AllowTool, AnyEffect, CutPlayout, EndSpeech, HoldPlayout, StartReply, StartTool
from app.core.events import (
    Answerer,
    AnswererHeard,
    AnyEvent,
    CallerHungUp,
    CallerReferred,
    CallFailed,
    CallStarted,
    Digit,
    HangupOrdered,
    IntentProposed,
    LegAttached,
    LegHeld,
    LegJoined,
    LegLeft,
    LegLost,
    LegMeasured,
    LegResumed,
    LegRole,
    ListenFailed,
    OnceUsed,
    PlayoutHeld,
    PlayoutStarted,
    PlayoutStopped,
    ReferralFailed,
    ReplyEnded,
    ReplyFailed,
    Sentence,
    SlotsProposed,
    SpeechConfirmed,
    SpeechEnded,
    SpeechFailed,
    SpeechStarted,
    TextReceived,
    Tick,
    ToolEnded,
    ToolOutcome,
    ToolReady,
    ToolRequest,
    ToolsRequested,
    Transcript,
    TransferDone,
    TransferFailed,
    Usage,
    WriteAheadFailed,
)
from app.core.state import Phase
from flows.model import Flow, SlotType, Value
from tests.core.adversary import PIN, adversary
from tests.support.inspector import Inspector
from tests.support.shop import shop

EXAMPLES = int(os.environ.get("MACHINE", "0"))
PROFILE = settings(
    max_examples=EXAMPLES or 180,
    stateful_step_count=30,
    derandomize=not EXAMPLES,
    deadline=None,
    database=None,
    phases=(Stage.generate, Stage.shrink),
    suppress_health_check=list(HealthCheck),
)

PAUSES = st.sampled_from([0, 0, 5, 60, 60, 300, 900, 2500, -40, -5000])
LEAPS = st.sampled_from([100, 6000, 11_000, 25_000, 120_000, 3_000_000])
NEAR = st.sampled_from([0, 0, 0, 0, 0, 0, -1, -2, 9])
"""How far from the present one a fact's number is."""

WORDS = st.sampled_from(["", "yes", "no", "mm-hm", "tea", "red", "friday", "help", "what", "tea on monday", "x" * 3000])
RAW: dict[SlotType, list[Value]] = {
    SlotType.digits: [PIN, PIN, "12", "x"],
    SlotType.choice: ["tea", "coffee", "red", "blue", "green"],
    SlotType.weekday: ["monday", "Friday", "someday"],
    SlotType.number: [1, 2, 99, "three"],
    SlotType.string: ["text", 7],
}
OWN: list[dict[str, Value]] = [{}, {}, {"text": "one"}, {"text": "two"}, {"text": 1}, {"text": "one", "word": "red"}]
OUTCOMES = st.sampled_from([ToolOutcome.done] * 4 + [ToolOutcome.failed, ToolOutcome.unknown])
RESULTS = st.sampled_from([{}, {"found": True, "customer": "k7"}, {"found": False}, {"place": "here"}, {"place": [1]}])


class World(RuleBasedStateMachine):
    flow: Flow
    sound = False

    @initialize(seed=st.integers(0, 1 << 16), far=st.sampled_from([0, 1, 6, 15, 25, 40, 60]))
    def begin(self, seed: int, far: int) -> None:
        self.inspector = Inspector(self.flow, secrets=(PIN, " ".join(PIN)))
        self.state = self.inspector.core.state
        self.now_ms = 0
        self.owed: list[AnyEffect] = []
        self.utterance = 0
        if far:
            self.post(CallStarted("leg", "test"))
        self.get_on(seed, far)

    def post(self, event: AnyEvent, after_ms: int = 0) -> None:
        self.now_ms = max(0, self.now_ms + after_ms)
        self.sound = False
        effects = self.inspector.handle(event, self.now_ms)
        self.sound = True
        kept = (StartReply, AllowTool, StartTool, EndSpeech, HoldPlayout, CutPlayout)
        self.owed += [effect for effect in effects if isinstance(effect, kept)]

    # A world that does its duty

    @rule(seed=st.integers(0, 1 << 16), far=st.integers(1, 6))
    def get_on(self, seed: int, far: int) -> None:
        """Everybody does what is expected of them, or nearly."""
        chance = random.Random(seed)
        for _ in range(far):
            if self.owed:
                self.answer(chance)
            elif self.state.phase is Phase.live:
                self.call(chance)

    @rule(seed=st.integers(0, 1 << 16))
    def go_on(self, seed: int) -> None:
        self.get_on(seed, 12)

    def answer(self, chance: random.Random) -> None:
        order = self.owed.pop(chance.choice([0, 0, -1]))
        pause = chance.choice([0, 20, 150, 700])
        part = (chance.randrange(3), chance.randrange(40))
        match order:
            case StartReply(gen=gen):
                self.work(gen, chance)
            case AllowTool(n=n):
                self.post(ToolReady(n) if chance.random() < 0.9 else OnceUsed(n), pause)
            case StartTool(n=n):
                outcome = chance.choice([ToolOutcome.done] * 6 + [ToolOutcome.failed, ToolOutcome.unknown])
                self.post(ToolEnded(n, outcome, {"found": True, "customer": "k7", "place": "here"}, "fault"), pause)
            case EndSpeech(gen=gen):
                self.post(PlayoutStarted(gen), 20)
                self.post(PlayoutStopped(gen, 99, 0, "done"), 1000 + pause)
            case HoldPlayout(gen=gen):
                self.post(PlayoutHeld(gen, *part))
            case CutPlayout(gen=gen):
                self.post(PlayoutStopped(gen, *part, "cut"), pause)

    def work(self, gen: int, chance: random.Random) -> None:
        """An engine that does one sensible thing and is through."""
        request = self.inspector.requests[gen]
        own = [tool.name for tool in request.tools if tool.arguments]
        if request.words and chance.random() < 0.12:
            self.post(IntentProposed(gen, chance.choice(request.digressions)))
        elif request.words and chance.random() < 0.12:
            slot = chance.choice(request.slots)
            self.post(SlotsProposed(gen, {slot.name: chance.choice(RAW[slot.type])}))
        elif request.yesno and request.words:
            self.post(IntentProposed(gen, chance.choice(["yes", "yes", "yes", "no"])))
        elif request.slots and request.words:
            slot = request.slots[0]
            self.post(SlotsProposed(gen, {slot.name: chance.choice(RAW[slot.type][:2])}))
        elif request.ready:
            self.post(ToolsRequested(gen, (ToolRequest("r", chance.choice(request.ready)),)))
        elif own and chance.random() < 0.7:
            self.post(ToolsRequested(gen, (ToolRequest("m", chance.choice(own), {"text": chance.choice("ab")}),)))
        if request.engine == "main" and chance.random() < 0.4:
            self.post(Sentence(gen, 0, "So it is."))
        self.post(ReplyEnded(gen))

    def call(self, chance: random.Random) -> None:
        """A caller who answers what was asked."""
        hearing = self.inspector.core.hearing()
        if hearing.yesno:
            keys = chance.choice("####*")
        else:
            keys = {SlotType.digits: PIN, SlotType.number: "3#"}.get(hearing.slots[0].type, chance.choice("12"))
        if chance.random() < 0.6:
            for key in keys:
                self.post(Digit(key), chance.choice([0, 200]))
        elif chance.random() < 0.5:
            self.post(TextReceived("yes" if hearing.yesno else "words"), 500)
        else:
            self.speak(400, "yes" if hearing.yesno else "words", voice=True, whole=True)
            self.ring()

    @rule(pause=PAUSES, words=WORDS, voice=st.booleans(), whole=st.booleans())
    def utter(self, pause: int, words: str, voice: bool, whole: bool) -> None:
        self.speak(pause, words, voice=voice, whole=whole)

    def speak(self, pause: int, words: str, *, voice: bool, whole: bool) -> None:
        self.utterance += 1
        self.post(SpeechStarted(self.utterance), pause)
        if voice:
            self.post(SpeechConfirmed(self.utterance), 80)
        if whole:
            self.post(SpeechEnded(self.utterance, 400, voice), 400)
            self.post(Transcript(self.utterance, words), 60)

    @rule(pause=PAUSES, keys=st.sampled_from([PIN, "1", "2", "#", "#", "*", "80", "9", "64#", "x", "##"]))
    def key(self, pause: int, keys: str) -> None:
        for key in keys:
            self.post(Digit(key), pause)

    @rule(pause=PAUSES, words=WORDS)
    def type_(self, pause: int, words: str) -> None:
        self.post(TextReceived(words), pause)

    @rule(pause=st.one_of(PAUSES, LEAPS))
    def tick(self, pause: int) -> None:
        self.post(Tick(), pause)

    @rule()
    def ring(self) -> None:
        """The alarm, on time."""
        due = self.inspector.core.deadline_ms
        if due is not None:
            self.post(Tick(), max(0, due - self.now_ms))

    # A world that does not

    @rule(pause=PAUSES, near=NEAR, index=st.integers(0, 3), text=st.sampled_from(["Hm.", "", "So it is.", "y" * 150]))
    def sentence(self, pause: int, near: int, index: int, text: str) -> None:
        self.post(Sentence(self.state.gen + near, index, text), pause)

    @rule(pause=PAUSES, near=NEAR, data=st.data())
    def propose(self, pause: int, near: int, data: st.DataObject) -> None:
        names = data.draw(st.lists(st.sampled_from([*self.flow.slots, "nothing"]), max_size=2, unique=True))
        types = {name: self.flow.slots[name].type if name in self.flow.slots else SlotType.string for name in names}
        found = {name: data.draw(st.sampled_from(RAW[types[name]])) for name in names}
        self.post(SlotsProposed(self.state.gen + near, found, "words"), pause)

    @rule(pause=PAUSES, near=NEAR, data=st.data())
    def intend(self, pause: int, near: int, data: st.DataObject) -> None:
        intents = ["yes", "yes", "no", "repeat", "dance", *self.flow.digressions]
        self.post(IntentProposed(self.state.gen + near, data.draw(st.sampled_from(intents))), pause)

    @rule(pause=PAUSES, near=NEAR, data=st.data())
    def demand(self, pause: int, near: int, data: st.DataObject) -> None:
        tools = st.sampled_from([*self.flow.tools, *self.flow.tools, "rm"])
        calls = data.draw(st.lists(st.builds(ToolRequest, st.just("x"), tools, st.sampled_from(OWN)), max_size=3))
        self.post(ToolsRequested(self.state.gen + near, tuple(calls)), pause)

    @rule(pause=PAUSES, near=NEAR, fault=st.sampled_from(["", "", "", "empty", "truncated"]))
    def end_reply(self, pause: int, near: int, fault: str) -> None:
        gen = self.state.gen + near
        self.post(ReplyFailed(gen, fault) if fault else ReplyEnded(gen), pause)

    @rule(pause=PAUSES, near=NEAR, sentence=st.integers(0, 3), chars=st.integers(0, 60), fact=st.integers(0, 4))
    def playout(self, pause: int, near: int, sentence: int, chars: int, fact: int) -> None:
        gen = self.state.gen + near
        match fact:
            case 0:
                self.post(PlayoutStarted(gen), pause)
            case 1:
                self.post(PlayoutHeld(gen, sentence, chars), pause)
            case 2:
                self.post(SpeechFailed(gen, sentence, "down"), pause)
            case _:
                cause = ("done", "cut", "lost")[chars % 3]
                self.post(PlayoutStopped(gen, sentence, chars, cause), pause)

    @rule(pause=PAUSES, near=NEAR, fact=st.integers(0, 5), outcome=OUTCOMES, result=RESULTS)
    def tool(self, pause: int, near: int, fact: int, outcome: ToolOutcome, result: dict[str, Value]) -> None:
        n = len(self.state.tools) + near
        match fact:
            case 0 | 1:
                self.post(ToolReady(n), pause)
            case 2:
                self.post(OnceUsed(n), pause)
            case 3:
                self.post(WriteAheadFailed(n), pause)
            case _:
                self.post(ToolEnded(n, outcome, dict(result), "fault"), pause)

    @rule(pause=PAUSES, near=NEAR, voice=st.booleans(), words=WORDS, fact=st.integers(0, 4))
    def ear(self, pause: int, near: int, voice: bool, words: str, fact: int) -> None:
        utterance = max(0, self.utterance + near)
        match fact:
            case 0:
                self.post(SpeechStarted(utterance), pause)
            case 1:
                self.post(SpeechConfirmed(utterance), pause)
            case 2:
                self.post(SpeechEnded(utterance, 300, voice), pause)
            case 3:
                self.post(Transcript(utterance, words), pause)
            case _:
                self.post(ListenFailed(utterance, "down"), pause)

    @rule(pause=PAUSES, near=NEAR)
    def usage(self, pause: int, near: int) -> None:
        self.post(Usage(self.state.gen + near, "m", 10, 1), pause)

    @rule(pause=PAUSES, fact=st.integers(0, 3), here=st.booleans())
    def leg(self, pause: int, fact: int, here: bool) -> None:
        match fact:
            case 0:
                self.post(CallStarted("leg", "test"), pause)
            case 1:
                self.post(LegLost(self.state.leg if here else "other"), pause)
            case _:
                self.post(LegAttached(f"leg{self.state.now_ms}"), pause)

    @rule(pause=PAUSES, leg=st.sampled_from(["op1", "op2"]), joins=st.booleans())
    def guest(self, pause: int, leg: str, joins: bool) -> None:
        self.post(LegJoined(leg, LegRole.operator, "desk") if joins else LegLeft(leg), pause)

    @rule(pause=PAUSES, fact=st.integers(0, 8), here=st.booleans(), near=NEAR)
    def telephone(self, pause: int, fact: int, here: bool, near: int) -> None:
        """What a telephone's side does: holds, transfers that end somehow, facts of calls of ours."""
        leg = self.state.leg if here else "other"
        n = max(0, len(self.state.transfers) + near)
        match fact:
            case 0 | 1:
                self.post(LegHeld(leg), pause)
            case 2 | 3:
                self.post(LegResumed(leg), pause)
            case 4:
                self.post(TransferFailed(n, "busy"), pause)
            case 5:
                self.post(TransferDone(n), pause)
            case 6:
                self.post(LegJoined(f"{leg}-t{n}", LegRole.target, "the other side"), pause)
            case 7:
                self.post(LegLeft(f"{leg}-t{n}"), pause)
            case _:
                self.post(AnswererHeard(Answerer.beep), pause)
                self.post(LegMeasured(leg, 100, 1, 2.0, 4.0), pause)

    @rule(pause=PAUSES, fact=st.integers(0, 5), here=st.booleans(), near=NEAR)
    def referral(self, pause: int, fact: int, here: bool, near: int) -> None:
        """The telephone hands its end over, and may leave before the other one is there."""
        n = max(0, len(self.state.referrals) + near)
        match fact:
            case 0 | 1:
                self.post(CallerReferred(self.state.leg if here else "other", "sip:desk@c"), pause)
            case 2:
                self.post(ReferralFailed(n, "busy"), pause)
            case 3:
                self.post(CallerHungUp(self.state.leg), pause) if self.state.referral is not None else None
            case 4:
                self.post(LegLost(self.state.leg), pause)
                self.post(LegAttached(f"leg-r{n}"))
            case _:
                self.post(LegAttached(f"{self.state.leg}-r{n}"), pause)

    @rule(pause=PAUSES, fact=st.integers(0, 11), here=st.booleans())
    def end(self, pause: int, fact: int, here: bool) -> None:
        """Most calls are to live long enough to be interesting."""
        match fact:
            case 0:
                self.post(CallerHungUp(self.state.leg if here else "other"), pause)
            case 1:
                self.post(HangupOrdered("drain"), pause)
            case 2:
                self.post(CallFailed("AssertionError"), pause)

    def teardown(self) -> None:
        """Left alone, every call comes to its end."""
        if not self.sound or self.state.phase is Phase.new:
            return
        for _ in range(2000):
            due = self.inspector.core.deadline_ms
            if due is None:
                break
            self.post(Tick(), max(0, due - self.now_ms))
        assert self.state.phase is Phase.ended


@pytest.mark.parametrize(
    "flow",
    [shop(), shop(use="scripted"), adversary(), adversary(use="rules")],
    ids=["shop", "shop-model", "adversary", "adversary-rules"],
)
def test_whatever_happens_a_call_keeps_its_word(flow: Flow) -> None:
    machine = type("World", (World,), {"flow": flow})
    run_state_machine_as_test(machine, settings=PROFILE)
