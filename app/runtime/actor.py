"""One call's actor: awaits its mailbox, asks the core, writes the record, carries out the orders. It decides nothing.

Audio does not pass here, only facts about it. Every job that an order starts belongs to the actor's TaskGroup.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from typing import Protocol

import msgspec
from msgspec import Struct

from app.core import cdr
from app.core.codec import CallHeader
from app.core.core import CallCore
from app.core.effects import (
    AllowTool,
    AnyEffect,
    CallInstead,
    CancelTool,
    Connect,
    CutPlayout,
    DeclineReferral,
    DialLeg,
    DropLeg,
    EndCall,
    EndSpeech,
    GoTo,
    HoldPlayout,
    Listen,
    ReferCaller,
    ResumePlayout,
    Speak,
    StartReply,
    StartTool,
    StopReply,
    Verdict,
    WithdrawTool,
)
from app.core.events import (
    AnyEvent,
    CallFailed,
    PlayoutHeld,
    PlayoutStopped,
    ReferralFailed,
    ReplyFailed,
    Tick,
    TransferFailed,
)
from app.core.request import Hearing
from app.core.state import Phase
from app.ports import Clock, Fault, Llm, StoreError, Tools
from app.runtime import reply
from app.runtime.journal import CallJournal
from app.runtime.legs import Legs
from app.runtime.replay import rebuild
from app.runtime.speech import Output
from app.runtime.tools import ToolJobs

log = logging.getLogger(__name__)

UNSUPPORTED = "unsupported"
DECLINED = 603  # RFC 3261, 21.6.2

RECORD_MS = 1000
"""For a call's record to be written, before the call is over for whoever asks."""

MAILBOX_MAX = 2000
"""Facts that wait. A call that is this far behind is broken, and ends."""

Job = Coroutine[object, object, None]


class Seen(Struct, frozen=True):
    """One record as it happened, for whoever watches the call."""

    call: str
    ms: int
    event: AnyEvent
    effects: Sequence[AnyEffect]
    sealed: bool  # the event's words are not to be shown
    came_s: float = 0.0  # by the loop's clock: when the event was posted, before it waited for its turn


Watch = Callable[[Seen], None]


Handing = ReferCaller | DialLeg | CallInstead
HandOver = Callable[["CallActor", Handing], None]
"""Carries out a transfer, to or by somebody else; what comes of it is posted to the call."""


class Ear(Protocol):
    """What a call needs of a leg's listening."""

    def expect(self, hearing: Hearing) -> None: ...

    def close(self) -> None: ...


