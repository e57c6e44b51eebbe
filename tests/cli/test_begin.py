"""An interrupt while the commands are still being loaded."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.process import start

SLOW = """
import os, time
os.write(1, b"loading\\n")
time.sleep(60)
"""


@pytest.fixture
def _interruptible() -> Iterator[None]:
    """What a shell starts in the background ignores interrupts, and so does all that it starts."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("_interruptible")
async def test_an_interrupt_while_it_loads_ends_it_without_a_word(tmp_path: Path) -> None:
    (tmp_path / "typer.py").write_text(SLOW)  # in place of the first thing that is loaded
    process = await start("serve", cwd=tmp_path, PYTHONPATH=str(tmp_path))
    assert process.stdout is not None
    assert await process.stdout.readline() == b"loading\n"
    process.send_signal(signal.SIGINT)
    _, err = await process.communicate()
    assert (process.returncode, err) == (-signal.SIGINT, b"")
