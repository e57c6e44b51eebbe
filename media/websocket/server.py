"""The thin server under both protocols: an ASGI application for `/ws/audio[/FLOW]` and `/ws/twilio[/FLOW]`."""

import asyncio
import dataclasses
import functools
from collections import deque
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any, Final, assert_never
from urllib.parse import parse_qsl

from media.audio import Pcm
from media.clock import Ticker
from media.gateway import Gateway, LegRequest, Refused
from media.leg import CloseCode, Leg
from media.reception import Reception
from media.source import Network, field_values, source
from media.websocket.plain import PlainProtocol
from media.websocket.protocol import (
    CLOSE_NUMBERS,
    Audio,
    Begun,
    DigitPressed,
    Event,
    MarkPlayed,
    Message,
    ProtocolError,
    Stopped,
    TextTyped,
    WireProtocol,
    close_reason,
)
from media.websocket.twilio import TwilioProtocol

START_TIMEOUT_S: Final = 5  # for the peer to introduce itself
CLOSE_TIMEOUT_S: Final = 2  # for the peer to read the rest
STALLED_MESSAGES: Final = 16  # more than these wait: the peer does not read, and its playout stands still
MAX_STALL_S: Final = 10
MAX_OUTBOX_MESSAGES: Final = 200
MAX_WAITING: Final = 200  # connections that are not admitted yet
MAX_WAITING_PER_ADDRESS: Final = 50
NORMAL_CLOSURE: Final = 1000

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

PROTOCOLS: Final[dict[str, Callable[[], WireProtocol]]] = {"audio": PlainProtocol, "twilio": TwilioProtocol}


class WebSocketServer:
    """One for the process. A connection lives as long as its call of this object."""

    def __init__(self, gateway: Gateway, ticker: Ticker, proxies: Sequence[Network] = ()) -> None:
        """`proxies` are believed about whom they speak for. What a request may measure is the HTTP server's to limit:
        nothing of it is cut here, because what is cut would look absent."""
        self.reception = Reception(gateway, most=MAX_WAITING, most_of_an_address=MAX_WAITING_PER_ADDRESS)
        self._ticker = ticker
        self._proxies = proxies
        self.legs = 0  # attached now

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] == "websocket"
        kind, flow = _route(scope["path"])
        assert (await receive())["type"] == "websocket.connect"
        if kind not in PROTOCOLS:
            await send({"type": "websocket.close", "code": CLOSE_NUMBERS[CloseCode.unknown_flow]})
            return
        await send({"type": "websocket.accept"})
        await _Connection(self, PROTOCOLS[kind](), receive, send).run(scope, flow)

    def request(self, scope: Scope, transport: str, flow: str) -> LegRequest:
        """What the opening request alone says."""
        headers = field_values(scope["headers"])
        query_string = scope.get("query_string", b"").decode("latin-1")
        query = dict(parse_qsl(query_string))
        scheme, _, bearer = headers.get("authorization", "").partition(" ")
        path = scope.get("raw_path") or scope["path"].encode()
        url = f"{scope['scheme']}://{headers.get('host', '')}{path.decode('latin-1')}"
        peer = (scope.get("client") or ("", 0))[0]
        return LegRequest(
            transport=transport,
            flow=flow,
            url=f"{url}?{query_string}" if query_string else url,
            peer=peer,
            source=source(peer, headers, self._proxies),
            headers=headers,
            query=query,
            token=(bearer if scheme.lower() == "bearer" else "") or query.get("token", ""),
        )

    def attached(self, leg: Leg) -> None:
        self.legs += 1
        self._ticker.add(leg, leg.failed)

    def detached(self, leg: Leg) -> None:
        self.legs -= 1
        self._ticker.discard(leg)


