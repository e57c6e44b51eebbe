"""What happens in live calls, told to whoever watches: the console's pages, and a caller's own page.

A call that nobody watches costs nothing but its row on the board. Everything told is masked.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Any, Final

import msgspec

from app.core import view
from app.core.effects import EndCall, GoTo, Speak, Verdict
from app.core.events import Digit, PlayoutHeld, PlayoutStopped, TextReceived, Transcript
from app.core.request import WITHHELD
from app.core.spans import Latency, Turn
from app.core.timeline import Timeline
from app.ports import NoSuchCall
from app.runtime.actor import CallActor, Seen
from app.runtime.board import Board
from app.runtime.registry import Registry

MAX_QUEUED: Final = 300
"""Messages that wait for one slow watcher; then it gets a gap and the call as it is."""

VIEW_EVERY_MS: Final = 250
"""A changed view is told at once, and then at most this often."""

ALIVE_EVERY_S: Final = 5.0
"""How soon a waiting watcher notices a call that is gone without having said so."""

Json = dict[str, Any]


class Over(Exception):
    """The call has ended, and everything was told."""


class Subscription:
    """One watcher of one call. With `tell` it is given each message (JSON) at once; else it iterates over them."""

    def __init__(self, feed: "_Feed", tell: Callable[[str], None] | None) -> None:
        self._feed = feed
        self._tell = tell
        self._queue: deque[str] = deque()
        self._wake = asyncio.Event()
        self._over = False

    def put(self, message: str) -> None:
        if self._over:
            return
        if self._tell is not None:
            self._tell(message)
            return
        if len(self._queue) >= MAX_QUEUED:
            self._queue.clear()
            self._queue.append(_encoded({"type": "event", "kind": "gap"}))
            self._queue.append(self._feed.view())
        self._queue.append(message)
        self._wake.set()

    async def next(self, timeout_s: float) -> str | None:
        """None where nothing came in time. Raises `Over`."""
        if not self._queue and not self._over:
            self._wake.clear()
            try:
                async with asyncio.timeout(timeout_s):
                    await self._wake.wait()
            except TimeoutError:
                self._over = self._over or not self._feed.is_live
        if self._queue:
            return self._queue.popleft()
        if self._over:
            raise Over
        return None

    async def __aiter__(self) -> AsyncIterator[str]:
        while True:
            try:
                message = await self.next(ALIVE_EVERY_S)
            except Over:
                return
            if message is not None:
                yield message

    def end(self) -> None:
        """Nothing comes after what waits."""
        self._over = True
        self._wake.set()

    def close(self) -> None:
        """The watcher has gone."""
        self._queue.clear()
        self.end()
        self._feed.leave(self)


class Hub:
    """Give `watch` to the switchboard. On the loop's thread; nothing here blocks or raises into a call."""

    def __init__(self, registry: Registry) -> None:
        self.board = Board(registry)
        self.closed = False
        self._registry = registry
        self._feeds: dict[str, _Feed] = {}

    def watch(self, seen: Seen) -> None:
        self.board.touch(seen.call)
        if self._feeds and (feed := self._feeds.get(seen.call)) is not None:
            feed.tell(seen)

    def subscribe(self, call: str, tell: Callable[[str], None] | None = None) -> Subscription:
        """Follow a live call from now on; its view comes first. `tell` must not raise. Raises `NoSuchCall`."""
        actor = self._registry.get(call)
        if actor is None or self.closed:
            raise NoSuchCall("this call is not live")
        feed = self._feeds.get(call)
        if feed is None or not feed.is_live:
            feed = self._feeds[call] = _Feed(self._registry, actor, self._drop)
        return feed.join(tell)

    def follow(self, call: str, tell: Callable[[str], None]) -> Callable[[], None]:
        """As `subscribe`; what it returns ends it. Of a call that is not live nothing is told."""
        try:
            return self.subscribe(call, tell).close
        except NoSuchCall:
            return lambda: None

    def close(self) -> None:
        """Every watcher is told the end: the server stops."""
        self.closed = True
        for feed in list(self._feeds.values()):
            feed.end()

    def _drop(self, feed: "_Feed") -> None:
        if self._feeds.get(feed.call) is feed:
            del self._feeds[feed.call]


