"""`core.handle` by itself: a whole call of the clinic flow, each of its facts timed again and again."""

import time
from collections import defaultdict

from app.core.core import CallCore
from flows import load
from tests.support.driver import Driver

WARM_UP = 5


def time_core(rounds: int) -> dict[str, list[float]]:
    """Microseconds of each `handle`, by the fact's name."""
    flow = load.load(load.find("clinic"))
    call = _booking(Driver(flow))
    times_us: dict[str, list[float]] = defaultdict(list)
    for number in range(rounds + WARM_UP):
        core = CallCore(flow, "bench")
        for now_ms, event, _ in call.log:
            began_ns = time.perf_counter_ns()
            core.handle(event, now_ms)
            spent_ns = time.perf_counter_ns() - began_ns
            if number >= WARM_UP:
                times_us[type(event).__name__].append(spent_ns / 1000)
    return dict(times_us)


def _booking(call: Driver) -> Driver:
    """Keys, voice, read-backs, a correction, three tools."""
    call.results = {
        "find_patient": {"found": True, "patient_id": "p1", "first_name": "x"},
        "find_slot": {"found": True, "slot_id": "s1", "time": "09:00"},
        "book": {"booked": True, "reference": "r1"},
    }
    call.start()
    call.hear_all()
    call.key("31051980")
    for words in ("yes", "monday", "yes", "morning", "yes", "no", "tuesday", "yes", "morning", "yes", "yes"):
        call.hear_all()
        call.say(words)
    call.hear_all()
    assert call.over() is not None, "the clinic's call has another course now"
    return call
