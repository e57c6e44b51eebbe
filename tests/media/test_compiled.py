"""What the image runs: the hot path, compiled. It does what its sources do, as their own tests say."""

import errno
import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Final

import pytest

from tests.conftest import needs

ROOT: Final = Path(__file__).parents[2]
TESTS: Final = (
    "audio",
    "clock",
    "codec",
    "ear",
    "frames",
    "g722",
    "jitter",
    "linear",
    "mixer",
    "opus",
    "plain",
    "playout",
    "playout_machine",
    "port",
    "recorder",
    "rtp",
    "server",
    "socket",
    "srtp",
    "twilio",
)
WHERE: Final = "import importlib, sys; print(*(importlib.import_module(name).__file__ for name in sys.argv[1:]))"


def compiler() -> ModuleType:
    needs("gcc", "apt-get install gcc libc6-dev")
    needs(f"{sysconfig.get_path('include')}/Python.h", "apt-get install python3-dev")
    spec = importlib.util.spec_from_file_location("voicegate_compile", ROOT / "docker" / "compile.py")
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


def python(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """With all that is imported from there."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env={**environment, "PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.timeout(400)
def test_the_compiled_hot_path_passes_the_tests_of_its_sources(tmp_path: Path) -> None:
    compile_py = compiler()
    for package in ("app", "media", "flows", "tests"):
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    compile_py.compile_in(tmp_path, quickly=True)
    modules = [f"media.{module.replace('/', '.')}" for module in compile_py.MODULES]
    files = python(tmp_path, "-c", WHERE, *modules).stdout.split()
    assert len(files) == len(modules)
    assert all(file.startswith(str(tmp_path)) and not file.endswith(".py") for file in files), files
    tests = [f"tests/media/test_{name}.py" for name in TESTS]
    done = python(
        tmp_path, "-m", "pytest", "-p", "no:xdist", "-p", "no:cacheprovider", *tests, "tests/sip/test_media.py"
    )
    assert done.returncode == 0, done.stdout[-4000:]


def test_a_work_tree_is_not_compiled_in_place(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "media", tmp_path / "media")
    (tmp_path / ".git").mkdir()
    with pytest.raises(RuntimeError, match="work tree"):
        compiler().compile_in(tmp_path)


def test_a_folder_without_media_is_told(tmp_path: Path) -> None:
    done = python(tmp_path, str(ROOT / "docker" / "compile.py"), str(tmp_path))
    assert done.returncode == 1
    assert "media/audio.py" in done.stderr


def test_without_room_nothing_of_it_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(ROOT / "media", tmp_path / "media", ignore=shutil.ignore_patterns("__pycache__"))
    before = sorted(tmp_path.rglob("*"))
    compile_py = compiler()
    made = ("digits.so", "ear.so", "vad.so")

    def compiled(command: list[str], *, cwd: str, **options: object) -> subprocess.CompletedProcess[str]:
        Path(cwd, "build").mkdir()
        for name in made:
            Path(cwd, "media", name).write_bytes(bytes(1000))
        return subprocess.CompletedProcess(command, 0, "", "")

    def full(source: Path, target: Path, copy: Callable[..., object] = shutil.copy) -> None:
        copy(source, target)
        if len(list(target.parent.glob("*.so"))) == len(made) - 1:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(compile_py.subprocess, "run", compiled)
    monkeypatch.setattr(compile_py.shutil, "copy", full)
    with pytest.raises(OSError, match="No space left"):
        compile_py.compile_in(tmp_path)
    assert sorted(tmp_path.rglob("*")) == before


def test_what_the_compiler_says_is_passed_on(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "media", tmp_path / "media", ignore=shutil.ignore_patterns("__pycache__"))
    with (tmp_path / "media" / "audio.py").open("a") as file:
        file.write("\nWRONG: int = 'a word'\n")
    with pytest.raises(RuntimeError, match="Incompatible types"):
        compiler().compile_in(tmp_path)
