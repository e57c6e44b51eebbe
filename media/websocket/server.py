"""The server under both protocols: WebSockets at `/ws/audio[/FLOW]` and `/ws/twilio[/FLOW]` become legs of calls."""

import asyncio
import dataclasses
import functools
import logging
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from http import HTTPStatus
from typing import Final, assert_never
from urllib.parse import parse_qsl, unquote_to_bytes

from media.audio import Pcm
from media.clock import Ticker
from media.gateway import Gateway, LegRequest, Refused
from media.leg import CloseCode, Leg
from media.reception import Reception
from media.source import Network, field_values, source
from media.websocket import handshake
from media.websocket.frames import NORMAL, Message
from media.websocket.handshake import BadOpening, Opening
from media.websocket.plain import PlainProtocol
from media.websocket.protocol import (
    CLOSE_NUMBERS,
    Audio,
    Begun,
    DigitPressed,
    MarkPlayed,
    ProtocolError,
    Stopped,
    TextTyped,
    WireProtocol,
)
from media.websocket.socket import Socket
from media.websocket.twilio import TwilioProtocol

START_TIMEOUT_S: Final = 5  # for the peer to introduce itself
MAX_STALL_S: Final = 10  # for which a peer may not read what it is sent; its playout stands still meanwhile
MAX_WAITING: Final = 200  # connections that are not admitted yet
MAX_WAITING_PER_ADDRESS: Final = 50
TOO_SLOW: Final = "the peer does not read what it is sent"

PROTOCOLS: Final[dict[str, Callable[[], WireProtocol]]] = {"audio": PlainProtocol, "twilio": TwilioProtocol}

log = logging.getLogger("voicegate.websocket")


