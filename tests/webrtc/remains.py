"""What is left of legs and calls: what a process has more of than before, and records."""

import asyncio
import gc
from typing import Any, TypeVar

from app.ports import NoSuchCall
from media.clock import Ticker
from media.webrtc.peer import Peer
from media.webrtc.session import Session
from tests.e2e.server import PATIENCE_S, Server

Kind = TypeVar("Kind")


def objects(kind: type[Kind]) -> list[Kind]:
    """All that this process has of it. Proxies are not asked: theirs may be gone."""
    return [each for each in gc.get_objects() if issubclass(type(each), kind)]


class Remains:
    """What a process has more of than before."""

    def __init__(self, server: Server) -> None:
        self._server = server
        gc.collect()
        self._before = self._now()

    def _now(self) -> dict[str, int]:
        return {
            "tasks": len(asyncio.all_tasks()),
            "sockets": sum(not each.is_closing() for each in objects(asyncio.DatagramTransport)),
            "calls": len(self._server.gate.registry),
            "ticked": sum(len(each.all) for each in objects(Ticker)),
            "legs": len(objects(Session)),
            "peers": len(objects(Peer)),
        }

    async def none(self) -> None:
        """Waits for it."""
        for _ in range(PATIENCE_S * 5):
            gc.collect()
            if not self.more():
                return
            await asyncio.sleep(0.2)
        raise AssertionError(self.more())

    def more(self) -> dict[str, int]:
        return {name: count for name, count in self._now().items() if count > self._before[name]}


def live() -> list[Session]:
    """The legs of servers in this process."""
    return [each for each in objects(Session) if isinstance(each.peer, Peer) and not each.over]


async def ended(server: Server, call: str) -> dict[str, Any]:
    """The record of a call that may be so young that nothing of it is written yet."""

    def known() -> bool:
        try:
            server.journal(call)
        except NoSuchCall:
            return False
        return True

    await server.until(known)
    return await server.over(call)
