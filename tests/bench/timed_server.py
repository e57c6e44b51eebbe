"""The real server, with a stopwatch around two of its functions: from the onset's fact to the playout held.

Run as a program, like `voicegate`. As it ends it writes the times, in microseconds, to the file that `TIMES` names.
"""

import json
import os
import time
from pathlib import Path
from typing import Final

from app import cli
from app.runtime.line import Line
from media.playout import Playout

TIMES: Final = "BENCH_TIMES"

_onset_ns: dict[Playout, int] = {}
_times_us: list[float] = []

_speech_started = Line.speech_started
_hold = Playout.hold


def speech_started(self: Line, utterance: int, now_ms: int) -> None:
    assert self._leg is not None
    _onset_ns[self._leg.playout] = time.perf_counter_ns()
    _speech_started(self, utterance, now_ms)


def hold(self: Playout, gen: int) -> None:
    _hold(self, gen)
    began_ns = _onset_ns.pop(self, None)
    if began_ns is not None:
        _times_us.append((time.perf_counter_ns() - began_ns) / 1000)


if __name__ == "__main__":
    setattr(Line, "speech_started", speech_started)  # noqa: B010
    setattr(Playout, "hold", hold)  # noqa: B010
    try:
        cli.main()
    finally:
        Path(os.environ[TIMES]).write_text(json.dumps(_times_us))
