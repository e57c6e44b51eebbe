"""Browsers against the real server over real sockets: heard and hearing, refused, cut off, and coming back."""

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from app.core.events import Digit, LegAttached, LegLost, Transcript
from app.load import rtp, webrtc
from app.load.line import BadAddress, LineError, NotResumable, Refused, Trouble
from app.load.webrtc import Browser, WebRtcLine, webrtc_lines
from app.providers.scripted import ScriptedStt
from media.webrtc import session
from media.webrtc.offer import CODECS
from tests.clients.certificate import self_signed
from tests.e2e.server import LECTURE, TALK, Server, running
from tests.load.far_end import Heard
from tests.load.talking import Ears, encoded, hush, loud, say
from tests.webrtc.remains import live


@asynccontextmanager
async def served(folder: Path, **given: Any) -> AsyncIterator[Server]:
    usual: dict[str, Any] = {"flows": [TALK], "stt": ScriptedStt(["on monday please"])}
    async with running(folder, **usual | given) as server:
        yield server


@asynccontextmanager
async def connected(url: str, browser: Browser = webrtc.ORDINARY) -> AsyncIterator[tuple[WebRtcLine, Ears]]:
    async with webrtc_lines(url, browser) as lines:
        line, ears = lines(0), Ears()
        assert isinstance(line, WebRtcLine)
        await line.connect(ears)
        try:
            yield line, ears
        finally:
            await line.hang_up()


async def asked(server: Server, ears: Ears, words: str) -> None:
    """The agent has said this, and waits."""
    await ears.until(lambda: any(words in text for text in ears.captions()))
    await server.until(lambda: all(call.at_rest for call in server.gate.registry.calls()))


async def refusal(url: str, browser: Browser = webrtc.ORDINARY) -> Exception:
    """Why nobody can be called there."""
    async with webrtc_lines(url, browser) as lines:
        line = lines(0)
        with pytest.raises((Refused, LineError)) as caught:
            await line.connect(Heard())
        assert isinstance(line, WebRtcLine)
        assert line._peer is None
        await line.hang_up()
    return caught.value


# Calls


@pytest.mark.parametrize("codec", list(CODECS))
async def test_every_codec_hears(tmp_path: Path, codec: str) -> None:
    async with served(tmp_path) as server, connected(server.url, Browser(codec=codec)) as (line, ears):
        await loud(ears, line)


async def test_what_is_said_is_heard(tmp_path: Path) -> None:
    async with served(tmp_path) as server, connected(server.url) as (line, ears):
        assert line.call == server.seen[0].call
        await loud(ears, line)
        await asked(server, ears, "Which day")
        await say(line, await encoded(line.codec, "on monday please"))
        await server.until(lambda: server.facts(Transcript))
        steps = ears.steps
        assert all(step >= 1 and step.is_integer() for step in steps)
        assert steps.count(1) > 0.5 * len(steps)
        (leg,) = live()
        assert leg.audio_stream.bad_packets == 0
        call = line.call
        await line.hang_up()
        assert (await server.over(call))["cause"] == "caller-hangup"
        assert server.replayed(call).slots["day"].value == "monday"
    assert not ears.ends, "who hangs up knows it"


@pytest.mark.parametrize("channel", [True, False])
async def test_digits(tmp_path: Path, channel: bool) -> None:
    async with (
        served(tmp_path) as server,
        connected(f"{server.url}/webrtc/talk", Browser(codec="pcmu", channel=channel)) as (line, ears),
    ):
        assert bool(line.call) == channel
        await loud(ears, line)
        await server.until(lambda: all(call.at_rest for call in server.gate.registry.calls()))
        for digit in "15*#":
            line.digit(digit, 100)
            await say(line, hush(line.codec, 8))
        await server.until(lambda: len(server.facts(Digit)) >= 4)
        assert [fact.digit for fact in server.facts(Digit)] == list("15*#")


# Ends


async def test_the_agent_hangs_up_and_says_why(tmp_path: Path) -> None:
    async with (
        served(tmp_path, stt=ScriptedStt(["monday", "yes"])) as server,
        connected(server.url) as (line, ears),
    ):
        await asked(server, ears, "Which day")
        await say(line, await encoded(line.codec, "monday", 0.6))
        await asked(server, ears, "Is that right")
        await say(line, await encoded(line.codec, "yes", 0.6))
        await ears.until(lambda: ears.ends)
        await asyncio.sleep(0.7)  # the connection ends, too
        assert ears.ends == [("ended", "flow", "told")]
        line.send(b"x" * 160)


async def test_a_server_that_vanishes_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rtp, "WATCH_FRAMES", 5)
    monkeypatch.setattr(webrtc, "QUIET_S", 0.3)
    async with served(tmp_path) as server, connected(server.url) as (line, ears):
        (leg,) = live()
        assert leg.peer is not None
        leg.peer._srtp = None  # neither says nor hears anything more
        await say(line, [bytes(40)] * 60)
        assert ears.ends == [("failed", "silent")]
        await line.resume()
        await loud(ears, line, len(ears.payloads))


async def test_a_server_that_closes_the_connection(tmp_path: Path) -> None:
    async with served(tmp_path) as server, connected(server.url) as (_, ears):
        (leg,) = live()
        assert leg.peer is not None
        await leg.peer.close()
        await ears.until(lambda: ears.ends)
        assert ears.ends == [("failed", "cut")]


# Refusals


