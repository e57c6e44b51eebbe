"""The machine under the figures: which core does what, and what a process used."""

import fcntl
import os
import platform
import subprocess
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from app.load.machine import python

SERVER_CORE = 0
LOAD_CORE = 1
REAL_TIME_PRIORITY = 10


def take_turn() -> None:
    """Wait until no other benchmark runs here: two that have the same cores measure each other.

    The turn ends with this process.
    """
    turn = os.open(Path(tempfile.gettempdir()) / "voicegate-bench.turn", os.O_CREAT | os.O_RDWR, 0o666)
    try:
        fcntl.flock(turn, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        print("another benchmark runs: waiting for its end", flush=True)
        fcntl.flock(turn, fcntl.LOCK_EX)


def pin(pid: int, core: int) -> None:
    """To one core, where the machine has it."""
    with suppress(OSError):
        for task in os.listdir(f"/proc/{pid}/task"):
            os.sched_setaffinity(int(task), {core})


def prefer(pid: int) -> bool:
    """Let nothing else on its core delay it, so that the figures are the program's own; False where not allowed.

    Its threads take turns: else its journal would starve as soon as its loop is never idle.
    """
    try:
        for task in os.listdir(f"/proc/{pid}/task"):
            os.sched_setscheduler(int(task), os.SCHED_RR, os.sched_param(REAL_TIME_PRIORITY))
    except PermissionError:
        return False
    return True


@dataclass(frozen=True, slots=True)
class Usage:
    """Of one process with its threads and without its children, since it began."""

    cpu_ms: float
    beside_ms: float  # of it: what is not the first thread's, which has the event loop
    waited_ms: float  # the first thread was ready to run, while the core did something else

    @property
    def taken_ms(self) -> float:
        """That the core did for others. Its own threads on the same core are not; each is waited for once at most."""
        return max(0.0, self.waited_ms - self.beside_ms)

    def __sub__(self, other: "Usage") -> "Usage":
        return Usage(self.cpu_ms - other.cpu_ms, self.beside_ms - other.beside_ms, self.waited_ms - other.waited_ms)


def usage(pid: int) -> Usage:
    """From the scheduler's own nanoseconds; a thread that has ended is lost."""
    cpu_ns = first_ns = waited_ns = 0
    for task in os.listdir(f"/proc/{pid}/task"):
        ran, waited, _ = map(int, Path(f"/proc/{pid}/task/{task}/schedstat").read_text().split())
        cpu_ns += ran
        if int(task) == pid:
            first_ns, waited_ns = ran, waited
    return Usage(cpu_ns / 1e6, (cpu_ns - first_ns) / 1e6, waited_ns / 1e6)


def throttled_percent() -> float:
    """Of a core, that the system keeps from programs with real-time priority which would use it all."""
    try:
        runs_us, of_us = (int(_lines(f"/proc/sys/kernel/sched_rt_{name}_us")[0]) for name in ("runtime", "period"))
    except (IndexError, ValueError):
        return 0.0
    return 100 * (1 - runs_us / of_us) if runs_us >= 0 else 0.0


def resident_mb(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise LookupError("no VmRSS")


def describe() -> list[str]:
    """Commit, machine and versions, a line each."""
    root = Path(__file__).parents[2]
    commit = _git(root, "rev-parse", "--short", "HEAD") or "no repository"
    changed = " with changes" if _git(root, "status", "--porcelain", "--untracked-files=no") else ""
    cpu = next(
        (line.partition(":")[2].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")), ""
    )
    return [
        f"commit {commit}{changed}, {python()}",
        f"{cpu or platform.machine()}, {os.cpu_count()} cores, {platform.system()} {platform.release()}",
        f"load average {os.getloadavg()[0]:.1f} as it began; server on core {SERVER_CORE}, callers on core {LOAD_CORE}",
    ]


def _git(root: Path, *arguments: str) -> str:
    try:
        done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return ""
    return done.stdout.strip()


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []
