"""One helper process and its life: started, warmed, fed with frames, and started again when it dies.

No task and no thread: the loop watches the socket. The helper sees the end of that socket when the server dies, however
it dies, and ends too.
"""

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import Callable

from app.ports import Fault, ProviderError
from app.providers.frames import READ_BYTES, READY, Frame, FrameError, Frames, pack

START_TIMEOUT_S = 20.0
STOP_TIMEOUT_S = 2.0
REAP_EVERY_S = 0.02
FIRST_BACKOFF_S = 0.25
MAX_BACKOFF_S = 10.0
MAX_BACKLOG_BYTES = 4 << 20

PASSED_ENV = (
    "PATH",
    "HOME",
    "PYTHONPATH",
    "PYTHONHOME",
    "LD_LIBRARY_PATH",
    "DYLD_LIBRARY_PATH",
    "TMPDIR",
    "SYSTEMROOT",
)
"""All that a helper gets of the server's environment, which also holds keys."""


class Process:
    """Runs `python -m module`. `on_frame` gets each frame after the first, `on_death` is told once a death.

    The first restart after good work is at once; from then on the wait doubles up to `MAX_BACKOFF_S`.
    """

    def __init__(self, module: str, on_frame: Callable[[Frame], None], on_death: Callable[[], None]) -> None:
        self._module = module
        self._on_frame = on_frame
        self._on_death = on_death
        self._child: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None
        self._frames = Frames()
        self._backlog = bytearray()
        self._deaths = 0  # in a row, without good work between them
        self._restart: asyncio.TimerHandle | None = None
        self._ready = asyncio.Event()
        self._stopping = False

    @property
    def pid(self) -> int:
        """0 while it is down."""
        return self._child.pid if self._child is not None else 0

    @property
    def up(self) -> bool:
        """It takes frames; it may still be warming up."""
        return self._socket is not None

    async def start(self) -> None:
        """Start it and wait until it is warm. Raises `ProviderError`."""
        self._stopping = False
        self._deaths = 0
        self._spawn()
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                while not self._ready.is_set():
                    if self._deaths:
                        raise ProviderError(Fault.crashed, "a helper process died while it started")
                    await asyncio.sleep(REAP_EVERY_S)
        except TimeoutError:
            raise ProviderError(Fault.timeout, "a helper process did not start") from None
        finally:
            if not self._ready.is_set():
                await self.stop()

    async def stop(self) -> None:
        """Let it end, then make it end."""
        self._stopping = True
        child, self._child = self._child, None
        if self._restart is not None:
            self._restart.cancel()
            self._restart = None
        self._hang_up()
        if child is None:
            return
        try:
            for _ in range(round(STOP_TIMEOUT_S / REAP_EVERY_S)):
                if child.poll() is not None:
                    return
                await asyncio.sleep(REAP_EVERY_S)
        finally:
            if child.poll() is None:
                child.kill()
                child.wait()

    def send(self, kind: int, number: int, body: bytes = b"") -> None:
        """Never blocks. Raises `ProviderError` when it is down, or ended because it does not read what it is sent."""
        if self._socket is None:
            raise ProviderError(Fault.crashed, "a helper process is down")
        data = pack(kind, number, body)
        if self._backlog:
            if len(self._backlog) + len(data) > MAX_BACKLOG_BYTES:
                self._died()
                raise ProviderError(Fault.crashed, "a helper process hung")
            self._backlog += data
            return
        try:
            sent = self._socket.send(data)
        except BlockingIOError:
            sent = 0
        except OSError:
            # Its end of the socket is gone: the loop will report the death, here it is one frame that went nowhere.
            raise ProviderError(Fault.crashed, "a helper process died") from None
        if sent < len(data):
            self._backlog += data[sent:]
            asyncio.get_running_loop().add_writer(self._socket.fileno(), self._flush)

    def kill(self) -> None:
        """It hangs: end it now and start another."""
        if self._child is not None:
            self._died()

    def _spawn(self) -> None:
        ours, theirs = socket.socketpair()
        try:
            # A session of its own keeps the terminal's Ctrl-C from it: the server drains first.
            self._child = subprocess.Popen(  # noqa: S603 - our own module, by our own interpreter
                [sys.executable, "-P", "-m", self._module],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env={name: os.environ[name] for name in PASSED_ENV if name in os.environ},
                start_new_session=True,
            )
        except OSError:
            ours.close()
            raise ProviderError(Fault.crashed, "a helper process cannot be started") from None
        finally:
            theirs.close()
        ours.setblocking(False)
        self._socket = ours
        self._frames = Frames()
        self._ready.clear()
        asyncio.get_running_loop().add_reader(ours.fileno(), self._readable)

    def _respawn(self) -> None:
        self._restart = None
        try:
            self._spawn()
        except ProviderError:
            self._back_off()

    def _readable(self) -> None:
        assert self._socket is not None
        try:
            data = self._socket.recv(READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._died()
            return
        child = self._child
        try:
            for frame in self._frames.feed(data):
                if frame.kind == READY:
                    self._ready.set()
                    continue
                self._deaths = 0
                self._on_frame(frame)
                if self._child is not child:
                    return
        except FrameError:
            self._died()

    def _flush(self) -> None:
        assert self._socket is not None
        try:
            sent = self._socket.send(self._backlog)
        except BlockingIOError:
            return
        except OSError:
            self._died()
            return
        del self._backlog[:sent]
        if not self._backlog:
            asyncio.get_running_loop().remove_writer(self._socket.fileno())

    def _died(self) -> None:
        child, self._child = self._child, None
        self._hang_up()
        if child is not None:
            child.kill()
            _reap(child)
        if not self._stopping:
            self._back_off()
        self._on_death()

    def _back_off(self) -> None:
        self._deaths += 1
        wait_s = 0.0 if self._deaths == 1 else min(FIRST_BACKOFF_S * 2 ** (self._deaths - 2), MAX_BACKOFF_S)
        if wait_s:
            self._restart = asyncio.get_running_loop().call_later(wait_s, self._respawn)
        else:
            self._respawn()

    def _hang_up(self) -> None:
        if self._socket is not None:
            loop = asyncio.get_running_loop()
            loop.remove_reader(self._socket.fileno())
            loop.remove_writer(self._socket.fileno())
            self._socket.close()
            self._socket = None
        self._backlog.clear()


def _reap(child: "subprocess.Popen[bytes]") -> None:
    if child.poll() is None:
        asyncio.get_running_loop().call_later(REAP_EVERY_S, _reap, child)
