"""Helper processes, as the system sees them."""

import asyncio
import subprocess
from collections.abc import Callable

import pytest


def running(pid: int) -> bool:
    """Not gone and not a zombie that nobody has reaped."""
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False).stdout
    return bool(state.strip()) and not state.startswith("Z")


async def until(condition: Callable[[], bool], patience_s: float = 30) -> None:
    for _ in range(round(patience_s * 100)):
        if condition():
            return
        await asyncio.sleep(0.01)
    pytest.fail("it never came")
