"""Another program: with a folder of its own, its output in a file there, and gone at the end, whatever happens."""

import asyncio
import contextlib
import os
import random
import re
import signal
import socket
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from tests.conftest import needs

LOCALHOST = "127.0.0.1"
PATIENCE_S = 20.0
END_S = 5.0  # between the polite signal and the other one
POLL_S = 0.02
SHOWN_BYTES = 4000  # of a log in a message
LOWEST_PORT = 10_000
MAX_PORT = 65_535
MOST_TAKEN = 200
TAKEN: deque[socket.socket] = deque()
CHANCE = random.SystemRandom()
COLOUR = re.compile(r"\x1b\[[0-9;]*m")


class Process:
    """A running program. `folder` is its working directory and its HOME."""

    def __init__(self, name: str, folder: Path, output: Path, process: asyncio.subprocess.Process) -> None:
        self.name = name
        self.folder = folder
        self._output = output
        self._process = process

    @property
    def log(self) -> str:
        """All that it has written to stdout and stderr, without colours."""
        return COLOUR.sub("", self._output.read_text(errors="replace"))

    @property
    def running(self) -> bool:
        return self._process.returncode is None

    def write(self, line: str) -> None:
        """To its stdin, with the end of the line."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n".encode())

    async def ended(self, timeout_s: float) -> int:
        """Its exit status. `TimeoutError` where it goes on."""
        async with asyncio.timeout(timeout_s):
            return await self._process.wait()

    async def until(self, true: Callable[[], object], what: str, timeout_s: float = PATIENCE_S) -> None:
        """Until `true` says so. Fails with the end of the log when the program ends first or the time is over."""
        try:
            async with asyncio.timeout(timeout_s):
                while not true():
                    if not self.running and not true():
                        raise AssertionError(f"{self.name} ended before {what}:\n{self.tail()}")
                    await asyncio.sleep(POLL_S)
        except TimeoutError:
            raise AssertionError(f"{self.name} waited in vain for {what}:\n{self.tail()}") from None

    async def says(self, text: str, timeout_s: float = PATIENCE_S) -> None:
        """Until `text` stands in its log."""
        await self.until(lambda: text in self.log, repr(text), timeout_s)

    def tail(self) -> str:
        return self.log[-SHOWN_BYTES:]

    async def end(self) -> None:
        """With everything that it started."""
        if self.running:
            self._signal(signal.SIGTERM)
            with contextlib.suppress(TimeoutError):
                await self.ended(END_S)
        self._signal(signal.SIGKILL)
        await self._process.wait()

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)  # its own session, hence its own group


@asynccontextmanager
async def started(
    program: str,
    package: str,
    arguments: list[str],
    folder: Path,
    *,
    env: Mapping[str, str] | None = None,
    pipe: bool = False,
) -> AsyncIterator[Process]:
    """`package` is what to install where the program is missing; `pipe` gives it a stdin that `write` writes to."""
    path = needs(program, f"apt-get install {package}")
    guard = needs("setpriv", "apt-get install util-linux")
    output = _made(folder) / "output.txt"
    with output.open("wb") as file:
        process = await asyncio.create_subprocess_exec(
            # Ends with the tests, also where they are killed.
            *(guard, "--pdeathsig", "KILL", path, *arguments),
            cwd=folder,
            env={**os.environ, "HOME": str(folder), "TZ": "UTC", "LC_ALL": "C.UTF-8", **(env or {})},
            stdin=asyncio.subprocess.PIPE if pipe else asyncio.subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            start_new_session=True,
        )
    running = Process(program, folder, output, process)
    try:
        yield running
    finally:
        await running.end()


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def free_port(count: int = 1) -> int:
    """The first of `count` ports in a row that nobody has on 127.0.0.1, neither for UDP nor for TCP.

    Until another program has bound them nobody else can get them here: they are not among those that the system gives
    to whoever asks for any, and other test processes see that they are taken (by names of abstract sockets, unix(7)).
    """
    while True:
        port = CHANCE.randrange(LOWEST_PORT, _highest_port() - count)
        names: list[socket.socket] = []
        try:
            for number in range(port, port + count):
                names.append(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
                names[-1].bind(f"\0port-{number}-of-a-test")
                for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
                    with socket.socket(socket.AF_INET, kind) as probe:
                        probe.bind((LOCALHOST, number))
        except OSError:
            for name in names:
                name.close()
            continue
        TAKEN.extend(names)
        while len(TAKEN) > MOST_TAKEN:
            TAKEN.popleft().close()
        return port


def _highest_port() -> int:
    """Where the system's own choice begins (ip(7), ip_local_port_range)."""
    first = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    return first if first > LOWEST_PORT + MOST_TAKEN else MAX_PORT
