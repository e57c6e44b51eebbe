"""What the pages about browsers say, against the code; and the example page, called from a real browser."""

from pathlib import Path

import msgspec
from fastapi.routing import APIRoute
from playwright.async_api import Route, expect

from app.api import console
from app.api import session as session_routes
from app.api.access import Access
from app.api.console import Console
from app.api.session import SignIn
from app.api.tickets import MAX_TICKETS_PER_ADDRESS, TICKET_S
from app.core import core
from app.runtime.archive import Archive
from app.runtime.hub import Hub
from app.runtime.registry import Registry
from app.settings import Settings
from app.store.memory import MemoryStore
from media import rtp_audio
from media.sdp import MAX_SDP_BYTES
from media.webrtc import messages, server, session
from media.webrtc.offer import MAX_FRAGMENT_BYTES, MAX_FRAGMENT_CANDIDATES
from tests.docs.test_docs import DOCS, codes, section, tables, text_of
from tests.e2e.server import TALK, running
from tests.pages.browser import PATIENCE_MS, chromium, eventually, heard, opened, room, save

BROWSER, CONSOLE = DOCS / "browser.md", DOCS / "console.md"
PAGE = DOCS / "examples" / "caller.html"


def test_limits_in_a_browser_are_those_of_the_code() -> None:
    told = {row[0]: row[1] for row in tables(section(BROWSER, "Limits in a browser"))[0]}
    assert told["offers that wait for their connection"] == (
        f"{server.MAX_WAITING}, of one address {server.MAX_WAITING_PER_ADDRESS}"
    )
    assert told["from the offer to the connection"] == f"{server.CONNECT_TIMEOUT_S} s"
    assert told["without anything from the peer"].startswith(f"{session.MAX_QUIET_MS // 1000} s")
    assert told["packets"].startswith(f"{rtp_audio.MAX_PACKETS_PER_S} a second")
    assert told["messages from the page"] == (
        f"{session.MAX_MESSAGES_PER_S} a second, more end the connection;"
        f" of {messages.MAX_MESSAGE_CHARS} characters, a longer one gets an `error`"
    )
    assert told["time to come back after a lost connection"] == f"{core.REATTACH_MS // 1000} s"
    assert told["a fragment of candidates"] == f"{MAX_FRAGMENT_BYTES} bytes, {MAX_FRAGMENT_CANDIDATES} candidates"
    assert told["tokens that are not used"] == f"{MAX_TICKETS_PER_ADDRESS} of an address, for {TICKET_S} s"
    assert told["SDP"] == f"{MAX_SDP_BYTES} bytes"


def test_messages_of_the_channel_are_all_there() -> None:
    from_page, from_server = tables(section(BROWSER, "Messages"))
    kinds = (messages.Text, messages.Digit, messages.Ping)
    assert {codes(row[0])[0] for row in from_page} == {str(kind.__struct_config__.tag) for kind in kinds}
    written = {"started", "caption", "event", "error", "pong", "ended"}
    assert {codes(row[0])[0] for row in from_server} == written
    assert msgspec.json.decode(messages.GAP)["type"] in written


def test_routes_of_the_console_are_all_there(tmp_path: Path) -> None:
    rows = tables(section(CONSOLE, "The interface"))[0]
    told = {code.partition(" ")[2] for row in rows for code in codes(row[0]) if " " in code}
    sign_in = SignIn(Access(Settings()))
    registry = Registry(max_calls=1, max_calls_per_address=1)
    archive = Archive(MemoryStore())
    desk = Console(sign_in, registry, Hub(registry), archive, {}, tmp_path)
    routers = (console.router(desk), session_routes.router(sign_in, flows=[], version=""))
    archive.close()
    known = {route.path for router in routers for route in router.routes if isinstance(route, APIRoute)}
    shown = {path.replace("CALL", "{call}").replace("FLOW", "{name}") for path in told}
    shown |= {path.replace(".svg", ".mmd") for path in shown}
    assert shown == known


async def test_the_example_page_calls(tmp_path: Path) -> None:
    page_text = text_of(PAGE)
    async with (
        running(tmp_path, flows=[TALK]) as gate,
        chromium(save(tmp_path / "quiet.wav", room(30))) as browser,
        opened(browser, "about:blank") as page,
    ):

        async def serve(route: Route) -> None:
            await route.fulfill(body=page_text, content_type="text/html")

        await page.route("**/caller.html", serve)
        await page.goto(f"{gate.url}/caller.html")
        await page.get_by_role("button", name="Call").click()
        await expect(page.locator("#said")).to_have_text("Which day would you like?", timeout=PATIENCE_MS)

        async def sounds() -> bool:
            return bool(abs((await heard(page, 0.5)).astype(int)).max(initial=0) > 1000)

        await eventually(sounds)
        await page.get_by_role("button", name="Hang up").click()
        (call,) = {seen.call for seen in gate.seen}
        assert (await gate.over(call))["cause"] == "caller-hangup"
