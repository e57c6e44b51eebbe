"""The user agent as it runs: the endpoint, with the sockets, the alarm, the tasks and the guard that it needs."""

import asyncio
import logging
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any

from media.sip import message as sip
from media.sip.addresses import OwnAddresses
from media.sip.endpoint import Endpoint, EndpointListener
from media.sip.guard import Guard, Trust
from media.sip.message import Hop, MessageError
from media.sip.options import SipOptions
from media.sip.resolve import Resolves
from media.sip.transport import Transport

log = logging.getLogger("voicegate.sip")


class Agent:
    """Whoever tells its endpoint something calls `arm` afterwards."""

    def __init__(self, options: SipOptions, guard: Guard, resolver: Resolves, listener: EndpointListener) -> None:
        self.options = options
        self.guard = guard
        self.endpoint = Endpoint(self, listener)
        self.transport = Transport(self, options, resolver)
        self.stop_asked = asyncio.Event()
        self._addresses = OwnAddresses(options)
        self._group: asyncio.TaskGroup | None = None
        self._alarm: asyncio.TimerHandle | None = None
        self._alarm_ms = 0
        self._closed = False

    # Its tasks

    @asynccontextmanager
    async def working(self) -> AsyncIterator[asyncio.TaskGroup]:
        """As long as this is entered there is room for work; leaving it waits until all of it is done."""
        async with asyncio.TaskGroup() as self._group:
            yield self._group
        self._group = None

    @property
    def stopping(self) -> bool:
        return self._group is None or self.stop_asked.is_set()

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        if self._group is None:
            work.close()
        else:
            self._group.create_task(_alone(work), name="sip")

    def close(self) -> None:
        self._closed = True
        if self._alarm is not None:
            self._alarm.cancel()
        self.transport.close()

    # What comes (for the sockets)

    def received(self, data: bytes, hop: Hop) -> bool:
        """False: this source is not to be listened to any more."""
        now_ms = self.now_ms()
        ours = hop.reliable and self.transport.streams.opened(hop.connection)  # whom we connected to may answer
        if not ours and self.guard.admits(hop.host, now_ms, stream=hop.reliable) is Trust.dropped:
            return False
        try:
            message = sip.parse(data)
        except MessageError as error:
            self.offended(hop)
            if self.guard.allows(hop.host):
                self.endpoint.malformed(error, hop)
            return True
        self.endpoint.receive(message, hop, now_ms)
        self.arm()
        return True

    def offended(self, hop: Hop) -> None:
        self.guard.offended(hop.host, self.now_ms(), stream=hop.reliable)

    def welcomes(self, host: str) -> Trust:
        """For a new stream, before anything is read of it."""
        return self.guard.welcomes(host, self.now_ms())

    def failed(self, hop: Hop) -> None:
        """No stream to this hop comes about, or it broke."""
        self.endpoint.failed(hop, self.now_ms())
        self.arm()

    # What goes (for the endpoint)

    def send(self, hop: Hop, data: bytes) -> None:
        self.transport.send(hop, data)
        self.arm()

    def local(self, hop: Hop) -> tuple[str, int]:
        port = self.transport.tls_port if hop.transport == "tls" else self.transport.port
        return self.local_host(hop.host), port

    def local_host(self, peer: str) -> str:
        """Our address as the peer knows it."""
        return self._addresses.toward(peer)

    # Its alarm

    def now_ms(self) -> int:
        return int(asyncio.get_running_loop().time() * 1000)

    def arm(self) -> None:
        """One alarm, for the earliest deadline."""
        due_ms = self.endpoint.deadline_ms
        if due_ms is None or self._closed or (self._alarm is not None and self._alarm_ms <= due_ms):
            return
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm_ms = due_ms
        self._alarm = asyncio.get_running_loop().call_at(due_ms / 1000 + 0.001, self._ring)

    def _ring(self) -> None:
        self._alarm = None
        self.endpoint.tick(self.now_ms())
        self.arm()


async def _alone(work: Coroutine[Any, Any, None]) -> None:
    """Nothing that goes wrong for one peer ends the server for all."""
    try:
        await work
    except Exception as error:  # noqa: BLE001  # ours, and it ends this piece of work only
        log.error("a SIP task failed: %s", type(error).__name__)
