"""The talk page as a person uses it: a real Chromium, its fake microphone, the real server."""

import asyncio
import contextlib
import random
import re
from collections.abc import Awaitable, Callable
from pathlib import Path

import numpy as np
from playwright.async_api import Page, Route, expect

from app.core.events import LegAttached, Transcript
from app.providers.espeak import EspeakTts
from app.providers.scripted import ScriptedStt
from app.providers.sphinx import SphinxStt
from tests.e2e.server import LECTURE, TALK, Server, running
from tests.e2e.voices import spoken
from tests.pages.browser import (
    DESKTOP,
    PATIENCE_MS,
    PHONE,
    accessible,
    chromium,
    eventually,
    heard,
    likeness,
    opened,
    photograph,
    room,
    save,
    stats,
)
from tests.webrtc.relay import Relay, relay

WORDS_PER_S = 4.0

expect.set_options(timeout=PATIENCE_MS)


async def talk(page: Page) -> None:
    await page.get_by_role("button", name="Talk", exact=True).click()
    await expect(page.locator("#status")).to_have_text("In call")


def calls(server: Server) -> set[str]:
    return {seen.call for seen in server.seen}


async def test_the_agent_is_heard_and_understands(tmp_path: Path) -> None:
    """Embedded speech both ways; the browser records what it plays."""
    friday, yes = await spoken("friday please", 16_000), await spoken("yes", 16_000)
    # Said again, as a person does who was not understood; a yes to nothing does no harm.
    said = [part for _ in range(3) for part in (friday, room(7), yes, room(7))]
    microphone = save(tmp_path / "microphone.wav", room(6), *said, room(10))
    tts = EspeakTts()
    async with (
        running(tmp_path, flows=[TALK], stt=SphinxStt(workers=1), tts=tts) as server,
        chromium(microphone) as browser,
        opened(browser, server.url) as page,
    ):
        await talk(page)
        sound = await heard(page, 5)
        voice = server.gate.flows["talk"].voice
        question, other = [
            np.concatenate([chunk.pcm async for chunk in tts.speak(text, voice, 16_000)])
            for text in ("Which day would you like?", "Until friday. Goodbye.")
        ]
        assert likeness(sound, question) > 0.5 > likeness(sound, other)
        await expect(page.locator("#status")).to_have_text("Call ended", timeout=3 * PATIENCE_MS)
        await expect(page.locator("#log")).to_contain_text("friday")
        await expect(page.locator("#log")).to_contain_text("Until Friday. Goodbye.")
        (call,) = calls(server)
        record = await server.over(call)
        assert record["outcome"] == "told"
        assert server.replayed(call).slots["day"].value == "friday"
        await photograph(page, "talk-ended")


async def test_a_voice_cuts_the_agent_off_and_keys_and_a_reload_keep_the_call(tmp_path: Path) -> None:
    microphone = save(tmp_path / "microphone.wav", room(5), await spoken("on monday please", 16_000), room(30))
    async with (
        running(tmp_path, flows=[LECTURE], stt=ScriptedStt(["on monday please"]), words_per_s=WORDS_PER_S) as server,
        chromium(microphone) as browser,
        opened(browser, server.url) as page,
    ):
        await talk(page)
        await photograph(page, "talk-in-call")
        await expect(page.locator(".cut-mark").first).to_be_visible()
        await expect(page.locator("#slots")).to_contain_text("monday")
        await accessible(page)
        (call,) = calls(server)
        await page.reload()
        await expect(page.locator("#status")).to_have_text("In call")
        await server.until(lambda: server.facts(LegAttached))
        assert calls(server) == {call}
        await page.get_by_role("button", name="Keypad").click()
        await photograph(page, "talk-keypad")
        await page.set_viewport_size(PHONE)
        await photograph(page, "talk-phone-in-call")
        await page.set_viewport_size(DESKTOP)
        await confirmed(page, page.get_by_role("button", name="hash").click)
        record = await server.over(call)
        assert record["outcome"] == "told"


