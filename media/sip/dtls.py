"""The DTLS handshake of a leg without ICE (RFC 5763): what comes by its socket goes in, keys come out."""

import asyncio
from collections.abc import Callable

from media.dtls import MAX_QUEUED, Certificate, Dtls, HandshakeError
from media.srtp import Srtp


def is_dtls(data: bytes) -> bool:
    """Told by the first byte (RFC 7983, 7)."""
    return len(data) > 0 and 20 <= data[0] <= 63


class Handshake:
    """One association: `keys` once, then `close` in any case. Lost datagrams are sent again by DTLS's own timer."""

    def __init__(
        self, identity: Certificate, fingerprint: tuple[str, str], *, active: bool, send: Callable[[bytes], None]
    ) -> None:
        """`fingerprint`: of the peer's certificate, algorithm and value. `active`: we begin."""
        self._way = _Way(send)
        self._fingerprint = fingerprint
        self._dtls = Dtls(identity, self._way, active=active)

    def received(self, data: bytes) -> None:
        """Also before `keys` and after it. What is no DTLS is passed over, as is what nobody comes to read."""
        if is_dtls(data):
            self._way.put(data)

    async def keys(self, timeout_s: float) -> Srtp:
        """Raises `media.dtls.HandshakeError`: no agreement, not this peer, too late, or closed meanwhile."""
        try:
            async with asyncio.timeout(timeout_s):
                return await self._dtls.handshake([self._fingerprint])
        except TimeoutError:
            raise HandshakeError(f"the DTLS handshake failed: not done within {timeout_s:g} s") from None

    async def close(self) -> None:
        """Tells the peer where there were keys. Never waits."""
        await self._dtls.stop()
        self._way.close()


class _Way:
    """See `media.dtls.Way`."""

    def __init__(self, send: Callable[[bytes], None]) -> None:
        self._send = send
        self._came: asyncio.Queue[bytes] = asyncio.Queue()
        self._closed = False

    def put(self, data: bytes) -> None:
        if self._came.qsize() < MAX_QUEUED:
            self._came.put_nowait(data)

    def close(self) -> None:
        self._closed = True
        self._came.put_nowait(b"")  # whoever waits looks again

    async def recv(self) -> bytes:
        data = await self._came.get() if not self._closed else b""
        if self._closed:
            raise ConnectionError("closed")
        return data

    async def send(self, data: bytes) -> None:
        if self._closed:
            raise ConnectionError("closed")
        self._send(data)
