"""A loop whose clock jumps to the next timer as soon as nothing else can run: tests of hours take milliseconds.

Only for code without real sockets, processes or threads; waiting for those would jump over them.
"""

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

START_S = 1000.0


class VirtualLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        super().__init__(selectors.SelectSelector())
        self._virtual_s = START_S
        select = self._selector.select  # type: ignore[attr-defined]

        def jump(timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
            if timeout is None:
                raise RuntimeError("nothing will ever happen: every task waits for another")
            if timeout > 0:
                self._virtual_s += timeout
            return list(select(0))

        self._selector.select = jump  # type: ignore[attr-defined]

    def time(self) -> float:
        return self._virtual_s


class LoopClock:
    """`app.ports.Clock` over the running loop's time."""

    def monotonic_ms(self) -> int:
        return round(asyncio.get_running_loop().time() * 1000)

    def wall_iso(self) -> str:
        return "2030-01-01T00:00:00.000Z"


def run(job: Coroutine[Any, Any, T]) -> T:
    """Run to the end on a virtual clock."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(job)
