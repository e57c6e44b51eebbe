"""`voicegate load` and `voicegate load-report` as a person types them."""

import asyncio
import json
import os
import signal
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from app.cli import loading
from app.load import record
from tests.cli.inside import Inside
from tests.cli.process import Done, run, start
from tests.e2e.server import LECTURE, Server, running
from tests.load.made import call, whole
from tests.load.made import record as made_record

WORDS_PER_S = 4.0
PATIENCE_S = 60.0
SCENARIO = """scenario: talks
patience_ms: 3000
loop:
  - interrupt: {after_ms: 300, say: "on Monday please if that is possible"}
  - wait: agent_speaks
"""


@pytest.fixture
def inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Inside:
    return Inside(tmp_path, monkeypatch)


async def loading_a_server(folder: Path, server: Server, *arguments: str, scenario: str = "talks.yaml") -> Done:
    (folder / "talks.yaml").write_text(SCENARIO)
    given = ("--to", server.ws("/ws/twilio"), "--scenario", scenario, "--calls", "2", "--ramp", "20/s")
    return await run("load", *given, *arguments, cwd=folder, XDG_CACHE_HOME=str(folder / "cache"))


# A whole run


async def _runs(folder: Path) -> dict[str, Done]:
    async with running(folder / "data", flows=[LECTURE], words_per_s=WORDS_PER_S) as server:
        first = await loading_a_server(
            folder, server, "--hold", "3s", "--json", "a.json", "--html", "a.html", "--junit", "a.xml", "--worst", "1"
        )
        limits = ("--fail-if", "failed > 0", "--fail-if", "set_up_max_ms > 0.0", "--fail-if", "resume_p50_ms > 9")
        second = await loading_a_server(
            folder, server, "--hold", "1s", "--compare", "a.json", "--html", "b.html", "--quiet", *limits
        )
        broken = ("--until-breaks", "--calls", "1", "--most", "2", "--fail-if", "refused > 0")
        (folder / "waits.yaml").write_text("scenario: waits\nloop: [{wait: {ms: 100}}]\n")
        third = await loading_a_server(
            folder, server, "--hold", "500ms", "--json", "c.json", *broken, scenario="waits.yaml"
        )
    return {"first": first, "second": second, "third": third}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cli")


@pytest.fixture(scope="module")
def done(folder: Path) -> dict[str, Done]:
    return asyncio.run(_runs(folder))


def test_a_run_tells_its_figures_and_leaves_its_files(done: dict[str, Done], folder: Path) -> None:
    first = done["first"]
    assert (first.status, first.err) == (0, "")
    assert "2 of 2 calls were up" in first.out
    assert "barge-in" in first.out
    assert "ms per call-second" in first.out
    made = record.read(folder / "a.json")
    assert (made.scenarios, len(made.calls)) == (["talks"], 2)
    assert made.options["hold"] == "3s"
    assert "server_cpu_ms" in _metrics(made)
    (tape,) = made.tapes
    assert [path.name for path in (folder / "a-calls").iterdir()] == [f"call-{tape.number}.wav"]
    assert f'href="./a-calls/call-{tape.number}.wav"' in (folder / "a.html").read_text()
    assert ElementTree.parse(folder / "a.xml").getroot().attrib["failures"] == "0"
    assert list((folder / "cache" / "voicegate" / "sounds").iterdir())


def test_a_limit_that_breaks_is_status_1(done: dict[str, Done], folder: Path) -> None:
    second = done["second"]
    assert second.status == 1
    lines = [line.split()[:2] for line in second.out.splitlines() if line.startswith(("held", "broken"))]
    assert lines == [["held", "failed:"], ["broken", "set_up_max_ms:"], ["broken", "resume_p50_ms:"]]
    assert "was not measured" in second.out, "which is no reason to be content"
    assert "against a.json" in second.out
    assert "failed_share" in second.out
    assert "Against a.json" in (folder / "b.html").read_text()


def test_the_search_for_the_capacity_is_told_step_by_step(done: dict[str, Done], folder: Path) -> None:
    third = done["third"]
    assert third.status == 0, third.err
    assert "1 calls: all limits held" in third.out
    assert "at least 2 calls held all limits: no more than 2 were to be tried" in third.out
    capacity = record.read(folder / "c.json").capacity
    assert capacity is not None
    assert [(probe.calls, probe.held) for probe in capacity.probes] == [(1, True), (2, True)]
    assert capacity.limits == ["refused > 0"]