class WebSocketServer:
    """One for the process. `run` owns the connections; `open` may be called while it runs."""

    def __init__(self, gateway: Gateway, ticker: Ticker, proxies: Sequence[Network] = ()) -> None:
        """`proxies` are believed about whom they speak for. What a request may measure is the HTTP server's to limit:
        nothing of it is cut here, because what is cut would look absent."""
        self.reception = Reception(gateway, most=MAX_WAITING, most_of_an_address=MAX_WAITING_PER_ADDRESS)
        self._ticker = ticker
        self._proxies = proxies
        self._connections: set[_Connection] = set()
        self._group: asyncio.TaskGroup | None = None
        self._stopping = asyncio.Event()
        self._changed = asyncio.Event()
        self.legs = 0  # attached now

    async def run(self) -> None:
        """Until `stop`; then the connections that are left are closed."""
        try:
            async with asyncio.TaskGroup() as self._group:
                await self._stopping.wait()
                for connection in list(self._connections):
                    connection.stop()
                while self._connections:
                    self._changed.clear()
                    await self._changed.wait()
        finally:
            self._group = None
            for connection in list(self._connections):
                connection.abort()

    def stop(self) -> None:
        self._stopping.set()

    def open(self, opening: Opening, transport: asyncio.Transport, data: bytes) -> None:
        """Answers on the transport, and takes it over; `data` came right after the request."""
        try:
            answer = handshake.accept(opening)
            if self._group is None or self._stopping.is_set():
                raise BadOpening(HTTPStatus.SERVICE_UNAVAILABLE)
            path, _, query = opening.target.partition(b"?")
            kind, flow = _route(unquote_to_bytes(path).decode(errors="replace"))
            if kind not in PROTOCOLS:
                raise BadOpening(HTTPStatus.FORBIDDEN)
        except BadOpening as error:
            transport.write(handshake.refusal(error.status))
            transport.close()
            return
        transport.write(answer)
        protocol = PROTOCOLS[kind]()
        connection = _Connection(self, self._group, protocol)
        self._connections.add(connection)
        connection.begin(self._request(opening, protocol.transport, flow, query.decode("latin-1")), transport, data)

    def _request(self, opening: Opening, transport: str, flow: str, query_string: str) -> LegRequest:
        """What the opening request alone says."""
        headers = field_values(opening.headers)
        query = dict(parse_qsl(query_string))
        scheme, _, bearer = headers.get("authorization", "").partition(" ")
        return LegRequest(
            transport=transport,
            flow=flow,
            url=f"{opening.scheme}://{headers.get('host', '')}{opening.target.decode('latin-1')}",
            peer=opening.peer,
            source=source(opening.peer, headers, self._proxies),
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

    def gone(self, connection: "_Connection") -> None:
        self._connections.discard(connection)
        self._changed.set()


class _Connection:
    """One connection: what its socket hears, and the `Wire` of its leg."""

    def __init__(self, server: WebSocketServer, group: asyncio.TaskGroup, protocol: WireProtocol) -> None:
        self._server = server
        self._group = group
        self._protocol = protocol
        self._loop = asyncio.get_running_loop()
        self._socket = Socket(self)
        self._waiting = ExitStack()  # its place among those who are not admitted yet
        self._leg: Leg | None = None
        self._over = False  # nothing is received or sent any more

    # Until it is admitted

    def begin(self, request: LegRequest, transport: asyncio.Transport, data: bytes) -> None:
        self._request = request
        self._timer = self._loop.call_later(START_TIMEOUT_S, self._late)
        try:
            self._waiting.enter_context(self._server.reception.place(request.source))
        except Refused as error:
            self._socket.attach(transport)
            self.refuse(error.code, error.reason)
        else:
            self._socket.attach(transport, data)

    def _late(self) -> None:
        self.refuse(CloseCode.timeout, f"no start within {START_TIMEOUT_S} s")

    def _begun(self, begun: Begun) -> None:
        self._timer.cancel()
        self._socket.hold()
        self._group.create_task(self._admit(_complete(self._request, begun), begun), name="websocket admission")
        del self._request  # its headers are not kept for as long as the call

    async def _admit(self, request: LegRequest, begun: Begun) -> None:
        try:
            admission = await self._server.reception.admit(request)
        except Refused as error:
            self.refuse(error.code, error.reason)
            return
        except Exception as error:  # noqa: BLE001  # ours, and it ends this connection only
            log.error("a WebSocket leg was not admitted: %s", type(error).__name__)
            self.refuse(CloseCode.internal_error, "internal error")
            return
        finally:
            self._waiting.close()
        if self._over:
            admission.handler.lost()
            return
        leg = self._leg = Leg(
            admission.leg,
            self._protocol.transport,
            begun.rate_hz,
            self,
            admission.handler,
            peer_buffer_ms=begun.buffer_ms,
            marks=begun.marks,
        )
        self._send(self._protocol.started(admission.call, admission.resume))
        self._server.attached(leg)
        try:
            admission.handler.attach(leg)
        except Exception as error:  # noqa: BLE001  # ours, and it ends this call only
            leg.failed(error)
        self._socket.go_on()

    # What the socket hears

    def received(self, message: Message) -> None:
        now_ms = int(self._loop.time() * 1000)
        try:
            if isinstance(message, str):
                events = self._protocol.receive_text(message, now_ms)
            else:
                events = self._protocol.receive_binary(message, now_ms)
        except ProtocolError as error:
            self.refuse(error.code, error.reason)
            return
        leg = self._leg
        for event in events:
            if leg is None:
                assert isinstance(event, Begun)
                self._begun(event)
                continue
            try:
                if isinstance(event, Audio):
                    leg.receive(event.pcm, now_ms)
                else:
                    self._dispatch(leg, event)
            except Exception as error:  # noqa: BLE001  # ours, and it ends this call only
                leg.failed(error)

    def closed(self, code: int) -> None:
        self._end(goodbye=code == NORMAL)

    def lost(self) -> None:
        self._server.gone(self)

    def overflowed(self) -> None:
        """Called from inside the leg, which hears of it a moment later."""
        self._loop.call_soon(functools.partial(self.close, CloseCode.too_slow, TOO_SLOW))

    def _dispatch(self, leg: Leg, event: DigitPressed | TextTyped | MarkPlayed | Stopped | Begun) -> None:
        match event:
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

    # The leg's wire

    @property
    def stalled(self) -> bool:
        since_s = self._socket.stalled_since_s
        if since_s is None:
            return self._over
        if self._loop.time() - since_s > MAX_STALL_S:
            self.overflowed()
        return True

    def audio(self, frame: Pcm) -> None:
        if not self._over:
            self._socket.send(self._protocol.audio(frame))

    def mark(self, name: str) -> None:
        self._send(self._protocol.mark(name))

    def clear(self) -> None:
        self._send(self._protocol.clear())

    def caption(self, text: str) -> None:
        self._send(self._protocol.caption(text))

    def tell(self, message: str) -> None:
        """These protocols have no place for it."""

    def end(self, cause: str, outcome: str) -> None:
        self._send(self._protocol.ended(cause, outcome))
        self.close(CloseCode.normal, cause)

    def close(self, code: CloseCode, reason: str) -> None:
        if not self._over:
            self._socket.close(CLOSE_NUMBERS[code], reason)
            self._end(goodbye=False)

    def refuse(self, code: CloseCode, reason: str) -> None:
        """Close with an error message, where the protocol has one."""
        self._send(self._protocol.error(code, reason))
        self.close(code, reason)

    def stop(self) -> None:
        self.close(CloseCode.going_away, "the server stops")

    def abort(self) -> None:
        self._end(goodbye=False)
        self._socket.abort()

    def _send(self, message: Message | None) -> None:
        if message is not None and not self._over:
            self._socket.send(message)

    def _end(self, *, goodbye: bool) -> None:
        if self._over:
            return
        self._over = True
        self._timer.cancel()
        self._waiting.close()
        if self._leg is not None:
            self._server.detached(self._leg)
            self._leg.gone(goodbye=goodbye)


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