class CallActor:
    """`run` is the call: it returns when the call has ended and its record is written.

    `attach` gives it a leg's output and ear; without one its orders to speak are answered as lost.
    """

    def __init__(
        self,
        core: CallCore,
        journal: CallJournal,
        *,
        llms: dict[str, Llm],
        tools: Tools,
        clock: Clock,
        watch: Watch | None = None,
        hand_over: HandOver | None = None,
    ) -> None:
        self._hand_over = hand_over
        self.core = core
        self.call = core.state.call
        self.record: cdr.Cdr | None = None
        self.recording = ""
        self._journal = journal
        self._llms = llms
        self._clock = clock
        self._watch = watch
        self._started_ms = clock.monotonic_ms()
        self._mailbox: deque[tuple[AnyEvent, float]] = deque()  # each with when it came
        self._idle: asyncio.Future[None] | None = None  # done when there is something in the mailbox
        self._overflowed = False
        self._group: asyncio.TaskGroup | None = None
        self._alarm: asyncio.TimerHandle | None = None
        self._alarm_ms = 0  # what the alarm is for
        self._output: Output | None = None
        self._ear: Ear | None = None
        self._give_way: Callable[[], None] | None = None
        self._replies: dict[int, asyncio.Task[None]] = {}
        self._tools = ToolJobs(core.flow, journal, tools, self.spawn, self.post)
        self._on_end: list[Callable[[str, str], None]] = []
        self.legs = Legs()

    # From outside

    @property
    def header(self) -> CallHeader:
        return self._journal.header

    @property
    def now_ms(self) -> int:
        """Since the call's start."""
        return self._clock.monotonic_ms() - self._started_ms

    @property
    def at_rest(self) -> bool:
        """Nothing is under way or waits: the next word is the caller's."""
        state = self.core.state
        return not self._mailbox and state.reply is None and state.due is None and not self._tools.busy

    def post(self, event: AnyEvent) -> None:
        """Never blocks; from the loop's thread."""
        if len(self._mailbox) >= MAILBOX_MAX:
            self._overflowed = True
            return
        self._mailbox.append((event, asyncio.get_running_loop().time()))
        if self._idle is not None and not self._idle.done():
            self._idle.set_result(None)

    def spawn(self, job: Job) -> asyncio.Task[None]:
        """A job of this call's; it ends with the call at the latest, and its own faults end only this call."""
        assert self._group is not None, "the call is not running"
        task = self._group.create_task(self._own(job))
        task.add_done_callback(lambda _: job.close())  # cancelled before its first step, it would never be awaited
        return task

    async def _own(self, job: Job) -> None:
        try:
            await job
        except Exception as error:
            log.exception("call %s: internal error in a job", self.call)
            self.post(CallFailed(f"{type(error).__name__} in a job"))

    def attach(self, output: Output, ear: Ear, give_way: Callable[[], None] = lambda: None) -> None:
        """Before `CallStarted` or `LegAttached` is posted."""
        self._output = output
        self._ear = ear
        self._give_way = give_way
        if self.core.state.step:
            ear.expect(self.core.hearing())

    def detach(self) -> None:
        """After the leg's playout has said what was heard, and before `LegLost` is posted."""
        if self._ear is not None:
            self._ear.close()
        if self._output is not None:
            self._output.close()
        self._output = None
        self._ear = None
        self._give_way = None

    def replace_leg(self) -> None:
        """Another leg is about to take this one's place, which may have been lost without anybody noticing."""
        if self._give_way is not None:
            self._give_way()

    def on_end(self, hang_up: Callable[[str, str], None]) -> None:
        """Called once with the cause and the outcome, when the call orders its legs to be closed."""
        self._on_end.append(hang_up)

    async def run(self) -> None:
        """The call's own faults end in its record; cancelling ends it without a goodbye."""
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                try:
                    await self._live()
                finally:
                    self._stop_jobs()
        finally:
            self._disarm()
            self._finish()

    async def recorded(self) -> None:
        """Returns when the record of the ended call is kept, or could not be kept for `RECORD_MS`."""
        with suppress(StoreError, TimeoutError):
            async with asyncio.timeout(RECORD_MS / 1000):
                await self._journal.flush()

    # The loop

    async def _live(self) -> None:
        while self.core.state.phase is not Phase.ended:
            if not self._mailbox:
                self._idle = asyncio.get_running_loop().create_future()
                await self._idle
            if self._overflowed:
                self._overflowed = False
                self._mailbox.clear()
                await self._fail("mailbox overflow")
                continue
            await self._take(*self._mailbox.popleft())

    async def _take(self, event: AnyEvent, came_s: float) -> None:
        try:
            self._handle(event, came_s)
        except Exception as error:  # the state may be torn: this one call starts over from its journal or ends
            log.exception("call %s: internal error in %s", self.call, type(event).__name__)
            await self._fail(f"{type(error).__name__} in {type(event).__name__}")

    def _handle(self, event: AnyEvent, came_s: float) -> None:
        core = self.core
        effects = core.handle(event, self.now_ms)
        self._journal.write(core.state.now_ms, event, effects, core.sealed)
        if self._watch is not None:
            self._watch(Seen(self.call, core.state.now_ms, event, effects, core.sealed, came_s))
        for effect in effects:
            self._carry_out(effect)
        self._arm()

    async def _fail(self, detail: str) -> None:
        """We were wrong. Rebuild the call as it was before the fact that broke it, and end it in order."""
        try:
            self.core = await rebuild(self._journal, self.core.flow)
            self._handle(CallFailed(detail), asyncio.get_running_loop().time())
        except Exception:
            log.exception("call %s: could not be rebuilt", self.call)
            self.core.state.phase = Phase.ended
            self.core.state.cause = self.core.state.outcome = "internal-error"
            self._hang_up("internal-error", "internal-error")

    def _arm(self) -> None:
        """Most deadlines are put off before they are due, so an alarm for an earlier one stays as it is."""
        deadline_ms = self.core.deadline_ms
        if deadline_ms is None or (self._alarm is not None and self._alarm_ms <= deadline_ms):
            return
        self._disarm()
        self._alarm_ms = deadline_ms
        in_ms = max(0, deadline_ms - self.now_ms)
        self._alarm = asyncio.get_running_loop().call_later(in_ms / 1000, self._ring)

    def _ring(self) -> None:
        self._alarm = None
        if self.core.deadline_ms == self._alarm_ms:
            self.post(Tick())
        else:
            self._arm()

    def _disarm(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None

    # Orders

    def _carry_out(self, effect: AnyEffect) -> None:
        match effect:
            case StartReply(gen=gen, engine=engine):
                self._start_reply(gen, engine)
            case StopReply(gen=gen):
                if (job := self._replies.pop(gen, None)) is not None:
                    job.cancel()
            case Speak() | EndSpeech() | HoldPlayout() | ResumePlayout() | CutPlayout():
                self._speech(effect)
            case Listen():
                if self._ear is not None:
                    self._ear.expect(self.core.hearing())
            case AllowTool():
                self._tools.allow(effect)
            case StartTool(n=n):
                self._tools.start(n)
            case WithdrawTool(n=n):
                self._tools.withdraw(n)
            case CancelTool(n=n):
                self._tools.cancel(n)
            case EndCall(cause=cause, outcome=outcome):
                self._hang_up(cause, outcome)
            case Connect(hears=hears):
                self.legs.connect(hears)
            case ReferCaller() | DialLeg() | CallInstead():
                if self._hand_over is not None:
                    self._hand_over(self, effect)
                else:
                    self.not_handed(effect, UNSUPPORTED, DECLINED)
            case DeclineReferral():
                self.legs.wish_is(DECLINED)
            case DropLeg(leg=leg, reason=reason):
                self.legs.drop(leg, reason)
            case Verdict() | GoTo():
                pass

    def not_handed(self, order: Handing, outcome: str, status: int) -> None:
        """Nothing came of it; `status` of SIP."""
        if isinstance(order, CallInstead):
            self.legs.wish_is(status)
            self.post(ReferralFailed(order.n, outcome, status))
        else:
            self.post(TransferFailed(order.n, outcome))

    def _start_reply(self, gen: int, engine: str) -> None:
        request = self.core.request(gen)
        provider = self.core.flow.models[engine].use if engine in self.core.flow.models else engine
        llm = self._llms.get(provider)
        if llm is None:
            self.post(ReplyFailed(gen, Fault.rejected))
            return
        job = self.spawn(reply.produce(llm, request, gen, self.post))
        self._replies[gen] = job
        job.add_done_callback(lambda _: self._replies.pop(gen, None))

    def _speech(self, order: Speak | EndSpeech | HoldPlayout | ResumePlayout | CutPlayout) -> None:
        output = self._output
        match order:
            case Speak(gen=gen, index=index, text=text):
                if output is not None:
                    output.speak(gen, index, text)
            case EndSpeech(gen=gen):
                if output is not None:
                    output.end(gen)
                else:
                    self.post(PlayoutStopped(gen, 0, 0, "lost"))
            case HoldPlayout(gen=gen):
                if output is not None:
                    output.hold(gen)
                else:
                    self.post(PlayoutHeld(gen, 0, 0))
            case ResumePlayout(gen=gen):
                if output is not None:
                    output.resume(gen)
            case CutPlayout(gen=gen):
                if output is not None:
                    output.cut(gen)
                else:
                    self.post(PlayoutStopped(gen, 0, 0, "lost"))

    # The end

    def _hang_up(self, cause: str, outcome: str) -> None:
        for hang_up in self._on_end:
            hang_up(cause, outcome)
        self._on_end.clear()
        self.legs.end(cause, outcome)

    def _stop_jobs(self) -> None:
        for job in list(self._replies.values()):
            job.cancel()
        if self._output is not None and self.core.state.gen:
            self._output.cut(self.core.state.gen)
        self._tools.close()
        self.detach()

    def _finish(self) -> None:
        self.record = cdr.told(self.core.flow, self.core.state)
        self._journal.finish(msgspec.json.encode(self.record), self.recording)
