"""Whole runs: processes of callers against the real server, and ends of every kind."""

import asyncio
import os
import signal
import sys
import time
import wave
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from app.load import figures, orders, record
from app.load import run as runs
from app.load.dial import Dial, shown, site
from app.load.orders import Go, Job, Progress, Ready
from app.load.record import Record
from app.load.results import EndedBy, What
from app.load.run import CannotRun, Moment, Plan, Run
from tests.e2e.server import LECTURE, Server, running

WORDS_PER_S = 4.0
PATIENCE_S = 60.0

TALKS = """scenario: talks
patience_ms: 3000
loop:
  - interrupt: {after_ms: 300, say: "on Monday please if that is possible"}
  - wait: agent_speaks
"""
ODD = """scenario: odd
loop: [{wait: {ms: 200}}]
expect: {ends_by: agent}
"""


@asynccontextmanager
async def serving(folder: Path) -> AsyncIterator[Server]:
    async with running(folder / "data", flows=[LECTURE], words_per_s=WORDS_PER_S) as server:
        yield server


def planned(place: Path, address: str, text: str = TALKS, codec: str = "", **fields: object) -> Plan:
    path = place / "scenario.yaml"
    path.write_text(text)
    given: dict[str, object] = {"calls": 4, "ramp_per_s": 20.0, "hold_s": 3.0, "server": site(address)}
    dial = Dial(address, codec)
    return Plan(dial=dial, scenarios=(path,), names=("talks",), **(given | fields))  # type: ignore[arg-type]


async def _whole(folder: Path) -> tuple[Record, list[Moment]]:
    moments: list[Moment] = []
    async with serving(folder) as server:
        plan = planned(
            folder, server.ws("/ws/twilio"), processes=2, tapes=2, folder=folder / "r-calls", cache=folder / "cache"
        )
        async with asyncio.timeout(PATIENCE_S):
            return await Run(plan, moments.append).run(), moments


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("run")


@pytest.fixture(scope="module")
def whole(folder: Path) -> tuple[Record, list[Moment]]:
    """One run of two processes, looked at from several sides."""
    return asyncio.run(_whole(folder))


def test_two_processes_make_one_run(whole: tuple[Record, list[Moment]]) -> None:
    made, _ = whole
    assert made.troubles == []
    assert [call.number for call in made.calls] == [0, 1, 2, 3]
    assert {(call.ended_by, call.error, call.refused) for call in made.calls} == {(EndedBy.caller, "", "")}
    assert all(call.talked_s >= 3 for call in made.calls)
    assert len({call.call for call in made.calls}) == 4
    assert (made.peak_calls, made.tester_processes, made.stopped) == (4, 2, False)
    assert made.tester_cpu_ms > 0
    assert sum(call.interruptions + call.own for call in made.calls) > 0


def test_the_server_tells_its_side(whole: tuple[Record, list[Moment]]) -> None:
    found = figures.metrics(whole[0])
    assert found["server_cpu_ms"] > 0
    assert found["server_refused"] == 0
    assert found["server_loop_lag_p99_ms"] > 0


def test_what_is_told_meanwhile_goes_up_to_what_is_told_in_the_end(whole: tuple[Record, list[Moment]]) -> None:
    made, moments = whole
    assert [moment.at_s for moment in moments] == sorted(moment.at_s for moment in moments)
    assert max(moment.up for moment in moments) == 4
    last = moments[-1]
    assert (last.begun, last.up, last.over) == (4, 0, 4)
    assert last.frames == sum(call.frames for call in made.calls)
    assert last.late == sum(call.late for call in made.calls)
    told = sorted((one.what, one.at_s, one.ms) for moment in moments for one in moment.measures)
    assert told == sorted((one.what, one.at_s, one.ms) for call in made.calls for one in call.measures)
    assert len(made.tester) == len(moments)


async def test_the_server_is_asked_what_it_understood(tmp_path: Path, folder: Path) -> None:
    """It takes all that is said for "go on please"."""
    async with serving(tmp_path) as server:
        plan = planned(tmp_path, server.ws("/ws/audio"), calls=2, cache=folder / "cache", words=True)
        async with asyncio.timeout(PATIENCE_S):
            made = await Run(plan).run()
    for call in made.calls:
        assert call.words == len(" ".join(call.said).split()) > 0
        assert call.words * 5 // 7 <= call.lost_words <= call.words, "on ... please is understood at best"


