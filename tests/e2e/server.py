"""A whole server in this process, on a real socket, with its data in a folder of the test's."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any
from unittest import mock

from app import main
from app.core.effects import AnyEffect, Verdict
from app.core.events import AnyEvent
from app.main import Voicegate
from app.ports import Journal, NoSuchCall, Stt, Tts
from app.providers import scripted
from app.providers.scripted import ScriptedStt, ScriptedTts
from app.runtime.actor import Seen
from app.runtime.replay import replay
from app.served import load_flows
from app.settings import Settings, load_settings
from app.store.sqlite import SqliteStore
from flows.model import Flow

FLOWS = Path(__file__).parent / "flows"
TALK = FLOWS / "talk.yaml"
LECTURE = FLOWS / "lecture.yaml"
PATIENCE_S = 30
QUICK_WORDS_PER_S = 24.0
"""Of the hummed voice: real time, but for somebody in a hurry."""
UNHURRIED: dict[str, Any] = {"drain_s": 0, "max_load": 0, "max_lag_ms": 0}
"""A busy machine is no reason to refuse a test's calls."""


class Server:
    def __init__(self, gate: Voicegate, folder: Path, seen: list[Seen]) -> None:
        self.gate = gate
        self.folder = folder
        self.seen = seen

    @property
    def url(self) -> str:
        return self.gate.url

    def ws(self, path: str) -> str:
        return self.url.replace("http", "ws", 1) + path

    def facts(self, kind: type[AnyEvent], call: str = "") -> list[Any]:
        return [seen.event for seen in self.seen if isinstance(seen.event, kind) and seen.call.startswith(call)]

    def orders(self, kind: type[AnyEffect], call: str = "") -> list[Any]:
        found = (effect for seen in self.seen if seen.call.startswith(call) for effect in seen.effects)
        return [effect for effect in found if isinstance(effect, kind)]

    def verdicts(self, call: str = "") -> list[tuple[str, str, str]]:
        return [(v.tool, v.decision.value, v.rule) for v in self.orders(Verdict, call)]

    async def until(self, true: Any, patience_s: float = PATIENCE_S) -> None:
        """Wait until `true()` is; it is asked every 20 ms."""
        for _ in range(round(patience_s / 0.02)):
            if true():
                return
            await asyncio.sleep(0.02)
        raise TimeoutError

    async def over(self, call: str) -> dict[str, Any]:
        """Waits until this call's record is written, and returns it."""

        def written() -> bool:
            with suppress(NoSuchCall):  # so young that nothing of it is on disk
                return bool(self.journal(call).row.cdr)
            return False

        await self.until(written)
        return dict(json.loads(self.journal(call).row.cdr or b""))

    def journal(self, call: str) -> Journal:
        store = SqliteStore(self.folder / main.JOURNAL_FILE, read_only=True)
        try:
            return store.load(call)
        finally:
            store.close()

    def replayed(self, call: str) -> Any:
        """The call's state, rebuilt from its journal; raises where one decision differs."""
        state = None
        for core, _ in replay(self.journal(call)):
            state = core.state
        assert state is not None
        return state


@asynccontextmanager
async def running(
    folder: Path,
    *,
    flows: Sequence[Path | str] = ("clinic",),
    environment: Mapping[str, str] | None = None,
    stt: Stt | None = None,
    tts: Tts | None = None,
    words_per_s: float = QUICK_WORDS_PER_S,
    **settings: Any,
) -> AsyncIterator[Server]:
    """Scripted speech unless providers are given. Stops at once in the end: live calls are hung up."""
    given: Settings = load_settings(
        {}, port=0, data_dir=folder, flows=[str(flow) for flow in flows], **UNHURRIED | settings
    )
    speech = (stt or ScriptedStt(lambda pcm, hearing: "go on please"), tts or ScriptedTts())
    served: dict[str, Flow] = load_flows(given)
    seen: list[Seen] = []
    ready = asyncio.Event()
    with (
        mock.patch.object(main, "_speech", return_value=speech),
        mock.patch.object(scripted, "WORDS_PER_S", words_per_s),
    ):
        gate = Voicegate(given, served, environment or {}, watch=seen.append)
        async with asyncio.TaskGroup() as group:
            group.create_task(gate.run(lambda url: ready.set()))
            async with asyncio.timeout(PATIENCE_S):
                await ready.wait()
            try:
                yield Server(gate, folder, seen)
            finally:
                gate.stop()
