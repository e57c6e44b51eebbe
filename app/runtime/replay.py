"""Rebuild a call from its journal, decision by decision."""

from collections.abc import Iterator

from msgspec import Struct

from app.core import codec
from app.core.codec import CORE_VERSION, CodecError, Record
from app.core.core import CallCore
from app.core.effects import AnyEffect
from app.core.events import AnyEvent
from app.ports import Journal
from app.runtime.journal import CallJournal, read
from flows import load
from flows.model import Flow


class ReplayError(Exception):
    """This journal cannot be replayed: another version's, purged, or damaged."""


class Divergence(Exception):
    """The same facts gave other orders than they did then."""

    def __init__(self, record: Record, event: AnyEvent, effects: list[AnyEffect]) -> None:
        super().__init__(f"record {record.seq} ({type(event).__name__} at {record.ms} ms): other orders than recorded")
        self.record = record
        self.event = event
        self.effects = effects


class Replayed(Struct):
    """One record, replayed."""

    record: Record
    event: AnyEvent
    effects: list[AnyEffect]


def replay(journal: Journal) -> Iterator[tuple[CallCore, Replayed]]:
    """Yields the core after each record. Raises `ReplayError` or `Divergence`."""
    header = journal.row.header
    if header.core_version != CORE_VERSION:
        raise ReplayError(
            f"call {header.call} was written by core version {header.core_version}, and this is {CORE_VERSION}: "
            "replay it with the release that wrote it"
        )
    if load.bytes_hash(journal.flow) != header.flow_hash:
        raise ReplayError(f"call {header.call}: its flow was changed after the call")
    core = CallCore(load.from_bytes(journal.flow), header.call)
    yield from _run(core, journal)


def _run(core: CallCore, journal: Journal) -> Iterator[tuple[CallCore, Replayed]]:
    try:
        for record, event in read(journal):
            effects = core.handle(event, record.ms)
            if codec.digest(effects, journal.key) != record.digest:
                raise Divergence(record, event, effects)
            yield core, Replayed(record, event, effects)
    except CodecError as error:
        raise ReplayError(str(error)) from error


async def rebuild(journal: CallJournal, flow: Flow) -> CallCore:
    """A live call as it was after its last record. Raises `StoreError`, `ReplayError` or `Divergence`."""
    core = CallCore(flow, journal.header.call)
    for _ in _run(core, await journal.stored()):
        pass
    return core