def test_the_worst_calls_can_be_heard(whole: tuple[Record, list[Moment]], folder: Path) -> None:
    made, _ = whole
    assert made.recorded == 4
    assert len(made.tapes) == 2
    kept = sorted(path.name for path in (folder / "r-calls").iterdir())
    assert kept == sorted(f"call-{tape.number}.wav" for tape in made.tapes)
    for tape in made.tapes:
        assert made.calls[tape.number].audio == f"r-calls/call-{tape.number}.wav"
        assert tape.agent
        with wave.open(str(folder / "r-calls" / f"call-{tape.number}.wav")) as file:
            assert file.getnchannels() == 2
            assert file.getnframes() / file.getframerate() == pytest.approx(tape.seconds, abs=0.01)


def test_it_is_the_same_after_it_was_saved(whole: tuple[Record, list[Moment]], tmp_path: Path) -> None:
    (tmp_path / "run.json").write_bytes(record.to_json(whole[0]))
    assert record.read(tmp_path / "run.json") == whole[0]


# Ends before its time


async def until(true: Callable[[], bool]) -> None:
    for _ in range(int(PATIENCE_S / 0.05)):
        if true():
            return
        await asyncio.sleep(0.05)
    raise TimeoutError


async def interfered(
    folder: Path, plan: Callable[[Server], Plan], act: Callable[[Run, Server], Awaitable[None]]
) -> tuple[Record, float]:
    """A run during which something is done once all calls are up; and how long it lasted after that."""
    moments: list[Moment] = []
    async with serving(folder) as server:
        run = Run(plan(server), moments.append)
        async with asyncio.timeout(PATIENCE_S), asyncio.TaskGroup() as group:
            task = group.create_task(run.run())
            await until(lambda: bool(moments) and moments[-1].up == 4)
            began_s = time.perf_counter()
            await act(run, server)
            made = await task
    return made, time.perf_counter() - began_s


def pids(run: Run) -> list[int]:
    return [worker.process.pid for worker in run._workers if worker.process is not None]


async def test_a_process_that_is_killed_ends_the_run_with_what_the_others_found(tmp_path: Path) -> None:
    async def act(run: Run, server: Server) -> None:
        os.kill(pids(run)[1], signal.SIGKILL)

    made, _ = await interfered(
        tmp_path, lambda server: planned(tmp_path, server.ws("/ws/audio"), hold_s=600.0, processes=2), act
    )
    assert made.troubles == ["process 2 of 2 of the callers died (signal 9)"]
    assert [call.number for call in made.calls] == [0, 2]
    assert {call.ended_by for call in made.calls} == {EndedBy.caller}
    assert not made.stopped


async def test_a_process_that_hangs_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "SILENT_S", 1.0)

    async def act(run: Run, server: Server) -> None:
        os.kill(pids(run)[0], signal.SIGSTOP)

    made, _ = await interfered(tmp_path, lambda server: planned(tmp_path, server.ws("/ws/audio"), hold_s=600.0), act)
    assert made.troubles == ["process 1 of 1 of the callers hung, and was ended"]


async def test_a_run_that_is_stopped_hangs_up_and_tells_what_was_measured(tmp_path: Path) -> None:
    async def act(run: Run, server: Server) -> None:
        run.stop()

    def plan(server: Server) -> Plan:
        return planned(tmp_path, server.ws("/ws/audio"), ODD, hold_s=600.0, processes=2)

    made, lasted_s = await interfered(tmp_path, plan, act)
    assert lasted_s < runs.STOP_S
    assert (made.stopped, made.troubles, len(made.calls)) == (True, [], 4)
    assert {call.ended_by for call in made.calls} == {EndedBy.caller}
    assert {call.as_expected for call in made.calls} == {None}, "nobody can say how it would have ended"


async def test_a_run_that_is_cancelled_leaves_nobody_behind(tmp_path: Path) -> None:
    moments: list[Moment] = []
    async with serving(tmp_path) as server, asyncio.timeout(PATIENCE_S):
        run = Run(planned(tmp_path, server.ws("/ws/audio"), hold_s=600.0, processes=2), moments.append)
        async with asyncio.TaskGroup() as group:
            task = group.create_task(run.run())
            await until(lambda: bool(moments) and moments[-1].up == 4)
            task.cancel()
        await until(lambda: all(worker.process and worker.process.returncode is not None for worker in run._workers))


