"""The server under the protocols: real clients over a real socket, and a peer that is only two functions."""

import asyncio
import base64
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from ipaddress import ip_network
from typing import Any

import numpy as np
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from app.api.web import WebServer, listen
from media import reception
from media.audio import Pcm
from media.clock import Ticker
from media.gateway import Admission, LegRequest, Refused
from media.leg import CloseCode, Leg
from media.websocket import server as shell
from media.websocket import socket as sockets
from media.websocket.handshake import Opening
from media.websocket.protocol import MAX_MESSAGE_BYTES
from media.websocket.server import WebSocketServer
from tests.support.line import Line

PATIENCE_S = 20


class Call:
    """Echoes typed words as audio: one sentence of as many 20 ms frames as the text has letters."""

    def __init__(self) -> None:
        self.log: list[tuple[object, ...]] = []
        self.changed = asyncio.Event()
        self.leg: Leg | None = None
        self.broken = False

    def _note(self, *what: object) -> None:
        self.log.append(what)
        self.changed.set()

    async def until(self, done: Callable[[list[tuple[object, ...]]], object]) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not done(self.log):
                self.changed.clear()
                await self.changed.wait()

    def last(self) -> object:
        return self.log[-1][0]

    async def has(self, what: str) -> None:
        await self.until(lambda log: any(entry[0] == what for entry in log))

    def attach(self, leg: Leg) -> None:
        self.leg = leg
        self._note("attached")

    def digit(self, digit: str) -> None:
        self._note("digit", digit)
        if self.broken:
            raise AssertionError("torn")

    def text(self, text: str) -> None:
        assert self.leg is not None
        self._note("text", text)
        playout = self.leg.playout
        gen = playout.gen + 1
        playout.begin(gen)
        samples = self.leg.rate_hz // 50
        marks = [(at + 1, (at + 1) * samples) for at in range(len(text))]
        playout.push(gen, 0, np.full(len(text) * samples, 77, dtype=np.int16), marks)
        playout.end_sentence(gen, 0, len(text))
        playout.finish(gen)

    def held(self, *, on: bool) -> None: ...

    def measured(self, packets: int, lost: int, jitter_ms: float, opinion: float) -> None: ...

    def hung_up(self) -> None:
        self._note("hung up")

    def lost(self) -> None:
        self._note("lost")

    def failed(self, error: Exception) -> None:
        self._note("failed", str(error))

    def speech_started(self, utterance: int, now_ms: int) -> None:
        self._note("speech", utterance)

    def speech_audio(self, utterance: int, pcm: Pcm) -> None:
        pass

    def speech_confirmed(self, utterance: int) -> None:
        self._note("confirmed", utterance)

    def speech_paused(self, utterance: int, *, on: bool) -> None:
        pass

    def speech_ended(self, utterance: int, speech_ms: int, voice: bool) -> None:
        self._note("speech ended", utterance)

    def playout_started(self, gen: int) -> None:
        self._note("playout", gen)

    def playout_held(self, gen: int, sentence: int, chars: int) -> None:
        self._note("held", gen, sentence, chars)

    def playout_stopped(self, gen: int, sentence: int, chars: int, cause: str) -> None:
        self._note("stopped", gen, sentence, chars, cause)


class House:
    """Admits every call but those whose token is "wrong"."""

    def __init__(self) -> None:
        self.requests: list[LegRequest] = []
        self.calls: list[Call] = []
        self.gate = asyncio.Event()
        self.gate.set()

    async def admit(self, request: LegRequest) -> Admission:
        self.requests.append(request)
        await self.gate.wait()
        if request.token == "wrong":
            raise Refused(CloseCode.unauthorized, "this token is not known")
        self.calls.append(Call())
        return Admission(f"call-{len(self.calls)}", "leg", "resume-token", self.calls[-1])

    def turn_away(self, request: LegRequest) -> None: ...


class Place:
    def __init__(self, house: House, app: WebSocketServer, port: int) -> None:
        self.house = house
        self.app = app
        self.url = f"ws://127.0.0.1:{port}"

    @contextlib.asynccontextmanager
    async def dial(self, path: str = "/ws/audio", **fields: Any) -> AsyncIterator[ClientConnection]:
        async with connect(self.url + path, compression=None) as peer:
            await peer.send(json.dumps({"type": "start", **fields}))
            yield peer

    async def no_legs(self) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while self.app.legs:  # noqa: ASYNC110  # nothing tells
                await asyncio.sleep(0.01)


