"""Calls that we place: allowed, placed, and settled when they are over. One door for people, lists and other calls."""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar, TypeVarTuple

from app.core.cdr import Cdr
from app.core.effects import CallInstead, DialLeg, ReferCaller
from app.core.events import Answerer, CallPlaced, LegRole, TransferDone, TransferFailed
from app.core.state import Phase
from app.dialler.guard import Guard, Permit
from app.dialler.guard import Refused as Forbidden
from app.dialler.outcome import Outcome, Placed, of_status
from app.dialler.rules import Rule
from app.ports import StoreError
from app.runtime.actor import DECLINED, UNSUPPORTED, CallActor, Handing
from app.runtime.guest import Guest
from app.runtime.line import UNAVAILABLE, Heir
from app.runtime.registry import Full
from app.runtime.switchboard import UNRECORDED, Switchboard
from flows import template
from flows.model import Value
from flows.template import TemplateError
from media.gateway import Dial, Dialler, Dialling, Refused
from media.leg import Leg

TRYING = 100  # of SIP
MAX_ORDERS = 100  # that wait for the guard's file, which may hang
REDIRECT_PAUSE_S = 1.0  # for the rule that calls begin one after the other, before a redirection is asked for again

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """Somebody wants somebody to be called."""

    to: str
    flow: str
    by: str = ""  # whose order it is: a token's name, a list's
    caller: str = ""  # the number to be shown; empty: the trunk's
    answer_s: float = 45.0
    detect: bool = False  # find out first whether a person answers
    slots: Mapping[str, Value] = field(default_factory=dict)  # known beforehand


class NotPlaced(Exception):
    """No call; `rule` says by which rule and `str()` is one line for whoever ordered it."""

    def __init__(self, rule: str, line: str, *, forbidden: bool, placed: Placed | None = None) -> None:
        super().__init__(line)
        self.rule = rule
        self.forbidden = forbidden
        self.placed = placed or Placed(Outcome.failed)


