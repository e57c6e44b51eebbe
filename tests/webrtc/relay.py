"""A bad network on this machine: a UDP relay between a WebRTC peer and the server that loses and delays audio."""

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

Weather = Callable[[], float | None]
"""For each packet of audio: how many milliseconds late, or None when it is lost."""


def clear() -> float | None:
    return 0.0


def always_lost() -> float | None:
    return None


class Relay:
    """Handshakes and messages pass; audio is subject to the weather, `up` from the peer and `down` to it."""

    def __init__(self) -> None:
        self.up: Weather = clear
        self.down: Weather = clear
        self.cut = False  # nothing passes at all
        self.lost = 0
        self.passed = 0
        self._peer: tuple[str, int] | None = None
        self._near: asyncio.DatagramTransport | None = None
        self._far: asyncio.DatagramTransport | None = None
        self._loop = asyncio.get_running_loop()

    async def through(self, sdp: str) -> str:
        """The answer with this relay in place of the server's first address, and no other candidate."""
        candidates = re.findall(r"a=candidate:\S+ 1 udp \d+ (\d+\.\d+\.\d+\.\d+) (\d+) typ host[^\r\n]*\r\n", sdp)
        host, port = candidates[0]
        self.close()
        self._far, _ = await self._loop.create_datagram_endpoint(
            lambda: _End(self._from_server), remote_addr=(host, port)
        )
        self._near, _ = await self._loop.create_datagram_endpoint(lambda: _End(self._from_peer), local_addr=(host, 0))
        own = self._near.get_extra_info("sockname")[1]
        line = f"a=candidate:relay 1 udp 2130706431 {host} {own} typ host\r\n"
        sdp = re.sub(r"a=candidate:[^\r\n]*\r\n", "", sdp)
        return sdp.replace("a=end-of-candidates\r\n", line + "a=end-of-candidates\r\n")

    def close(self) -> None:
        for transport in (self._near, self._far):
            if transport is not None:
                transport.close()

    def _from_peer(self, data: bytes, address: Any) -> None:
        self._peer = address
        assert self._far is not None
        self._pass(data, self.up, self._far.sendto)

    def _from_server(self, data: bytes, address: Any) -> None:
        near, peer = self._near, self._peer
        if near is not None and peer is not None:
            self._pass(data, self.down, lambda late: near.sendto(late, peer))

    def _pass(self, data: bytes, weather: Weather, send: Callable[[bytes], None]) -> None:
        if self.cut:
            return
        is_audio = 128 <= data[0] <= 191 and not 192 <= data[1] <= 223
        late_ms = weather() if is_audio else 0.0
        if late_ms is None:
            self.lost += 1
            return
        self.passed += is_audio
        if late_ms > 0:
            self._loop.call_later(late_ms / 1000, send, data)
        else:
            send(data)


class _End(asyncio.DatagramProtocol):
    def __init__(self, take: Callable[[bytes, Any], None]) -> None:
        self._take = take

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self._take(data, addr)

    def error_received(self, exc: Exception) -> None:
        """The other end closed its socket: what is in flight is lost, as on any network."""


@asynccontextmanager
async def relay() -> AsyncIterator[Relay]:
    made = Relay()
    try:
        yield made
    finally:
        made.close()