@pytest.fixture
async def place() -> AsyncIterator[Place]:
    house, ticker = House(), Ticker()
    app = WebSocketServer(house, ticker, [ip_network("127.0.0.1")])
    with contextlib.closing(listen("127.0.0.1", 0)) as listener:
        web = WebServer(nothing, app)
        async with asyncio.TaskGroup() as group:
            serving = group.create_task(web.serve([listener]))
            running = group.create_task(app.run())
            ticking = group.create_task(ticker.run())
            while not web.started:  # noqa: ASYNC110  # uvicorn has no event for it
                await asyncio.sleep(0.01)
            yield Place(house, app, listener.getsockname()[1])
            app.stop()
            await running
            web.should_exit = True
            await serving
            ticking.cancel()


async def nothing(scope: Any, receive: Any, send: Any) -> None:
    """No HTTP."""


async def receive(peer: ClientConnection) -> Any:
    async with asyncio.timeout(PATIENCE_S):
        message = await peer.recv()
        return json.loads(message) if isinstance(message, str) else message


async def closed(peer: ClientConnection) -> tuple[int, str]:
    """How the server closed, whatever it sent before."""
    async with asyncio.timeout(PATIENCE_S):
        with contextlib.suppress(ConnectionClosed):
            while True:
                await peer.recv()
    assert peer.close_code is not None
    return peer.close_code, peer.close_reason or ""


async def test_a_call_from_greeting_to_goodbye(place: Place) -> None:
    async with place.dial("/ws/audio/clinic?token=t", rate=8000, caller="me", marks=True) as peer:
        greeting = await receive(peer)
        assert greeting == {"type": "started", "call": "call-1", "rate": 8000, "frame_ms": 20, "resume": "resume-token"}
        request = place.house.requests[0]
        assert (request.transport, request.flow, request.token, request.caller) == ("audio", "clinic", "t", "me")
        assert request.peer == "127.0.0.1"
        assert request.url.endswith("/ws/audio/clinic?token=t")
        call = place.house.calls[0]
        await peer.send('{"type":"text","text":"hello"}')
        frames: list[Pcm] = []
        while len(frames) < 5:
            message = await receive(peer)
            if isinstance(message, bytes):
                frames.append(np.frombuffer(message, dtype="<i2"))
            else:
                await peer.send(json.dumps(message))
        assert all(len(frame) == 160 and (frame == 77).all() for frame in frames)
        await peer.send(json.dumps(await receive(peer)))
        await call.has("stopped")
        assert call.log[-1] == ("stopped", 1, 0, 5, "done")
        await peer.send('{"type":"stop"}')
        assert (await closed(peer))[0] == 1000
    assert call.last() == "hung up"
    await place.no_legs()


async def test_what_the_caller_says_reaches_the_ear_at_every_rate(place: Place) -> None:
    for rate_hz in (8000, 16000, 24000, 48000):
        async with place.dial(rate=rate_hz) as peer:
            await receive(peer)
            call = place.house.calls[-1]
            at = np.arange(rate_hz // 4) / rate_hz
            loud = (9000 * np.sin(2 * np.pi * 300 * at)).astype("<i2").tobytes()
            await peer.send(loud)
            await peer.send(bytes(rate_hz))
            await call.has("speech ended")
            assert call.leg is not None
            assert call.leg.ear_rate_hz == min(rate_hz, 16000)
        await call.has("hung up")


async def test_the_call_ends_the_leg_with_its_outcome(place: Place) -> None:
    async with place.dial() as peer:
        await receive(peer)
        call = place.house.calls[0]
        await peer.send('{"type":"digit","digit":"#"}')
        await call.has("digit")
        assert call.leg is not None
        call.leg.end("done", "booked")
        assert await receive(peer) == {"type": "ended", "cause": "done", "outcome": "booked"}
        assert await closed(peer) == (1000, "done")
    await place.no_legs()
    assert call.log == [("attached",), ("digit", "#")], "its own end is no news to the call"


async def test_a_cut_clears_the_peer(place: Place) -> None:
    async with place.dial() as peer:
        await receive(peer)
        await peer.send(json.dumps({"type": "text", "text": "x" * 500}))
        assert isinstance(await receive(peer), bytes)
        call = place.house.calls[0]
        assert call.leg is not None
        call.leg.playout.cut(1)
        while isinstance(message := await receive(peer), bytes):
            pass
        assert message == {"type": "clear"}
        assert call.log[-1][0] == "stopped"
        assert call.log[-1][-1] == "cut"


async def test_a_broken_connection_is_lost_and_not_hung_up(place: Place) -> None:
    async with place.dial() as peer:
        await receive(peer)
        await peer.send('{"type":"text","text":"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"}')
        call = place.house.calls[0]
        await call.has("playout")
        peer.transport.abort()
    await call.has("lost")
    stops = [entry for entry in call.log if entry[0] == "stopped"]
    assert len(stops) == 1
    assert stops[0][-1] == "lost"
    assert call.last() == "lost"
    await place.no_legs()


async def test_a_refusal_is_told_with_code_and_reason(place: Place) -> None:
    async with place.dial(token="wrong") as peer:
        reason = "this token is not known"
        assert await receive(peer) == {"type": "error", "code": "unauthorized", "reason": reason}
        assert await closed(peer) == (4401, reason)
    assert place.house.calls == []


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ("{", 4400),
        ('{"type":"start"}', 4400),
        ('{"type":"digit","digit":"x"}', 4400),
        (b"\x00", 4400),
        (bytes(96_002), 4413),
        ("x" * 20_000, 4413),
        (bytes(MAX_MESSAGE_BYTES + 1), 1009),
    ],
)
async def test_a_hostile_message_ends_its_own_leg_only(place: Place, message: str | bytes, code: int) -> None:
    async with place.dial() as good, place.dial() as bad:
        await receive(good)
        await receive(bad)
        await bad.send(message)
        assert (await closed(bad))[0] == code
        await place.house.calls[1].has("lost")
        await good.send('{"type":"text","text":"x"}')
        assert isinstance(await receive(good), bytes)


