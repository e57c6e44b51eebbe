"""Calls that died with their server: each gets the record that it never wrote, from its journal."""

import logging
from collections.abc import Callable

import msgspec

from app.core import cdr
from app.core.state import CallState, ToolState
from app.ports import Finish, Journal, JournalStore
from app.runtime.replay import Divergence, ReplayError, replay
from flows.load import FlowError, from_bytes
from flows.model import Flow, Texts

SERVER_DIED = "server-died"

log = logging.getLogger(__name__)


def close_dead_calls(store: JournalStore, recording: Callable[[str], str]) -> int:
    """Finish every call without a record; returns how many. Nobody else may hold the store's calls.

    `recording` finds a call's recording below the data folder, or nothing. Raises `StoreError`.
    """
    dead = store.unfinished()
    for call in dead:
        journal = store.load(call)
        record = msgspec.json.encode(_record(journal))
        store.commit([Finish(call, journal.row.header.epoch, record, recording(call))])
    return len(dead)


def _record(journal: Journal) -> cdr.Cdr:
    call = journal.row.header.call
    state = CallState(call)
    try:
        flow = from_bytes(journal.flow)
        for core, _ in replay(journal):
            state = core.state
    except FlowError:
        flow = Flow(journal.row.header.flow, 0, "", {}, Texts("", "", "", "", "", "", ""))
        log.warning("call %s: its flow cannot be read any more", call)
    except (ReplayError, Divergence) as error:
        log.warning("call %s: its journal is told up to here: %s", call, error)
    state.cause = state.cause or SERVER_DIED
    state.outcome = state.outcome or SERVER_DIED
    for entry in state.tools.values():
        # Its start is recorded behind, so an allowed one may have started too.
        if entry.state in (ToolState.allowed, ToolState.running):
            entry.state, entry.reason = ToolState.unknown, SERVER_DIED
    return cdr.build(flow, state)
