"""The console as a person uses it: a real Chromium, the real server, real calls."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from playwright.async_api import Page, Route, expect

from app.core.events import HangupOrdered, LegJoined
from app.providers.scripted import ScriptedStt
from tests.e2e.clients import dial
from tests.e2e.server import LECTURE, TALK, Server, running
from tests.pages.browser import (
    DESKTOP,
    PATIENCE_MS,
    PHONE,
    RATE_HZ,
    accessible,
    chromium,
    heard,
    opened,
    photograph,
)

WORDS_PER_S = 4.0
KEY = "a-token-for-the-desk-0123456789"
WATCHER = "a-token-for-the-watcher-0123456"
TOKENS = [{"name": "desk", "role": "operator", "token": KEY}, {"name": "eye", "role": "viewer", "token": WATCHER}]

expect.set_options(timeout=PATIENCE_MS)


async def sign_in(page: Page, token: str) -> None:
    await page.get_by_label("token", exact=False).fill(token)
    await page.get_by_role("button", name="Sign in").click()


@asynccontextmanager
async def lecturing(tmp_path: Path, **settings: Any) -> AsyncIterator[Server]:
    async with running(
        tmp_path, flows=[LECTURE, TALK], stt=ScriptedStt(["on monday please"]), words_per_s=WORDS_PER_S, **settings
    ) as server:
        yield server


async def finished(server: Server) -> str:
    """A whole call: a cut, an answer, a yes by key."""
    async with dial(server.ws("/ws/audio/talk"), rate=RATE_HZ, caller="+15550100") as caller:
        await caller.quiet()
        await caller.send({"type": "text", "text": "friday"})
        await caller.quiet()
        while caller.closed is None:  # a yes counts once its question was heard out
            await caller.key("#")
            with contextlib.suppress(TimeoutError):
                await caller.until(lambda: caller.closed, 3)
        await server.over(caller.call)
        return caller.call


async def test_signing_in_watching_listening_and_hanging_up(tmp_path: Path) -> None:
    async with (
        lecturing(tmp_path, tokens=json.dumps(TOKENS), trust_loopback=False) as server,
        chromium() as browser,
        opened(browser, f"{server.url}/console") as page,
    ):
        await accessible(page)
        await photograph(page, "console-sign-in")
        await sign_in(page, "not-a-token-of-anybody")
        await expect(page.get_by_text("not known")).to_be_visible()
        await sign_in(page, KEY)
        await expect(page.get_by_role("heading", name="Live calls")).to_be_visible()
        await expect(page.get_by_text("No call is live")).to_be_visible()
        headers = {"Authorization": f"Bearer {KEY}"}
        async with dial(server.ws("/ws/audio/lecture"), rate=RATE_HZ, caller="+15550100", headers=headers) as caller:
            await expect(page.get_by_text("+15550100")).to_be_visible()
            await accessible(page)
            await photograph(page, "console-live")
            await page.get_by_text("+15550100").click()
            await expect(page.get_by_role("heading", name=caller.call)).to_be_visible()
            await page.get_by_role("button", name="Listen in").click()
            await expect(page.get_by_text("desk is listening")).to_be_visible()
            await loud(page)
            await photograph(page, "console-listening")
            await accessible(page)
            (joined,) = server.facts(LegJoined)
            assert joined.who == "desk"
            await page.get_by_role("button", name="Hang up").click()
            await page.get_by_role("button", name="Hang up now").click()
            await caller.until_closed()
            (ordered,) = server.facts(HangupOrdered)
            assert ordered.by == "desk"
            record = await server.over(caller.call)
            assert (record["cause"], record["listeners"]) == ("operator", ["desk"])
            await expect(page.get_by_text("ended", exact=True)).to_be_visible()
        await page.get_by_role("button", name="Sign out").click()
        await expect(page.get_by_role("button", name="Sign in")).to_be_visible()


async def loud(page: Page) -> None:
    """The agent is heard in the page."""
    async with asyncio.timeout(PATIENCE_MS / 1000):
        while abs((await heard(page, 1)).astype(int)).max(initial=0) < 1000:
            pass


async def test_a_viewer_may_look_and_not_act(tmp_path: Path) -> None:
    headers = {"Authorization": f"Bearer {WATCHER}"}
    async with (
        lecturing(tmp_path, tokens=json.dumps(TOKENS), trust_loopback=False) as server,
        dial(server.ws("/ws/audio/lecture"), rate=RATE_HZ, headers=headers) as caller,
        chromium() as browser,
        opened(browser, f"{server.url}/console#/call/{caller.call}") as page,
    ):
        await sign_in(page, WATCHER)
        await expect(page.get_by_text("acting needs an operator")).to_be_visible()
        await expect(page.get_by_role("button", name="Hang up")).to_have_count(0)


async def test_time_travel_over_the_records(tmp_path: Path) -> None:
    async with lecturing(tmp_path) as server, chromium() as browser:
        call = await finished(server)
        async with opened(browser, f"{server.url}/console#/recorded") as page:
            await expect(page.get_by_role("row").filter(has_text="told")).to_be_visible()
            await page.get_by_text("+15550100").click()
            await expect(page.get_by_role("heading", name=call)).to_be_visible()
            state = page.get_by_role("tabpanel").first
            forward = page.get_by_role("button", name="Next record")
            records = (await server.over(call), server.journal(call))[1].records
            values = set()
            for _ in range(len(records)):
                await forward.click()
                values.add(await slot(state))
            assert {"–", "friday"} <= values, values
            await accessible(page)
            await photograph(page, "console-call")
            for tab in ("Verdicts", "Turns", "Records"):
                await page.get_by_role("tab", name=tab).click()
                await accessible(page)
            await expect(page.locator(".records")).to_contain_text("CallEnded".removeprefix("Call"))
            await page.get_by_role("button", name="Play").click()
            await expect(page.locator("audio").first).to_have_js_property("paused", False)
            async with page.expect_download() as download:
                await page.get_by_role("link", name="Download").click()
            path = await (await download.value).path()
            told = json.loads(await asyncio.to_thread(Path(path).read_text))
            assert call in json.dumps(told)
            assert told["records"]


async def slot(state: Any) -> str:
    return str(await state.locator("tr", has_text="day").locator("td").first.inner_text())


async def test_flows_have_their_drawing_and_their_figures(tmp_path: Path) -> None:
    async with lecturing(tmp_path) as server, chromium() as browser:
        await finished(server)
        async with opened(browser, f"{server.url}/console#/flows/talk") as page:
            await expect(page.locator("svg [data-step=ask]")).to_be_visible()
            await expect(page.get_by_text("told", exact=True).last).to_be_visible()
            await accessible(page)
            await photograph(page, "console-flows")


async def test_a_thousand_live_calls_and_a_call_of_an_hour_stay_quick(tmp_path: Path) -> None:
    """The page's own part; what the server does of it has tests of its own."""
    rows = [live_row(number) for number in range(1000)]
    async with lecturing(tmp_path) as server, chromium() as browser:
        call = await finished(server)
        async with opened(browser, "about:blank") as page:
            told = f"event: all\ndata: {json.dumps({'calls': rows, 'max_calls': 1000, 'draining': False})}\n\n"
            await page.route("**/api/live", lambda route: route.fulfill(body=told, content_type="text/event-stream"))
            await page.goto(f"{server.url}/console")
            await expect(page.get_by_text("1,000 of 1,000")).to_be_visible()
            assert await page.locator("[role=row]").count() < 100
            await photograph(page, "console-thousand")
            await page.get_by_placeholder("Call, caller or step").fill("+155501234")
            await expect(page.get_by_text("call0123")).to_be_visible()
            await page.route("**/timeline*", lambda route: hour(route))
            await page.goto(f"{server.url}/console#/call/{call}")
            await expect(page.get_by_text("1:00:00").first).to_be_visible()
            assert await page.locator(".lines > *").count() < 1500
            before = await page.evaluate("performance.now()")
            for _ in range(20):
                await page.get_by_role("button", name="Zoom in").click()
            took_ms = await page.evaluate("performance.now()") - before
            assert took_ms < PATIENCE_MS
            await photograph(page, "console-hour")