class Outbound:
    """`run` must be running before calls are placed; `stop` ends it once they are settled."""

    def __init__(
        self,
        switchboard: Switchboard,
        guard: Guard,
        dialler: Dialler,
        now_s: Callable[[], float] = time.time,
        variable: Callable[[str], str | None] = lambda name: None,
    ) -> None:
        """`variable`: what a flow's `{env.NAME}` stands for."""
        self.refused: Counter[str] = Counter()  # orders, and transfers, by the rule
        self._variable = variable
        self._switchboard = switchboard
        self._guard = guard
        self._dialler = dialler
        self._now_s = now_s
        self._group: asyncio.TaskGroup | None = None
        self._stopping = asyncio.Event()
        # The loop's own threads look names up for live calls, and must not wait for the guard's file.
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="outbound")
        self._orders = 0  # that wait for it

    async def run(self) -> None:
        async with asyncio.TaskGroup() as self._group:
            await self._stopping.wait()
        self._group = None
        self._thread.shutdown(wait=False, cancel_futures=True)  # the process does not wait for orders behind a lock

    def stop(self) -> None:
        self._stopping.set()

    async def place(self, order: Order) -> "Underway":
        """Returns as soon as it is being dialled. Raises `NotPlaced`."""
        try:
            return await self._place(order)
        except NotPlaced as error:
            self.refused[error.rule] += 1
            raise

    async def _place(self, order: Order) -> "Underway":
        if self._group is None or self._stopping.is_set():
            raise NotPlaced("stopping", "the server is about to stop", forbidden=False)
        if self._orders >= MAX_ORDERS:
            raise NotPlaced("busy", f"{MAX_ORDERS} orders wait already", forbidden=False)
        self._orders += 1
        try:
            permit = await self._ask(self._guard.admit, order.to, self._now_s())
        except StoreError as error:
            raise NotPlaced("journal", "calls cannot be counted now", forbidden=False) from error
        finally:
            self._orders -= 1
        if isinstance(permit, Forbidden):
            raise NotPlaced(permit.refusal.rule, permit.refusal.line, forbidden=True, placed=permit.placed)
        if self._group is None:  # the server has stopped meanwhile; the next one knows that this call is over
            raise NotPlaced("stopping", "the server is about to stop", forbidden=False)
        over: asyncio.Future[CallActor] = asyncio.get_running_loop().create_future()
        charge = Charge(permit)
        try:
            actor = self._switchboard.place(
                _fact(order, permit),
                order.flow,
                self._dialler,
                permit.to.dial,
                lambda actor: None if over.done() else over.set_result(actor),  # nobody may wait any more
                partial(self._redirect, charge),
            )
        except (Full, Refused, StoreError) as error:
            await self._settled(charge, 0.0)
            raise _not_begun(error) from error
        return Underway(actor.call, self._group.create_task(self._settle(charge, over)))

    def hand_over(self, actor: CallActor, order: Handing) -> None:
        """Implements `app.runtime.actor.HandOver`. It is a call of ours like any other, so the same rules hold."""
        if self._group is None or self._stopping.is_set():
            actor.not_handed(order, Outcome.failed, UNAVAILABLE)
        else:
            self._group.create_task(self._transfer(actor, order))

    async def _transfer(self, actor: CallActor, order: Handing) -> None:
        try:
            # What a caller's side names is taken as it is: only a flow's own words may name our variables.
            to = order.to if isinstance(order, CallInstead) else template.render(order.to, self._variable)
            permit = await self._ask(self._guard.admit, to, self._now_s())
        except (StoreError, TemplateError) as error:
            log.error("call %s: a transfer failed: %s", actor.call, type(error).__name__)
            actor.not_handed(order, Outcome.failed, UNAVAILABLE)
            return
        if isinstance(permit, Forbidden):
            log.warning("call %s: a transfer is not allowed: %s", actor.call, permit.refusal.line)
            self.refused[permit.refusal.rule] += 1
            actor.not_handed(order, Outcome.refused, DECLINED)
            return
        charge = Charge(permit)
        talked_s: float | None = 0.0
        try:
            match order:
                case ReferCaller():
                    talked_s = await self._refer(actor, order, permit)
                case DialLeg():
                    target = Target(actor, order)
                    redirect = partial(self._redirect, charge)
                    dial = Dial(to=permit.to.dial, leg=order.leg, answer_ms=order.answer_ms, redirect=redirect)
                    talked_s = await self._call(actor, order, permit, target, dial)
                case CallInstead():
                    talked_s = await self._replace(actor, order, charge)
        finally:
            await self._settled(charge, talked_s)

    async def _redirect(self, charge: "Charge", to: str) -> str:
        """Implements `media.gateway.Redirect`: it is another call, in the place of the one that was sent on."""
        await self._settled(charge, 0.0)
        try:
            permit = await self._ask(self._guard.admit, to, self._now_s())
            if isinstance(permit, Forbidden) and permit.refusal.rule is Rule.calls_per_second:
                await asyncio.sleep(REDIRECT_PAUSE_S)
                permit = await self._ask(self._guard.admit, to, self._now_s())
        except StoreError as error:
            log.error("a redirection is not followed: %s", error)
            return ""
        if isinstance(permit, Forbidden):
            log.warning("a redirection is not followed: %s", permit.refusal.line)
            self.refused[permit.refusal.rule] += 1
            return ""
        charge.permit = permit
        return permit.to.dial

    async def _replace(self, actor: CallActor, order: CallInstead, charge: "Charge") -> float:
        wish = actor.legs.wish
        if wish is None:
            return 0.0
        actor.legs.wish_is(TRYING)
        heir, token = self._switchboard.heir(actor, order)
        dial = Dial(
            to=charge.permit.to.dial,
            leg=order.leg,
            answer_ms=order.answer_ms,
            redirect=partial(self._redirect, charge),
            replaces=wish.instead.replaces,
            by=wish.instead.by,
            resume=token,
        )
        return await self._call(actor, order, charge.permit, heir, dial)

    async def _refer(self, actor: CallActor, order: ReferCaller, permit: Permit) -> float | None:
        """Until it is known what came of it. A call that somebody else places for us is of unknown length."""
        refer = actor.legs.refer
        if refer is None or actor.core.state.phase is Phase.ended:
            actor.post(TransferFailed(order.n, UNSUPPORTED))
            return 0.0
        over = asyncio.Event()
        refused = False

        def told(status: int) -> None:
            nonlocal refused
            if 200 <= status < 300:
                actor.post(TransferDone(order.n))
                over.set()
            elif status >= 300:
                refused = True
                actor.post(TransferFailed(order.n, of_status(status), status))
                over.set()

        actor.on_end(lambda cause, outcome: over.set())
        refer(permit.to.dial, told)
        await over.wait()
        return 0.0 if refused else None

    async def _call(
        self, actor: CallActor, order: DialLeg | CallInstead, permit: Permit, other: "Target | Heir", dial: Dial
    ) -> float:
        """Until the other side is gone; for how long it talked, in seconds."""
        actor.on_end(lambda cause, outcome: other.over.set())
        if actor.core.state.phase is Phase.ended:
            return 0.0
        try:
            actor.legs.dialling(order.leg, _Ringing(self._dialler.dial(dial, other), other.over))
        except Refused:
            actor.not_handed(order, Outcome.failed, UNAVAILABLE)
            return 0.0
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(permit.quote.call_s + order.answer_ms / 1000) as limit:
                other.answered = lambda: limit.reschedule(loop.time() + permit.quote.call_s)
                await other.over.wait()
        except TimeoutError:
            other.drop("the longest call that is allowed")
        return loop.time() - other.since_s if other.since_s else 0.0

    async def _settle(self, charge: "Charge", over: "asyncio.Future[CallActor]") -> Placed:
        record = (await over).record
        answered_ms = record.answered_ms if record is not None else None
        talked_s = 0.0 if record is None or answered_ms is None else (record.duration_ms - answered_ms) / 1000
        await self._settled(charge, talked_s if record is not None else None)
        return Placed(outcome_of(record))

    async def _ask(self, question: Callable[[*Ts], T], *arguments: *Ts) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, question, *arguments)

    async def _settled(self, charge: "Charge", talked_s: float | None) -> None:
        try:
            await self._ask(self._guard.settle, charge.permit, talked_s)
        except StoreError as error:
            log.error("a call could not be settled, so it costs the most: %s", error)


