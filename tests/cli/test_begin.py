"""An interrupt while the commands are still being loaded."""

import signal
from pathlib import Path

from tests.cli.process import start

SLOW = """
import os, time
os.write(1, b"loading\\n")
time.sleep(60)
"""


async def test_an_interrupt_while_it_loads_ends_it_without_a_word(tmp_path: Path) -> None:
    (tmp_path / "typer.py").write_text(SLOW)  # in place of the first thing that is loaded
    process = await start("serve", cwd=tmp_path, PYTHONPATH=str(tmp_path))
    assert process.stdout is not None
    assert await process.stdout.readline() == b"loading\n"
    process.send_signal(signal.SIGINT)
    _, err = await process.communicate()
    assert (process.returncode, err) == (-signal.SIGINT, b"")
