"""Results as files, and what is computed from them."""

from pathlib import Path

import pytest

from app.load import figures, record, results
from app.load.figures import BadCondition, condition
from app.load.record import NotAResult
from app.load.results import CallResult, EndedBy, Measure, RunResult, Sample, What


def call(number: int, *ms: float, what: What = What.response, slow: bool = False, **fields: object) -> CallResult:
    made = CallResult(number, "talk", float(number), talked_s=10.0, ended_by=EndedBy.caller, frames=100)
    made.measures = [Measure(what, each, 1.0, slow) for each in ms]
    for name, value in fields.items():
        setattr(made, name, value)
    return made


def run(*calls: CallResult, **fields: object) -> RunResult:
    made = RunResult("ws://host/ws/audio", ["talk"], "2026-01-01T00:00:00Z", 60.0, list(calls))
    for name, value in fields.items():
        setattr(made, name, value)
    return made


# Files


def test_a_run_is_the_same_after_it_was_saved(tmp_path: Path) -> None:
    made = run(
        call(0, 100.0, 200.5, said=["hello"], as_expected=True),
        call(1, refused="busy", ended_by=EndedBy.nobody),
        server=[Sample(1.0, {"cpu_ms": 12.5})],
    )
    whole = record.record_of(made)
    (tmp_path / "run.json").write_bytes(record.to_json(whole))
    assert record.read(tmp_path / "run.json") == whole


@pytest.mark.parametrize("data", [b"", b"{}", b"[1]", b"\xff\xfe", b'{"address": 3}'])
def test_other_files_are_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "x.json").write_bytes(data)
    with pytest.raises(NotAResult):
        record.read(tmp_path / "x.json")


def test_a_newer_testers_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "new.json").write_bytes(record.to_json(record.record_of(run(format=results.FORMAT + 1))))
    with pytest.raises(NotAResult, match="newer"):
        record.read(tmp_path / "new.json")


def test_a_file_too_large_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record, "MAX_FILE_BYTES", 100)
    (tmp_path / "large.json").write_bytes(bytes(101))
    with pytest.raises(NotAResult, match="larger"):
        record.read(tmp_path / "large.json")


def test_workers_parts_make_one_run() -> None:
    made = results.merged(
        [
            run(call(1, 1.0), call(3, 3.0), seconds=50.0, peak_calls=2, tester_cpu_ms=100.0, tester_late_ms=1.0),
            run(call(0, 2.0), call(2, 4.0), seconds=60.0, peak_calls=2, tester_cpu_ms=50.0, scenarios=["talk", "b"]),
        ]
    )
    assert [one.number for one in made.calls] == [0, 1, 2, 3]
    assert (made.seconds, made.peak_calls, made.tester_cpu_ms, made.tester_processes) == (60.0, 4, 150.0, 2)
    assert made.scenarios == ["talk", "b"]
    assert made.tester_late_ms == 1.0


# Figures


def test_percentiles_come_with_their_counts_and_without_the_testers_own() -> None:
    calls = [call(0, *range(1, 101)), call(1, 5000.0, slow=True)]
    made = figures.summary(calls).figures[What.response]
    assert (made.count, made.own, made.max) == (100, 1, 100)
    assert (made.p50, made.p90, made.p95, made.p99) == (50.5, 90.1, 95.0, 99.0)
    assert made.mean == 50.5


def test_what_was_not_measured_is_no_figure() -> None:
    assert figures.figure([]) is None
    assert figures.figure([Measure(What.gap, 1.0, 0.0, True)]) is None
    assert figures.summary([]).figures == {}
    assert figures.summary([]).shares == {}


