"""The command as a process of its own, as a person or an init system starts it."""

import asyncio
import json
import os
import re
import sys
import urllib.error
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

VOICEGATE = Path(sys.executable).parent / "voicegate"
PATIENCE_S = 60
MAX_LINE_BYTES = 1024 * 1024


@dataclass
class Done:
    status: int
    out: str
    err: str


def environment(**more: str) -> dict[str, str]:
    """A clean one: nothing of the machine's own settings."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("VOICEGATE_", "FLOW_"))}
    return kept | {"COLUMNS": "100", "VOICEGATE_MAX_LOAD": "0", "VOICEGATE_MAX_LAG_MS": "0"} | more


async def start(*arguments: str | Path, cwd: Path, **variables: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        VOICEGATE,
        *map(str, arguments),
        cwd=cwd,
        env=environment(**variables),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        limit=MAX_LINE_BYTES,
    )


async def run(
    *arguments: str | Path, cwd: Path, typed: str = "", patience_s: float = PATIENCE_S, **variables: str
) -> Done:
    """One command to its end."""
    process = await start(*arguments, cwd=cwd, **variables)
    try:
        async with asyncio.timeout(patience_s):
            out, err = await process.communicate(typed.encode())
    finally:
        if process.returncode is None:
            process.kill()
    assert process.returncode is not None
    return Done(process.returncode, out.decode(), err.decode())


class Gate:
    """A `voicegate serve` that is ready."""

    def __init__(self, process: asyncio.subprocess.Process, url: str) -> None:
        self.process = process
        self.url = url
        self.err = ""

    def ws(self, path: str) -> str:
        return self.url.replace("http", "ws", 1) + path

    async def health(self) -> tuple[int, dict[str, Any]]:
        return await asyncio.to_thread(_get, f"{self.url}/health")

    async def draining(self) -> None:
        for _ in range(PATIENCE_S * 20):
            if (await self.health())[0] == 503:
                return
            await asyncio.sleep(0.05)
        raise TimeoutError

    async def over(self) -> int:
        """The exit status, once it has one."""
        async with asyncio.timeout(PATIENCE_S):
            return await self.process.wait()


def _get(url: str) -> tuple[int, dict[str, Any]]:
    try:
        with urllib.request.urlopen(url, timeout=10) as response:
            return response.status, json.loads(response.read())
    except urllib.error.HTTPError as refused:
        return refused.code, json.loads(refused.read())


@asynccontextmanager
async def serving(*flows: str | Path, folder: Path, **variables: str) -> AsyncIterator[Gate]:
    """With scripted speech unless said otherwise; killed in the end if it still runs."""
    settings = {"VOICEGATE_SPEECH": "scripted", "VOICEGATE_TTS_SPEED": "50"} | variables
    process = await start("serve", *flows, "--port", "0", "--data-dir", folder / "var", cwd=folder, **settings)
    assert process.stdout is not None
    async with asyncio.TaskGroup() as group:
        try:
            async with asyncio.timeout(PATIENCE_S):
                told = ""
                while not (found := re.search(r"serves .* on (http://\S+)", told)):
                    line = (await process.stdout.readline()).decode()
                    assert line, f"it ended: {told}{(await _rest(process)).decode()}"
                    told += line
            gate = Gate(process, found[1])
            group.create_task(_keep_errors(gate))
            yield gate
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()


async def _rest(process: asyncio.subprocess.Process) -> bytes:
    assert process.stderr is not None
    return await process.stderr.read()


async def _keep_errors(gate: Gate) -> None:
    assert gate.process.stderr is not None
    while line := await gate.process.stderr.readline():
        gate.err += line.decode()
