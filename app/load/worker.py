"""One process of simulated callers: `python -m app.load.worker`. It is told what to do on standard input, tells what
it finds on standard output (`orders`), and ends with whoever started it."""

import asyncio
import gc
import os
import sys
import time
from asyncio import StreamReader, StreamWriter
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Final

import msgspec
import uvloop

from app.load import scenario
from app.load.caller import Caller
from app.load.calls import run_calls
from app.load.clock import Clock
from app.load.dial import open_lines
from app.load.figures import MAX_KINDS, OTHERS
from app.load.line import BadAddress, LineError, LineFactory
from app.load.orders import Done, Failed, FromWorker, Go, Job, Progress, Ready, ToWorker, framed, receive
from app.load.results import CallResult, EndedBy
from app.load.sounds import Kit, SoundError, Sounds
from app.load.steps import Scenario
from app.load.tape import Tapes
from app.ports import ProviderError
from flows.problems import FlowError
from media.codec import Codec

TELL_S: Final = 0.25
"""From one `Progress` to the next."""

GC_THRESHOLD: Final = 50_000  # callers make no cycles in their frames: look seldom


class Prepared(Sounds):
    """Gives out kits that were made before the first call: making them would make the callers' clock late."""

    def __init__(self, folder: Path | None) -> None:
        super().__init__(folder)
        self._kits: dict[Scenario, Kit] = {}

    async def kit(self, scenario: Scenario, codec: Codec) -> Kit:
        if scenario not in self._kits:
            self._kits[scenario] = await super().kit(scenario, codec)
        return self._kits[scenario]


class Work:
    """The calls of one job."""

    def __init__(self, job: Job, lines: LineFactory, sounds: Sounds, scenarios: list[Scenario]) -> None:
        self._job = job
        self._lines = lines
        self._sounds = sounds
        self._scenarios = scenarios
        self._clock = Clock()
        self._tapes = Tapes(job.tapes, job.hold_s)
        self._told = Progress()
        self._live: dict[int, Caller] = {}
        self._measured: dict[int, int] = {}  # of each live call, that were told
        self._leaving: set[int] = set()
        self._cpu_s = 0.0

    async def run(self, origin_s: float) -> None:
        """Until all calls are over. Cancelling hangs up."""
        self._cpu_s = time.process_time()
        job = self._job
        await run_calls(
            self._lines,
            self._scenarios,
            job.calls,
            job.ramp_per_s,
            job.hold_s,
            sounds=self._sounds,
            first=job.first,
            step=job.step,
            origin_s=origin_s,
            seed=job.seed,
            keep=job.tapes > 0,
            clock=self._clock,
            begun=self._begun,
        )

    def tell(self, *, last: bool = False) -> Progress:
        """What is new. The last time, calls that were ended before their time are told as they are."""
        told = self._told
        told.cpu_ms, told.late_ms = (time.process_time() - self._cpu_s) * 1000, self._clock.late_ms
        told.measures, told.calls = [], []
        up = frames = late = own = 0
        for number, caller in list(self._live.items()):
            result = caller.result
            told.measures += result.measures[self._measured[number] :]
            self._measured[number] = len(result.measures)
            if last or self._has_left(number, caller):
                self._over(number, caller)
            else:
                up += caller.up
                frames += caller.ear.frames
                late += result.late
                own += result.own
        told.up = up
        self._tapes.shorten()
        return msgspec.structs.replace(told, frames=told.frames + frames, late=told.late + late, own=told.own + own)

    def done(self, origin_s: float) -> Done:
        if not self._job.tapes:
            return Done([], 0)
        return Done(self._tapes.write(Path(self._job.folder), origin_s), self._tapes.recorded)

    def _begun(self, caller: Caller) -> None:
        number = caller.result.number
        self._live[number] = caller
        self._measured[number] = 0
        self._told.begun += 1
        self._tapes.begun(caller)

    def _has_left(self, number: int, caller: Caller) -> bool:
        """Seen twice, since its goodbye takes a moment."""
        if caller.up or not _tried(caller.result):
            self._leaving.discard(number)
            return False
        if number in self._leaving:
            return True
        self._leaving.add(number)
        return False

    def _over(self, number: int, caller: Caller) -> None:
        told, result = self._told, caller.result
        del self._live[number], self._measured[number]
        self._leaving.discard(number)
        told.over += 1
        if not _tried(result):
            return  # we did not wait for the answer
        if result.ended_by is EndedBy.nobody and result.talked_s:
            result.ended_by, result.as_expected = EndedBy.caller, None  # ended before its time, by us
        told.frames += result.frames
        told.late += result.late
        told.own += result.own
        if kind := result.error or (result.refused and f"refused {result.refused}"):
            if kind not in told.errors and len(told.errors) >= MAX_KINDS:
                kind = OTHERS
            told.errors[kind] = told.errors.get(kind, 0) + 1
        told.calls.append(result)
        self._tapes.over(caller)


def _tried(result: CallResult) -> bool:
    return bool(result.talked_s or result.refused or result.error or result.ended_by is not EndedBy.nobody)


class Worker:
    def __init__(self, reader: StreamReader, writer: StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._decoder = msgspec.msgpack.Decoder(ToWorker)

    async def work(self) -> None:
        job = await receive(self._reader, self._decoder)
        if not isinstance(job, Job):
            return
        async with AsyncExitStack() as stack:
            try:
                scenarios = [scenario.load(Path(path)) for path in job.scenarios]
                lines = await stack.enter_async_context(open_lines(job.dial))
                sounds = await stack.enter_async_context(Prepared(Path(job.cache) if job.cache else None))
                for one in scenarios:
                    await sounds.kit(one, lines(0).codec)
            except (BadAddress, LineError, SoundError, ProviderError, FlowError) as error:
                await self._say(Failed(str(error)))
                return
            gc.collect()
            gc.freeze()
            gc.set_threshold(GC_THRESHOLD)
            await self._say(Ready())
            go = await receive(self._reader, self._decoder)
            if isinstance(go, Go):
                await self._calls(Work(job, lines, sounds, scenarios), go.origin_s)

    async def _calls(self, work: Work, origin_s: float) -> None:
        async with asyncio.TaskGroup() as group:
            calling = group.create_task(work.run(origin_s))
            stopping = group.create_task(self._stopped())
            while not calling.done():
                await asyncio.wait((calling, stopping), timeout=TELL_S, return_when=asyncio.FIRST_COMPLETED)
                if stopping.done() and not calling.done():
                    calling.cancel()
                    await asyncio.wait((calling,))
                await self._say(work.tell(last=calling.done()))
            stopping.cancel()
        try:
            done = work.done(origin_s)
        except OSError as error:
            await self._say(Failed(f"recordings cannot be written: {error.strerror}"))
        else:
            await self._say(done)

    async def _stopped(self) -> None:
        """The order to stop came, or nobody is there any more."""
        await receive(self._reader, self._decoder)

    async def _say(self, message: FromWorker) -> None:
        self._writer.write(framed(message))
        with suppress(ConnectionError):
            await self._writer.drain()


async def _connected() -> Worker:
    """Standard output is ours alone: what else would be written there goes to standard error."""
    loop = asyncio.get_running_loop()
    out = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    reader = StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    transport, protocol = await loop.connect_write_pipe(asyncio.streams.FlowControlMixin, out)
    transport.set_write_buffer_limits(0)  # what was said has left this process
    return Worker(reader, StreamWriter(transport, protocol, None, loop))


async def _main() -> None:
    worker = await _connected()
    await worker.work()


if __name__ == "__main__":
    uvloop.run(_main())