async def test_a_flood_of_messages_ends_its_leg(place: Place) -> None:
    async with place.dial() as peer:
        await receive(peer)
        with contextlib.suppress(ConnectionClosed):
            for _ in range(2000):
                await peer.send('{"type":"digit","digit":"1"}')
        assert (await closed(peer))[0] == 4429


async def test_who_does_not_introduce_himself_is_not_waited_for(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shell, "START_TIMEOUT_S", 0.05)
    async with connect(place.url + "/ws/audio") as peer:
        assert (await closed(peer))[0] == 4408
    async with connect(place.url + "/ws/twilio") as peer:
        await peer.send('{"event":"connected"}')
        assert (await closed(peer))[0] == 4408
    assert place.house.requests == []


async def test_an_admission_that_takes_too_long_is_given_up(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reception, "ADMIT_TIMEOUT_S", 0.05)
    place.house.gate.clear()
    async with place.dial() as peer:
        assert (await closed(peer))[0] == 4503


async def test_too_many_that_wait_are_turned_away(place: Place) -> None:
    place.app.reception.most = 1
    place.house.gate.clear()
    async with place.dial() as first:
        while not place.house.requests:  # noqa: ASYNC110  # nothing tells
            await asyncio.sleep(0.01)
        async with connect(place.url + "/ws/audio") as second:
            assert await closed(second) == (4503, "too many connections are waiting")
        place.house.gate.set()
        assert (await receive(first))["type"] == "started"
        async with place.dial() as third:
            assert (await receive(third))["type"] == "started", "who is admitted does not wait"


async def test_those_who_say_nothing_keep_nobody_else_out(place: Place) -> None:
    place.app.reception.most_of_an_address = 3

    def of(address: str) -> Any:
        return connect(place.url + "/ws/audio", additional_headers={"X-Forwarded-For": address})

    async with contextlib.AsyncExitStack() as silent:
        held = [await silent.enter_async_context(of("198.51.100.1")) for _ in range(3)]
        async with of("198.51.100.1") as fourth:
            assert await closed(fourth) == (4503, "too many connections from this address are waiting")
        async with of("198.51.100.2") as other:
            await other.send('{"type":"start"}')
            assert (await receive(other))["type"] == "started"
        await held[0].close()
        async with of("198.51.100.1") as next_one:
            await next_one.send('{"type":"start"}')
            assert (await receive(next_one))["type"] == "started"
    assert [request.source for request in place.house.requests] == ["198.51.100.2", "198.51.100.1"]
    assert {request.peer for request in place.house.requests} == {"127.0.0.1"}


async def test_our_own_fault_ends_that_call_only(place: Place) -> None:
    async with place.dial() as good, place.dial() as bad:
        await receive(good)
        await receive(bad)
        call = place.house.calls[1]
        call.broken = True
        await bad.send('{"type":"digit","digit":"1"}')
        assert (await closed(bad))[0] == 1011
        assert call.log[-1] == ("failed", "torn")
        await good.send('{"type":"text","text":"x"}')
        assert isinstance(await receive(good), bytes)