class _Connection:
    """One connection's reader, its writer, and the leg between them. It is that leg's `Wire`."""

    def __init__(self, server: WebSocketServer, protocol: WireProtocol, receive: Receive, send: Send) -> None:
        self._server = server
        self._protocol = protocol
        self._receive = receive
        self._send = send
        self._loop = asyncio.get_running_loop()
        self._leg: Leg | None = None
        self._outbox: deque[Message] = deque()
        self._wake = asyncio.Event()
        self._closing: tuple[CloseCode, str] | None = None
        self._disconnected = False
        self._broken = False
        self._patience: asyncio.Timeout | None = None  # of the writer, limited once it is closing
        self._stalled_since_s: float | None = None

    async def run(self, scope: Scope, flow: str) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                reader = group.create_task(self._read(scope, flow), name="websocket reader")
                writer = group.create_task(self._write(), name="websocket writer")
                reader.add_done_callback(lambda _: self._reader_done(writer))
                writer.add_done_callback(lambda _: None if self._broken else reader.cancel())
        finally:
            if self._leg is not None:
                self._server.detached(self._leg)
                self._leg.gone(goodbye=False)

    def _reader_done(self, writer: asyncio.Task[None]) -> None:
        if self._disconnected or self._closing is None:  # else the writer still has something to say
            writer.cancel()

    # The reader

    async def _read(self, scope: Scope, flow: str) -> None:
        try:
            request = self._server.request(scope, self._protocol.transport, flow)
            with self._server.reception.place(request.source):
                leg = await self._introduce(request)
            while leg is not None and self._closing is None:
                message = await self._receive()
                now_ms = int(self._loop.time() * 1000)
                for event in self._events(message, now_ms):
                    self._dispatch(leg, event, now_ms)
        except (ProtocolError, Refused) as error:
            if self._leg is not None:
                self._leg.gone(goodbye=False)
            self.refuse(error.code, error.reason)
        except _Disconnected as gone:
            self._disconnected = True
            if self._leg is not None:
                self._leg.gone(goodbye=gone.code == NORMAL_CLOSURE)

    async def _introduce(self, request: LegRequest) -> Leg | None:
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                events: list[Event] = []
                while not events:
                    events = self._events(await self._receive(), int(self._loop.time() * 1000))
        except TimeoutError:
            raise ProtocolError(CloseCode.timeout, f"no start within {START_TIMEOUT_S} s") from None
        begun = events[0]
        assert isinstance(begun, Begun)
        admission = await self._server.reception.admit(_complete(request, begun))
        if self._closing is not None:
            admission.handler.lost()
            return None
        leg = Leg(
            admission.leg,
            self._protocol.transport,
            begun.rate_hz,
            self,
            admission.handler,
            peer_buffer_ms=begun.buffer_ms,
            marks=begun.marks,
        )
        self._leg = leg
        self._put(self._protocol.started(admission.call, admission.resume))
        self._server.attached(leg)
        try:
            admission.handler.attach(leg)
        except Exception as error:  # noqa: BLE001  # ours, and it ends this call only
            leg.failed(error)
        return leg

    def _events(self, message: MutableMapping[str, Any], now_ms: int) -> list[Event]:
        if message["type"] == "websocket.disconnect":
            raise _Disconnected(message.get("code") or 0)
        text = message.get("text")
        if text is not None:
            return self._protocol.receive_text(text, now_ms)
        return self._protocol.receive_binary(message["bytes"], now_ms)

    def _dispatch(self, leg: Leg, event: Event, now_ms: int) -> None:
        try:
            match event:
                case Audio():
                    leg.receive(event.pcm, now_ms)
                case DigitPressed():
                    leg.digit(event.digit)
                case TextTyped():
                    leg.text(event.text)
                case MarkPlayed():
                    leg.playout.mark_played(event.name)
                case Stopped():
                    leg.gone(goodbye=True)
                    self.close(CloseCode.normal, "")
                case Begun():
                    raise AssertionError("a protocol begins once")
                case _:
                    assert_never(event)
        except Exception as error:  # noqa: BLE001  # ours, and it ends this call only
            leg.failed(error)

    # The writer

    async def _write(self) -> None:
        try:
            async with asyncio.timeout(None if self._closing is None else CLOSE_TIMEOUT_S) as self._patience:
                while True:
                    while self._outbox:
                        await self._send(_outgoing(self._outbox.popleft()))
                    if self._closing is not None:
                        code, reason = self._closing
                        number = CLOSE_NUMBERS[code]
                        await self._send({"type": "websocket.close", "code": number, "reason": close_reason(reason)})
                        return
                    self._wake.clear()
                    await self._wake.wait()
        except TimeoutError:
            pass  # the peer does not read: the connection is dropped
        except (OSError, RuntimeError):
            self._broken = True  # closed already, by the peer or by the server below: the reader will be told how
        finally:
            self._patience = None
            self._outbox.clear()

    def _put(self, message: Message | None) -> None:
        if message is None or self._closing is not None or self._broken:
            return
        if len(self._outbox) >= MAX_OUTBOX_MESSAGES:
            self._too_slow()
            return
        self._outbox.append(message)
        self._wake.set()

    def _too_slow(self) -> None:
        """Called from inside the leg, so the leg hears of it a moment later."""
        self._outbox.clear()
        self.close(CloseCode.too_slow, "the peer does not read what it is sent")
        if self._leg is not None:
            self._loop.call_soon(functools.partial(self._leg.gone, goodbye=False))

    # The leg's wire

    @property
    def stalled(self) -> bool:
        if self._closing is not None or self._broken:
            return True
        if len(self._outbox) <= STALLED_MESSAGES:
            self._stalled_since_s = None
            return False
        now_s = self._loop.time()
        if self._stalled_since_s is None:
            self._stalled_since_s = now_s
        elif now_s - self._stalled_since_s > MAX_STALL_S:
            self._too_slow()
        return True

    def audio(self, frame: Pcm) -> None:
        if self._closing is None:
            self._put(self._protocol.audio(frame))

    def mark(self, name: str) -> None:
        self._put(self._protocol.mark(name))

    def clear(self) -> None:
        self._put(self._protocol.clear())

    def caption(self, text: str) -> None:
        self._put(self._protocol.caption(text))

    def tell(self, message: str) -> None:
        """These protocols have no place for it."""

    def end(self, cause: str, outcome: str) -> None:
        self._put(self._protocol.ended(cause, outcome))
        self.close(CloseCode.normal, cause)

    def close(self, code: CloseCode, reason: str) -> None:
        if self._closing is None:
            self._closing = (code, reason)
            if self._patience is not None:
                self._patience.reschedule(self._loop.time() + CLOSE_TIMEOUT_S)
            self._wake.set()

    def refuse(self, code: CloseCode, reason: str) -> None:
        """Close with an error message, where the protocol has one."""
        self._put(self._protocol.error(code, reason))
        self.close(code, reason)


class _Disconnected(Exception):
    def __init__(self, code: int) -> None:
        self.code = code


def _outgoing(message: Message) -> MutableMapping[str, Any]:
    if isinstance(message, str):
        return {"type": "websocket.send", "text": message}
    return {"type": "websocket.send", "bytes": message}


def _route(path: str) -> tuple[str, str]:
    """(protocol, flow) of `.../ws/PROTOCOL[/FLOW]`."""
    parts = path.strip("/").split("/")
    at = parts.index("ws") if "ws" in parts else len(parts)
    rest = parts[at + 1 :]
    if len(rest) > 2:
        return "", ""
    kind, flow, *_ = *rest, "", ""
    return kind, flow


def _complete(request: LegRequest, begun: Begun) -> LegRequest:
    """With what the peer said when it introduced itself."""
    return dataclasses.replace(
        request,
        rate_hz=begun.rate_hz,
        parameters=begun.parameters,
        token=begun.token or request.token,
        resume=begun.resume,
        caller=begun.caller,
        called=begun.called,
        peer_call=begun.peer_call,
    )
