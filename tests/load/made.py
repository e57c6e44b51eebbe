"""Runs as they might have been, for what reads and draws them."""

from app.load.record import Capacity, Judged, Probe, Record, Tape
from app.load.results import CallResult, EndedBy, Measure, Sample, What

MARKUP = "</script><img src=x onerror=alert(1)>\x1b[2J\x00"
"""What a hostile server might answer with."""


def call(number: int, *measures: tuple[What, float, float], began_s: float = 0.0, **fields: object) -> CallResult:
    """Measures are (what, ms, at)."""
    made = CallResult(number, "talk", began_s, talked_s=20.0, ended_by=EndedBy.caller, frames=500, turns=3)
    made.measures = [Measure(What.set_up, 20.0, began_s), *(Measure(what, ms, at_s) for what, ms, at_s in measures)]
    for name, value in fields.items():
        setattr(made, name, value)
    return made


def record(*calls: CallResult, **fields: object) -> Record:
    made = Record("ws://host/ws/audio", ["talk"], "2026-01-01T00:00:00+00:00", 30.0, list(calls), peak_calls=len(calls))
    made.options = {"calls": str(len(calls)), "ramp": "10/s"}
    made.machine = ["one machine", "of some cores"]
    made.tester_cpu_ms = 120.0
    for name, value in fields.items():
        setattr(made, name, value)
    return made


def whole() -> Record:
    """With something of everything, and hostile words wherever a server's words get in."""
    calls = [
        call(
            number,
            *((What.response, 400.0 + 5 * turn + number, number + 2.0 * turn) for turn in range(8)),
            *((What.barge_in, 80.0 + 3 * turn, number + 1.0 + 2.0 * turn) for turn in range(8)),
            (What.gap, 35.0, number + 4.5),
            (What.hold, 300.0, number + 6.5),
            began_s=float(number),
            interruptions=8,
            late=1,
            scenario="talk" if number % 2 else "noisy",
        )
        for number in range(8)
    ]
    calls[0].audio = "report-calls/call-0.wav"
    calls[0].call = calls[1].outcome = MARKUP
    calls[1].as_expected = False
    calls[2].error = MARKUP
    calls.append(CallResult(8, "talk", 8.0, refused=MARKUP))
    made = record(*calls, scenarios=["talk", "noisy"], address=f"ws://host/{MARKUP}", recorded=1)
    made.calls[3].measures.append(Measure(What.barge_in, 9000.0, 5.0, own=True))
    made.tapes = [Tape(0, 0.02, 20.0, [(1.0, 2.0)], [(0.0, 1.1), (2.4, 6.0)])]
    made.server = [
        Sample(float(at_s), {"cpu_share": 0.1, "memory_mb": 90.0 + at_s, "lag_ms": 4.0, "calls": 3.0})
        for at_s in range(2, 20, 2)
    ]
    made.server.append(Sample(30.0, {"cpu_ms": 2.5, "loop_lag_p99_ms": 7.0, "refused": 1.0}))
    made.tester = [Sample(float(at_s), {"calls": 3.0, "late_ms": float(at_s % 3)}) for at_s in range(20)]
    made.judged = [
        Judged("barge_in_p99_ms > 300", 101.0, False),
        Judged("late_share > 0.1%", 0.002, True),
        Judged("key_barge_in_p99_ms > 300", None, True),
    ]
    found = {"barge_in_p50_ms": 80.0, "barge_in_p99_ms": 150.0, "response_p99_ms": 450.0, "late_share": 0.0}
    worse = {"barge_in_p50_ms": 130.0, "barge_in_p99_ms": 350.0, "response_p99_ms": 950.0, "late_share": 0.2}
    made.capacity = Capacity(
        10,
        "with 20 a limit broke, 2 times in a row",
        ["barge_in_p99_ms > 200"],
        [Probe(10, True, [], found), Probe(20, False, ["barge_in_p99_ms > 200: 350 ms"], worse)],
    )
    return made