async def test_a_fault_in_the_audio_path_ends_that_call_only(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    async with place.dial() as good, place.dial() as bad:
        await receive(good)
        await receive(bad)
        call = place.house.calls[1]

        def torn(gen: int) -> None:
            raise AssertionError("torn")

        monkeypatch.setattr(call, "playout_started", torn)
        await bad.send('{"type":"text","text":"x"}')
        assert (await closed(bad))[0] == 1011
        assert call.log[-1] == ("failed", "torn")
        await good.send('{"type":"text","text":"x"}')
        assert isinstance(await receive(good), bytes)
    await place.no_legs()


async def test_nothing_of_a_request_is_cut_or_overlooked(place: Place) -> None:
    long = "http://" + "a" * 2000 + ".example"
    headers = [("Origin", long), ("X-Forwarded-For", "1.2.3.4, " * 150), ("Via", "a"), ("Via", "b")]
    query = "x=" + "y" * 2000 + "&token=t"
    async with connect(f"{place.url}/ws/audio?{query}", additional_headers=headers) as peer:
        await peer.send('{"type":"start"}')
        await receive(peer)
    request = place.house.requests[0]
    assert request.headers["origin"] == long
    assert request.headers["x-forwarded-for"] == ("1.2.3.4, " * 150).strip()
    assert request.headers["via"] == "a, b"
    assert request.token == "t"
    assert request.url.endswith(query)


async def test_an_unknown_path_is_no_websocket(place: Place) -> None:
    for path in ("/ws/nope", "/ws", "/", "/ws/audio/a/b"):
        with pytest.raises(Exception, match="403"):
            await connect(place.url + path)


async def test_a_twilio_stream(place: Place) -> None:
    start = {
        "streamSid": "MZ1",
        "callSid": "CA1",
        "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1},
        "customParameters": {"caller": "+15550100"},
    }
    async with connect(place.url + "/ws/twilio/clinic") as peer:
        await peer.send('{"event":"connected","protocol":"Call","version":"1.0.0"}')
        await peer.send(json.dumps({"event": "start", "sequenceNumber": "1", "start": start, "streamSid": "MZ1"}))
        while not place.house.calls:  # noqa: ASYNC110  # nothing tells
            await asyncio.sleep(0.01)
        call, request = place.house.calls[0], place.house.requests[0]
        assert (request.flow, request.peer_call, request.caller) == ("clinic", "CA1", "+15550100")
        await call.has("attached")
        call.text("hi")
        names = []
        for _ in range(5):
            message = await receive(peer)
            assert message["streamSid"] == "MZ1"
            if message["event"] == "mark":
                names.append(message["mark"])
                await peer.send(json.dumps({"event": "mark", "streamSid": "MZ1", "mark": message["mark"]}))
            else:
                assert len(base64.b64decode(message["media"]["payload"])) == 160
            if len(names) == 2:
                break
        await call.has("stopped")
        assert call.log[-1] == ("stopped", 1, 0, 2, "done")
        await peer.send(json.dumps({"event": "dtmf", "streamSid": "MZ1", "dtmf": {"digit": "5"}}))
        await call.has("digit")
        await peer.send(json.dumps({"event": "stop", "streamSid": "MZ1", "stop": {}}))
        assert (await closed(peer))[0] == 1000
    assert call.last() == "hung up"


START = '{"type": "start", "rate": 8000}'
HEADERS = [
    (b"host", b"here"),
    (b"connection", b"upgrade"),
    (b"upgrade", b"websocket"),
    (b"sec-websocket-version", b"13"),
    (b"sec-websocket-key", b"dGhlIHNhbXBsZSBub25jZQ=="),
]


@contextlib.asynccontextmanager
async def served(line: Line, house: House, ticker: Ticker) -> AsyncIterator[asyncio.Task[None]]:
    app = WebSocketServer(house, ticker)
    async with asyncio.timeout(PATIENCE_S), asyncio.TaskGroup() as group:
        task = group.create_task(app.run())
        await asyncio.sleep(0)
        app.open(Opening(b"GET", b"/ws/audio", HEADERS, "ws", "127.0.0.1"), line, b"")
        line.say(START)
        while not house.calls:  # noqa: ASYNC110  # nothing tells
            await asyncio.sleep(0)
        await house.calls[0].has("attached")
        yield task
        app.stop()


async def test_a_peer_that_does_not_read_stops_its_own_playout_and_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sockets, "CLOSE_TIMEOUT_S", 0.05)
    monkeypatch.setattr(shell, "MAX_STALL_S", 0)
    line, house, ticker = Line(), House(), Ticker()
    async with served(line, house, ticker):
        call = house.calls[0]
        call.text("x" * 400)
        line.reads = False
        for now_ms in range(0, 8000, 20):
            ticker.tick(now_ms)
        await call.has("lost")
        assert call.leg is not None
        sent_bytes = call.leg.playout.sent_frames * 320
        assert sent_bytes <= sockets.STALLED_BYTES + 320, "it was not sent what it does not take"
        await line.over.wait()
    assert len([entry for entry in call.log if entry[0] == "stopped"]) == 1


