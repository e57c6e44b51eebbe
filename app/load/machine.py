"""What the tester ran on, as a report tells it."""

import os
import platform
import sys
import sysconfig
from importlib.metadata import version
from pathlib import Path

from media import rtp_audio


def describe() -> list[str]:
    """A line each."""
    cpu = next(
        (line.partition(":")[2].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")),
        platform.processor() or platform.machine(),
    )
    return [
        f"voicegate {version('voicegate')}, {python()}",
        f"{cpu}, {os.cpu_count()} cores, {platform.system()} {platform.release()}",
        f"load average {os.getloadavg()[0]:.1f} as it began",
    ]


def python() -> str:
    """Its version, how it was built, and whether our hot path was (docker/compile.py).

    Without profiles it is about 1.4 times slower at what we do. Builds tell in their options, but not those of Debian
    and Ubuntu, which have profiles.
    """
    profiled = "--enable-optimizations" in str(sysconfig.get_config_var("CONFIG_ARGS")) or sys.base_prefix == "/usr"
    how = (
        "with profile-guided optimisation"
        if profiled
        else "without profile-guided optimisation: about 1.4 times slower"
    )
    hot_path = "interpreted" if rtp_audio.__file__.endswith(".py") else "compiled"
    return f"Python {platform.python_version()} ({sys.implementation.name}), built {how}; hot path {hot_path}"


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text("utf-8", errors="replace").splitlines()
    except OSError:
        return []
