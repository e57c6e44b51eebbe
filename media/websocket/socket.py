"""One open WebSocket: an asyncio protocol between a transport and whoever listens. No task, queue or lock.

A message is handed on as it arrives, and what is sent goes to the transport at once. A peer that does not read fills
the transport's buffer, which is what `stalled_since_s` and `MAX_UNSENT_BYTES` go by.
"""

import asyncio
from typing import Final, Protocol

from media.websocket import frames
from media.websocket.frames import FrameError, FrameReader, Message
from media.websocket.protocol import CLOSE_NUMBERS, MAX_MESSAGE_BYTES, Allowance, ProtocolError

PING_S: Final = 20  # a peer that was silent for so long is asked, and after as long again is gone
CLOSE_TIMEOUT_S: Final = 5  # for the peer to read the rest and to close as well
STALLED_BYTES: Final = 16 * 1024  # wait in the transport's buffer: the peer does not read
MAX_UNSENT_BYTES: Final = 256 * 1024
FRAMES_PER_S: Final = 1000  # pings and parts of messages included
FRAMES_BURST: Final = 5000
FRAMES_AT_ONCE: Final = 50  # are counted together


class Listener(Protocol):
    def received(self, message: Message) -> None: ...

    def closed(self, code: int) -> None:
        """By the peer, by its errors, or `frames.BROKEN`. Exactly once, unless `Socket.close` came before."""
        ...

    def lost(self) -> None:
        """The connection is gone; always the last."""
        ...

    def overflowed(self) -> None:
        """More than `MAX_UNSENT_BYTES` wait for the peer to read: it should be closed. Called from within `send`."""
        ...


class Socket(asyncio.Protocol):
    """`attach` it to a transport whose handshake is over.

    It limits frames that do not come as whole messages: what is no message yet, or never will be, keeps the loop as
    busy. Messages are its listener's to limit.
    """

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self._loop = asyncio.get_running_loop()
        self._reader = FrameReader(MAX_MESSAGE_BYTES)
        self._allowance = Allowance(FRAMES_PER_S, FRAMES_BURST)
        self._uncounted = 0  # frames
        self._heard = True  # from the peer, since the last ping
        self._held = False
        self._over = False  # a close frame came or went, or the connection is gone
        self.stalled_since_s: float | None = None  # the peer does not read what it is sent; by the loop's clock

    def attach(self, transport: asyncio.Transport, data: bytes = b"") -> None:
        """`data` came right after the handshake."""
        self._transport = transport
        transport.set_write_buffer_limits(high=STALLED_BYTES)
        self._timer = self._loop.call_later(PING_S, self._ping)
        transport.set_protocol(self)
        if data:
            self.data_received(data)

    # Orders

    def send(self, message: Message) -> None:
        if not self._over:
            self._transport.write(frames.message(message))
            if self.stalled_since_s is not None and self._transport.get_write_buffer_size() > MAX_UNSENT_BYTES:
                self._listener.overflowed()

    def hold(self) -> None:
        """Nothing more is handed on, nor read, until `go_on`."""
        self._held = True
        self._transport.pause_reading()

    def go_on(self) -> None:
        if self._held and not self._transport.is_closing():
            self._held = False
            self._transport.resume_reading()
            self.data_received(b"")

    def close(self, code: int, reason: str = "") -> None:
        """The closing handshake (RFC 6455, 7.1.2). Whoever does not answer it in time is dropped."""
        if self._over:
            return
        self._over = True
        self._transport.write(frames.close(code, reason))
        self._timer.cancel()
        self._timer = self._loop.call_later(CLOSE_TIMEOUT_S, self._transport.abort)
        self.go_on()

    def abort(self) -> None:
        self._transport.abort()

    # The transport's side

    def data_received(self, data: bytes) -> None:
        self._heard = True
        try:
            if not self._over and not self._held and (message := self._reader.whole(data)) is not None:
                self._listener.received(message)
                return
            for frame in self._reader.read(data):
                self._uncounted += 1
                if self._uncounted == FRAMES_AT_ONCE:
                    self._uncounted = 0
                    self._allowance.take(int(self._loop.time() * 1000), FRAMES_AT_ONCE)
                if isinstance(frame, frames.Control):
                    self._control(frame)
                elif not self._over:
                    self._listener.received(frame)
                if self._held:
                    return
        except FrameError as error:
            self._fail(error.code, error.reason)
        except ProtocolError as error:
            self._fail(CLOSE_NUMBERS[error.code], error.reason)

    def pause_writing(self) -> None:
        self.stalled_since_s = self._loop.time()

    def resume_writing(self) -> None:
        self.stalled_since_s = None

    def connection_lost(self, error: Exception | None) -> None:
        self._timer.cancel()
        if not self._over:
            self._over = True
            self._listener.closed(frames.BROKEN)
        self._listener.lost()

    def _control(self, frame: frames.Control) -> None:
        if frame.opcode == frames.PING and not self._over and self.stalled_since_s is None:
            self._transport.write(frames.frame(frames.PONG, frame.payload))
        elif frame.opcode == frames.CLOSE:
            code = frames.close_code(frame.payload)
            if not self._over:
                self._over = True
                self._transport.write(frames.frame(frames.CLOSE, frame.payload[:2]))
                self._listener.closed(code)
            self._finish()

    def _fail(self, code: int, reason: str) -> None:
        """RFC 6455, 7.1.7: nothing that comes after is read."""
        if not self._over:
            self._over = True
            self._transport.write(frames.close(code, reason))
            self._listener.closed(code)
        self._finish()

    def _finish(self) -> None:
        """Close once the rest has been sent, and that within its time."""
        self._held = True
        self._timer.cancel()
        self._timer = self._loop.call_later(CLOSE_TIMEOUT_S, self._transport.abort)
        self._transport.close()

    def _ping(self) -> None:
        if not self._heard:
            self._transport.abort()
            return
        self._heard = False
        self._transport.write(frames.frame(frames.PING, b""))
        self._timer = self._loop.call_later(PING_S, self._ping)
