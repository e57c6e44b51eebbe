"""A server of its own for the suite: the suite's flows, embedded speech, another process, a folder that goes away."""

import asyncio
import os
import re
import sys
import tempfile
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

FLOWS: Final = Path(__file__).with_name("flows")
SETTINGS: Final = {
    "MAX_CALLS": "200",
    "MAX_CALLS_PER_ADDRESS": "200",
    "MAX_LOAD": "0",  # turns are what is measured: a machine that is busy otherwise refuses none
    "MAX_LAG_MS": "0",
    "DRAIN_S": "1",
    "LOG_LEVEL": "error",
}
START_S: Final = 60.0
STOP_S: Final = 20.0
PROGRAM: Final = "from app.cli import main; main()"


class NotServing(Exception):
    """The server did not start; `str()` is one clear line."""


@asynccontextmanager
async def serving(folder: Path | None = None) -> AsyncIterator[str]:
    """Its address, such as ws://127.0.0.1:1234. `folder` keeps its journal. Raises `NotServing`."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("VOICEGATE_")}
    environment |= {f"VOICEGATE_{key}": value for key, value in SETTINGS.items()}
    with tempfile.TemporaryDirectory(prefix="voicegate-suite-") as temporary:
        flows = [str(path) for path in sorted(FLOWS.glob("*.yaml"))]
        options = ("--speech", "embedded", "--port", "0", "--data-dir", str(folder or temporary))
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", PROGRAM, "serve", *flows, *options, env=environment, stdout=PIPE
        )
        try:
            yield await _address(process)
        finally:
            await _stop(process)


async def _address(process: Process) -> str:
    assert process.stdout is not None
    try:
        async with asyncio.timeout(START_S):
            line = (await process.stdout.readline()).decode()
    except TimeoutError:
        line = ""
    found = re.search(r"http://(\S+?:\d+)", line)
    if found is None:
        raise NotServing("the suite's own server did not start: try `voicegate serve`")
    return f"ws://{found[1]}"


async def _stop(process: Process) -> None:
    if process.returncode is not None:
        return
    process.terminate()
    try:
        async with asyncio.timeout(STOP_S):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()
