"""A whole run: worker processes that call, what they tell put together, and an end in good order, whatever happens."""

import asyncio
import math
import os
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, assert_never

import msgspec
from msgspec import Struct

from app.load import machine, orders, record, words
from app.load.dial import Dial, shown
from app.load.orders import Done, Failed, FromWorker, Go, Job, Progress, Ready, Stop, ToWorker, framed
from app.load.record import Record, Tape
from app.load.results import CallResult, Measure, RunResult, Sample, merged
from app.load.server import Watch
from app.load.tape import file_name
from app.load.tell import NO_FIGURES
from app.load.worst import worst

PREPARE_S: Final = 180.0  # for a worker to make its sounds
SILENT_S: Final = 20.0  # a worker that tells nothing for so long is given up
STOP_S: Final = 20.0  # for all calls to be hung up
OVERTIME_S: Final = 900.0  # a call may last so much longer than it is held: scenarios end when they end
SAMPLE_S: Final = 1.0
LEAD_S: Final = 0.1  # from the order to begin to the first call
MAX_LAST_WORDS: Final = 4096  # bytes of what a worker says to standard error
MAX_PROCESSES: Final = 64
MAX_ASKED: Final = 200  # calls of which the server is asked what it understood


class CannotRun(Exception):
    """Nothing was measured: the address, a sound, or this machine. `str()` says what."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    dial: Dial
    scenarios: tuple[Path, ...]
    names: tuple[str, ...]  # of the scenarios
    calls: int
    ramp_per_s: float
    hold_s: float
    processes: int = 1
    seed: int = 0
    tapes: int = 0  # the worst calls whose sound is kept
    folder: Path | None = None  # for it
    cache: Path | None = None  # for words, from run to run
    server: str = ""  # the HTTP side of the server, where it may be one of ours
    server_named: bool = False  # somebody says that it is
    empty_bytes: float = 0.0  # the server's memory before the first of several runs; 0: this is the first
    words: bool = False  # the server is asked what it understood
    options: tuple[tuple[str, str], ...] = ()  # as asked for


class Moment(Struct, frozen=True):
    """How the run goes, once a second. Counts are since the beginning; `measures` are since the moment before."""

    at_s: float
    begun: int
    up: int
    over: int
    per_s: float  # calls begun, just now
    frames: int
    late: int
    own: int
    errors: dict[str, int]
    measures: list[Measure]
    cpu_share: float  # of one core, by all testers
    server: dict[str, float]


Told = Callable[[Moment], None]


class _Worker:
    """One process, as far as it has told."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.process: Process | None = None
        self.ready = False
        self.over = False  # whatever the reason
        self.failed = ""
        self.lost = ""
        self.progress = Progress()
        self.calls: list[CallResult] = []
        self.fresh: list[Measure] = []
        self.done: Done | None = None
        self.told_s = time.perf_counter()
        self.last_words = b""

    def say(self, message: ToWorker) -> None:
        if self.process is not None and self.process.stdin is not None and not self.over:
            self.process.stdin.write(framed(message))

    def kill(self) -> None:
        if self.process is not None and self.process.returncode is None:
            with suppress(ProcessLookupError):
                self.process.kill()

    def heard(self, message: FromWorker) -> None:
        self.told_s = time.perf_counter()
        match message:
            case Ready():
                self.ready = True
            case Failed():
                self.failed = message.reason
            case Progress():
                self.progress = message
                self.calls += message.calls
                self.fresh += message.measures
            case Done():
                self.done = message
            case _:
                assert_never(message)


