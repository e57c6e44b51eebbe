"""The tool job: write ahead, check again, act, tell. The journal is durable before the world is touched."""

import asyncio
from collections.abc import Callable

from app.core.effects import AllowTool
from app.core.events import AnyEvent, OnceUsed, ToolEnded, ToolOutcome, ToolReady, WriteAheadFailed
from app.ports import Fault, ProviderError, StoreError, ToolFailed, Tools, ToolUnknown, Written
from app.runtime.journal import CallJournal
from flows.model import Flow

Post = Callable[[AnyEvent], None]
Spawn = Callable[..., "asyncio.Task[None]"]


class ToolJobs:
    """One call's tools between `AllowTool` and `ToolEnded`."""

    def __init__(self, flow: Flow, journal: CallJournal, tools: Tools, spawn: Spawn, post: Post) -> None:
        self._flow = flow
        self._journal = journal
        self._tools = tools
        self._spawn = spawn
        self._post = post
        self._allowed: dict[int, AllowTool] = {}
        self._jobs: dict[int, asyncio.Task[None]] = {}

    @property
    def busy(self) -> bool:
        return any(not job.done() for job in self._jobs.values())

    def allow(self, order: AllowTool) -> None:
        """The write-ahead barrier: its record durable, its `once` key reserved in the same transaction."""
        self._allowed[order.n] = order
        self._jobs[order.n] = self._spawn(self._write_ahead(order))

    def start(self, n: int) -> None:
        """The core's second check has passed in this very tick."""
        order = self._allowed.pop(n)
        self._jobs[n] = self._spawn(self._act(order))

    def withdraw(self, n: int) -> None:
        order = self._allowed.pop(n, None)
        job = self._jobs.pop(n, None)
        if job is not None:
            job.cancel()
        if order is not None and order.once:
            self._journal.release(n)

    def cancel(self, n: int) -> None:
        """A read that nobody waits for."""
        job = self._jobs.get(n)
        if job is not None:
            job.cancel()

    def close(self) -> None:
        """The call is over. The core has waited for whatever could have an effect, or has given it up as unknown."""
        for job in self._jobs.values():
            job.cancel()

    async def _write_ahead(self, order: AllowTool) -> None:
        try:
            written = await self._journal.flush(order.n, order.once)
        except StoreError:
            self._post(WriteAheadFailed(order.n))
            return
        match written:
            case Written.ok:
                self._post(ToolReady(order.n))
            case Written.conflict:
                self._post(OnceUsed(order.n))
            case Written.stale | Written.gap:
                self._post(WriteAheadFailed(order.n))

    async def _act(self, order: AllowTool) -> None:
        tool = self._flow.tools[order.tool]
        if not self._journal.lease_held():
            self._ended(order, ToolEnded(order.n, ToolOutcome.failed, reason="lease"))
            return
        try:
            # No await may stand between the lease check and this call: its first byte is the effect.
            result = await self._tools.run(self._flow, tool, order.arguments, order.key)
        except asyncio.CancelledError:
            outcome = ToolOutcome.failed if tool.effect == "read" else ToolOutcome.unknown
            self._ended(order, ToolEnded(order.n, outcome, reason="cancelled"))
            raise
        except ToolFailed as error:
            self._ended(order, ToolEnded(order.n, ToolOutcome.failed, reason=error.fault))
        except ToolUnknown as error:
            self._ended(order, ToolEnded(order.n, ToolOutcome.unknown, reason=error.fault))
        except ProviderError as error:
            self._ended(order, ToolEnded(order.n, ToolOutcome.unknown, reason=error.fault))
        except Exception:
            self._ended(order, ToolEnded(order.n, ToolOutcome.unknown, reason=Fault.broken))
            raise
        else:
            self._ended(order, ToolEnded(order.n, ToolOutcome.done, result))

    def _ended(self, order: AllowTool, event: ToolEnded) -> None:
        if order.once and event.outcome is ToolOutcome.failed:
            self._journal.release(order.n)
        self._post(event)
