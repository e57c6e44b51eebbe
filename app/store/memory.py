"""The journal in memory, for tests and the typed chat: it behaves as the durable one and ends with the process."""

import threading
from collections.abc import Sequence
from typing import assert_never

from msgspec.structs import replace

from app.core.codec import Record
from app.ports import Append, Begin, CallRow, Finish, Journal, NoSuchCall, Release, Reserve, StoreError, Write, Written


class MemoryStore:
    """`JournalStore` in dicts. A lock makes each commit one step for readers in other threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._rows: dict[str, CallRow] = {}  # by call, in the order they began
        self._records: dict[str, list[Record]] = {}
        self._flows: dict[str, bytes] = {}
        self._keys: dict[str, bytes] = {}
        self._once: dict[str, tuple[str, int]] = {}
        self._closed = False

    def commit(self, writes: Sequence[Write]) -> list[Written]:
        """A refused `Append` refuses what follows it of the same call in this commit. Raises `StoreError` if closed."""
        refused: dict[str, Written] = {}
        answers = []
        with self._lock:
            if self._closed:
                raise StoreError("the journal is closed")
            for write in writes:
                call = write.header.call if isinstance(write, Begin) else write.call
                answer = refused.get(call) or self._apply(write)
                if isinstance(write, Append) and answer is not Written.ok:
                    refused[call] = answer
                answers.append(answer)
        return answers

    def epoch(self, call: str) -> int:
        with self._lock:
            return self._rows[call].header.epoch if call in self._rows else 0

    def calls(self, limit: int = 50, flow: str = "", before: str = "") -> list[CallRow]:
        with self._lock:
            rows = list(reversed(self._rows.values()))
        rows.sort(key=lambda row: row.header.started_at, reverse=True)
        if before:
            at = next((at for at, row in enumerate(rows) if row.header.call == before), len(rows))
            rows = rows[at + 1 :]
        return [row for row in rows if flow in ("", row.header.flow)][: max(limit, 0)]

    def load(self, call: str, after: int = 0) -> Journal:
        with self._lock:
            names = [call] if call in self._rows else [name for name in self._rows if call and name.startswith(call)]
            if not names:
                raise NoSuchCall(f"no call {call!r}")
            if len(names) > 1:
                raise NoSuchCall(f"several calls begin with {call!r}")
            name = names[0]
            row = self._rows[name]
            flow = self._flows[row.header.flow_hash]
            return Journal(row, flow, self._keys.get(name, b""), tuple(self._records[name][max(after, 0) :]))

    def unfinished(self) -> list[str]:
        with self._lock:
            return [name for name, row in self._rows.items() if row.cdr is None and not row.purged]

    def purge(self, before_iso: str) -> int:
        with self._lock:
            expired = [
                name for name, row in self._rows.items() if row.cdr is not None and row.header.started_at < before_iso
            ]
            for name in expired:
                self._rows[name] = replace(self._rows[name], cdr=None, recording="", purged=True)
                self._records[name] = []
                del self._keys[name]
        return len(expired)

    def close(self) -> None:
        self._closed = True

    def _apply(self, write: Write) -> Written:
        if isinstance(write, Begin):
            return self._begin(write)
        row = self._rows.get(write.call)
        if row is None or row.header.epoch != write.epoch or row.purged:
            return Written.stale
        match write:
            case Append(call, _, records):
                if any(record.seq != row.records + 1 + i for i, record in enumerate(records)):
                    return Written.gap
                self._records[call].extend(records)
                self._rows[call] = replace(row, records=row.records + len(records))
            case Reserve(call, _, n, once):
                if self._once.setdefault(once, (call, n)) != (call, n):
                    return Written.conflict
            case Release(call, _, n):
                self._once = {once: holder for once, holder in self._once.items() if holder != (call, n)}
            case Finish(call, _, cdr, recording):
                self._rows[call] = replace(row, cdr=cdr, recording=recording)
            case _:
                assert_never(write)
        return Written.ok

    def _begin(self, write: Begin) -> Written:
        call = write.header.call
        held = self._rows.get(call)
        if held:
            if held.header.epoch >= write.header.epoch or held.purged:
                return Written.stale
            self._rows[call] = replace(held, header=replace(held.header, epoch=write.header.epoch))
            return Written.ok
        self._flows.setdefault(write.header.flow_hash, write.flow)
        self._rows[call] = CallRow(write.header, records=0, cdr=None)
        self._records[call] = []
        self._keys[call] = write.key
        return Written.ok
