"""What the tester ran on, as a report tells it."""

import os
import platform
from importlib.metadata import version
from pathlib import Path


def describe() -> list[str]:
    """A line each."""
    cpu = next(
        (line.partition(":")[2].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")),
        platform.processor() or platform.machine(),
    )
    return [
        f"voicegate {version('voicegate')}, Python {platform.python_version()}",
        f"{cpu}, {os.cpu_count()} cores, {platform.system()} {platform.release()}",
        f"load average {os.getloadavg()[0]:.1f} as it began",
    ]


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text("utf-8", errors="replace").splitlines()
    except OSError:
        return []
