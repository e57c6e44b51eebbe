"""Trunks: registered where they want that, asked whether they are alive, and let in when they call."""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from media.sip.agent import Agent
from media.sip.auth import Answerer
from media.sip.health import Health
from media.sip.message import Hop
from media.sip.options import Trunk
from media.sip.registration import Registration
from media.sip.resolve import Resolves, Unresolved

RESOLVE_S: Final = 300  # between two looks at where a trunk is
RETRY_S: Final = 30  # after one that found nothing
LEAVE_S: Final = 3  # for the answer when we unregister

log = logging.getLogger("voicegate.sip")


@dataclass(slots=True)
class Line:
    """One trunk as it is now."""

    trunk: Trunk
    hops: Sequence[Hop] = ()
    addresses: frozenset[str] = frozenset()  # of all hops: those of TLS are names
    registration: Registration | None = None
    health: Health | None = None
    left: asyncio.Event = field(default_factory=asyncio.Event)  # unregistered

    @property
    def alive(self) -> bool:
        return bool(self.hops) and (self.health is None or self.health.alive)

    # What registration and health tell

    def registered(self, until_ms: int, now_ms: int) -> None:
        log.info("trunk %s: registered for %d s", self.trunk.name, (until_ms - now_ms) // 1000)

    def failed(self, code: int, reason: str, next_ms: int, now_ms: int) -> None:
        why = f"{code} {reason}" if code else "no answer"
        wait_s = (next_ms - now_ms) // 1000
        log.warning("trunk %s: not registered (%s); tried again in %d s", self.trunk.name, why, wait_s)

    def addressed(self, host: str, port: int, now_ms: int) -> None:
        log.info("trunk %s: it sees us at %s:%d", self.trunk.name, host, port)

    def ended(self, now_ms: int) -> None:
        self.left.set()

    def went_down(self, reason: str, now_ms: int) -> None:
        log.warning("trunk %s: does not answer (%s)", self.trunk.name, reason)

    def came_up(self, now_ms: int) -> None:
        log.info("trunk %s: answers again", self.trunk.name)


class Trunks:
    def __init__(self, agent: Agent, given: Sequence[Trunk], resolver: Resolves) -> None:
        self.lines = [Line(trunk) for trunk in given]
        self._agent = agent
        self._resolver = resolver

    def for_numbers(self) -> Trunk | None:
        """The first that is alive, else the first."""
        found = next((line for line in self.lines if line.alive), None) or next(iter(self.lines), None)
        return found.trunk if found is not None else None

    def at(self, host: str) -> Trunk | None:
        return next((line.trunk for line in self.lines if line.trunk.uri.host.lower() == host.lower()), None)

    def lets_in(self, host: str) -> bool:
        """Whether a call from this address is a trunk's."""
        return any(host in line.addresses for line in self.lines)

    async def run(self, stopping: asyncio.Event) -> None:
        """Until `stopping`; then the registrars are told."""
        async with asyncio.TaskGroup() as group:
            for line in self.lines:
                group.create_task(self._keep(line, stopping))

    async def _keep(self, line: Line, stopping: asyncio.Event) -> None:
        while not stopping.is_set():
            found = await self._find(line)
            try:
                async with asyncio.timeout(RESOLVE_S if found else RETRY_S):
                    await stopping.wait()
            except TimeoutError:
                continue
        await self._leave(line)

    async def _find(self, line: Line) -> bool:
        """Where the trunk is now."""
        try:
            hops = await self._resolver.resolve(line.trunk.uri)
        except Unresolved as error:
            log.warning("trunk %s: %s", line.trunk.name, error)
            return bool(line.hops)
        line.addresses = await self._addresses(line, hops)
        if hops != line.hops:
            line.hops = hops
            self._use(line)
        return True

    async def _addresses(self, line: Line, hops: Sequence[Hop]) -> frozenset[str]:
        """Where calls of the trunk come from. What cannot be looked up now stays as it was."""
        found: set[str] = set()
        for host in dict.fromkeys(hop.host for hop in hops):
            try:
                found.update(await self._resolver.addresses(host))
            except Unresolved as error:
                log.warning("trunk %s: %s", line.trunk.name, error)
                found |= line.addresses
        return frozenset(found)

    def _use(self, line: Line) -> None:
        agent, trunk, now_ms = self._agent, line.trunk, self._agent.now_ms()
        if line.health is None:
            line.health = Health(agent.endpoint, trunk.uri, f"<{trunk.account}>", line.hops[0], line)
            line.health.start(now_ms)
        line.health.hop = line.hops[0]
        if line.registration is not None:
            line.registration.use(line.hops)
        elif trunk.register:
            answerer = Answerer(trunk.credentials) if trunk.credentials is not None else None
            line.registration = Registration(agent.endpoint, trunk.account, line.hops, line, answerer=answerer)
            line.registration.start(now_ms)
        agent.arm()

    async def _leave(self, line: Line) -> None:
        if line.health is not None:
            line.health.stop()
        if line.registration is None:
            return
        line.registration.stop(self._agent.now_ms())
        self._agent.arm()
        try:
            async with asyncio.timeout(LEAVE_S):
                await line.left.wait()
        except TimeoutError:
            log.warning("trunk %s: it was not told that we leave", line.trunk.name)
