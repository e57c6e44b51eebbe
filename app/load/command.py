"""What `voicegate load` does once its options are read: a run or a search, shown as it goes on, that Ctrl-C ends."""

import asyncio
import signal
from collections.abc import Sequence
from dataclasses import replace

from rich.console import Console
from rich.markup import escape

from app.load import capacity, figures, limits
from app.load.capacity import SETTLE_S
from app.load.figures import Condition
from app.load.live import Drawn, Lines, Silent, View
from app.load.record import Probe, Record
from app.load.run import Plan, Run

ENDING = "ending all calls; Ctrl-C once more quits at once"


class Command:
    """`run` once, on the main thread's loop."""

    def __init__(self, plan: Plan, asked: Sequence[Condition], out: Console, *, most: int = 0, quiet: bool = False):
        """With `most`, as many calls are looked for as hold what was asked."""
        self._plan = plan
        self._asked = asked
        self._out = out
        self._most = most
        self._quiet = quiet
        self._run: Run | None = None
        self._view: View | None = None
        self._task: asyncio.Task[Record] | None = None
        self._stopping = False

    async def run(self) -> Record:
        """Raises `CannotRun`; `CancelledError` where Ctrl-C was pressed twice."""
        loop = asyncio.get_running_loop()
        self._task = asyncio.current_task()
        signals = (signal.SIGINT, signal.SIGTERM)
        for number in signals:
            loop.add_signal_handler(number, self._interrupted)
        try:
            if not self._most:
                record = await self._play(self._plan)
                record.judged = limits.judge(figures.metrics(record), self._asked)
                return record
            return await capacity.find(
                self._probe, self._asked, first=self._plan.calls, most=self._most, told=self._tell
            )
        finally:
            for number in signals:
                loop.remove_signal_handler(number)

    async def _play(self, plan: Plan) -> Record:
        with self._shown(plan) as view:
            self._view = view
            self._run = Run(plan, view.moment)
            if self._stopping:
                self._run.stop()
            return await self._run.run()

    async def _probe(self, calls: int) -> Record:
        """They are held long enough for all of them to be up for the time that was asked."""
        plan = self._plan
        if self._run is not None:
            plan = replace(plan, empty_bytes=self._run.empty_bytes)
            await asyncio.sleep(SETTLE_S)
        return await self._play(replace(plan, calls=calls, hold_s=plan.hold_s + calls / plan.ramp_per_s))

    def _tell(self, probe: Probe) -> None:
        if probe.held:
            self._out.print(f"[green]{probe.calls} calls[/]: all limits held", soft_wrap=True)
        else:
            self._out.print(f"[red]{probe.calls} calls[/]: {escape('; '.join(probe.broken))}", soft_wrap=True)

    def _shown(self, plan: Plan) -> View:
        if self._quiet:
            return Silent()
        if not self._out.is_terminal:
            return Lines(self._out, plan.calls)
        return Drawn(self._out, f"{plan.calls} calls of {', '.join(plan.names)}", plan.calls)

    def _interrupted(self) -> None:
        if self._stopping and self._task is not None:
            self._task.cancel()
        self._stopping = True
        if self._run is not None:
            self._run.stop()
        if self._view is not None:
            self._view.note(ENDING)
