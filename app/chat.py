"""The same flow, typed: `voicegate chat FLOW`. No audio, the same core, gate, tools and journal."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import aclosing

from app.core.codec import CORE_VERSION, KEY_BYTES, CallHeader
from app.core.core import CallCore
from app.core.events import CallerHungUp, CallStarted, Digit, TextReceived
from app.core.request import Hearing
from app.core.state import Phase
from app.main import SystemClock, Voicegate
from app.runtime.actor import CallActor, Watch
from app.runtime.journal import CallJournal, JournalWriter
from app.runtime.speech import Typed
from app.settings import Settings
from app.store.memory import MemoryStore
from flows import load
from flows.model import Flow

LEG = "terminal"
POLL_MS = 20
MAX_REST_MS = 60_000
HANGUP_WORDS = ("/quit", "/hangup")


class NoEar:
    def expect(self, hearing: Hearing) -> None:
        pass

    def close(self) -> None:
        pass


async def chat(
    settings: Settings,
    flow: Flow,
    environment: Mapping[str, str],
    lines: AsyncIterator[str],
    show: Callable[[str], None],
    watch: Watch,
    *,
    paced: bool = False,
) -> CallActor:
    """One typed call. A line of digits (with # and *) is keyed, any other is said; the end of `lines` hangs up.

    Where it is `paced`, each line waits until the agent has nothing more to say or to do.
    """
    clock = SystemClock()
    server = Voicegate(settings, {flow.name: flow}, environment)
    writer = JournalWriter(MemoryStore())
    call = secrets.token_hex(8)
    header = CallHeader(call, flow.name, load.flow_hash(flow), CORE_VERSION, 1, clock.wall_iso())
    journal = CallJournal(writer, header, load.flow_bytes(flow), secrets.token_bytes(KEY_BYTES))
    async with server.engines() as (llms, tools):
        actor = CallActor(CallCore(flow, call), journal, llms=llms, tools=tools, clock=clock, watch=watch)
        actor.attach(Typed(show, actor.post), NoEar())
        actor.post(CallStarted(LEG, "text"))
        async with asyncio.TaskGroup() as group:
            reader = group.create_task(_read(actor, lines, paced=paced))
            await actor.run()
            reader.cancel()
    await writer.close()
    return actor


async def _read(actor: CallActor, lines: AsyncIterator[str], *, paced: bool) -> None:
    async with aclosing(lines) as typed:  # type: ignore[type-var]  # generators close, other iterators need not
        async for line in typed:
            text = line.strip()
            if paced:
                await _at_rest(actor)
            if text in HANGUP_WORDS:
                break
            if text and set(text) <= set("0123456789*#"):
                for digit in text:
                    actor.post(Digit(digit))
            elif text:
                actor.post(TextReceived(text))
            if actor.core.state.phase is Phase.ended:
                return
    if paced:
        await _at_rest(actor)
    actor.post(CallerHungUp(LEG))


async def _at_rest(actor: CallActor) -> None:
    for _ in range(MAX_REST_MS // POLL_MS):
        await asyncio.sleep(POLL_MS / 1000)
        if actor.at_rest:
            return
