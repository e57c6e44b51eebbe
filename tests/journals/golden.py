"""Golden journals: one JSON line for the call and its flow, then one for each fact with the orders that it gave."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from app.core import codec
from app.core.codec import CORE_VERSION
from app.core.core import CallCore
from app.core.events import AnyEvent
from flows import load
from tests.journals.stories import STORIES

FOLDER = Path(__file__).parent
KEY = bytes(range(codec.KEY_BYTES))
RECORD = "If the change is meant, tell the journals anew: python -m tests.journals (and see its --help)."


class Diverged(Exception):
    """The core of today gives other orders than the journal keeps."""


def path(name: str) -> Path:
    return FOLDER / f"{name}.jsonl"


def record(name: str) -> str:
    """The journal's text, told anew by the core of today."""
    driver = STORIES[name]()
    header = {
        "story": " ".join((STORIES[name].__doc__ or "").split()),
        "core_version": CORE_VERSION,
        "flow": json.loads(load.flow_bytes(driver.flow)),
    }
    core = CallCore(driver.flow, "golden")
    lines = [json.dumps(header), *(json.dumps(_line(core, ms, event)) for ms, event, _ in driver.log)]
    return "\n".join(lines) + "\n"


def replay(text: str) -> Iterator[CallCore]:
    """Yields the core after each line. Raises `Diverged` with the line's number."""
    head, *lines = text.splitlines()
    header = json.loads(head)
    if header["core_version"] != CORE_VERSION:
        raise Diverged(f"it was told by core version {header['core_version']}, and this is {CORE_VERSION}. {RECORD}")
    core = CallCore(load.from_bytes(json.dumps(header["flow"]).encode()), "golden")
    for number, line in enumerate(lines, 2):
        kept = json.loads(line)
        event = msgspec.convert(kept["event"], AnyEvent)
        found = _line(core, kept["ms"], event)
        if found != kept:
            raise Diverged(
                f"line {number} ({type(event).__name__} at {kept['ms']} ms):\n{found}\nnot\n{kept}\n{RECORD}"
            )
        yield core


def _line(core: CallCore, ms: int, event: AnyEvent) -> dict[str, Any]:
    effects = core.handle(event, ms)
    line = {
        "ms": ms,
        "event": msgspec.to_builtins(event),
        "effects": msgspec.to_builtins(effects),
        "sealed": core.sealed,
        "digest": codec.digest(effects, KEY).hex(),
    }
    return json.loads(json.dumps(line))  # type: ignore[no-any-return]  # as it reads in the file