@dataclass(slots=True)
class Charge:
    """What is reserved for one call, wherever it is sent on to."""

    permit: Permit


class Target(Guest):
    """Implements `media.gateway.Callee` for the other side of a transfer."""

    def __init__(self, actor: CallActor, order: DialLeg) -> None:
        super().__init__(actor, order.leg, LegRole.target, "the other side")
        self.over = asyncio.Event()
        self.since_s = 0.0  # of the answer
        self.answered: Callable[[], None] = lambda: None
        self._n = order.n

    def attach(self, leg: Leg) -> None:
        self.since_s = asyncio.get_running_loop().time()
        self.answered()
        super().attach(leg)

    def rang(self) -> None: ...

    def not_reached(self, status: int) -> None:
        self._actor.post(TransferFailed(self._n, of_status(status), status))
        self.over.set()

    def hung_up(self) -> None:
        super().hung_up()
        self.over.set()

    def drop(self, reason: str) -> None:
        """Its time is up."""
        self._actor.legs.drop(self._leg_id, reason)
        self.hung_up()


class _Ringing:
    """A leg that is dialled until it is cancelled. Implements `media.gateway.Dialling`."""

    def __init__(self, dialling: Dialling, over: asyncio.Event) -> None:
        self._dialling = dialling
        self._over = over

    def cancel(self) -> None:
        self._dialling.cancel()
        self._over.set()


@dataclass(frozen=True, slots=True)
class Underway:
    """A call that is being placed, or is talking."""

    call: str
    _settled: asyncio.Task[Placed]

    async def over(self) -> Placed:
        """Once the call has its record."""
        return await asyncio.shield(self._settled)


def _fact(order: Order, permit: Permit) -> CallPlaced:
    return CallPlaced(
        leg="",
        transport="sip",
        caller=order.caller,
        called=permit.to.dial,
        by=order.by,
        answer_ms=round(order.answer_s * 1000),
        talk_ms=permit.quote.call_s * 1000,
        detect=order.detect,
        slots=dict(order.slots),
    )


def _not_begun(error: Full | Refused | StoreError) -> NotPlaced:
    match error:
        case Full():
            return NotPlaced("busy", str(error), forbidden=False)
        case Refused(reason=reason):
            return NotPlaced("way", reason, forbidden=False)
        case StoreError():
            return NotPlaced("journal", UNRECORDED, forbidden=False)


def outcome_of(record: Cdr | None) -> Outcome:
    if record is None:
        return Outcome.unknown
    if record.answered_ms is not None:
        return Outcome.voicemail if record.answerer == Answerer.machine else Outcome.answered
    return Outcome(record.outcome) if record.outcome in tuple(Outcome) else Outcome.failed
