"""Two users who do whatever they like, over a network that does too."""

import os
from dataclasses import dataclass
from functools import partial

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from media.sip.call import Call, Stage
from media.sip.inbound import InboundCall
from media.sip.refer import Referral
from media.sip.refresh import INTERVAL_S
from tests.sip.wires import ANSWER, LONG_MS, OFFER, Agent, Net, Told

SIDES = st.sampled_from(["a", "b"])
MAX_CALLS = 6
EXAMPLES = int(os.environ.get("MACHINE", "0"))  # asked for: so many, and others each time


@dataclass
class Strict(Told):
    """Fails when it is told what cannot be, and hangs up on the next thing that it is told if it `quits`."""

    call: Call | None = None
    quits: bool = False

    def _quit(self, now_ms: int) -> None:
        if self.quits and self.call is not None:
            self.quits = False
            self.call.hang_up(now_ms)

    def confirmed(self, now_ms: int) -> None:
        super().confirmed(now_ms)
        assert self.stands == 1, "confirmed twice"
        self._quit(now_ms)

    def offered(self, sdp: str, now_ms: int) -> str | None:
        answer = super().offered(sdp, now_ms)
        self._quit(now_ms)
        return answer

    def answered(self, sdp: str, now_ms: int) -> bool:
        fits = super().answered(sdp, now_ms)
        self._quit(now_ms)
        return fits

    def progressed(self, code: int, now_ms: int) -> None:
        super().progressed(code, now_ms)
        self._quit(now_ms)

    def referred(self, referral: Referral, now_ms: int) -> bool | None:
        refers = super().referred(referral, now_ms)
        self._quit(now_ms)
        return refers

    def transferred(self, code: int, now_ms: int) -> None:
        super().transferred(code, now_ms)
        self._quit(now_ms)