class _Feed:
    """One call's watchers."""

    def __init__(self, registry: Registry, actor: CallActor, dropped: Callable[["_Feed"], None]) -> None:
        self.call = actor.call
        self._registry = registry
        self._actor = actor
        self._dropped = dropped
        self._watchers: list[Subscription] = []
        self._timeline = Timeline()
        self._latency = Latency()
        self._view = b""  # as told last
        self._alarm: asyncio.TimerHandle | None = None
        self._changed = False  # since the view was told

    @property
    def is_live(self) -> bool:
        return self._registry.get(self.call) is self._actor

    def join(self, tell: Callable[[str], None] | None) -> Subscription:
        one = Subscription(self, tell)
        self._watchers.append(one)
        one.put(self.view())
        return one

    def leave(self, one: Subscription) -> None:
        if one in self._watchers:
            self._watchers.remove(one)
        if not self._watchers:
            self._close()

    def tell(self, seen: Seen) -> None:
        for entry in self._timeline.tell(seen.ms, seen.event, seen.effects, sealed=seen.sealed):
            told = {"kind": entry.kind, "text": entry.text, "gen": entry.gen}
            self._put({"kind": "entry", "ms": seen.ms, "entry": told})
        for message in messages(seen, self._latency.tell(0, seen.ms, seen.event, seen.effects)):
            self._put(message)
        self._changed = True
        ended = any(isinstance(effect, EndCall) for effect in seen.effects)
        if ended or self._alarm is None:
            self._tell_view()
        if ended:
            self.end()

    def view(self) -> str:
        return self._viewed(msgspec.json.encode(view.view(self._actor.core)))

    def end(self) -> None:
        for one in self._watchers:
            one.end()
        self._watchers.clear()
        self._close()

    def _tell_view(self) -> None:
        self._alarm = None
        if not self._changed:
            return
        self._changed = False
        now = msgspec.json.encode(view.view(self._actor.core))
        if now != self._view:
            self._view = now
            message = self._viewed(now)
            for one in list(self._watchers):
                one.put(message)
        self._alarm = asyncio.get_running_loop().call_later(VIEW_EVERY_MS / 1000, self._tell_view)

    def _viewed(self, seen: bytes) -> str:
        return _encoded({"type": "event", "kind": "view", "ms": self._actor.now_ms, "view": msgspec.Raw(seen)})

    def _put(self, message: Json) -> None:
        text = _encoded({"type": "event", **message})
        for one in list(self._watchers):
            one.put(text)

    def _close(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        self._dropped(self)


def messages(seen: Seen, turn: Turn | None) -> list[Json]:
    """What one record says to a page, besides its entries and the view."""
    told: list[Json] = []
    match seen.event:
        case Transcript(text=text) | TextReceived(text=text):
            told.append({"kind": "caller", "text": WITHHELD if seen.sealed and text else text})
        case Digit(digit=digit):
            told.append({"kind": "caller", "text": "•" if seen.sealed else digit})
        case PlayoutStopped(gen=gen, sentence=sentence, chars=chars, cause=cause):
            told.append({"kind": "heard", "gen": gen, "sentence": sentence, "chars": chars, "cause": cause})
        case PlayoutHeld(gen=gen, sentence=sentence, chars=chars):
            told.append({"kind": "heard", "gen": gen, "sentence": sentence, "chars": chars, "cause": "held"})
    for effect in seen.effects:
        match effect:
            case Speak(gen=gen, index=index, text=text, private=private):
                told.append({"kind": "said", "gen": gen, "index": index, "text": WITHHELD if private else text})
            case GoTo(visit=visit, step=step, why=why):
                told.append({"kind": "step", "step": step, "visit": visit, "why": why})
            case Verdict(n=n, tool=tool, decision=decision, rule=rule, reason=reason):
                judged = {"n": n, "tool": tool, "decision": decision.value, "rule": rule, "reason": reason}
                told.append({"kind": "verdict", **judged})
            case EndCall(cause=cause, outcome=outcome):
                told.append({"kind": "ended", "cause": cause, "outcome": outcome})
    if turn is not None:
        times = {name: getattr(turn, name) for name in ("endpointing_ms", "model_ms", "tts_ms", "total_ms")}
        told.insert(0, {"kind": "turn", **times})
    return [{**message, "ms": seen.ms} for message in told]


def _encoded(message: Json) -> str:
    return msgspec.json.encode(message).decode()
