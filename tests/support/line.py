"""A WebSocket without a network: a transport under `media.websocket.socket.Socket`, and a client's frames."""

import asyncio

from media.websocket.socket import Socket

MASK = b"\x11\x52\x93\xd4"


class Line(asyncio.Transport):
    """A transport that only remembers; `waits_bytes` is what its peer has not read."""

    def __init__(self) -> None:
        super().__init__()
        self.sent: list[bytes] = []
        self.waits_bytes = 0
        self.reads = True
        self.over = asyncio.Event()
        self.protocol: Socket

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        assert isinstance(protocol, Socket)
        self.protocol = protocol

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self.high_bytes = high or 0

    def get_write_buffer_size(self) -> int:
        return self.waits_bytes

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.sent.append(bytes(data))
        if not self.reads:
            before, self.waits_bytes = self.waits_bytes, self.waits_bytes + len(data)
            if before <= self.high_bytes < self.waits_bytes:
                self.protocol.pause_writing()

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    def is_closing(self) -> bool:
        return self.over.is_set()

    def close(self) -> None:
        if self.reads:
            self.abort()

    def abort(self) -> None:
        if not self.over.is_set():
            self.over.set()
            self.protocol.connection_lost(None)

    def say(self, text: str) -> None:
        self.protocol.data_received(sent(0x81, text.encode()))


def sent(
    first: int, payload: bytes = b"", mask: bytes = MASK, *, masked: bool = True, size: int | None = None
) -> bytes:
    """A client's frame; `size` is what it claims to have."""
    size = len(payload) if size is None else size
    bit = 0x80 if masked else 0
    if size < 126:
        head = bytes((first, bit | size))
    elif size < 1 << 16:
        head = bytes((first, bit | 126)) + size.to_bytes(2)
    else:
        head = bytes((first, bit | 127)) + size.to_bytes(8)
    if not masked:
        return head + payload
    return head + mask + bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload))
