"""The real server as a process of its own, on one core, with scripted speech of declared latencies."""

import os
import re
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.bench import machine

FLOW = Path(__file__).with_name("talk.yaml")
START_TIMEOUT_S = 30
STOP_TIMEOUT_S = 15

ENDPOINT_MS = 300  # as in the flow
STT_FINAL_MS = 50  # hidden behind the endpoint
LLM_FIRST_MS = 50
TTS_FIRST_MS = 50
REPLY_TOKENS = 105  # 60 words, 23 seconds: nobody lets it finish

SETTINGS = {
    "STT_FINAL_MS": STT_FINAL_MS,
    "LLM_FIRST_TOKEN_MS": LLM_FIRST_MS,
    "LLM_TOKEN_MS": 0,  # else the timers of ten words would count as ours
    "LLM_TOKENS": REPLY_TOKENS,
    "TTS_FIRST_AUDIO_MS": TTS_FIRST_MS,
    "TTS_SPEED": 5,
    "MAX_CALLS": 200,
    "MAX_CALLS_PER_ADDRESS": 200,
    "MAX_LOAD": 0,
    "MAX_LAG_MS": 0,
    "DRAIN_S": 1,
    "LOG_LEVEL": "warning",
}

SERVE = (str(Path(sys.executable).with_name("voicegate")),)


@dataclass(frozen=True, slots=True)
class Server:
    pid: int
    host: str
    port: int
    data: Path


@contextmanager
def running(program: Sequence[str] = SERVE, extra: Mapping[str, str] | None = None) -> Iterator[Server]:
    """A server that takes calls. Raises `RuntimeError` where it does not start."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("VOICEGATE_")}
    environment |= {f"VOICEGATE_{key}": str(value) for key, value in SETTINGS.items()} | dict(extra or {})
    with tempfile.TemporaryDirectory(prefix="voicegate-bench-") as folder:
        command = [*program, "serve", str(FLOW)]
        command += ["--speech", "scripted", "--port", "0", "--data-dir", folder]
        process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
        try:
            host, port = _address(process)
            machine.pin(process.pid, machine.SERVER_CORE)
            machine.prefer(process.pid)
            yield Server(process.pid, host, port, Path(folder))
        finally:
            process.terminate()
            try:
                process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _address(process: "subprocess.Popen[str]") -> tuple[str, int]:
    assert process.stdout is not None
    found = re.search(r"http://([\w.]+):(\d+)", process.stdout.readline())
    if found is None:
        raise RuntimeError("the server did not start")
    host, port = found[1], int(found[2])
    until = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < until:
        try:
            with urllib.request.urlopen(f"http://{host}:{port}/health", timeout=2):
                return host, port
        except OSError:
            time.sleep(0.05)
    raise RuntimeError("the server does not answer")
