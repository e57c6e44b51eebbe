"""`voicegate calls` and `voicegate replay`: calls on record."""

import json
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
from rich.markup import escape
from rich.table import Table

from app.cli.terminal import Config, Data, clear_errors, err, out, settings_from
from app.core import cdr
from app.core.cdr import Cdr, CdrError
from app.core.state import Phase
from app.core.timeline import Timeline
from app.ports import CallRow, Journal
from app.runtime.replay import Divergence, ReplayError, replay
from app.screen import print_entry


def calls(
    call: Annotated[str, typer.Argument(help="Show this call; its beginning is enough. Without one, list them.")] = "",
    flow: Annotated[str, typer.Option(help="Only this flow's.")] = "",
    limit: Annotated[int, typer.Option(help="How many at most.", min=1, max=10_000)] = 20,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
    data_dir: Data = None,
    config: Config = None,
) -> None:
    """List the calls on record, or tell one of them."""
    from app.main import open_store

    with clear_errors():
        settings = settings_from(config, data_dir=data_dir)
        store = open_store(settings)
        try:
            if call:
                _show_call(store.load(call), settings.data_dir, as_json=as_json)
            else:
                _list_calls(store.calls(limit, flow), as_json=as_json)
        finally:
            store.close()


def replay_call(
    call: Annotated[str, typer.Argument(help="The call's id; its beginning is enough.")],
    data_dir: Data = None,
    config: Config = None,
) -> None:
    """Make every decision of a call again and compare. Exit status 1 if one differs, 2 if one is unreadable."""
    from app.main import open_store

    with clear_errors():
        store = open_store(settings_from(config, data_dir=data_dir))
        try:
            journal = store.load(call)
            count, state = 0, None
            for core, _ in replay(journal):
                count, state = count + 1, core.state
        except Divergence as error:
            err.print(f"[bold red]diverged:[/] {escape(str(error))}", soft_wrap=True)
            for effect in error.effects:
                err.print(f"  now orders {type(effect).__name__}", soft_wrap=True)
            raise typer.Exit(1) from None
        finally:
            store.close()
        phase = state.phase if state is not None else Phase.new
        early = " where its journal stops" if journal.row.cdr is not None and phase is not Phase.ended else ""
        done = f"call {journal.row.header.call}: {count} records, every decision the same; {phase}{early}"
        out.print(f"[green]ok[/] {escape(done)}", soft_wrap=True)


def _list_calls(rows: list[CallRow], *, as_json: bool) -> None:
    if as_json:
        out.print_json(json.dumps([_row(row) for row in rows]), ensure_ascii=True)
        return
    table = Table(box=None, pad_edge=False)
    for column in ("call", "started (UTC)", "flow", "outcome", "cause"):
        table.add_column(column, no_wrap=True)
    for column in ("s", "turns", "tools"):
        table.add_column(column, justify="right")
    for row in rows:
        record = _record(row)
        missing = "damaged" if row.cdr is not None else "purged" if row.purged else "live, or died"
        table.add_row(
            escape(row.header.call),
            escape(row.header.started_at[5:19].replace("T", " ")),
            escape(row.header.flow),
            escape(record.outcome if record else missing),
            escape(record.cause) if record else "",
            f"{record.duration_ms / 1000:.0f}" if record else "",
            str(record.turns) if record else "",
            str(len(record.tools)) if record else "",
        )
    out.print(table if rows else "no calls on record")


def _show_call(journal: Journal, folder: Path, *, as_json: bool) -> None:
    if as_json:
        out.print_json(json.dumps(_row(journal.row)), ensure_ascii=True)
        return
    header = journal.row.header
    flow = escape(f"{header.flow} {header.flow_hash[:12]}  {header.started_at}")
    out.print(f"[bold]call {escape(header.call)}[/]  flow {flow}")
    story = Timeline()
    try:
        for core, done in replay(journal):
            for entry in story.tell(done.record.ms, done.event, done.effects, sealed=core.sealed):
                print_entry(out, entry)
    except (ReplayError, Divergence) as error:
        err.print(f"[yellow]the timeline ends here:[/] {escape(str(error))}", soft_wrap=True)
    if record := _record(journal.row):
        _print_record(record)
    if journal.row.recording:
        out.print(f"recording  {folder / journal.row.recording}", markup=False, soft_wrap=True)


def _record(row: CallRow) -> Cdr | None:
    """None where there is none yet, or one that cannot be read."""
    with suppress(CdrError):
        return cdr.read(row.cdr) if row.cdr is not None else None
    return None


def _print_record(record: Cdr) -> None:
    end = escape(f"({record.cause}) after {record.duration_ms / 1000:.0f} s in step {record.last_step}")
    out.print(f"[bold]{escape(record.outcome)}[/] {end}")
    out.print(
        f"  {record.turns} turns, {record.barge_ins} interruptions, {record.holds} holds, {record.replies} replies"
    )
    for tool in record.tools:
        why = f" ({tool.reason})" if tool.reason else ""
        out.print(f"  tool #{tool.n} {tool.tool}: {tool.state}{why}", markup=False)
    for name, value in record.slots.items():
        out.print(f"  {name} = {value}", markup=False)
    if record.input_tokens or record.output_tokens:
        out.print(
            f"  {record.input_tokens} tokens in, {record.output_tokens} out; {record.model_failures} model failures"
        )


def _row(row: CallRow) -> dict[str, Any]:
    record = _record(row)
    return {
        **msgspec.to_builtins(row.header),
        "records": row.records,
        "cdr": msgspec.to_builtins(record),
        "damaged": row.cdr is not None and record is None,
        "recording": row.recording,
        "purged": row.purged,
    }
