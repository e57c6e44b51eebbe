"""Takes one fence out of a copy of the core and runs the tests that must notice, against that copy."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from msgspec import Struct

from tests.mutation.mutations import Mutation

ROOT = Path(__file__).parents[2]
SUPPORT = ("driver.py", "inspector.py", "shop.py")
WORKERS = 2
TIMEOUT_S = 60
WRONG_COPY = 90

_RUN = f"""
import sys
from pathlib import Path
import app.core.core, flows.semantics, pytest
here = Path.cwd().resolve()
if not all(here in Path(module.__file__).resolve().parents for module in (app.core.core, flows.semantics)):
    sys.exit({WRONG_COPY})
sys.exit(pytest.main(sys.argv[1:]))
"""


class Result(Struct, frozen=True):
    mutation: Mutation
    verdict: str  # "killed", "SURVIVED", or what went wrong
    test: str = ""  # the first test that failed


class BadMutation(Exception):
    """It does not fit the source any more, or its tests cannot run."""


def copy(mutation: Mutation | None, folder: Path) -> None:
    """The core, the flow language and their tests, with one fence taken away. Raises `BadMutation`."""
    for part in ("app/core", "flows", "tests/core"):
        shutil.copytree(ROOT / part, folder / part)  # times and caches too: only what is changed is compiled anew
    (folder / "app/__init__.py").touch()
    (folder / "tests/support").mkdir()
    for name in SUPPORT:
        shutil.copy(ROOT / "tests/support" / name, folder / "tests/support" / name)
    if mutation is None:
        return
    file = folder / mutation.file
    text = file.read_text()
    if text.count(mutation.source) != 1:
        raise BadMutation(f"{mutation.name}: its source stands {text.count(mutation.source)} times in {mutation.file}")
    file.write_text(text.replace(mutation.source, mutation.instead))


def run(mutation: Mutation | None, tests: Sequence[str]) -> tuple[int, str]:
    """pytest's exit code and output. Raises `BadMutation`."""
    with tempfile.TemporaryDirectory(prefix="voicegate-mutation-") as name:
        folder = Path(name)
        copy(mutation, folder)
        files = [f"tests/core/{test}" for test in tests]
        command = [
            sys.executable,
            "-c",
            _RUN,
            "-x",
            "-q",
            "--tb=line",
            "--assert=plain",
            "--import-mode=importlib",
            "-c",
            os.devnull,
        ]
        environment = {**os.environ, "PYTHONPATH": name, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONHASHSEED": "0"}
        environment["PYTHONDONTWRITEBYTECODE"] = "1"
        done = subprocess.run(
            [*command, *files],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
        return done.returncode, done.stdout + done.stderr


def judge(mutation: Mutation) -> Result:
    try:
        code, output = run(mutation, mutation.tests)
    except BadMutation as error:
        return Result(mutation, str(error))
    except subprocess.TimeoutExpired:
        return Result(mutation, "killed", "it does not come to an end")
    failed = [line.split("::", 1)[1] for line in output.splitlines() if line.startswith("FAILED") and "::" in line]
    match code:
        case 1 if failed:
            return Result(mutation, "killed", failed[0].partition(" - ")[0])
        case 0:
            return Result(mutation, "SURVIVED")
        case code if code == WRONG_COPY:
            return Result(mutation, "the copy was not what ran")
    return Result(mutation, f"pytest ended with {code}: {output[-300:]}")


def judge_all(mutations: Sequence[Mutation]) -> Iterator[Result]:
    """In their order. Raises `BadMutation` where the tests fail without any mutation."""
    every = sorted({test for mutation in mutations for test in mutation.tests})
    code, output = run(None, every)
    if code != 0:
        raise BadMutation(f"the tests fail on the untouched source: {output[-2000:]}")
    with ThreadPoolExecutor(WORKERS) as pool:
        yield from pool.map(judge, mutations)
