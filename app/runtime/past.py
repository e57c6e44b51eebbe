"""One call's records, told once and kept: its picture, its state after each record, the records themselves. Masked.

A replay decides everything again: what is shown is what happened, and not what somebody logged about it. The later
records of a live call are added to what is here.
"""

import time
import zlib
from typing import Any, Final

import msgspec

from app.core import view
from app.core.codec import Codec, CodecError
from app.core.core import CallCore
from app.core.spans import Picture, Spans
from app.ports import CallRow, Journal
from app.runtime.replay import Divergence, ReplayError, again, before
from flows.model import Flow

BLOCK: Final = 64
"""Neighbouring views and records hardly differ: this many together become small, and are unpacked in no time."""

YIELD_EVERY: Final = 10
"""Records between two breaths, so that the loop's thread has the interpreter when it needs it."""


class Packed:
    """A list of JSON texts that takes little memory."""

    def __init__(self) -> None:
        self._blocks: list[bytes] = []
        self._last: list[bytes] = []

    def __len__(self) -> int:
        return len(self._blocks) * BLOCK + len(self._last)

    def add(self, text: bytes) -> None:
        """Without line breaks."""
        self._last.append(text)
        if len(self._last) == BLOCK:
            self._blocks.append(zlib.compress(b"\n".join(self._last), 1))
            self._last = []

    def part(self, first: int, last: int) -> list[bytes]:
        """As a slice; both at least 0."""
        found: list[bytes] = []
        last = min(last, len(self))
        for block in range(first // BLOCK, -(-last // BLOCK)):
            start = block * BLOCK
            found += self._block(block)[max(first - start, 0) : max(last - start, 0)]
        return found

    def _block(self, number: int) -> list[bytes]:
        return zlib.decompress(self._blocks[number]).split(b"\n") if number < len(self._blocks) else self._last


class Past:
    """Not thread-safe; one thread uses it at a time."""

    def __init__(self, journal: Journal) -> None:
        self.row: CallRow = journal.row
        self.flow: Flow | None = None
        self.problem = ""
        """Why nothing, or nothing more, can be told."""
        self._spans = Spans()
        self._views = Packed()  # the first one is before any record
        self._records = Packed()
        self._key = journal.key
        try:
            self._core: CallCore = before(journal)
            self._codec = Codec(journal.key, journal.row.header)
        except (ReplayError, CodecError) as error:
            self.problem = "it was purged" if journal.row.purged else str(error)
            return
        self.flow = self._core.flow
        self._views.add(self._view())

    @property
    def seq(self) -> int:
        """Of the last record that is told."""
        return len(self._records)

    def extend(self, journal: Journal) -> None:
        """Take in the records after `seq`, as `JournalStore.load` gives them."""
        self.row = journal.row
        for count, record in enumerate(journal.records, 1):
            if self.problem:
                return
            if record.seq != self.seq + 1:
                self.problem = f"record {self.seq + 1} is missing"
                return
            try:
                event = self._codec.decode(record)
                effects = again(self._core, record, event, self._key)
            except (CodecError, Divergence) as error:
                self.problem = str(error)
                return
            core = self._core
            self._spans.tell(record.seq, record.ms, event, effects, core)
            told = view.record(core.flow, record.seq, record.ms, event, effects, sealed=core.sealed)
            self._records.add(msgspec.json.encode(told))
            self._views.add(self._view())
            if count % YIELD_EVERY == 0:
                time.sleep(0)

    def picture(self, from_ms: int = 0, to_ms: int | None = None, *, live: bool = False) -> Picture:
        return self._spans.picture(from_ms, to_ms, over=not live)

    def state(self, seq: int) -> bytes:
        """JSON of the `View` after that record, or the last one; empty where nothing can be told."""
        found = self._views.part(min(seq, self.seq), min(seq, self.seq) + 1)
        return found[0] if found else b""

    def records(self, skip: int, limit: int) -> list[bytes]:
        """JSON of each record after the first `skip` ones."""
        return self._records.part(skip, skip + limit)

    def _view(self) -> bytes:
        return msgspec.json.encode(view.view(self._core))


def whole(past: Past, about: Any) -> bytes:
    """JSON of all that is told of a call, for taking away."""
    records = [msgspec.Raw(text) for text in past.records(0, past.seq)]
    return msgspec.json.encode({"call": about, "timeline": past.picture(), "records": records})
