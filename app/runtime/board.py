"""The calls at a glance, one row each: the live ones as they change, and those on record."""

from collections.abc import Callable
from contextlib import suppress

import msgspec
from msgspec import Raw, Struct

from app.core import cdr, view
from app.core.cdr import SERVER_DIED, CdrError
from app.ports import CallRow
from app.runtime.actor import CallActor
from app.runtime.registry import Registry


class Row(Struct, frozen=True):
    call: str
    flow: str
    started_at: str  # UTC, ISO 8601
    state: str  # "live", "ended", "died"
    transport: str
    caller: str
    step: str  # the last one
    duration_ms: int  # so far
    turns: int
    outcome: str
    cause: str
    trouble: int  # how often something went wrong
    trouble_text: str
    recording: bool


class Everything(Struct, frozen=True):
    calls: list[Row]
    max_calls: int
    draining: bool


class Change(Struct, frozen=True):
    set: list[Raw]  # of `Row`
    gone: list[str]
    draining: bool


def live_row(actor: CallActor) -> Row:
    state = actor.core.state
    wrong = view.trouble(state)
    return Row(
        call=actor.call,
        flow=actor.core.flow.name,
        started_at=actor.header.started_at,
        state="live",
        transport=state.transport,
        caller=state.caller,
        step=state.step,
        duration_ms=actor.now_ms,
        turns=state.counts.turns,
        outcome=state.outcome,
        cause=state.cause,
        trouble=wrong.count,
        trouble_text=wrong.text,
        recording=bool(actor.recording),
    )


def past_row(kept: CallRow) -> Row:
    """Of a call that nobody has alive: ended, or died without a record."""
    record = None
    with suppress(CdrError):
        record = cdr.read(kept.cdr) if kept.cdr is not None else None
    header = kept.header
    if record is None:
        told = "purged" if kept.purged else "its record is damaged" if kept.cdr is not None else "it has no record"
        return Row(
            call=header.call,
            flow=header.flow,
            started_at=header.started_at,
            state="ended" if kept.purged or kept.cdr is not None else "died",
            transport="",
            caller="",
            step="",
            duration_ms=0,
            turns=0,
            outcome="",
            cause="purged" if kept.purged else "",
            trouble=0 if kept.purged else 1,
            trouble_text="" if kept.purged else told,
            recording=False,
        )
    wrong = view.trouble_of(record)
    return Row(
        call=header.call,
        flow=header.flow,
        started_at=header.started_at,
        state="died" if record.cause == SERVER_DIED else "ended",
        transport=record.transport,
        caller=record.caller,
        step=record.last_step,
        duration_ms=record.duration_ms,
        turns=record.turns,
        outcome=record.outcome,
        cause=record.cause,
        trouble=wrong.count,
        trouble_text=wrong.text,
        recording=bool(kept.recording),
    )


class Board:
    """Which live calls changed, and when last: a viewer gets the newest state of each, however slow it is."""

    def __init__(self, registry: Registry) -> None:
        self.registry = registry
        self._viewers = 0
        self._now = 0  # counts changes
        self._changed: dict[str, int] = {}  # by call, the latest change last
        self._rows: dict[str, tuple[int, Raw]] = {}  # encoded once for all viewers, as of a change

    def touch(self, call: str) -> None:
        """In the call's own handling, so it is as cheap as can be."""
        if self._viewers:
            self._now += 1
            self._changed.pop(call, None)
            self._changed[call] = self._now

    def open(self) -> "Glance":
        self._viewers += 1
        return Glance(self, self._close)

    def since(self, before: int) -> tuple[int, list[str]]:
        """The number of the latest change, and the calls that changed after `before`."""
        found = []
        for call, at in reversed(self._changed.items()):
            if at <= before:
                break
            found.append(call)
        return self._now, found

    def row(self, actor: CallActor) -> Raw:
        at = self._changed.get(actor.call, 0)
        kept = self._rows.get(actor.call)
        if kept is None or kept[0] != at:
            kept = self._rows[actor.call] = (at, Raw(msgspec.json.encode(live_row(actor))))
        return kept[1]

    def forget(self, call: str) -> None:
        self._changed.pop(call, None)
        self._rows.pop(call, None)

    def _close(self) -> None:
        self._viewers -= 1
        if not self._viewers:
            self._changed.clear()
            self._rows.clear()


class Glance:
    """One viewer's look at the live calls: everything first, then what is new since it looked last."""

    def __init__(self, board: Board, closed: Callable[[], None]) -> None:
        self._board = board
        self._closed = closed
        self._known: set[str] = set()
        self._at = 0
        self._draining = False

    def everything(self) -> bytes:
        """JSON of `Everything`."""
        registry = self._board.registry
        self._at, _ = self._board.since(self._at)
        self._draining = registry.draining
        actors = registry.calls()
        self._known = {actor.call for actor in actors}
        rows = [live_row(actor) for actor in actors]
        return msgspec.json.encode(Everything(rows, registry.max_calls, registry.draining))

    def news(self) -> bytes | None:
        """JSON of `Change`; None where there is nothing new."""
        board, registry = self._board, self._board.registry
        self._at, changed = board.since(self._at)
        alive = {actor.call: actor for actor in registry.calls()}
        gone = self._known - alive.keys()
        fresh = [call for call in alive if call not in self._known]
        rows = [board.row(alive[call]) for call in dict.fromkeys((*changed, *fresh)) if call in alive]
        for call in gone:
            board.forget(call)
        self._known = set(alive)
        if not rows and not gone and registry.draining == self._draining:
            return None
        self._draining = registry.draining
        return msgspec.json.encode(Change(rows, sorted(gone), registry.draining))

    def close(self) -> None:
        self._closed()
        self._closed = lambda: None