async def test_the_server_s_own_refusals(tmp_path: Path) -> None:
    tokens = json.dumps([{"name": "desk", "role": "operator", "token": "o" * 20}])
    async with served(tmp_path, tokens=tokens, trust_loopback=False, max_calls=1) as server:
        right = Browser(token="o" * 20)
        for url, browser, code in (
            (server.url, webrtc.ORDINARY, "401"),
            (f"{server.url}/webrtc/none", right, "404"),
            (f"{server.url}/nothing", right, "404"),
        ):
            error = await refusal(url, browser)
            assert isinstance(error, Refused)
            assert error.code == code
        async with connected(server.url, right):
            error = await refusal(server.url, right)
            assert isinstance(error, Refused)
            assert error.code == "503"
            assert error.reason


Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def by_hand(answer: Answer, context: ssl.SSLContext | None = None) -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_post("/webrtc", answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
        yield f"{'http' if context is None else 'https'}://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def test_answers_that_cannot_be_used() -> None:
    for text in ("", "v=0\r\n", "v=0\r\no=- 1 1 IN IP4 1.1.1.1\r\ns=-\r\nt=0 0\r\nm=audio 9 UDP/TLS/RTP/SAVPF 3\r\n"):

        async def answer(request: web.Request, text: str = text) -> web.Response:
            return web.Response(status=201, text=text)

        async with by_hand(answer) as url:
            error = await refusal(url)
        assert isinstance(error, LineError)
        assert error.kind is Trouble.protocol


async def test_an_answer_in_another_codec_than_offered() -> None:
    async def answer(request: web.Request) -> web.Response:
        text = (await request.text()).replace("actpass", "active")
        text = text.replace(" 111 96", " 0 96").replace("a=rtpmap:111 opus/48000/2", "a=rtpmap:0 PCMU/8000")
        return web.Response(status=201, text=text)

    async with by_hand(answer) as url:
        error = await refusal(url)
    assert str(error) == "protocol: another codec than offered"


@pytest.mark.parametrize("place", ["http://[", "http://a..b/leg", "ftp://host/leg", "javascript:alert(1)"])
async def test_a_leg_that_is_nowhere_is_left_all_the_same(place: str) -> None:
    async def answer(request: web.Request) -> web.Response:
        return web.Response(status=201, text="", headers={"Location": place})

    async with by_hand(answer) as url:
        error = await refusal(url)
    assert isinstance(error, LineError)
    assert error.kind is Trouble.protocol


async def test_servers_that_do_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webrtc, "CONNECT_TIMEOUT_S", 0.3)

    async def never(request: web.Request) -> web.Response:
        await asyncio.sleep(60)
        return web.Response()

    async def leaves(request: web.Request) -> web.Response:
        assert request.transport is not None
        request.transport.close()
        return web.Response()

    for answer, kind in ((never, Trouble.timeout), (leaves, Trouble.cut)):
        async with by_hand(answer) as url:
            error = await refusal(url)
        assert isinstance(error, LineError)
        assert error.kind is kind
    gone = await refusal(url)
    assert isinstance(gone, LineError)
    assert gone.kind is Trouble.unreachable


async def test_a_certificate_that_nobody_vouches_for(tmp_path: Path) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(self_signed(tmp_path / "pem"))

    async def answer(request: web.Request) -> web.Response:
        return web.Response(status=418)

    async with by_hand(answer, context) as url:
        error = await refusal(url)
        assert isinstance(error, LineError)
        assert error.kind is Trouble.tls
        known = Browser(context=ssl.create_default_context(cafile=str(tmp_path / "pem")))
        refused = await refusal(url, known)
        assert isinstance(refused, Refused)
        assert refused.code == "418"


@pytest.mark.parametrize("address", ["", "http://", "ws://host", "http://ho st", "http://host:99999/webrtc"])
async def test_what_is_no_address(address: str) -> None:
    with pytest.raises(BadAddress):
        async with webrtc_lines(address):
            pass


async def test_what_is_no_codec() -> None:
    with pytest.raises(ValueError, match="opus"):
        async with webrtc_lines("http://127.0.0.1", Browser(codec="g722")):
            pass


async def test_giving_up_before_the_answer_leaves_nothing() -> None:
    async def never(request: web.Request) -> web.Response:
        await asyncio.sleep(60)
        return web.Response()

    async with by_hand(never) as url, webrtc_lines(url) as lines:
        line = lines(0)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await line.connect(Heard())
        assert isinstance(line, WebRtcLine)
        assert line._peer is None


# Coming back


async def test_a_browser_comes_back_by_its_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "MAX_QUIET_MS", 300)
    async with (
        served(tmp_path, flows=[LECTURE], words_per_s=3.0) as server,
        connected(server.url) as (line, ears),
    ):
        call = line.call
        await loud(ears, line)
        for lost in (False, True):
            line.drop()
            line.drop()
            line.send(bytes(40))
            line.digit("1", 100)
            if lost:
                await server.until(lambda: server.facts(LegLost))
            count = len(ears.payloads)
            await line.resume()
            assert line.call == call
            await loud(ears, line, count)
        assert len(server.facts(LegAttached)) >= 2
        assert not ears.ends
        await line.hang_up()
        assert (await server.over(call))["cause"] == "caller-hangup"


async def test_a_dropped_browser_says_no_goodbye(tmp_path: Path) -> None:
    async with served(tmp_path) as server, webrtc_lines(server.url) as lines:
        line, ears = lines(0), Ears()
        await line.connect(ears)
        (leg,) = live()
        line.drop()
        await line.hang_up()
        await asyncio.sleep(0.5)
        assert not leg.over
        assert not leg.stalled, "the connection has not been closed in order either"
        assert not ears.ends


async def test_a_call_that_never_was_is_not_resumed() -> None:
    async with webrtc_lines("http://127.0.0.1:9") as lines:
        with pytest.raises(NotResumable):
            await lines(0).resume()