async def test_a_bad_network_costs_neither_the_call_nor_the_words(tmp_path: Path) -> None:
    """Every tenth packet lost both ways, others late, and half a second of nothing."""
    microphone = save(tmp_path / "microphone.wav", room(5), await spoken("on monday please", 16_000), room(30))
    chance = random.Random(3)

    def weather() -> float | None:
        return None if chance.random() < 0.1 else chance.choice((0, 0, 0, 5, 20, 40))

    async with (
        running(tmp_path, flows=[LECTURE], stt=ScriptedStt(["on monday please"]), words_per_s=WORDS_PER_S) as server,
        relay() as network,
        chromium(microphone) as browser,
        opened(browser, server.url) as page,
    ):
        await page.route(re.compile("/webrtc(/|$|[?])"), lambda route: through(network, route))
        network.up = network.down = weather
        await talk(page)
        await eventually(lambda: lost(page, 5))
        await expect(page.locator("#slots")).to_contain_text("monday")
        assert network.lost > 10
        network.cut = True
        await page.wait_for_timeout(500)
        network.cut = False
        network.up = network.down = lambda: 0.0

        async def type_yes() -> None:
            await page.get_by_role("textbox", name="Type instead").fill("yes")
            await page.get_by_role("button", name="Send").click()

        await confirmed(page, type_yes)
        assert [fact.text for fact in server.facts(Transcript) if fact.text]


async def test_when_the_network_is_gone_the_page_comes_back_to_its_call(tmp_path: Path) -> None:
    async with (
        running(tmp_path, flows=[LECTURE], words_per_s=WORDS_PER_S) as server,
        relay() as network,
        chromium(save(tmp_path / "quiet.wav", room(60))) as browser,
        opened(browser, server.url) as page,
    ):
        await page.route(re.compile("/webrtc(/|$|[?])"), lambda route: through(network, route))
        await talk(page)
        network.cut = True
        await expect(page.locator("#main")).not_to_have_attribute("data-phase", "live")
        network.cut = False
        await expect(page.locator("#main")).to_have_attribute("data-phase", "live", timeout=40_000)
        await server.until(lambda: server.facts(LegAttached))
        assert len(calls(server)) == 1
        await page.get_by_role("button", name="Hang up").click()
        (call,) = calls(server)
        record = await server.over(call)
        assert record["cause"] == "caller-hangup"


async def confirmed(page: Page, say_yes: Callable[[], Awaitable[object]]) -> None:
    """A yes counts only once its read-back was heard: it is said again, as people do, until the call is over."""
    ended = expect(page.locator("#status"))
    async with asyncio.timeout(2 * PATIENCE_MS / 1000):
        while True:
            await say_yes()
            with contextlib.suppress(AssertionError):
                await ended.to_have_text("Call ended", timeout=5000)
                return


async def lost(page: Page, least: int) -> bool:
    return bool((await stats(page)).get("packetsLost", 0) >= least)


async def through(network: Relay, route: Route) -> None:
    """Neither side learns the other's address but by the relay."""
    request = route.request
    if request.method == "PATCH":
        await route.fulfill(status=204)
        return
    offer = re.sub(r"a=candidate:[^\r\n]*\r\n", "", request.post_data or "")
    response = await route.fetch(post_data=offer)
    if response.status != 201:
        await route.fulfill(response=response)
        return
    await route.fulfill(response=response, body=await network.through(await response.text()))


async def test_what_goes_wrong_is_said_in_words(tmp_path: Path) -> None:
    async with running(tmp_path, flows=[TALK]) as server, chromium(allow=False) as browser:
        async with opened(browser, server.url) as page:
            await page.get_by_role("button", name="Talk", exact=True).click()
            await expect(page.get_by_role("heading", name="The microphone is blocked")).to_be_visible()
            await accessible(page)
            await photograph(page, "talk-microphone-refused")
        async with opened(browser, server.url, size=PHONE, dark=True) as page:
            await page.route("**/api/webrtc/token", lambda route: route.abort())
            await page.get_by_role("button", name="Talk", exact=True).click()
            await photograph(page, "talk-phone-away")


async def test_both_sizes_and_both_themes_are_accessible(tmp_path: Path) -> None:
    async with running(tmp_path, flows=[TALK, LECTURE]) as server, chromium() as browser:
        for name, size in (("desktop", DESKTOP), ("phone", PHONE)):
            for dark in (False, True):
                async with opened(browser, server.url, size=size, dark=dark) as page:
                    await expect(page.get_by_role("button", name="Talk", exact=True)).to_be_enabled()
                    await accessible(page)
                    await photograph(page, f"talk-{name}-{'dark' if dark else 'light'}")
