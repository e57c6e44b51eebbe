"""Calls that died with their server: each gets the record that it never wrote, from its journal."""

import logging
from collections.abc import Callable

import msgspec

from app.core import cdr
from app.core.state import CallState
from app.ports import Finish, Journal, JournalStore, NoSuchCall, StoreError
from app.runtime.replay import Divergence, ReplayError, replay
from flows.model import Flow, Texts

log = logging.getLogger(__name__)


def close_dead_calls(store: JournalStore, recording: Callable[[str], str]) -> int:
    """Finish every call without a record that can be read; returns how many. Nobody else may hold the store's calls.

    `recording` finds a call's recording below the data folder, or nothing. Raises `StoreError` where it cannot write.
    """
    closed = 0
    for call in store.unfinished():
        try:
            journal = store.load(call)
        except (StoreError, NoSuchCall) as error:
            log.error("call %s: it cannot be read and stays without a record: %s", call, error)
            continue
        record = msgspec.json.encode(_record(journal))
        store.commit([Finish(call, journal.row.header.epoch, record, recording(call))])
        closed += 1
    return closed


def _record(journal: Journal) -> cdr.Cdr:
    header = journal.row.header
    record = cdr.told(Flow(header.flow, 0, "", {}, Texts("", "", "", "", "", "", "")), CallState(header.call))
    try:
        for core, _ in replay(journal):
            record = cdr.told(core.flow, core.state)  # now: a record that differs changes the state first
    except (ReplayError, Divergence) as error:
        log.warning("call %s: its journal is told up to here: %s", header.call, error)
    return record