def live_row(number: int) -> dict[str, Any]:
    wrong = number % 97 == 0
    return {
        "call": f"call{number:04}", "flow": "talk", "started_at": "2026-01-01T10:00:00.000Z", "state": "live",
        "transport": "audio", "caller": f"+15550{number:04}" if number != 123 else "+155501234", "step": "ask",
        "duration_ms": number * 1000, "turns": number % 9, "outcome": "", "cause": "", "trouble": int(wrong),
        "trouble_text": "the model failed" if wrong else "", "recording": True,
    }  # fmt: skip


async def hour(route: Route) -> None:
    spans = [
        {"from_ms": n * 1000, "to_ms": n * 1000 + 700, "kind": "speech", "label": "turn", "seq": n, "gen": n}
        for n in range(3600)
    ]
    entries = [{"seq": n, "ms": n * 1000, "kind": "caller", "text": f"turn {n}", "gen": n} for n in range(3600)]
    names = ("caller", "agent", "floor", "model", "tts", "tool", "step", "timer")
    told = {
        "duration_ms": 3_600_000, "lanes": [{"name": name, "spans": spans} for name in names], "entries": entries,
        "turns": [], "verdicts": [],
    }  # fmt: skip
    await route.fulfill(json=told)


async def test_both_sizes_and_both_themes_are_accessible(tmp_path: Path) -> None:
    async with lecturing(tmp_path) as server, chromium() as browser:
        call = await finished(server)
        for name, size in (("desktop", DESKTOP), ("phone", PHONE)):
            for dark in (False, True):
                for what in ("live", "recorded", f"call/{call}", "flows/talk"):
                    async with opened(browser, f"{server.url}/console#/{what}", size=size, dark=dark) as page:
                        await expect(page.get_by_role("heading", level=1).first).to_be_visible()
                        await expect(page.locator("[aria-busy=true]")).to_have_count(0)
                        await accessible(page)
                        shade = "dark" if dark else "light"
                        await photograph(page, f"console-{name}-{shade}-{what.partition('/')[0]}")