async def test_a_peer_that_reads_again_hears_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sockets, "CLOSE_TIMEOUT_S", 0.05)
    line, house, ticker = Line(), House(), Ticker()
    async with served(line, house, ticker):
        call = house.calls[0]
        call.text("x" * 100)
        line.reads = False
        for now_ms in range(0, 3000, 20):
            ticker.tick(now_ms)
        assert call.leg is not None
        stopped_at = call.leg.playout.sent_frames
        assert stopped_at < 100
        line.waits_bytes, line.reads = 0, True
        line.protocol.resume_writing()
        for now_ms in range(3000, 6000, 20):
            ticker.tick(now_ms)
        assert call.leg.playout.sent_frames == 100
        assert ("stopped", 1, 0, 100, "done") in call.log


async def test_what_waits_for_a_peer_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sockets, "CLOSE_TIMEOUT_S", 0.05)
    line, house, ticker = Line(), House(), Ticker()
    async with served(line, house, ticker):
        line.reads = False
        leg = house.calls[0].leg
        assert leg is not None
        while line.waits_bytes <= sockets.MAX_UNSENT_BYTES:
            leg.clear()
        await house.calls[0].has("lost")
        sent = len(line.sent)
        leg.clear()
        assert len(line.sent) == sent
        await line.over.wait()


async def test_cancelling_the_server_loses_the_leg() -> None:
    line, house, ticker = Line(), House(), Ticker()
    async with served(line, house, ticker) as task:
        task.cancel()
        await line.over.wait()
    assert house.calls[0].log[-1] == ("lost",)


async def test_a_server_that_stops_says_so_and_waits_for_no_answer_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sockets, "CLOSE_TIMEOUT_S", 0.05)
    line, house, ticker = Line(), House(), Ticker()
    async with served(line, house, ticker):
        pass
    assert line.sent[-1][:1] + line.sent[-1][2:4] == b"\x88" + (1001).to_bytes(2)
    assert line.over.is_set()
    assert house.calls[0].log[-1] == ("lost",)


async def test_a_goodbye_is_heard_though_the_sending_stalled_first() -> None:
    line, house, ticker = Line(), House(), Ticker()
    async with served(line, house, ticker):
        line.reads = False
        house.calls[0].text("x")
        ticker.tick(20)
        line.protocol.data_received(b"\x88\x82" + bytes(4) + (1000).to_bytes(2))
        assert house.calls[0].log[-1] == ("hung up",)
        line.abort()


async def test_a_peer_that_is_silent_is_asked_and_then_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sockets, "PING_S", 0.05)
    line, house, ticker = Line(), House(), Ticker()
    async with served(line, house, ticker):
        await line.over.wait()
    assert b"\x89\x00" in line.sent
    assert house.calls[0].log[-1] == ("lost",)


async def test_who_goes_away_before_its_admission_is_lost() -> None:
    line, house, ticker = Line(), House(), Ticker()
    house.gate.clear()
    app = WebSocketServer(house, ticker)
    async with asyncio.timeout(PATIENCE_S), asyncio.TaskGroup() as group:
        group.create_task(app.run())
        await asyncio.sleep(0)
        app.open(Opening(b"GET", b"/ws/audio", HEADERS, "ws", "127.0.0.1"), line, b"")
        line.say(START)
        while not house.requests:  # noqa: ASYNC110  # nothing tells
            await asyncio.sleep(0)
        line.abort()
        house.gate.set()
        while not house.calls:  # noqa: ASYNC110
            await asyncio.sleep(0)
        await house.calls[0].has("lost")
        app.stop()
    assert house.calls[0].log == [("lost",)]