async def test_while_the_tester_was_late_nothing_is_the_servers(tmp_path: Path) -> None:
    """Its process is held for a second, twice, while the server goes on."""

    async def act(run: Run, server: Server) -> None:
        for _ in range(2):
            os.kill(pids(run)[0], signal.SIGSTOP)
            await asyncio.sleep(1.0)
            os.kill(pids(run)[0], signal.SIGCONT)
            await asyncio.sleep(0.7)

    made, _ = await interfered(tmp_path, lambda server: planned(tmp_path, server.ws("/ws/audio"), hold_s=5.0), act)
    summary = figures.summary(made.calls)
    assert summary.own > 0
    assert made.tester_late_ms > 1500
    spoilt = [one for call in made.calls for one in call.measures if one.own]
    assert spoilt
    for what, one in summary.figures.items():
        assert one.count == sum(m.what is what and not m.own for call in made.calls for m in call.measures)


# What cannot be run


async def test_nobody_answers(tmp_path: Path) -> None:
    made = await Run(planned(tmp_path, "ws://127.0.0.1:9/ws/audio", calls=3)).run()
    assert [call.error for call in made.calls] == ["unreachable"] * 3
    assert figures.summary(made.calls).errors == {"unreachable": 3}
    assert made.peak_calls == 0


@pytest.mark.parametrize(
    ("address", "codec", "words"),
    [
        ("gopher://host/", "", "an address begins with"),
        ("ws://127.0.0.1:8080/ws/audio", "g729", "codec g729"),
        ("ws://127.0.0.1:8080/ws/twilio", "l16/8000", "one of pcmu"),
        ("ws:nothing", "", "an address is such as"),
    ],
)
async def test_what_cannot_be_done_is_told_before_the_first_call(
    tmp_path: Path, address: str, codec: str, words: str
) -> None:
    with pytest.raises(CannotRun, match=words):
        await Run(planned(tmp_path, address, codec=codec, processes=2)).run()


async def test_a_voice_that_says_nothing(tmp_path: Path) -> None:
    silent = 'scenario: odd\nsteps: [{say: "[500]"}]\n'
    with pytest.raises(CannotRun, match="no words"):
        await Run(planned(tmp_path, "ws://127.0.0.1:9/ws/audio", silent)).run()


async def test_processes_that_cannot_be_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(CannotRun, match=r"died \(status 1\)"):
        await Run(planned(tmp_path, "ws://127.0.0.1:9/ws/audio")).run()
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(CannotRun, match="can be started"):
        await Run(planned(tmp_path, "ws://127.0.0.1:9/ws/audio")).run()


async def test_a_process_of_callers_ends_with_who_started_it(tmp_path: Path) -> None:
    async with serving(tmp_path) as server, asyncio.timeout(PATIENCE_S):
        plan = planned(tmp_path, server.ws("/ws/audio"))
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "app.load.worker", stdin=pipe, stdout=pipe, start_new_session=True
        )
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            decoder = msgspec.msgpack.Decoder(orders.FromWorker)
            job = Job(plan.dial, [str(path) for path in plan.scenarios], 2, 0, 1, 20.0, 600.0, 0)
            process.stdin.write(orders.framed(job))
            assert isinstance(await orders.receive(process.stdout, decoder), Ready)
            process.stdin.write(orders.framed(Go(time.perf_counter())))
            up = 0
            while up < 2:
                told = await orders.receive(process.stdout, decoder)
                assert isinstance(told, Progress)
                up = told.up
            process.stdin.close()
            await process.communicate()
            assert process.returncode == 0
        finally:
            if process.returncode is None:
                process.kill()


async def test_whoever_says_nonsense_to_a_process_of_callers_is_left() -> None:
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "app.load.worker", stdin=pipe, stdout=pipe, stderr=pipe
    )
    async with asyncio.timeout(PATIENCE_S):
        await process.communicate(b"\xff" * 100)
    assert process.returncode


@pytest.mark.parametrize(
    ("address", "told", "base"),
    [
        ("ws://host:8080/ws/audio?token=abc", "ws://host:8080/ws/audio", "http://host:8080"),
        ("wss://me:secret@host/ws/twilio/f", "wss://host/ws/twilio/f", "https://host"),
        ("sip:clinic:secret@host;transport=tcp", "sip:clinic@host;transport=tcp", ""),
        ("sip:host?x=y", "sip:host", ""),
        ("ws://[", "ws:", ""),
    ],
)
def test_addresses_are_told_without_keys(address: str, told: str, base: str) -> None:
    assert shown(address) == told
    assert site(address) == base


def test_what_is_measured_has_its_name() -> None:
    from app.load.tell import LABELS, SHARES
    from app.load.worst import WEIGHTS

    assert set(LABELS) == set(What)
    assert set(WEIGHTS) <= set(What)
    assert set(SHARES) == set(figures._SHARES)
