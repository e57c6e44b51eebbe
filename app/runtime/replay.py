"""Rebuild a call from its journal, decision by decision."""

from collections.abc import Iterator, Sequence

from msgspec import Struct

from app.core import cdr, codec
from app.core.cdr import INTERNAL_ERROR, Cdr, CdrError
from app.core.codec import CORE_VERSION, CodecError, Record
from app.core.core import CallCore
from app.core.effects import AnyEffect
from app.core.events import AnyEvent
from app.core.state import Phase
from app.ports import Journal
from app.runtime.journal import CallJournal, read
from flows import load
from flows.load import FlowError
from flows.model import Flow


class ReplayError(Exception):
    """This journal cannot be replayed: another version's, purged, or damaged."""


class Divergence(Exception):
    """The same facts gave other orders, or another call record, than they did then."""

    def __init__(self, message: str, effects: Sequence[AnyEffect] = ()) -> None:
        super().__init__(message)
        self.effects = effects


class Replayed(Struct):
    """One record, replayed."""

    record: Record
    event: AnyEvent
    effects: list[AnyEffect]


def replay(journal: Journal) -> Iterator[tuple[CallCore, Replayed]]:
    """Yields the core after each record, then compares the call record. Raises `ReplayError` or `Divergence`."""
    core = before(journal)
    try:
        yield from _run(core, journal)
        if journal.row.cdr is not None:
            _compare(core, cdr.read(journal.row.cdr))
    except CdrError as error:
        raise ReplayError(f"call {journal.row.header.call}: {error}") from error


def before(journal: Journal) -> CallCore:
    """The call before its first record. Raises `ReplayError`."""
    header = journal.row.header
    if header.core_version != CORE_VERSION:
        raise ReplayError(
            f"call {header.call} was written by core version {header.core_version}, and this is {CORE_VERSION}: "
            "replay it with the release that wrote it"
        )
    if not journal.flow:
        raise ReplayError(f"call {header.call}: its flow is missing")
    if load.bytes_hash(journal.flow) != header.flow_hash:
        raise ReplayError(f"call {header.call}: its flow was changed after the call")
    try:
        return CallCore(load.from_bytes(journal.flow), header.call)
    except FlowError as error:
        raise ReplayError(f"call {header.call}: {error}") from error


def again(core: CallCore, record: Record, event: AnyEvent, key: bytes) -> list[AnyEffect]:
    """One record's decision, made again. Raises `Divergence`."""
    name = f"record {record.seq} ({type(event).__name__} at {record.ms} ms)"
    try:
        effects = core.handle(event, record.ms)
    except Exception as error:  # what the core cannot take in was never recorded as taken in
        raise Divergence(f"{name}: it cannot have been so: {type(error).__name__}") from error
    if codec.digest(effects, key) != record.digest:
        raise Divergence(f"{name}: other orders than recorded", effects)
    return effects


def _run(core: CallCore, journal: Journal) -> Iterator[tuple[CallCore, Replayed]]:
    try:
        for record, event in read(journal):
            yield core, Replayed(record, event, again(core, record, event, journal.key))
    except CodecError as error:
        raise ReplayError(str(error)) from error


def _compare(core: CallCore, record: Cdr) -> None:
    told = cdr.told(core.flow, core.state)
    if record in (told, cdr.build(core.flow, core.state)):
        return
    if core.state.phase is not Phase.ended and record.cause == record.outcome == INTERNAL_ERROR:
        return  # its journal could not go on, or its state was torn: the record may know more or other things
    differing = [name for name in record.__struct_fields__ if getattr(record, name) != getattr(told, name)]
    raise Divergence(f"the call record differs from what the journal tells: {', '.join(differing)}")


async def rebuild(journal: CallJournal, flow: Flow) -> CallCore:
    """A live call as it was after its last record. Raises `StoreError`, `ReplayError` or `Divergence`."""
    core = CallCore(flow, journal.header.call)
    for _ in _run(core, await journal.stored()):
        pass
    return core
