"""Compiles what runs for every packet and every frame: `python docker/compile.py FOLDER`, which holds `media`.

Its modules are plain Python with types, so mypyc can make machine code of them. That is a choice and no need: without
it the same modules run as they are, and calls cost a tenth more, by SIP a fifth. It wants a C compiler, mypy and
setuptools.

The compiled modules are put beside their sources and are taken first, whatever becomes of those. So FOLDER is made anew
for each version: an image's installation, or a copy.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

MODULES: Final = (
    "audio",
    "clock",
    "codec",
    "digits",
    "ear",
    "g722",
    "histogram",
    "jitter",
    "leg",
    "linear",
    "mixer",
    "opus",
    "playout",
    "recorder",
    "rtcp",
    "rtp",
    "rtp_audio",
    "sip/peer",
    "sip/port",
    "sip/session",
    "srtp",
    "vad",
    "websocket/frames",
    "websocket/protocol",
)
"""Of `media`: what runs for each packet and frame. All codecs, as they share a protocol."""

MADE: Final = ("*.so", "*.pyd")
PATIENCE_S: Final = 600


def compile_in(folder: Path, *, quickly: bool = False) -> None:
    """All of them or none. `quickly`: for a test, which does not need quick code.

    Raises `RuntimeError` with the compiler's words, and `OSError` where there is no room for what it made.
    """
    sources = [f"media/{module}.py" for module in MODULES]
    missing = [source for source in sources if not (folder / source).is_file()]
    if missing:
        raise RuntimeError(f"{folder} has no {missing[0]}: name the folder that holds media")
    if (folder / ".git").exists():
        raise RuntimeError(f"{folder} is a work tree, whose sources change: name a copy")
    with tempfile.TemporaryDirectory() as workshop:
        shutil.copytree(folder / "media", Path(workshop, "media"), ignore=shutil.ignore_patterns("__pycache__", *MADE))
        done = subprocess.run(
            [sys.executable, "-m", "mypyc", "--ignore-missing-imports", "--follow-imports=silent", *sources],
            cwd=workshop,
            env={**os.environ, "MYPYC_OPT_LEVEL": "0" if quickly else "3", "MYPYC_DEBUG_LEVEL": "0"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
        if done.returncode:
            raise RuntimeError((done.stderr or done.stdout).strip())
        shutil.rmtree(Path(workshop, "build"))
        made = [found.relative_to(workshop) for pattern in MADE for found in Path(workshop).rglob(pattern)]
        try:
            for one in made:
                shutil.copy(workshop / one, folder / one)
        except OSError:
            for one in made:
                (folder / one).unlink(missing_ok=True)
            raise


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="where media is")
    folder = parser.parse_args().folder
    try:
        compile_in(folder)
    except subprocess.TimeoutExpired:
        sys.exit(f"compile.py: the compiler took more than {PATIENCE_S} s")
    except (OSError, RuntimeError) as error:
        sys.exit(f"compile.py: {error}")
    sys.stdout.write(f"{len(MODULES)} modules of {folder / 'media'} are compiled\n")


if __name__ == "__main__":
    main()
