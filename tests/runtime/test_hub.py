"""What watchers of live calls are told, on a virtual clock: the feed of one call, and the board of all."""

import asyncio
import itertools
import json
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from app.core.effects import EndCall, GoTo, Speak
from app.core.events import HangupOrdered
from app.ports import NoSuchCall
from app.runtime import hub as module
from app.runtime.board import Glance
from app.runtime.hub import MAX_QUEUED, Hub, Over, Subscription
from flows.model import Flow
from tests.core.stories import PIN, SPOKEN_PIN
from tests.support.house import Caller, FakeTools, House
from tests.support.shop import shop
from tests.support.virtual import run

Json = dict[str, Any]
FOUND = {"find_customer": {"found": True, "customer": "k7"}, "order": {"reference": "r1"}}


def virtual_time(story: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    def test() -> None:
        run(story())

    return test


def watched(flow: Flow | None = None) -> tuple[House, Hub]:
    house = House(flow or shop(), tools=FakeTools(FOUND))
    hub = Hub(house.registry)

    def watch(seen: Any) -> None:
        house.seen.append(seen)
        hub.watch(seen)

    house.switchboard._watch = watch
    return house, hub


async def waiting(subscription: Subscription) -> list[Json]:
    """All that is there now."""
    found = []
    try:
        while (message := await subscription.next(0)) is not None:
            found.append(json.loads(message))
    except Over:
        pass
    return found


def of(messages: list[Json], kind: str) -> list[Json]:
    return [message for message in messages if message["kind"] == kind]


def rows(told: bytes | None, name: str = "set") -> dict[str, Json]:
    return {row["call"]: row for row in json.loads(told)[name]} if told is not None else {}


@virtual_time
async def test_a_watcher_sees_the_view_first_and_then_what_happens() -> None:
    house, hub = watched()
    async with house.open():
        caller = await house.call()
        feed = hub.subscribe(caller.actor.call)
        told = await waiting(feed)
        assert told[0]["kind"] == "view"
        await caller.quiet()
        await caller.key(PIN)
        await caller.quiet()
        told += await waiting(feed)
        assert all(message["type"] == "event" for message in told)
        said = [(effect.gen, effect.index) for effect in house.orders(Speak)]
        assert [(message["gen"], message["index"]) for message in of(told, "said")] == said
        assert of(told, "step")[0]["step"] == house.orders(GoTo)[0].step
        assert [message["text"] for message in of(told, "caller")] == ["•"] * len(PIN)
        assert of(told, "heard")[0]["cause"] == "done"
        turn = of(told, "turn")[0]
        assert turn["endpointing_ms"] + turn["model_ms"] + turn["tts_ms"] == turn["total_ms"]
        assert "agent" in {message["entry"]["kind"] for message in of(told, "entry")}
        assert of(told, "view")[-1]["view"]["slots"]["pin"]["value"] == "[withheld]"
        assert PIN not in json.dumps(told)
        assert SPOKEN_PIN not in json.dumps(told)
        await caller.key("#")
        await caller.quiet()
        verdicts = of(await waiting(feed), "verdict")
        assert [(one["tool"], one["decision"]) for one in verdicts] == [
            ("find_customer", "allowed"),
            ("find_customer", "started"),
        ]
        caller.hang_up()


@virtual_time
async def test_views_are_told_when_they_change_and_not_too_often() -> None:
    house, hub = watched()
    async with house.open():
        caller = await house.call()
        times: list[tuple[float, str]] = []

        def tell(message: str) -> None:
            if json.loads(message)["kind"] == "view":
                times.append((caller.wire.now_ms(), message))

        hub.subscribe(caller.actor.call, tell)
        await caller.quiet()
        await caller.key(PIN)
        await caller.quiet()
        gaps = [b - a for (a, _), (b, _) in itertools.pairwise(times[1:])]
        assert gaps
        assert min(gaps) >= module.VIEW_EVERY_MS - 1
        shown = [json.loads(message)["view"] for _, message in times]
        assert all(a != b for a, b in itertools.pairwise(shown[1:]))
        assert shown[-1]["step"] == caller.actor.core.state.step
        caller.hang_up()


@virtual_time
async def test_a_feed_ends_with_its_call() -> None:
    house, hub = watched()
    async with house.open():
        caller = await house.call()
        feed, heard = hub.subscribe(caller.actor.call), list[str]()
        hub.subscribe(caller.actor.call, heard.append)
        await caller.quiet()
        caller.actor.post(HangupOrdered("desk"))
        told = [json.loads(message) async for message in feed]
        end = house.orders(EndCall)[0]
        assert [(one["cause"], one["outcome"]) for one in of(told, "ended")] == [(end.cause, end.outcome)]
        assert of(told, "view")[-1]["view"]["phase"] == "ended"
        assert json.loads(heard[-1]) == told[-1]
        with pytest.raises(NoSuchCall):
            hub.subscribe(caller.actor.call)
        assert not hub._feeds


@virtual_time
async def test_a_slow_watcher_gets_a_gap_and_the_call_as_it_is() -> None:
    house, hub = watched()
    async with house.open():
        caller = await house.call()
        slow = hub.subscribe(caller.actor.call)
        quick: list[str] = []
        hub.subscribe(caller.actor.call, quick.append)
        while len(quick) <= MAX_QUEUED + 5:
            caller.line.text("what are your opening hours")
            await caller.quiet()
        told = await waiting(slow)
        assert len(told) < MAX_QUEUED
        assert [message["kind"] for message in told[:2]] == ["gap", "view"]
        newest = [json.loads(message) for message in quick[-(len(told) - 2) :]]
        assert told[2:] == newest
        caller.hang_up()


@virtual_time
async def test_a_call_that_is_gone_without_a_word_ends_the_wait() -> None:
    house, hub = watched()
    async with house.open():
        caller = await house.call()
        feed = hub.subscribe(caller.actor.call)
        await caller.quiet(for_ms=1000)
        await waiting(feed)
        caller.actor._watch = None  # nobody tells the hub
        caller.hang_up()
        assert [message async for message in feed] == []


@virtual_time
async def test_who_leaves_costs_nothing_any_more() -> None:
    house, hub = watched()
    async with house.open():
        caller = await house.call()
        one, other = hub.subscribe(caller.actor.call), hub.subscribe(caller.actor.call)
        one.close()
        one.close()
        await caller.quiet()
        assert len(await waiting(other)) > 1
        with pytest.raises(Over):
            await one.next(0)
        other.close()
        assert not hub._feeds
        again = hub.subscribe(caller.actor.call)
        hub.close()
        assert [json.loads(message)["kind"] async for message in again] == ["view"]
        with pytest.raises(NoSuchCall):
            hub.subscribe(caller.actor.call)
        caller.hang_up()


@virtual_time
async def test_a_leg_follows_its_call_while_there_is_one() -> None:
    house, hub = watched()
    async with house.open():
        caller = await house.call()
        told: list[str] = []
        unfollow = hub.follow(caller.actor.call, told.append)
        await caller.quiet()
        assert {json.loads(message)["kind"] for message in told} >= {"view", "said", "step"}
        unfollow()
        unfollow()
        told.clear()
        await caller.key("1")
        assert told == []
        assert not hub._feeds
        hub.follow("none", told.append)()
        assert told == []
        caller.hang_up()


@virtual_time
async def test_the_board_tells_everything_then_only_what_is_new() -> None:
    house, hub = watched()
    async with house.open():
        one, two = await house.call(caller="+1 555 0100"), await house.call()
        glance = hub.board.open()
        first = json.loads(glance.everything())
        assert (first["max_calls"], first["draining"]) == (10, False)
        assert {row["call"] for row in first["calls"]} == {one.actor.call, two.actor.call}
        assert first["calls"][0]["caller"] == "+1 555 0100"
        assert first["calls"][0]["state"] == "live"
        glance.news()
        await one.quiet()
        await two.quiet()
        glance.news()
        assert glance.news() is None
        await one.key("1")
        assert rows(glance.news()).keys() == {one.actor.call}
        three = await house.call()
        two.hang_up()
        await three.quiet()
        news = glance.news()
        assert rows(news).keys() >= {three.actor.call}
        assert json.loads(news or b"")["gone"] == [two.actor.call]
        assert rows(news)[three.actor.call]["step"] == "identify"
        house.registry.draining = True
        assert json.loads(glance.news() or b"")["draining"] is True
        glance.close()
        glance.close()
        assert not hub.board._changed
        one.hang_up()
        three.hang_up()


@virtual_time
async def test_a_slow_viewer_gets_each_call_once_as_it_is_now() -> None:
    house, hub = watched()
    async with house.open():
        callers = [await house.call() for _ in range(3)]
        quick, slow = hub.board.open(), hub.board.open()
        quick.everything()
        slow.everything()
        newest: dict[str, Json] = {}
        for _ in range(3):
            for caller in callers:
                await caller.key("1")
                newest |= rows(quick.news())
            await callers[-1].quiet()
            newest |= rows(quick.news())
        late = rows(slow.news())
        assert late.keys() == {caller.actor.call for caller in callers}
        assert late == newest
        end(callers, quick, slow)


@virtual_time
async def test_trouble_is_on_the_board() -> None:
    house, hub = watched()
    async with house.open():
        caller = await house.call()
        glance = hub.board.open()
        glance.everything()
        await caller.quiet()
        caller.lose()
        await asyncio.sleep(0.1)
        row = rows(glance.news())[caller.actor.call]
        assert (row["trouble"], row["trouble_text"]) == (1, "the connection is lost")
        glance.close()
        caller.actor.post(HangupOrdered("desk"))


def end(callers: list[Caller], *glances: Glance) -> None:
    for caller in callers:
        caller.hang_up()
    for glance in glances:
        glance.close()