class TwoUsers(RuleBasedStateMachine):
    """Losses never last: what one side ends the other learns of, at the latest from its own timers."""

    def __init__(self) -> None:
        super().__init__()
        self.net = Net()
        self.ours: dict[str, list[tuple[Call, Strict]]] = {"a": [], "b": []}
        self.invited: dict[str, list[InboundCall]] = {"a": [], "b": []}
        self.prompt = {"a": False, "b": False}
        self.agents = {name: Agent(self.net, name, partial(self._invited, name)) for name in ("a", "b")}

    def _invited(self, side: str, call: InboundCall) -> None:
        self.invited[side].append(call)
        if self.prompt[side]:
            self.accepts(side, True)

    @initialize(seed=st.integers(0, 1 << 16), transport=st.sampled_from(["udp", "udp", "tcp"]))
    def begin(self, seed: int, transport: str) -> None:
        self.net.__init__(transport, seed)  # type: ignore[misc]  # anew, before anything happened
        self.net.agents |= self.agents

    # The network

    @rule(loss=st.sampled_from([0.0, 0.0, 0.3, 0.7, 1.0]), twice=st.sampled_from([0.0, 0.3]), late=st.booleans())
    def weather(self, loss: float, twice: float, late: bool) -> None:
        udp = self.net.transport == "udp"
        self.net.loss = loss if udp else 0.0
        self.net.twice = twice if udp else 0.0
        self.net.jitter_ms = 700 if late and udp else 0

    @rule(for_ms=st.sampled_from([5, 10, 15, 20, 30, 200, 300, 1000, 5000, 33_000, 1_000_000]))
    def time_passes(self, for_ms: int) -> None:
        self.net.run(for_ms)

    @rule(side=SIDES)
    def no_way(self, side: str) -> None:
        other = "b" if side == "a" else "a"
        self.agents[side].endpoint.failed(self.agents[side].hop(other), self.net.now_ms)

    # The users

    @rule(side=SIDES, prompt=st.booleans())
    def answers_at_once(self, side: str, prompt: bool) -> None:
        self.prompt[side] = prompt

    @precondition(lambda self: sum(map(len, self.ours.values())) < MAX_CALLS)
    @rule(side=SIDES)
    def talk(self, side: str) -> None:
        """A call in good weather, which stands unless there is something in its way."""
        other = "b" if side == "a" else "a"
        weather = self.net.loss, self.net.twice, self.net.jitter_ms
        self.net.loss, self.net.twice, self.net.jitter_ms = 0.0, 0.0, 0
        before, self.prompt[other] = self.prompt[other], True
        self.calls(side, 60_000)
        self.net.run(100)
        self.prompt[other] = before
        self.net.loss, self.net.twice, self.net.jitter_ms = weather

    @precondition(lambda self: sum(map(len, self.ours.values())) < MAX_CALLS)
    @rule(side=SIDES, answer_ms=st.sampled_from([300, 10_000, 60_000]))
    def calls(self, side: str, answer_ms: int) -> None:
        told = Strict(OFFER)
        call = self.agents[side].calls("b" if side == "a" else "a", told, answer_ms=answer_ms)
        told.call = call
        self.ours[side].append((call, told))

    @rule(side=SIDES)
    def rings(self, side: str) -> None:
        for call in self.invited[side]:
            call.ring(self.net.now_ms)

    @rule(side=SIDES, fits=st.sampled_from([True, True, True, False]))
    def accepts(self, side: str, fits: bool) -> None:
        if self.invited[side]:
            told, call = Strict(ANSWER if fits else ""), self.invited[side].pop(0)
            told.call = call
            call.accept(told.sdp, told, self.net.now_ms)
            self.ours[side].append((call, told))

    @rule(side=SIDES, code=st.sampled_from([302, 486, 603]))
    def rejects(self, side: str, code: int) -> None:
        if self.invited[side]:
            self.invited[side].pop(0).reject(code, self.net.now_ms)

    def _one(self, side: str, which: int) -> tuple[Call, Strict] | None:
        return self.ours[side][which % len(self.ours[side])] if self.ours[side] else None

    @rule(side=SIDES, which=st.integers(0, 5))
    def hangs_up(self, side: str, which: int) -> None:
        if found := self._one(side, which):
            found[0].hang_up(self.net.now_ms)

    @rule(side=SIDES, which=st.integers(0, 5))
    def quits_on_the_next_thing(self, side: str, which: int) -> None:
        if found := self._one(side, which):
            found[1].quits = True

    @rule(side=SIDES, which=st.integers(0, 5))
    def changes(self, side: str, which: int) -> None:
        if found := self._one(side, which):
            found[0].modification.offer(self.net.now_ms)

    @rule(side=SIDES, which=st.integers(0, 5))
    def refreshes(self, side: str, which: int) -> None:
        if found := self._one(side, which):
            found[0].modification.refresh(self.net.now_ms)

    @rule(side=SIDES, which=st.integers(0, 5))
    def transfers(self, side: str, which: int) -> None:
        if found := self._one(side, which):
            found[0].transfers.ask("sip:desk@c", self.net.now_ms)

    @rule(side=SIDES, which=st.integers(0, 5), code=st.sampled_from([180, 200, 486]))
    def transfer_goes_on(self, side: str, which: int, code: int) -> None:
        if found := self._one(side, which):
            found[0].transfers.progress(code, self.net.now_ms)

    @rule(side=SIDES, which=st.integers(0, 5), fits=st.booleans(), refers=st.booleans())
    def changes_its_mind(self, side: str, which: int, fits: bool, refers: bool) -> None:
        if found := self._one(side, which):
            found[1].fits, found[1].refers = fits, refers

    # What always holds

    @invariant()
    def each_end_is_told_once(self) -> None:
        for call, told in self.ours["a"] + self.ours["b"]:
            assert len(told.ends) <= 1
            if call.stage is Stage.over:
                assert len(told.ends) == 1
            if call.live:
                assert not told.ends

    @invariant()
    def every_call_that_is_not_over_is_remembered(self) -> None:
        for side, calls in self.ours.items():
            known = self.agents[side].endpoint.calls
            for call, _ in calls:
                assert (known.get(call.key) is call) == (call.stage is not Stage.over)

    @invariant()
    def a_call_lives_no_longer_than_its_timers(self) -> None:
        for agent in self.agents.values():
            waiting = sum(call.stage is not Stage.setup for call in agent.endpoint.calls.values())
            assert not waiting or agent.endpoint.deadline_ms is not None

    def teardown(self) -> None:
        """Both hang up everything, and in the end nothing is left."""
        self.prompt = {"a": False, "b": False}
        for side in ("a", "b"):
            self.rings(side)
            for waiting in self.invited[side]:
                waiting.reject(486, self.net.now_ms)
            for call, _ in self.ours[side]:
                call.hang_up(self.net.now_ms)
        self.net.run(LONG_MS)
        for side in ("a", "b"):  # what was on its way when they hung up
            for waiting in self.invited[side]:
                waiting.reject(486, self.net.now_ms)
        self.net.run(LONG_MS)
        for side in ("a", "b"):
            assert self.agents[side].left == []
            for call, told in self.ours[side]:
                assert call.stage is Stage.over
                assert len(told.ends) == 1


TestTwoUsers = TwoUsers.TestCase
TestTwoUsers.settings = settings(
    max_examples=EXAMPLES or 150,
    derandomize=not EXAMPLES,
    stateful_step_count=40,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)


class QuietEnds(TwoUsers):
    """Only one side hangs up, and its BYE may be lost for ever: the session timer tells the other one at the latest."""

    def teardown(self) -> None:
        self.net.loss = 0.0
        self.prompt = {"a": False, "b": False}
        for side in ("a", "b"):
            for waiting in self.invited[side]:
                waiting.reject(486, self.net.now_ms)
        for call, _ in self.ours["a"]:
            call.hang_up(self.net.now_ms)
        self.net.run(INTERVAL_S * 1000 + 2 * LONG_MS)
        partners = {call.key[0] for call, _ in self.ours["a"]}
        for call, told in self.ours["a"]:
            assert call.stage is Stage.over
            assert len(told.ends) == 1
        for call, told in self.ours["b"]:
            if call.key[0] in partners:
                assert told.ends, "the other side does not know"


TestQuietEnds = QuietEnds.TestCase
TestQuietEnds.settings = TestTwoUsers.settings