def _metrics(made: record.Record) -> dict[str, float]:
    from app.load import figures

    return figures.metrics(made)


# Ctrl-C


async def _interrupted(folder: Path, times: int) -> tuple[int, str, str]:
    async with (
        running(folder / "data", flows=[LECTURE], words_per_s=WORDS_PER_S) as server,
        asyncio.timeout(PATIENCE_S),
    ):
        (folder / "talks.yaml").write_text(SCENARIO)
        process = await start(
            *("load", "--to", server.ws("/ws/twilio"), "--scenario", "talks.yaml", "--calls", "2", "--hold", "1h"),
            *("--json", "run.json", "--processes", "2"),
            cwd=folder,
            XDG_CACHE_HOME=str(folder / "cache"),
        )
        await server.until(lambda: len(server.gate.registry) == 2)
        await asyncio.sleep(0.6)
        for _ in range(times):
            process.send_signal(signal.SIGINT)
            await asyncio.sleep(0.005)
        out, err = await process.communicate()
        await server.until(lambda: len(server.gate.registry) == 0)
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


async def test_ctrl_c_ends_the_calls_and_tells_what_was_measured(tmp_path: Path) -> None:
    status, out, err = await _interrupted(tmp_path, 1)
    assert (status, err) == (0, "")
    assert "ending all calls" in out
    assert "2 of 2 calls were up" in out
    assert "stopped before its time" in out
    assert record.read(tmp_path / "run.json").stopped


async def test_ctrl_c_twice_quits(tmp_path: Path) -> None:
    status, _, err = await _interrupted(tmp_path, 2)
    assert status == loading.INTERRUPTED
    assert "Traceback" not in err
    assert not (tmp_path / "run.json").exists()


# What a person gets wrong


ADDRESS = "ws://127.0.0.1:9/ws/audio"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "--to: whom to call?"),
        (["--to", ADDRESS, "--ramp", "fast"], "--ramp: 'fast' is no rate"),
        (["--to", ADDRESS, "--ramp", "0/s"], "is no rate"),
        (["--to", ADDRESS, "--hold", "1 minute"], "--hold: '1 minute' is no length"),
        (["--to", ADDRESS, "--hold", "25h"], "at most 24h"),
        (["--to", ADDRESS, "--scenario", "tlak"], "did you mean talk?"),
        (["--to", ADDRESS, "--scenario", "odd.yaml"], "odd.yaml:2"),
        (["--to", ADDRESS, "--fail-if", "bargein_p99_ms > 300"], "did you mean barge_in_p99_ms"),
        (["--to", ADDRESS, "--fail-if", "slow"], "a condition is such as"),
        (["--to", ADDRESS, "--html", "nowhere/run.html"], "there is no folder nowhere"),
        (["--to", ADDRESS, "--json", "."], "is a folder"),
        (["--to", ADDRESS, "--json", "a.json", "--junit", "a.json"], "need a file each"),
        (["--to", ADDRESS, "--json", "/proc/a.json"], "/proc/a.json: cannot be written"),
        (["--to", ADDRESS, "--html", "x" * 300 + ".html"], "cannot be written"),
        (["--to", ADDRESS, "--html", "taken.html"], "in the way of the recordings"),
        (["--to", ADDRESS, "--token", "a\nb"], "--token or LOAD_TOKEN"),
        (["--to", "ws://[::1"], "an address is such as"),
        (["--to", ADDRESS, "--scenario", "empty.yaml"], "empty.yaml:2"),
        (["--to", ADDRESS, "--compare", "missing.json"], "missing.json: cannot be read"),
        (["--to", ADDRESS, "--compare", "odd.yaml"], "odd.yaml: not a load test's result"),
        (["--to", ADDRESS, "--codec", "g729"], "codec g729"),
        (["--to", "gopher://host"], "an address begins with"),
        (["--to", ADDRESS, "--ca", "odd.yaml"], "no certificates"),
        (["--suite", "trun"], "did you mean turns?"),
    ],
)
def test_mistakes_are_one_clear_line_each(inside: Inside, arguments: list[str], words: str) -> None:
    (inside.folder / "odd.yaml").write_text("scenario: odd\nstep: [hang_up]\n")
    (inside.folder / "empty.yaml").write_text("scenario: empty\nloop: [{repeat: {times: 9, steps: []}}]\n")
    (inside.folder / "taken-calls").write_text("")
    done = inside("load", *arguments)
    assert done.status == 2
    assert words in done.err.replace("\n", " ")
    assert "Traceback" not in done.err


def test_a_server_that_nobody_reaches_is_status_1(inside: Inside) -> None:
    done = inside("load", "--to", ADDRESS, "--calls", "2", "--quiet", "--scenario", "silent")
    assert done.status == 1
    assert "no call was up" in done.err
    assert "unreachable: 2 (nobody listens there" in done.out


def test_a_full_disk_costs_only_what_does_not_fit(inside: Inside) -> None:
    given = ("--to", ADDRESS, "--calls", "1", "--quiet", "--scenario", "silent", "--server", "http://127.0.0.1:9")
    done = inside("load", *given, "--html", "/dev/full", "--json", "run.json")
    assert done.status == 2
    assert "/dev/full: cannot be written: No space left on device" in done.err
    assert "wrote run.json" in done.out
    assert "http://127.0.0.1:9 is no Voicegate server" in done.out
    assert record.read(inside.folder / "run.json").calls[0].error == "unreachable"


def test_keys_are_in_no_file(inside: Inside) -> None:
    address = f"{ADDRESS}?token=hush-1"
    given = ("--to", address, "--token", "hush-2", "--calls", "1", "--scenario", "silent", "--quiet")
    inside("load", *given, "--json", "run.json", "--html", "run.html", "--junit", "run.xml")
    for name in ("run.json", "run.html", "run.xml"):
        text = (inside.folder / name).read_text()
        assert "hush" not in text
        assert "ws://127.0.0.1:9/ws/audio" in text


# Around it


def test_the_shipped_scenarios_are_shown_with_what_they_are_about(inside: Inside) -> None:
    done = inside("load", "--list")
    assert done.status == 0
    for name in ("talk", "noisy", "hasty", "lossy"):
        assert any(line.startswith(name) and len(line.split()) > 3 for line in done.out.splitlines())


def test_shells_complete_the_names_of_scenarios() -> None:
    assert [name for name, _ in loading._names("tal")] == ["talk", "talks_over"]
    assert loading._names("nobody") == []


def test_a_report_is_drawn_again(inside: Inside) -> None:
    (inside.folder / "run.json").write_bytes(record.to_json(whole()))
    (inside.folder / "old.json").write_bytes(record.to_json(made_record(call(0))))
    done = inside("load-report", "run.json", "--compare", "old.json")
    assert (done.status, done.err) == (0, "")
    assert "Against old.json" in (inside.folder / "run.html").read_text()
    assert inside("load-report", "run.json", "-o", "other.html").status == 0
    assert (inside.folder / "other.html").is_file()


def test_a_report_does_not_take_its_run_s_place(inside: Inside) -> None:
    (inside.folder / "run.html").write_bytes(record.to_json(whole()))
    assert "name another file" in inside("load-report", "run.html").err
    assert record.read(inside.folder / "run.html") == whole()


@pytest.mark.parametrize(
    "data", [b"", b"[]", b'{"x": ' + b"[" * 50_000, b'{"format": 99}', json.dumps({"address": 1}).encode()]
)
def test_no_report_is_drawn_of_other_files(inside: Inside, data: bytes) -> None:
    (inside.folder / "run.json").write_bytes(data)
    done = inside("load-report", "run.json")
    assert done.status == 2
    assert "run.json: " in done.err


def test_the_suite_is_called_with_what_was_asked(inside: Inside, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    async def run_suite(address: str = "", **given: Any) -> list[Any]:
        asked.append((address, given["token"]))
        return []

    monkeypatch.setattr("app.load.suite.run.run_suite", run_suite)
    done = inside("load", "--suite", "turns", "--to", "ws://host", "--token", "t", "--json", "turns.json")
    assert asked == [("ws://host", "t")]
    assert done.status == 1, "nothing was measured, and no goal was met"
    assert (inside.folder / "turns.json").is_file()


def test_words_are_kept_where_the_system_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", os.fspath(tmp_path))
    assert loading._cache() == tmp_path / "voicegate" / "sounds"