class Run:
    """`run` once. `stop` may be called at any time: calls are hung up, and what was measured is told."""

    def __init__(self, plan: Plan, told: Told = lambda moment: None) -> None:
        self.stopped = False
        self._plan = plan
        self._told = told
        self._workers = [_Worker(job) for job in _jobs(plan)]
        self._news = asyncio.Event()
        self._watch = _watch(plan) if plan.server else None
        self._origin_s = 0.0
        self._began = ""
        self._begun = 0
        self._cpu_ms = 0.0
        self._late_ms = 0.0
        self._own_cpu_s = 0.0
        self._samples: list[Sample] = []
        self._overtime = False

    def stop(self) -> None:
        self.stopped = True
        self._news.set()

    @property
    def empty_bytes(self) -> float:
        """The server's memory before any calls; 0 where it is not known."""
        return self._watch.empty_bytes if self._watch is not None else 0.0

    async def run(self) -> Record:
        """Raises `CannotRun`. Cancelling kills the workers at once."""
        trouble = ""
        async with asyncio.TaskGroup() as group:
            try:
                trouble = await self._prepare(group)
                if not trouble and not self.stopped:
                    await self._calls(group)
            finally:
                for worker in self._workers:
                    worker.kill()
        if trouble:
            raise CannotRun(trouble)
        return self._record()

    # Before the first call

    async def _prepare(self, group: asyncio.TaskGroup) -> str:
        """The first alone: the others find its words in the cache. Returns what stands in the way of the run."""
        first, *others = self._workers
        try:
            await self._start(first, group)
            await self._until(lambda: first.ready or first.over, PREPARE_S)
            for worker in others:
                if not self.stopped and first.ready:
                    await self._start(worker, group)
        except OSError as error:
            return f"no process of callers can be started: {error.strerror}"
        if first.ready:
            await self._until(lambda: all(one.ready or one.over for one in self._workers), PREPARE_S)
        for worker in self._workers:
            if worker.failed or worker.lost:
                return worker.failed or worker.lost
        if not self.stopped and not all(worker.ready for worker in self._workers):
            return f"the callers were not ready within {PREPARE_S:g} s"
        return ""

    async def _start(self, worker: _Worker, group: asyncio.TaskGroup) -> None:
        worker.process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "app.load.worker",
            stdin=PIPE,
            stdout=PIPE,
            stderr=PIPE,
            start_new_session=True,  # Ctrl-C is for us alone
        )
        worker.say(worker.job)
        worker.told_s = time.perf_counter()
        group.create_task(self._attend(worker, worker.process))

    async def _attend(self, worker: _Worker, process: Process) -> None:
        """Until it is gone."""
        assert process.stdout is not None
        assert process.stderr is not None
        decoder = msgspec.msgpack.Decoder(FromWorker)
        async with asyncio.TaskGroup() as group:
            group.create_task(_last_words(worker, process.stderr))
            try:
                while (message := await orders.receive(process.stdout, decoder)) is not None:
                    worker.heard(message)
                    if not isinstance(message, Progress):
                        self._news.set()
            except msgspec.DecodeError:
                worker.kill()
            status = await process.wait()
        if worker.done is None and not worker.failed and not worker.lost:
            how = f"signal {-status}" if status < 0 else f"status {status}"
            words = worker.last_words.decode("utf-8", errors="replace").strip().rpartition("\n")[2]
            worker.lost = f"{self._name(worker)} died ({how})" + (f": {words}" if words else "")
        worker.over = True
        self._news.set()

    def _name(self, worker: _Worker) -> str:
        return f"process {self._workers.index(worker) + 1} of {len(self._workers)} of the callers"

    # While there are calls

    async def _calls(self, group: asyncio.TaskGroup) -> None:
        if self._watch is not None:
            await self._watch.begin()
        self._began = datetime.now(UTC).isoformat(timespec="seconds")
        self._own_cpu_s = time.process_time()
        self._origin_s = time.perf_counter() + LEAD_S
        for worker in self._workers:
            worker.say(Go(self._origin_s))
        beside = [group.create_task(self._tell())]
        if self._watch is not None:
            beside.append(group.create_task(self._watch.run(self._origin_s)))
        plan = self._plan
        await self._until(
            lambda: all(one.over for one in self._workers) or self._is_broken(),
            plan.calls / plan.ramp_per_s + plan.hold_s + OVERTIME_S,
        )
        if not all(worker.over for worker in self._workers):
            self._overtime = not self.stopped and not self._is_broken()
            await self._hang_up()
        for task in beside:
            task.cancel()
        self._moment()
        if self._watch is not None:
            calls = [call for worker in self._workers for call in worker.calls]
            await self._watch.end(self._origin_s, sum(call.talked_s for call in calls), record.peak(calls))
            if plan.words and not self.stopped:
                await self._count_words(self._watch, calls)

    async def _count_words(self, watch: Watch, calls: Sequence[CallResult]) -> None:
        """One call after another: reading its records costs the server as much as the call's decisions did."""
        spoken = [call for call in calls if call.call and call.said]
        for call in spoken[:MAX_ASKED]:
            if (understood := await watch.understood(call.call)) is not None:
                call.lost_words, call.words = words.lost(call.said, understood)

    def _is_broken(self) -> bool:
        return any(worker.lost or worker.failed for worker in self._workers)

    async def _hang_up(self) -> None:
        for worker in self._workers:
            worker.say(Stop())
        await self._until(lambda: all(one.over for one in self._workers), STOP_S, though_stopped=True)
        for worker in self._workers:
            if not worker.over:
                worker.lost = worker.lost or f"{self._name(worker)} did not end within {STOP_S:g} s"

    async def _until(self, true: Callable[[], bool], patience_s: float, *, though_stopped: bool = False) -> None:
        """Or until we are to stop, or the patience is over."""
        deadline_s = time.perf_counter() + patience_s
        while not true() and (though_stopped or not self.stopped):
            self._news.clear()
            left_s = deadline_s - time.perf_counter()
            if left_s <= 0:
                return
            with suppress(TimeoutError):
                async with asyncio.timeout(min(left_s, SAMPLE_S)):
                    await self._news.wait()

    async def _tell(self) -> None:
        due_s = self._origin_s
        while True:
            due_s = max(due_s + SAMPLE_S, time.perf_counter())  # moments that were missed are not made up for
            await asyncio.sleep(due_s - time.perf_counter())
            self._moment()
            for worker in self._workers:
                if not worker.over and time.perf_counter() - worker.told_s > SILENT_S:
                    worker.lost = f"{self._name(worker)} hung, and was ended"
                    worker.kill()

    def _moment(self) -> None:
        parts = [worker.progress for worker in self._workers]
        at_s = time.perf_counter() - self._origin_s
        before_s = self._samples[-1].at_s if self._samples else 0.0
        passed_s = max(at_s - before_s, 0.001)
        begun = sum(part.begun for part in parts)
        cpu_ms, late_ms = sum(part.cpu_ms for part in parts), sum(part.late_ms for part in parts)
        errors: dict[str, int] = {}
        for part in parts:
            for kind, count in part.errors.items():
                errors[kind] = errors.get(kind, 0) + count
        measures = [one for worker in self._workers for one in worker.fresh]
        for worker in self._workers:
            worker.fresh = []
        moment = Moment(
            at_s=at_s,
            begun=begun,
            up=sum(0 if worker.over else worker.progress.up for worker in self._workers),
            over=sum(part.over for part in parts),
            per_s=(begun - self._begun) / passed_s,
            frames=sum(part.frames for part in parts),
            late=sum(part.late for part in parts),
            own=sum(part.own for part in parts),
            errors=errors,
            measures=measures,
            cpu_share=(cpu_ms - self._cpu_ms) / 1000 / passed_s,
            server=self._watch.latest if self._watch is not None else {},
        )
        values = {
            "calls": float(moment.up),
            "begun_per_s": moment.per_s,
            "cpu_share": moment.cpu_share,
            "late_ms": late_ms - self._late_ms,
        }
        self._samples.append(Sample(round(at_s, 2), {name: round(value, 3) for name, value in values.items()}))
        self._begun, self._cpu_ms, self._late_ms = begun, cpu_ms, late_ms
        self._told(moment)

    # After the last

    def _record(self) -> Record:
        own_cpu_ms = (time.process_time() - self._own_cpu_s) * 1000 if self._own_cpu_s else 0.0
        parts = [self._part(worker) for worker in self._workers]
        made = record.record_of(merged(parts))
        made.seconds = round(max(0.0, time.perf_counter() - self._origin_s), 1) if self._origin_s else 0.0
        made.tester_cpu_ms = round(made.tester_cpu_ms + own_cpu_ms, 1)
        made.peak_calls = record.peak(made.calls)
        made.tester = self._samples
        made.server = self._watch.samples if self._watch is not None else []
        made.stopped = self.stopped
        if self._origin_s:  # else a stop killed them while they prepared
            made.troubles = [worker.lost or worker.failed for worker in self._workers if worker.lost or worker.failed]
        if self._overtime:
            made.troubles.append(f"calls lasted {OVERTIME_S:g} s longer than they were held, and were ended")
        if self._watch is not None and self._watch.trouble:
            made.options[NO_FIGURES] = self._watch.trouble
        self._keep_tapes(made)
        return made

    def _part(self, worker: _Worker) -> RunResult:
        return RunResult(
            address=shown(self._plan.dial.address),
            scenarios=list(self._plan.names),
            began=self._began,
            calls=worker.calls,
            tester_cpu_ms=worker.progress.cpu_ms,
            tester_late_ms=round(worker.progress.late_ms, 1),
            machine=machine.describe(),
            options=dict(self._plan.options),
        )

    def _keep_tapes(self, made: Record) -> None:
        """Of all workers' worst calls, the worst; the others' files go."""
        dones = [worker.done for worker in self._workers if worker.done is not None]
        tapes: dict[int, Tape] = {tape.number: tape for done in dones for tape in done.tapes}
        made.recorded = sum(done.recorded for done in dones)
        kept = {call.number for call in worst((call for call in made.calls if call.number in tapes), self._plan.tapes)}
        folder = self._plan.folder
        for number in tapes:
            if number not in kept and folder is not None:
                (folder / file_name(number)).unlink(missing_ok=True)
        made.tapes = [tape for number, tape in sorted(tapes.items()) if number in kept]
        for call in made.calls:
            if call.number in kept and folder is not None:
                call.audio = f"{folder.name}/{file_name(call.number)}"


def _watch(plan: Plan) -> Watch:
    dial = plan.dial
    return Watch(plan.server, dial.token, dial.authorities, named=plan.server_named, empty_bytes=plan.empty_bytes)


def _jobs(plan: Plan) -> list[Job]:
    """Calls are dealt out in turn, so that each worker's ramp is as steady as the whole."""
    processes = max(1, min(plan.processes, plan.calls, MAX_PROCESSES))
    return [
        Job(
            dial=plan.dial,
            scenarios=[str(path) for path in plan.scenarios],
            calls=math.ceil((plan.calls - first) / processes),
            first=first,
            step=processes,
            ramp_per_s=plan.ramp_per_s,
            hold_s=plan.hold_s,
            seed=plan.seed,
            tapes=plan.tapes if plan.folder is not None else 0,
            folder=os.fspath(plan.folder or ""),
            cache=os.fspath(plan.cache or ""),
        )
        for first in range(processes)
    ]


async def _last_words(worker: _Worker, pipe: asyncio.StreamReader) -> None:
    while some := await pipe.read(MAX_LAST_WORDS):
        worker.last_words = (worker.last_words + some)[-MAX_LAST_WORDS:]