def test_calls_are_counted_by_what_became_of_them() -> None:
    made = figures.summary(
        [
            call(0, late=2, interruptions=4, unyielded=1, as_expected=False),
            call(1, refused="busy", talked_s=0.0, frames=0, ended_by=EndedBy.nobody),
            call(2, error="cut", as_expected=True),
            call(3, error="cut", own=3),
        ]
    )
    assert (made.calls, made.up, made.refused, made.failed, made.unexpected, made.own) == (4, 3, 1, 2, 1, 3)
    assert made.errors == {"cut": 2, "refused busy": 1}
    assert made.shares["late"] == figures.Share(2, 300)
    assert made.shares["unyielded"].value == 0.25
    assert made.shares["unexpected"] == figures.Share(1, 2)
    assert "stopped_by_noise" not in made.shares


def test_kinds_of_errors_are_a_short_list_whatever_codes_a_server_gives() -> None:
    calls = [CallResult(number, "talk", 0.0, refused=f"code-{number}") for number in range(1000)]
    made = figures.summary([*calls, *(CallResult(0, "talk", 0.0, error="cut") for _ in range(5))])
    assert len(made.errors) == figures.MAX_KINDS + 1
    assert next(iter(made.errors.items())) == ("cut", 5)
    assert sum(made.errors.values()) == 1005


# Conditions


def test_conditions_are_read_and_hold_or_not() -> None:
    made = run(
        call(0, 100.0, 400.0, what=What.barge_in, late=1),
        tester_cpu_ms=20.0,
        server=[Sample(0.0, {"loop_lag_p99_ms": 3.0}), Sample(1.0, {"loop_lag_p99_ms": 9.0})],
    )
    found = figures.metrics(made)
    for text, holds in (
        ("barge_in_p99_ms > 300", True),
        ("barge_in_max_ms<=400", True),
        ("barge_in_count == 2", True),
        ("late_share > 0.1%", True),
        ("late_share > 0.01", False),
        ("refused > 0", False),
        ("tester_cpu_ms >= 2", True),
        ("server_loop_lag_p99_ms > 8", True),
        ("server_memory_mb > 1", None),
        ("response_p50_ms > 0", None),
    ):
        assert condition(text).holds(found) is holds, text
    assert str(condition(" late_share>0.1% ")) == "late_share > 0.1%"


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("barge_in_p98_ms > 3", "did you mean barge_in_p9"),
        ("bargein_p99_ms > 3", "did you mean barge_in_p99_ms"),
        ("server_cpu > 3", "did you mean server_cpu_ms"),
        ("barge_in_p99_ms", "such as"),
        ("barge_in_p99_ms > x", "such as"),
        ("barge_in_p99_ms > -3", "such as"),
        ("x" * 5000, "such as"),
    ],
)
def test_conditions_that_mean_nothing_say_what_is_meant(text: str, hint: str) -> None:
    with pytest.raises(BadCondition, match=hint):
        condition(text)


# Two runs


def test_a_difference_larger_than_chance_is_sure_and_others_are_not() -> None:
    slow = run(call(0, *[float(each) for each in range(200, 400)], late=50, frames=1000))
    fast = run(call(0, *[float(each) for each in range(100, 300)], late=5, frames=1000))
    same = run(call(0, *[float(each) for each in range(201, 401)], late=52, frames=1000))
    by_name = {one.name: one for one in figures.compare(slow, fast)}
    assert by_name["response_p50_ms"].sure
    assert by_name["response_p50_ms"].ratio == pytest.approx(199.5 / 299.5)
    assert by_name["late_share"].sure
    assert not any(one.sure for one in figures.compare(slow, same))


def test_a_percentile_of_few_is_never_sure() -> None:
    few, other = run(call(0, 1.0, 2.0, 3.0)), run(call(0, 1000.0, 2000.0, 3000.0))
    assert not any(one.sure for one in figures.compare(few, other) if "p99" in one.name)


def test_only_what_both_have_is_compared() -> None:
    assert [one.name for one in figures.compare(run(call(0, 1.0)), run(call(0)))] == [
        "late_share",
        "refused_share",
        "failed_share",
    ]
    (late, *_) = figures.compare(run(call(0)), run(call(0, late=1)))
    assert late.ratio is None
