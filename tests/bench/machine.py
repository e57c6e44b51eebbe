"""The machine under the figures: which core does what, and what a process used."""

import os
import platform
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

SERVER_CORE = 0
LOAD_CORE = 1
REAL_TIME_PRIORITY = 10


def pin(pid: int, core: int) -> None:
    """To one core, where the machine has it."""
    with suppress(OSError):
        for task in os.listdir(f"/proc/{pid}/task"):
            os.sched_setaffinity(int(task), {core})


def prefer(pid: int) -> bool:
    """Let nothing else on its core delay it, so that the figures are the program's own; False where not allowed."""
    try:
        for task in os.listdir(f"/proc/{pid}/task"):
            os.sched_setscheduler(int(task), os.SCHED_FIFO, os.sched_param(REAL_TIME_PRIORITY))
    except PermissionError:
        return False
    return True


@dataclass(frozen=True, slots=True)
class Usage:
    """Of one process with its threads and without its children, since it began."""

    cpu_ms: float
    waited_ms: float  # ready to run, while the core did something else

    def __sub__(self, other: "Usage") -> "Usage":
        return Usage(self.cpu_ms - other.cpu_ms, self.waited_ms - other.waited_ms)


def usage(pid: int) -> Usage:
    """From the scheduler's own nanoseconds; a thread that has ended is lost."""
    cpu_ns = waited_ns = 0
    for task in os.listdir(f"/proc/{pid}/task"):
        ran, waited, _ = Path(f"/proc/{pid}/task/{task}/schedstat").read_text().split()
        cpu_ns += int(ran)
        waited_ns += int(waited)
    return Usage(cpu_ns / 1e6, waited_ns / 1e6)


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
        f"commit {commit}{changed}, Python {platform.python_version()} ({sys.implementation.name})",
        f"{cpu or platform.machine()}, {os.cpu_count()} cores, {platform.system()} {platform.release()}",
        f"load average {os.getloadavg()[0]:.1f} as it began; server on core {SERVER_CORE}, callers on core {LOAD_CORE}",
    ]


def _git(root: Path, *arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=False)
    return done.stdout.strip()


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []
