"""Which calls were worst for their callers, and why: a weight that only orders them, and reasons in words."""

from collections.abc import Iterable
from typing import Final

from app.load.results import CallResult, What

FAILED: Final = 1e6
UNEXPECTED: Final = 1e5
MISTAKE: Final = 1e4  # each: talked on, stopped for nothing, cut in, did not answer
LATE: Final = 50.0  # each frame
WEIGHTS: Final = {
    What.barge_in: 5.0,  # what is annoying at 400 ms there, is so at 2 s in an answer
    What.key_barge_in: 5.0,
    What.response: 1.0,
    What.key_response: 1.0,
    What.gap: 5.0,
    What.set_up: 1.0,
    What.resume: 0.5,
}
SLOW_MS: Final = {What.barge_in: 300.0, What.key_barge_in: 300.0, What.response: 1500.0, What.key_response: 1500.0}
WORDS: Final = {
    What.barge_in: "fell silent late",
    What.key_barge_in: "fell silent late for a key",
    What.response: "slow answer",
    What.key_response: "slow answer to keys",
}


def weight(call: CallResult) -> float:
    """The more, the worse; what the tester itself spoilt does not count."""
    worst: dict[What, float] = {}
    for one in call.measures:
        if not one.own:
            worst[one.what] = max(one.ms, worst.get(one.what, 0.0))
    return (
        FAILED * bool(call.error or call.refused)
        + UNEXPECTED * (call.as_expected is False)
        + MISTAKE * sum(count for count, _ in _mistakes(call))
        + LATE * call.late
        + sum(WEIGHTS.get(what, 0.0) * ms for what, ms in worst.items())
    )


def worst(calls: Iterable[CallResult], count: int) -> list[CallResult]:
    """Those that were up; a refused call has nothing to be heard."""
    return sorted((call for call in calls if call.talked_s > 0), key=weight, reverse=True)[:count]


def reasons(call: CallResult) -> list[str]:
    """The gravest first; empty where nothing was wrong."""
    found = []
    if call.refused:
        found.append(f"refused: {call.refused}")
    if call.error:
        found.append(f"failed: {call.error}")
    if call.as_expected is False:
        found.append(f"ended otherwise than expected: {call.outcome or call.cause or call.ended_by}")
    found += [f"{words} ({count}×)" if count > 1 else words for count, words in _mistakes(call) if count]
    for what, words in WORDS.items():
        slowest_ms = max((one.ms for one in call.measures if one.what is what and not one.own), default=0.0)
        if slowest_ms > SLOW_MS[what]:
            found.append(f"{words}: {slowest_ms:,.0f} ms")
    if call.late:
        found.append(f"{call.late} late frames" if call.late > 1 else "a late frame")
    return found


def _mistakes(call: CallResult) -> list[tuple[int, str]]:
    return [
        (call.unyielded, "talked on over an interruption"),
        (call.missed_ends, "did not answer"),
        (call.false_ends, "came in before the caller's end"),
        (call.stopped_by_backchannel, "stopped for a backchannel"),
        (call.stopped_by_noise, "stopped for a noise"),
    ]
